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
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/swap.h>

#include "../../internal.h"
#include "internal.h"

/* So that it can move as small pages, where there is no huge one for it. */
static void evict_split(unsigned long pfn)
{
	struct folio *folio = hmm_p2p_folio_of_pfn(pfn);

	if (folio && folio_try_get(folio))
		hmm_p2p_split_mapped(folio);
}

/* Once: batches of other CPUs, those of mlock() for one, may have references. */
static void evict_drain(bool *drained)
{
	if (!*drained)
		lru_add_drain_all();
	*drained = true;
}

/* Whether a folio that is locked may move: unmapped then, and nobody else has a reference. */
static struct anon_vma *evict_unmap(struct folio *folio, bool *drained)
{
	struct anon_vma *anon_vma = hmm_p2p_unmap_folio(folio);

	if (!anon_vma)
		return NULL;
	if (folio_ref_count(folio) != 1)
		evict_drain(drained);
	if (folio_ref_count(folio) == 1)
		return anon_vma;
	hmm_p2p_map_folio(folio, anon_vma);
	return NULL;
}

/*
 * Unmap the folios of @nr pages from @pfn that are mapped, as migrate_device_pfns() would,
 * into b->args.src, and keep the anon_vma of each in @anon_vmas.  It is unmapped under the
 * lock under which the anon_vma was taken: a folio that is free for a moment may be another
 * process's when it is locked once more.  Folios that are locked stay, and do not count.
 */
static unsigned long evict_collect(struct hmm_p2p_batch *b,
				   struct anon_vma **anon_vmas,
				   unsigned long pfn, unsigned long nr)
{
	unsigned long end = pfn + nr, n = 0, pages;
	struct anon_vma *anon_vma;
	struct folio *folio;
	bool busy = false, drained = false;

	for (; pfn < end; pfn += pages) {
		pages = 1;
		folio = hmm_p2p_grab_folio(pfn, &busy);
		if (!folio)
			continue;
		/* It may be partly in the range. */
		if (folio_pfn(folio) != pfn || folio_nr_pages(folio) > end - pfn ||
		    !folio_mapped(folio)) {
			bool kept = !folio_mapped(folio) && folio_ref_count(folio) > 1;

			hmm_p2p_drop_folio(folio);
			/* Nobody uses it any more: then that sets it free. */
			if (kept)
				evict_drain(&drained);
			continue;
		}
		pages = folio_nr_pages(folio);
		memset(&b->args.src[n], 0, pages * sizeof(*b->args.src));
		memset(&anon_vmas[n], 0, pages * sizeof(*anon_vmas));
		anon_vma = evict_unmap(folio, &drained);
		if (anon_vma) {
			anon_vmas[n] = anon_vma;
			b->args.src[n] = migrate_pfn(pfn) | MIGRATE_PFN_MIGRATE |
					 (pages > 1 ? MIGRATE_PFN_COMPOUND : 0);
		} else {
			hmm_p2p_drop_folio(folio);
		}
		n += pages;
	}
	return n;
}

struct eviction {
	struct hmm_p2p_engine *engine;
	struct hmm_p2p_batch *b;
	struct anon_vma **anon_vmas;
};

static int eviction_init(struct eviction *e, struct hmm_p2p_engine *engine)
{
	e->engine = engine;
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
	struct hmm_p2p_batch *b = e->b;
	struct hmm_p2p_watch watch;
	unsigned long i, n;

	b->error = 0;
	if (b->abandoned)
		return false;
	hmm_p2p_watch_begin(&watch, e->engine->exp);
	n = evict_collect(b, e->anon_vmas, pfn, nr);
	hmm_p2p_watch_end(&watch);
	if (!n)
		return false;
	memset(b->why, HMM_P2P_BUSY, n);
	hmm_p2p_batch_collect_pfns(b, e->engine, n);
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
		struct folio *folio = hmm_p2p_folio_of_pfn(pfn + i);

		used += folio && folio_ref_count(folio);
	}
	return used;
}

/**
 * hmm_p2p_evict - move a part of device memory to RAM, whoever's it is
 * @engine: the engine, which stays registered meanwhile
 * @offset: bytes from the start of the device memory
 * @length: bytes; with @offset rounded outward to whole pages
 * @result: set, also on errors, to what became of the pages; need not be initialised, and
 *	@result->vec is not used.  NULL: the caller does not want it
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
int hmm_p2p_evict(struct hmm_p2p_engine *engine, u64 offset, u64 length,
		  struct hmm_p2p_result *result)
{
	struct hmm_p2p_exporter *exp = engine->exp;
	struct hmm_p2p_result before, once, unwanted;
	unsigned long pfn, end, next;
	struct eviction e;
	u64 end_offset;
	int ret = 0;

	if (!result)
		result = &unwanted;
	hmm_p2p_result_init(result);
	if (!hmm_p2p_range_end(exp, offset, length, &end_offset))
		return -EINVAL;
	ret = eviction_init(&e, engine);
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
 * again.  If its copy fails because the device has vanished, that is its death: the driver
 * is in here, and may have nobody left to say so.  Pages without references may still be on
 * their way through folio_free; memunmap_pages() waits for those.
 */
void hmm_p2p_evict_all(struct hmm_p2p_engine *engine)
{
	struct hmm_p2p_exporter *exp = engine->exp;
	unsigned long end = exp->first_pfn + exp->nr_pages;
	unsigned long report = jiffies + 10 * HZ;
	struct eviction e;

	if (hmm_p2p_is_dead(exp))
		return;
	while (eviction_init(&e, engine))
		schedule_timeout_uninterruptible(HZ / 10);

	for (;;) {
		unsigned long pfn, used = 0;

		for (pfn = exp->first_pfn; pfn < end; pfn += HMM_P2P_BATCH_PAGES) {
			if (pages_in_use(pfn, HMM_P2P_BATCH_PAGES))
				evict_batch(&e, pfn, HMM_P2P_BATCH_PAGES, NULL);
			used += pages_in_use(pfn, HMM_P2P_BATCH_PAGES);
			cond_resched();
		}
		if (used && hmm_p2p_is_lost(exp))
			hmm_p2p_dead(exp);
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
