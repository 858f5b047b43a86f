// SPDX-License-Identifier: GPL-2.0
/*
 * A fake bus master for the KUnit suites.  There is no hardware: the CPU copies, at the memory that
 * a DMA address stands for.  There is no IOMMU either, so an address is that of RAM or of a bounce
 * buffer.
 */
#include <kunit/platform_device.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/platform_device.h>
#include <linux/string.h>

#include "fake.h"

void fake_use_dma(struct kunit *test, struct fake *f, u64 mask)
{
	f->pdev = kunit_platform_device_alloc(test, "hmm_p2p_kunit", PLATFORM_DEVID_AUTO);
	KUNIT_ASSERT_NOT_NULL(test, f->pdev);
	KUNIT_ASSERT_EQ(test, 0, kunit_platform_device_add(test, f->pdev));
	KUNIT_ASSERT_EQ(test, 0, dma_set_mask_and_coherent(&f->pdev->dev, mask));
	dma_set_max_seg_size(&f->pdev->dev, UINT_MAX);
	f->engine_desc.dev = &f->pdev->dev;
	f->engine_desc.dma_copies = true;
}

static void *fake_dma_kva(struct fake *f, dma_addr_t addr)
{
	return phys_to_virt(dma_to_phys(&f->pdev->dev, addr));
}

/* Whether one of the pieces begins where the RAM of @c does. */
static bool is_in_place(struct fake *f, const struct hmm_p2p_copy_job *job,
			const struct hmm_p2p_copy *c)
{
	phys_addr_t ram = page_to_phys(c->ram_page);
	unsigned int i;

	for (i = 0; i < job->nr_dma; i++) {
		const struct hmm_p2p_dma_copy *piece = &job->dma[i];
		phys_addr_t phys = dma_to_phys(&f->pdev->dev, piece->addr);

		if (!piece->clear && ram >= phys && ram - phys < piece->bytes)
			return true;
	}
	return false;
}

static bool is_of_copy(const struct hmm_p2p_copy_job *job, const struct hmm_p2p_dma_copy *piece)
{
	unsigned int i;

	for (i = 0; i < job->nr; i++) {
		u64 offset = hmm_p2p_page_offset(job->copies[i].dev_page);

		if (piece->offset >= offset &&
		    piece->offset - offset < job->copies[i].nr_pages * PAGE_SIZE)
			return true;
	}
	return false;
}

/* What the driver is given. */
void fake_see_dma(struct fake *f, struct hmm_p2p_copy_job *job)
{
	unsigned int i;

	f->nr_dma = job->nr_dma;
	f->nr_copied = job->nr;
	f->nr_clear = 0;
	for (i = 0; i < job->nr_dma; i++) {
		f->nr_clear += job->dma[i].clear;
		f->dma_outside |= !is_of_copy(job, &job->dma[i]);
	}
}

int fake_copy_dma(struct fake *f, struct hmm_p2p_copy_job *job)
{
	unsigned int i;

	for (i = 0; i < job->nr; i++) {
		struct page *ram = job->copies[i].ram_page;

		if (!ram)
			continue;
		f->nr_bounced += !is_in_place(f, job, &job->copies[i]);
		f->nr_high += page_to_phys(ram) + job->copies[i].nr_pages * PAGE_SIZE - 1 >
			      dma_get_mask(&f->pdev->dev);
	}
	for (i = 0; i < job->nr_dma; i++) {
		const struct hmm_p2p_dma_copy *piece = &job->dma[i];
		void *vram = page_address(f->blocks[piece->offset / PMD_SIZE]) +
			     piece->offset % PMD_SIZE;

		/* Pieces of the tests are in one window. */
		if (piece->clear)
			memset(vram, 0, piece->bytes);
		else if (job->dir == HMM_P2P_TO_DEVICE)
			memcpy(vram, fake_dma_kva(f, piece->addr), piece->bytes);
		else if (job->dir == HMM_P2P_TO_RAM)
			memcpy(fake_dma_kva(f, piece->addr), vram, piece->bytes);
		else
			return -EOPNOTSUPP;
	}
	return 0;
}
