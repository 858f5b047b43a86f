// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Writes on their way
 *
 * A peer's write to an alias is posted: the peer sends it and is not told when it arrives.
 * When an importer has let go of an alias, its device sends no more writes, but the last
 * ones may still be between a switch and the exporter's memory.  Two things must not
 * overtake them: a copy out of that memory would miss their data, and they would overwrite
 * the data of the next user of the memory.
 *
 * A flush waits for them.  The exporter's driver knows how, and does it in
 * ops->flush_writes.  The core knows when: if a peer has a window mapped, or has let go of a
 * page in it since the last flush began.
 *
 * Flushes of an exporter are numbered, one runs at a time, and each covers all windows.  A
 * window remembers the highest flush that had begun when a peer let go of a page in it.  A
 * flush with a higher number covers all that this peer has written:
 *
 *	hmm_p2p_map_put()			hmm_p2p_flush_after()
 *	  the peer's writes are sent
 *	  smp_mb()
 *	  reads that flush n has begun
 *						  flush n + 1 has begun
 *						  smp_mb()
 *						  ops->flush_writes()
 *	  window: n				  flush n + 1 has ended
 *	  atomic_dec_and_test(refs)
 *
 * If the put does not see that flush n + 1 has begun, the writes were sent before its op
 * was called.  Flush n + 1 covers them, however late n is stored in the window.  If the put
 * does see it, the window says n + 1, and the writes need another flush.  Nothing is ever
 * cleared, so a put cannot be lost to a flush that ends.
 *
 * The number is stored before the reference is dropped, so a reader that sees no reference
 * sees the number.  While a window has references, its peers may go on writing, and a
 * caller needs a flush that begins after its call.
 *
 * If there are two callers at a time, the second waits for the first.  The first one's op may
 * have begun too early for the second, which then calls the op itself.
 *
 * An invalidate callback must not flush: reclaim waits for the callback, and must not wait
 * for a device.  So the core flushes later, where the memory is used next:
 *
 *	copied out			before the copy
 *	freed, and handed out again	before a copy writes to the new page.  Not in
 *					folio_free, which must not sleep
 *	its window closes		before ops->close_window
 *	it is revoked, reset, drained	before the call returns
 */
#include <linux/bug.h>
#include <linux/export.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/mmu_notifier.h>
#include <linux/slab.h>

#include <trace/events/hmm_p2p.h>

#include "internal.h"

/* The later of two flushes: their numbers wrap around. */
static u32 later_flush(u32 a, u32 b)
{
	return (s32)(a - b) > 0 ? a : b;
}

/* Return: true if a flush later than @after has ended. */
static bool flush_is_over(struct hmm_p2p_exporter *exp, u32 after)
{
	/* Pairs with the release in hmm_p2p_flush_after(): its op has returned. */
	return (s32)(smp_load_acquire(&exp->flush_ended) - after) > 0;
}

/* At registration.  An exporter without the op has no array. */
int hmm_p2p_flush_init(struct hmm_p2p_exporter *exp)
{
	/* A window that was never mapped says 0: flush 1 covers it. */
	exp->flush_begun = 1;
	exp->flush_ended = 1;
	if (!exp->desc.ops->flush_writes)
		return 0;
	exp->let_go = kvzalloc_objs(*exp->let_go, exp->nr_windows);
	return exp->let_go ? 0 : -ENOMEM;
}

/*
 * hmm_p2p_flush_note - note that a peer lets go of a page
 * @window: the window of the page, which still has a reference for it
 *
 * Context: As hmm_p2p_map_put(), before the reference is dropped.
 */
void hmm_p2p_flush_note(struct hmm_p2p_window *window)
{
	struct hmm_p2p_exporter *exp = window->exp;
	u32 *let_go = &exp->let_go[hmm_p2p_window_index(window)];
	u32 begun, old;

	/* The peer's writes are before this; pairs with hmm_p2p_flush_after(). */
	smp_mb();
	begun = READ_ONCE(exp->flush_begun);
	old = READ_ONCE(*let_go);
	/* Another peer may have seen a later flush, and its number must stay. */
	while (later_flush(old, begun) != old && !try_cmpxchg(let_go, &old, begun))
		;
}

/*
 * hmm_p2p_flush_need - the last flush that is not enough for some pages
 * @exp: the exporter
 * @pfn: the first page, counted from the start of the device memory
 * @nr: number of pages, not 0
 * @after: hmm_p2p_flush_none(), or from another call; raised if these pages need a later
 *	flush
 *
 * The pages need a flush with a number above @after: see hmm_p2p_flush_after().
 */
void hmm_p2p_flush_need(struct hmm_p2p_exporter *exp, unsigned long pfn,
			unsigned long nr, u32 *after)
{
	struct hmm_p2p_window *window = hmm_p2p_window_at(exp, pfn);
	struct hmm_p2p_window *last = hmm_p2p_window_at(exp, pfn + nr - 1);

	if (!exp->let_go)
		return;
	for (; window <= last; window++) {
		u32 need;

		if (atomic_read(&window->refs)) {
			/*
			 * The caller wants writes that it knows of.  Pairs with the
			 * barrier in front of the op.
			 */
			smp_mb();
			need = READ_ONCE(exp->flush_begun);
		} else {
			/* Pairs with atomic_dec_and_test() in hmm_p2p_map_put(). */
			smp_rmb();
			need = READ_ONCE(exp->let_go[hmm_p2p_window_index(window)]);
		}
		*after = later_flush(need, *after);
	}
}

/* Checks every call, also those that find nothing to flush. */
static void assert_may_flush(struct hmm_p2p_exporter *exp)
{
	might_sleep();
#ifdef CONFIG_LOCKDEP
	WARN_ONCE(debug_locks && lock_is_held(&__mmu_notifier_invalidate_range_start_map),
		  "hmm_p2p: %s: flush of writes from an invalidate callback\n",
		  exp->desc.name);
#endif
}

/*
 * hmm_p2p_flush_after - wait until a flush later than @after has ended
 * @exp: the exporter, which the caller keeps
 * @after: from hmm_p2p_flush_need()
 *
 * Calls the op, unless such a flush has ended or is running; waits for one that runs.
 * Does not call the op of a dead device, nor of an exporter that is unregistered.
 *
 * Context: May sleep.  Not from an invalidate callback.
 */
void hmm_p2p_flush_after(struct hmm_p2p_exporter *exp, u32 after)
{
	if (!exp->let_go)
		return;
	assert_may_flush(exp);
	if (flush_is_over(exp, after))
		return;
	mutex_lock(&exp->flush_lock);
	if (!flush_is_over(exp, after) && !exp->flush_closed && !hmm_p2p_is_dead(exp)) {
		WRITE_ONCE(exp->flush_begun, exp->flush_begun + 1);
		/* A put that misses it has its writes in front; pairs with hmm_p2p_flush_note(). */
		smp_mb();
		exp->desc.ops->flush_writes(exp->desc.priv);
		hmm_p2p_count(exp, HMM_P2P_C_FLUSHES, 1);
		trace_hmm_p2p_flush(exp->desc.name, exp->flush_begun);
		/* Pairs with the acquire in flush_is_over(). */
		smp_store_release(&exp->flush_ended, exp->flush_begun);
	}
	mutex_unlock(&exp->flush_lock);
}

/* Flush for @nr pages from @pfn, counted from the start of the device memory. */
static void hmm_p2p_flush_pages(struct hmm_p2p_exporter *exp, unsigned long pfn,
				unsigned long nr)
{
	u32 after = hmm_p2p_flush_none(exp);

	hmm_p2p_flush_need(exp, pfn, nr, &after);
	hmm_p2p_flush_after(exp, after);
}

/* Wait until all that peers have written through a window is in the memory. */
void hmm_p2p_flush_window(struct hmm_p2p_window *window)
{
	struct hmm_p2p_exporter *exp = window->exp;

	hmm_p2p_flush_pages(exp, hmm_p2p_window_begin(window), 1);
}

/* Wait until all that peers have written is in the memory. */
void hmm_p2p_flush_all(struct hmm_p2p_exporter *exp)
{
	hmm_p2p_flush_pages(exp, 0, exp->nr_pages);
}

/* The device is dead, or goes.  When this returns, no op runs and none is called any more. */
void hmm_p2p_flush_end(struct hmm_p2p_exporter *exp)
{
	mutex_lock(&exp->flush_lock);
	exp->flush_closed = true;
	mutex_unlock(&exp->flush_lock);
}

/**
 * hmm_p2p_flush_writes - wait until what peers have written is in the device memory
 * @exp: the exporter, which stays registered meanwhile
 * @offset: bytes from the start of the device memory
 * @length: bytes; with @offset rounded outward to whole windows
 *
 * A driver calls it before its device reads, in place, what peers have written to a part of its
 * memory.  A driver that moves pages calls hmm_p2p_flush_folio() instead.
 *
 * Calls ops->flush_writes if a peer has a window of the range mapped, or has let go of a page in
 * it since the last flush began.  If not, the call only reads the state of each window.
 *
 * Context: Process context; may sleep.  The caller may hold mmap_lock and page locks.  Not
 * from an invalidate callback, nor under a lock that such a callback takes.
 *
 * Return: 0: what peers had sent before the call is in the memory; or
 * * -EINVAL: the range is empty or reaches beyond the device memory
 * * -ENODEV: the device is dead, and so is what was written
 */
int hmm_p2p_flush_writes(struct hmm_p2p_exporter *exp, u64 offset, u64 length)
{
	u64 end;

	if (!hmm_p2p_range_end(exp, offset, length, &end))
		return -EINVAL;
	hmm_p2p_flush_pages(exp, PHYS_PFN(offset), PFN_UP(end) - PHYS_PFN(offset));
	return hmm_p2p_is_dead(exp) ? -ENODEV : 0;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_flush_writes, "HMM_P2P");

/**
 * hmm_p2p_flush_folio - wait until what peers have written to a folio is in the device memory
 * @folio: device memory that the caller keeps in use, by its lock or a reference
 *
 * A driver that moves pages by itself, without the core's migration engine, calls it when the
 * pages are unmapped and their notifiers were called (migrate_vma_setup() and
 * migrate_device_range() do both), and before
 *
 * * the folio is copied out;
 * * the driver writes to a new folio whose memory came back through
 *   dev_pagemap_ops.folio_free.  The core's engine flushes for pages from its alloc_folios
 *   before it calls copy, so only a driver that writes to them earlier, to clear them for
 *   example, has to call it.
 *
 * The page finds its exporter, so the driver may call this at any time before
 * memunmap_pages(): beside hmm_p2p_unregister(), and after it.  Where the memory has no
 * exporter any more, hmm_p2p_unregister() has flushed, and no peer has written since, but for an
 * importer that breaks its contract and holds on.
 *
 * Calls ops->flush_writes as hmm_p2p_flush_writes() does.  It does not call the op any more
 * when hmm_p2p_unregister() has returned.
 *
 * Context: Process context; may sleep.  The caller may hold mmap_lock and page locks.  Not
 * from an invalidate callback, nor under a lock that such a callback takes.
 *
 * Return: 0: what peers had sent before the call is in the memory; or
 * * -ENODEV: the device is dead, and so is what was written: the driver does not copy it
 */
int hmm_p2p_flush_folio(struct folio *folio)
{
	struct page *page = folio_page(folio, 0);
	struct hmm_p2p_exporter *exp;
	int ret;

	rcu_read_lock();
	exp = hmm_p2p_exporter_of(page);
	if (exp && !kref_get_unless_zero(&exp->kref))
		exp = NULL;
	rcu_read_unlock();
	if (!exp) {
		/* See what the last flush waited for: pairs with hmm_p2p_unregister(). */
		smp_rmb();
		return 0;
	}
	hmm_p2p_flush_pages(exp, PHYS_PFN(hmm_p2p_page_offset(page)), folio_nr_pages(folio));
	ret = hmm_p2p_is_dead(exp) ? -ENODEV : 0;
	hmm_p2p_exporter_put(exp);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_flush_folio, "HMM_P2P");
