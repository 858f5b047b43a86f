// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Eviction
 *
 * Eviction moves pages to RAM by PFN, not by the address in a process.  It makes room on the
 * device, and empties a device that goes.  A page that another task has locked stays.  A page
 * that is free, or about to be free, needs no migration.
 *
 * A huge page moves as one if there is a huge page of RAM for it.  If there is none, it is
 * split.  Only a mapped folio can be split, and a batch has it unmapped.  So the split comes
 * after the batch, and the next batch moves the small pages.
 */
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/swap.h>

#include "../../internal.h"
#include "internal.h"

/* Split a huge page for which there is no huge page of RAM: its small pages can move. */
static void evict_split(unsigned long pfn)
{
	struct folio *folio = hmm_p2p_folio_of_pfn(pfn);

	if (folio && folio_try_get(folio))
		hmm_p2p_split_mapped(folio);
}

/*
 * Drain the LRU and mlock() batches of all CPUs, which may have references to pages, at most once
 * for each batch of the engine.
 */
static void evict_drain(bool *drained)
{
	if (!*drained)
		lru_add_drain_all();
	*drained = true;
}

/*
 * Unmap a locked folio that may move, and take a reference on its anon_vma.
 *
 * Return: false, and nothing has changed, if another task has a reference on the folio.
 */
static bool evict_unmap(struct folio *folio, bool *drained)
{
	struct anon_vma *anon_vma = hmm_p2p_unmap_folio(folio);

	if (!anon_vma)
		return false;
	if (folio_ref_count(folio) != 1)
		evict_drain(drained);
	if (folio_ref_count(folio) == 1)
		return true;
	hmm_p2p_map_folio(folio, anon_vma);
	return false;
}

/*
 * Unmap the folios of @nr pages from @pfn that are mapped, as migrate_device_pfns() would,
 * into b->args.src.  migrate_device_finalize() puts the anon_vma of each.  Folios that other
 * tasks have locked stay.
 *
 * Return: the number of entries of b->args.src that were set.
 */
static unsigned long evict_collect(struct hmm_p2p_batch *b, unsigned long pfn,
				   unsigned long nr)
{
	unsigned long end = pfn + nr, n = 0, pages;
	struct folio *folio;
	bool busy = false, drained = false;

	for (; pfn < end; pfn += pages) {
		pages = 1;
		folio = hmm_p2p_grab_folio(pfn, &busy);
		if (!folio)
			continue;
		/* A folio that lies partly in the range stays. */
		if (folio_pfn(folio) != pfn || folio_nr_pages(folio) > end - pfn ||
		    !folio_mapped(folio)) {
			bool kept = !folio_mapped(folio) && folio_ref_count(folio) > 1;

			hmm_p2p_drop_folio(folio);
			/* Perhaps only the batch of a CPU keeps the page from being free. */
			if (kept)
				evict_drain(&drained);
			continue;
		}
		pages = folio_nr_pages(folio);
		memset(&b->args.src[n], 0, pages * sizeof(*b->args.src));
		if (evict_unmap(folio, &drained))
			b->args.src[n] = migrate_pfn(pfn) | MIGRATE_PFN_MIGRATE |
					 MIGRATE_PFN_ANON_VMA |
					 (pages > 1 ? MIGRATE_PFN_COMPOUND : 0);
		else
			hmm_p2p_drop_folio(folio);
		n += pages;
	}
	return n;
}

/*
 * Move those of @nr pages from @pfn that are in use, and count them in @result, unless that is
 * NULL.
 *
 * Return: false if there was no page that could be tried.
 */
static bool evict_batch(struct hmm_p2p_batch *b, struct hmm_p2p_engine *engine,
			unsigned long pfn, unsigned long nr,
			struct hmm_p2p_result *result)
{
	struct hmm_p2p_watch watch;
	unsigned long i, n;

	b->error = 0;
	if (b->abandoned)
		return false;
	hmm_p2p_watch_begin(&watch, engine->exp);
	n = evict_collect(b, pfn, nr);
	hmm_p2p_watch_end(&watch);
	if (!n)
		return false;
	memset(b->why, HMM_P2P_BUSY, n);
	hmm_p2p_batch_collect_pfns(b, engine, n);
	hmm_p2p_batch_start(b);
	hmm_p2p_batch_end(b);
	for (i = 0; i < n && result; i++)
		result->count[b->why[i]]++;
	if (b->error == -ENOMEM)
		evict_split(pfn);
	return true;
}

static unsigned long pages_in_use(unsigned long pfn, unsigned long nr)
{
	unsigned long i, used = 0;

	for (i = 0; i < nr; i++)
		used += !hmm_p2p_page_is_free(pfn + i);
	return used;
}

/**
 * hmm_p2p_evict - move a part of the device memory to RAM, for all its users
 * @engine: the engine, which stays registered meanwhile
 * @offset: bytes from the start of the device memory
 * @length: bytes; with @offset rounded outward to whole pages
 * @result: set, also on errors, to what became of the pages; need not be initialised, and
 *	@result->vec is not used.  NULL: the caller does not want it
 *
 * A driver calls it in ops->make_room, and when it wants memory back for another reason.
 * A huge page for which there is no huge page of RAM is split, and its small pages move.  A
 * huge page that lies only partly in the range stays.  A page in use that no page table has
 * (a migration is under way), or that another task has locked, stays and is not counted.
 *
 * Context: Process context, may sleep; no mmap_lock, no page lock, no lock that the
 * copy op or an importer's invalidate callback needs.
 *
 * Return: 0, with what stayed in @result, or
 * * -EINVAL: the range is empty or reaches beyond the device memory
 * * -ENOMEM: no memory for pages of the range
 * * -EBUSY: for a second, no DMA addresses or bounce buffers for a page; what follows it in the
 *   range has not been tried
 * * -EINTR: a fatal signal arrived
 */
int hmm_p2p_evict(struct hmm_p2p_engine *engine, u64 offset, u64 length,
		  struct hmm_p2p_result *result)
{
	struct hmm_p2p_exporter *exp = engine->exp;
	struct hmm_p2p_result before, once, unwanted;
	unsigned long pfn, end, next;
	struct hmm_p2p_batch *b;
	u64 end_offset;
	int ret = 0;

	if (!result)
		result = &unwanted;
	hmm_p2p_result_init(result);
	if (!hmm_p2p_range_end(exp, offset, length, &end_offset))
		return -EINVAL;
	b = hmm_p2p_batch_alloc(HMM_P2P_BATCH_PAGES);
	if (!b)
		return -ENOMEM;
	end = exp->first_pfn + PFN_UP(end_offset);
	for (pfn = exp->first_pfn + PHYS_PFN(offset); pfn < end; pfn = next) {
		next = min(end, ALIGN(pfn + 1, HMM_P2P_BATCH_PAGES));
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		if (!pages_in_use(pfn, next - pfn))
			continue;
		before = *result;
		evict_batch(b, engine, pfn, next - pfn, result);
		if (b->error == -ENOMEM) {
			/* Again, now that it is split.  Pages that have moved stay counted. */
			once = *result;
			before.count[HMM_P2P_MOVED] = result->count[HMM_P2P_MOVED];
			*result = before;
			if (!evict_batch(b, engine, pfn, next - pfn, result))
				*result = once;
			if (b->error == -ENOMEM)
				ret = -ENOMEM;
		}
		if (b->dma_short) {
			ret = -EBUSY;
			break;
		}
		cond_resched();
	}
	hmm_p2p_batch_free(b);
	hmm_p2p_result_sum(result);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_evict, "HMM_P2P");

/* Report what hmm_p2p_engine_unregister() still waits for: @used pages are in use. */
static void evict_report(struct hmm_p2p_engine *engine, unsigned long used)
{
	unsigned long late = min(used, hmm_p2p_copy_nr_kept(engine));
	const char *name = engine->exp->desc.name;

	if (used > late)
		pr_warn("hmm_p2p: %s: still %lu pages to move to RAM\n", name, used - late);
	if (late)
		pr_warn("hmm_p2p: %s: waiting for the end of late copies to %lu pages\n", name,
			late);
}

/*
 * hmm_p2p_evict_all - move all pages to RAM, and try for ever if need be
 * @engine: the engine; its exporter is draining, so no page comes to the device any more
 *
 * The function tries a page again if the page is locked, if there is no RAM for it right now, or
 * if its copy fails.  If the device has vanished, it calls hmm_p2p_dead(): the driver's own
 * thread may be in here, and cannot do it.  A page without references may still be on its way
 * through folio_free.  memunmap_pages() waits for that.
 */
void hmm_p2p_evict_all(struct hmm_p2p_engine *engine)
{
	struct hmm_p2p_exporter *exp = engine->exp;
	unsigned long end = exp->first_pfn + exp->nr_pages;
	unsigned long report = jiffies + 10 * HZ;
	struct hmm_p2p_batch *b;

	if (hmm_p2p_is_dead(exp))
		return;
	while (!(b = hmm_p2p_batch_alloc(HMM_P2P_BATCH_PAGES)))
		schedule_timeout_uninterruptible(HZ / 10);

	for (;;) {
		unsigned long pfn, nr, used = 0;

		for (pfn = exp->first_pfn; pfn < end; pfn += nr) {
			nr = min(end - pfn, HMM_P2P_BATCH_PAGES);
			if (pages_in_use(pfn, nr))
				evict_batch(b, engine, pfn, nr, NULL);
			used += pages_in_use(pfn, nr);
			cond_resched();
		}
		if (used && hmm_p2p_is_lost(exp))
			hmm_p2p_dead(exp);
		/* After death, pages are left, but no page table has them. */
		if (!used || hmm_p2p_is_dead(exp))
			break;
		if (time_after(jiffies, report)) {
			evict_report(engine, used);
			report = jiffies + 10 * HZ;
		}
		/* Batches of other CPUs may have references. */
		lru_add_drain_all();
		schedule_timeout_uninterruptible(1);
	}
	hmm_p2p_batch_free(b);
}
