// SPDX-License-Identifier: GPL-2.0
/*
 * A BAR that is smaller than the memory in use on the device: windows open, are reclaimed, and
 * run out.  Needs a machine with --bar smaller than --vram.
 */
#include <pthread.h>

#include "odp.h"

#define WINDOW	(2 * MiB)

/* Map memory with a pattern in it, and place it on the device. */
static char *place(int gpu, size_t length, unsigned int seed)
{
	char *p = anon(length);

	fill_pattern(p, length, seed);
	return gpu_to_device(gpu, p, length) ? NULL : p;
}

FIXTURE(windows) {
	struct odp o;
	size_t length;
	char *big;
	struct rdma_buf buf;
};

FIXTURE_SETUP(windows)
{
	const char *error = odp_open(&self->o, 16 * PAGE);

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	self->length = 12 * WINDOW;
	self->big = place(self->o.gpu, self->length, 1);
	ASSERT_NE(NULL, self->big);
	self->buf.addr = self->big;
	self->buf.mr = ibv_reg_mr(self->o.pair.pd, self->big, self->length, RDMA_ODP);
	ASSERT_NE(NULL, self->buf.mr);
}

FIXTURE_TEARDOWN(windows)
{
	const char *error;

	EXPECT_EQ(0, write_file(RESIDENCY, "100"));
	EXPECT_EQ(0, ibv_dereg_mr(self->buf.mr));
	munmap(self->big, self->length);
	error = odp_close(&self->o);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

/* The NIC goes slowly from window to window.  Each window opens, and no page moves. */
TEST_F_TIMEOUT(windows, reclaim, 240)
{
	long long reclaimed = gpu_counter(0, "windows_reclaimed");
	size_t windows = self->length / WINDOW;

	for (unsigned int round = 0; round < 2; round++) {
		for (size_t i = 0; i < windows; i++) {
			size_t at = i * WINDOW + round * 5 * PAGE;
			struct rdma_buf b = self->buf;

			b.addr = self->big + at;
			ASSERT_EQ(0, rdma_read(&self->o.pair, self->o.from, b, PAGE));
			for (size_t k = 0; k < PAGE; k++) {
				ASSERT_EQ(pattern(at + k, 1),
					  (unsigned char)self->o.stage[k]);
			}
			ASSERT_EQ(0, rdma_write(&self->o.pair, self->o.from, b, PAGE));
			usleep(110000);
		}
	}
	EXPECT_EQ(self->length / PAGE, pages_on_device(0, self->big, self->length));
	EXPECT_LE(reclaimed + windows, gpu_counter(0, "windows_reclaimed"));
	EXPECT_EQ(0, gpu_counter(0, "quarantines"));
	EXPECT_EQ(-1, check_pattern(self->big, self->length, 1));
}

/* Memory of one window. */
struct piece {
	char *p;
	size_t length;
	long long offset;
};

static int compare_offsets(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	return x->offset < y->offset ? 1 : -(x->offset > y->offset);
}

/*
 * Free memory, the last on the device first.  The device gives it out in the reverse order, so
 * that pages that are allocated next to each other lie next to each other.
 */
static int give_up_backwards(char *p, size_t length)
{
	struct piece pieces[32];
	size_t at, n = 0;

	for (at = 0; at < length; at += pieces[n++].length) {
		struct piece *piece = &pieces[n];

		if (n == sizeof(pieces) / sizeof(pieces[0]))
			return -1;
		piece->p = p + at;
		piece->offset = gpu_offset(p + at, NULL);
		if (piece->offset < 0)
			return -1;
		piece->length = WINDOW - piece->offset % WINDOW;
		if (piece->length > length - at)
			piece->length = length - at;
	}
	qsort(pieces, n, sizeof(pieces[0]), compare_offsets);
	for (at = 0; at < n; at++)
		if (madvise(pieces[at].p, pieces[at].length, MADV_DONTNEED))
			return -1;
	return 0;
}

/* The offset in @p at which a window ends and the next one on the device begins, or 0. */
static size_t end_of_window(char *p, size_t length)
{
	for (size_t at = WINDOW - gpu_offset(p, NULL) % WINDOW; at < length; at += WINDOW) {
		long long offset = gpu_offset(p + at, NULL);

		if (offset > 0 && offset % WINDOW == 0 &&
		    gpu_offset(p + at - PAGE, NULL) == offset - (long long)PAGE)
			return at;
	}
	return 0;
}

/*
 * Memory that continues behind a window is not adjacent in the BAR, if the window is mapped
 * there.
 */
TEST_F_TIMEOUT(windows, own_memory_over_the_end, 120)
{
	char *p = anon_huge(2 * WINDOW, MADV_NOHUGEPAGE), *to = anon(2 * WINDOW), *shift;
	int peer = gpu_open(1);
	unsigned int crc;
	size_t at, last;

	/* The memory is aligned for the process, and one page off on the device. */
	ASSERT_EQ(0, give_up_backwards(self->big, self->length));
	shift = place(self->o.gpu, PAGE, 0);
	ASSERT_NE(NULL, shift);
	ASSERT_NE(NULL, p);
	fill_pattern(p, 2 * WINDOW, 3);
	ASSERT_EQ(0, gpu_to_device(self->o.gpu, p, 2 * WINDOW));
	at = end_of_window(p, 2 * WINDOW);
	ASSERT_NE(0, at % WINDOW) TH_LOG("no window ends where the process's range does not");
	last = at - PAGE;
	/* Wait until the open windows may close. */
	usleep(150000);
	ASSERT_EQ(0, gpu_crc32c(peer, p + last, PAGE, &crc));
	ASSERT_EQ(2 * WINDOW / PAGE, pages_on_device(0, p, 2 * WINDOW));
	/* The second range begins in the window and continues behind it. */
	ASSERT_EQ(0, gpu_copy(self->o.gpu, to, p, last));
	ASSERT_EQ(0, gpu_copy(self->o.gpu, to + last, p + last, 2 * WINDOW - last));
	for (size_t i = 0; i < 2 * WINDOW; i++) {
		ASSERT_EQ(pattern(i, 3), (unsigned char)to[i]) {
			TH_LOG("byte %zu", i);
		}
	}
	close(peer);
	munmap(p, 2 * WINDOW);
	munmap(to, 2 * WINDOW);
	munmap(shift, PAGE);
}

/*
 * debugfs shows root which windows are open, how much of them is mapped, and by which
 * importers.
 */
TEST_F(windows, shown)
{
	const char *nic = ibv_get_device_name(self->o.pair.context->device);
	int fields, mapped, quarantined, mirrors = 0;
	char line[256], name[64], state[16];
	unsigned long alias;
	long long sum = 0;
	FILE *f;

	ASSERT_EQ(0, rdma_read(&self->o.pair, self->o.from, self->buf, PAGE));
	f = fopen("/sys/kernel/debug/hmm_p2p/hmm_dummy0/windows", "r");
	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f)) {
		fields = sscanf(line, "window=%*u state=%15s mapped_now=%d alias_pfn=0x%lx", state,
				&mapped, &alias);
		ASSERT_EQ(3, fields);
		EXPECT_EQ(0, strcmp(state, "open"));
		EXPECT_LT(0, alias);
		sum += mapped;
	}
	fclose(f);
	EXPECT_LT(0, sum);
	EXPECT_EQ(gpu_counter(0, "mapped_now"), sum);

	f = fopen("/sys/kernel/debug/hmm_p2p/importers", "r");
	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f) && !mirrors)
		if (sscanf(line, "importer=%63s mirrors=%d quarantined=%d", name, &mirrors,
			   &quarantined) != 3 || strcmp(name, nic))
			mirrors = 0;
	fclose(f);
	EXPECT_LT(0, mirrors);
	EXPECT_EQ(0, quarantined);
}

/*
 * The NIC accesses windows as fast as it can: some pages move to RAM, no access waits too long,
 * no byte is lost.  In the first part every window may be reclaimed.  In the second part no
 * open window may be, however slow the machine is.
 */
TEST_F_TIMEOUT(windows, thrash, 240)
{
	long long to_ram = gpu_counter(0, "fallback_no-window");
	double half = now_seconds() + 5, end = half + 5;
	struct rdma_buf b = self->buf;
	unsigned long n = 0;
	bool kept = false;

	ASSERT_EQ(0, write_file(RESIDENCY, "0"));
	while (now_seconds() < end) {
		if (!kept && now_seconds() > half) {
			ASSERT_EQ(0, write_file(RESIDENCY, "100000"));
			kept = true;
		}
		size_t at = n * 7919 * PAGE % self->length;

		b.addr = self->big + at;
		ASSERT_EQ(0, rdma_read(&self->o.pair, self->o.from, b, PAGE));
		ASSERT_EQ(pattern(at + 77, 1), (unsigned char)self->o.stage[77]);
		ASSERT_EQ(0, rdma_write(&self->o.pair, self->o.from, b, PAGE));
		n++;
	}
	to_ram = gpu_counter(0, "fallback_no-window") - to_ram;
	EXPECT_TRUE(kept);
	TH_LOG("%lu pages read and written, %lld of them to RAM", n, to_ram);
	EXPECT_LT(0, to_ram);
	EXPECT_LT(to_ram, n);
	EXPECT_EQ(0, gpu_counter(0, "quarantines"));
	EXPECT_EQ(-1, check_pattern(self->big, self->length, 1));
}

struct user {
	struct odp o;
	unsigned long done;
	int status;
	double longest;
	volatile bool *stop;
};

/* A thread that uses an MR in windows of its own.  The memory moves back to RAM. */
static void *use(void *arg)
{
	struct user *u = arg;

	while (!*u->stop && !u->status) {
		double began = now_seconds();

		if (gpu_to_device(u->o.gpu, u->o.mem, u->o.length))
			u->status = -2;
		else
			u->status = odp_write(&u->o, u->done % 200);
		if (!u->status && odp_check(&u->o, u->done % 200) != -1)
			u->status = -3;
		u->done++;
		if (now_seconds() - began > u->longest)
			u->longest = now_seconds() - began;
	}
	return NULL;
}

/* Many MRs and few windows: no access fails, none hangs. */
TEST_F_TIMEOUT(windows, many_users, 240)
{
	long long reclaimed = gpu_counter(0, "windows_reclaimed");
	struct user users[4] = {};
	volatile bool stop = false;
	pthread_t threads[4];
	const char *error;
	int i;

	for (i = 0; i < 4; i++) {
		error = odp_open(&users[i].o, WINDOW);
		ASSERT_EQ(NULL, error) TH_LOG("%s", error);
		users[i].stop = &stop;
	}
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, use, &users[i]));
	}
	sleep(15);
	stop = true;
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		TH_LOG("user %d: %lu rounds, longest %.1f s", i, users[i].done,
		       users[i].longest);
		EXPECT_EQ(0, users[i].status);
		EXPECT_LT(0, users[i].done);
	}
	EXPECT_LT(reclaimed, gpu_counter(0, "windows_reclaimed"));
	EXPECT_EQ(0, gpu_counter(0, "quarantines"));
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(0, odp_free(&users[i].o));
		close(users[i].o.gpu);
	}
}

/* One transfer across more windows than the BAR has room for. */
TEST_F_TIMEOUT(windows, one_call, 240)
{
	struct odp big;
	const char *error;

	error = odp_open(&big, 6 * WINDOW);
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_EQ(0, gpu_to_device(big.gpu, big.mem, big.length));
	/* The first window replaces another one.  From then on no window does. */
	ASSERT_EQ(0, write_file(RESIDENCY, "0"));
	ASSERT_EQ(0, rdma_advise(&big.pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
				 big.to.mr, big.mem, PAGE));
	ASSERT_EQ(0, write_file(RESIDENCY, "100000"));
	ASSERT_EQ(0, rdma_advise(&big.pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
				 big.to.mr, big.mem, big.length));
	/* Pages that found a window stay, the others are in RAM. */
	EXPECT_LT(0, pages_on_device(0, big.mem, big.length));
	EXPECT_GT(big.length / PAGE, pages_on_device(0, big.mem, big.length));
	ASSERT_EQ(IBV_WC_SUCCESS, odp_write(&big, 3));
	EXPECT_EQ(-1, check_pattern(big.mem, big.length, 3));
	EXPECT_EQ(0, odp_free(&big));
	close(big.gpu);
}

TEST_HARNESS_MAIN
