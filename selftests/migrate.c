// SPDX-License-Identifier: GPL-2.0
/* Memory moves to the device and back, whoever asks, and keeps its contents. */
#include "common.h"

#define LEN	(5 * MiB)
#define NPAGES	(LEN / PAGE)

FIXTURE(migrate) {
	int gpu;
	char *p;
	struct hmm_dummy_info before;
};

FIXTURE_SETUP(migrate)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	ASSERT_EQ(0, gpu_info(self->gpu, &self->before));
	/* Neither end on a PMD boundary. */
	self->p = anon(LEN + PAGE);
	ASSERT_NE(MAP_FAILED, self->p);
	self->p += PAGE;
}

FIXTURE_TEARDOWN(migrate)
{
	struct hmm_dummy_info after;

	munmap(self->p - PAGE, LEN + PAGE);
	EXPECT_EQ(0, gpu_info(self->gpu, &after));
	EXPECT_EQ(self->before.vram_free, after.vram_free);
	EXPECT_EQ(0, after.stale_writes);
	close(self->gpu);
}

/*
 * What the device writes after MADV_FREE is no longer free to be dropped.  Has to
 * come first, and to take many pages: device pages that were used before may still
 * have PG_swapbacked from then, and then reclaim does not take them for free ones.
 */
TEST_F(migrate, madv_free_then_device)
{
	fill_pattern(self->p, LEN, 10);
	ASSERT_EQ(0, madvise(self->p, LEN, MADV_FREE));
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, LEN));
	ASSERT_EQ(0, gpu_fill(self->gpu, self->p, LEN, 0x77));
	ASSERT_EQ(0, gpu_to_ram(self->gpu, self->p, LEN));
	/* Reclaim may drop clean MADV_FREE'd pages; these are dirty. */
	ASSERT_EQ(0, madvise(self->p, LEN, MADV_PAGEOUT));
	for (size_t i = 0; i < LEN; i++) {
		ASSERT_EQ(0x77, self->p[i]);
	}
}

TEST_F(migrate, to_device_and_back)
{
	struct hmm_dummy_migrate m;

	fill_pattern(self->p, LEN, 3);
	ASSERT_EQ(0, gpu_migrate(self->gpu, GPU_SELF, self->p, LEN, 0, &m));
	EXPECT_EQ(NPAGES, m.migrated);
	EXPECT_EQ(0, m.failed);
	EXPECT_EQ(NPAGES, pages_on_device(0, self->p, LEN));
	/* Once more is nothing to do. */
	ASSERT_EQ(0, gpu_migrate(self->gpu, GPU_SELF, self->p, LEN, 0, &m));
	EXPECT_EQ(0, m.migrated);
	EXPECT_EQ(NPAGES, m.skipped);

	ASSERT_EQ(0, gpu_migrate(self->gpu, GPU_SELF, self->p, LEN,
				 HMM_DUMMY_MIGRATE_TO_RAM, &m));
	EXPECT_EQ(NPAGES, m.migrated);
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 3));
}

TEST_F(migrate, cpu_fault)
{
	fill_pattern(self->p, LEN, 4);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, LEN));
	/* A read brings back what was read, and no more. */
	EXPECT_EQ(pattern(7 * PAGE, 4), (unsigned char)self->p[7 * PAGE]);
	EXPECT_EQ(NPAGES - 1, pages_on_device(0, self->p, LEN));
	self->p[9 * PAGE] = pattern(9 * PAGE, 4);
	EXPECT_EQ(NPAGES - 2, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 4));
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
}

/* Never touched, or only read: the device gets zeros. */
TEST_F(migrate, holes_and_zero_pages)
{
	volatile char sink;

	sink = self->p[0];
	(void)sink;
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, LEN));
	EXPECT_EQ(NPAGES, pages_on_device(0, self->p, LEN));
	for (size_t i = 0; i < LEN; i++) {
		ASSERT_EQ(0, self->p[i]);
	}
}

/* The first half is touched, and of that 100 pages are on a device, @there. */
static unsigned char wanted(size_t page, unsigned char there)
{
	if (page >= 20 && page < 120)
		return there;
	return page < NPAGES / 2 ? HMM_DUMMY_AT_RAM : HMM_DUMMY_AT_NONE;
}

TEST_F(migrate, query_agrees_with_pagemap)
{
	static unsigned char vec[NPAGES];
	struct hmm_dummy_query q = {
		.size = sizeof(q), .pidfd = -1, .addr = (uintptr_t)self->p,
		.length = LEN, .vec = (uintptr_t)vec,
	};
	size_t i;
	int gpu;

	memset(self->p, 1, LEN / 2);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p + 20 * PAGE, 100 * PAGE));
	ASSERT_EQ(0, ioctl(self->gpu, HMM_DUMMY_QUERY, &q));
	for (i = 0; i < NPAGES; i++) {
		unsigned char want = wanted(i, HMM_DUMMY_AT_DEVICE);

		ASSERT_EQ(want, vec[i]) TH_LOG("page %zu", i);
		ASSERT_EQ(want == HMM_DUMMY_AT_DEVICE,
			  pages_on_device(0, self->p + i * PAGE, PAGE));
	}
	EXPECT_EQ(100, pages_on_device(0, self->p, LEN));

	/* Of another device those are a peer's. */
	gpu = gpu_open(1);
	ASSERT_LE(0, gpu);
	ASSERT_EQ(0, ioctl(gpu, HMM_DUMMY_QUERY, &q));
	close(gpu);
	for (i = 0; i < NPAGES; i++)
		ASSERT_EQ(wanted(i, HMM_DUMMY_AT_PEER), vec[i])
			TH_LOG("page %zu, for GPU 1", i);
}

/* The range may span VMAs; file pages in it stay where they are. */
TEST_F(migrate, several_vmas)
{
	FILE *f = tmpfile();
	struct hmm_dummy_migrate m;
	char *map;

	ASSERT_NE(NULL, f);
	ASSERT_EQ(0, ftruncate(fileno(f), PAGE));
	fill_pattern(self->p, 8 * PAGE, 5);
	map = mmap(self->p + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, fileno(f), 0);
	ASSERT_EQ(self->p + 2 * PAGE, map);
	map[0] = 1;
	mprotect(self->p + 5 * PAGE, PAGE, PROT_READ);
	ASSERT_EQ(0, gpu_migrate(self->gpu, GPU_SELF, self->p, 8 * PAGE, 0, &m));
	EXPECT_EQ(7, m.migrated);
	EXPECT_EQ(7, pages_on_device(0, self->p, 8 * PAGE));
	EXPECT_EQ(1, map[0]);
	EXPECT_EQ(-1, check_pattern(self->p, 2 * PAGE, 5));
	for (size_t i = 3 * PAGE; i < 8 * PAGE; i++) {
		ASSERT_EQ(pattern(i, 5), (unsigned char)self->p[i]);
	}
	fclose(f);
}

/* Transparent huge pages are split on the way, without loss. */
TEST_F(migrate, thp)
{
	char *huge = (char *)(((uintptr_t)self->p + 2 * MiB - 1) & -(2 * MiB));

	ASSERT_EQ(0, madvise(huge, 2 * MiB, MADV_HUGEPAGE));
	fill_pattern(huge, 2 * MiB, 6);
	ASSERT_EQ(0, gpu_to_device(self->gpu, huge + MiB, MiB));
	EXPECT_EQ(MiB / PAGE, pages_on_device(0, huge, 2 * MiB));
	ASSERT_EQ(0, gpu_to_device(self->gpu, huge, 2 * MiB));
	EXPECT_EQ(2 * MiB / PAGE, pages_on_device(0, huge, 2 * MiB));
	EXPECT_EQ(-1, check_pattern(huge, 2 * MiB, 6));
}

/* Parent and child share device pages after fork; each sees its own writes. */
TEST_F(migrate, fork)
{
	pid_t child;

	fill_pattern(self->p, 64 * PAGE, 7);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, 64 * PAGE));
	child = fork();
	if (!child) {
		if (check_pattern(self->p, 64 * PAGE, 7) != -1)
			_exit(1);
		fill_pattern(self->p, 64 * PAGE, 8);
		_exit(check_pattern(self->p, 64 * PAGE, 8) == -1 ? 0 : 2);
	}
	self->p[PAGE] = 'x';
	EXPECT_EQ(0, wait_child(child));
	EXPECT_EQ('x', self->p[PAGE]);
	self->p[PAGE] = pattern(PAGE, 7);
	EXPECT_EQ(-1, check_pattern(self->p, 64 * PAGE, 7));
}

/* Another process's memory, by pidfd, as root or with the same user. */
TEST_F(migrate, pidfd)
{
	int to_child[2], from_child[2];
	struct hmm_dummy_migrate m;
	pid_t child;
	char *q = self->p;
	char c = 0;
	int pidfd;

	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(from_child));
	child = fork();
	if (!child) {
		fill_pattern(q, 32 * PAGE, 9);
		if (write(from_child[1], "r", 1) != 1 ||
		    read(to_child[0], &c, 1) != 1)
			_exit(1);
		_exit(check_pattern(q, 32 * PAGE, 9) == -1 ? 0 : 2);
	}
	ASSERT_EQ(1, read(from_child[0], &c, 1));
	pidfd = pidfd_open(child);
	ASSERT_LE(0, pidfd);
	ASSERT_EQ(0, gpu_migrate(self->gpu, pidfd, q, 32 * PAGE, 0, &m));
	EXPECT_EQ(32, m.migrated);
	EXPECT_EQ(32, pages_on_device(child, q, 32 * PAGE));
	/* Same address here, and not touched. */
	EXPECT_EQ(0, pages_on_device(0, q, 32 * PAGE));
	EXPECT_EQ(1, write(to_child[1], "g", 1));
	EXPECT_EQ(0, wait_child(child));
	close(pidfd);
}

/* More than the device holds: what fits goes, the rest stays, all is intact. */
TEST_F_TIMEOUT(migrate, device_full, 120)
{
	size_t len = self->before.vram_free + 4 * MiB;
	struct hmm_dummy_migrate m;
	char *big = anon(len);
	size_t i;

	ASSERT_NE(MAP_FAILED, big);
	for (i = 0; i < len; i += PAGE)
		big[i] = i >> 12;
	EXPECT_EQ(-1, gpu_migrate(self->gpu, GPU_SELF, big, len,
				  HMM_DUMMY_MIGRATE_NO_EVICT, &m));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(self->before.vram_free / PAGE, m.migrated);
	EXPECT_EQ(m.migrated, pages_on_device(0, big, len));
	for (i = 0; i < len; i += PAGE) {
		ASSERT_EQ((char)(i >> 12), big[i]);
	}
	munmap(big, len);
}

TEST_HARNESS_MAIN
