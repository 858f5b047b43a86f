// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Batches
 *
 * This file is the part of a migration that knows migrate_vma_*() and migrate_device_*().  A batch
 * unmaps pages together, gives them destinations, copies them with one call of the driver's copy
 * op, and maps each again: at its destination if it was copied, else where it was.
 *
 *	collect	the pages are locked and unmapped
 *	start	each that may move gets a destination; the copy starts
 *	end	waits for the copy; pages that were copied move; all others are mapped
 *		where they were, intact
 *
 * Before the end the copy may run by itself, while the caller begins another batch.  The
 * caller does not wait for a page lock meanwhile.  mmap_lock is held from collect to end.
 * Eviction has no VMA and does not hold it.
 *
 * A batch never crosses a PMD boundary.  migrate_vma reports a PMD-aligned hole as one
 * compound entry, and would skip the rest of a longer range.
 *
 * Huge pages stay whole if the destination has a huge page.  If it has none,
 * migrate_vma_pages() splits the unmapped huge page, because it sees small destinations.
 * Where that would be wrong, see batch_may_split(), the page is restored.  It is then split
 * as a mapped page, for another batch.
 *
 * A copy from another device goes through its windows.  The pages are in no page table by
 * then, so hmm_p2p_revoke(), which uses rmap, does not find their users.  But the pages are
 * locked, and revoking a window waits for locked pages:
 *
 *	copy between devices             revoke
 *	  locks the page                   window is REVOKING
 *	  smp_mb()                         smp_mb()
 *	  window is OPEN?                  locks each page, or tries again
 *
 * One of the two sees the other.
 */
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/userfaultfd_k.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include <trace/events/hmm_p2p_migrate.h>

/* One allocation: a CPU fault needs it for a page or a few. */
struct hmm_p2p_batch *hmm_p2p_batch_alloc(unsigned long nr)
{
	struct hmm_p2p_batch *b;

	b = kvzalloc(struct_size(b, copies, nr) + nr * (2 * sizeof(long) + 1),
		     GFP_KERNEL);
	if (b) {
		b->args.src = (unsigned long *)&b->copies[nr];
		b->args.dst = b->args.src + nr;
		b->why = (u8 *)(b->args.dst + nr);
	}
	return b;
}

void hmm_p2p_batch_free(struct hmm_p2p_batch *b)
{
	/* A driver may still have the job in it. */
	if (b && b->abandoned) {
		hmm_p2p_copy_leave(b);
	} else if (b) {
		kvfree(b->dma);
		kvfree(b);
	}
}

static void batch_set_outcome(struct hmm_p2p_batch *b, unsigned long i, unsigned long n,
			      enum hmm_p2p_outcome outcome)
{
	/* Usually it is one page.  A call of memset() for each page that moves costs too much. */
	if (n == 1)
		b->why[i] = outcome;
	else
		memset(&b->why[i], outcome, n);
}

static unsigned long batch_addr(struct hmm_p2p_batch *b, unsigned long i)
{
	return b->args.start + (i << PAGE_SHIFT);
}

static struct folio *batch_alloc_ram(struct hmm_p2p_batch *b, unsigned long i,
				     struct page *spage, unsigned int order)
{
	struct folio *folio = hmm_p2p_alloc_ram(b->args.vma, batch_addr(b, i),
						page_folio(spage), order);

	if (folio) {
		__folio_set_locked(folio);
		/*
		 * A peer may have written the page, and no page table says so.  After
		 * MADV_FREE, reclaim would throw a clean copy away.
		 */
		folio_set_dirty(folio);
	}
	return folio;
}

/* The next small folio.  Several are asked for together, because each call costs time. */
static struct folio *batch_next_spare(struct hmm_p2p_batch *b)
{
	const struct hmm_p2p_engine_desc *desc = &b->engine->desc;
	unsigned int nr = clamp(b->want, 1UL, ARRAY_SIZE(b->spare));

	if (b->spare_first == b->spare_end) {
		b->spare_first = 0;
		b->spare_end = desc->ops->alloc_folios(desc->priv, 0, b->spare, nr);
		/* If it gave more than @nr, the op may have written behind the array. */
		if (WARN_ONCE(b->spare_end > nr,
			      "hmm_p2p: %s: alloc_folios gave more than %u\n",
			      b->engine->exp->desc.name, nr))
			b->spare_end = nr;
	}
	return b->spare_first < b->spare_end ? b->spare[b->spare_first++] : NULL;
}

/* Give back the spare folios of pages that did not move. */
static void batch_drop_spare(struct hmm_p2p_batch *b)
{
	while (b->spare_first < b->spare_end)
		hmm_p2p_drop_folio(b->spare[b->spare_first++]);
}

static struct folio *batch_alloc_device(struct hmm_p2p_batch *b, unsigned int order)
{
	struct hmm_p2p_exporter *exp = b->engine->exp;
	const struct hmm_p2p_engine_desc *desc = &b->engine->desc;
	struct folio *folio = NULL;

	if (!order)
		folio = batch_next_spare(b);
	else if (!desc->ops->alloc_folios(desc->priv, order, &folio, 1))
		folio = NULL;
	/* A folio of another device: the copy and peers would reach the wrong memory. */
	if (folio && WARN_ONCE(!hmm_p2p_has_folio(exp, folio) ||
			       folio_order(folio) != order,
			       "hmm_p2p: %s: alloc_folios gave a page that is not its own\n",
			       exp->desc.name)) {
		hmm_p2p_drop_folio(folio);
		folio = NULL;
	}
	return folio;
}

/*
 * Whether @c follows the last piece on both sides.  A piece stays in one window, because
 * windows that are neighbours on the bus may lie apart in the kernel's mapping.
 */
static bool copies_merge(struct hmm_p2p_batch *b, const struct hmm_p2p_copy *c)
{
	const struct hmm_p2p_copy *last;
	unsigned int n;

	if (!b->job.nr)
		return false;
	last = &b->copies[b->job.nr - 1];
	n = last->nr_pages;
	if (last->dev_page + n != c->dev_page)
		return false;
	if (b->job.dir == HMM_P2P_FROM_PEER)
		return last->peer + n == c->peer &&
		       c->peer & (BIT(b->from->window_order) - 1);
	return c->ram_page ? last->ram_page && last->ram_page + n == c->ram_page :
			     !last->ram_page;
}

/* The alias of page @i, in the form of an entry of hmm_range_fault(), or 0: it has none now. */
static unsigned long alias_of(struct hmm_p2p_exporter *from, unsigned long i)
{
	struct hmm_p2p_window *window = hmm_p2p_window_at(from, i);

	if (!hmm_p2p_window_usable(window))
		return 0;
	return (hmm_p2p_window_alias(window) + hmm_p2p_in_window(from, i)) |
	       HMM_PFN_VALID | HMM_PFN_PEER;
}

static void batch_add_piece(struct hmm_p2p_batch *b, const struct hmm_p2p_copy *c)
{
	b->job.nr_pages += c->nr_pages;
	if (copies_merge(b, c))
		b->copies[b->job.nr - 1].nr_pages += c->nr_pages;
	else
		b->copies[b->job.nr++] = *c;
}

/*
 * Add pages of a peer.  A large folio may lie in two windows.  Both have to be open, and each
 * has a piece of its own.  Return: false if a window is not open.
 */
static bool batch_add_peer_copy(struct hmm_p2p_batch *b, struct page *spage,
				struct page *dpage, unsigned int n)
{
	unsigned long i = PHYS_PFN(hmm_p2p_page_offset(spage));
	struct hmm_p2p_copy c[2] = {};

	if (i + n > b->from->nr_pages)
		return false;
	c[0].dev_page = dpage;
	c[0].nr_pages = hmm_p2p_window_span(b->from, i, n);
	c[0].peer = alias_of(b->from, i);
	if (!c[0].peer)
		return false;
	c[1].dev_page = dpage + c[0].nr_pages;
	c[1].nr_pages = n - c[0].nr_pages;
	if (c[1].nr_pages) {
		c[1].peer = alias_of(b->from, i + c[0].nr_pages);
		if (!c[1].peer)
			return false;
	}
	batch_add_piece(b, &c[0]);
	if (c[1].nr_pages)
		batch_add_piece(b, &c[1]);
	return true;
}

/* Add pages that have a destination.  Return: false if the source is out of reach. */
static bool batch_add_copy(struct hmm_p2p_batch *b, struct page *spage,
			   struct page *dpage, unsigned int n)
{
	struct hmm_p2p_copy c = { .dev_page = dpage, .nr_pages = n };

	switch (b->job.dir) {
	case HMM_P2P_TO_DEVICE:
		c.ram_page = spage;
		break;
	case HMM_P2P_TO_RAM:
		c.dev_page = spage;
		c.ram_page = dpage;
		break;
	case HMM_P2P_FROM_PEER:
		return batch_add_peer_copy(b, spage, dpage, n);
	}
	batch_add_piece(b, &c);
	return true;
}

/* Give the pages from @i on a destination of @order. */
static bool batch_fill_folio(struct hmm_p2p_batch *b, unsigned long i, struct page *spage,
			     unsigned long mpfn, unsigned int order)
{
	struct folio *folio;

	if (b->job.dir == HMM_P2P_TO_RAM)
		folio = batch_alloc_ram(b, i, spage, order);
	else
		folio = batch_alloc_device(b, order);
	if (!folio)
		return false;
	b->want -= BIT(order);
	if (!batch_add_copy(b, spage, folio_page(folio, 0), BIT(order))) {
		hmm_p2p_drop_folio(folio);
		batch_set_outcome(b, i, BIT(order), HMM_P2P_OTHER);
		return true;
	}
	b->args.dst[i] = migrate_pfn(folio_pfn(folio)) | (mpfn & MIGRATE_PFN_WRITE);
	if (order)
		b->args.dst[i] |= MIGRATE_PFN_COMPOUND;
	return true;
}

static bool batch_fill_huge(struct hmm_p2p_batch *b, unsigned long i, struct page *spage,
			    unsigned long mpfn)
{
	struct vm_area_struct *vma = b->args.vma;

	if (b->job.dir != HMM_P2P_TO_RAM) {
		if (hmm_p2p_is_coherent(b->engine->exp))
			return false;
		/* The settings of the process decide whether a hole becomes a huge page. */
		if (!spage && !thp_vma_allowable_order(vma, vma->vm_flags,
						       TVA_PAGEFAULT,
						       PMD_ORDER))
			return false;
	}
	return batch_fill_folio(b, i, spage, mpfn,
				spage ? folio_order(page_folio(spage)) : PMD_ORDER);
}

static void batch_fill_small(struct hmm_p2p_batch *b, unsigned long i, unsigned long n,
			     struct page *spage, unsigned long mpfn)
{
	unsigned long j;

	for (j = 0; j < n; j++) {
		/* The memory is used up: do not ask again for each page. */
		if (b->error == -ENOMEM ||
		    !batch_fill_folio(b, i + j, spage ? spage + j : NULL, mpfn, 0))
			break;
	}
	if (j == n)
		return;
	batch_set_outcome(b, i + j, n - j, HMM_P2P_NO_MEMORY);
	b->error = -ENOMEM;
	if (b->job.dir != HMM_P2P_TO_RAM)
		b->no_room += n - j;
}

/* Whether a page that is locked belongs to @from, which is compared only. */
static bool batch_page_is_from(const struct page *page, struct hmm_p2p_exporter *from)
{
	bool same;

	rcu_read_lock();
	same = hmm_p2p_exporter_of(page) == from;
	rcu_read_unlock();
	return same;
}

/* Whether a page that is ready to move is one that we move. */
static enum hmm_p2p_outcome batch_check_source(struct hmm_p2p_batch *b, struct page *page)
{
	struct folio *folio = page ? page_folio(page) : NULL;

	switch (b->job.dir) {
	case HMM_P2P_TO_DEVICE:
		/* Only user space decides what appears in such a hole. */
		if (!folio)
			return userfaultfd_missing(b->args.vma) ? HMM_P2P_ABSENT :
								  HMM_P2P_MOVED;
		/* Devices take anonymous memory only.  migrate_vma_setup() leaves KSM pages out. */
		return folio_test_anon(folio) ? HMM_P2P_MOVED : HMM_P2P_NOT_ANON;
	case HMM_P2P_TO_RAM:
		return folio ? HMM_P2P_MOVED : HMM_P2P_ABSENT;
	case HMM_P2P_FROM_PEER:
		/* The batch collects holes as well.  A pass from RAM deals with them. */
		return folio && batch_page_is_from(page, b->from) ? HMM_P2P_MOVED :
								    HMM_P2P_OTHER;
	}
	return HMM_P2P_BUSY;
}

/*
 * Whether a huge page that is unmapped may get small destinations.  migrate_vma_pages() then
 * splits it, and knows of this VMA only.  A process that shares the page after fork() has a huge
 * migration entry for it.  That process would get 2 MiB from the address of one small page on.
 * A page that was writable is not shared.  Eviction has no VMA.
 */
static bool batch_may_split(struct hmm_p2p_batch *b, unsigned long mpfn)
{
	return b->args.vma && mpfn & MIGRATE_PFN_WRITE;
}

/* Turn a hole of a huge page's size into small ones, so that small pages can fill it. */
static void batch_split_hole(struct hmm_p2p_batch *b, unsigned long i, unsigned long n)
{
	while (n--)
		b->args.src[i++] = MIGRATE_PFN_MIGRATE;
}

/* How many pages an entry of the source stands for: a folio's, a hole's, or one. */
static unsigned long batch_entry_pages(unsigned long mpfn)
{
	struct page *page = migrate_pfn_to_page(mpfn);

	if (!(mpfn & MIGRATE_PFN_COMPOUND))
		return 1;
	return page ? folio_nr_pages(page_folio(page)) : HMM_P2P_BATCH_PAGES;
}

/*
 * Give every page that is ready to move a destination.  Entries that get none are
 * restored by the finalize step.
 */
static void batch_fill(struct hmm_p2p_batch *b)
{
	unsigned long i, n;

	b->want = b->taken;
	for (i = 0; i < b->nr; i += n) {
		unsigned long mpfn = b->args.src[i];
		struct page *spage = migrate_pfn_to_page(mpfn);
		enum hmm_p2p_outcome outcome;

		n = 1;
		if (!(mpfn & MIGRATE_PFN_MIGRATE))
			continue;
		n = batch_entry_pages(mpfn);
		outcome = batch_check_source(b, spage);
		if (outcome != HMM_P2P_MOVED) {
			/* A copy from a peer says nothing about holes. */
			if (spage || b->job.dir != HMM_P2P_FROM_PEER)
				batch_set_outcome(b, i, n, outcome);
			b->want -= n;
			continue;
		}
		if (n > 1 && batch_fill_huge(b, i, spage, mpfn))
			continue;
		if (n > 1 && spage && !batch_may_split(b, mpfn)) {
			batch_set_outcome(b, i, n, HMM_P2P_NO_MEMORY);
			b->error = -ENOMEM;
			b->want -= n;
			/* The finalize step restores the page.  Then it is split. */
			if (b->args.vma && !b->args.fault_page && !b->split) {
				b->split = page_folio(spage);
				folio_get(b->split);
			}
			continue;
		}
		if (n > 1 && !spage)
			batch_split_hole(b, i, n);
		batch_fill_small(b, i, n, spage, mpfn);
	}
	batch_drop_spare(b);
}

/*
 * hmm_p2p_batch_init - prepare a batch for a migration
 * @b: large enough for the range; b->why is preset with the outcome for pages that are not
 *	collected.  For %HMM_P2P_FROM_PEER, b->from is set
 * @engine: the engine that copies
 * @dir: the direction of the copy
 * @vma: a VMA that may be migrated; mmap_lock is held until hmm_p2p_batch_end()
 * @start: first address
 * @end: behind the last; in the same PMD
 *
 * hmm_p2p_batch_end() may follow at once: then nothing happens.  A batch that was abandoned
 * stays abandoned, and collects nothing.
 */
void hmm_p2p_batch_init(struct hmm_p2p_batch *b, struct hmm_p2p_engine *engine,
			enum hmm_p2p_copy_dir dir, struct vm_area_struct *vma,
			unsigned long start, unsigned long end)
{
	b->nr = (end - start) >> PAGE_SHIFT;
	b->args.vma = vma;
	b->args.start = start;
	b->args.end = end;
	b->args.cpages = 0;
	b->taken = 0;
	b->no_room = 0;
	b->moved = 0;
	b->error = 0;
	b->in_flight = false;
	b->dma_next = 0;
	b->dma_next_page = 0;
	b->dma_short = false;
	b->split = NULL;
	b->spare_first = 0;
	b->spare_end = 0;
	/* The driver may still have the job, and hmm_p2p_copy_leave() needs its data. */
	if (b->abandoned)
		return;
	b->engine = engine;
	b->job.dir = dir;
	b->job.state = HMM_P2P_COPY_RUNNING;
	b->job.alone = true;
	b->job.copies = b->copies;
	b->job.nr = 0;
	b->job.nr_pages = 0;
	b->job.dma = NULL;
	b->job.nr_dma = 0;
	init_completion(&b->job.done);
}

static void batch_count_taken(struct hmm_p2p_batch *b)
{
	unsigned long i, n;

	for (i = 0; i < b->nr; i += n) {
		n = batch_entry_pages(b->args.src[i]);
		if (b->args.src[i] & MIGRATE_PFN_MIGRATE)
			b->taken += n;
	}
}

/*
 * hmm_p2p_batch_collect - unmap the pages of a batch
 * @b: after hmm_p2p_batch_init()
 * @fault_page: the page of a CPU fault, locked, or NULL
 *
 * b->taken is then the number of pages that need a destination.
 *
 * Return: 0, or the error of migrate_vma_setup().
 */
int hmm_p2p_batch_collect(struct hmm_p2p_batch *b, struct page *fault_page)
{
	struct hmm_p2p_exporter *source;
	struct hmm_p2p_watch watch;
	int ret;

	if (b->abandoned)
		return -EIO;
	source = b->job.dir == HMM_P2P_FROM_PEER ? b->from : b->engine->exp;
	b->args.pgmap_owner = source->owner;
	b->args.fault_page = fault_page;
	b->args.flags = MIGRATE_VMA_SELECT_COMPOUND;
	if (b->job.dir == HMM_P2P_TO_DEVICE)
		b->args.flags |= MIGRATE_VMA_SELECT_SYSTEM;
	else
		b->args.flags |= hmm_p2p_is_coherent(source) ?
				 MIGRATE_VMA_SELECT_DEVICE_COHERENT :
				 MIGRATE_VMA_SELECT_DEVICE_PRIVATE;
	memset(b->args.dst, 0, b->nr * sizeof(*b->args.dst));

	hmm_p2p_watch_begin(&watch, source);
	ret = migrate_vma_setup(&b->args);
	hmm_p2p_watch_end(&watch);
	if (ret)
		b->args.cpages = 0;
	else if (b->args.cpages)
		batch_count_taken(b);
	return ret;
}

/* Prepare a batch for pages of a device that the caller has unmapped and put in b->args.src. */
void hmm_p2p_batch_collect_pfns(struct hmm_p2p_batch *b, struct hmm_p2p_engine *engine,
				unsigned long nr)
{
	hmm_p2p_batch_init(b, engine, HMM_P2P_TO_RAM, NULL, 0, nr << PAGE_SHIFT);
	memset(b->args.dst, 0, nr * sizeof(*b->args.dst));
	b->args.cpages = nr;
}

/* Give the collected pages a destination, and start the copy. */
void hmm_p2p_batch_start(struct hmm_p2p_batch *b)
{
	if (!b->args.cpages)
		return;
	/* The pages are locked; pairs with hmm_p2p_revoke_window(). */
	smp_mb();
	batch_fill(b);
	hmm_p2p_copy_start(b);
}

/* Whether a copy that was abandoned may still write to its destination. */
static bool batch_may_be_written(struct hmm_p2p_batch *b)
{
	/* A dead device may write to its own memory: no page table has it any more. */
	return b->abandoned &&
	       (b->job.dir == HMM_P2P_TO_RAM || !READ_ONCE(b->engine->exp->dying));
}

/*
 * A destination that is kept keeps its reference, so it is not free before the copy has ended.
 * Device memory is unlocked, because a reset and a window that is revoked wait for page locks.
 */
static void batch_drop_destination(struct folio *folio, bool keep)
{
	if (!keep || folio_is_zone_device(folio))
		folio_unlock(folio);
	if (!keep)
		folio_put(folio);
}

/* The copy failed: everything stays where it is. */
static void batch_drop_destinations(struct hmm_p2p_batch *b)
{
	bool keep = batch_may_be_written(b);
	unsigned long i, n;

	for (i = 0; i < b->nr; i += n) {
		struct page *page = migrate_pfn_to_page(b->args.dst[i]);

		n = page ? folio_nr_pages(page_folio(page)) : 1;
		b->args.dst[i] = 0;
		if (page) {
			batch_set_outcome(b, i, n, HMM_P2P_COPY_FAILED);
			batch_drop_destination(page_folio(page), keep);
		}
	}
	b->kept = keep;
}

/* After the pages step, count the pages that moved, and those that failed to move. */
static void batch_count(struct hmm_p2p_batch *b)
{
	static const unsigned int counters[] = {
		[HMM_P2P_TO_DEVICE] = HMM_P2P_E_TO_DEVICE,
		[HMM_P2P_TO_RAM] = HMM_P2P_E_TO_RAM,
		[HMM_P2P_FROM_PEER] = HMM_P2P_E_FROM_PEER,
	};
	unsigned long i, n, failed = 0;

	for (i = 0; i < b->nr; i += n) {
		struct page *page = migrate_pfn_to_page(b->args.dst[i]);
		bool moved = b->args.src[i] & MIGRATE_PFN_MIGRATE;

		n = b->args.dst[i] & MIGRATE_PFN_COMPOUND ?
		    folio_nr_pages(page_folio(page)) : 1;
		if (!page) {
			failed += b->why[i] >= HMM_P2P_NO_MEMORY;
			continue;
		}
		batch_set_outcome(b, i, n, moved ? HMM_P2P_MOVED : HMM_P2P_LOST);
		if (moved)
			b->moved += n;
		else
			failed += n;
	}
	hmm_p2p_engine_count(b->engine, counters[b->job.dir], b->moved);
	trace_hmm_p2p_migrate(b->engine->exp->desc.name, b->job.dir,
			      b->args.vma ? b->args.start : 0, b->moved, failed);
}

/* Split a huge page that is mapped, if it can be done now, and drop the reference. */
void hmm_p2p_split_mapped(struct folio *folio)
{
	if (folio_trylock(folio)) {
		if (folio_test_large(folio) && folio_mapped(folio))
			split_folio(folio);
		folio_unlock(folio);
	}
	folio_put(folio);
}

/*
 * hmm_p2p_batch_end - wait for the copy and let go of the pages
 * @b: after hmm_p2p_batch_init()
 *
 * b->why then has the outcome of each page, and b->moved the number of pages that moved.  If
 * b->split is a huge page that had to be split first, the function has split it or could not.
 *
 * Return: 0, -ENOMEM if pages found no memory, -EBUSY if they found no DMA addresses
 * (b->dma_short), or another error of the copy.
 */
int hmm_p2p_batch_end(struct hmm_p2p_batch *b)
{
	int error;

	if (!b->args.cpages)
		return 0;
	error = hmm_p2p_copy_end(b);
	if (b->job.nr && !error && !hmm_p2p_copy_is_sound(b))
		error = -EIO;
	if (b->job.nr && error) {
		batch_drop_destinations(b);
		b->error = error;
	}
	if (b->args.vma) {
		migrate_vma_pages(&b->args);
		batch_count(b);
		migrate_vma_finalize(&b->args);
	} else {
		migrate_device_pages(b->args.src, b->args.dst, b->nr);
		batch_count(b);
		migrate_device_finalize(b->args.src, b->args.dst, b->nr);
	}
	if (b->split)
		hmm_p2p_split_mapped(b->split);
	/* A second call does nothing. */
	b->args.cpages = 0;
	b->in_flight = false;
	return b->error;
}
