// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU's edu device works on the memory of a process, beside two GPUs, in any topology.  Its
 * DMA is real: an IOMMU checks each address.
 *
 * HMM_P2P_EDU=no-iova: edu maps without IOVA state, behind an IOMMU.  HMM_P2P_EDU=bus: there is
 * no IOMMU.
 */
#include "uffd.h"

#define LEN	(3 * PAGE)

FIXTURE(edu) {
	int gpu[2];
	int edu;
	unsigned int n;		/* number of edu's /dev/hmm_dummyN */
	char *p, *q;
	bool landed;		/* edu has written to free device memory, as the test expected */
};

FIXTURE_SETUP(edu)
{
	struct hmm_dummy_info info;

	for (int i = 0; i < 2; i++) {
		self->gpu[i] = gpu_open(i);
		ASSERT_LE(0, self->gpu[i]);
	}
	self->edu = edu_open(&self->n);
	ASSERT_LE(0, self->edu);
	ASSERT_EQ(0, gpu_info(self->edu, &info));
	EXPECT_EQ(0, info.vram_bytes);
	self->p = anon(LEN);
	self->q = anon(LEN);
	fill_pattern(self->p, LEN, 1);
	fill_pattern(self->q, LEN, 2);
}

FIXTURE_TEARDOWN(edu)
{
	munmap(self->p, LEN);
	munmap(self->q, LEN);
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, self->gpu[i]);

		if (!self->landed)
			EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
		close(self->gpu[i]);
	}
	close(self->edu);
}

static bool is_run(const char *how)
{
	const char *e = getenv("HMM_P2P_EDU");

	return e && !strcmp(e, how);
}

static bool no_iova(void)
{
	return is_run("no-iova");
}

TEST_F_TIMEOUT(edu, ram, 60)
{
	unsigned int crc;

	ASSERT_EQ(0, gpu_copy(self->edu, self->p + 4000, self->q + 13, PAGE + 50));
	for (size_t i = 0; i < PAGE + 50; i++) {
		ASSERT_EQ(pattern(i + 13, 2), (unsigned char)self->p[4000 + i]);
	}
	EXPECT_EQ(-1, check_pattern(self->p, 4000, 1));
	ASSERT_EQ(0, gpu_fill(self->edu, self->p + 1, 9, 0x55));
	EXPECT_EQ(0x55, self->p[9]);
	EXPECT_EQ(pattern(10, 1), (unsigned char)self->p[10]);
	ASSERT_EQ(0, gpu_crc32c(self->edu, self->p + 5, 3000, &crc));
	EXPECT_EQ(crc32c(self->p + 5, 3000), crc);
}

/* edu copies from one GPU to the other over the bus.  The pages stay where they are. */
TEST_F_TIMEOUT(edu, from_gpu_to_gpu, 60)
{
	long stay = no_iova() ? 0 : 1;

	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	ASSERT_EQ(0, gpu_to_device(self->gpu[1], self->q, LEN));
	ASSERT_EQ(0, gpu_copy(self->edu, self->q + 100, self->p + 5000, 3000));
	/* The last page, which the copy does not touch, stays in any case. */
	EXPECT_EQ(2 + stay, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(2 + stay, pages_on_device(0, self->q, LEN));
	EXPECT_EQ(2 * stay, gpu_counter(0, "mapped_now") + gpu_counter(1, "mapped_now"));
	EXPECT_EQ(no_iova(), !!gpu_counter(0, "fallback_lazy-iommu"));
	for (size_t i = 0; i < 3000; i++) {
		ASSERT_EQ(pattern(5000 + i, 1), (unsigned char)self->q[100 + i]);
	}
	EXPECT_EQ(pattern(99, 2), (unsigned char)self->q[99]);
	EXPECT_EQ(pattern(3100, 2), (unsigned char)self->q[3100]);
}

/* edu works on memory that GPU 0 has pinned for it, at its DMA address. */
TEST_F_TIMEOUT(edu, pinned, 60)
{
	struct hmm_dummy_command c = {
		.flags = HMM_DUMMY_IN_SCRATCH, .op = HMM_DUMMY_OP_CRC32C, .addr = PAGE + 100,
		.length = PAGE,
	};
	int fd = gpu_export(self->gpu[0]);
	char byte = 0;

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, gpu_fill_scratch(self->edu, 0, 1, 1));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(0, gpu_import(self->edu, fd));
	ASSERT_EQ(2 * PAGE, pwrite(self->gpu[0], self->p, 2 * PAGE, PAGE));
	ASSERT_EQ(0, gpu_command(self->edu, &c));
	EXPECT_EQ(crc32c(self->p + 100, PAGE), c.value);
	ASSERT_EQ(0, gpu_fill_scratch(self->edu, PAGE + 7, 5, 0x55));
	ASSERT_EQ(2 * PAGE, pread(self->gpu[0], self->q, 2 * PAGE, PAGE));
	for (size_t i = 0; i < 2 * PAGE; i++)
		ASSERT_EQ(i >= 7 && i < 12 ? 0x55 : (unsigned char)self->p[i],
			  (unsigned char)self->q[i]);
	EXPECT_EQ(0, pread(self->edu, &byte, 1, 0));
	ASSERT_EQ(0, gpu_control(0, "reset 0"));
	EXPECT_EQ(-1, gpu_fill_scratch(self->edu, 0, 1, 1));
	EXPECT_EQ(ENODEV, errno);
	close(fd);
}

/* Unsupported commands are refused without effect. */
TEST_F(edu, refused)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_ADD, .addr = (uintptr_t)self->p, .length = 8, .value = 1,
	};

	EXPECT_EQ(-1, gpu_to_device(self->edu, self->p, PAGE));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(-1, gpu_command(self->edu, &c));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(0, pread(self->edu, self->p, 8, 0));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
}

struct filler {
	int edu;
	char *p;
	int error;
	bool done;		/* __atomic */
};

static void *fills(void *arg)
{
	struct filler *f = arg;

	f->error = gpu_fill(f->edu, f->p, 512, 0x77) ? errno : 0;
	__atomic_store_n(&f->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * edu is unbound while it waits for a page that user space does not fetch.  Addresses of RAM
 * and of a GPU are mapped at that time.
 */
TEST_F_TIMEOUT(edu, goes_while_waited_for, 240)
{
	struct filler f = { .edu = self->edu, .p = self->p + 2 * PAGE };
	struct unbinding unbinding;
	unsigned int crc;
	pthread_t t;
	bool ended;
	int fd;

	ASSERT_EQ(0, munmap(f.p, PAGE));
	ASSERT_EQ(f.p, mmap(f.p, PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	fd = uffd_watch_missing(f.p, PAGE);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, PAGE));
	ASSERT_EQ(0, gpu_crc32c(self->edu, self->p, 2 * PAGE, &crc));
	EXPECT_EQ(no_iova() ? 0 : 1, gpu_counter(0, "mapped_now"));
	ASSERT_EQ(0, pthread_create(&t, NULL, fills, &f));
	ASSERT_TRUE(uffd_is_waited_for(fd, 60000));
	ASSERT_EQ(0, unbinding_begin(&unbinding, "hmm_dummy_edu", self->n));
	ended = unbinding_ended(&unbinding);
	EXPECT_TRUE(ended);
	EXPECT_FALSE(__atomic_load_n(&f.done, __ATOMIC_ACQUIRE));
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	/* If the unbind hangs, the page is given to it, so that the test can end. */
	if (!ended)
		uffd_give(fd, f.p, 0x66);
	EXPECT_EQ(0, unbinding_undo(&unbinding));
	if (ended) {
		EXPECT_EQ(0, uffd_give(fd, f.p, 0x66));
	}
	pthread_join(t, NULL);
	EXPECT_NE(0, f.error);
	EXPECT_EQ(0x66, f.p[0]);
	close(fd);
	/* edu comes back under another number, because the old device's file was open. */
	close(self->edu);
	self->n++;
	ASSERT_EQ(0, unbinding_begin(&unbinding, "hmm_dummy_edu", self->n));
	EXPECT_EQ(0, unbinding_undo(&unbinding));
	self->edu = gpu_open(--self->n);
	ASSERT_LE(0, self->edu);
	EXPECT_EQ(0, gpu_fill(self->edu, f.p, 8, 1));
	EXPECT_EQ(1, f.p[7]);
}

/* Whether edu is writing, and for how many milliseconds it has been. */
static bool is_storing(unsigned int n, unsigned int *ms)
{
	char path[64], what[16] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/hmm_dummy%u/edu", n);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%15s %u", what, ms) != 2)
		*ms = 0;
	if (f)
		fclose(f);
	return !strcmp(what, "storing");
}

#define EDU_TIMEOUT	"/sys/module/hmm_dummy/parameters/edu_timeout_ms"

/* A command fails because its transfer takes too long.  Returns its errno, or -1. */
static int fails_while_storing(struct filler *f, unsigned int n)
{
	unsigned int ms;
	pthread_t t;

	/* On a slow machine the transfer may have ended before its time is up. */
	for (int i = 0; i < 50 && !f->error; i++) {
		__atomic_store_n(&f->done, false, __ATOMIC_RELEASE);
		if (pthread_create(&t, NULL, fills, f))
			return -1;
		while (!__atomic_load_n(&f->done, __ATOMIC_ACQUIRE) && !is_storing(n, &ms))
			usleep(1000);
		if (write_file(EDU_TIMEOUT, "0"))
			return -1;
		pthread_join(t, NULL);
		if (write_file(EDU_TIMEOUT, "5000"))
			return -1;
	}
	return f->error;
}

/* A transfer that takes too long fails.  When the command has ended, edu stores nothing more. */
TEST_F_TIMEOUT(edu, too_slow, 120)
{
	struct filler f = { .edu = self->edu, .p = self->p };
	struct unbinding unbinding;
	unsigned int ms;

	ASSERT_EQ(EIO, fails_while_storing(&f, self->n));
	fill_pattern(self->p, LEN, 3);
	while (is_storing(self->n, &ms))
		usleep(1000);
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 3));
	EXPECT_EQ(-1, gpu_fill(self->edu, self->p, 1000, 0x55));
	EXPECT_EQ(EIO, errno);

	/* It works when it is bound again. */
	close(self->edu);
	ASSERT_EQ(0, unbinding_begin(&unbinding, "hmm_dummy_edu", self->n));
	EXPECT_EQ(0, unbinding_undo(&unbinding));
	self->edu = gpu_open(self->n);
	ASSERT_LE(0, self->edu);
	EXPECT_EQ(0, gpu_fill(self->edu, self->p, 1000, 0x55));
	EXPECT_EQ(0x55, self->p[999]);
}

/* Nor does edu when it is bound again before the end of that transfer. */
TEST_F_TIMEOUT(edu, too_slow_and_bound, 120)
{
	struct filler f = { .edu = self->edu, .p = self->p };
	struct unbinding unbinding;

	ASSERT_EQ(EIO, fails_while_storing(&f, self->n));
	close(self->edu);
	ASSERT_EQ(0, unbinding_begin(&unbinding, "hmm_dummy_edu", self->n));
	fill_pattern(self->p, LEN, 3);
	EXPECT_EQ(0, unbinding_undo(&unbinding));
	self->edu = gpu_open(self->n);
	ASSERT_LE(0, self->edu);
	/* This command begins when no other transfer is under way. */
	EXPECT_EQ(0, gpu_fill(self->edu, self->p + PAGE, 8, 0x55));
	EXPECT_EQ(-1, check_pattern(self->p, PAGE, 3));
}

#define ENOUGH	3	/* transfers that the test wants to catch */

/*
 * A page is taken away while a transfer to it is under way, and the driver does not wait for
 * the transfer.  The transfer must not reach the page, which is free then.  edu writes 100 ms
 * after its command.  The test takes the page away shortly before, and counts the transfer if
 * edu is still busy afterwards.
 *
 * Without an IOMMU nothing stops the transfer.  That run shows that the test sees a write to a
 * free page.
 */
TEST_F_TIMEOUT(edu, under_way, 300)
{
	/*
	 * An IOMMU's flush queue is emptied every 10 ms, so the page must go shortly before the
	 * write.  On a slow machine that is too late, and so it goes earlier and earlier.
	 */
	unsigned int when = is_run("bus") ? 60 : 92;
	int raced = 0, landed = 0, tries;
	struct hmm_dummy_info info;
	unsigned long long stale;

	ASSERT_EQ(0, gpu_info(self->gpu[0], &info));
	ASSERT_TRUE(info.caps & HMM_DUMMY_CAP_CANARY);
	stale = info.stale_writes;
	ASSERT_EQ(0, gpu_control(self->n, "loose 1"));
	for (tries = 0; tries < 60 && raced < ENOUGH; tries++) {
		struct filler f = { .edu = self->edu, .p = self->p };
		unsigned int ms = 0;
		bool reached;
		pthread_t t;

		ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, PAGE));
		/* Use the mapping once: only an entry that the IOMMU has cached can be stale. */
		ASSERT_EQ(0, gpu_fill(self->edu, self->p, 8, 1));
		pthread_create(&t, NULL, fills, &f);
		while (!is_storing(self->n, &ms) && !__atomic_load_n(&f.done, __ATOMIC_ACQUIRE))
			;
		reached = pages_on_device(0, self->p, PAGE) == 1;
		/* On a busy machine the page may go too late; such a try does not count. */
		while (is_storing(self->n, &ms) && ms < when)
			;
		(void)*(volatile char *)self->p;
		/* It counts only if the page was on the GPU and is still being written to. */
		raced += reached && is_storing(self->n, &ms);
		pthread_join(t, NULL);
		EXPECT_EQ(0, f.error);
		ASSERT_EQ(0, gpu_info(self->gpu[0], &info));
		landed += info.stale_writes != stale;
		stale = info.stale_writes;
		if (tries % 10 == 9 && !raced)
			when -= 10;
		/* The kernel limits the rate at which it reports DMA faults. */
		if (!is_run("bus"))
			sleep(1);
	}
	ASSERT_EQ(0, gpu_control(self->n, "loose 0"));
	TH_LOG("%d of %d transfers were under way when the page went, %d landed", raced,
	       tries, landed);
	EXPECT_LE(ENOUGH, raced);
	self->landed = is_run("bus");
	if (self->landed) {
		/* Transfers that were not counted may have landed as well. */
		EXPECT_LE(raced, landed);
	} else {
		EXPECT_EQ(0, landed);
	}
}

TEST_HARNESS_MAIN
