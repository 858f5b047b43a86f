// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Death and poison
 *
 * What becomes of process memory when the device is lost, or part of its memory.
 *
 * Death: the data is lost.  Every page table entry of the device's pages becomes a
 * poison marker: the CPU gets SIGBUS, hmm_range_fault() -EFAULT.  memory_failure() uses
 * hwpoison entries, which carry a PFN.  Here the struct page goes away with the device while
 * the process may keep the entry for ever, and /proc/PID/pagemap, for example, looks at the
 * page of such an entry.  A marker has no PFN.
 *
 * Poison: the same for a single page.  Only the PMD of a large folio is split, not the folio:
 * the page itself is not marked, so nothing depends on the size of its folio.
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
		/* The entry is not present before or after, so no TLB has it. */
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

/*
 * hmm_p2p_poison_folio - poison all page table entries of a folio, or of one page of it
 * @exp: the exporter
 * @folio: the folio, locked and with a reference of the caller's
 * @only: the page, or NULL for all of the folio
 */
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
 * hmm_p2p_poison_page - poison one page of the device
 * @exp: the exporter
 * @i: index of the page in the device memory
 * @deadline: in jiffies: how long to wait for a page that is locked
 *
 * A reset keeps the pages that it parks locked.  This function poisons a page that is not
 * parked, and leaves one that is locked to the end of the reset.
 *
 * Return: 0, or -EBUSY if no reset is under way and the page stayed locked.
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
		/* The page is free, or hmm_p2p_unpark_all() will poison it. */
		if (!busy || later)
			return 0;
		if (time_after(jiffies, deadline))
			return -EBUSY;
		schedule_timeout_uninterruptible(1);
	}
}

/*
 * Poison every page of the device, without waiting for a lock.
 *
 * Return: true if pages are left, because other tasks have them locked.
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

/* Poison pages until no page table has one of this device. */
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
 * hmm_p2p_is_overdue - whether copies from or to a device should have ended by now
 * @exp: the exporter
 *
 * Return: true if the device has been dead for longer than HMM_P2P_COPY_LIMIT, in which
 * drivers end their copies.
 */
bool hmm_p2p_is_overdue(struct hmm_p2p_exporter *exp)
{
	/* Pairs with the release in hmm_p2p_dead(). */
	return smp_load_acquire(&exp->dying) &&
	       time_after(jiffies, READ_ONCE(exp->died) + HMM_P2P_COPY_LIMIT);
}

/*
 * By contract, an op that needs the device (copy) returns soon when the device is dead.  The
 * core cannot get a task out of an op that does not return, but it names the driver.
 */
static void wait_for_device_calls(struct hmm_p2p_exporter *exp)
{
	/* A task that is not counted yet finds the device dead: see hmm_p2p_device_enter(). */
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
 * hmm_p2p_dead - tell the core that the device and the content of its memory are lost
 * @exp: the exporter
 *
 * A driver calls it on surprise removal, and when its device does not come back from a reset.
 * When the call returns, no page table has a page of the device, and no importer an alias.  A
 * process that touches such memory gets SIGBUS, an importer -EFAULT.  The core calls neither
 * ops->flush_writes nor the copy op of an engine any more, and causes no call of
 * dev_pagemap_ops.migrate_to_ram.  The driver then calls hmm_p2p_engine_unregister(), if there
 * is an engine, and hmm_p2p_unregister().  Both return without waiting for other tasks.
 *
 * Before the call, the driver ends the copies that are under way, since the device does not
 * end them.  From then on, its dev_pagemap_ops.migrate_to_ram refuses pages.
 *
 * * If the driver uses the core's engine, it makes the copy op return an error such as -EIO,
 *   and calls hmm_p2p_copy_done() for every copy.  hmm_p2p_migrate_fault() refuses by itself.
 * * If the driver has an engine of its own, it unlocks the pages.  The call waits for pages
 *   that are locked, and says so in the kernel log.
 *
 * The core waits five seconds for the copies of its engine.  Then it names the exporter in a
 * warning, and lets the tasks go on that wait for these copies.  It keeps the RAM that such a
 * copy may still write to until hmm_p2p_copy_done().  The core cannot get a task out of a copy
 * op that does not return: then it warns, and this call does not return either.  Pages that no
 * copy uses are poisoned before any of this.
 *
 * Copies of another driver may read from this device.  That driver, whose device is alive,
 * also has five seconds to end them.  After that, the core keeps the memory that they write
 * to until that driver ends them.
 *
 * Context: Process context, may sleep.  Not from an op, and not under a lock that an op or an
 * importer's invalidate callback needs.  It may run between hmm_p2p_reset_begin() and
 * hmm_p2p_reset_end(), and beside hmm_p2p_engine_unregister().  The caller keeps the exporter: it
 * returns before hmm_p2p_unregister() begins, or has a reference, see hmm_p2p_exporter_get().  The
 * call does nothing where hmm_p2p_unregister() has taken all away already, and for coherent
 * memory.
 */
void hmm_p2p_dead(struct hmm_p2p_exporter *exp)
{
	/* The CPU maps coherent memory, which fails by a machine check. */
	if (hmm_p2p_is_coherent(exp))
		return;
	/* Ends the wait of a reset, which has exp->life, and of tasks that wait for copies. */
	if (!READ_ONCE(exp->dying)) {
		WRITE_ONCE(exp->died, jiffies);
		/* Pairs with the acquire in hmm_p2p_is_overdue(). */
		smp_store_release(&exp->dying, true);
	}
	mutex_lock(&exp->life);
	if (exp->state == HMM_P2P_STATE_DEAD || exp->closed)
		goto out;
	hmm_p2p_exporter_set_state(exp, HMM_P2P_STATE_DEAD);
	if (exp->parked)
		hmm_p2p_unpark_all(exp);
	/* First, so that tasks whose pages are in no copy need not wait for copies. */
	poison_pages(exp);
	wait_for_device_calls(exp);
	hmm_p2p_flush_end(exp);
	hmm_p2p_flush_readers(exp);
	poison_all(exp);
	/* Batches of other CPUs, those of mlock() for example, may have references. */
	lru_add_drain_all();
	hmm_p2p_check_refs(exp);
out:
	mutex_unlock(&exp->life);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_dead, "HMM_P2P");

/**
 * hmm_p2p_poison - tell the core that part of the device memory has lost its content
 * @exp: the exporter
 * @offset: bytes from the start of the device memory
 * @length: bytes; with @offset rounded outward to whole pages
 *
 * A driver calls it in its dev_pagemap_ops.memory_failure, and when its device reports an
 * error.  All users of the pages lose them: at its next access, the CPU gets SIGBUS, an
 * importer -EFAULT.  Neighbouring pages are not affected.  The driver sees to it that it does
 * not hand out the pages again.
 *
 * During a reset the call returns at once: no CPU or peer reaches the pages then.  The end of
 * the reset poisons them before it maps their neighbours again.
 *
 * Context: Process context, may sleep.  Waits only for pages that are locked, up to a second
 * for all of them together: memory_failure() keeps every other
 * memory error of the machine waiting meanwhile.  The caller keeps the exporter
 * registered, since the call looks at the pages: a reference is not enough.
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
