// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The allocator of device memory
 *
 * The allocator hands out chunks, or single pages of a chunk.  It takes single pages from a
 * chunk that is partly in use, if there is one, and so keeps whole chunks for huge pages.
 *
 * A chunk remembers when it was used last.  When there is no room, the chunk with the oldest
 * use is evicted first.
 *
 * Replace for real hardware: all of it, with the driver's own memory manager.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "hmm_dummy.h"

static unsigned long vram_nr_chunks(struct hmm_dummy_dev *dev)
{
	return dev->mem.paged / VRAM_CHUNK;
}

/* Put the chunk in the list where it belongs. */
static void vram_list_chunk(struct hmm_dummy_dev *dev, struct hmm_dummy_chunk *chunk)
{
	if (!chunk->nr_used)
		list_move(&chunk->node, &dev->vram.free);
	else if (chunk->nr_used < CHUNK_PAGES)
		list_move(&chunk->node, &dev->vram.partial);
	else
		list_del_init(&chunk->node);
}

static struct hmm_dummy_chunk *vram_find_chunk(struct hmm_dummy_dev *dev,
					       unsigned int order)
{
	struct hmm_dummy_chunk *chunk = NULL;

	if (!order)
		chunk = list_first_entry_or_null(&dev->vram.partial,
						 struct hmm_dummy_chunk, node);
	return chunk ?: list_first_entry_or_null(&dev->vram.free,
						 struct hmm_dummy_chunk, node);
}

/**
 * hmm_dummy_vram_alloc - take free memory
 * @dev: the device
 * @order: 0, or that of a chunk
 * @nr: pieces of 2^@order pages that the caller wants; set to the pieces that it gets, which
 *	lie side by side
 *
 * Context: Any.
 *
 * Return: the index of the first page, or -1 if nothing is free.
 */
long hmm_dummy_vram_alloc(struct hmm_dummy_dev *dev, unsigned int order,
			  unsigned int *nr)
{
	unsigned long bit = 0, n = CHUNK_PAGES, index = 0, irq;
	struct hmm_dummy_chunk *chunk;

	spin_lock_irqsave(&dev->vram.lock, irq);
	chunk = vram_find_chunk(dev, order);
	if (chunk) {
		if (!order) {
			bit = find_next_zero_bit(chunk->used, CHUNK_PAGES,
						 chunk->first_free);
			n = min(CHUNK_PAGES, bit + *nr);
			n = find_next_bit(chunk->used, n, bit) - bit;
		}
		bitmap_set(chunk->used, bit, n);
		chunk->first_free = bit + n;
		chunk->nr_used += n;
		/* Most often it stays in its list. */
		if (chunk->nr_used == n || chunk->nr_used == CHUNK_PAGES)
			vram_list_chunk(dev, chunk);
		chunk->last_use = atomic64_inc_return(&dev->vram.clock);
		dev->vram.nr_free -= n;
		*nr = n >> order;
		index = (chunk - dev->vram.chunks) * CHUNK_PAGES + bit;
		hmm_dummy_test_vram_taken(dev, index, n);
	}
	spin_unlock_irqrestore(&dev->vram.lock, irq);
	return chunk ? index : -1;
}

/* Any context, also interrupts: coherent memory may have been pinned for I/O. */
void hmm_dummy_vram_free(struct hmm_dummy_dev *dev, unsigned long index,
			 unsigned long nr)
{
	struct hmm_dummy_chunk *chunk = &dev->vram.chunks[index / CHUNK_PAGES];
	unsigned long i, bit = index % CHUNK_PAGES, irq;

	spin_lock_irqsave(&dev->vram.lock, irq);
	hmm_dummy_test_vram_freed(dev, index, nr);
	for (i = bit; i < bit + nr; i++) {
		/* A bad page stays in use for ever. */
		if (test_bit(i, chunk->bad))
			continue;
		__clear_bit(i, chunk->used);
		chunk->first_free = min(chunk->first_free, i);
		chunk->nr_used--;
		dev->vram.nr_free++;
	}
	vram_list_chunk(dev, chunk);
	spin_unlock_irqrestore(&dev->vram.lock, irq);
}

/* A page is broken.  It is not handed out again, now or when it becomes free. */
void hmm_dummy_vram_bad(struct hmm_dummy_dev *dev, unsigned long index)
{
	struct hmm_dummy_chunk *chunk = &dev->vram.chunks[index / CHUNK_PAGES];
	unsigned long bit = index % CHUNK_PAGES, irq;

	spin_lock_irqsave(&dev->vram.lock, irq);
	if (!__test_and_set_bit(bit, chunk->bad)) {
		WRITE_ONCE(dev->vram.nr_bad, dev->vram.nr_bad + 1);
		if (!__test_and_set_bit(bit, chunk->used)) {
			chunk->nr_used++;
			dev->vram.nr_free--;
			vram_list_chunk(dev, chunk);
		}
	}
	spin_unlock_irqrestore(&dev->vram.lock, irq);
}

bool hmm_dummy_vram_is_bad(struct hmm_dummy_dev *dev, unsigned long index,
			   unsigned long nr)
{
	struct hmm_dummy_chunk *chunk = &dev->vram.chunks[index / CHUNK_PAGES];
	unsigned long bit = index % CHUNK_PAGES, irq;
	bool bad;

	if (!READ_ONCE(dev->vram.nr_bad))
		return false;
	spin_lock_irqsave(&dev->vram.lock, irq);
	bad = find_next_bit(chunk->bad, bit + nr, bit) < bit + nr;
	spin_unlock_irqrestore(&dev->vram.lock, irq);
	return bad;
}

/* The device uses the chunk at @offset. */
void hmm_dummy_vram_touch(struct hmm_dummy_dev *dev, u64 offset)
{
	WRITE_ONCE(dev->vram.chunks[offset / VRAM_CHUNK].last_use,
		   atomic64_inc_return(&dev->vram.clock));
}

/* Whether no page of the memory is in use. */
bool hmm_dummy_vram_is_unused(struct hmm_dummy_dev *dev)
{
	unsigned long irq;
	bool unused;

	spin_lock_irqsave(&dev->vram.lock, irq);
	unused = dev->vram.nr_free + dev->vram.nr_bad == PHYS_PFN(dev->mem.paged);
	spin_unlock_irqrestore(&dev->vram.lock, irq);
	return unused;
}

/*
 * Of the chunks in use, the one that was used least recently, if that was before @before in terms
 * of hmm_dummy_vram.clock.  -1 if there is none.
 */
long hmm_dummy_vram_oldest(struct hmm_dummy_dev *dev, u64 before)
{
	unsigned long i;
	u64 oldest = before;
	long found = -1;

	for (i = 0; i < vram_nr_chunks(dev); i++) {
		u64 last_use = READ_ONCE(dev->vram.chunks[i].last_use);

		if (READ_ONCE(dev->vram.chunks[i].nr_used) && last_use < oldest) {
			oldest = last_use;
			found = i;
		}
	}
	return found;
}

void hmm_dummy_vram_init(struct hmm_dummy_dev *dev)
{
	unsigned long i;

	spin_lock_init(&dev->vram.lock);
	INIT_LIST_HEAD(&dev->vram.free);
	INIT_LIST_HEAD(&dev->vram.partial);
	dev->vram.nr_free = PHYS_PFN(dev->mem.paged);
	for (i = 0; i < vram_nr_chunks(dev); i++)
		list_add_tail(&dev->vram.chunks[i].node, &dev->vram.free);
	hmm_dummy_test_vram_init(dev);
}

void hmm_dummy_vram_exit(struct hmm_dummy_dev *dev)
{
	WARN_ON(dev->vram.nr_free + dev->vram.nr_bad != PHYS_PFN(dev->mem.paged));
	hmm_dummy_test_vram_exit(dev);
}
