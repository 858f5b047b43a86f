// SPDX-License-Identifier: GPL-2.0
/*
 * All kinds of pages that a process can have, in one range.  A NIC and a GPU find each page
 * where it is, and device pages stay on their device.  lib/test_hmm provides the coherent
 * device memory.  Needs swap and two huge pages.
 */
#include "odp.h"
#include "test_hmm_uapi.h"

#define KINDS	10
#define ROUNDS	6
#define SMALL	(KINDS * ROUNDS * PAGE)
#define LENGTH	(4 * MiB)	/* small pages, a gap, and a huge page of hugetlbfs */

enum kind {
	RAM, ZERO, HOLE, SWAPPED, GPU0, GPU1, READ_ONLY, FILE_PRIVATE, FILE_SHARED,
	COHERENT,
};

FIXTURE(mix) {
	struct rdma_pair pair;
	int gpu[2];
	int dmirror;
	int file;
	char *p;
	char *stage;
	char *want;
	struct rdma_buf from, to;
};

static char *page_of(FIXTURE_DATA(mix) *self, enum kind kind, int round)
{
	return self->p + (round * KINDS + kind) * PAGE;
}

static int to_coherent(int fd, void *addr)
{
	static char copy[PAGE];
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)addr, .ptr = (uintptr_t)copy, .npages = 1,
	};

	return ioctl(fd, HMM_DMIRROR_MIGRATE_TO_DEV, &cmd) ||
	       cmd.cpages != 1 ? -1 : 0;
}

/* Create a page of @kind, and store its expected content in @want. */
static int make_page(FIXTURE_DATA(mix) *self, enum kind kind, int round)
{
	char *p = page_of(self, kind, round);
	char *want = self->want + (p - self->p);
	off_t at = (round * KINDS + kind) * PAGE;

	if (kind == ZERO || kind == HOLE) {
		memset(want, 0, PAGE);
		return kind == ZERO ? *(volatile char *)p : 0;
	}
	fill_pattern(want, PAGE, round * KINDS + kind);
	if (kind == FILE_PRIVATE || kind == FILE_SHARED) {
		if (pwrite(self->file, want, PAGE, at) != PAGE)
			return -1;
		p = mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_FIXED |
			 (kind == FILE_SHARED ? MAP_SHARED : MAP_PRIVATE),
			 self->file, at);
		return p == MAP_FAILED ? -1 : 0;
	}
	memcpy(p, want, PAGE);
	switch (kind) {
	case SWAPPED:
		/*
		 * Reclaim does not take a page that is in another CPU's batch, so repeat the
		 * call.
		 */
		for (int i = 0; i < 100; i++) {
			if (madvise(p, PAGE, MADV_PAGEOUT))
				return -1;
			if (pages_that_are(PAGE_SWAPPED, p, PAGE))
				return 0;
			usleep(10000);
		}
		errno = EBUSY;
		return -1;
	case GPU0:
	case GPU1:
		return gpu_to_device(self->gpu[kind == GPU1], p, PAGE);
	case READ_ONLY:
		return mprotect(p, PAGE, PROT_READ);
	case COHERENT:
		return to_coherent(self->dmirror, p);
	default:
		return 0;
	}
}

FIXTURE_SETUP(mix)
{
	char *huge, *base;

	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	for (int i = 0; i < 2; i++) {
		self->gpu[i] = gpu_open(i);
		ASSERT_LE(0, self->gpu[i]);
	}
	self->dmirror = open("/dev/hmm_dmirror2", O_RDWR);
	ASSERT_LE(0, self->dmirror);
	self->file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	ASSERT_LE(0, self->file);
	ASSERT_EQ(0, ftruncate(self->file, SMALL));
	self->stage = anon(LENGTH);
	self->want = anon(LENGTH);
	base = anon(LENGTH + 2 * MiB);
	ASSERT_NE(MAP_FAILED, base);
	self->p = (char *)(((uintptr_t)base + 2 * MiB - 1) & ~(2 * MiB - 1));
	for (int round = 0; round < ROUNDS; round++) {
		for (int kind = 0; kind < KINDS; kind++) {
			ASSERT_EQ(0, make_page(self, kind, round))
				TH_LOG("kind %d: %s", kind, strerror(errno));
		}
	}
	huge = mmap(self->p + 2 * MiB, 2 * MiB, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB, -1, 0);
	ASSERT_NE(MAP_FAILED, huge);
	fill_pattern(huge, 2 * MiB, 77);
	fill_pattern(self->want + 2 * MiB, 2 * MiB, 77);
	self->from.addr = self->stage;
	self->from.mr = ibv_reg_mr(self->pair.pd, self->stage, LENGTH, RDMA_ODP);
	ASSERT_NE(NULL, self->from.mr);
	self->to.addr = self->p;
	self->to.mr = ibv_reg_mr(self->pair.pd, self->p, LENGTH, RDMA_ODP);
	ASSERT_NE(NULL, self->to.mr);
}

FIXTURE_TEARDOWN(mix)
{
	ibv_dereg_mr(self->from.mr);
	ibv_dereg_mr(self->to.mr);
	munmap(self->p, LENGTH);
	rdma_pair_close(&self->pair);
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, self->gpu[i]);

		EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
		close(self->gpu[i]);
	}
	close(self->dmirror);
	close(self->file);
}

/* The pages are still on the GPUs and in coherent memory. */
static void check_places(struct __test_metadata *_metadata,
			 FIXTURE_DATA(mix) *self)
{
	EXPECT_EQ(2 * ROUNDS, pages_on_device(0, self->p, SMALL));
	for (int round = 0; round < ROUNDS; round++) {
		struct hmm_dmirror_cmd cmd = {
			.addr = (uintptr_t)page_of(self, COHERENT, round),
			.npages = 1,
		};
		unsigned char where = 0;

		EXPECT_EQ(1, pages_on_device(0, page_of(self, GPU0, round), PAGE));
		EXPECT_EQ(1, pages_on_device(0, page_of(self, GPU1, round), PAGE));
		cmd.ptr = (uintptr_t)&where;
		ASSERT_EQ(0, ioctl(self->dmirror, HMM_DMIRROR_SNAPSHOT, &cmd));
		EXPECT_EQ(HMM_DMIRROR_PROT_DEV_COHERENT_LOCAL |
			  HMM_DMIRROR_PROT_WRITE, where);
	}
}

TEST_F_TIMEOUT(mix, nic_reads, 120)
{
	ASSERT_EQ(0, rdma_read(&self->pair, self->from, self->to, LENGTH));
	for (size_t i = 0; i < LENGTH; i += PAGE) {
		ASSERT_EQ(0, memcmp(self->want + i, self->stage + i, PAGE))
			TH_LOG("page %zu, kind %zu", i / PAGE, i / PAGE % KINDS);
	}
	check_places(_metadata, self);
	EXPECT_EQ(ROUNDS, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(ROUNDS, gpu_counter(1, "mapped_now"));
}

TEST_F_TIMEOUT(mix, gpu_reads, 120)
{
	unsigned int crc;

	ASSERT_EQ(0, gpu_crc32c(self->gpu[0], self->p, LENGTH, &crc));
	EXPECT_EQ(crc32c(self->want, LENGTH), crc);
	check_places(_metadata, self);
	/*
	 * The NIC has mapped these pages since the MR was registered.  A GPU needs no alias for
	 * its own pages.
	 */
	EXPECT_EQ(2 * ROUNDS, gpu_counter(1, "mapped_now"));
	EXPECT_EQ(ROUNDS, gpu_counter(0, "mapped_now"));
}

TEST_F_TIMEOUT(mix, nic_writes, 120)
{
	for (int round = 0; round < ROUNDS; round++) {
		for (int kind = 0; kind < KINDS; kind++) {
			size_t at = page_of(self, kind, round) - self->p;
			struct rdma_buf to = self->to;

			to.addr = self->p + at;
			if (kind == READ_ONLY)
				continue;
			fill_pattern(self->stage, PAGE, 100 + kind);
			ASSERT_EQ(0, rdma_write(&self->pair, self->from, to, PAGE))
				TH_LOG("kind %d", kind);
			fill_pattern(self->want + at, PAGE, 100 + kind);
		}
	}
	check_places(_metadata, self);
	for (size_t i = 0; i < SMALL; i += PAGE) {
		ASSERT_EQ(0, memcmp(self->want + i, self->p + i, PAGE))
			TH_LOG("page %zu, kind %zu", i / PAGE, i / PAGE % KINDS);
	}
	/* The file contains what was written through the shared mapping, and nothing else. */
	for (int round = 0; round < ROUNDS; round++) {
		char buf[PAGE];

		for (int kind = FILE_PRIVATE; kind <= FILE_SHARED; kind++) {
			off_t at = page_of(self, kind, round) - self->p;

			ASSERT_EQ(PAGE, pread(self->file, buf, PAGE, at));
			EXPECT_EQ(kind == FILE_SHARED,
				  check_pattern(buf, PAGE, 100 + kind) == -1);
		}
	}
}

/* A write to the read-only page is refused. */
TEST_F_TIMEOUT(mix, nic_write_to_read_only, 120)
{
	struct rdma_buf to = self->to;

	to.addr = page_of(self, READ_ONLY, 1);
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  rdma_write(&self->pair, self->from, to, PAGE));
	EXPECT_EQ(0, memcmp(self->want + ((char *)to.addr - self->p), to.addr, PAGE));
}

TEST_HARNESS_MAIN
