// SPDX-License-Identifier: GPL-2.0
/*
 * What a process can do to its memory while the memory is on a GPU and a NIC has it mapped.
 * Afterwards no access returns old data, nothing leaks and nothing hangs.  Needs swap, and
 * cgroup v2 at /sys/fs/cgroup.
 */
#include <pthread.h>
#include <sys/stat.h>

#include "odp.h"
#include "uffd.h"

#define NPAGES	64
#define LEN	(NPAGES * PAGE)

FIXTURE(vma_life) {
	struct odp o;
};

FIXTURE_SETUP(vma_life)
{
	const char *error = odp_open(&self->o, LEN);

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_TRUE(odp_place(&self->o, 1));
}

FIXTURE_TEARDOWN(vma_life)
{
	const char *error = odp_close(&self->o);

	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

static long on_gpu(FIXTURE_DATA(vma_life) *self)
{
	return pages_on_device(0, self->o.mem, LEN);
}

/* Parent and child each keep their own writes, and do not see the other's. */
TEST_F_TIMEOUT(vma_life, fork_both_write, 120)
{
	int go[2], done[2];
	pid_t child;
	char c;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(done));
	child = fork();
	if (!child) {
		/* The child writes first, then the parent by NIC. */
		self->o.mem[0] = 'c';
		if (write(done[1], "x", 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(1);
		for (size_t i = 1; i < LEN; i++)
			if ((unsigned char)self->o.mem[i] != pattern(i, 1))
				_exit(2);
		_exit(self->o.mem[0] == 'c' ? 0 : 3);
	}
	ASSERT_EQ(1, read(done[0], &c, 1));
	EXPECT_EQ(-1, odp_check(&self->o, 1));
	EXPECT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, 2));
	ASSERT_EQ(1, write(go[1], "x", 1));
	EXPECT_EQ(0, wait_child(child));
	EXPECT_EQ(-1, odp_check(&self->o, 2));
	EXPECT_EQ(-1, check_pattern(self->o.mem, LEN, 2));
}

/* With PROT_READ, a write of the NIC fails.  Reads find the pages in place. */
TEST_F_TIMEOUT(vma_life, mprotect_read_only, 120)
{
	ASSERT_EQ(0, mprotect(self->o.mem, LEN, PROT_READ));
	EXPECT_EQ(-1, odp_check(&self->o, 1));
	EXPECT_EQ(NPAGES, on_gpu(self));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, odp_write(&self->o, 2));
	EXPECT_EQ(-1, check_pattern(self->o.mem, LEN, 1));
}

/* After mprotect() both ways, entries stay read-only until a write gets access in place. */
TEST_F_TIMEOUT(vma_life, mprotect_and_back, 120)
{
	long long upgrades = gpu_counter(0, "upgrades");
	long long fallbacks = gpu_counter(0, "fallback_read-only");

	ASSERT_EQ(0, mprotect(self->o.mem, LEN, PROT_READ));
	ASSERT_EQ(0, mprotect(self->o.mem, LEN, PROT_READ | PROT_WRITE));
	EXPECT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, 2));
	EXPECT_EQ(NPAGES, on_gpu(self));
	EXPECT_EQ(upgrades + NPAGES, gpu_counter(0, "upgrades"));
	EXPECT_EQ(fallbacks, gpu_counter(0, "fallback_read-only"));
	EXPECT_EQ(-1, check_pattern(self->o.mem, LEN, 2));
}

/* The same for a huge page as a whole, by another GPU. */
TEST_F_TIMEOUT(vma_life, mprotect_and_back_huge, 120)
{
	long long upgrades = gpu_counter(0, "upgrades");
	char *p = anon_huge(2 * MiB, MADV_HUGEPAGE);
	int peer = gpu_open(1);

	ASSERT_LE(0, peer);
	ASSERT_NE(NULL, p);
	fill_pattern(p, 2 * MiB, 3);
	ASSERT_EQ(0, gpu_to_device(self->o.gpu, p, 2 * MiB));
	ASSERT_EQ(0, mprotect(p, 2 * MiB, PROT_READ));
	EXPECT_EQ(-1, gpu_fill(peer, p, PAGE, 0x55));
	EXPECT_EQ(EPERM, errno);
	ASSERT_EQ(0, mprotect(p, 2 * MiB, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, gpu_fill(peer, p + 5 * PAGE, PAGE, 0x55));
	EXPECT_EQ(upgrades + 1, gpu_counter(0, "upgrades"));
	EXPECT_EQ(2 * MiB / PAGE, pages_on_device(0, p, 2 * MiB));
	EXPECT_EQ(5 * PAGE, check_pattern(p, 2 * MiB, 3));
	EXPECT_EQ(0x55, p[6 * PAGE - 1]);
	munmap(p, 2 * MiB);
	close(peer);
}

/* A page that is shared with a child is not exclusive.  A write copies it, through RAM. */
TEST_F_TIMEOUT(vma_life, fork_is_not_upgraded, 120)
{
	long long fallbacks = gpu_counter(0, "fallback_read-only");
	pid_t child = fork();

	if (!child) {
		pause();
		_exit(0);
	}
	EXPECT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, 2));
	EXPECT_EQ(0, on_gpu(self));
	EXPECT_LE(fallbacks + NPAGES, gpu_counter(0, "fallback_read-only"));
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, wait_child(child));
	EXPECT_EQ(-1, check_pattern(self->o.mem, LEN, 2));
}

TEST_F_TIMEOUT(vma_life, mremap, 120)
{
	char *to = anon(LEN);
	struct rdma_buf moved = { .addr = to };

	ASSERT_EQ(to, mremap(self->o.mem, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED,
			     to));
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(NPAGES, pages_on_device(0, to, LEN));
	moved.mr = ibv_reg_mr(self->o.pair.pd, to, LEN, RDMA_ODP);
	ASSERT_NE(NULL, moved.mr);
	ASSERT_EQ(0, rdma_read(&self->o.pair, self->o.from, moved, LEN));
	EXPECT_EQ(-1, check_pattern(self->o.stage, LEN, 1));
	EXPECT_EQ(NPAGES, pages_on_device(0, to, LEN));
	/* Nothing is mapped at the old address. */
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, odp_write(&self->o, 2));
	EXPECT_EQ(-1, check_pattern(to, LEN, 1));
	EXPECT_EQ(0, ibv_dereg_mr(moved.mr));
	munmap(to, LEN);
	self->o.mem = NULL;
}

TEST_F_TIMEOUT(vma_life, dontneed, 120)
{
	ASSERT_EQ(0, madvise(self->o.mem, LEN, MADV_DONTNEED));
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	ASSERT_EQ(0, rdma_read(&self->o.pair, self->o.from, self->o.to, LEN));
	for (size_t i = 0; i < LEN; i++) {
		ASSERT_EQ(0, self->o.stage[i]);
	}
}

/* Data that is written after MADV_FREE is kept, on the device and through RAM. */
TEST_F_TIMEOUT(vma_life, free_and_written, 120)
{
	ASSERT_EQ(0, madvise(self->o.mem, LEN, MADV_FREE));
	ASSERT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, 2));
	ASSERT_EQ(0, gpu_to_ram(self->o.gpu, self->o.mem, LEN));
	ASSERT_EQ(0, madvise(self->o.mem, LEN, MADV_PAGEOUT));
	EXPECT_EQ(-1, odp_check(&self->o, 2));
}

/* Device pages are not paged out.  Pages in RAM are, and come back. */
TEST_F_TIMEOUT(vma_life, pageout, 120)
{
	ASSERT_EQ(0, madvise(self->o.mem, LEN, MADV_PAGEOUT));
	EXPECT_EQ(NPAGES, on_gpu(self));
	ASSERT_EQ(0, gpu_to_ram(self->o.gpu, self->o.mem, LEN / 2));
	/* Reclaim does not take pages that are in another CPU's batch, so repeat the call. */
	for (int i = 0; i < 100; i++) {
		ASSERT_EQ(0, madvise(self->o.mem, LEN, MADV_PAGEOUT));
		if (pages_that_are(PAGE_SWAPPED, self->o.mem, LEN) == NPAGES / 2)
			break;
		usleep(10000);
	}
	EXPECT_EQ(NPAGES / 2, pages_that_are(PAGE_SWAPPED, self->o.mem, LEN));
	EXPECT_EQ(-1, odp_check(&self->o, 1));
	EXPECT_EQ(NPAGES / 2, on_gpu(self));
	/* Pages move from swap to the device. */
	ASSERT_EQ(0, madvise(self->o.mem, LEN, MADV_PAGEOUT));
	ASSERT_EQ(0, gpu_fill(self->o.gpu, self->o.mem, 1, pattern(0, 1)));
	ASSERT_EQ(0, gpu_to_device(self->o.gpu, self->o.mem, LEN));
	EXPECT_EQ(-1, odp_check(&self->o, 1));
}

TEST_F_TIMEOUT(vma_life, mlock, 120)
{
	/* mlock() moves the pages to RAM. */
	ASSERT_EQ(0, mlock(self->o.mem, LEN));
	EXPECT_EQ(-1, odp_check(&self->o, 1));
	ASSERT_EQ(0, gpu_to_device(self->o.gpu, self->o.mem, LEN));
	EXPECT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, 2));
	EXPECT_EQ(-1, check_pattern(self->o.mem, LEN, 2));
	EXPECT_EQ(0, munlock(self->o.mem, LEN));
}

struct uffd {
	int fd;
	unsigned int missing, wp;
	char *page;
};

static void *uffd_thread(void *arg)
{
	struct uffd *u = arg;
	struct uffd_msg msg;

	while (uffd_next(u->fd, -1, &msg)) {
		uintptr_t addr = msg.arg.pagefault.address & ~(PAGE - 1);

		if (msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		if (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
			struct uffdio_writeprotect wp = {
				.range = { addr, PAGE },
			};

			__atomic_fetch_add(&u->wp, 1, __ATOMIC_RELAXED);
			ioctl(u->fd, UFFDIO_WRITEPROTECT, &wp);
		} else {
			struct uffdio_copy copy = {
				.dst = addr, .src = (uintptr_t)u->page,
				.len = PAGE,
			};

			__atomic_fetch_add(&u->missing, 1, __ATOMIC_RELAXED);
			ioctl(u->fd, UFFDIO_COPY, &copy);
		}
	}
	return NULL;
}

/* userfaultfd reports the NIC's accesses like the CPU's, also for pages on the device. */
TEST_F_TIMEOUT(vma_life, userfaultfd, 120)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)self->o.mem, LEN },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct uffd u = { .page = anon(PAGE) };
	pthread_t thread;

	memset(u.page, 'u', PAGE);
	u.fd = uffd_watch(self->o.mem, LEN, UFFD_FEATURE_PAGEFAULT_FLAG_WP,
			  UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP);
	ASSERT_LE(0, u.fd);
	ASSERT_EQ(0, madvise(self->o.mem, 4 * PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, ioctl(u.fd, UFFDIO_WRITEPROTECT, &wp));
	ASSERT_EQ(0, pthread_create(&thread, NULL, uffd_thread, &u));
	ASSERT_EQ(0, rdma_read(&self->o.pair, self->o.from, self->o.to, LEN));
	EXPECT_EQ(4, __atomic_load_n(&u.missing, __ATOMIC_RELAXED));
	EXPECT_EQ('u', self->o.stage[4 * PAGE - 1]);
	/* A read does not end the write protection.  A write is reported. */
	EXPECT_EQ(0, __atomic_load_n(&u.wp, __ATOMIC_RELAXED));
	EXPECT_EQ(NPAGES - 4, on_gpu(self));
	EXPECT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, 2));
	EXPECT_LE(NPAGES - 4, __atomic_load_n(&u.wp, __ATOMIC_RELAXED));
	EXPECT_EQ(-1, check_pattern(self->o.mem, LEN, 2));
	ASSERT_EQ(0, ioctl(u.fd, UFFDIO_UNREGISTER, &wp.range));
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	close(u.fd);
	munmap(u.page, PAGE);
}

/* Create a child with an MR of its own on device memory.  @last is how the child ends. */
static pid_t child_with_mr(void (*last)(struct odp *o), int *ready)
{
	pid_t child = fork();

	if (!child) {
		struct odp o = {};

		if (odp_open(&o, LEN) || !odp_place(&o, 3) ||
		    gpu_counter(0, "mapped_now") < NPAGES ||
		    write(*ready, "r", 1) != 1)
			_exit(9);
		last(&o);
		_exit(8);
	}
	return child;
}

static void do_exec(struct odp *o)
{
	execl("/bin/true", "true", NULL);
}

TEST_F_TIMEOUT(vma_life, exec, 120)
{
	int ready[2];

	ASSERT_EQ(0, pipe(ready));
	EXPECT_EQ(0, wait_child(child_with_mr(do_exec, &ready[1])));
	/*
	 * fork() has taken the write access of the parent's pages as well, so they are
	 * unmapped.
	 */
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(-1, odp_check(&self->o, 1));
}

#define CGROUP	"/sys/fs/cgroup/hmm_p2p"

static int cgroup_enter(const char *limit, const char *swap)
{
	if (mkdir(CGROUP, 0755) && errno != EEXIST)
		return -1;
	return write_file(CGROUP "/memory.max", limit) ||
	       write_file(CGROUP "/memory.swap.max", swap) ||
	       write_file(CGROUP "/cgroup.procs", "0");
}

static void do_oom(struct odp *o)
{
	if (cgroup_enter("16M", "0"))
		_exit(7);
	for (;;)
		memset(anon(MiB), 1, MiB);
}

TEST_F_TIMEOUT(vma_life, oom_kill, 120)
{
	int ready[2];

	ASSERT_EQ(0, pipe(ready));
	EXPECT_EQ(-SIGKILL, wait_child(child_with_mr(do_oom, &ready[1])));
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(-1, odp_check(&self->o, 1));
	EXPECT_EQ(0, rmdir(CGROUP));
}

/* More memory than the limit allows goes to the device and back, with the help of swap. */
TEST_F_TIMEOUT(vma_life, memory_limit, 240)
{
	pid_t child = fork();

	if (!child) {
		int gpu = gpu_open(0);
		size_t n = 24 * MiB;
		char *p;

		if (cgroup_enter("16M", "max"))
			_exit(1);
		p = anon(n);
		for (int round = 0; round < 2; round++) {
			fill_pattern(p, n, round);
			if (gpu_to_device(gpu, p, 8 * MiB) ||
			    gpu_fill(gpu, p + MiB, MiB, 0x77))
				_exit(2);
			if (check_pattern(p, MiB, round) != -1)
				_exit(3);
			if (p[MiB] != 0x77 || p[2 * MiB - 1] != 0x77)
				_exit(4);
			for (size_t i = 2 * MiB; i < n; i += 61)
				if ((unsigned char)p[i] != pattern(i, round))
					_exit(5);
		}
		_exit(0);
	}
	EXPECT_EQ(0, wait_child(child));
	EXPECT_EQ(0, rmdir(CGROUP));
}

TEST_F_TIMEOUT(vma_life, ksm, 240)
{
	struct hmm_dummy_migrate out;

	/* Pages with equal content, half of them on the device and half in RAM. */
	memset(self->o.mem, 'k', LEN);
	ASSERT_EQ(0, madvise(self->o.mem, LEN, MADV_MERGEABLE));
	ASSERT_EQ(0, gpu_to_device(self->o.gpu, self->o.mem, LEN / 2));
	ASSERT_TRUE(ksm_pass());
	EXPECT_EQ(NPAGES / 2, on_gpu(self));
	/* Merged pages stay where they are. */
	ASSERT_EQ(0, gpu_migrate(self->o.gpu, GPU_SELF, self->o.mem + LEN / 2,
				 LEN / 2, 0, &out));
	EXPECT_EQ(NPAGES / 2, out.skipped);
	EXPECT_EQ(0, out.migrated);
	EXPECT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, 2));
	EXPECT_EQ(-1, check_pattern(self->o.mem, LEN, 2));
	ASSERT_EQ(0, madvise(self->o.mem, LEN, MADV_UNMERGEABLE));
}

TEST_HARNESS_MAIN
