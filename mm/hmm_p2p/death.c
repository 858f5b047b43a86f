// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Death and poison
 *
 * What happens to the memory of processes when the device that has it is lost, or a part of
 * the memory is.
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
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/leafops.h>
#include <linux/mmu_notifier.h>
#include <linux/mm.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/swap.h>
#include <linux/swapops.h>

#include <trace/events/hmm_p2p.h>

#include "../internal.h"
#include "internal.h"

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
void hmm_p2p_poison_folio(struct hmm_p2p_exporter *exp, struct folio *folio,
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

/*
 * Page @i of the device.  A reset locks the pages that it parks.  One that it has not
 * parked yet, or not any more, is poisoned here.  A page that is locked is left to the
 * end of the reset.
 */
int hmm_p2p_poison_page(struct hmm_p2p_exporter *exp, unsigned long i,
			unsigned long deadline)
{
	unsigned long pfn = exp->first_pfn + i;

	for (;;) {
		bool later = hmm_p2p_poison_later(exp, i), busy = false;
		struct folio *folio = hmm_p2p_grab_folio(pfn, &busy);

		if (folio) {
			hmm_p2p_poison_folio(exp, folio, pfn_to_page(pfn));
			hmm_p2p_drop_folio(folio);
			return 0;
		}
		/* Nobody uses it, or hmm_p2p_unpark_all() is told. */
		if (!busy || later)
			return 0;
		if (time_after(jiffies, deadline))
			return -EBUSY;
		schedule_timeout_uninterruptible(1);
	}
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
		hmm_p2p_poison_folio(exp, folio, NULL);
		/* fork() may have been ahead of the walk. */
		busy |= folio_mapped(folio);
		hmm_p2p_drop_folio(folio);
		cond_resched();
	}
	return busy;
}

/* The same until no page table has one any more. */
static void poison_all(struct hmm_p2p_exporter *exp)
{
	unsigned long report = jiffies + HMM_P2P_REPORT_INTERVAL;

	while (poison_pages(exp)) {
		if (time_after(jiffies, report)) {
			pr_warn("hmm_p2p: %s: dead, and waits for pages that are locked\n",
				exp->desc.name);
			report = jiffies + HMM_P2P_REPORT_INTERVAL;
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
 * The ops that need the device (copy) return soon when it is dead, by contract.  A task
 * cannot be got out of one that does not, but the driver can be named.
 */
static void wait_for_device_calls(struct hmm_p2p_exporter *exp)
{
	/* A call that is not counted yet finds the device dead: see hmm_p2p_device_enter(). */
	smp_mb();
	while (atomic_read(&exp->device_calls)) {
		if (hmm_p2p_is_overdue(exp)) {
			WARN(1, "hmm_p2p: %s: dead, and a call of its driver does not return\n",
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
 * processes that touch what was there get SIGBUS, importers -EFAULT; ops->flush_writes is not
 * called any more, nor is the copy op of an engine, nor dev_pagemap_ops.migrate_to_ram for
 * the core.  What is left to do is hmm_p2p_engine_unregister(), if there is an engine, and
 * hmm_p2p_unregister(), which do not wait for anybody then.
 *
 * Before the call, the driver ends the copies that are under way, since the device will not
 * end any, and from then on its dev_pagemap_ops.migrate_to_ram refuses pages.  If it uses the
 * core's engine, it makes the copy op return, with an error such as -EIO, and calls
 * hmm_p2p_copy_done() for every copy; hmm_p2p_migrate_fault() refuses by itself.  A driver
 * with an engine of its own unlocks the pages: this call waits for pages that are locked, and
 * says so in the kernel log.
 *
 * The core waits five seconds for the copies of its engine.  Then it names the exporter in a
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
 * beside hmm_p2p_engine_unregister() and hmm_p2p_unregister(), but the call begins before the
 * latter returns.  Where hmm_p2p_unregister() has taken all away already, and for coherent
 * memory, it does nothing.
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
	/* hmm_p2p_unregister() beside this may put the last one. */
	kref_get(&exp->kref);
	mutex_lock(&exp->life);
	if (exp->state == HMM_P2P_STATE_DEAD || exp->closed)
		goto out;
	hmm_p2p_exporter_set_state(exp, HMM_P2P_STATE_DEAD);
	if (exp->parked)
		hmm_p2p_unpark_all(exp);
	/* Nobody waits for a copy that has nothing to do with one. */
	poison_pages(exp);
	wait_for_device_calls(exp);
	hmm_p2p_flush_end(exp);
	hmm_p2p_flush_readers(exp);
	poison_all(exp);
	/* Batches of other CPUs may have references: of mlocked pages, for one. */
	lru_add_drain_all();
	hmm_p2p_check_refs(exp);
out:
	mutex_unlock(&exp->life);
	hmm_p2p_exporter_put(exp);
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
		ret = hmm_p2p_poison_page(exp, i, deadline) ?: ret;
		cond_resched();
	}
	return ret;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_poison, "HMM_P2P");
