// SPDX-License-Identifier: GPL-2.0
/*
 * A process that tracks accesses in its page table entries, with userfaultfd, PAGEMAP_SCAN or
 * soft-dirty bits, sees what a NIC and the GPU itself do to pages on the GPU.  It sees as much
 * as with peer access switched off, where each page moves to RAM first.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "common.h"
#include "pagemap_scan.h"
#include "rdma.h"
#include "uffd.h"

#define LEN	(2 * MiB)
#define NPAGES	(LEN / PAGE)
#define SOME	16		/* number of pages that are touched */
#define READ_AT	32		/* first page that is read */
#define WRITE_AT 200		/* first page that is written */

FIXTURE(watch) {
	int gpu;
	int pagemap;
	int uffd;
	char *mem;
	char *stage;
	struct rdma_pair pair;
	struct rdma_buf from;
	struct rdma_buf to;
};

FIXTURE_VARIANT(watch) {
	bool huge;
	bool peer;		/* false: peer access is off, and each page moves to RAM */
};

FIXTURE_VARIANT_ADD(watch, small) { .huge = false, .peer = true };
FIXTURE_VARIANT_ADD(watch, huge) { .huge = true, .peer = true };
FIXTURE_VARIANT_ADD(watch, small_off) { .huge = false, .peer = false };
FIXTURE_VARIANT_ADD(watch, huge_off) { .huge = true, .peer = false };

FIXTURE_SETUP(watch)
{
	self->uffd = -1;
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	self->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->pagemap);
	ASSERT_LE(0, peer_access_set(variant->peer));
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	self->stage = anon(LEN);
	ASSERT_NE(MAP_FAILED, self->stage);
	self->mem = anon_huge(LEN, variant->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	ASSERT_NE(NULL, self->mem);
	fill_pattern(self->mem, LEN, 1);
	fill_pattern(self->stage, LEN, 2);
	self->from.addr = self->stage;
	self->from.mr = ibv_reg_mr(self->pair.pd, self->stage, LEN, RDMA_ODP);
	ASSERT_NE(NULL, self->from.mr);
	self->to.addr = self->mem;
	self->to.mr = ibv_reg_mr(self->pair.pd, self->mem, LEN, RDMA_ODP);
	ASSERT_NE(NULL, self->to.mr);
}

FIXTURE_TEARDOWN(watch)
{
	const char *leak;

	if (self->uffd >= 0)
		close(self->uffd);
	EXPECT_EQ(0, ibv_dereg_mr(self->from.mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->to.mr));
	munmap(self->mem, LEN);
	munmap(self->stage, LEN);
	rdma_pair_close(&self->pair);
	EXPECT_LE(0, peer_access_set(true));
	leak = gpu_leak(0, self->gpu);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->pagemap);
	close(self->gpu);
}

/* The NIC copies pages of the stage to mem, or back. */
static int nic_writes(FIXTURE_DATA(watch) *self, size_t first, size_t n)
{
	struct rdma_buf from = { self->from.mr, self->stage + first * PAGE };
	struct rdma_buf to = { self->to.mr, self->mem + first * PAGE };

	return rdma_write(&self->pair, from, to, n * PAGE);
}

static int nic_reads(FIXTURE_DATA(watch) *self, size_t first, size_t n)
{
	struct rdma_buf from = { self->from.mr, self->stage + first * PAGE };
	struct rdma_buf to = { self->to.mr, self->mem + first * PAGE };

	return rdma_read(&self->pair, from, to, n * PAGE);
}

static long on_gpu(const char *mem)
{
	return pages_on_device(0, mem, LEN);
}

/* Place mem on the device.  The NIC has written to all of it. */
static void place(struct __test_metadata *_metadata, FIXTURE_DATA(watch) *self,
		  const FIXTURE_VARIANT(watch) *variant)
{
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem, LEN));
	ASSERT_EQ(IBV_WC_SUCCESS, nic_writes(self, 0, NPAGES));
	ASSERT_EQ(variant->peer ? NPAGES : 0, on_gpu(self->mem));
	/* Without peer access, the write has moved mem to RAM. */
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem, LEN));
	ASSERT_EQ(NPAGES, on_gpu(self->mem));
	ASSERT_EQ(variant->huge ? LEN : 0, huge_bytes(self->mem));
	fill_pattern(self->stage, LEN, 3);
}

/* Check mem: the pattern of place(), and another one in SOME pages at WRITE_AT. */
static void check_data(struct __test_metadata *_metadata, FIXTURE_DATA(watch) *self)
{
	for (size_t i = 0; i < LEN; i++) {
		size_t page = i / PAGE;
		bool again = page >= WRITE_AT && page < WRITE_AT + SOME;

		ASSERT_EQ(pattern(i, again ? 3 : 2), (unsigned char)self->mem[i])
			TH_LOG("byte %zu", i);
	}
}

/* Count the soft-dirty pages that /proc/self/pagemap shows.  VM_SOFTDIRTY counts as well. */
static long soft_dirty(int pagemap, const char *p, size_t n)
{
	uint64_t entries[NPAGES];
	long found = 0;

	if (n > NPAGES || pread(pagemap, entries, n * 8, ((uintptr_t)p / PAGE) * 8) !=
			  (ssize_t)n * 8)
		return -1;
	for (size_t i = 0; i < n; i++)
		found += entries[i] >> 55 & 1;
	return found;
}

static int clear_soft_dirty(void)
{
	return write_file("/proc/self/clear_refs", "4");
}

/* Begin or end watching n pages at p for accesses, or for writes only. */
static int watch_access(int fd, bool any, const char *p, size_t n, bool on)
{
	struct uffdio_rwprotect rwp = {
		.range = { (uintptr_t)p, n * PAGE },
		.mode = on ? UFFDIO_RWPROTECT_MODE_RWP : 0,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)p, n * PAGE },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return any ? ioctl(fd, UFFDIO_RWPROTECT, &rwp) : ioctl(fd, UFFDIO_WRITEPROTECT, &wp);
}

/* A thread that receives events and allows the access, page by page. */
struct listener {
	int fd;
	bool any;
	const char *mem;
	atomic_bool stop;
	atomic_uint other;		/* unexpected events */
	atomic_uchar seen[NPAGES];
};

static void *listens(void *arg)
{
	struct listener *l = arg;
	struct uffd_msg msg;

	while (!l->stop) {
		uint64_t want = l->any ? UFFD_PAGEFAULT_FLAG_RWP : UFFD_PAGEFAULT_FLAG_WP;
		size_t page;

		if (!uffd_next(l->fd, 50, &msg))
			continue;
		page = (msg.arg.pagefault.address - (uintptr_t)l->mem) / PAGE;
		if (msg.event != UFFD_EVENT_PAGEFAULT || page >= NPAGES ||
		    !(msg.arg.pagefault.flags & want)) {
			l->other++;
			continue;
		}
		l->seen[page] = 1;
		if (watch_access(l->fd, l->any, l->mem + page * PAGE, 1, false))
			l->other++;
	}
	return NULL;
}

static unsigned int seen(const struct listener *l, size_t first, size_t n)
{
	unsigned int found = 0;

	for (size_t i = first; i < first + n; i++)
		found += l->seen[i];
	return found;
}

/* PAGEMAP_SCAN reports each write, as often as the process asks. */
TEST_F_TIMEOUT(watch, wp_async, 240)
{
	long long watched;

	place(_metadata, self, variant);
	self->uffd = uffd_watch(self->mem, LEN, UFFD_FEATURE_WP_ASYNC, UFFDIO_REGISTER_MODE_WP);
	ASSERT_LE(0, self->uffd);
	ASSERT_EQ(NPAGES, pages_written(self->pagemap, self->mem, LEN));
	EXPECT_EQ(0, pages_written(self->pagemap, self->mem, LEN));
	EXPECT_EQ(NPAGES, on_gpu(self->mem));
	watched = gpu_counter(0, "fallback_watched");
	ASSERT_EQ(IBV_WC_SUCCESS, nic_reads(self, READ_AT, SOME));
	EXPECT_EQ(0, pages_written(self->pagemap, self->mem, LEN));
	EXPECT_EQ(variant->peer ? NPAGES : variant->huge ? 0 : NPAGES - SOME, on_gpu(self->mem));
	fill_pattern(self->stage, LEN, 3);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(IBV_WC_SUCCESS, nic_writes(self, WRITE_AT, SOME));
		EXPECT_EQ(SOME, pages_written(self->pagemap, self->mem, LEN));
		/*
		 * The written pages alone have moved to RAM.  In the next round mem has small
		 * pages.
		 */
		if (variant->peer) {
			EXPECT_EQ(variant->huge && !i ? 0 : NPAGES - SOME, on_gpu(self->mem));
			EXPECT_LT(watched, gpu_counter(0, "fallback_watched"));
		}
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem, LEN));
	}
	EXPECT_EQ(0, pages_written(self->pagemap, self->mem, LEN));
	check_data(_metadata, self);
}

/* A process that is asked before each write is asked for the written pages, and for no other. */
TEST_F_TIMEOUT(watch, wp_sync, 240)
{
	struct listener l = { .mem = self->mem };
	pthread_t thread;

	place(_metadata, self, variant);
	self->uffd = uffd_watch(self->mem, LEN, 0, UFFDIO_REGISTER_MODE_WP);
	l.fd = self->uffd;
	ASSERT_LE(0, self->uffd);
	ASSERT_EQ(0, watch_access(self->uffd, false, self->mem, NPAGES, true));
	ASSERT_EQ(0, pthread_create(&thread, NULL, listens, &l));
	EXPECT_EQ(IBV_WC_SUCCESS, nic_reads(self, READ_AT, SOME));
	EXPECT_EQ(0, seen(&l, 0, NPAGES));
	fill_pattern(self->stage, LEN, 3);
	EXPECT_EQ(IBV_WC_SUCCESS, nic_writes(self, WRITE_AT, SOME));
	EXPECT_EQ(SOME, seen(&l, WRITE_AT, SOME));
	EXPECT_EQ(SOME, seen(&l, 0, NPAGES));
	EXPECT_EQ(0, l.other);
	l.stop = true;
	pthread_join(thread, NULL);
	check_data(_metadata, self);
}

/* Reads are accesses, too.  An access to a huge page is one to all of it, as in RAM. */
TEST_F_TIMEOUT(watch, rwp_async, 240)
{
	long one = variant->huge ? NPAGES : SOME;

	place(_metadata, self, variant);
	self->uffd = uffd_watch(self->mem, LEN, UFFD_FEATURE_RWP | UFFD_FEATURE_RWP_ASYNC,
				UFFDIO_REGISTER_MODE_RWP);
	ASSERT_LE(0, self->uffd);
	ASSERT_EQ(0, watch_access(self->uffd, true, self->mem, NPAGES, true));
	EXPECT_EQ(0, pages_scanned(self->pagemap, self->mem, LEN, PAGE_IS_ACCESSED, 0));
	EXPECT_EQ(NPAGES, on_gpu(self->mem));
	ASSERT_EQ(IBV_WC_SUCCESS, nic_reads(self, READ_AT, SOME));
	EXPECT_EQ(one, pages_scanned(self->pagemap, self->mem, LEN, PAGE_IS_ACCESSED, 0));
	fill_pattern(self->stage, LEN, 3);
	ASSERT_EQ(IBV_WC_SUCCESS, nic_writes(self, WRITE_AT, SOME));
	EXPECT_EQ(variant->huge ? NPAGES : 2 * SOME,
		  pages_scanned(self->pagemap, self->mem, LEN, PAGE_IS_ACCESSED, 0));
	check_data(_metadata, self);
}

TEST_F_TIMEOUT(watch, rwp_sync, 240)
{
	struct listener l = { .mem = self->mem, .any = true };
	pthread_t thread;

	place(_metadata, self, variant);
	self->uffd = uffd_watch(self->mem, LEN, UFFD_FEATURE_RWP, UFFDIO_REGISTER_MODE_RWP);
	l.fd = self->uffd;
	ASSERT_LE(0, self->uffd);
	ASSERT_EQ(0, watch_access(self->uffd, true, self->mem, NPAGES, true));
	ASSERT_EQ(0, pthread_create(&thread, NULL, listens, &l));
	EXPECT_EQ(IBV_WC_SUCCESS, nic_reads(self, READ_AT, SOME));
	EXPECT_EQ(SOME, seen(&l, READ_AT, SOME));
	EXPECT_EQ(SOME, seen(&l, 0, NPAGES));
	fill_pattern(self->stage, LEN, 3);
	EXPECT_EQ(IBV_WC_SUCCESS, nic_writes(self, WRITE_AT, SOME));
	EXPECT_EQ(SOME, seen(&l, WRITE_AT, SOME));
	EXPECT_EQ(2 * SOME, seen(&l, 0, NPAGES));
	EXPECT_EQ(0, l.other);
	/* The CPU reads the other pages. */
	check_data(_metadata, self);
	l.stop = true;
	pthread_join(thread, NULL);
}

/* A peer's write marks the page, which stays where it is.  Its read does not. */
TEST_F_TIMEOUT(watch, soft_dirty, 240)
{
	long one = variant->huge ? NPAGES : SOME;

	place(_metadata, self, variant);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, clear_soft_dirty());
		EXPECT_EQ(0, soft_dirty(self->pagemap, self->mem, NPAGES));
		EXPECT_EQ(NPAGES, on_gpu(self->mem));
		ASSERT_EQ(IBV_WC_SUCCESS, nic_reads(self, READ_AT, SOME));
		EXPECT_EQ(0, soft_dirty(self->pagemap, self->mem, NPAGES));
		fill_pattern(self->stage, LEN, 3);
		ASSERT_EQ(IBV_WC_SUCCESS, nic_writes(self, WRITE_AT, SOME));
		EXPECT_EQ(SOME, soft_dirty(self->pagemap, self->mem + WRITE_AT * PAGE, SOME));
		EXPECT_EQ(one, soft_dirty(self->pagemap, self->mem, NPAGES));
		if (variant->peer) {
			EXPECT_EQ(NPAGES, on_gpu(self->mem));
			EXPECT_EQ(variant->huge ? LEN : 0, huge_bytes(self->mem));
		}
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem, LEN));
		EXPECT_EQ(one, soft_dirty(self->pagemap, self->mem, NPAGES));
	}
	/* After mprotect() the NIC gets write access back in place, and its write is marked. */
	ASSERT_EQ(0, mprotect(self->mem, LEN, PROT_READ));
	ASSERT_EQ(0, mprotect(self->mem, LEN, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, clear_soft_dirty());
	ASSERT_EQ(IBV_WC_SUCCESS, nic_writes(self, WRITE_AT, SOME));
	EXPECT_EQ(one, soft_dirty(self->pagemap, self->mem, NPAGES));
	if (variant->peer) {
		EXPECT_EQ(NPAGES, on_gpu(self->mem));
	}
	check_data(_metadata, self);
}

/* Tracking without a NIC: accesses of the GPU itself, and marks during migration. */
FIXTURE(own) {
	int gpu;
	int pagemap;
	int uffd;
	char *mem;
	long one;		/* pages that are marked when SOME pages were written */
};

FIXTURE_VARIANT(own) {
	bool huge;
};

FIXTURE_VARIANT_ADD(own, small) { .huge = false };
FIXTURE_VARIANT_ADD(own, huge) { .huge = true };

/*
 * The CPU has written to all of mem after its soft-dirty bits were cleared, then mem has moved
 * to the device.
 */
FIXTURE_SETUP(own)
{
	self->uffd = -1;
	self->one = variant->huge ? NPAGES : SOME;
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	self->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->pagemap);
	self->mem = anon_huge(LEN, variant->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, clear_soft_dirty());
	fill_pattern(self->mem, LEN, 1);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem, LEN));
	ASSERT_EQ(NPAGES, on_gpu(self->mem));
	ASSERT_EQ(variant->huge ? LEN : 0, huge_bytes(self->mem));
}

FIXTURE_TEARDOWN(own)
{
	const char *leak;

	if (self->uffd >= 0)
		close(self->uffd);
	munmap(self->mem, LEN);
	leak = gpu_leak(0, self->gpu);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->pagemap);
	close(self->gpu);
}

static int gpu_reads(int gpu, const char *mem, size_t first)
{
	unsigned int crc;

	return gpu_crc32c(gpu, mem + first * PAGE, SOME * PAGE, &crc);
}

/* A write of the GPU marks the page, which stays.  A read does not, also before that write. */
TEST_F_TIMEOUT(own, soft_dirty, 120)
{
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, clear_soft_dirty());
		ASSERT_EQ(0, gpu_reads(self->gpu, self->mem, READ_AT));
		EXPECT_EQ(0, soft_dirty(self->pagemap, self->mem, NPAGES));
		ASSERT_EQ(0, gpu_fill(self->gpu, self->mem + READ_AT * PAGE, SOME * PAGE, i));
		EXPECT_EQ(SOME, soft_dirty(self->pagemap, self->mem + READ_AT * PAGE, SOME));
		EXPECT_EQ(self->one, soft_dirty(self->pagemap, self->mem, NPAGES));
		EXPECT_EQ(NPAGES, on_gpu(self->mem));
		EXPECT_EQ(variant->huge ? LEN : 0, huge_bytes(self->mem));
	}
	EXPECT_EQ(1, self->mem[READ_AT * PAGE]);
}

TEST_F_TIMEOUT(own, wp_async, 120)
{
	self->uffd = uffd_watch(self->mem, LEN, UFFD_FEATURE_WP_ASYNC, UFFDIO_REGISTER_MODE_WP);
	ASSERT_LE(0, self->uffd);
	ASSERT_EQ(0, gpu_fill(self->gpu, self->mem, LEN, 1));
	ASSERT_EQ(NPAGES, pages_written(self->pagemap, self->mem, LEN));
	EXPECT_EQ(0, pages_written(self->pagemap, self->mem, LEN));
	ASSERT_EQ(0, gpu_reads(self->gpu, self->mem, READ_AT));
	EXPECT_EQ(0, pages_written(self->pagemap, self->mem, LEN));
	EXPECT_EQ(NPAGES, on_gpu(self->mem));
	ASSERT_EQ(0, gpu_fill(self->gpu, self->mem + WRITE_AT * PAGE, SOME * PAGE, 2));
	EXPECT_EQ(SOME, pages_written(self->pagemap, self->mem, LEN));
	EXPECT_EQ(2, self->mem[WRITE_AT * PAGE]);
	EXPECT_EQ(0, pages_written(self->pagemap, self->mem, LEN));
}

TEST_F_TIMEOUT(own, rwp_async, 120)
{
	self->uffd = uffd_watch(self->mem, LEN, UFFD_FEATURE_RWP | UFFD_FEATURE_RWP_ASYNC,
				UFFDIO_REGISTER_MODE_RWP);
	ASSERT_LE(0, self->uffd);
	ASSERT_EQ(0, watch_access(self->uffd, true, self->mem, NPAGES, true));
	EXPECT_EQ(0, pages_scanned(self->pagemap, self->mem, LEN, PAGE_IS_ACCESSED, 0));
	ASSERT_EQ(0, gpu_reads(self->gpu, self->mem, READ_AT));
	EXPECT_EQ(self->one, pages_scanned(self->pagemap, self->mem, LEN, PAGE_IS_ACCESSED, 0));
	EXPECT_EQ(-1, check_pattern(self->mem, LEN, 1));
}

/* After a move back to RAM, a write of the CPU marks the page and a read does not. */
TEST_F_TIMEOUT(own, soft_dirty_cpu, 120)
{
	volatile char *p = self->mem + WRITE_AT * PAGE;

	ASSERT_EQ(0, gpu_fill(self->gpu, self->mem, LEN, 1));
	ASSERT_EQ(0, clear_soft_dirty());
	for (size_t i = 0; i < SOME * PAGE; i += PAGE)
		(void)p[i];
	EXPECT_EQ(0, soft_dirty(self->pagemap, self->mem, NPAGES));
	EXPECT_GT(NPAGES, on_gpu(self->mem));
	for (size_t i = 0; i < SOME * PAGE; i += PAGE)
		p[i] = 2;
	EXPECT_EQ(self->one, soft_dirty(self->pagemap, self->mem, NPAGES));
}

/* Marks survive migration, mprotect(), split and fork(). */
TEST_F_TIMEOUT(own, kept, 120)
{
	pid_t child;

	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
	ASSERT_EQ(0, gpu_to_ram(self->gpu, self->mem, LEN));
	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem, LEN));
	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
	ASSERT_EQ(0, mprotect(self->mem, LEN, PROT_READ));
	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
	ASSERT_EQ(0, mprotect(self->mem, LEN, PROT_READ | PROT_WRITE));
	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
	/* Migrate both ways.  Otherwise mem would be read-only before fork(). */
	ASSERT_EQ(0, gpu_to_ram(self->gpu, self->mem, LEN));
	fill_pattern(self->mem, LEN, 1);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem, LEN));
	ASSERT_EQ(variant->huge ? LEN : 0, huge_bytes(self->mem));
	child = fork();
	if (!child) {
		int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

		_exit(soft_dirty(fd, self->mem, NPAGES) == NPAGES ? 0 : 1);
	}
	EXPECT_EQ(0, wait_child(child));
	EXPECT_EQ(NPAGES, on_gpu(self->mem));
	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
	/* mprotect() of one page splits the entry.  Moving one page splits the huge page. */
	ASSERT_EQ(0, mprotect(self->mem + 7 * PAGE, PAGE, PROT_READ));
	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
	ASSERT_EQ(0, gpu_to_ram(self->gpu, self->mem + 8 * PAGE, PAGE));
	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
	EXPECT_EQ(0, huge_bytes(self->mem));
	/* Clean pages stay clean. */
	ASSERT_EQ(0, clear_soft_dirty());
	EXPECT_EQ(0, soft_dirty(self->pagemap, self->mem, NPAGES));
	ASSERT_EQ(0, gpu_to_ram(self->gpu, self->mem, LEN));
	EXPECT_EQ(0, soft_dirty(self->pagemap, self->mem, NPAGES));
	EXPECT_EQ(-1, check_pattern(self->mem, LEN, 1));
}

/* A page that is shared with a child moves: a soft-dirty bit does not mean write access. */
TEST_F_TIMEOUT(own, shared_moves, 120)
{
	int go[2];
	pid_t child;
	char c;

	ASSERT_EQ(0, gpu_to_ram(self->gpu, self->mem, LEN));
	fill_pattern(self->mem, LEN, 1);
	ASSERT_EQ(0, pipe(go));
	child = fork();
	if (!child) {
		if (read(go[0], &c, 1) != 1)
			_exit(1);
		_exit(check_pattern(self->mem, LEN, 1) < 0 ? 0 : 2);
	}
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem, LEN));
	EXPECT_EQ(NPAGES, on_gpu(self->mem));
	EXPECT_EQ(variant->huge ? LEN : 0, huge_bytes(self->mem));
	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
	ASSERT_EQ(1, write(go[1], "x", 1));
	EXPECT_EQ(0, wait_child(child));
	close(go[0]);
	close(go[1]);
}

/*
 * mremap() marks the pages that it moves, even clean ones.  One page is moved by itself: a
 * whole table of entries moves without marks, in RAM as well.
 */
TEST_F_TIMEOUT(own, mremap, 120)
{
	char *to = anon_huge(LEN + PAGE, MADV_NOHUGEPAGE), *p;

	ASSERT_NE(NULL, to);
	to += variant->huge ? 0 : PAGE;
	ASSERT_EQ(0, clear_soft_dirty());
	EXPECT_EQ(0, soft_dirty(self->pagemap, self->mem, NPAGES));
	p = mremap(self->mem, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	ASSERT_EQ(to, p);
	self->mem = p;
	EXPECT_EQ(NPAGES, on_gpu(self->mem));
	EXPECT_EQ(variant->huge ? LEN : 0, huge_bytes(self->mem));
	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
}

/* A page that the device creates is marked, like one that the CPU creates by a write. */
TEST_F_TIMEOUT(own, new_page, 120)
{
	ASSERT_EQ(0, madvise(self->mem, LEN, MADV_DONTNEED));
	ASSERT_EQ(0, clear_soft_dirty());
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem, LEN));
	ASSERT_EQ(NPAGES, on_gpu(self->mem));
	EXPECT_EQ(NPAGES, soft_dirty(self->pagemap, self->mem, NPAGES));
}

TEST_HARNESS_MAIN
