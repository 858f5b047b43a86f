// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: A BAR that is smaller than the memory
 *
 * A GPU with a small BAR has registers that select the part of its memory that the BAR shows.
 * The dummy has no such registers.  It copies a chunk into a slot of the BAR when a window
 * opens, and back when the window closes.  In between, the chunk lives in the slot, and
 * hmm_dummy_vram_get() returns the address there.  Writes through the slot are in the chunk
 * when the window has closed.
 *
 * Replace for real hardware: all of it, with two register writes.
 */
#include <linux/slab.h>
#include <linux/string.h>

#include "hmm_dummy.h"

static void *slot_kva(struct hmm_dummy_dev *dev, int slot)
{
	return dev->mem.bar_kva + (u64)slot * VRAM_CHUNK;
}

int hmm_dummy_slots_init(struct hmm_dummy_dev *dev)
{
	u64 i, nr = dev->mem.size / VRAM_CHUNK;

	rwlock_init(&dev->slots.lock);
	dev->slots.nr = dev->mem.bar_size / VRAM_CHUNK;
	dev->slots.slot_of = kvcalloc(nr, sizeof(*dev->slots.slot_of), GFP_KERNEL);
	dev->slots.chunk_in = kvcalloc(dev->slots.nr, sizeof(*dev->slots.chunk_in),
				       GFP_KERNEL);
	if (!dev->slots.slot_of || !dev->slots.chunk_in)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		dev->slots.slot_of[i] = -1;
	for (i = 0; i < dev->slots.nr; i++) {
		dev->slots.chunk_in[i] = -1;
		hmm_dummy_test_slot_closed(dev, i);
	}
	return 0;
}

void hmm_dummy_slots_exit(struct hmm_dummy_dev *dev)
{
	kvfree(dev->slots.slot_of);
	kvfree(dev->slots.chunk_in);
}

/* Show @chunk in a slot.  Returns the slot, or -ENOSPC. */
int hmm_dummy_slot_open(struct hmm_dummy_dev *dev, unsigned long chunk)
{
	int slot;

	write_lock(&dev->slots.lock);
	for (slot = 0; slot < dev->slots.nr; slot++)
		if (dev->slots.chunk_in[slot] < 0)
			break;
	if (slot == dev->slots.nr) {
		write_unlock(&dev->slots.lock);
		return -ENOSPC;
	}
	memcpy(slot_kva(dev, slot), page_address(dev->vram.chunks[chunk].backing), VRAM_CHUNK);
	/* The BAR is mapped write-combining. */
	wmb();
	dev->slots.chunk_in[slot] = chunk;
	dev->slots.slot_of[chunk] = slot;
	write_unlock(&dev->slots.lock);
	return slot;
}

void hmm_dummy_slot_close(struct hmm_dummy_dev *dev, unsigned long chunk)
{
	int slot;

	write_lock(&dev->slots.lock);
	slot = dev->slots.slot_of[chunk];
	memcpy(page_address(dev->vram.chunks[chunk].backing), slot_kva(dev, slot), VRAM_CHUNK);
	hmm_dummy_test_slot_closed(dev, slot);
	/* The BAR is mapped write-combining: writes arrive before the slot is used again. */
	wmb();
	dev->slots.slot_of[chunk] = -1;
	dev->slots.chunk_in[slot] = -1;
	write_unlock(&dev->slots.lock);
}
