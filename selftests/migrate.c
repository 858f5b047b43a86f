// SPDX-License-Identifier: GPL-2.0
/* Migration to the device and back, by all ways.  The data stays the same. */
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
	/* Neither end of the range is on a PMD boundary. */
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
 * A write by the device after MADV_FREE keeps the page from being dropped.  This test runs
 * first and uses many pages: device pages that were used before may still have PG_swapbacked,
 * and reclaim does not treat such pages as free.
 */
TEST_F(migrate, madv_free_then_device)
{
	fill_pattern(self->p, LEN, 10);
	ASSERT_EQ(0, madvise(self->p, LEN, MADV_FREE));
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, LEN));
	ASSERT_EQ(0, gpu_fill(self->gpu, self->p, LEN, 0x77));
	ASSERT_EQ(0, gpu_to_ram(self->gpu, self->p, LEN));
	/* Reclaim may drop clean pages after MADV_FREE, but these are dirty. */
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
	/* A second migration has nothing to do. */
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
	/* A read brings back the page that it touches, and no other. */
	EXPECT_EQ(pattern(7 * PAGE, 4), (unsigned char)self->p[7 * PAGE]);
	EXPECT_EQ(NPAGES - 1, pages_on_device(0, self->p, LEN));
	self->p[9 * PAGE] = pattern(9 * PAGE, 4);
	EXPECT_EQ(NPAGES - 2, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 4));
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
}

/* Pages that were never written appear on the device as zeros. */
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

/*
 * Whether a page migrates: half of the memory exists, and 100 of its pages are on device
 * @there.
 */
static unsigned char wanted(size_t page, unsigned char there)
{
	if (page >= 20 && page < 120)
		return there;
	return page < NPAGES / 2 ? HMM_DUMMY_AT_RAM : HMM_DUMMY_AT_NONE;
}

TEST_F_TIMEOUT(migrate, query_agrees_with_pagemap, 120)
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

	/* To another device, these pages are a peer's. */
	gpu = gpu_open(1);
	ASSERT_LE(0, gpu);
	ASSERT_EQ(0, ioctl(gpu, HMM_DUMMY_QUERY, &q));
	close(gpu);
	for (i = 0; i < NPAGES; i++)
		ASSERT_EQ(wanted(i, HMM_DUMMY_AT_PEER), vec[i])
			TH_LOG("page %zu, for GPU 1", i);
}

/* The range may span several VMAs.  File pages in it stay where they are. */
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

/* Parent and child share device pages after fork().  Each sees its own writes. */
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

/* Migrate another process's memory by pidfd, as root and as the same user. */
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
	/* The same address in this process is not affected. */
	EXPECT_EQ(0, pages_on_device(0, q, 32 * PAGE));
	EXPECT_EQ(1, write(to_child[1], "g", 1));
	EXPECT_EQ(0, wait_child(child));
	close(pidfd);
}

/* More memory than the device holds: as much as fits moves, the rest stays, all data is right. */
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

#define HUGE	(2 * MiB)

/* The state of a page before a migration. */
enum page_kind { IN_RAM, HOLE, ZERO, HERE, ELSEWHERE, KINDS, FILE_HOLE = KINDS, FILE_READ };

/* Outcomes of a migration to the device that leaves pages on other devices, and to RAM. */
static const unsigned char told[][2] = {
	[IN_RAM] = { HMM_DUMMY_MOVED, HMM_DUMMY_THERE },
	[HOLE] = { HMM_DUMMY_MOVED, HMM_DUMMY_ABSENT },
	[ZERO] = { HMM_DUMMY_MOVED, HMM_DUMMY_THERE },
	[HERE] = { HMM_DUMMY_THERE, HMM_DUMMY_MOVED },
	[ELSEWHERE] = { HMM_DUMMY_OTHER, HMM_DUMMY_OTHER },
	[FILE_HOLE] = { HMM_DUMMY_ABSENT, HMM_DUMMY_ABSENT },
	[FILE_READ] = { HMM_DUMMY_NOT_ANON, HMM_DUMMY_THERE },
};

#define MIXED_CHUNKS	5
#define MIXED_PAGES	(MIXED_CHUNKS * HUGE / PAGE)

/*
 * Chunks of one kind and of several, in any order.  The outcome of a chunk must not depend on
 * the chunk before it.  The last but one has file pages in its middle.
 */
static void mixed_kinds(unsigned char *kind, uint64_t *state)
{
	for (size_t i = 0; i < MIXED_PAGES;) {
		size_t end = (i / (HUGE / PAGE) + 1) * (HUGE / PAGE);
		size_t run = random_next(state) % 2 ? HUGE / PAGE : random_next(state) % 64 + 1;

		/* A run ends where its chunk ends. */
		for (unsigned char k = random_next(state) % KINDS; run-- && i < end; i++)
			kind[i] = k;
	}
	for (size_t i = 0; i < 20; i++)
		kind[MIXED_PAGES - 700 + i] = i % 3 ? FILE_READ : FILE_HOLE;
}

/* Migrate all runs of one kind to a device. */
static int mixed_place(int gpu, char *p, const unsigned char *kind, unsigned char which)
{
	for (size_t i = 0, end; i < MIXED_PAGES; i = end) {
		for (end = i + 1; end < MIXED_PAGES && kind[end] == kind[i]; end++)
			;
		if (kind[i] == which && gpu_to_device(gpu, p + i * PAGE, (end - i) * PAGE))
			return -1;
	}
	return 0;
}

static char *mixed_make(int here, int elsewhere, int file, const unsigned char *kind)
{
	char *p = anon_huge(MIXED_CHUNKS * HUGE, MADV_NOHUGEPAGE);
	volatile char sink;

	if (mmap(p + (MIXED_PAGES - 700) * PAGE, 20 * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED)
		return NULL;
	for (size_t i = 0; i < MIXED_PAGES; i++) {
		if (kind[i] == IN_RAM || kind[i] == HERE || kind[i] == ELSEWHERE)
			p[i * PAGE] = i % 251 + 1;
		else if (kind[i] == ZERO || kind[i] == FILE_READ)
			sink = p[i * PAGE];
	}
	(void)sink;
	/* mprotect() splits the VMA in two. */
	mprotect(p + 600 * PAGE, PAGE, PROT_READ);
	return mixed_place(here, p, kind, HERE) || mixed_place(elsewhere, p, kind, ELSEWHERE) ?
	       NULL : p;
}

TEST_F_TIMEOUT(migrate, outcomes_in_chunks, 240)
{
	static unsigned char kind[MIXED_PAGES], vec[MIXED_PAGES];
	struct hmm_dummy_migrate m = {
		.size = sizeof(m), .pidfd = -1, .vec = (uintptr_t)vec,
		.length = (MIXED_PAGES - 5) * PAGE,
	};
	int other = gpu_open(1), wrong;
	FILE *f = tmpfile();

	for (unsigned int round = 0; round < 12; round++) {
		bool to_ram = round % 2;
		uint64_t state = random_start(round, 0);
		char *p;

		/* Empty the page cache: reading one page maps its cached neighbours as well. */
		ASSERT_EQ(0, ftruncate(fileno(f), 0) | ftruncate(fileno(f), 20 * PAGE));
		mixed_kinds(kind, &state);
		p = mixed_make(self->gpu, other, fileno(f), kind);
		ASSERT_NE(NULL, p);
		/* The range begins and ends inside a chunk. */
		m.addr = (uintptr_t)(p + 3 * PAGE);
		m.flags = to_ram ? HMM_DUMMY_MIGRATE_TO_RAM : HMM_DUMMY_MIGRATE_ONLY_RAM;
		memset(vec, 0xee, sizeof(vec));
		ASSERT_EQ(0, ioctl(self->gpu, HMM_DUMMY_MIGRATE, &m));
		wrong = 0;
		for (size_t i = 3; i < MIXED_PAGES - 2; i++) {
			unsigned char k = kind[i];

			if (vec[i - 3] != told[k][to_ram] && !wrong++)
				TH_LOG("round %u, page %zu of kind %u is told %u", round, i, k,
				       vec[i - 3]);
		}
		EXPECT_EQ(0, wrong);
		EXPECT_EQ(0, m.failed);
		EXPECT_EQ(MIXED_PAGES - 5, m.migrated + m.skipped);
		for (size_t i = 0; i < MIXED_PAGES; i++) {
			bool data = kind[i] == IN_RAM || kind[i] == HERE || kind[i] == ELSEWHERE;

			ASSERT_EQ(data ? i % 251 + 1 : 0, (unsigned char)p[i * PAGE]);
		}
		munmap(p, MIXED_CHUNKS * HUGE);
	}
	fclose(f);
	close(other);
}

/* A hole in the second chunk, behind a first chunk that has all of its pages. */
TEST_F(migrate, hole_in_second_chunk)
{
	char *p = anon_huge(2 * HUGE, MADV_NOHUGEPAGE);
	unsigned char vec[2 * HUGE / PAGE];
	struct hmm_dummy_migrate m = {
		.size = sizeof(m), .pidfd = -1, .vec = (uintptr_t)vec,
		.flags = HMM_DUMMY_MIGRATE_TO_RAM, .addr = (uintptr_t)p, .length = 2 * HUGE,
	};

	memset(p, 1, 2 * HUGE);
	ASSERT_EQ(0, gpu_to_device(self->gpu, p, 2 * HUGE));
	ASSERT_EQ(0, madvise(p + 519 * PAGE, PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, ioctl(self->gpu, HMM_DUMMY_MIGRATE, &m));
	for (size_t i = 0; i < 2 * HUGE / PAGE; i++) {
		ASSERT_EQ(i == 519 ? HMM_DUMMY_ABSENT : HMM_DUMMY_MOVED, vec[i]);
	}
	EXPECT_EQ(0, m.failed);
	EXPECT_EQ(1, m.skipped);
	munmap(p, 2 * HUGE);
}

TEST_HARNESS_MAIN
