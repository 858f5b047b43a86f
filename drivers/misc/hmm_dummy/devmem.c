// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Device memory
 *
 * The VRAM: where it is, which of it is free, and the struct pages that stand
 * for it.  It lies in a PCI BAR, or, without a PCI device, in pages set aside
 * from system memory.  Either way processes cannot map it: its struct pages have
 * PFNs of a free stretch of the physical address space that nobody decodes, and
 * hmm_p2p_page_offset() tells which piece of VRAM a page stands for.
 *
 * Replace for real hardware: the allocator, and hmm_dummy_vram_get(), which is how
 * the dummy's "hardware" gets at its own memory.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "hmm_dummy.h"

static bool canary;
module_param(canary, bool, 0444);
MODULE_PARM_DESC(canary,
		 "Fill free device memory with a pattern, and report writes to it");

bool hmm_dummy_canary(void)
{
	return canary;
}

/**
 * hmm_dummy_vram_get - how the dummy's "hardware" gets at its own memory
 * @dev: the device
 * @offset: bytes from the start of its memory
 *
 * Undo it with hmm_dummy_vram_put(), and do not sleep in between: a window may be
 * waiting to open or to close, which moves what is in it.
 *
 * Return: the address, good up to the end of the page.
 */
void *hmm_dummy_vram_get(struct hmm_dummy_dev *dev, u64 offset)
{
	u64 chunk = offset / VRAM_CHUNK;

	if (!dev->nr_slots)
		return dev->pdev ? dev->bar_kva + offset :
		       page_address(dev->chunks[chunk]) + offset % VRAM_CHUNK;
	read_lock(&dev->slot_lock);
	if (dev->slot_of[chunk] >= 0)
		return dev->bar_kva + (u64)dev->slot_of[chunk] * VRAM_CHUNK +
		       offset % VRAM_CHUNK;
	return page_address(dev->chunks[chunk]) + offset % VRAM_CHUNK;
}

void hmm_dummy_vram_put(struct hmm_dummy_dev *dev)
{
	/*
	 * The BAR is mapped write-combining: what was written is there before
	 * anybody else looks.
	 */
	wmb();
	if (dev->nr_slots)
		read_unlock(&dev->slot_lock);
}

static void canary_set(struct hmm_dummy_dev *dev, u32 index)
{
	memset(hmm_dummy_vram_get(dev, (u64)index << PAGE_SHIFT), HMM_DUMMY_CANARY,
	       PAGE_SIZE);
	hmm_dummy_vram_put(dev);
}

static bool canary_dead(struct hmm_dummy_dev *dev, u32 index)
{
	bool dead;

	dead = memchr_inv(hmm_dummy_vram_get(dev, (u64)index << PAGE_SHIFT),
			  HMM_DUMMY_CANARY, PAGE_SIZE);
	hmm_dummy_vram_put(dev);
	return dead;
}

/*
 * Somebody wrote to memory that was free.  Repair it, so that one write is
 * counted once.
 */
static void canary_check(struct hmm_dummy_dev *dev, u32 index)
{
	lockdep_assert_held(&dev->free_lock);
	if (!canary || !canary_dead(dev, index))
		return;
	dev->stale_writes++;
	canary_set(dev, index);
}

/* Look at all that is free.  Returns the pages found written since loading. */
unsigned long hmm_dummy_devmem_check(struct hmm_dummy_dev *dev)
{
	unsigned long i, found, in_slots = 0;

	if (canary)
		in_slots = hmm_dummy_slots_check(dev);
	for (i = 0;; i++) {
		spin_lock(&dev->free_lock);
		if (i >= dev->nr_free || !canary)
			break;
		canary_check(dev, dev->free_stack[i]);
		spin_unlock(&dev->free_lock);
		cond_resched();
	}
	dev->stale_writes += in_slots;
	found = dev->stale_writes;
	spin_unlock(&dev->free_lock);
	return found;
}

/* A free page, locked and with one reference, or NULL. */
struct folio *hmm_dummy_devmem_alloc(struct hmm_dummy_dev *dev)
{
	struct folio *folio;
	u32 index;
	bool bad;

	for (;;) {
		spin_lock(&dev->free_lock);
		if (!dev->nr_free) {
			spin_unlock(&dev->free_lock);
			return NULL;
		}
		index = dev->free_stack[--dev->nr_free];
		canary_check(dev, index);
		spin_unlock(&dev->free_lock);

		folio = page_folio(pfn_to_page(PHYS_PFN(dev->res->start) + index));
		zone_device_folio_init(folio, &dev->pgmap, 0);

		/* Found broken while it was neither free nor in use? */
		spin_lock(&dev->free_lock);
		bad = test_bit(index, dev->bad);
		spin_unlock(&dev->free_lock);
		if (!bad)
			return folio;
		folio_unlock(folio);
		folio_put(folio);
	}
}

/* The last reference is gone: called from anywhere, also under spinlocks. */
static void hmm_dummy_folio_free(struct folio *folio)
{
	struct hmm_dummy_dev *dev =
		container_of(folio->pgmap, struct hmm_dummy_dev, pgmap);
	u32 index = hmm_p2p_page_offset(folio_page(folio, 0)) >> PAGE_SHIFT;

	if (canary)
		canary_set(dev, index);
	spin_lock(&dev->free_lock);
	/* What is broken is not handed out again. */
	if (!test_bit(index, dev->bad))
		dev->free_stack[dev->nr_free++] = index;
	spin_unlock(&dev->free_lock);
}

/* The CPU touched a page that lives here. */
static vm_fault_t hmm_dummy_migrate_to_ram(struct vm_fault *vmf)
{
	struct hmm_dummy_dev *dev =
		container_of(page_pgmap(vmf->page), struct hmm_dummy_dev, pgmap);

	return hmm_p2p_migrate_fault(dev->exporter, vmf);
}

static void mark_bad(struct hmm_dummy_dev *dev, u32 index)
{
	unsigned long i;

	spin_lock(&dev->free_lock);
	if (!__test_and_set_bit(index, dev->bad)) {
		dev->nr_bad++;
		for (i = 0; i < dev->nr_free; i++)
			if (dev->free_stack[i] == index)
				dev->free_stack[i] = dev->free_stack[--dev->nr_free];
	}
	spin_unlock(&dev->free_lock);
}

/* Memory of ours is broken: memory_failure() heard of it. */
static int hmm_dummy_memory_failure(struct dev_pagemap *pgmap, unsigned long pfn,
				    unsigned long nr_pages, int mf_flags)
{
	struct hmm_dummy_dev *dev =
		container_of(pgmap, struct hmm_dummy_dev, pgmap);
	u64 offset = hmm_p2p_page_offset(pfn_to_page(pfn));
	unsigned long i;
	int ret = -ENODEV;

	/*
	 * Keeps hmm_dummy_remove() from unregistering under us.  Not waited for:
	 * memory_failure() holds up the whole machine.
	 */
	if (!down_read_trylock(&dev->life))
		return -EBUSY;
	if (!dev->gone) {
		for (i = 0; i < nr_pages; i++)
			mark_bad(dev, PHYS_PFN(offset) + i);
		ret = hmm_p2p_poison(dev->exporter, offset, PFN_PHYS(nr_pages));
	}
	up_read(&dev->life);
	return ret;
}

static const struct dev_pagemap_ops hmm_dummy_pagemap_ops = {
	.folio_free = hmm_dummy_folio_free,
	.migrate_to_ram = hmm_dummy_migrate_to_ram,
	.memory_failure = hmm_dummy_memory_failure,
};

static int map_bar(struct hmm_dummy_dev *dev)
{
	dev->bar_phys = pci_resource_start(dev->pdev, VRAM_BAR);
	dev->bar_kva = memremap(dev->bar_phys, dev->bar_size, MEMREMAP_WC);
	return dev->bar_kva ? 0 : -ENOMEM;
}

static void free_chunks(struct hmm_dummy_dev *dev)
{
	u64 i;

	for (i = 0; i < dev->vram_size / VRAM_CHUNK; i++)
		if (dev->chunks[i])
			__free_pages(dev->chunks[i], get_order(VRAM_CHUNK));
	kvfree(dev->chunks);
}

static int alloc_chunks(struct hmm_dummy_dev *dev)
{
	u64 i, nr = dev->vram_size / VRAM_CHUNK;

	dev->chunks = kvzalloc_objs(*dev->chunks, nr);
	if (!dev->chunks)
		return -ENOMEM;
	for (i = 0; i < nr; i++) {
		dev->chunks[i] = alloc_pages(GFP_KERNEL, get_order(VRAM_CHUNK));
		if (!dev->chunks[i])
			return -ENOMEM;
	}
	return 0;
}

static void unmap_vram(struct hmm_dummy_dev *dev)
{
	hmm_dummy_slots_exit(dev);
	if (dev->chunks)
		free_chunks(dev);
	if (dev->bar_kva)
		memunmap(dev->bar_kva);
}

static int map_vram(struct hmm_dummy_dev *dev)
{
	bool small = dev->pdev && dev->bar_size < dev->vram_size;
	int ret = 0;

	if (dev->pdev)
		ret = map_bar(dev);
	if (!ret && (!dev->pdev || small))
		ret = alloc_chunks(dev);
	if (!ret && small)
		ret = hmm_dummy_slots_init(dev);
	if (ret)
		unmap_vram(dev);
	return ret;
}

static int alloc_free_stack(struct hmm_dummy_dev *dev)
{
	unsigned long i, nr = dev->vram_size >> PAGE_SHIFT;

	spin_lock_init(&dev->free_lock);
	dev->free_stack = kvmalloc_array(nr, sizeof(*dev->free_stack),
					 GFP_KERNEL);
	dev->bad = kvcalloc(BITS_TO_LONGS(nr), sizeof(long), GFP_KERNEL);
	if (!dev->free_stack || !dev->bad)
		return -ENOMEM;
	/* A stack that hands out ascending addresses at first. */
	for (i = 0; i < nr; i++) {
		dev->free_stack[i] = nr - 1 - i;
		if (canary)
			canary_set(dev, i);
	}
	dev->nr_free = nr;
	return 0;
}

int hmm_dummy_devmem_init(struct hmm_dummy_dev *dev)
{
	void *addr;
	int ret;

	dev->vram_size = ALIGN_DOWN(dev->vram_size, VRAM_CHUNK);
	dev->bar_size = ALIGN_DOWN(dev->bar_size, VRAM_CHUNK);
	ret = map_vram(dev);
	if (ret)
		return ret;
	ret = alloc_free_stack(dev);
	if (ret)
		goto err_stack;

	dev->res = request_free_mem_region(&iomem_resource, dev->vram_size,
					   dev->name);
	if (IS_ERR(dev->res)) {
		ret = PTR_ERR(dev->res);
		goto err_stack;
	}
	dev->pgmap.type = MEMORY_DEVICE_PRIVATE;
	dev->pgmap.range.start = dev->res->start;
	/* The region is rounded up to a memory section; the memory is not. */
	dev->pgmap.range.end = dev->res->start + dev->vram_size - 1;
	dev->pgmap.nr_range = 1;
	dev->pgmap.ops = &hmm_dummy_pagemap_ops;
	/* One owner per device: hmm tells our own pages by it. */
	dev->pgmap.owner = dev;
	addr = memremap_pages(&dev->pgmap, numa_node_id());
	if (IS_ERR(addr)) {
		ret = PTR_ERR(addr);
		goto err_res;
	}
	return 0;

err_res:
	release_mem_region(dev->res->start, resource_size(dev->res));
err_stack:
	kvfree(dev->bad);
	kvfree(dev->free_stack);
	unmap_vram(dev);
	return ret;
}

/* Nobody uses the memory any more: hmm_p2p_unregister() saw to it. */
void hmm_dummy_devmem_exit(struct hmm_dummy_dev *dev)
{
	/* Waits for the last folio_free. */
	memunmap_pages(&dev->pgmap);
	WARN_ON(dev->nr_free + dev->nr_bad != dev->vram_size >> PAGE_SHIFT);
	release_mem_region(dev->res->start, resource_size(dev->res));
	kvfree(dev->bad);
	kvfree(dev->free_stack);
	unmap_vram(dev);
}
