// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Eviction
 *
 * Migration to RAM by place in the device, not by address of a process: to make room,
 * and to empty a device that goes.  Pages that somebody has locked stay; a page that
 * is free, or on its way to be, is nobody's business.
 *
 * A huge page moves as one if there is a huge page of RAM for it.  If not it is split,
 * which takes it mapped, and so comes in time for the next look at it only.
 */
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/swap.h>

#include "../internal.h"
#include "internal.h"

/* So that it can move as small pages, where there is no huge one for it. */
static void evict_split(unsigned long pfn)
{
	struct folio *folio = hmm_p2p_folio(pfn);

	if (folio && folio_try_get(folio))
		hmm_p2p_split_mapped(folio);
}

/*
 * Collect the folios of @nr pages from @pfn that are mapped, in b->args.src, and keep
 * the anon_vma of each in @anon_vmas.  migrate_device_pfns() unmaps them and does not
 * hold any process's mmap_lock: without that, one that exits would free the anon_vma
 * by which the migration entries are found again.  Folios that are locked stay.
 */
static unsigned long evict_collect(struct hmm_p2p_batch *b,
				   struct anon_vma **anon_vmas,
				   unsigned long pfn, unsigned long nr)
{
	unsigned long end = pfn + nr, n = 0, i;

	while (pfn < end) {
		struct folio *folio = hmm_p2p_folio(pfn++);
		struct anon_vma *anon_vma;
		unsigned long pages;

		if (!folio || !folio_try_get(folio))
			continue;
		if (!folio_trylock(folio)) {
			folio_put(folio);
			continue;
		}
		pages = folio_nr_pages(folio);
		anon_vma = NULL;
		if (folio_pfn(folio) == pfn - 1 && pages <= end - (pfn - 1))
			anon_vma = folio_get_anon_vma(folio);
		folio_unlock(folio);
		folio_put(folio);
		if (!anon_vma)
			continue;
		for (i = 0; i < pages; i++) {
			anon_vmas[n] = i ? NULL : anon_vma;
			b->args.src[n++] = pfn - 1 + i;
		}
		pfn += pages - 1;
	}
	return n;
}

/*
 * The page may have been freed, and be somebody else's, before it was locked and unmapped:
 * then it is that one's anon_vma that we need.  If that is gone, nobody maps the page.
 */
static void evict_check_anon_vmas(struct hmm_p2p_batch *b, struct anon_vma **anon_vmas,
				  unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++) {
		struct page *page = migrate_pfn_to_page(b->args.src[i]);
		struct anon_vma *anon_vma;

		if (!page || !(b->args.src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		anon_vma = folio_anon_vma(page_folio(page));
		if (anon_vma == anon_vmas[i])
			continue;
		if (anon_vmas[i])
			put_anon_vma(anon_vmas[i]);
		/* Such objects are freed by RCU, and used again as what they are. */
		rcu_read_lock();
		if (anon_vma && !atomic_inc_not_zero(&anon_vma->refcount))
			anon_vma = NULL;
		rcu_read_unlock();
		anon_vmas[i] = anon_vma;
		if (!anon_vma) {
			folio_unlock(page_folio(page));
			folio_put(page_folio(page));
			b->args.src[i] = 0;
		}
	}
}

struct eviction {
	struct hmm_p2p_exporter *exp;
	struct hmm_p2p_batch *b;
	struct anon_vma **anon_vmas;
};

static int eviction_init(struct eviction *e, struct hmm_p2p_exporter *exp)
{
	e->exp = exp;
	e->b = hmm_p2p_batch_alloc(HMM_P2P_BATCH_PAGES);
	e->anon_vmas = kvcalloc(HMM_P2P_BATCH_PAGES, sizeof(*e->anon_vmas), GFP_KERNEL);
	if (e->b && e->anon_vmas)
		return 0;
	hmm_p2p_batch_free(e->b);
	kvfree(e->anon_vmas);
	return -ENOMEM;
}

static void eviction_exit(struct eviction *e)
{
	hmm_p2p_batch_free(e->b);
	kvfree(e->anon_vmas);
}

/*
 * Move what is in use of @nr pages from @pfn, if @result is not NULL counted there.  Whether
 * there was anything that could be tried.
 */
static bool evict_batch(struct eviction *e, unsigned long pfn, unsigned long nr,
			struct hmm_p2p_result *result)
{
	unsigned long i, n = evict_collect(e->b, e->anon_vmas, pfn, nr);
	struct hmm_p2p_batch *b = e->b;
	struct hmm_p2p_watch watch;

	b->error = 0;
	if (!n)
		return false;
	memset(b->why, HMM_P2P_BUSY, n);
	hmm_p2p_watch_begin(&watch, e->exp, NULL);
	migrate_device_pfns(b->args.src, n);
	hmm_p2p_watch_end(&watch);
	evict_check_anon_vmas(b, e->anon_vmas, n);
	hmm_p2p_batch_collect_pfns(b, e->exp, n);
	hmm_p2p_batch_start(b);
	hmm_p2p_batch_end(b);
	for (i = 0; i < n; i++)
		if (e->anon_vmas[i])
			put_anon_vma(e->anon_vmas[i]);
	for (i = 0; i < n && result; i++)
		result->count[b->why[i]]++;
	if (b->error == -ENOMEM)
		evict_split(pfn);
	return true;
}

static unsigned long pages_in_use(unsigned long pfn, unsigned long nr)
{
	unsigned long i, used = 0;

	for (i = 0; i < nr; i++) {
		struct folio *folio = hmm_p2p_folio(pfn + i);

		used += folio && folio_ref_count(folio);
	}
	return used;
}

/**
 * hmm_p2p_evict - move a part of device memory to RAM, whoever's it is
 * @exp: the exporter, which stays registered meanwhile
 * @offset: bytes from the start of the device memory
 * @length: bytes; with @offset rounded outward to whole pages
 * @result: set, also on errors, to what became of the pages; @result->vec is not used
 *
 * For ops->make_room, and for a driver that wants its memory back for another reason.
 * Huge pages that find no huge page of RAM are split and moved as small ones; one that
 * is only partly in the range stays.  Pages in use that are in no page table (a
 * migration is under way) stay and are not counted.
 *
 * Context: Process context, may sleep; no mmap_lock, no page lock, no lock that the
 * copy op or an importer's invalidate callback needs.
 *
 * Return: 0, with what stayed in @result, or
 * * -EINVAL: the range is empty or reaches beyond the device memory
 * * -ENOMEM: no memory for pages of the range
 * * -EINTR: a fatal signal arrived
 */
int hmm_p2p_evict(struct hmm_p2p_exporter *exp, u64 offset, u64 length,
		  struct hmm_p2p_result *result)
{
	struct hmm_p2p_result before, once;
	unsigned long pfn, end, next;
	struct eviction e;
	u64 end_offset;
	int ret = 0;

	hmm_p2p_result_init(result);
	if (!length || check_add_overflow(offset, length, &end_offset) ||
	    end_offset > PFN_PHYS(exp->nr_pages))
		return -EINVAL;
	ret = eviction_init(&e, exp);
	if (ret)
		return ret;
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
		evict_batch(&e, pfn, next - pfn, result);
		if (e.b->error == -ENOMEM) {
			/* Now that it is split.  What has moved is not met again. */
			once = *result;
			before.count[HMM_P2P_MOVED] = result->count[HMM_P2P_MOVED];
			*result = before;
			if (!evict_batch(&e, pfn, next - pfn, result))
				*result = once;
			if (e.b->error == -ENOMEM)
				ret = -ENOMEM;
		}
		cond_resched();
	}
	eviction_exit(&e);
	hmm_p2p_result_sum(result);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_evict, "HMM_P2P");

/*
 * hmm_p2p_evict_all - move everything to RAM, for ever if need be
 *
 * The exporter is draining: nothing comes in any more.  A page whose trylock
 * fails, for which there is no memory right now, or whose copy fails, is tried
 * again.  Pages without references may still be on their way through folio_free;
 * memunmap_pages() waits for those.
 */
void hmm_p2p_evict_all(struct hmm_p2p_exporter *exp)
{
	unsigned long end = exp->first_pfn + exp->nr_pages;
	unsigned long report = jiffies + 10 * HZ;
	struct eviction e;

	if (hmm_p2p_is_dead(exp))
		return;
	while (eviction_init(&e, exp))
		schedule_timeout_uninterruptible(HZ / 10);

	for (;;) {
		unsigned long pfn, used = 0;

		for (pfn = exp->first_pfn; pfn < end; pfn += HMM_P2P_BATCH_PAGES) {
			if (pages_in_use(pfn, HMM_P2P_BATCH_PAGES))
				evict_batch(&e, pfn, HMM_P2P_BATCH_PAGES, NULL);
			used += pages_in_use(pfn, HMM_P2P_BATCH_PAGES);
			cond_resched();
		}
		/* Then its pages are nobody's any more, or were never mapped. */
		if (!used || hmm_p2p_is_dead(exp))
			break;
		if (time_after(jiffies, report)) {
			pr_warn("hmm_p2p: %s: still %lu pages to move to RAM\n",
				exp->desc.name, used);
			report = jiffies + 10 * HZ;
		}
		/* Batches of other CPUs may have references. */
		lru_add_drain_all();
		schedule_timeout_uninterruptible(1);
	}
	eviction_exit(&e);
}
