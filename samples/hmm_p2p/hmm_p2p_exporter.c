// SPDX-License-Identifier: GPL-2.0
/*
 * The smallest driver of a device whose memory process pages move to.
 *
 * The device memory is 32 MiB of RAM that the kernel's command line reserves, for example
 * with memmap=32M$0x40000000.  Then "insmod hmm_p2p_exporter.ko base=0x40000000" makes the
 * device.  A program moves its pages with HMM_P2P_SAMPLE_MOVE on /dev/hmm_p2p_exporter.  Software
 * peers (rxe, hmm_p2p_importer) then reach the pages in place.  The memory is in no BAR, so a bus
 * master gets the pages in RAM.  Documentation/mm/hmm_p2p-driver.rst has the steps.
 */
#include <linux/bitmap.h>
#include <linux/device/faux.h>
#include <linux/hmm_p2p_migrate.h>
#include <linux/io.h>
#include <linux/memremap.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "hmm_p2p_sample.h"

#define MEMORY_SIZE	(32UL << 20)
#define MEMORY_PAGES	PHYS_PFN(MEMORY_SIZE)

static unsigned long base;
module_param(base, ulong, 0444);
MODULE_PARM_DESC(base, "Physical address of the device memory, a multiple of 2 MiB");

static struct faux_device *device;
static void *memory;			/* the CPU's mapping of the device memory */
static struct dev_pagemap pgmap;	/* the struct pages that stand for it */
static struct hmm_p2p_exporter *exporter;
static struct hmm_p2p_engine *engine;
static DEFINE_SPINLOCK(used_lock);
static DECLARE_BITMAP(used, MEMORY_PAGES);	/* pages that are in use */

/* All windows stay open: registration calls this once for each. */
static int sample_open_window(void *priv, unsigned long index, struct hmm_p2p_window_map *map)
{
	map->phys = base + index * PMD_SIZE;
	map->kva = memory + index * PMD_SIZE;
	return 0;
}

static const struct hmm_p2p_exporter_ops exporter_ops = { .open_window = sample_open_window };

static unsigned int sample_alloc_folios(void *priv, unsigned int order, struct folio **folios,
					unsigned int nr)
{
	unsigned long index, n = BIT(order);
	unsigned int got;

	for (got = 0; got < nr; got++) {
		spin_lock_irq(&used_lock);
		index = bitmap_find_next_zero_area(used, MEMORY_PAGES, 0, n, n - 1);
		if (index < MEMORY_PAGES)
			bitmap_set(used, index, n);
		spin_unlock_irq(&used_lock);
		if (index >= MEMORY_PAGES)
			break;
		folios[got] = hmm_p2p_folio_init(&pgmap, PFN_PHYS(index), order);
	}
	return got;
}

static void sample_folio_free(struct folio *folio)
{
	u64 offset = hmm_p2p_page_offset(folio_page(folio, 0));

	guard(spinlock_irqsave)(&used_lock);
	bitmap_clear(used, PHYS_PFN(offset), folio_nr_pages(folio));
}

/* The CPU plays the device's copy engine. */
static int sample_copy(void *priv, struct hmm_p2p_copy_job *job)
{
	const struct hmm_p2p_copy *c;

	/* What is in another device's memory comes by way of RAM. */
	if (job->dir == HMM_P2P_FROM_PEER)
		return -EOPNOTSUPP;
	for (c = job->copies; c < job->copies + job->nr; c++) {
		void *there = memory + hmm_p2p_page_offset(c->dev_page);
		size_t bytes = PFN_PHYS(c->nr_pages);

		if (!c->ram_page)
			memset(there, 0, bytes);
		else if (job->dir == HMM_P2P_TO_DEVICE)
			memcpy(there, page_address(c->ram_page), bytes);
		else
			memcpy(page_address(c->ram_page), there, bytes);
	}
	return 0;
}

static const struct hmm_p2p_engine_ops engine_ops = {
	.alloc_folios = sample_alloc_folios, .copy = sample_copy,
};

static const struct dev_pagemap_ops pagemap_ops = {
	.folio_free = sample_folio_free, .migrate_to_ram = hmm_p2p_migrate_fault,
};

static long sample_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct hmm_p2p_sample_move move;
	struct hmm_p2p_result result = {};
	int ret;

	if (cmd != HMM_P2P_SAMPLE_MOVE)
		return -ENOTTY;
	if (copy_from_user(&move, (void __user *)arg, sizeof(move)))
		return -EFAULT;
	if (move.to_device)
		ret = hmm_p2p_migrate_to_device(engine, current->mm, move.start, move.end, 0,
						&result);
	else
		ret = hmm_p2p_migrate_to_ram(engine, current->mm, move.start, move.end, &result);
	return ret ?: result.migrated;
}

static const struct file_operations sample_fops = {
	.owner = THIS_MODULE,	/* the module stays while a file is open */
	.unlocked_ioctl = sample_ioctl,
};

static struct miscdevice misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &sample_fops,
};

/* The end of @dev undoes what the devm_ functions have done, in reverse order. */
static int __init sample_add_exporter(struct device *dev)
{
	const struct hmm_p2p_exporter_desc desc = {
		.name = KBUILD_MODNAME, .ops = &exporter_ops, .pgmap = &pgmap,
	};
	struct resource *res;
	int ret;

	if (!devm_request_mem_region(dev, base, MEMORY_SIZE, KBUILD_MODNAME))
		return -EBUSY;
	memory = devm_memremap(dev, base, MEMORY_SIZE, MEMREMAP_WB);
	if (IS_ERR(memory))
		return PTR_ERR(memory);
	/* Addresses that nothing decodes, for the struct pages.  The region may be larger. */
	res = devm_request_free_mem_region(dev, &iomem_resource, MEMORY_SIZE);
	if (IS_ERR(res))
		return PTR_ERR(res);
	pgmap.type = MEMORY_DEVICE_PRIVATE;
	pgmap.range = (struct range) { res->start, res->start + MEMORY_SIZE - 1 };
	pgmap.nr_range = 1;
	pgmap.ops = &pagemap_ops;
	pgmap.owner = &pgmap;
	ret = PTR_ERR_OR_ZERO(devm_memremap_pages(dev, &pgmap));
	if (!ret)
		exporter = hmm_p2p_register(&desc);
	return ret ?: PTR_ERR_OR_ZERO(exporter);
}

static int __init sample_init(void)
{
	const struct hmm_p2p_engine_desc engine_desc = { .ops = &engine_ops };
	int ret;

	device = faux_device_create(KBUILD_MODNAME, NULL, NULL);
	if (!device)
		return -ENODEV;
	ret = sample_add_exporter(&device->dev);
	if (ret)
		goto err_device;
	engine = hmm_p2p_engine_register(exporter, &engine_desc);
	ret = PTR_ERR_OR_ZERO(engine);
	if (ret)
		goto err_exporter;
	ret = misc_register(&misc);
	if (!ret)
		return 0;
	hmm_p2p_engine_unregister(engine);
err_exporter:
	hmm_p2p_unregister(exporter);
err_device:
	faux_device_destroy(device);
	return ret;
}
module_init(sample_init);

static void __exit sample_exit(void)
{
	misc_deregister(&misc);
	hmm_p2p_engine_unregister(engine);	/* brings all pages to RAM */
	hmm_p2p_unregister(exporter);		/* from here on no peer reaches the memory */
	faux_device_destroy(device);
}
module_exit(sample_exit);

MODULE_DESCRIPTION("hmm_p2p sample: a device with memory");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("HMM_P2P");
