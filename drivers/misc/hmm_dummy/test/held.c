// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Writes that are held back
 *
 * On a bus, a device's writes to another device's memory are posted: they arrive some time
 * after the device has sent them.  The dummy's engines are the CPU, and its stores arrive at
 * once.  With the module parameter hold_writes, a write of one dummy to the BAR of another
 * arrives later:
 *
 *  - when the other device is told to flush writes
 *  - before the next access of any dummy over the bus, as a read pushes writes
 *
 * The device that has the memory does not access it over the bus, and does not see the
 * write before.  So each flush that the core leaves out loses data, which a test can see.
 *
 * A write that arrives in free memory is dropped.  It was sent before the memory became free, and
 * must not count as a write to free memory (module parameter canary).
 *
 * Drop for real hardware, where the bus does all this.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "test.h"

static bool hold_writes;
module_param(hold_writes, bool, 0644);
MODULE_PARM_DESC(hold_writes,
		 "Writes to another device's BAR arrive when that is told to flush, for tests");

struct hmm_dummy_held {
	struct list_head node;
	struct hmm_dummy_dev *dev;	/* the device that has the memory */
	void *kva;			/* where in its BAR */
	long index;			/* of the page; -1: the slot shows none */
	unsigned long bytes;
	u8 data[] __aligned(8);
};

static DEFINE_SPINLOCK(held_lock);	/* outside of vram.lock: all below, and dev->test.held */
static LIST_HEAD(held_devs);
static unsigned long nr_held;

void hmm_dummy_test_exporter_init(struct hmm_dummy_dev *dev)
{
	INIT_LIST_HEAD(&dev->test.held);
	INIT_LIST_HEAD(&dev->test.held_node);
	spin_lock(&held_lock);
	if (dev->pdev)
		list_add(&dev->test.held_node, &held_devs);
	spin_unlock(&held_lock);
}

static void held_free(struct hmm_dummy_held *held)
{
	lockdep_assert_held(&held_lock);
	nr_held--;
	list_del(&held->node);
	kfree(held);
}

/* The exporter has been unregistered, so no write may be on its way. */
void hmm_dummy_test_exporter_exit(struct hmm_dummy_dev *dev)
{
	struct hmm_dummy_held *held, *next;
	bool left;

	spin_lock(&held_lock);
	list_del_init(&dev->test.held_node);
	left = !list_empty(&dev->test.held);
	list_for_each_entry_safe(held, next, &dev->test.held, node)
		held_free(held);
	spin_unlock(&held_lock);
	WARN(left && !READ_ONCE(dev->dead) && !hmm_dummy_is_lost(dev),
	     "%s: its memory goes, and writes are on their way there\n", dev->name);
}

/* noinline, so that a test can set a kprobe. */
static noinline __noclone void hmm_dummy_held_land_one(struct hmm_dummy_held *held)
{
	struct hmm_dummy_dev *dev = held->dev;
	unsigned long index = held->index, irq;

	spin_lock_irqsave(&dev->vram.lock, irq);
	if (held->index < 0 ||
	    test_bit(index % CHUNK_PAGES, dev->vram.chunks[index / CHUNK_PAGES].used))
		memcpy(held->kva, held->data, held->bytes);
	spin_unlock_irqrestore(&dev->vram.lock, irq);
	held_free(held);
}

static void held_land(struct hmm_dummy_dev *dev)
{
	struct hmm_dummy_held *held, *next;

	lockdep_assert_held(&held_lock);
	list_for_each_entry_safe(held, next, &dev->test.held, node)
		hmm_dummy_held_land_one(held);
}

/* When this returns, all writes to the device's memory have arrived. */
void hmm_dummy_held_flush(struct hmm_dummy_dev *dev)
{
	spin_lock(&held_lock);
	held_land(dev);
	spin_unlock(&held_lock);
}

/* The device with @kva in its BAR, or NULL. */
static struct hmm_dummy_dev *held_dev(const void *kva)
{
	struct hmm_dummy_dev *dev;

	lockdep_assert_held(&held_lock);
	list_for_each_entry(dev, &held_devs, test.held_node)
		if (kva >= dev->mem.bar_kva && kva < dev->mem.bar_kva + dev->mem.bar_size)
			return dev;
	return NULL;
}

/*
 * The page of @dev's memory that is at @kva in its BAR, or -1.  The caller has it mapped, so the
 * window does not close.
 */
static long held_index(struct hmm_dummy_dev *dev, const void *kva)
{
	u64 offset = kva - dev->mem.bar_kva;
	int chunk;

	if (!dev->slots.nr)
		return PHYS_PFN(offset);
	chunk = READ_ONCE(dev->slots.chunk_in[offset / VRAM_CHUNK]);
	return chunk < 0 ? -1 : chunk * CHUNK_PAGES + PHYS_PFN(offset % VRAM_CHUNK);
}

/*
 * A device is about to access another device's memory, under the lock that invalidation
 * takes.  A write gets a copy of the memory instead, a page at most, and
 * hmm_dummy_test_access_end() sends it.
 */
void hmm_dummy_test_access_begin(struct hmm_dummy_access *access)
{
	struct hmm_dummy_dev *dev, *to;
	struct hmm_dummy_held *held;
	unsigned long bytes;

	if (!READ_ONCE(hold_writes) && !READ_ONCE(nr_held))
		return;
	spin_lock(&held_lock);
	list_for_each_entry(dev, &held_devs, test.held_node)
		held_land(dev);
	to = held_dev(access->kva);
	spin_unlock(&held_lock);
	if (!access->write || !READ_ONCE(hold_writes) || !to)
		return;
	bytes = min(access->bytes, PAGE_SIZE - offset_in_page(access->kva));
	/* Reclaim may wait for the lock that is held.  Without memory the write is not held. */
	held = kmalloc(struct_size(held, data, bytes), GFP_NOWAIT | __GFP_NOWARN);
	if (!held)
		return;
	held->dev = to;
	held->kva = access->kva;
	held->index = held_index(to, access->kva);
	held->bytes = bytes;
	memcpy(held->data, held->kva, bytes);
	access->bytes = bytes;
	access->kva = held->data;
	access->test.held = held;
}

/* A write has been made to the copy: it is on its way from now on. */
void hmm_dummy_test_access_end(struct hmm_dummy_access *access)
{
	struct hmm_dummy_held *held = access->test.held;

	if (!held)
		return;
	access->kva = held->kva;
	access->test.held = NULL;
	spin_lock(&held_lock);
	list_add_tail(&held->node, &held->dev->test.held);
	nr_held++;
	spin_unlock(&held_lock);
}
