// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The exporter
 *
 * All that the core asks of a driver: where its memory is visible, a page of it,
 * and a copy.  Where the BAR covers all of the memory, every window is always open;
 * where it does not, the second set of ops opens and closes them.
 *
 * Replace for real hardware: hmm_dummy_copy() with the copy engine, and what opens
 * and closes windows with the registers that do.
 */
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>

#include "hmm_dummy.h"

static bool offer_kmap = true;
module_param_named(kmap, offer_kmap, bool, 0444);
MODULE_PARM_DESC(kmap,
		 "Offer software importers a kernel mapping of the memory (default)");

bool hmm_dummy_offers_kmap(void)
{
	return offer_kmap;
}

static int hmm_dummy_open_window(void *priv, unsigned long index,
				 struct hmm_p2p_window_map *map)
{
	struct hmm_dummy_dev *dev = priv;
	u64 offset = (u64)index * VRAM_CHUNK;

	map->phys = dev->pdev ? dev->bar_phys + offset :
				page_to_phys(dev->chunks[index]);
	if (offer_kmap)
		map->kva = dev->pdev ? dev->bar_kva + offset :
				       page_address(dev->chunks[index]);
	return 0;
}

static int hmm_dummy_open_slot(void *priv, unsigned long index,
			       struct hmm_p2p_window_map *map)
{
	struct hmm_dummy_dev *dev = priv;
	int slot = hmm_dummy_slot_open(dev, index);

	if (slot < 0)
		return slot;
	map->phys = dev->bar_phys + (u64)slot * VRAM_CHUNK;
	if (offer_kmap)
		map->kva = dev->bar_kva + (u64)slot * VRAM_CHUNK;
	return 0;
}

static void hmm_dummy_close_slot(void *priv, unsigned long index)
{
	hmm_dummy_slot_close(priv, index);
}

static struct folio *hmm_dummy_alloc_folio(void *priv, unsigned int order)
{
	return order ? NULL : hmm_dummy_devmem_alloc(priv);
}

static int hmm_dummy_copy(void *priv, const struct hmm_p2p_copy *copies,
			  unsigned int nr, enum hmm_p2p_copy_dir dir)
{
	struct hmm_dummy_dev *dev = priv;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		const struct hmm_p2p_copy *c = &copies[i];
		void *vram = hmm_dummy_vram_get(dev,
				hmm_p2p_page_offset(c->dev_page));

		if (!c->ram_page)
			memset(vram, 0, PAGE_SIZE);
		else if (dir == HMM_P2P_TO_DEVICE)
			memcpy_from_page(vram, c->ram_page, 0, PAGE_SIZE);
		else
			memcpy_to_page(c->ram_page, 0, vram, PAGE_SIZE);
		hmm_dummy_vram_put(dev);
	}
	return 0;
}

static const struct hmm_p2p_exporter_ops hmm_dummy_exporter_ops = {
	.open_window = hmm_dummy_open_window,
	.alloc_folio = hmm_dummy_alloc_folio,
	.copy = hmm_dummy_copy,
};

static const struct hmm_p2p_exporter_ops hmm_dummy_slot_ops = {
	.open_window = hmm_dummy_open_slot,
	.close_window = hmm_dummy_close_slot,
	.alloc_folio = hmm_dummy_alloc_folio,
	.copy = hmm_dummy_copy,
};

int hmm_dummy_exporter_init(struct hmm_dummy_dev *dev)
{
	struct hmm_p2p_exporter_desc desc = {
		.name = dev->name,
		.ops = &hmm_dummy_exporter_ops,
		.priv = dev,
		.pgmap = &dev->pgmap,
	};

	if (dev->pdev)
		desc.provider = pcim_p2pdma_provider(dev->pdev, VRAM_BAR);
	if (dev->nr_slots) {
		desc.ops = &hmm_dummy_slot_ops;
		desc.aperture.start = dev->bar_phys;
		desc.aperture.end = dev->bar_phys +
				    (u64)dev->nr_slots * VRAM_CHUNK - 1;
	}
	dev->exporter = hmm_p2p_register(&desc);
	return PTR_ERR_OR_ZERO(dev->exporter);
}
