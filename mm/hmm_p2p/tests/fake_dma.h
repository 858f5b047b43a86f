/* SPDX-License-Identifier: GPL-2.0 */
/* What KUnit suites of copies by DMA share. */
#ifndef _HMM_P2P_TESTS_FAKE_DMA_H
#define _HMM_P2P_TESTS_FAKE_DMA_H

#include <kunit/static_stub.h>
#include <linux/dma-mapping.h>
#include <linux/platform_device.h>
#include <linux/swiotlb.h>

#include "fake.h"
#include "../migrate/internal.h"

/* Register the fake of the test.  A device with this DMA mask copies. */
static inline struct fake *fake_register_dma(struct kunit *test, u64 mask)
{
	struct fake *f = test->priv;

	fake_use_dma(test, f, mask);
	fake_register(test);
	return f;
}

/* Let all RAM be bounced for the device of @f, as if its mask did not reach any. */
static inline void fake_bounce_all(struct kunit *test, struct fake *f)
{
	struct io_tlb_mem *mem = kunit_kzalloc(test, sizeof(*mem), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mem);
	*mem = *f->pdev->dev.dma_io_tlb_mem;
	KUNIT_ASSERT_NE(test, 0, mem->nslabs);
	mem->force_bounce = true;
	f->pdev->dev.dma_io_tlb_mem = mem;
}

/* Pages that were mapped so far, and those of them that still are. */
static inline u64 pages_mapped(struct fake *f)
{
	return hmm_p2p_engine_sum(f->engine, HMM_P2P_E_DMA_MAPPED);
}

static inline u64 pages_left(struct fake *f)
{
	return pages_mapped(f) - hmm_p2p_engine_sum(f->engine, HMM_P2P_E_DMA_UNMAPPED);
}

static inline int to_ram(struct fake *f, unsigned long start, unsigned long nr)
{
	return hmm_p2p_migrate_to_ram(f->engine, current->mm, start, start + nr * PAGE_SIZE,
				      NULL);
}

/* How many pages do not have what they had at first: it reads all of them. */
static inline unsigned long nr_wrong(unsigned long start, unsigned long nr)
{
	unsigned long i, wrong = 0;

	for (i = 0; i < nr; i++)
		wrong += !memory_right(start, i);
	return wrong;
}

typedef dma_addr_t (*fake_map_extent_t)(struct hmm_p2p_batch *b, phys_addr_t phys,
					size_t bytes);

/* For @stub of hmm_p2p_dma_map_extent(): map all the same. */
static inline dma_addr_t fake_map_extent(struct hmm_p2p_batch *b, phys_addr_t phys,
					 size_t bytes, fake_map_extent_t stub)
{
	struct kunit *test = kunit_get_current_test();
	dma_addr_t addr;

	kunit_deactivate_static_stub(test, hmm_p2p_dma_map_extent);
	addr = hmm_p2p_dma_map_extent(b, phys, bytes);
	kunit_activate_static_stub(test, hmm_p2p_dma_map_extent, *stub);
	return addr;
}

#endif /* _HMM_P2P_TESTS_FAKE_DMA_H */
