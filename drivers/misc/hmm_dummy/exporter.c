// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The exporter
 *
 * What peer access needs of a driver: where its memory is visible, a flush of the writes of
 * peers, and whether the device is lost.  If the BAR covers the memory, all windows are open
 * from registration on.  If it does not, the second set of ops opens and closes windows.
 * engine_ops.c has what the migration engine needs.
 *
 * Replace for real hardware: hmm_dummy_open_slot() and hmm_dummy_close_slot(), with the
 * registers of the device.  If the device has a cache between its BAR and its memory,
 * hmm_dummy_flush_writes() flushes that after the read.
 */
#include <linux/module.h>
#include <linux/pci-p2pdma.h>

#include "hmm_dummy.h"

static int hmm_dummy_open_window(void *priv, unsigned long index,
				 struct hmm_p2p_window_map *map)
{
	struct hmm_dummy_dev *dev = priv;
	/* A window is aligned in the BAR, and the first one may begin in front of the memory. */
	s64 offset = (s64)index * VRAM_CHUNK - dev->mem.bar_offset;

	if (hmm_dummy_test_fails())
		return -EIO;
	if (dev->pdev && hmm_dummy_test_hides(offset + VRAM_CHUNK))
		return -ENXIO;
	map->phys = dev->pdev ? dev->mem.bar_phys + offset :
				page_to_phys(dev->vram.chunks[index].backing);
	map->kva = dev->pdev ? dev->mem.bar_kva + offset :
			       page_address(dev->vram.chunks[index].backing);
	hmm_dummy_test_hide_kva(map);
	return 0;
}

static int hmm_dummy_open_slot(void *priv, unsigned long index,
			       struct hmm_p2p_window_map *map)
{
	struct hmm_dummy_dev *dev = priv;
	int slot = hmm_dummy_test_fails() ? -EIO : hmm_dummy_slot_open(dev, index);

	if (slot < 0)
		return slot;
	map->phys = dev->mem.bar_phys + (u64)slot * VRAM_CHUNK;
	map->kva = dev->mem.bar_kva + (u64)slot * VRAM_CHUNK;
	hmm_dummy_test_hide_kva(map);
	return 0;
}

static void hmm_dummy_close_slot(void *priv, unsigned long index)
{
	hmm_dummy_slot_close(priv, index);
}

/* A read from the BAR pushes the writes before it into the memory. */
static void hmm_dummy_flush_writes(void *priv)
{
	struct hmm_dummy_dev *dev = priv;

	hmm_dummy_test_flush(dev);
	if (!dev->pdev)
		return;
	/* The writes of this CPU leave it before the read. */
	mb();
	(void)READ_ONCE(*(u32 *)dev->mem.bar_kva);
}

static bool hmm_dummy_lost(void *priv)
{
	return hmm_dummy_is_lost(priv);
}

static const struct hmm_p2p_exporter_ops hmm_dummy_exporter_ops = {
	.open_window = hmm_dummy_open_window,
	.flush_writes = hmm_dummy_flush_writes,
	.lost = hmm_dummy_lost,
};

static const struct hmm_p2p_exporter_ops hmm_dummy_slot_ops = {
	.open_window = hmm_dummy_open_slot,
	.close_window = hmm_dummy_close_slot,
	.flush_writes = hmm_dummy_flush_writes,
	.lost = hmm_dummy_lost,
};

int hmm_dummy_exporter_init(struct hmm_dummy_dev *dev)
{
	struct hmm_p2p_exporter_desc desc = {
		.name = dev->name,
		.ops = dev->mem.coherent_base ? NULL : &hmm_dummy_exporter_ops,
		.priv = dev,
		.pgmap = &dev->mem.pgmap,
		.window_offset = dev->mem.bar_offset,
	};

	if (dev->pdev)
		desc.provider = pcim_p2pdma_provider(dev->pdev, VRAM_BAR);
	if (dev->slots.nr) {
		desc.ops = &hmm_dummy_slot_ops;
		desc.aperture.start = dev->mem.bar_phys;
		desc.aperture.end = dev->mem.bar_phys +
				    (u64)dev->slots.nr * VRAM_CHUNK - 1;
	}
	hmm_dummy_test_exporter_init(dev);
	dev->exporter = hmm_p2p_register(&desc);
	if (IS_ERR(dev->exporter))
		hmm_dummy_test_exporter_exit(dev);
	return PTR_ERR_OR_ZERO(dev->exporter);
}

/*
 * The memory is lost.  The driver ends its copies before it calls hmm_p2p_dead().  The dummy's
 * copy engine sees dev->dead and ends them with an error.  Real hardware that does not answer
 * ends no copy: its driver takes each off the ring and calls hmm_p2p_copy_done().
 */
void hmm_dummy_exporter_dead(struct hmm_dummy_dev *dev)
{
	WRITE_ONCE(dev->dead, true);
	hmm_dummy_copies_end(dev);
	hmm_p2p_dead(dev->exporter);
}

/* The migration engine has been unregistered, and has moved all of the memory to RAM. */
void hmm_dummy_exporter_exit(struct hmm_dummy_dev *dev)
{
	hmm_p2p_unregister(dev->exporter);
	hmm_dummy_test_exporter_exit(dev);
}
