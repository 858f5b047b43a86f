// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: A watch on memory that is free
 *
 * With the module parameter canary, free memory of the device has a pattern.  If a device or a
 * program still writes to memory that was taken from it, the pattern changes.  The driver looks
 * when the memory is handed out again, and when HMM_DUMMY_INFO asks.
 *
 * The unused slots of a small BAR have the pattern with and without the parameter, but the driver
 * looks at them with it only.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/string.h>

#include "test.h"

#define CANARY	0xC5

bool hmm_dummy_canary;
module_param_named(canary, hmm_dummy_canary, bool, 0444);
MODULE_PARM_DESC(canary,
		 "Fill free device memory with a pattern, and report writes to it");

/* noinline, so that a test can set a kprobe. */
static noinline __noclone void hmm_dummy_canary_set(struct hmm_dummy_dev *dev,
						    unsigned long index)
{
	memset(hmm_dummy_vram_get(dev, (u64)index << PAGE_SHIFT), CANARY, PAGE_SIZE);
	hmm_dummy_vram_put(dev);
}

static bool canary_dead(struct hmm_dummy_dev *dev, unsigned long index)
{
	bool dead;

	dead = memchr_inv(hmm_dummy_vram_get(dev, (u64)index << PAGE_SHIFT), CANARY,
			  PAGE_SIZE);
	hmm_dummy_vram_put(dev);
	return dead;
}

/* The caller holds dev->vram.lock.  The pattern is repaired, so that a write counts once. */
static void canary_check(struct hmm_dummy_dev *dev, unsigned long index)
{
	lockdep_assert_held(&dev->vram.lock);
	if (!canary_dead(dev, index))
		return;
	dev->test.stale_writes++;
	hmm_dummy_canary_set(dev, index);
}

static void *slot_kva(struct hmm_dummy_dev *dev, int slot)
{
	return dev->mem.bar_kva + (u64)slot * VRAM_CHUNK;
}

/* Counts the closed slots that were written to, and repairs the pattern. */
static unsigned long canary_check_slots(struct hmm_dummy_dev *dev)
{
	unsigned long found = 0;
	int slot;

	for (slot = 0; slot < dev->slots.nr; slot++) {
		write_lock(&dev->slots.lock);
		if (dev->slots.chunk_in[slot] < 0 &&
		    memchr_inv(slot_kva(dev, slot), CANARY, VRAM_CHUNK)) {
			found++;
			memset(slot_kva(dev, slot), CANARY, VRAM_CHUNK);
		}
		write_unlock(&dev->slots.lock);
	}
	return found;
}

/* Look at all free memory. */
static void canary_check_all(struct hmm_dummy_dev *dev)
{
	unsigned long in_slots = canary_check_slots(dev), index, irq;

	for (index = 0; index < PHYS_PFN(dev->mem.paged); index++) {
		struct hmm_dummy_chunk *chunk = &dev->vram.chunks[index / CHUNK_PAGES];

		spin_lock_irqsave(&dev->vram.lock, irq);
		if (!test_bit(index % CHUNK_PAGES, chunk->used))
			canary_check(dev, index);
		spin_unlock_irqrestore(&dev->vram.lock, irq);
		if (index % CHUNK_PAGES == CHUNK_PAGES - 1)
			cond_resched();
	}
	spin_lock_irqsave(&dev->vram.lock, irq);
	dev->test.stale_writes += in_slots;
	spin_unlock_irqrestore(&dev->vram.lock, irq);
}

/* The pages that were found written since the device was bound; user space is told of them. */
unsigned long hmm_dummy_test_stale_writes(struct hmm_dummy_dev *dev)
{
	unsigned long found, irq;

	if (hmm_dummy_canary)
		canary_check_all(dev);
	spin_lock_irqsave(&dev->vram.lock, irq);
	found = dev->test.stale_writes;
	dev->test.stale_told = found;
	spin_unlock_irqrestore(&dev->vram.lock, irq);
	return found;
}

/* The pages are not free any more.  The caller holds dev->vram.lock. */
void hmm_dummy_test_vram_taken(struct hmm_dummy_dev *dev, unsigned long index,
			       unsigned long nr)
{
	for (; nr && hmm_dummy_canary; nr--, index++)
		canary_check(dev, index);
}

/*
 * The pages are free as soon as the caller releases dev->vram.lock.  A write that was held back
 * (held.c) takes the lock and arrives in pages that are in use only.
 */
void hmm_dummy_test_vram_freed(struct hmm_dummy_dev *dev, unsigned long index,
			       unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr && hmm_dummy_canary; i++)
		hmm_dummy_canary_set(dev, index + i);
}

/* The caller holds dev->slots.lock, or is about to make the slots. */
void hmm_dummy_test_slot_closed(struct hmm_dummy_dev *dev, int slot)
{
	memset(slot_kva(dev, slot), CANARY, VRAM_CHUNK);
}

void hmm_dummy_test_vram_init(struct hmm_dummy_dev *dev)
{
	hmm_dummy_test_vram_freed(dev, 0, PHYS_PFN(dev->mem.paged));
}

/* Look for writes to free memory for the last time. */
void hmm_dummy_test_vram_exit(struct hmm_dummy_dev *dev)
{
	unsigned long told = dev->test.stale_told, found = told;

	if (!hmm_dummy_is_lost(dev))
		found = hmm_dummy_test_stale_writes(dev);
	WARN(found != told, "%s: %lu pages were written to while they were free\n", dev->name,
	     found - told);
}
