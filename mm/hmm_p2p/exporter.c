// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Exporters
 *
 * An exporter is a dev_pagemap of device-private memory that peers may reach.
 * This file owns its life: register, drain, unregister, free.
 *
 * Registration builds everything first and publishes last, by storing the
 * exporter in dev_pagemap.p2p_exporter.  From there the page walk finds it.
 *
 * Unregistering cannot fail.  It stops new aliases, revokes all windows, waits for RCU readers
 * and takes the exporter apart.  When it returns, no importer reaches the memory.  Pages of the
 * memory may still be in use, and unregistering does not move them.  A driver that uses the
 * core's engine has unregistered the engine before; a driver with its own engine evicts the
 * pages after.  The object itself stays as long as a pair points to it, or a window that an
 * importer does not let go of.
 */
#include <kunit/visibility.h>
#include <linux/bits.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include <trace/events/hmm_p2p.h>

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "hmm_p2p."

DEFINE_MUTEX(hmm_p2p_lock);		/* the list and the next id */
LIST_HEAD(hmm_p2p_exporters);
static u64 hmm_p2p_next_id;

static bool enable = true;
module_param(enable, bool, 0644);
MODULE_PARM_DESC(enable,
		 "Give peers aliases (default). Off: pages go back to RAM when a peer touches them, as without hmm_p2p");

/* Whether hmm heeds range.peer.  Existing mappings do not change. */
bool hmm_p2p_enabled(void)
{
	return READ_ONCE(enable);
}

u64 hmm_p2p_percpu_sum(const u64 __percpu *counter)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(counter, cpu));
	return sum;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_percpu_sum);

void hmm_p2p_raise_max(atomic64_t *max, s64 value)
{
	s64 old = atomic64_read(max);

	while (value > old && !atomic64_try_cmpxchg(max, &old, value))
		;
}

const char *hmm_p2p_state_name(struct hmm_p2p_exporter *exp)
{
	static const char *const names[] = {
		[HMM_P2P_STATE_LIVE] = "live",
		[HMM_P2P_STATE_RESETTING] = "resetting",
		[HMM_P2P_STATE_DRAINING] = "draining",
		[HMM_P2P_STATE_DEAD] = "dead",
	};

	return names[READ_ONCE(exp->state)];
}

/*
 * hmm_p2p_exporter_of - the exporter of a device page
 * @page: a page that the caller keeps in use: by its lock, a reference, or the lock of a
 *	page table that maps it
 *
 * A page may stay in use when its exporter is unregistered.  So RCU alone keeps what this
 * returns: a caller that needs it for longer takes a reference with kref_get_unless_zero().
 *
 * Context: Under rcu_read_lock().
 *
 * Return: the exporter, or NULL if the page's device has none.
 */
struct hmm_p2p_exporter *hmm_p2p_exporter_of(const struct page *page)
{
	return rcu_dereference(page_pgmap(page)->p2p_exporter);
}

/* Return: true if the driver says that its device has vanished.  Context: as ops->lost. */
bool hmm_p2p_is_lost(struct hmm_p2p_exporter *exp)
{
	const struct hmm_p2p_exporter_desc *desc = &exp->desc;

	return desc->ops->lost && desc->ops->lost(desc->priv);
}

static void hmm_p2p_exporter_free(struct rcu_head *rcu)
{
	struct hmm_p2p_exporter *exp =
		container_of(rcu, struct hmm_p2p_exporter, rcu);

	free_percpu(exp->counters);
	kvfree(exp->let_go);
	kvfree(exp->windows);
	kfree(exp->desc.name);
	kfree(exp);
}

static void hmm_p2p_exporter_release(struct kref *kref)
{
	struct hmm_p2p_exporter *exp =
		container_of(kref, struct hmm_p2p_exporter, kref);

	call_rcu(&exp->rcu, hmm_p2p_exporter_free);
}

/**
 * hmm_p2p_exporter_get - keep an exporter in memory when it is unregistered
 * @exp: an exporter that is registered, or that the caller has a reference on
 *
 * hmm_p2p_unregister() frees the exporter.  So a driver sees to one of these, for each function
 * that takes an exporter:
 *
 * * The call has returned when hmm_p2p_unregister() begins.  For callbacks of
 *   struct pci_error_handlers the PCI core sees to it: they run under device_lock(), like
 *   remove().  For a work item cancel_work_sync() does, for an interrupt free_irq().
 * * The task has a reference.  Then it may call hmm_p2p_dead(), hmm_p2p_revoke() and
 *   hmm_p2p_get_stat() beside hmm_p2p_unregister() and after it, and hmm_p2p_reset_begin() and
 *   hmm_p2p_reset_end() after it.  The driver ends a reset before it unregisters:
 *   hmm_p2p_unregister() warns of one that is under way.
 *
 * A lock of the driver around both calls does not replace the reference for hmm_p2p_dead().
 * hmm_p2p_unregister() waits for pages that are locked, by a copy of the device for example.  If
 * the device dies then, hmm_p2p_dead() ends that wait, and must not wait for
 * hmm_p2p_unregister() itself.
 *
 * The reference keeps the exporter only.  It keeps neither the pages of the memory nor what
 * struct hmm_p2p_exporter_desc points to.  None of the functions in this list uses those once
 * hmm_p2p_unregister() has returned.
 *
 * Context: Any.
 */
void hmm_p2p_exporter_get(struct hmm_p2p_exporter *exp)
{
	kref_get(&exp->kref);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_exporter_get, "HMM_P2P");

/**
 * hmm_p2p_exporter_put - undo hmm_p2p_exporter_get()
 * @exp: the exporter
 *
 * Context: Any.
 */
void hmm_p2p_exporter_put(struct hmm_p2p_exporter *exp)
{
	kref_put(&exp->kref, hmm_p2p_exporter_release);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_exporter_put, "HMM_P2P");

/* The ops of coherent memory: the CPU maps it, so it needs no windows, and it cannot vanish. */
static const struct hmm_p2p_exporter_ops no_ops;

static bool hmm_p2p_has_no_ops(const struct hmm_p2p_exporter_ops *ops)
{
	return !ops->open_window && !ops->close_window && !ops->flush_writes && !ops->lost;
}

/* What is wrong with the memory and its ops, or NULL. */
static const char *hmm_p2p_pgmap_defect(const struct hmm_p2p_exporter_desc *desc,
					const struct hmm_p2p_exporter_ops *ops)
{
	const struct dev_pagemap *pgmap = desc->pgmap;

	if (!pgmap)
		return "pgmap is missing";
	if (pgmap->nr_range != 1)
		return "pgmap->nr_range is not 1";
	if (!pgmap->owner)
		return "pgmap->owner is missing";
	if (pgmap->type == MEMORY_DEVICE_COHERENT) {
		if (!hmm_p2p_has_no_ops(ops))
			return "ops are set, and coherent memory has none";
		if (desc->provider)
			return "provider is set, and coherent memory has none";
		return NULL;
	}
	if (pgmap->type != MEMORY_DEVICE_PRIVATE)
		return "pgmap->type is neither device-private nor coherent";
	if (!ops->open_window)
		return "ops->open_window is missing";
	return NULL;
}

/* The size of the memory in bytes. */
static u64 hmm_p2p_memory_size(const struct hmm_p2p_exporter_desc *desc)
{
	return desc->size ?: range_len(&desc->pgmap->range);
}

/* What is wrong with the bounds of the memory, or NULL. */
static const char *hmm_p2p_size_defect(const struct hmm_p2p_exporter_desc *desc)
{
	if (!IS_ALIGNED(desc->pgmap->range.start, PMD_SIZE))
		return "pgmap->range.start is no multiple of PMD_SIZE";
	if (hmm_p2p_memory_size(desc) > range_len(&desc->pgmap->range))
		return "size is larger than pgmap->range";
	if (!PAGE_ALIGNED(hmm_p2p_memory_size(desc)))
		return desc->size ? "size is no multiple of PAGE_SIZE" :
				    "pgmap->range is no multiple of PAGE_SIZE";
	return NULL;
}

/* What is wrong with the windows, or NULL. */
static const char *hmm_p2p_window_defect(const struct hmm_p2p_exporter_desc *desc,
					 const struct hmm_p2p_exporter_ops *ops,
					 unsigned int shift)
{
	if (shift < PMD_SHIFT || shift > 30)
		return "window_shift is out of range";
	if (!PAGE_ALIGNED(desc->window_offset) || desc->window_offset >= BIT_ULL(shift))
		return "window_offset is no multiple of PAGE_SIZE below the window size";
	if (ops->close_window && range_len(&desc->aperture) < BIT_ULL(shift))
		return "aperture is smaller than a window";
	if (!ops->close_window && (desc->aperture.start || desc->aperture.end))
		return "aperture is set, and ops->close_window is not";
	return NULL;
}

static int hmm_p2p_check_desc(const struct hmm_p2p_exporter_desc *desc,
			      unsigned int shift)
{
	const struct hmm_p2p_exporter_ops *ops = desc->ops ?: &no_ops;
	const char *defect = desc->name ? NULL : "name is missing";

	defect = defect ?: hmm_p2p_pgmap_defect(desc, ops);
	defect = defect ?: hmm_p2p_size_defect(desc);
	defect = defect ?: hmm_p2p_window_defect(desc, ops, shift);
	if (!defect)
		return 0;
	pr_err("hmm_p2p: %s: exporter refused: %s\n", desc->name ?: "?", defect);
	return -EINVAL;
}

/* Claim the name, the id and a place in the list.  Under hmm_p2p_lock. */
static int hmm_p2p_claim(struct hmm_p2p_exporter *exp)
{
	struct hmm_p2p_exporter *other;

	lockdep_assert_held(&hmm_p2p_lock);
	list_for_each_entry(other, &hmm_p2p_exporters, node)
		if (other->desc.pgmap == exp->desc.pgmap ||
		    (other->sole_owner && other->owner == exp->owner) ||
		    !strcmp(other->desc.name, exp->desc.name))
			return -EEXIST;
	exp->id = hmm_p2p_next_id++;
	list_add_tail(&exp->node, &hmm_p2p_exporters);
	return 0;
}

static void hmm_p2p_unclaim(struct hmm_p2p_exporter *exp)
{
	mutex_lock(&hmm_p2p_lock);
	list_del(&exp->node);
	mutex_unlock(&hmm_p2p_lock);
}

/*
 * hmm_p2p_claim_owner - make sure that no other exporter has the owner of this one's memory
 * @exp: an exporter that is registered
 *
 * An engine needs that: migrate_vma_setup() selects pages by owner.
 *
 * Return: 0, or -EEXIST if another exporter has the owner, or this one was claimed before.
 */
int hmm_p2p_claim_owner(struct hmm_p2p_exporter *exp)
{
	struct hmm_p2p_exporter *other;

	guard(mutex)(&hmm_p2p_lock);
	if (exp->sole_owner)
		return -EEXIST;
	list_for_each_entry(other, &hmm_p2p_exporters, node)
		if (other != exp && other->owner == exp->owner)
			return -EEXIST;
	exp->sole_owner = true;
	return 0;
}

/**
 * hmm_p2p_register - let peers reach a device's memory
 * @desc: the memory and what the driver supplies; copied, @desc->name too
 *
 * Call it after memremap_pages() and before the first page of the memory is
 * handed out.  From then on importers may get aliases of its pages.
 *
 * Context: Process context, no locks held; calls @desc->ops->open_window().
 *
 * Return: the exporter, to be given back with hmm_p2p_unregister(), or
 * * -EINVAL, and the kernel log names the field of @desc: an op, the name or the pgmap's owner
 *   is missing; the pgmap is not one range of MEMORY_DEVICE_PRIVATE or
 *   MEMORY_DEVICE_COHERENT, or does not begin at a multiple of PMD_SIZE; size is no multiple of
 *   PAGE_SIZE, or larger than the pgmap; coherent memory comes with an op or a provider; the
 *   window size is out of range, or larger than the aperture of windows on demand;
 *   window_offset is no multiple of PAGE_SIZE, or not below the window size; there is an
 *   aperture, and windows are not on demand.  Or the log names a window, by its index and their
 *   number, and what is wrong with the address that ops->open_window gave
 * * -EEXIST: this pgmap, one of the same owner that has an engine, or an exporter of the
 *   same name, is registered already
 * * -EBUSY: a window's address is another window's, too, or is still held by an
 *   importer that did not let go of it
 * * -ENOMEM
 * * -ENXIO: the bus shows no window of the memory
 * * what else @desc->ops->open_window() returned
 */
struct hmm_p2p_exporter *
hmm_p2p_register(const struct hmm_p2p_exporter_desc *desc)
{
	unsigned int shift = desc->window_shift ?: PMD_SHIFT;
	struct hmm_p2p_exporter *exp;
	int ret;

	ret = hmm_p2p_check_desc(desc, shift);
	if (ret)
		return ERR_PTR(ret);

	exp = kzalloc_obj(*exp);
	if (!exp)
		return ERR_PTR(-ENOMEM);
	kref_init(&exp->kref);
	init_rwsem(&exp->live_sem);
	mutex_init(&exp->life);
	spin_lock_init(&exp->late_lock);
	mutex_init(&exp->flush_lock);
	INIT_LIST_HEAD(&exp->pairs);
	hmm_p2p_window_setup(exp);
	exp->desc = *desc;
	exp->desc.ops = desc->ops ?: &no_ops;
	exp->on_demand = exp->desc.ops->close_window;
	exp->owner = desc->pgmap->owner;
	exp->coherent = desc->pgmap->type == MEMORY_DEVICE_COHERENT;
	exp->first_pfn = PHYS_PFN(desc->pgmap->range.start);
	exp->nr_pages = PHYS_PFN(hmm_p2p_memory_size(desc));
	exp->window_order = shift - PAGE_SHIFT;
	exp->window_skip = PHYS_PFN(desc->window_offset);
	if (!hmm_p2p_is_coherent(exp))
		exp->nr_windows = DIV_ROUND_UP(exp->window_skip + exp->nr_pages,
					       BIT(exp->window_order));

	ret = -ENOMEM;
	exp->desc.name = kstrdup(desc->name, GFP_KERNEL);
	exp->windows = kvzalloc_objs(*exp->windows, exp->nr_windows ?: 1);
	exp->counters = alloc_percpu(struct hmm_p2p_counters);
	if (!exp->desc.name || !exp->windows || !exp->counters || hmm_p2p_flush_init(exp))
		goto err_put;

	mutex_lock(&hmm_p2p_lock);
	ret = hmm_p2p_claim(exp);
	mutex_unlock(&hmm_p2p_lock);
	if (ret)
		goto err_put;

	ret = hmm_p2p_windows_init(exp);
	if (ret)
		goto err_unclaim;

	hmm_p2p_debugfs_add(exp);
	trace_hmm_p2p_register(exp->desc.name, exp->nr_pages);
	/* Publish: pairs with rcu_dereference() in hmm_p2p_lookup(). */
	rcu_assign_pointer(desc->pgmap->p2p_exporter, exp);
	return exp;

err_unclaim:
	hmm_p2p_unclaim(exp);
err_put:
	hmm_p2p_exporter_put(exp);
	return ERR_PTR(ret);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_register, "HMM_P2P");

/**
 * hmm_p2p_unregister - take a device's memory away from peers, for good
 * @exp: from hmm_p2p_register(); its engine, if it had one, is unregistered
 *
 * The call stops handing out aliases, takes back all that there are, and waits until every
 * importer had its chance to let go.  After it returns, no peer reaches the memory through an
 * alias, and no write of a peer is on its way to it.
 *
 * Pages of the memory may be in use before and after the call.  A driver that uses the core's
 * engine has none left: hmm_p2p_engine_unregister() has moved them to RAM.  A driver with an
 * engine of its own does that after this call, and no peer gets at a page meanwhile: its
 * fault brings the page to RAM, with dev_pagemap_ops.migrate_to_ram.  The caller may
 * memunmap_pages() (which waits for calls of folio_free that are under way) and release the
 * device when no page is in use.
 *
 * The dev_pagemap_ops of a driver with an engine of its own run beside this call and after it.
 * They may call hmm_p2p_flush_folio() and hmm_p2p_page_offset(), which need a page and not @exp.
 * Functions that need @exp, such as hmm_p2p_poison() in dev_pagemap_ops.memory_failure, must not
 * run beside this call, apart from those that hmm_p2p_exporter_get() names, in tasks that have a
 * reference.  The driver may use a lock for that: hmm_p2p_poison() waits for at most a second, and
 * for nothing that waits for this call.
 *
 * Functions that take no exporter may be called after this: hmm_p2p_page_offset() and
 * hmm_p2p_page_at() until memunmap_pages() returns, hmm_p2p_folio_init() and
 * hmm_p2p_flush_folio() until memunmap_pages() is called, and hmm_p2p_copy_done() for a copy that
 * ends late.
 *
 * An importer that breaks its contract and holds on does not delay this call.  The core names
 * and quarantines it.  Until it lets go, hmm_p2p_register() refuses the addresses that it holds.
 *
 * Context: Process context, no locks held, in particular none that an importer's invalidate
 * callback needs, nor one that a task needs while it has a page of the memory locked: this
 * waits for such pages.  Cannot fail.  A reset that is under way is ended first, with a warning.
 */
void hmm_p2p_unregister(struct hmm_p2p_exporter *exp)
{
	struct dev_pagemap *pgmap = exp->desc.pgmap;

	/* Its pages stay where they are: without the engine, no task can move them. */
	WARN_ONCE(exp->engine, "hmm_p2p: %s: unregistered before its engine\n",
		  exp->desc.name);
	hmm_p2p_begin_drain(exp);
	hmm_p2p_revoke_all(exp);
	/* Wait for hmm_p2p_dead(), if it has begun.  From here on it does nothing. */
	mutex_lock(&exp->life);
	exp->closed = true;
	mutex_unlock(&exp->life);
	/* Writes to memory that was freed, and not used again, may still be on their way. */
	hmm_p2p_flush_all(exp);
	/* A task in hmm_p2p_flush_folio() may keep the exporter for longer than its driver does. */
	hmm_p2p_flush_end(exp);

	/* A task that finds no exporter sees the writes: pairs with hmm_p2p_flush_folio(). */
	smp_mb();
	RCU_INIT_POINTER(pgmap->p2p_exporter, NULL);
	/* Walks that found the exporter through the pgmap are over after this. */
	synchronize_rcu();
	hmm_p2p_windows_close(exp);
	hmm_p2p_windows_exit(exp);
	hmm_p2p_debugfs_remove(exp);
	hmm_p2p_unclaim(exp);
	trace_hmm_p2p_unregister(exp->desc.name, exp->nr_pages);
	hmm_p2p_exporter_put(exp);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_unregister, "HMM_P2P");

/**
 * hmm_p2p_page_offset - where in its device a device-private page is
 * @page: a page of an exporter's dev_pagemap
 *
 * Drivers use only this function to get from a page to a place in device memory: the PFNs of
 * device-private pages are not addresses of anything.
 *
 * Context: Any, also from dev_pagemap_ops.folio_free, which may still run when
 * hmm_p2p_unregister() has returned: this needs the pgmap, not the exporter.
 *
 * Return: the offset in bytes from the start of the device memory.
 */
u64 hmm_p2p_page_offset(const struct page *page)
{
	return hmm_p2p_offset_in(page_pgmap(page), page);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_page_offset, "HMM_P2P");

/**
 * hmm_p2p_page_at - the struct page that stands for a place in device memory
 * @pgmap: the device memory, after memremap_pages()
 * @offset: bytes from its start, less than its size
 *
 * The inverse of hmm_p2p_page_offset().  If the page is free, it may look like the tail of an
 * earlier huge page: the caller does not use page_folio() on it.
 *
 * Context: Any.
 *
 * Return: the page.
 */
struct page *hmm_p2p_page_at(const struct dev_pagemap *pgmap, u64 offset)
{
	return pfn_to_page(PHYS_PFN(pgmap->range.start + offset));
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_page_at, "HMM_P2P");

/**
 * hmm_p2p_folio_init - make a folio of free device memory
 * @pgmap: the device memory, after memremap_pages()
 * @offset: bytes from its start, a multiple of the folio's size
 * @order: the folio has 2^@order pages, all of which are free
 *
 * A driver calls it in &hmm_p2p_engine_ops.alloc_folios, and for the destinations of migrations
 * of its own.  The folio comes back through dev_pagemap_ops.folio_free when its last reference
 * goes.
 *
 * Context: Process context, no spinlock held: takes the lock of the first page, which no other
 * task has for long.
 *
 * Return: the folio, locked and with one reference.
 */
struct folio *hmm_p2p_folio_init(struct dev_pagemap *pgmap, u64 offset, unsigned int order)
{
	struct page *page = hmm_p2p_page_at(pgmap, offset);

	/* page_folio() is valid only from here on: the page may have been a tail page. */
	zone_device_page_init(page, pgmap, order);
	return page_folio(page);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_folio_init, "HMM_P2P");

/**
 * hmm_p2p_get_stat - how peers use an exporter's memory
 * @exp: the exporter
 * @stat: which of its counters
 *
 * For a driver's policy: the core has none.
 *
 * Context: Process context, may sleep, takes a lock that all exporters share: the counters are
 * kept by pair.
 *
 * Return: a total since the exporter was registered, that only grows.
 */
u64 hmm_p2p_get_stat(struct hmm_p2p_exporter *exp, enum hmm_p2p_stat stat)
{
	unsigned int i;
	u64 n = 0;

	switch (stat) {
	case HMM_P2P_STAT_PEER_FAULTS:
		return hmm_p2p_total_read(exp, HMM_P2P_C_FAULTS);
	case HMM_P2P_STAT_PEER_FALLBACKS:
		/* Without refusals of a dead device: those move nothing to RAM. */
		for (i = HMM_P2P_NOT_LIVE; i < HMM_P2P_DEAD; i++)
			n += hmm_p2p_total_read(exp, HMM_P2P_C_FALLBACK + i);
		break;
	}
	return n;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_get_stat, "HMM_P2P");
