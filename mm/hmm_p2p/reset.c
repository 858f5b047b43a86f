// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Reset, death and poison
 *
 * What happens to the memory of processes when the device that has it is not well.
 *
 * Reset: the pages are parked.  Each gets migration entries in every page table,
 * as if it were about to move, and stays locked: the CPU, hmm's walks and whoever
 * else wants it waits, as for any migration.  On the way every importer's notifier
 * is called.  At the end the entries are replaced by what they were.
 *
 * Death: the data is lost.  Every page table entry of the device's pages becomes a
 * poison marker: the CPU gets SIGBUS, hmm -EFAULT.  A marker, and not the hwpoison
 * entry of memory_failure(): that carries a PFN, and this one's struct page goes away
 * with the device while the process may keep the entry for ever
 * (/proc/PID/pagemap, for one, looks at the page of such an entry).
 *
 * Poison: the same for a single page.  A large folio need not be split for it, only
 * its PMD: no page of it is marked, so nothing depends on its size.
 */
#include <linux/bitmap.h>
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/leafops.h>
#include <linux/mmu_notifier.h>
#include <linux/mm.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/swapops.h>

#include <trace/events/hmm_p2p.h>

#include "../internal.h"
#include "internal.h"

static void set_state(struct hmm_p2p_exporter *exp, enum hmm_p2p_state state)
{
	lockdep_assert_held(&exp->life);
	WRITE_ONCE(exp->state, state);
	trace_hmm_p2p_state(exp->desc.name, hmm_p2p_state_name(exp));
	wake_up_all(&exp->changed);
}

/* How often a task that waits for others says so in the kernel log. */
#define REPORT_INTERVAL	(10 * HZ)

/*
 * Tasks that saw the state before are through when this returns.  Most of them migrate
 * memory to the device, and so wait for its copies.
 *
 * Does not queue for the lock, or a reader that comes meanwhile would wait behind it for
 * somebody else's copy, in a way that no signal ends.  It need not queue either: whoever
 * comes now sees the new state and does not stay.
 *
 * Return: false if this is for a reset, and the device has died meanwhile.
 */
static bool flush_readers(struct hmm_p2p_exporter *exp)
{
	unsigned long report = jiffies + REPORT_INTERVAL;

	might_lock(&exp->migrate_sem);
	while (!down_write_trylock(&exp->migrate_sem)) {
		if (READ_ONCE(exp->state) == HMM_P2P_STATE_RESETTING &&
		    READ_ONCE(exp->dying))
			return false;
		if (time_after(jiffies, report)) {
			pr_warn("hmm_p2p: %s: %s, and waits for copies and migrations to end\n",
				exp->desc.name, hmm_p2p_state_name(exp));
			report = jiffies + REPORT_INTERVAL;
		}
		schedule_timeout_uninterruptible(1);
	}
	up_write(&exp->migrate_sem);
	return true;
}

/*
 * Keep an exporter alive in the sense of LIVE: no reset begins and no memory goes
 * away until hmm_p2p_live_put().  Waits for the end of a reset.  0, -ENODEV if it is
 * on its way out or dead, or -EINTR.
 */
int hmm_p2p_live_get(struct hmm_p2p_exporter *exp)
{
	do {
		if (wait_event_killable(exp->changed, READ_ONCE(exp->state) !=
					HMM_P2P_STATE_RESETTING))
			return -EINTR;
		if (READ_ONCE(exp->state) != HMM_P2P_STATE_LIVE)
			continue;
		/* A writer has it for a moment only. */
		down_read(&exp->migrate_sem);
		if (READ_ONCE(exp->state) == HMM_P2P_STATE_LIVE)
			return 0;
		up_read(&exp->migrate_sem);
	} while (READ_ONCE(exp->state) <= HMM_P2P_STATE_RESETTING);
	return -ENODEV;
}

void hmm_p2p_live_put(struct hmm_p2p_exporter *exp)
{
	up_read(&exp->migrate_sem);
}

/*
 * All notifiers have been called and no alias is handed out any more: who still
 * holds one broke the contract.  Its windows stay out of use.
 */
void hmm_p2p_check_refs(struct hmm_p2p_exporter *exp)
{
	unsigned long i;

	for (i = 0; i < exp->nr_windows; i++) {
		struct hmm_p2p_window *window = &exp->windows[i];

		if (!atomic_read(&window->refs) ||
		    !hmm_p2p_window_begin_revoke(window, false))
			continue;
		hmm_p2p_quarantine(window);
		hmm_p2p_window_end_revoke(window, true);
	}
}

/* True if it is parked, and the lock and the references are kept for that. */
static bool park_folio(struct hmm_p2p_exporter *exp, struct folio *folio)
{
	struct hmm_p2p_watch watch;
	bool unmapped;

	hmm_p2p_watch_begin(&watch, exp);
	/* The anon_vma is put by unpark_all(). */
	unmapped = hmm_p2p_unmap_folio(folio);
	hmm_p2p_watch_end(&watch);
	if (unmapped)
		__set_bit(folio_pfn(folio) - exp->first_pfn, exp->parked);
	return unmapped;
}

/* False if the device died meanwhile. */
static bool park_all(struct hmm_p2p_exporter *exp)
{
	unsigned long end = exp->first_pfn + exp->nr_pages;
	unsigned long report = jiffies + REPORT_INTERVAL;
	bool busy;

	do {
		unsigned long pfn = exp->first_pfn;

		busy = false;
		while (pfn < end) {
			struct folio *folio;

			if (test_bit(pfn - exp->first_pfn, exp->parked)) {
				/* Locked by us, so it stays as large as it is. */
				pfn += folio_nr_pages(page_folio(pfn_to_page(pfn)));
				continue;
			}
			folio = hmm_p2p_grab_folio(pfn, &busy);
			pfn++;
			if (!folio)
				continue;
			if (park_folio(exp, folio)) {
				pfn = folio_pfn(folio) + folio_nr_pages(folio);
				continue;
			}
			/* What nobody maps, nobody reaches. */
			busy |= folio_mapped(folio);
			drop_folio(folio);
			cond_resched();
		}
		if (READ_ONCE(exp->dying))
			return false;
		if (busy && time_after(jiffies, report)) {
			pr_warn("hmm_p2p: %s: reset waits for pages that are locked\n",
				exp->desc.name);
			report = jiffies + REPORT_INTERVAL;
		}
		if (busy)
			schedule_timeout_uninterruptible(1);
	} while (busy);
	return true;
}

struct poison_arg {
	struct hmm_p2p_exporter *exp;
	struct page *only;		/* NULL: all of the folio */
	unsigned long entries;
};

static bool poison_one(struct folio *folio, struct vm_area_struct *vma,
		       unsigned long address, void *p)
{
	DEFINE_FOLIO_VMA_WALK(pvmw, folio, vma, address, PVMW_SYNC);
	struct mm_struct *mm = vma->vm_mm;
	struct poison_arg *arg = p;
	struct mmu_notifier_range range;
	struct hmm_p2p_watch watch;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, address,
				vma_address_end(&pvmw));
	hmm_p2p_watch_begin(&watch, arg->exp);
	mmu_notifier_invalidate_range_start(&range);
	hmm_p2p_watch_end(&watch);

	while (page_vma_mapped_walk(&pvmw)) {
		struct page *page;

		if (!pvmw.pte) {
			split_huge_pmd_locked(vma, pvmw.address, pvmw.pmd, false);
			page_vma_mapped_walk_restart(&pvmw);
			continue;
		}
		page = softleaf_to_page(softleaf_from_pte(ptep_get(pvmw.pte)));
		if (arg->only && page != arg->only)
			continue;
		/* Not present before or after: nothing to flush. */
		set_pte_at(mm, pvmw.address, pvmw.pte,
			   make_pte_marker(PTE_MARKER_POISONED));
		dec_mm_counter(mm, mm_counter(folio));
		folio_remove_rmap_pte(folio, page, vma);
		if (vma->vm_flags & VM_LOCKED)
			mlock_drain_local();
		folio_put(folio);
		arg->entries++;
	}
	mmu_notifier_invalidate_range_end(&range);
	return true;
}

/* The folio is locked and has a reference. */
static void poison_folio(struct hmm_p2p_exporter *exp, struct folio *folio,
			 struct page *only)
{
	struct poison_arg arg = { .exp = exp, .only = only };
	struct rmap_walk_control rwc = {
		.rmap_one = poison_one,
		.arg = &arg,
		.anon_lock = folio_lock_anon_vma_read,
	};

	if (folio_mapped(folio))
		rmap_walk(folio, &rwc);
	if (!arg.entries)
		return;
	hmm_p2p_count(exp, HMM_P2P_C_POISONED, arg.entries);
	trace_hmm_p2p_poison(exp->desc.name, folio_pfn(folio) - exp->first_pfn,
			     arg.entries, 0);
}

/* If there is a reset under way, poison the page at its end, and say so. */
static bool poison_later(struct hmm_p2p_exporter *exp, unsigned long i)
{
	bool later;

	spin_lock(&exp->late_lock);
	later = exp->late;
	if (later)
		__set_bit(i, exp->late);
	spin_unlock(&exp->late_lock);
	return later;
}

/*
 * Page @i of the device.  A reset locks the pages that it parks.  One that it has not
 * parked yet, or not any more, is poisoned here.  A page that is locked is left to the
 * end of the reset.
 */
static int poison_page(struct hmm_p2p_exporter *exp, unsigned long i,
		       unsigned long deadline)
{
	unsigned long pfn = exp->first_pfn + i;

	for (;;) {
		bool later = poison_later(exp, i), busy = false;
		struct folio *folio = hmm_p2p_grab_folio(pfn, &busy);

		if (folio) {
			poison_folio(exp, folio, pfn_to_page(pfn));
			drop_folio(folio);
			return 0;
		}
		/* Nobody uses it, or unpark_all() is told. */
		if (!busy || later)
			return 0;
		if (time_after(jiffies, deadline))
			return -EBUSY;
		schedule_timeout_uninterruptible(1);
	}
}

/* The next page in [@i, @end) that broke during the reset, which is taken; or @end. */
static unsigned long take_late(struct hmm_p2p_exporter *exp, unsigned long i,
			       unsigned long end)
{
	spin_lock(&exp->late_lock);
	i = find_next_bit(exp->late, end, i);
	if (i < end)
		__clear_bit(i, exp->late);
	spin_unlock(&exp->late_lock);
	return i;
}

static bool park_init(struct hmm_p2p_exporter *exp)
{
	unsigned long longs = BITS_TO_LONGS(exp->nr_pages);

	exp->parked = kvcalloc(2 * longs, sizeof(long), GFP_KERNEL);
	if (!exp->parked)
		return false;
	spin_lock(&exp->late_lock);
	exp->late = exp->parked + longs;
	spin_unlock(&exp->late_lock);
	return true;
}

/* Map what was parked as it was, but for pages that broke meanwhile. */
static void unpark_all(struct hmm_p2p_exporter *exp)
{
	unsigned long i, j, end, deadline;
	unsigned long *late = exp->late;

	for_each_set_bit(i, exp->parked, exp->nr_pages) {
		struct folio *folio = page_folio(pfn_to_page(exp->first_pfn + i));
		struct anon_vma *anon_vma = folio_anon_vma(folio);

		hmm_p2p_map_folio(folio, anon_vma);
		/* It is locked: nobody gets at it before. */
		end = i + folio_nr_pages(folio);
		for (j = take_late(exp, i, end); j < end; j = take_late(exp, j + 1, end))
			poison_folio(exp, folio, pfn_to_page(exp->first_pfn + j));
		drop_folio(folio);
		cond_resched();
	}
	spin_lock(&exp->late_lock);
	exp->late = NULL;
	spin_unlock(&exp->late_lock);
	/* Those that were locked by others when they broke. */
	deadline = jiffies + HZ;
	for_each_set_bit(i, late, exp->nr_pages)
		if (poison_page(exp, i, deadline))
			pr_err("hmm_p2p: %s: page %lu has lost its content, and stays locked\n",
			       exp->desc.name, i);
	kvfree(exp->parked);
	exp->parked = NULL;
}

/**
 * hmm_p2p_reset_begin - make everybody wait for a reset of the device
 * @exp: the exporter
 *
 * When it returns nobody reaches the device's memory: aliases are taken back, and
 * whoever wants a page, with the CPU or a device, waits for hmm_p2p_reset_end().
 * A fatal signal ends the wait of a task, but not that of a kernel thread, which
 * most importers fault with.
 * A page that the CPU touches before it is parked goes to RAM as ever, so the copy
 * op has to work until then, or to say -EAGAIN, and so has ops->flush_writes: what peers
 * have written is in the memory.  Copies that are under way are waited
 * for: a driver whose device does not end them any more ends them itself, by
 * hmm_p2p_copy_done() with -EAGAIN.  The memory has to keep its content,
 * and windows that are open their place; a device that loses either is dead.
 *
 * Context: Process context, may sleep, for as long as somebody keeps a page locked, or
 * until another task calls hmm_p2p_dead().  Not under a lock that the copy op or an
 * importer's invalidate callback needs.
 *
 * Return: 0, to be followed by hmm_p2p_reset_end(); or, with nothing changed,
 * * -EBUSY: a reset is under way
 * * -ENODEV: the exporter is being unregistered, or its device is dead
 * * -EOPNOTSUPP: its memory is coherent: the CPU uses it directly
 * * -ENOMEM
 */
int hmm_p2p_reset_begin(struct hmm_p2p_exporter *exp)
{
	int ret = 0;

	if (hmm_p2p_is_coherent(exp))
		return -EOPNOTSUPP;
	/* hmm_p2p_dead() has the mutex for as long as it waits for the driver. */
	if (READ_ONCE(exp->dying))
		return -ENODEV;
	mutex_lock(&exp->life);
	if (exp->state == HMM_P2P_STATE_RESETTING)
		ret = -EBUSY;
	else if (exp->state != HMM_P2P_STATE_LIVE)
		ret = -ENODEV;
	if (ret)
		goto out;
	if (!park_init(exp)) {
		ret = -ENOMEM;
		goto out;
	}
	set_state(exp, HMM_P2P_STATE_RESETTING);
	if (!flush_readers(exp) || !park_all(exp)) {
		/* hmm_p2p_dead() waits for us to let go. */
		unpark_all(exp);
		set_state(exp, HMM_P2P_STATE_LIVE);
		ret = -ENODEV;
		goto out;
	}
	hmm_p2p_check_refs(exp);
	/* A device that is being reset cannot receive the writes of peers. */
	hmm_p2p_flush_all(exp);
out:
	mutex_unlock(&exp->life);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_reset_begin, "HMM_P2P");

/**
 * hmm_p2p_reset_end - let those go on who wait for a reset
 * @exp: the exporter
 *
 * Every page is where it was, with the access it had.
 *
 * Context: Process context, may sleep.  Need not be the task that began.
 *
 * Return: 0, or
 * * -EINVAL: no reset is under way
 * * -ENODEV: hmm_p2p_dead() has ended it, or is about to
 */
int hmm_p2p_reset_end(struct hmm_p2p_exporter *exp)
{
	int ret = 0;

	if (READ_ONCE(exp->dying))
		return -ENODEV;
	mutex_lock(&exp->life);
	if (exp->state == HMM_P2P_STATE_RESETTING) {
		unpark_all(exp);
		set_state(exp, HMM_P2P_STATE_LIVE);
		hmm_p2p_windows_settle(exp);
	} else {
		ret = exp->state == HMM_P2P_STATE_DEAD ? -ENODEV : -EINVAL;
	}
	mutex_unlock(&exp->life);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_reset_end, "HMM_P2P");

/* Unregistering begins.  A reset that is under way ends here. */
void hmm_p2p_begin_drain(struct hmm_p2p_exporter *exp)
{
	mutex_lock(&exp->life);
	if (WARN_ONCE(exp->state == HMM_P2P_STATE_RESETTING,
		      "hmm_p2p: %s: unregistered during a reset\n",
		      exp->desc.name))
		unpark_all(exp);
	if (exp->state != HMM_P2P_STATE_DEAD)
		set_state(exp, HMM_P2P_STATE_DRAINING);
	mutex_unlock(&exp->life);
	/*
	 * Migrations to the device that saw LIVE finish here, and none starts
	 * any more; then what is in the device can only become less.
	 */
	flush_readers(exp);
}

/*
 * Every page of the device that can be had at once.  Whether some could not, because
 * they are locked.
 */
static bool poison_pages(struct hmm_p2p_exporter *exp)
{
	unsigned long pfn, end = exp->first_pfn + exp->nr_pages;
	bool busy = false;

	for (pfn = exp->first_pfn; pfn < end; pfn++) {
		struct folio *folio = hmm_p2p_grab_folio(pfn, &busy);

		if (!folio)
			continue;
		poison_folio(exp, folio, NULL);
		/* fork() may have been ahead of the walk. */
		busy |= folio_mapped(folio);
		drop_folio(folio);
		cond_resched();
	}
	return busy;
}

/* The same until no page table has one any more. */
static void poison_all(struct hmm_p2p_exporter *exp)
{
	unsigned long report = jiffies + REPORT_INTERVAL;

	while (poison_pages(exp)) {
		if (time_after(jiffies, report)) {
			pr_warn("hmm_p2p: %s: dead, and waits for pages that are locked\n",
				exp->desc.name);
			report = jiffies + REPORT_INTERVAL;
		}
		schedule_timeout_uninterruptible(1);
	}
}

/*
 * Whether a copy has to do with a device that is dead, and the driver whose copy it is has
 * had its time to end it.
 */
bool hmm_p2p_is_overdue(struct hmm_p2p_exporter *exp)
{
	/* Pairs with the release in hmm_p2p_dead(). */
	return smp_load_acquire(&exp->dying) &&
	       time_after(jiffies, READ_ONCE(exp->died) + HMM_P2P_COPY_LIMIT);
}

/*
 * The copy op of a dead device returns soon, by contract.  A task cannot be got out of one
 * that does not, but the driver can be named.
 */
static void wait_for_copy_op(struct hmm_p2p_exporter *exp)
{
	/* A copy that is not counted yet finds the device dead: see hmm_p2p_copy_start(). */
	smp_mb();
	while (atomic_read(&exp->copying)) {
		if (hmm_p2p_is_overdue(exp)) {
			WARN(1, "hmm_p2p: %s: dead, and its copy op does not return\n",
			     exp->desc.name);
			return;
		}
		schedule_timeout_uninterruptible(1);
	}
}

/**
 * hmm_p2p_dead - the device is gone, and what was in its memory with it
 * @exp: the exporter
 *
 * For surprise removal and for devices that do not come back from a reset.  When it
 * returns, no page table has a page of the device and no importer an alias:
 * processes that touch what was there get SIGBUS, importers -EFAULT; ops->copy and
 * ops->flush_writes are not called any more, nor is dev_pagemap_ops.migrate_to_ram for the
 * core.  What is left to do is hmm_p2p_unregister(), which does not wait for anybody then.
 *
 * Before the call, the driver makes the copy op return, with an error such as -EIO, and
 * calls hmm_p2p_copy_done() for every copy that is under way, since the device will not
 * end any.  The core waits five seconds for that.  Then it names the exporter in a
 * warning, lets the tasks go on that wait for its copies, and keeps the RAM that such a copy
 * may still write to until hmm_p2p_copy_done() comes.  It cannot get a task out of a copy op
 * that does not return: then it warns, too, and this call does not return either.  Pages that
 * have nothing to do with these copies are dealt with before any of this.
 *
 * The same holds for copies of another driver that read from this device: that driver, whose
 * device is alive, has five seconds to end them.  After that, its own memory is kept until it
 * does.
 *
 * Context: Process context, may sleep.  Not under a lock that an importer's
 * invalidate callback needs.  Also between hmm_p2p_reset_begin() and its end, and
 * beside hmm_p2p_unregister(), but not after it.  Does nothing for coherent memory.
 */
void hmm_p2p_dead(struct hmm_p2p_exporter *exp)
{
	/* Memory that the CPU maps fails like any memory, by machine check. */
	if (hmm_p2p_is_coherent(exp))
		return;
	/* Where a reset waits with the mutex held, and where tasks wait for copies. */
	if (!READ_ONCE(exp->dying)) {
		WRITE_ONCE(exp->died, jiffies);
		/* Pairs with the acquire in hmm_p2p_is_overdue(). */
		smp_store_release(&exp->dying, true);
	}
	mutex_lock(&exp->life);
	if (exp->state == HMM_P2P_STATE_DEAD) {
		mutex_unlock(&exp->life);
		return;
	}
	set_state(exp, HMM_P2P_STATE_DEAD);
	if (exp->parked)
		unpark_all(exp);
	/* Nobody waits for a copy that has nothing to do with one. */
	poison_pages(exp);
	wait_for_copy_op(exp);
	hmm_p2p_flush_end(exp);
	flush_readers(exp);
	hmm_p2p_copy_forget(exp);
	poison_all(exp);
	/* Batches of other CPUs may have references: of mlocked pages, for one. */
	lru_add_drain_all();
	hmm_p2p_check_refs(exp);
	mutex_unlock(&exp->life);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_dead, "HMM_P2P");

/**
 * hmm_p2p_poison - part of the device memory has lost its content
 * @exp: the exporter
 * @offset: bytes from the start of the device memory
 * @length: bytes; with @offset rounded outward to whole pages
 *
 * For dev_pagemap_ops.memory_failure, and for a driver that hears of an error from
 * its device.  Every user of the pages loses them: the CPU gets SIGBUS, importers
 * -EFAULT at their next access.  Pages beside them are not affected.  That the
 * driver does not hand out the pages again is its own business.
 *
 * During a reset nobody reaches the pages.  The call returns at once then, and the pages
 * are poisoned at the end of the reset, before anybody gets at them.
 *
 * Context: Process context, may sleep.  Waits for pages that are locked, up to a second
 * for all of them together, and for nothing else: memory_failure() keeps every other
 * memory error of the machine waiting meanwhile.  The caller keeps the exporter
 * registered.
 *
 * Return: 0, or
 * * -EINVAL: the range is empty or reaches beyond the device memory
 * * -EBUSY: a page stayed locked; the rest was done
 * * -EOPNOTSUPP: the memory is coherent: memory_failure() knows what to do itself
 */
int hmm_p2p_poison(struct hmm_p2p_exporter *exp, u64 offset, u64 length)
{
	unsigned long i, deadline = jiffies + HZ;
	int ret = 0;
	u64 end;

	if (!hmm_p2p_range_end(exp, offset, length, &end))
		return -EINVAL;
	if (hmm_p2p_is_coherent(exp))
		return -EOPNOTSUPP;
	for (i = PHYS_PFN(offset); i <= PHYS_PFN(end - 1); i++) {
		ret = poison_page(exp, i, deadline) ?: ret;
		cond_resched();
	}
	return ret;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_poison, "HMM_P2P");
