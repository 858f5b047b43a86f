// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Reset
 *
 * During a reset the pages of the device are parked.  Each gets migration entries in every
 * page table, as if it were about to move, and stays locked.  The CPU, hmm's walks and all
 * others that want the page wait, as for any migration.  Replacing the entries calls every
 * importer's notifier.  The end of the reset puts the old entries back.
 *
 * A page that breaks during the reset is poisoned at the end of the reset: see death.c.
 */
#include <linux/bitmap.h>
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "../internal.h"
#include "internal.h"

/* Return: true if the folio is parked.  Then it stays locked and keeps its references. */
static bool reset_park_folio(struct hmm_p2p_exporter *exp, struct folio *folio)
{
	struct hmm_p2p_watch watch;
	bool unmapped;

	hmm_p2p_watch_begin(&watch, exp);
	/* The anon_vma is put by hmm_p2p_unpark_all(). */
	unmapped = hmm_p2p_unmap_folio(folio);
	hmm_p2p_watch_end(&watch);
	if (unmapped)
		__set_bit(folio_pfn(folio) - exp->first_pfn, exp->parked);
	return unmapped;
}

/* Return: false if the device died meanwhile. */
static bool reset_park_all(struct hmm_p2p_exporter *exp)
{
	unsigned long end = exp->first_pfn + exp->nr_pages;
	unsigned long report = jiffies + HMM_P2P_REPORT_INTERVAL;
	bool busy;

	do {
		unsigned long pfn = exp->first_pfn;

		busy = false;
		while (pfn < end) {
			struct folio *folio;

			if (test_bit(pfn - exp->first_pfn, exp->parked)) {
				/* This task has it locked, so nothing splits it. */
				pfn += folio_nr_pages(page_folio(pfn_to_page(pfn)));
				continue;
			}
			folio = hmm_p2p_grab_folio(pfn, &busy);
			pfn++;
			if (!folio)
				continue;
			if (reset_park_folio(exp, folio)) {
				pfn = folio_pfn(folio) + folio_nr_pages(folio);
				continue;
			}
			/* A folio that is not mapped cannot be reached: no need to park it. */
			busy |= folio_mapped(folio);
			hmm_p2p_drop_folio(folio);
			cond_resched();
		}
		if (READ_ONCE(exp->dying))
			return false;
		if (busy && time_after(jiffies, report)) {
			pr_warn("hmm_p2p: %s: reset waits for pages that are locked\n",
				exp->desc.name);
			report = jiffies + HMM_P2P_REPORT_INTERVAL;
		}
		if (busy)
			schedule_timeout_uninterruptible(1);
	} while (busy);
	return true;
}

/* Return: true if a reset is under way, whose end then poisons page @i. */
bool hmm_p2p_poison_later(struct hmm_p2p_exporter *exp, unsigned long i)
{
	bool later;

	spin_lock(&exp->late_lock);
	later = exp->late;
	if (later)
		__set_bit(i, exp->late);
	spin_unlock(&exp->late_lock);
	return later;
}

/* Take the next page in [@i, @end) that broke during the reset.  Return: it, or @end. */
static unsigned long reset_take_late(struct hmm_p2p_exporter *exp, unsigned long i,
				     unsigned long end)
{
	spin_lock(&exp->late_lock);
	i = find_next_bit(exp->late, end, i);
	if (i < end)
		__clear_bit(i, exp->late);
	spin_unlock(&exp->late_lock);
	return i;
}

static bool reset_park_init(struct hmm_p2p_exporter *exp)
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

/* Map the parked folios as they were.  Pages that broke meanwhile are poisoned instead. */
void hmm_p2p_unpark_all(struct hmm_p2p_exporter *exp)
{
	unsigned long i, j, end, deadline;
	unsigned long *late = exp->late;

	for_each_set_bit(i, exp->parked, exp->nr_pages) {
		struct folio *folio = page_folio(pfn_to_page(exp->first_pfn + i));
		struct anon_vma *anon_vma = folio_anon_vma(folio);

		hmm_p2p_map_folio(folio, anon_vma);
		/* The folio is still locked, so no task gets at it before. */
		end = i + folio_nr_pages(folio);
		for (j = reset_take_late(exp, i, end); j < end;
		     j = reset_take_late(exp, j + 1, end))
			hmm_p2p_poison_folio(exp, folio,
					     pfn_to_page(exp->first_pfn + j));
		hmm_p2p_drop_folio(folio);
		cond_resched();
	}
	spin_lock(&exp->late_lock);
	exp->late = NULL;
	spin_unlock(&exp->late_lock);
	/* Pages that broke while another task had them locked. */
	deadline = jiffies + HZ;
	for_each_set_bit(i, late, exp->nr_pages)
		if (hmm_p2p_poison_page(exp, i, deadline))
			pr_err("hmm_p2p: %s: page %lu has lost its content, and stays locked\n",
			       exp->desc.name, i);
	kvfree(exp->parked);
	exp->parked = NULL;
}

/**
 * hmm_p2p_reset_begin - keep CPU and peers away from the memory during a reset
 * @exp: the exporter
 *
 * When the call returns 0, neither CPU nor peer reaches the device's memory.  Aliases are
 * taken back.  A task that wants a page, by the CPU or for a device, waits for
 * hmm_p2p_reset_end().  A fatal signal ends the wait of a task, but not that of a kernel
 * thread; most importers fault in a kernel thread.
 *
 * Until the call returns, the device still works: a page that the CPU touches before it is
 * parked goes to RAM as ever.  So the driver can still copy (the copy op of an engine may
 * return -EAGAIN), and ops->flush_writes puts into the memory what peers have written.
 *
 * The call waits for pages that are locked, by copies under way for example.  If the device
 * does not end these copies any more, the driver ends them itself; with the core's engine by
 * hmm_p2p_copy_done() with -EAGAIN.  A driver with an engine of its own calls
 * hmm_p2p_live_get() before it moves memory to the device, and so waits for the reset.
 *
 * The memory keeps its content through the reset, and open windows stay where they are.  A
 * driver whose device loses either calls hmm_p2p_dead().
 *
 * For system sleep, a driver calls this in suspend_late and hmm_p2p_reset_end() in
 * resume_early, and importers stop their fault handlers in suspend: see "Sleep, shutdown and
 * bus errors" in Documentation/misc-devices/hmm_dummy.rst.
 *
 * Context: Process context, may sleep, for as long as another task keeps a page locked, or
 * until another task calls hmm_p2p_dead().  Not from an op, and not under a lock that an op, a
 * copy or an importer's invalidate callback needs.  The caller keeps the exporter, as for
 * hmm_p2p_dead().
 *
 * Return: 0, and the driver calls hmm_p2p_reset_end() later; or, with nothing changed,
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
	/* Do not wait for the mutex: hmm_p2p_dead() keeps it while it waits for the driver. */
	if (READ_ONCE(exp->dying))
		return -ENODEV;
	mutex_lock(&exp->life);
	if (exp->state == HMM_P2P_STATE_RESETTING)
		ret = -EBUSY;
	else if (exp->state != HMM_P2P_STATE_LIVE)
		ret = -ENODEV;
	if (ret)
		goto out;
	if (!reset_park_init(exp)) {
		ret = -ENOMEM;
		goto out;
	}
	hmm_p2p_exporter_set_state(exp, HMM_P2P_STATE_RESETTING);
	if (!hmm_p2p_flush_readers(exp) || !reset_park_all(exp)) {
		/* hmm_p2p_dead() waits for exp->life. */
		hmm_p2p_unpark_all(exp);
		hmm_p2p_exporter_set_state(exp, HMM_P2P_STATE_LIVE);
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
 * hmm_p2p_reset_end - let CPU and peers reach the memory again
 * @exp: the exporter
 *
 * Every page table entry is what it was before hmm_p2p_reset_begin().  Tasks that wait for
 * the reset go on.
 *
 * Context: Process context, may sleep.  Any task may call it, not only the one that called
 * hmm_p2p_reset_begin().  The caller keeps the exporter, as for hmm_p2p_dead().
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
		hmm_p2p_unpark_all(exp);
		hmm_p2p_exporter_set_state(exp, HMM_P2P_STATE_LIVE);
		hmm_p2p_windows_settle(exp);
	} else {
		ret = exp->state == HMM_P2P_STATE_DEAD ? -ENODEV : -EINVAL;
	}
	mutex_unlock(&exp->life);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_reset_end, "HMM_P2P");
