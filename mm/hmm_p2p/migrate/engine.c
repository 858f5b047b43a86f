// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Engines
 *
 * A migration engine is an object of its own, which a driver adds to its exporter if it has
 * no engine of its own:
 *
 *	engine		moves pages to the memory and from it: this folder
 *	  |  uses
 *	  v
 *	exporter	lets peers reach the memory: the folder above
 *
 * Nothing in the folder above calls the engine.  An exporter has a pointer to it, by which the
 * engine of a page is found.
 *
 * This file owns its life.  Registering publishes the pointer last.  Unregistering cannot fail:
 *
 *	drain	no migration to the device is under way, and none begins
 *	evict	every page goes to RAM; or the device is dead, and no page table has one
 *	forget	the pointer goes, and the engine
 *
 * A task that finds the engine by a page has that page locked, and the page was mapped when
 * the task locked it.  Eviction waits for such a page, and so does death.  A migration to another
 * device finds the engine while it holds live_sem of this exporter, and draining waits for that.
 *
 * debugfs: hmm_p2p/EXPORTER/migrations, "name value" lines.
 */
#include <linux/debugfs.h>
#include <linux/export.h>
#include <linux/log2.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "internal.h"

static const char *const counter_names[HMM_P2P_E_NR_COUNTERS] = {
	[HMM_P2P_E_TO_DEVICE]	= "to_device",
	[HMM_P2P_E_TO_RAM]	= "to_ram",
	[HMM_P2P_E_FROM_PEER]	= "from_peer",
	[HMM_P2P_E_CPU_FAULTS]	= "cpu_faults",
	[HMM_P2P_E_DMA_MAPPED]	= "dma_mapped",
	[HMM_P2P_E_DMA_UNMAPPED] = "dma_unmapped",
};

static int migrations_show(struct seq_file *m, void *v)
{
	struct hmm_p2p_engine *engine = m->private;
	unsigned int i;

	for (i = 0; i < HMM_P2P_E_NR_COUNTERS; i++)
		seq_printf(m, "%s %llu\n", counter_names[i], hmm_p2p_engine_sum(engine, i));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(migrations);

/* What is wrong with @desc, or NULL. */
static const char *engine_desc_defect(const struct hmm_p2p_engine_desc *desc)
{
	if (!desc->ops)
		return "ops is missing";
	if (!desc->ops->alloc_folios)
		return "ops->alloc_folios is missing";
	if (!desc->ops->copy)
		return "ops->copy is missing";
	if (desc->dma_copies && !desc->dev)
		return "dma_copies is set, and dev is missing";
	if (desc->dma_copies && !desc->dev->dma_mask)
		return "dma_copies is set, and dev has no dma_mask";
	if (desc->dma_copies && !hmm_p2p_dma_reaches_ram(desc->dev))
		return "dma_copies is set, and dma_mask of dev reaches neither RAM nor swiotlb";
	if (desc->fault_around && (!is_power_of_2(desc->fault_around) ||
				   desc->fault_around > PMD_SIZE))
		return "fault_around is no power of two, or larger than PMD_SIZE";
	return NULL;
}

static void engine_free(struct hmm_p2p_engine *engine)
{
	free_percpu(engine->counters);
	kfree(engine);
}

/**
 * hmm_p2p_engine_register - let the core migrate the memory of an exporter
 * @exp: the exporter, which stays registered until the engine is unregistered
 * @desc: what the driver supplies; copied
 *
 * Call it after hmm_p2p_register() and before the first page of the memory is handed out.
 * The owner of the exporter's pgmap must be this device's alone: migrate_vma_setup() takes
 * the pages of an owner.
 *
 * Context: Process context, no locks held.
 *
 * Return: the engine, to be given back with hmm_p2p_engine_unregister(), or
 * * -EINVAL, and the kernel log names the field of @desc: an op is missing; dma_copies
 *   is set for a device that is missing, has no DMA mask, or does not reach all RAM with that
 *   mask and has no bounce buffers within it; fault_around is no power of two, or larger than
 *   PMD_SIZE
 * * -EEXIST: the exporter has an engine, or another exporter's pgmap has the same owner
 * * -ENODEV: the exporter is being unregistered, or its device is dead
 * * -ENOMEM
 */
struct hmm_p2p_engine *
hmm_p2p_engine_register(struct hmm_p2p_exporter *exp,
			const struct hmm_p2p_engine_desc *desc)
{
	const char *defect = engine_desc_defect(desc);
	struct hmm_p2p_engine *engine;
	int ret = -ENOMEM;

	if (defect) {
		pr_err("hmm_p2p: %s: engine refused: %s\n", exp->desc.name, defect);
		return ERR_PTR(-EINVAL);
	}
	/* The driver does not unregister @exp beside this call, so this needs no lock. */
	if (READ_ONCE(exp->state) > HMM_P2P_STATE_RESETTING)
		return ERR_PTR(-ENODEV);
	engine = kzalloc_obj(*engine);
	if (!engine)
		return ERR_PTR(-ENOMEM);
	engine->desc = *desc;
	engine->exp = exp;
	engine->counters = alloc_percpu(struct hmm_p2p_engine_counters);
	if (!engine->counters)
		goto err_free;
	ret = hmm_p2p_claim_owner(exp);
	if (ret)
		goto err_free;
	engine->debugfs = debugfs_create_file("migrations", 0444, hmm_p2p_debugfs_dir(exp),
					      engine, &migrations_fops);
	/* Publish: pairs with hmm_p2p_engine_of(). */
	smp_store_release(&exp->engine, engine);
	return engine;

err_free:
	engine_free(engine);
	return ERR_PTR(ret);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_engine_register, "HMM_P2P");

/**
 * hmm_p2p_engine_unregister - bring all of a device's memory to RAM, for good
 * @engine: from hmm_p2p_engine_register()
 *
 * No migration to the device begins any more and no peer gets an alias.  Every page moves to
 * RAM.  The data of processes is kept, unless hmm_p2p_dead() said that it is lost, or
 * &hmm_p2p_exporter_ops.lost says so now.  Afterwards the driver must call hmm_p2p_unregister(),
 * may call hmm_p2p_dead() before, and calls nothing else for the exporter.  It may call
 * hmm_p2p_copy_done() at any time.
 *
 * No DMA mapping of a copy is left afterwards, also none of a copy that the driver has not ended
 * because its device is dead: see hmm_p2p_copy_done().  The exception is a bounce buffer to
 * which the device may still write while no IOMMU stops it: it stays mapped for ever, and
 * CONFIG_DMA_API_DEBUG reports it when the driver goes.  &hmm_p2p_engine_desc.dev may go then.
 *
 * The caller makes sure that no other call for @engine is under way or begins, apart from
 * hmm_p2p_migrate_fault(), for which this function waits.
 *
 * Context: Process context, no locks held, in particular none that the copy op or an
 * importer's invalidate callback needs.  Cannot fail; takes as long as copying the memory in
 * use takes, and longer while RAM is short or the copy op fails.  Waits until the driver has
 * ended every copy from another device to this one, unless this one is dead.  A reset that is
 * under way is ended first, with a warning.
 */
void hmm_p2p_engine_unregister(struct hmm_p2p_engine *engine)
{
	struct hmm_p2p_exporter *exp = engine->exp;

	hmm_p2p_begin_drain(exp);
	hmm_p2p_evict_all(engine);
	/*
	 * hmm_p2p_dead() may have ended the eviction.  It waits for faults that have pages
	 * locked, and so are in the engine.
	 */
	mutex_lock(&exp->life);
	mutex_unlock(&exp->life);
	if (hmm_p2p_is_dead(exp))
		hmm_p2p_copy_forget(engine);
	hmm_p2p_dma_forget(engine);
	WRITE_ONCE(exp->engine, NULL);
	debugfs_remove(engine->debugfs);
	engine_free(engine);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_engine_unregister, "HMM_P2P");

/**
 * hmm_p2p_engine_get_stat - how many pages an engine has moved
 * @engine: the engine
 * @stat: which of its counters
 *
 * For a driver's policy: the core has none.
 *
 * Context: Any, and cheap enough for each fault: adds up counters of all CPUs.
 *
 * Return: a total since the engine was registered, that only grows.
 */
u64 hmm_p2p_engine_get_stat(struct hmm_p2p_engine *engine, enum hmm_p2p_engine_stat stat)
{
	switch (stat) {
	case HMM_P2P_ENGINE_STAT_TO_DEVICE:
		return hmm_p2p_engine_sum(engine, HMM_P2P_E_TO_DEVICE) +
		       hmm_p2p_engine_sum(engine, HMM_P2P_E_FROM_PEER);
	case HMM_P2P_ENGINE_STAT_TO_RAM:
		return hmm_p2p_engine_sum(engine, HMM_P2P_E_TO_RAM);
	case HMM_P2P_ENGINE_STAT_CPU_FAULTS:
		return hmm_p2p_engine_sum(engine, HMM_P2P_E_CPU_FAULTS);
	}
	return 0;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_engine_get_stat, "HMM_P2P");
