// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The exporter
 *
 * What peer access asks of a driver: where its memory is visible, a flush of what peers
 * write there, and whether the device is lost.  Where the BAR covers all of the memory, every
 * window is always open; where it does not, the second set of ops opens and closes them.
 * What the migration engine asks for is in engine_ops.c.
 *
 * Replace for real hardware: what opens and closes windows with the registers that do, and
 * add to the read in hmm_dummy_flush_writes() what the device has between its BAR and its
 * memory.
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

/* A read from the BAR does not pass the writes in front of it. */
static void hmm_dummy_flush_writes(void *priv)
{
	struct hmm_dummy_dev *dev = priv;

	hmm_dummy_test_flush(dev);
	if (!dev->pdev)
		return;
	/* The writes of this CPU leave before the read. */
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
 * The memory is lost.  Copies end first, as hmm_p2p_dead() wants it: those of our engine do
 * so with an error when they see that the device is dead, and none begins.  Real hardware
 * that does not answer ends no copy: its driver takes each off its ring and ends it with
 * hmm_p2p_copy_done().
 */
void hmm_dummy_exporter_dead(struct hmm_dummy_dev *dev)
{
	WRITE_ONCE(dev->dead, true);
	hmm_dummy_copies_end(dev);
	hmm_p2p_dead(dev->exporter);
}

/* The engine is unregistered: everything that was in the memory is in RAM. */
void hmm_dummy_exporter_exit(struct hmm_dummy_dev *dev)
{
	hmm_p2p_unregister(dev->exporter);
	hmm_dummy_test_exporter_exit(dev);
}
