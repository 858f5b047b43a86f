// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Reset
 *
 * During a reset the pages of the device are parked.  Each gets migration entries in every
 * page table, as if it were about to move, and stays locked: the CPU, hmm's walks and whoever
 * else wants it waits, as for any migration.  On the way every importer's notifier
 * is called.  At the end the entries are replaced by what they were.
 *
 * Pages that break during the reset are poisoned at its end: see death.c.
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

/* True if it is parked, and the lock and the references are kept for that. */
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

/* False if the device died meanwhile. */
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
				/* Locked by us, so it stays as large as it is. */
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
			/* What nobody maps, nobody reaches. */
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

/* If there is a reset under way, poison the page at its end, and say so. */
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

/* The next page in [@i, @end) that broke during the reset, which is taken; or @end. */
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

/* Map what was parked as it was, but for pages that broke meanwhile. */
void hmm_p2p_unpark_all(struct hmm_p2p_exporter *exp)
{
	unsigned long i, j, end, deadline;
	unsigned long *late = exp->late;

	for_each_set_bit(i, exp->parked, exp->nr_pages) {
		struct folio *folio = page_folio(pfn_to_page(exp->first_pfn + i));
		struct anon_vma *anon_vma = folio_anon_vma(folio);

		hmm_p2p_map_folio(folio, anon_vma);
		/* It is locked: nobody gets at it before. */
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
	/* Those that were locked by others when they broke. */
	deadline = jiffies + HZ;
	for_each_set_bit(i, late, exp->nr_pages)
		if (hmm_p2p_poison_page(exp, i, deadline))
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
 * A page that the CPU touches before it is parked goes to RAM as ever, so copies have to
 * work until then (the copy op of an engine may say -EAGAIN), and so has ops->flush_writes:
 * what peers have written is in the memory.  Pages that are locked, as by copies that are
 * under way, are waited for: a driver whose device does not end those copies any more ends
 * them itself, an engine's by hmm_p2p_copy_done() with -EAGAIN.  A driver with an engine of
 * its own moves nothing to the device until the reset is over: hmm_p2p_live_get() sees to
 * that.  The memory has to keep its content,
 * and windows that are open their place; a device that loses either is dead.
 *
 * Context: Process context, may sleep, for as long as somebody keeps a page locked, or
 * until another task calls hmm_p2p_dead().  Not under a lock that a copy or an
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
	if (!reset_park_init(exp)) {
		ret = -ENOMEM;
		goto out;
	}
	hmm_p2p_exporter_set_state(exp, HMM_P2P_STATE_RESETTING);
	if (!hmm_p2p_flush_readers(exp) || !reset_park_all(exp)) {
		/* hmm_p2p_dead() waits for us to let go. */
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
