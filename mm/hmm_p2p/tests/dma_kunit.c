// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of copies by DMA (migrate/dma.c): what makes one piece and what does not, and
 * that all that was mapped is unmapped, whatever becomes of the copy.  Copies that end late are
 * in late_kunit.c, and those in parts in dma_short_kunit.c.
 */
#include "fake_dma.h"

#define NR_COPIED	8UL

/* What is added, and the pieces that it makes. */
struct piece_case {
	const char *name;
	size_t max_piece;
	unsigned long boundary;
	struct hmm_p2p_dma_copy in[3];
	struct hmm_p2p_dma_copy out[5];
};

static const struct piece_case piece_cases[] = {
	{
		.name = "neighbours on both sides",
		.in = { { 0x1000, 0x8000, 0x1000 }, { 0x2000, 0x9000, 0x2000 } },
		.out = { { 0x1000, 0x8000, 0x3000 } },
	}, {
		.name = "a gap in device memory",
		.in = { { 0x1000, 0x8000, 0x1000 }, { 0x3000, 0x9000, 0x1000 } },
		.out = { { 0x1000, 0x8000, 0x1000 }, { 0x3000, 0x9000, 0x1000 } },
	}, {
		.name = "a gap in DMA space",
		.in = { { 0x1000, 0x8000, 0x1000 }, { 0x2000, 0xa000, 0x1000 } },
		.out = { { 0x1000, 0x8000, 0x1000 }, { 0x2000, 0xa000, 0x1000 } },
	}, {
		.name = "in descending order",
		.in = { { 0x2000, 0x9000, 0x1000 }, { 0x1000, 0x8000, 0x1000 } },
		.out = { { 0x2000, 0x9000, 0x1000 }, { 0x1000, 0x8000, 0x1000 } },
	}, {
		.name = "holes",
		.in = { { 0x1000, 0, 0x1000, true }, { 0x2000, 0, 0x1000, true },
			{ 0x4000, 0, 0x1000, true } },
		.out = { { 0x1000, 0, 0x2000, true }, { 0x4000, 0, 0x1000, true } },
	}, {
		.name = "a hole between pages",
		.in = { { 0x1000, 0x8000, 0x1000 }, { 0x2000, 0x9000, 0x1000, true },
			{ 0x3000, 0xa000, 0x1000 } },
		.out = { { 0x1000, 0x8000, 0x1000 }, { 0x2000, 0x9000, 0x1000, true },
			 { 0x3000, 0xa000, 0x1000 } },
	}, {
		.name = "as long as the device can take",
		.max_piece = 0x2000,
		.in = { { 0x1000, 0x8000, 0x1000 }, { 0x2000, 0x9000, 0x3000 } },
		.out = { { 0x1000, 0x8000, 0x2000 }, { 0x3000, 0xa000, 0x2000 } },
	}, {
		.name = "less than a page",
		.max_piece = 0x800,
		.in = { { 0x1000, 0x8000, 0x1000 }, { 0x2000, 0x9000, 0x1000 } },
		.out = { { 0x1000, 0x8000, 0x800 }, { 0x1800, 0x8800, 0x800 },
			 { 0x2000, 0x9000, 0x800 }, { 0x2800, 0x9800, 0x800 } },
	}, {
		.name = "a hole is cleared in as many",
		.max_piece = 0x2000,
		.in = { { 0x1000, 0, 0x3000, true } },
		.out = { { 0x1000, 0, 0x2000, true }, { 0x3000, 0, 0x1000, true } },
	}, {
		.name = "over a boundary",
		.boundary = 0xffff,
		.in = { { 0x1000, 0xe000, 0x3000 } },
		.out = { { 0x1000, 0xe000, 0x2000 }, { 0x3000, 0x10000, 0x1000 } },
	}, {
		.name = "up to a boundary",
		.boundary = 0xffff,
		.in = { { 0x1000, 0xe000, 0x2000 }, { 0x3000, 0x10000, 0x1000 } },
		.out = { { 0x1000, 0xe000, 0x2000 }, { 0x3000, 0x10000, 0x1000 } },
	},
};

KUNIT_ARRAY_PARAM_DESC(piece, piece_cases, name);

static void dma_pieces(struct kunit *test)
{
	const struct piece_case *c = test->param_value;
	struct hmm_p2p_dma_copy pieces[ARRAY_SIZE(c->out)] = {};
	struct hmm_p2p_dma dma = {
		.max_piece = c->max_piece ?: SZ_1M, .boundary = c->boundary ?: ULONG_MAX,
		.pieces = pieces,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(c->in) && c->in[i].bytes; i++)
		hmm_p2p_dma_add_pieces(&dma, c->in[i]);
	for (i = 0; i < ARRAY_SIZE(c->out) && c->out[i].bytes; i++) {
		KUNIT_EXPECT_EQ(test, c->out[i].offset, pieces[i].offset);
		if (!c->out[i].clear)
			KUNIT_EXPECT_EQ(test, c->out[i].addr, pieces[i].addr);
		KUNIT_EXPECT_EQ(test, c->out[i].bytes, pieces[i].bytes);
		KUNIT_EXPECT_EQ(test, c->out[i].clear, pieces[i].clear);
	}
	KUNIT_EXPECT_EQ(test, i, dma.nr);
}

/* There by request, back by request, by a fault and by eviction. */
static void dma_copies(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start = memory_create_placed(test, NR_COPIED);

	KUNIT_EXPECT_EQ(test, NR_COPIED, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_LE(test, f->nr_dma, f->nr_copied);
	KUNIT_EXPECT_EQ(test, 0, f->nr_clear);
	KUNIT_EXPECT_EQ(test, 0, to_ram(f, start, 2));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 2));
	KUNIT_EXPECT_EQ(test, NR_COPIED + 3, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_evict(f->engine, 0, NR_COPIED * PAGE_SIZE, NULL));
	KUNIT_EXPECT_EQ(test, 2 * NR_COPIED, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, NR_COPIED));
	KUNIT_EXPECT_FALSE(test, f->dma_outside);
	KUNIT_EXPECT_EQ(test, 0, f->nr_bounced);
}

/* Pages that no task has touched are cleared on the device: nothing is mapped for them. */
static void dma_holes(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start;

	memset(page_address(f->blocks[0]), 0xff, 4 * PAGE_SIZE);
	start = memory_create(test, 1) + PAGE_SIZE;
	memory_place(test, start, 3);
	KUNIT_EXPECT_EQ(test, 0, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 1, f->nr_dma);
	KUNIT_EXPECT_EQ(test, 1, f->nr_clear);
	KUNIT_EXPECT_EQ(test, 0, memory_value(start, 2));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
}

/* RAM that the device cannot reach is copied through a bounce buffer, in the right direction. */
static void dma_bounces(struct kunit *test)
{
	unsigned long start, nr = WINDOW_PAGES;
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(32));

	start = memory_create_placed(test, nr);
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_EQ(test, 0, to_ram(f, start, nr));
	KUNIT_EXPECT_EQ(test, 2 * nr, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, nr));
	KUNIT_EXPECT_EQ(test, f->nr_high, f->nr_bounced);
	kunit_info(test, "%u bounced\n", f->nr_bounced);
}

/* The same for all RAM, wherever it is. */
static void dma_bounces_all(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start = memory_create(test, NR_COPIED);

	fake_bounce_all(test, f);
	memory_place(test, start, NR_COPIED);
	KUNIT_EXPECT_EQ(test, f->nr_copied, f->nr_bounced);
	KUNIT_EXPECT_EQ(test, 0, to_ram(f, start, NR_COPIED));
	KUNIT_EXPECT_EQ(test, 2 * NR_COPIED, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, NR_COPIED));
}

/* A copy that fails, at once and later. */
static void dma_copy_fails(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start = memory_create(test, NR_COPIED);

	f->copy_error = -EIO;
	KUNIT_EXPECT_EQ(test, -EIO, memory_to_device(f, start, NR_COPIED, 0, NULL));
	KUNIT_EXPECT_EQ(test, NR_COPIED, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	f->async = true;
	f->nr_copies = 0;
	complete(&f->copy_go);
	KUNIT_EXPECT_EQ(test, -EIO, memory_to_device(f, start, NR_COPIED, 0, NULL));
	KUNIT_EXPECT_EQ(test, 2 * NR_COPIED, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_TRUE(test, memory_right(start, NR_COPIED - 1));
	f->copy_error = 0;
}

static struct fake *holder;	/* whose pages were mapped while their copy was under way */

static void see_mapped_and_go_on(struct fake *f)
{
	wait_for_completion(&f->copy_begun);
	holder = pages_left(f) == NR_COPIED ? f : NULL;
	complete(&f->copy_go);
}

static void dma_mapped_until_it_ends(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start;
	struct job job;

	start = memory_create(test, NR_COPIED);
	f->async = true;
	job_call(test, &job, see_mapped_and_go_on, f);
	memory_place(test, start, NR_COPIED);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_PTR_EQ(test, f, holder);
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_TRUE(test, memory_right(start, NR_COPIED - 1));
}

static unsigned int nr_asked;
static enum dma_data_direction seen_dir;

/* Each piece of the job is one extent.  The last one gets an address within a page. */
static dma_addr_t misplace_last_extent(struct hmm_p2p_batch *b, phys_addr_t phys, size_t bytes)
{
	dma_addr_t addr = fake_map_extent(b, phys, bytes, misplace_last_extent);

	seen_dir = b->dma->dir;
	return ++nr_asked == b->job.nr ? addr + 512 : addr;
}

/* Nothing migrates, what was mapped until then is unmapped, and the next time it works. */
static void dma_map_fails(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	struct hmm_p2p_result result = {};
	unsigned long start = memory_create(test, NR_COPIED);

	/* A device page in the middle is in use, or all of it might be one extent. */
	__set_bit(NR_COPIED / 2, f->used);
	nr_asked = 0;
	kunit_activate_static_stub(test, hmm_p2p_dma_map_extent, misplace_last_extent);
	KUNIT_EXPECT_EQ(test, -EIO, memory_to_device(f, start, NR_COPIED, 0, &result));
	kunit_deactivate_static_stub(test, hmm_p2p_dma_map_extent);
	KUNIT_EXPECT_LE(test, 2, nr_asked);
	KUNIT_EXPECT_EQ(test, DMA_TO_DEVICE, seen_dir);
	KUNIT_EXPECT_EQ(test, 0, f->nr_copies);
	KUNIT_EXPECT_EQ(test, NR_COPIED, result.count[HMM_P2P_COPY_FAILED]);
	KUNIT_EXPECT_NE(test, 0, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_EQ(test, NR_COPIED, f->freed);
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, NR_COPIED));

	memory_place(test, start, NR_COPIED);
	nr_asked = 0;
	kunit_activate_static_stub(test, hmm_p2p_dma_map_extent, misplace_last_extent);
	KUNIT_EXPECT_EQ(test, -EIO, to_ram(f, start, NR_COPIED));
	kunit_deactivate_static_stub(test, hmm_p2p_dma_map_extent);
	KUNIT_EXPECT_EQ(test, DMA_FROM_DEVICE, seen_dir);
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, NR_COPIED));
	__clear_bit(NR_COPIED / 2, f->used);
}

static dma_addr_t next_addr;

/* As behind an IOMMU: one range of addresses for all of the copy. */
static dma_addr_t in_one_range(struct hmm_p2p_batch *b, phys_addr_t phys, size_t bytes)
{
	dma_addr_t addr = next_addr;

	next_addr += bytes;
	return addr;
}

static void dma_one_range(struct kunit *test)
{
	unsigned long start, nr = 64;
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));

	start = memory_create(test, nr);
	f->copy_error = -EIO;
	next_addr = SZ_1G;
	kunit_activate_static_stub(test, hmm_p2p_dma_map_extent, in_one_range);
	KUNIT_EXPECT_EQ(test, -EIO, memory_to_device(f, start, nr, 0, NULL));
	KUNIT_EXPECT_EQ(test, 1, f->nr_dma);
	/* Two runs of device memory, and each of them is two of the longest pieces. */
	__set_bit(nr / 2, f->used);
	dma_set_max_seg_size(&f->pdev->dev, nr / 4 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, -EIO, memory_to_device(f, start, nr, 0, NULL));
	KUNIT_EXPECT_EQ(test, 4, f->nr_dma);
	/* Pieces of half a page need room for twice as many. */
	dma_set_max_seg_size(&f->pdev->dev, PAGE_SIZE - 1);
	KUNIT_EXPECT_EQ(test, -EIO, memory_to_device(f, start, nr, 0, NULL));
	KUNIT_EXPECT_EQ(test, 2 * nr, f->nr_dma);
	kunit_deactivate_static_stub(test, hmm_p2p_dma_map_extent);
	__clear_bit(nr / 2, f->used);
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_FALSE(test, f->dma_outside);
	KUNIT_EXPECT_EQ(test, next_addr, SZ_1G + 3 * nr * PAGE_SIZE);

	/* Addresses within a page are refused, and unmapped. */
	next_addr = SZ_1G + 512;
	kunit_activate_static_stub(test, hmm_p2p_dma_map_extent, in_one_range);
	KUNIT_EXPECT_EQ(test, -EIO, memory_to_device(f, start, nr, 0, NULL));
	kunit_deactivate_static_stub(test, hmm_p2p_dma_map_extent);
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	f->copy_error = 0;
}

/* Another device's memory, which the bus master does not reach: that one's engine copies. */
static void dma_from_unreachable(struct kunit *test)
{
	struct fake *f = test->priv, *from;
	unsigned long start;

	fake_use_dma(test, f, DMA_BIT_MASK(64));
	fake_register(test);
	from = fake_second_init(test);
	fake_use_dma(test, from, DMA_BIT_MASK(64));
	KUNIT_ASSERT_EQ(test, 0, fake_try_register(from));
	start = memory_create(test, NR_COPIED);
	memory_place_on(test, from, start, NR_COPIED);
	memory_place_on(test, f, start, NR_COPIED);
	KUNIT_EXPECT_EQ(test, NR_COPIED, from->freed);
	KUNIT_EXPECT_EQ(test, 2 * NR_COPIED, pages_mapped(from));
	KUNIT_EXPECT_EQ(test, 0, pages_left(from));
	KUNIT_EXPECT_EQ(test, NR_COPIED, pages_mapped(f));
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_EQ(test, 0, nr_wrong(start, NR_COPIED));
	fake_second_exit(test, from);
}

static void dma_engine_refused(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_engine_desc *desc = &f->engine_desc;
	struct io_tlb_mem *bouncer;
	u64 *mask;

	desc->dma_copies = true;
	KUNIT_EXPECT_EQ(test, -EINVAL, fake_try_register(f));
	fake_use_dma(test, f, DMA_BIT_MASK(64));
	mask = f->pdev->dev.dma_mask;
	f->pdev->dev.dma_mask = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, fake_try_register(f));
	f->pdev->dev.dma_mask = mask;
	/* RAM is beyond the mask, without bounce buffers, and with some beyond it and within. */
	*mask = DMA_BIT_MASK(24);
	bouncer = f->pdev->dev.dma_io_tlb_mem;
	f->pdev->dev.dma_io_tlb_mem = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, fake_try_register(f));
	f->pdev->dev.dma_io_tlb_mem = bouncer;
	KUNIT_EXPECT_EQ(test, -EINVAL, fake_try_register(f));
	*mask = DMA_BIT_MASK(32);
	KUNIT_EXPECT_EQ(test, 0, fake_try_register(f));
}

/* A driver that does not ask for DMA addresses has nothing mapped, even with a device. */
static void dma_not_wanted(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;

	fake_use_dma(test, f, DMA_BIT_MASK(64));
	f->engine_desc.dma_copies = false;
	f->pdev = NULL;
	fake_register(test);
	start = memory_create_placed(test, NR_COPIED);
	KUNIT_EXPECT_EQ(test, 0, f->nr_dma);
	KUNIT_EXPECT_EQ(test, 0, pages_mapped(f));
	KUNIT_EXPECT_TRUE(test, memory_right(start, NR_COPIED - 1));
}

static struct kunit_case hmm_p2p_dma_cases[] = {
	KUNIT_CASE_PARAM(dma_pieces, piece_gen_params),
	KUNIT_CASE(dma_copies),
	KUNIT_CASE(dma_holes),
	KUNIT_CASE(dma_bounces),
	KUNIT_CASE(dma_bounces_all),
	KUNIT_CASE(dma_copy_fails),
	KUNIT_CASE(dma_mapped_until_it_ends),
	KUNIT_CASE(dma_map_fails),
	KUNIT_CASE(dma_one_range),
	KUNIT_CASE(dma_from_unreachable),
	KUNIT_CASE(dma_engine_refused),
	KUNIT_CASE(dma_not_wanted),
	{}
};

static struct kunit_suite hmm_p2p_dma_suite = {
	.name = "hmm_p2p_dma",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_dma_cases,
};

kunit_test_suite(hmm_p2p_dma_suite);
