// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Aliases
 *
 * A lookup turns a device-private page into its alias, the bus-visible address of the page, or
 * into the reason why the importer gets none.
 *
 * hmm_p2p_lookup() runs inside the page walk: no lock, no sleep, no search.  Three things have
 * to sleep: asking p2pdma once whether the two devices reach each other, opening a window, and
 * waiting for a reset.  For these the lookup returns HMM_P2P_NO_WAIT.  If the caller can leave the
 * walk (HMM_P2P_WAIT), the lookup also takes a reference on the exporter.  hmm.c then leaves the
 * walk and drops mmap_lock, hmm_p2p_resolve() does the work, and the walk starts again.
 *
 * There is no policy here.  The answer is "reachable", or why not.
 */
#include <kunit/visibility.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/export.h>
#include <linux/fault-inject.h>
#include <linux/iommu-dma.h>
#include <linux/jiffies.h>
#include <linux/leafops.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/sched/signal.h>
#include <linux/swapops.h>

#include <trace/events/hmm_p2p.h>

#include "../internal.h"
#include "internal.h"

/* Names in tracepoints and debugfs. */
#undef EM
#undef EMe
#define EM(reason, name)	\
	[reason] = name,
#define EMe(reason, name)	\
	[reason] = name

const char *const hmm_p2p_reason_names[HMM_P2P_NR_REASONS] = { HMM_P2P_REASONS };

/*
 * hmm_p2p_check_reach - whether a bus master reaches an exporter's memory
 * @exp: the exporter, which does not get past draining meanwhile
 * @dev: the bus master
 * @type: set to the kind of mapping, if it does
 *
 * Context: Any but interrupts; p2pdma does not wait for memory.
 */
enum hmm_p2p_reason hmm_p2p_check_reach(struct hmm_p2p_exporter *exp, struct device *dev,
					enum pci_p2pdma_map_type *type)
{
	struct p2pdma_provider *provider = exp->desc.provider;
	u64 last = exp->alias_last;
	u64 limit;

	if (!provider)
		return HMM_P2P_NO_BUS;

	*type = pci_p2pdma_map_type(provider, dev);
	switch (*type) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		last = pci_p2pdma_bus_addr_map(provider, last);
		break;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		if (use_dma_iommu(dev))
			return HMM_P2P_REACHABLE;	/* IOVA fits by itself */
		last = phys_to_dma(dev, last);
		break;
	default:
		return HMM_P2P_TOPOLOGY;
	}

	limit = min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);
	return last <= limit ? HMM_P2P_REACHABLE : HMM_P2P_ADDRESS;
}

/*
 * hmm_p2p_resolve - do what a page walk could not wait for
 * @peer: the importer
 * @pending: the window that hmm_p2p_lookup() handed out with
 *	%HMM_P2P_NO_WAIT; its reference on the exporter is consumed
 * @since: jiffies when the fault began
 *
 * Makes the two a pair, waits for the end of a reset, or opens the window.
 *
 * Context: May sleep; no mmap_lock.
 *
 * Return: 0, after which the caller starts the walk again, or -EINTR.
 */
int hmm_p2p_resolve(struct hmm_p2p_peer *peer, struct hmm_p2p_window *pending,
		    unsigned long since)
{
	struct hmm_p2p_exporter *exp = pending->exp;
	int ret = 0;

	if (wait_event_killable(exp->changed, READ_ONCE(exp->state) !=
				HMM_P2P_STATE_RESETTING)) {
		ret = -EINTR;
		goto out;
	}
	/* Other mirrors of the process may have a pair with it already. */
	if (!hmm_p2p_pair_of(peer, exp->id) && hmm_p2p_pair_join(peer, exp))
		goto out;
	/*
	 * The provider of a draining exporter may go away.  That of a live one does
	 * not: live_sem keeps hmm_p2p_unregister() from getting past draining.
	 * If live_sem is taken for writing, the state has changed and the walk falls
	 * back: so no fault waits behind another task's migration.
	 */
	if (!hmm_p2p_live_tryget(exp))
		goto out;
	if (!hmm_p2p_pair_of(peer, exp->id))
		hmm_p2p_pair_create(peer, exp);
	else
		ret = hmm_p2p_window_open(pending, since);
	hmm_p2p_live_put(exp);
out:
	hmm_p2p_exporter_put(exp);
	return ret;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_resolve);

/* Peer and exporter are no pair yet.  After a lack of memory for one, try again later. */
static enum hmm_p2p_reason lookup_stranger(struct hmm_p2p_peer *peer)
{
	unsigned long after = READ_ONCE(peer->meet_after);

	return after && time_before(jiffies, after) ? HMM_P2P_NO_PAIR : HMM_P2P_NO_WAIT;
}

/* All reasons that do not depend on the window. */
static enum hmm_p2p_reason lookup_pair(struct hmm_p2p_peer *peer,
				       struct hmm_p2p_pair *pair,
				       unsigned int flags)
{
	if (READ_ONCE(pair->importer->quarantined))
		return HMM_P2P_QUARANTINED;
	if (pair->reason != HMM_P2P_REACHABLE)
		return pair->reason;
	if (pair->translated && peer->lazy_unmap)
		return HMM_P2P_LAZY_IOMMU;
	if (flags & HMM_P2P_WATCHED_ENTRY)
		return HMM_P2P_WATCHED;
	if (flags & HMM_P2P_READ_ONLY_ENTRY)
		return HMM_P2P_READ_ONLY;
	return HMM_P2P_REACHABLE;
}

/* For tests, since no failing allocation makes a lookup fail. */
DECLARE_FAULT_ATTR(hmm_p2p_fail_lookup);

static enum hmm_p2p_reason lookup_window(struct hmm_p2p_peer *peer,
					 struct hmm_p2p_window *window,
					 unsigned int flags)
{
	if (should_fail(&hmm_p2p_fail_lookup, 1))
		return HMM_P2P_NO_WINDOW;
	if (hmm_p2p_window_usable(window))
		return peer->dev || window->kva ? HMM_P2P_REACHABLE :
						  HMM_P2P_NO_KMAP;
	/* Open a window only for a fault that requires the page. */
	return flags & HMM_P2P_FAULT && hmm_p2p_window_may_open(window) ?
	       HMM_P2P_NO_WAIT : HMM_P2P_NO_WINDOW;
}

static void count_fallback(struct hmm_p2p_exporter *exp,
			   struct hmm_p2p_peer *peer, struct hmm_p2p_pair *pair,
			   enum hmm_p2p_reason reason)
{
	if (pair)
		hmm_p2p_pair_count(pair, HMM_P2P_C_FALLBACK + reason, 1);
	else
		hmm_p2p_count(exp, HMM_P2P_C_FALLBACK + reason, 1);
	trace_hmm_p2p_fallback(exp->desc.name, hmm_p2p_peer_name(peer), reason);
}

/*
 * hmm_p2p_lookup_done - add what a walk has counted, and forget its cached window
 * @cursor: of the walk, which ends or goes on with another exporter
 */
void hmm_p2p_lookup_done(struct hmm_p2p_cursor *cursor)
{
	if (cursor->pair) {
		hmm_p2p_pair_count(cursor->pair, HMM_P2P_C_ALIASES,
				   cursor->aliases);
		hmm_p2p_pair_count(cursor->pair, HMM_P2P_C_FAULTS,
				   cursor->faults);
	}
	*cursor = (struct hmm_p2p_cursor) {};
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_lookup_done);

/* By id, not by address: a later exporter may have the address of an earlier one. */
static struct hmm_p2p_pair *cursor_pair(struct hmm_p2p_cursor *cursor,
					struct hmm_p2p_peer *peer, u64 id)
{
	if (!cursor->pair || cursor->id != id) {
		hmm_p2p_lookup_done(cursor);
		cursor->pair = hmm_p2p_pair_of(peer, id);
		/* Pairs with xa_store() in pair_join_peer(): map->peer is there. */
		smp_rmb();
		cursor->id = id;
	}
	return cursor->pair;
}

/*
 * hmm_p2p_lookup_again - the alias of a page near the last one
 * @peer: the importer
 * @cursor: what the walk has cached
 * @page: a device-private page, not the importer's own, whose entry allows the access
 * @required: the page is required
 * @alias_pfn: set to the alias, if the function returns true
 *
 * Knows only pages of the window of the last alias, and checks only what may have changed: this
 * is the cost of each page of a large range.  The pair keeps the exporter's memory.  If the
 * exporter was unregistered, and another one has its PFNs now, it is not LIVE any more.
 *
 * Context: As hmm_p2p_lookup().
 *
 * Return: true if the alias is known.  If not, the caller calls hmm_p2p_lookup().
 */
bool hmm_p2p_lookup_again(struct hmm_p2p_peer *peer, struct hmm_p2p_cursor *cursor,
			  struct page *page, bool required, unsigned long *alias_pfn)
{
	struct hmm_p2p_window *window = cursor->window;
	unsigned long i = page_to_pfn(page) - cursor->first_pfn;

	if (!window || i >= cursor->nr ||
	    READ_ONCE(window->exp->state) != HMM_P2P_STATE_LIVE ||
	    READ_ONCE(cursor->pair->importer->quarantined) ||
	    !hmm_p2p_window_usable(window))
		return false;
	*alias_pfn = hmm_p2p_window_alias(window) + cursor->skip + i;
	cursor->aliases++;
	cursor->faults += required;
	if (trace_hmm_p2p_alias_enabled())
		trace_hmm_p2p_alias(window->exp->desc.name, hmm_p2p_peer_name(peer),
				    *alias_pfn);
	return true;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_lookup_again);

/*
 * hmm_p2p_lookup_span - for how many pages a lookup holds
 * @page: a device-private page
 * @nr: number of pages of the same folio, from @page on
 *
 * A large folio may lie in two windows.  The answer of hmm_p2p_lookup() for a page also holds for
 * the pages that follow it in the same window.
 *
 * Context: As hmm_p2p_lookup().
 *
 * Return: how many of the pages are in the window of @page.
 */
unsigned long hmm_p2p_lookup_span(struct page *page, unsigned long nr)
{
	struct dev_pagemap *pgmap = page_pgmap_lockless(page);
	struct hmm_p2p_exporter *exp;
	unsigned long i;

	exp = pgmap ? rcu_dereference(pgmap->p2p_exporter) : NULL;
	if (!exp)
		return nr;
	i = PHYS_PFN(hmm_p2p_offset_in(pgmap, page));
	if (i >= exp->nr_pages || hmm_p2p_is_coherent(exp))
		return nr;
	return hmm_p2p_window_span(exp, i, nr);
}

/*
 * hmm_p2p_lookup - the alias of a device-private page, for the page walk
 * @peer: the importer
 * @cursor: what the walk remembers; hmm_p2p_lookup_done() at its end
 * @page: a device-private page, not the importer's own
 * @flags: HMM_P2P_READ_ONLY_ENTRY, HMM_P2P_WATCHED_ENTRY, HMM_P2P_FAULT, HMM_P2P_WAIT
 * @alias_pfn: set on %HMM_P2P_REACHABLE; the pages behind @page follow it up to the end of the
 *	window, see hmm_p2p_lookup_span()
 * @pending: set on %HMM_P2P_NO_WAIT with HMM_P2P_WAIT, for hmm_p2p_resolve()
 *
 * Context: Under rcu_read_lock(), with the page table entry that names @page
 * read inside it.  That keeps page, pgmap and exporter from going away.
 *
 * While a large folio is split its tail pages have no pgmap: page_pgmap_lockless().
 * Their entries have been replaced by then.
 *
 * All answers but %HMM_P2P_REACHABLE, %HMM_P2P_DEAD, %HMM_P2P_STALE, and %HMM_P2P_NO_WAIT with
 * @pending set, are fallbacks.  The caller moves the page to RAM if it is required, and reports
 * it absent if not.  The lookup counts the fallbacks of pages that are required.
 */
enum hmm_p2p_reason hmm_p2p_lookup(struct hmm_p2p_peer *peer,
				   struct hmm_p2p_cursor *cursor,
				   struct page *page, unsigned int flags,
				   unsigned long *alias_pfn,
				   struct hmm_p2p_window **pending)
{
	struct dev_pagemap *pgmap = page_pgmap_lockless(page);
	struct hmm_p2p_pair *pair = NULL;
	struct hmm_p2p_exporter *exp;
	struct hmm_p2p_window *window;
	enum hmm_p2p_reason reason;
	unsigned long i;

	if (!pgmap)
		return HMM_P2P_STALE;
	/* Pairs with rcu_assign_pointer() in hmm_p2p_register(). */
	exp = rcu_dereference(pgmap->p2p_exporter);
	i = PHYS_PFN(hmm_p2p_offset_in(pgmap, page));
	if (!exp || i >= exp->nr_pages)
		return HMM_P2P_NO_EXPORTER;
	window = hmm_p2p_window_at(exp, i);

	switch (READ_ONCE(exp->state)) {
	case HMM_P2P_STATE_LIVE:
		pair = cursor_pair(cursor, peer, exp->id);
		reason = pair ? lookup_pair(peer, pair, flags) : lookup_stranger(peer);
		if (reason == HMM_P2P_REACHABLE)
			reason = lookup_window(peer, window, flags);
		break;
	case HMM_P2P_STATE_RESETTING:
		reason = flags & HMM_P2P_FAULT ? HMM_P2P_NO_WAIT :
						 HMM_P2P_NOT_LIVE;
		break;
	case HMM_P2P_STATE_DEAD:
		reason = HMM_P2P_DEAD;
		break;
	default:
		reason = HMM_P2P_NOT_LIVE;
	}

	if (reason == HMM_P2P_NO_WAIT && flags & HMM_P2P_WAIT &&
	    kref_get_unless_zero(&exp->kref)) {
		*pending = window;
		return reason;
	}
	if (flags & HMM_P2P_FAULT) {
		if (pair)
			cursor->faults++;
		else
			hmm_p2p_count(exp, HMM_P2P_C_FAULTS, 1);
	}
	if (reason != HMM_P2P_REACHABLE) {
		if (flags & HMM_P2P_FAULT)
			count_fallback(exp, peer, pair, reason);
		return reason;
	}
	*alias_pfn = hmm_p2p_window_alias(window) + hmm_p2p_in_window(exp, i);
	cursor->aliases++;
	cursor->window = window;
	cursor->first_pfn = exp->first_pfn + hmm_p2p_window_begin(window);
	cursor->skip = hmm_p2p_in_window(exp, hmm_p2p_window_begin(window));
	cursor->nr = hmm_p2p_window_end(window) - hmm_p2p_window_begin(window);
	trace_hmm_p2p_alias(exp->desc.name, hmm_p2p_peer_name(peer), *alias_pfn);
	return HMM_P2P_REACHABLE;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_lookup);

/*
 * The flag for hmm_p2p_lookup() that says why a device must not write by an entry, or 0.
 * Under the page table lock.
 */
static unsigned int entry_why_not_write(struct vm_area_struct *vma, softleaf_t entry,
					bool uffd)
{
	struct page *page;

	if (!softleaf_is_device_private(entry) || !(vma->vm_flags & VM_WRITE))
		return HMM_P2P_READ_ONLY_ENTRY;
	if (uffd)
		return HMM_P2P_WATCHED_ENTRY;
	if (softleaf_is_device_private_write(entry))
		return 0;
	page = softleaf_to_page(entry);
	return PageAnon(page) && PageAnonExclusive(page) ? 0 : HMM_P2P_READ_ONLY_ENTRY;
}

/* Count an entry that is writable now.  The entry keeps the page. */
static void count_upgrade(softleaf_t old)
{
	struct hmm_p2p_exporter *exp;

	rcu_read_lock();
	exp = hmm_p2p_exporter_of(softleaf_to_page(old));
	if (exp && !softleaf_is_device_private_write(old))
		hmm_p2p_count(exp, HMM_P2P_C_UPGRADES, 1);
	rcu_read_unlock();
}

/*
 * hmm_p2p_make_writable - let a device write to a page without a fault of the CPU
 * @vma: the mapping, which the caller holds with mmap_lock
 * @addr: the page
 * @pmdp: the PMD entry that maps it or its table
 *
 * A device-private entry loses write access at fork(), at mprotect() and by a scan of NUMA
 * balancing.  Otherwise only a fault gives it back, and that brings the page to RAM.  If the
 * page is exclusive to the process, this function gives it back in place, as do_wp_page() does
 * for a page in RAM.  Allowing more needs no notifier.
 *
 * Like that fault, the function marks the entry soft-dirty, because the device is about to
 * write.  It also gets entries that are writable but not marked yet.  A huge page is marked as
 * a whole, as in RAM.  The fault handles entries for which userfaultfd waits.
 *
 * Context: Under mmap_lock, no page table lock.
 *
 * Return: 0 if the device may write now; otherwise %HMM_P2P_READ_ONLY_ENTRY or
 * %HMM_P2P_WATCHED_ENTRY, for hmm_p2p_lookup().
 */
unsigned int hmm_p2p_make_writable(struct vm_area_struct *vma, unsigned long addr,
				   pmd_t *pmdp)
{
	unsigned int why = HMM_P2P_READ_ONLY_ENTRY;
	struct mm_struct *mm = vma->vm_mm;
	softleaf_t entry, writable;
	spinlock_t *ptl;
	pte_t *ptep;

	ptl = pmd_trans_huge_lock(pmdp, vma);
	if (ptl) {
		pmd_t pmd = pmdp_get(pmdp);

		entry = softleaf_from_pmd(pmd);
		why = entry_why_not_write(vma, entry, pmd_swp_uffd(pmd));
		if (!why) {
			writable = make_writable_device_private_entry(softleaf_to_pfn(entry));
			set_pmd_at(mm, addr & PMD_MASK, pmdp,
				   pmd_swp_mksoft_dirty(softleaf_to_pmd(writable)));
			count_upgrade(entry);
		}
		spin_unlock(ptl);
		return why;
	}
	ptep = pte_offset_map_lock(mm, pmdp, addr, &ptl);
	if (ptep) {
		pte_t pte = ptep_get(ptep);

		entry = softleaf_from_pte(pte);
		why = entry_why_not_write(vma, entry, pte_swp_uffd(pte));
		if (!why) {
			writable = make_writable_device_private_entry(softleaf_to_pfn(entry));
			set_pte_at(mm, addr, ptep,
				   pte_swp_mksoft_dirty(softleaf_to_pte(writable)));
			count_upgrade(entry);
		}
		pte_unmap_unlock(ptep, ptl);
	}
	return why;
}

/*
 * hmm_p2p_dma_type - the kind of mapping of an alias, for hmm_dma_map_pfn()
 * @map: the importer's map
 * @idx: of an entry with %HMM_PFN_PEER, current under the importer's lock
 * @provider: set to the provider for %PCI_P2PDMA_MAP_BUS_ADDR
 *
 * The pair has the answer of p2pdma.
 */
enum pci_p2pdma_map_type hmm_p2p_dma_type(struct hmm_dma_map *map, size_t idx,
					  struct p2pdma_provider **provider)
{
	struct hmm_p2p_map *m = READ_ONCE(map->peer);
	unsigned long pfn = map->pfn_list[idx] & ~HMM_PFN_FLAGS;

	if (WARN_ONCE(!m || !hmm_p2p_map_window(m, pfn) ||
		      !m->pair->exp->desc.provider,
		      "hmm_p2p: %s: map entry is no alias on the bus: %#lx\n",
		      hmm_p2p_map_name(m), pfn))
		return PCI_P2PDMA_MAP_NOT_SUPPORTED;
	*provider = m->pair->exp->desc.provider;
	return m->pair->type;
}

/**
 * hmm_p2p_kmap_local - map an alias for the CPU
 * @hmm_pfn: an entry with %HMM_PFN_PEER
 *
 * See hmm_pfn_kmap_local(), which takes any entry.
 *
 * Return: the address of the first byte of the page, or NULL if the exporter offers none.  A
 * lookup for software is refused then; a lookup for a bus master is not.
 */
void *hmm_p2p_kmap_local(unsigned long hmm_pfn)
{
	unsigned long pfn = hmm_pfn & ~HMM_PFN_FLAGS;
	struct hmm_p2p_window *window = hmm_p2p_window_of_alias(pfn);

	if (!window || !window->kva)
		return NULL;
	return window->kva + PFN_PHYS(pfn - hmm_p2p_window_alias(window));
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_kmap_local, "HMM_P2P");

/**
 * hmm_p2p_kunmap_local - undo hmm_p2p_kmap_local()
 * @kva: what it returned
 */
void hmm_p2p_kunmap_local(const void *kva)
{
	/*
	 * The mapping may be write-combining, and neither a store-release nor an
	 * unlock drains those buffers on x86.  The writes must leave the CPU before
	 * the importer drops its lock.  Then they are posted writes like those of any
	 * peer, and a flush after hmm_p2p_map_put() waits for them.  A write that leaves
	 * the CPU after that flush would land when the page has moved.
	 */
	wmb();
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_kunmap_local, "HMM_P2P");
