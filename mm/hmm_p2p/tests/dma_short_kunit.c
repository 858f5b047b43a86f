// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of copies for which the DMA API has too few addresses or bounce buffers: such a
 * copy is made in parts, and waits a second for the first page of a part.
 */
#include <linux/mman.h>

#include "fake_dma.h"

#define NR_COPIED	8UL
#define NO_LIMIT	ULONG_MAX

static unsigned long room;		/* pages that the DMA API can map at a time */
static unsigned long nr_refused;	/* extents that it could not */
static unsigned long refusals;		/* after so many there is no limit any more */
/* The test makes one migration only.  Its batches stay until it ends: */
static bool one_migration;
static struct hmm_p2p_batch *in_parts;	/* the last batch that was refused some */
static unsigned long nr_beside;		/* extents of others before it was mapped to its end */

static dma_addr_t map_if_room(struct hmm_p2p_batch *b, phys_addr_t phys, size_t bytes)
{
	struct fake *f = b->engine->desc.priv;

	nr_beside += in_parts && in_parts != b && in_parts->dma_next < in_parts->job.nr;
	if (pages_left(f) + b->dma->nr_pages + (bytes >> PAGE_SHIFT) > room) {
		if (++nr_refused == refusals)
			room = NO_LIMIT;
		if (one_migration)
			in_parts = b;
		return DMA_MAPPING_ERROR;
	}
	return fake_map_extent(b, phys, bytes, map_if_room);
}

/* From here on the DMA API has room for @nr pages. */
static void limit_room(struct kunit *test, unsigned long nr)
{
	room = nr;
	nr_refused = 0;
	refusals = NO_LIMIT;
	one_migration = false;
	in_parts = NULL;
	nr_beside = 0;
	kunit_activate_static_stub(test, hmm_p2p_dma_map_extent, map_if_room);
}

static void no_limit(struct kunit *test)
{
	kunit_deactivate_static_stub(test, hmm_p2p_dma_map_extent);
}

/* Reads page @i as a system call does.  Return: 0, or -ENOMEM for OOM, -EFAULT for SIGBUS. */
static long touch(unsigned long start, unsigned long i)
{
	struct page *page;
	long ret = get_user_pages_unlocked(start + i * PAGE_SIZE, 1, &page, 0);

	if (ret == 1)
		put_page(page);
	return ret == 1 ? 0 : ret;
}

/* One page at a time, each of them once: by request, by eviction and by a fault. */
static void short_page_by_page(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start = memory_create(test, NR_COPIED);

	limit_room(test, 1);
	memory_place(test, start, NR_COPIED);
	KUNIT_EXPECT_EQ(test, NR_COPIED, f->nr_copies);
	KUNIT_EXPECT_EQ(test, NR_COPIED, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, to_ram(f, start, 3));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 3));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_evict(f->engine, 0, NR_COPIED * PAGE_SIZE, NULL));
	KUNIT_EXPECT_EQ(test, NR_COPIED, f->freed);
	KUNIT_EXPECT_EQ(test, 2 * NR_COPIED, f->nr_copies);
	KUNIT_EXPECT_EQ(test, 2 * NR_COPIED, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_FALSE(test, f->dma_outside);
	no_limit(test);
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, NR_COPIED));
}

/* A part has holes, too, and the parts of a driver that copies by itself. */
static void short_with_holes(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start = memory_create(test, NR_COPIED);

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(start + 3 * PAGE_SIZE, PAGE_SIZE));
	KUNIT_ASSERT_EQ(test, start + 3 * PAGE_SIZE,
			vm_mmap(NULL, start + 3 * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	memset(page_address(f->blocks[0]), 0xff, NR_COPIED * PAGE_SIZE);
	f->async = true;
	complete(&f->copy_go);
	limit_room(test, 2);
	memory_place(test, start, NR_COPIED);
	KUNIT_EXPECT_LE(test, 4, f->nr_copies);
	KUNIT_EXPECT_EQ(test, NR_COPIED - 1, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	no_limit(test);
	KUNIT_EXPECT_EQ(test, 0, memory_value(start, 3));
	KUNIT_EXPECT_EQ(test, 1, nr_wrong(start, NR_COPIED));
}

/* A huge page is not split for it. */
static void short_huge(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start = memory_create_huge(test, 0), nr = 16;
	struct hmm_p2p_result result;

	limit_room(test, nr);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_evict(f->engine, 0, PMD_SIZE, &result));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, result.migrated);
	KUNIT_EXPECT_LE(test, WINDOW_PAGES / nr, f->nr_copies);
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	no_limit(test);
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, WINDOW_PAGES));
}

/* The next chunk of a migration keeps nothing that the parts of this one may have to wait for. */
static void short_with_chunk_behind(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long nr = 2 * WINDOW_PAGES, start = memory_create(test, nr);

	f->async = true;
	complete(&f->copy_go);
	limit_room(test, WINDOW_PAGES / 2);
	one_migration = true;
	memory_place(test, start, nr);
	KUNIT_EXPECT_EQ(test, 0, nr_beside);
	KUNIT_EXPECT_LT(test, 2, f->nr_copies);
	KUNIT_EXPECT_EQ(test, nr, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	no_limit(test);
}

/* The copy of a part fails: none of the pages move. */
static void short_part_fails(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start = memory_create(test, NR_COPIED);
	struct hmm_p2p_result result;

	limit_room(test, 1);
	f->copy_error = -EBUSY;
	result.vec = NULL;
	KUNIT_EXPECT_EQ(test, -EBUSY, memory_to_device(f, start, NR_COPIED, 0, &result));
	KUNIT_EXPECT_EQ(test, NR_COPIED, result.count[HMM_P2P_COPY_FAILED]);
	KUNIT_EXPECT_EQ(test, 1, f->nr_copies);
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	f->copy_error = 0;
	no_limit(test);
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, NR_COPIED));
}

/* Other users of the DMA API give back theirs after a while. */
static void short_for_a_while(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start = memory_create_placed(test, NR_COPIED), i;

	for (i = 0; i < 2; i++) {
		limit_room(test, 0);
		refusals = 5;
		/* The second one is the fault of a process. */
		KUNIT_EXPECT_EQ(test, 0, i ? touch(start, i) : to_ram(f, start, 1));
		KUNIT_EXPECT_EQ(test, 5, nr_refused);
		no_limit(test);
		KUNIT_EXPECT_EQ(test, i + 1, f->freed);
	}
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, NR_COPIED));
}

/* They do not: the pages stay, and a process that touches one is told OOM. */
static void short_for_long(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start = memory_create_placed(test, NR_COPIED);

	limit_room(test, 0);
	KUNIT_EXPECT_EQ(test, -EBUSY, to_ram(f, start, NR_COPIED));
	KUNIT_EXPECT_EQ(test, -EBUSY,
			hmm_p2p_evict(f->engine, 0, NR_COPIED * PAGE_SIZE, NULL));
	KUNIT_EXPECT_LT(test, 8, nr_refused);
	KUNIT_EXPECT_EQ(test, -ENOMEM, touch(start, 0));
	no_limit(test);
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	/* What the driver says is another matter. */
	f->copy_error = -EBUSY;
	KUNIT_EXPECT_EQ(test, -EFAULT, touch(start, 0));
	f->copy_error = 0;
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, NR_COPIED));
}

/* Neither waiting nor trying again helps a device that does not reach RAM any more. */
static void short_for_ever(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	struct device *dev = &f->pdev->dev;
	unsigned long start = memory_create_placed(test, 1);

	*dev->dma_mask = DMA_BIT_MASK(24);
	dev->dma_io_tlb_mem = NULL;
	limit_room(test, 0);
	KUNIT_EXPECT_EQ(test, -EIO, to_ram(f, start, 1));
	KUNIT_EXPECT_EQ(test, 1, nr_refused);
	KUNIT_EXPECT_EQ(test, -EFAULT, touch(start, 0));
	no_limit(test);
	*dev->dma_mask = DMA_BIT_MASK(64);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 0));
}

static struct kunit_case hmm_p2p_dma_short_cases[] = {
	KUNIT_CASE(short_page_by_page),
	KUNIT_CASE(short_with_holes),
	KUNIT_CASE(short_huge),
	KUNIT_CASE(short_with_chunk_behind),
	KUNIT_CASE(short_part_fails),
	KUNIT_CASE(short_for_a_while),
	KUNIT_CASE_SLOW(short_for_long),
	KUNIT_CASE(short_for_ever),
	{}
};

static struct kunit_suite hmm_p2p_dma_short_suite = {
	.name = "hmm_p2p_dma_short",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_dma_short_cases,
};

kunit_test_suite(hmm_p2p_dma_short_suite);
