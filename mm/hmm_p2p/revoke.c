// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Revoking
 *
 * The core takes aliases away without moving the memory.  An importer gets an alias for an
 * address of a process, and listens to that address with an mmu interval notifier.  So the core
 * finds, through rmap, every address that maps a folio of the window, and calls the notifiers
 * there:
 *
 *	fault of an importer             revoke
 *	  mmu_interval_read_begin()
 *	  walk: window is OPEN
 *	    gets an alias
 *	                                 window is REVOKING
 *	                                 for each address, invalidate_range_start:
 *	                                   seq moves on, the importer's callback
 *	                                   drops what it has mapped
 *	  takes its lock
 *	  mmu_interval_read_retry(): yes
 *	  walk: window is REVOKING
 *	    no alias; waits, or falls back
 *
 * A fault that begins after the callbacks sees REVOKING: the store comes before
 * invalidate_range_start, for which mmu_interval_read_begin() waits.  A fault whose retry was
 * through before has mapped its entry under the importer's lock, where the callback finds it.
 * A page table entry may change meanwhile: that change calls the notifiers, too.
 *
 * So when all callbacks have returned, the window has no references.  If it has, an importer
 * has broken its contract: see hmm_p2p_quarantine().
 *
 * Unregistering revokes all windows.  DRAINING, the state of the exporter, then stands where
 * REVOKING is in the drawing, and stays: a walk that sees it gets no alias, whatever the
 * window says.
 *
 * Copies between devices use a window while no page table has their pages.  The copying task has
 * the folio locked from before it looks at the state until the copy is over.  So revoking waits
 * for it, as for every task that has the folio locked.
 *
 * A large folio may lie in two windows.  Revoking one of them calls the notifiers for all of
 * the folio, and what is mapped through the other window is faulted on again.
 *
 * The rmap walk needs the folio lock.  The core only tries to lock: to sleep with a reference on
 * the folio would make another task's migration fail.  It tries a locked folio again.
 *
 * Small pages that are neighbours in a VMA share a notifier.  It covers the entries around
 * the address, in the same page table, that are pages of the window too, and no others: their
 * importers would fault again in vain.  An address needs one notifier since the window became
 * REVOKING, whatever is mapped there later, because no walk gets an alias of this window any
 * more.  So the core remembers the addresses with a pointer to the mm, and takes no reference: a
 * later mm at the same place in memory has no alias of this window either.
 */
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/leafops.h>
#include <linux/mmu_notifier.h>
#include <linux/mm.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/timekeeping.h>

#include <trace/events/hmm_p2p.h>

#include "../internal.h"
#include "internal.h"

/* Addresses that a notifier has covered. */
struct revoke_range {
	const struct mm_struct *mm;	/* compared only */
	unsigned long start;
	unsigned long end;
};

/* How many ranges are remembered, one for each process that shares the pages. */
#define REVOKE_RANGES	4

struct revoke_arg {
	struct hmm_p2p_exporter *exp;
	unsigned long pfn;		/* of the window */
	unsigned long end_pfn;
	unsigned long events;
	struct revoke_range ranges[REVOKE_RANGES];	/* the latest ones, by events */
};

static bool is_revoked_range(struct revoke_arg *arg, const struct revoke_range *r)
{
	unsigned int i;

	for (i = 0; i < REVOKE_RANGES; i++)
		if (arg->ranges[i].mm == r->mm && arg->ranges[i].start <= r->start &&
		    r->end <= arg->ranges[i].end)
			return true;
	return false;
}

/* Return: true if an entry maps a page of the window. */
static bool pte_is_in_window(pte_t pte, const struct revoke_arg *arg)
{
	softleaf_t entry = softleaf_from_pte(pte);

	return softleaf_is_device_private(entry) && softleaf_to_pfn(entry) >= arg->pfn &&
	       softleaf_to_pfn(entry) < arg->end_pfn;
}

/* Extend the address of a small page to a range, by its neighbours that are in the window. */
static void revoke_add_neighbours(struct page_vma_mapped_walk *pvmw,
				  const struct revoke_arg *arg, struct revoke_range *r)
{
	struct vm_area_struct *vma = pvmw->vma;
	unsigned long first = max(vma->vm_start, r->start & PMD_MASK);
	unsigned long end = min(vma->vm_end, (r->start & PMD_MASK) + PMD_SIZE);
	pte_t *ptep;

	/* Moved away meanwhile, or it moves right now: then the address is all there is. */
	if (!page_vma_mapped_walk(pvmw))
		return;
	ptep = pvmw->pte;
	for (; r->start > first && pte_is_in_window(ptep_get(ptep - 1), arg); ptep--)
		r->start -= PAGE_SIZE;
	ptep = pvmw->pte;
	for (; r->end < end && pte_is_in_window(ptep_get(ptep + 1), arg); ptep++)
		r->end += PAGE_SIZE;
	page_vma_mapped_walk_done(pvmw);
}

static bool revoke_one(struct folio *folio, struct vm_area_struct *vma,
		       unsigned long address, void *p)
{
	DEFINE_FOLIO_VMA_WALK(pvmw, folio, vma, address, 0);
	struct revoke_arg *arg = p;
	struct revoke_range r = {
		.mm = vma->vm_mm, .start = address, .end = vma_address_end(&pvmw),
	};
	struct mmu_notifier_range range;
	struct hmm_p2p_watch watch;

	if (is_revoked_range(arg, &r))
		return true;
	if (!folio_test_large(folio))
		revoke_add_neighbours(&pvmw, arg, &r);
	/*
	 * The event's owner tells the exporter's own mirror to skip it: that mirror
	 * does not reach the memory through the window.
	 */
	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_MIGRATE, 0, vma->vm_mm,
				      r.start, r.end, arg->exp);
	hmm_p2p_watch_begin(&watch, arg->exp);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	hmm_p2p_watch_end(&watch);
	arg->ranges[arg->events++ % REVOKE_RANGES] = r;
	return true;
}

/* The folio is locked. */
static void revoke_folio(struct folio *folio, struct revoke_arg *arg)
{
	struct rmap_walk_control rwc = {
		.rmap_one = revoke_one,
		.arg = arg,
		.anon_lock = folio_lock_anon_vma_read,
	};

	if (folio_mapped(folio))
		rmap_walk(folio, &rwc);
}

/* Revoke a window from page @pfn on, once.  Return: the page where it had to stop. */
static unsigned long revoke_pages(unsigned long pfn, unsigned long end,
				  struct revoke_arg *arg)
{
	while (pfn < end) {
		bool busy = false;
		struct folio *folio = hmm_p2p_grab_folio(pfn, &busy);

		if (busy)
			break;
		if (folio) {
			revoke_folio(folio, arg);
			/* The rest of it is in the next window. */
			pfn = min(folio_pfn(folio) + folio_nr_pages(folio), end);
			hmm_p2p_drop_folio(folio);
		} else {
			pfn++;
		}
		cond_resched();
	}
	return pfn;
}

/* Return: true if the wait for a locked page ends.  @timeout and @began are in jiffies. */
static bool revoke_gives_up(struct hmm_p2p_exporter *exp, unsigned long timeout,
			    unsigned long began, unsigned long *report)
{
	if (timeout != HMM_P2P_NO_TIMEOUT)
		return time_after(jiffies, began + timeout) || fatal_signal_pending(current);
	if (time_after(jiffies, *report)) {
		pr_warn("hmm_p2p: %s: %s, and waits for pages that are locked\n",
			exp->desc.name, hmm_p2p_state_name(exp));
		*report = jiffies + HMM_P2P_REPORT_INTERVAL;
	}
	return hmm_p2p_is_dead(exp);
}

/*
 * hmm_p2p_revoke_window - take every alias of a window away
 * @window: the caller has made it REVOKING
 * @timeout: jiffies to go on trying pages that are locked; %HMM_P2P_NO_TIMEOUT: only the
 *	death of the device ends that, and no signal
 *
 * Context: May sleep; no mmap_lock, no page lock, no lock of an importer.
 *
 * Return:
 * * %HMM_P2P_REVOKED: the window has no references.  The caller decides what becomes of it
 * * %HMM_P2P_HELD: a page stayed locked, or a fatal signal arrived.  Aliases may be left, and no
 *   importer is to blame.  The caller decides, too
 * * %HMM_P2P_BROKEN: the window is STUCK, or was, and the importer that holds on is quarantined.
 *   When that importer lets go, hmm_p2p_settle() takes care of the window
 */
enum hmm_p2p_revoked hmm_p2p_revoke_window(struct hmm_p2p_window *window,
					   unsigned long timeout)
{
	struct hmm_p2p_exporter *exp = window->exp;
	unsigned long pfn = exp->first_pfn + hmm_p2p_window_begin(window);
	unsigned long end = exp->first_pfn + hmm_p2p_window_end(window);
	unsigned long tried = jiffies, report = tried + HMM_P2P_REPORT_INTERVAL;
	struct revoke_arg arg = { .exp = exp, .pfn = pfn, .end_pfn = end };
	u64 began = ktime_get_ns();
	bool stuck;

	/*
	 * A task that looks after our first event sees REVOKING, and so does one that
	 * locks a page after us: pairs with hmm_p2p_batch_start().
	 */
	smp_mb();
	for (;;) {
		pfn = revoke_pages(pfn, end, &arg);
		if (pfn == end)
			break;
		if (revoke_gives_up(exp, timeout, tried, &report))
			return HMM_P2P_HELD;
		schedule_timeout_uninterruptible(1);
	}
	stuck = atomic_read(&window->refs);
	hmm_p2p_raise_max(&exp->slowest_revoke, ktime_get_ns() - began);
	trace_hmm_p2p_revoke(exp->desc.name, hmm_p2p_window_index(window),
			     arg.events, stuck);
	if (!stuck)
		return HMM_P2P_REVOKED;
	hmm_p2p_quarantine(window);
	hmm_p2p_window_end_revoke(window, true);
	return HMM_P2P_BROKEN;
}

/*
 * hmm_p2p_revoke_all - take all aliases away, for good
 * @exp: an exporter that is draining: no importer gets a new alias
 *
 * Goes on until no importer has an alias, except importers that broke their contract and are
 * quarantined.  If the device dies meanwhile, aliases may be left: hmm_p2p_dead() takes them,
 * and the caller waits for that with exp->life.
 *
 * Context: May sleep; no mmap_lock, no page lock, no lock of an importer.  Not under
 * exp->life: hmm_p2p_dead() gets in beside this when a page stays locked by a copy that
 * hangs.
 */
void hmm_p2p_revoke_all(struct hmm_p2p_exporter *exp)
{
	unsigned long i;

	for (i = 0; i < exp->nr_windows && !hmm_p2p_is_dead(exp); i++) {
		struct hmm_p2p_window *window = &exp->windows[i];

		if (hmm_p2p_window_begin_revoke(window, false) &&
		    hmm_p2p_revoke_window(window, HMM_P2P_NO_TIMEOUT) != HMM_P2P_BROKEN)
			hmm_p2p_window_end_revoke(window, false);
	}
}

/**
 * hmm_p2p_revoke - take the aliases of a part of device memory away
 * @exp: the exporter
 * @offset: bytes from the start of the device memory
 * @length: bytes; with @offset rounded outward to whole windows
 *
 * The memory does not move.  Importers that still want it fault again and get new aliases.  A
 * driver calls this to know a moment at which no old alias is in use, after a change of its own
 * for example.
 *
 * Context: Process context; may sleep; no mmap_lock, no page lock, no lock that an
 * importer's invalidate callback needs, and not from that callback.  The caller keeps the
 * exporter, as for hmm_p2p_dead().
 *
 * Return: 0: no alias that was handed out before the call is in use, except by an
 * importer that broke its contract and is quarantined, and what peers wrote through them
 * is in the memory; or
 * * -EINVAL: the range is empty or reaches beyond the device memory
 * * -EBUSY: another task kept memory locked for a second
 * * -ENODEV: the exporter is being unregistered, or its device is gone
 * * -EINTR: a fatal signal arrived; windows from some point of the range on were not
 *   revoked
 */
int hmm_p2p_revoke(struct hmm_p2p_exporter *exp, u64 offset, u64 length)
{
	struct hmm_p2p_window *window, *last;
	u64 end;
	int ret;

	if (!hmm_p2p_range_end(exp, offset, length, &end))
		return -EINVAL;
	/* Coherent memory has no windows, so there are no aliases. */
	if (hmm_p2p_is_coherent(exp))
		return 0;
	last = hmm_p2p_window_at(exp, PHYS_PFN(end - 1));
	for (window = hmm_p2p_window_at(exp, PHYS_PFN(offset)); window <= last; window++) {
		ret = hmm_p2p_live_get(exp);
		if (ret)
			return ret;
		if (hmm_p2p_window_begin_revoke(window, true)) {
			enum hmm_p2p_revoked revoked = hmm_p2p_revoke_window(window, HZ);

			if (revoked == HMM_P2P_HELD)
				ret = -EBUSY;
			else
				hmm_p2p_count(exp, HMM_P2P_C_REVOKED, 1);
			/* After BROKEN another task may be revoking it: leave its state alone. */
			if (revoked != HMM_P2P_BROKEN)
				hmm_p2p_window_end_revoke(window, false);
			hmm_p2p_flush_window(window);
		}
		hmm_p2p_live_put(exp);
		if (fatal_signal_pending(current))
			ret = -EINTR;
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_revoke, "HMM_P2P");

/*
 * Return: true if the importer of that name has a pair with @exp.  Its mapped entries say too
 * little: it may have got an alias that it has not mapped yet.
 */
static bool importer_met(struct hmm_p2p_exporter *exp, const char *name)
{
	struct hmm_p2p_pair *pair;
	bool met = false;

	mutex_lock(&hmm_p2p_pairs_lock);
	list_for_each_entry(pair, &exp->pairs, node)
		met |= !strcmp(pair->importer->name, name);
	mutex_unlock(&hmm_p2p_pairs_lock);
	return met;
}

/**
 * hmm_p2p_revoke_importer - take all aliases of one importing device away
 * @name: the name under which debugfs shows the importer: what its device was called when it
 *	first met an exporter, also if the device has another name by now
 *
 * The call takes away aliases of all exporters.  The core does not record which windows an
 * importer uses, so other importers lose the aliases of the same windows, and fault again.
 *
 * Context: As hmm_p2p_revoke().
 *
 * Return: 0, or what hmm_p2p_revoke() says, -ENODEV apart.
 */
int hmm_p2p_revoke_importer(const char *name)
{
	struct hmm_p2p_exporter *exp;
	u64 seen = 0;
	int ret = 0;

	do {
		struct hmm_p2p_exporter *next = NULL;

		/* In the order of ids: the list may change between two of them. */
		mutex_lock(&hmm_p2p_lock);
		list_for_each_entry(exp, &hmm_p2p_exporters, node)
			if (exp->id >= seen && (!next || exp->id < next->id))
				next = exp;
		if (next)
			kref_get(&next->kref);
		mutex_unlock(&hmm_p2p_lock);
		exp = next;
		if (!exp)
			break;
		seen = exp->id + 1;
		if (importer_met(exp, name))
			ret = hmm_p2p_revoke(exp, 0, PFN_PHYS(exp->nr_pages));
		if (ret == -ENODEV)
			ret = 0;
		hmm_p2p_exporter_put(exp);
	} while (!ret);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_revoke_importer, "HMM_P2P");
