// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The driver's side of the migration engine
 *
 * A driver that uses the core's engine registers one for its exporter.  The driver hands out
 * folios of its memory, copies, and makes room by eviction.  dev_pagemap_ops.migrate_to_ram is
 * the core's (pagemap.c).
 *
 * A worker plays the copy engine.  It makes large copies while the core unmaps the next pages.
 * Small copies, such as that for a CPU fault, are made at once: to wake up the worker and to wait
 * for it takes longer.
 *
 * Replace for real hardware: copy_job_now() with the copy engine.  One that masters the bus has
 * desc.dma_copies set in hmm_dummy_engine_init(), and gets addresses in job->dma; test/edu.c is
 * an example.
 */
#include <linux/highmem.h>
#include <linux/module.h>

#include "hmm_dummy.h"

static unsigned int fault_around_kb = 64;
module_param(fault_around_kb, uint, 0644);
MODULE_PARM_DESC(fault_around_kb,
		 "KiB that a CPU fault moves to RAM, and that migrate_on_fault moves to the device: 0 (a page) or a power of two up to 2048. For devices that are bound from now on (64)");

/* Below, the copy is made at once. */
#define ASYNC_MIN_PAGES	32

static unsigned int hmm_dummy_alloc_folios(void *priv, unsigned int order,
					   struct folio **folios, unsigned int nr)
{
	struct hmm_dummy_dev *dev = priv;

	if (hmm_dummy_test_no_folio(dev, order))
		return 0;
	return hmm_dummy_devmem_alloc(dev, order, folios, nr);
}

/* The pages of a piece follow one another on both sides. */
static int copy_piece(struct hmm_dummy_dev *dev, const struct hmm_p2p_copy *c,
		      enum hmm_p2p_copy_dir dir)
{
	unsigned long bytes = (unsigned long)c->nr_pages << PAGE_SHIFT;
	unsigned long done, n;

	/*
	 * A slot may open or close between two pages, and chunks are not neighbours.
	 * A piece of another device's memory lies in one window.
	 */
	for (done = 0; done < bytes; done += n) {
		u64 offset = hmm_p2p_page_offset(c->dev_page) + done;
		void *vram, *peer = NULL;

		n = min(bytes - done, VRAM_CHUNK - offset % VRAM_CHUNK);
		if (dev->slots.nr)
			n = PAGE_SIZE;
		if (dir == HMM_P2P_FROM_PEER) {
			peer = hmm_pfn_kmap_local(c->peer + (done >> PAGE_SHIFT));
			if (!peer)
				return -EOPNOTSUPP;
		}
		vram = hmm_dummy_vram_get(dev, offset);
		if (peer)
			hmm_dummy_copy_bytes(vram, peer, n);
		else if (!c->ram_page)
			memset(vram, 0, n);
		else if (dir == HMM_P2P_TO_DEVICE)
			hmm_dummy_copy_bytes(vram, page_address(c->ram_page) + done, n);
		else
			hmm_dummy_copy_bytes(page_address(c->ram_page) + done, vram, n);
		hmm_dummy_vram_put(dev);
		if (peer)
			hmm_pfn_kunmap_local(c->peer + (done >> PAGE_SHIFT), peer);
	}
	return 0;
}

static int copy_job_now(struct hmm_dummy_dev *dev, struct hmm_p2p_copy_job *job)
{
	unsigned int i;
	int ret = 0;

	if (job->dma)
		return hmm_dummy_test_copy_by_dma(dev, job);
	for (i = 0; i < job->nr && !ret; i++) {
		if (READ_ONCE(dev->dead))
			return -EIO;
		ret = copy_piece(dev, &job->copies[i], job->dir);
		cond_resched();
	}
	return ret;
}

/* The copy engine. */
static void hmm_dummy_copy_work(struct work_struct *work)
{
	struct hmm_dummy_dev *dev =
		container_of(work, struct hmm_dummy_dev, migration.work);
	struct hmm_p2p_copy_job *job;

	for (;;) {
		spin_lock(&dev->migration.lock);
		job = list_first_entry_or_null(&dev->migration.copies, struct hmm_p2p_copy_job,
					       node);
		if (job)
			list_del(&job->node);
		spin_unlock(&dev->migration.lock);
		if (!job)
			return;
		hmm_p2p_copy_done(job, copy_job_now(dev, job));
	}
}

/* Whether to copy at once: the worker and its notification would take longer. */
static bool copy_is_short(const struct hmm_p2p_copy_job *job)
{
	return job->alone || (job->nr_pages < ASYNC_MIN_PAGES && !job->dma);
}

static int hmm_dummy_copy(void *priv, struct hmm_p2p_copy_job *job)
{
	struct hmm_dummy_dev *dev = priv;

	if (hmm_dummy_test_fails())
		return -EIO;
	if (copy_is_short(job) || hmm_dummy_test_copies_at_once())
		return copy_job_now(dev, job);
	spin_lock(&dev->migration.lock);
	list_add_tail(&job->node, &dev->migration.copies);
	spin_unlock(&dev->migration.lock);
	queue_work(dev->sched.copy_wq, &dev->migration.work);
	return -EINPROGRESS;
}

/*
 * Evict the memory that was used least recently.  Memory that has been used since this call began
 * stays: a task is about to use it.
 */
static int hmm_dummy_make_room(void *priv, unsigned long nr_pages)
{
	struct hmm_dummy_dev *dev = priv;
	u64 before = atomic64_read(&dev->vram.clock) + 1;
	struct hmm_p2p_result result = {};
	unsigned long made = 0;
	long chunk;
	int ret;

	if (hmm_dummy_test_never_evicts())
		return -ENOMEM;
	while (made < nr_pages) {
		chunk = hmm_dummy_vram_oldest(dev, before);
		if (chunk < 0)
			break;
		ret = hmm_p2p_evict(dev->engine, chunk * VRAM_CHUNK, VRAM_CHUNK,
				    &result);
		if (ret)
			return ret;
		made += result.migrated;
		atomic64_add(result.migrated, &dev->migration.evicted);
		/* If it did not move now, it is the next one's turn. */
		hmm_dummy_vram_touch(dev, chunk * VRAM_CHUNK);
	}
	/* Another task's migration may have locked all of it.  Give that task a moment. */
	if (!made)
		schedule_timeout_uninterruptible(1);
	return 0;
}

static const struct hmm_p2p_engine_ops hmm_dummy_engine_ops = {
	.alloc_folios = hmm_dummy_alloc_folios,
	.copy = hmm_dummy_copy,
	.make_room = hmm_dummy_make_room,
};

/* When the exporter is registered, and no page is in use yet. */
int hmm_dummy_engine_init(struct hmm_dummy_dev *dev)
{
	struct hmm_p2p_engine_desc desc = {
		.ops = &hmm_dummy_engine_ops,
		.priv = dev,
		.dev = dev->pdev ? &dev->pdev->dev : NULL,
		.fault_around = fault_around_kb << 10,
	};
	int ret = hmm_dummy_test_engine_desc(dev, &desc);

	if (ret)
		return ret;
	dev->migration.fault_around = desc.fault_around;
	spin_lock_init(&dev->migration.lock);
	INIT_LIST_HEAD(&dev->migration.copies);
	INIT_WORK(&dev->migration.work, hmm_dummy_copy_work);
	dev->engine = hmm_p2p_engine_register(dev->exporter, &desc);
	return PTR_ERR_OR_ZERO(dev->engine);
}

/* Everything that is in the memory goes to RAM.  The exporter goes next. */
void hmm_dummy_engine_exit(struct hmm_dummy_dev *dev)
{
	hmm_p2p_engine_unregister(dev->engine);
}

/* The device is dead: its copies end with an error, and none begins. */
void hmm_dummy_copies_end(struct hmm_dummy_dev *dev)
{
	flush_work(&dev->migration.work);
}
