// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Device memory
 *
 * This file knows where the VRAM is, and has the struct pages that stand for it.  VRAM lies in a
 * PCI BAR, or in pages set aside from system memory.  It is private or coherent:
 *
 *	private		Processes cannot map it.  Its struct pages have PFNs of a free part of the
 *			physical address space, which no device decodes.
 *	coherent	The PFNs are those of real addresses, which the CPU maps like RAM.
 *
 * hmm_p2p_page_offset() tells which piece of VRAM a page stands for.
 *
 * The end of the VRAM is scratch memory for read(), write() and export.  It has no struct pages.
 *
 * Replace for real hardware: hmm_dummy_vram_get(), which is how the dummy's "hardware"
 * gets at its own memory.
 */
#include <linux/gfp.h>
#include <linux/instrumented.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "hmm_dummy.h"

static unsigned int scratch_mb = 4;
module_param(scratch_mb, uint, 0444);
MODULE_PARM_DESC(scratch_mb,
		 "Memory of each device for read(), write() and export, in MiB, at most a quarter (4)");

/**
 * hmm_dummy_copy_bytes - copy as the device's engines do
 * @to: in the device's, a peer's or system memory, mapped
 * @from: as @to, and not overlapping it
 * @bytes: any number
 *
 * Copy whole pages with copy_page(): without fast string operations memcpy() takes three
 * times the instructions.
 */
void hmm_dummy_copy_bytes(void *to, const void *from, unsigned long bytes)
{
	instrument_read(from, bytes);
	instrument_write(to, bytes);
	if (PAGE_ALIGNED(to) && PAGE_ALIGNED(from)) {
		for (; bytes >= PAGE_SIZE; bytes -= PAGE_SIZE) {
			copy_page(to, (void *)from);
			to += PAGE_SIZE;
			from += PAGE_SIZE;
		}
	}
	memcpy(to, from, bytes);
}

/**
 * hmm_dummy_vram_get - how the dummy's "hardware" gets at its own memory
 * @dev: the device
 * @offset: bytes from the start of its memory
 *
 * The caller calls hmm_dummy_vram_put() after the access and does not sleep before: a window
 * that opens or closes moves a chunk, and waits.
 *
 * Return: the address, valid up to the end of the chunk.
 */
void *hmm_dummy_vram_get(struct hmm_dummy_dev *dev, u64 offset)
{
	u64 chunk = offset / VRAM_CHUNK;

	if (dev->mem.coherent_base)
		return __va(dev->mem.coherent_base + offset);
	if (!dev->slots.nr)
		return dev->pdev ? dev->mem.bar_kva + offset :
		       page_address(dev->vram.chunks[chunk].backing) + offset % VRAM_CHUNK;
	read_lock(&dev->slots.lock);
	if (dev->slots.slot_of[chunk] >= 0)
		return dev->mem.bar_kva + (u64)dev->slots.slot_of[chunk] * VRAM_CHUNK +
		       offset % VRAM_CHUNK;
	return page_address(dev->vram.chunks[chunk].backing) + offset % VRAM_CHUNK;
}

void hmm_dummy_vram_put(struct hmm_dummy_dev *dev)
{
	/* The BAR is mapped write-combining: writes arrive before another CPU reads. */
	wmb();
	if (dev->slots.nr)
		read_unlock(&dev->slots.lock);
}

/*
 * Whether an entry of hmm_range_fault() is a page of the device's memory, and no alias.  The
 * PFN tells, not the pgmap of the page: the caller does not hold the lock that the invalidate
 * callback takes, and a tail page has no pgmap while its folio is split.
 */
bool hmm_dummy_has_pfn(const struct hmm_dummy_dev *dev, unsigned long hmm_pfn)
{
	u64 addr = PFN_PHYS(hmm_pfn & ~HMM_PFN_FLAGS);

	return hmm_pfn & HMM_PFN_VALID && !(hmm_pfn & HMM_PFN_PEER) &&
	       addr >= dev->mem.pgmap.range.start && addr <= dev->mem.pgmap.range.end;
}

/* Make a folio of free memory, locked and with one reference.  NULL if the memory is bad. */
static struct folio *devmem_init_folio(struct hmm_dummy_dev *dev, unsigned long index,
				       unsigned int order)
{
	struct folio *folio = hmm_p2p_folio_init(&dev->mem.pgmap, PFN_PHYS(index), order);

	/* The page may have gone bad after it was allocated, and before it was in use. */
	if (!hmm_dummy_vram_is_bad(dev, index, BIT(order)))
		return folio;
	folio_unlock(folio);
	folio_put(folio);
	return NULL;
}

/* As hmm_p2p_engine_ops.alloc_folios. */
unsigned int hmm_dummy_devmem_alloc(struct hmm_dummy_dev *dev, unsigned int order,
				    struct folio **folios, unsigned int nr)
{
	unsigned int got = 0, n;
	long index;

	while (got < nr) {
		n = nr - got;
		index = hmm_dummy_vram_alloc(dev, order, &n);
		if (index < 0)
			break;
		for (; n--; index += BIT(order)) {
			folios[got] = devmem_init_folio(dev, index, order);
			if (folios[got])
				got++;
		}
	}
	return got;
}

/*
 * dev_pagemap_ops.folio_free.  The caller may hold spinlocks; of coherent memory it may be an
 * interrupt, at the end of I/O.
 */
static void hmm_dummy_folio_free(struct folio *folio)
{
	struct hmm_dummy_dev *dev =
		container_of(folio->pgmap, struct hmm_dummy_dev, mem.pgmap);

	hmm_dummy_vram_free(dev,
			    PHYS_PFN(hmm_p2p_page_offset(folio_page(folio, 0))),
			    folio_nr_pages(folio));
}

/* dev_pagemap_ops.memory_failure: a part of the device's memory is broken. */
static int hmm_dummy_memory_failure(struct dev_pagemap *pgmap, unsigned long pfn,
				    unsigned long nr_pages, int mf_flags)
{
	struct hmm_dummy_dev *dev =
		container_of(pgmap, struct hmm_dummy_dev, mem.pgmap);
	u64 offset = hmm_p2p_page_offset(pfn_to_page(pfn));
	unsigned long i, deadline = jiffies + HZ;
	int ret = -ENODEV;

	/*
	 * Keep hmm_dummy_remove() from unregistering the exporter.  Wait for it for a second
	 * only: while this call lasts, memory_failure() handles no other error of the
	 * machine.
	 */
	while (!down_read_trylock(&dev->life)) {
		if (READ_ONCE(dev->gone) || time_after(jiffies, deadline))
			return -EBUSY;
		schedule_timeout_uninterruptible(1);
	}
	if (!dev->gone) {
		for (i = 0; i < nr_pages; i++)
			hmm_dummy_vram_bad(dev, PHYS_PFN(offset) + i);
		ret = hmm_p2p_poison(dev->exporter, offset, PFN_PHYS(nr_pages));
	}
	up_read(&dev->life);
	return ret;
}

static const struct dev_pagemap_ops hmm_dummy_pagemap_ops = {
	.folio_free = hmm_dummy_folio_free,
	.migrate_to_ram = hmm_p2p_migrate_fault,
	.memory_failure = hmm_dummy_memory_failure,
};

/* The CPU maps coherent memory: no fault brings it back, and its failures are those of RAM. */
static const struct dev_pagemap_ops hmm_dummy_coherent_ops = {
	.folio_free = hmm_dummy_folio_free,
};

/* Write-combining, for as long as the driver is bound. */
static int devmem_map_bar(struct hmm_dummy_dev *dev)
{
	dev->mem.bar_phys = pci_resource_start(dev->pdev, VRAM_BAR) + dev->mem.bar_offset;
	dev->mem.bar_kva = (__force void *)devm_ioremap_wc(&dev->pdev->dev, dev->mem.bar_phys,
						       dev->mem.bar_size);
	if (!dev->mem.bar_kva)
		return -ENOMEM;
	return hmm_dummy_test_bar_map(dev);
}

static int devmem_alloc_backing(struct hmm_dummy_dev *dev)
{
	u64 i;

	for (i = 0; i < dev->mem.size / VRAM_CHUNK; i++) {
		dev->vram.chunks[i].backing = alloc_pages(GFP_KERNEL | __GFP_ZERO,
							  get_order(VRAM_CHUNK));
		if (!dev->vram.chunks[i].backing)
			return -ENOMEM;
	}
	return 0;
}

static void devmem_unmap_vram(struct hmm_dummy_dev *dev)
{
	u64 i;

	hmm_dummy_slots_exit(dev);
	for (i = 0; i < dev->mem.size / VRAM_CHUNK && dev->vram.chunks; i++)
		if (dev->vram.chunks[i].backing)
			__free_pages(dev->vram.chunks[i].backing, get_order(VRAM_CHUNK));
	kvfree(dev->vram.chunks);
	hmm_dummy_test_bar_unmap(dev);
}

static int devmem_map_vram(struct hmm_dummy_dev *dev)
{
	bool small = dev->pdev && dev->mem.bar_size < dev->mem.size;
	int ret = 0;

	dev->vram.chunks = kvzalloc_objs(*dev->vram.chunks, dev->mem.size / VRAM_CHUNK);
	if (!dev->vram.chunks)
		return -ENOMEM;
	if (dev->pdev)
		ret = devmem_map_bar(dev);
	if (!ret && !dev->mem.coherent_base && (!dev->pdev || small))
		ret = devmem_alloc_backing(dev);
	if (!ret && small)
		ret = hmm_dummy_slots_init(dev);
	if (ret)
		devmem_unmap_vram(dev);
	return ret;
}

static void devmem_release_pfns(struct hmm_dummy_dev *dev)
{
	if (dev->mem.res)
		release_mem_region(dev->mem.res->start, resource_size(dev->mem.res));
}

/* The node where the core puts pages that it moves to RAM for peers. */
static int devmem_nearest_node(struct hmm_dummy_dev *dev)
{
	int node = dev->pdev ? dev_to_node(&dev->pdev->dev) : NUMA_NO_NODE;

	return node == NUMA_NO_NODE ? numa_mem_id() : node;
}

/* Struct pages for the memory. */
static int devmem_map_pages(struct hmm_dummy_dev *dev)
{
	u64 start = dev->mem.coherent_base;
	void *addr;

	dev->mem.pgmap.type = MEMORY_DEVICE_COHERENT;
	dev->mem.pgmap.ops = &hmm_dummy_coherent_ops;
	if (!start) {
		dev->mem.res = request_free_mem_region(&iomem_resource, dev->mem.paged,
						       dev->name);
		if (IS_ERR(dev->mem.res)) {
			int ret = PTR_ERR(dev->mem.res);

			dev->mem.res = NULL;
			return ret;
		}
		start = dev->mem.res->start;
		dev->mem.pgmap.type = MEMORY_DEVICE_PRIVATE;
		dev->mem.pgmap.ops = &hmm_dummy_pagemap_ops;
	}
	dev->mem.pgmap.range.start = start;
	/* The region is rounded up to a memory section; the memory is not. */
	dev->mem.pgmap.range.end = start + dev->mem.paged - 1;
	dev->mem.pgmap.nr_range = 1;
	/* One owner per device: hmm recognises the device's own pages by the owner. */
	dev->mem.pgmap.owner = dev;
	addr = memremap_pages(&dev->mem.pgmap, devmem_nearest_node(dev));
	if (IS_ERR(addr))
		devmem_release_pfns(dev);
	return PTR_ERR_OR_ZERO(addr);
}

int hmm_dummy_devmem_init(struct hmm_dummy_dev *dev)
{
	u64 scratch;
	int ret;

	if (dev->pdev && dev->mem.size == dev->mem.bar_size) {
		dev->mem.bar_offset = hmm_dummy_test_bar_offset();
		dev->mem.bar_size -= dev->mem.bar_offset;
		dev->mem.size = dev->mem.bar_size;
	}
	dev->mem.size = ALIGN_DOWN(dev->mem.size, VRAM_CHUNK);
	dev->mem.bar_size = ALIGN_DOWN(dev->mem.bar_size, VRAM_CHUNK);
	scratch = min((u64)scratch_mb << 20, dev->mem.size / 4);
	/* The kernel does not map coherent memory that has no struct pages. */
	if (dev->mem.coherent_base)
		scratch = 0;
	dev->mem.paged = dev->mem.size - ALIGN_DOWN(scratch, VRAM_CHUNK);

	ret = devmem_map_vram(dev);
	if (ret)
		return ret;
	ret = devmem_map_pages(dev);
	if (ret) {
		devmem_unmap_vram(dev);
		return ret;
	}
	hmm_dummy_vram_init(dev);
	return 0;
}

/* No page is in use any more: hmm_p2p_engine_unregister() has moved them to RAM. */
void hmm_dummy_devmem_exit(struct hmm_dummy_dev *dev)
{
	/* Waits for the last folio_free. */
	memunmap_pages(&dev->mem.pgmap);
	hmm_dummy_vram_exit(dev);
	devmem_release_pfns(dev);
	devmem_unmap_vram(dev);
}
