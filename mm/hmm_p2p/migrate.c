// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Migration engine
 *
 * Moves regular VMAs between RAM and an exporter's memory on top of
 * migrate_vma_*() and migrate_device_*(), so that a driver supplies only
 * allocation and copy.
 *
 * Work goes in batches that never cross a PMD boundary: migrate_vma reports a
 * PMD-aligned hole as one compound entry, and what follows it in a longer range
 * would be skipped.  mmap_lock is held for one batch at a time.
 *
 * To a device, pages are moved one by one (order 0).  A huge page of a device comes
 * back as one if there is a huge page of RAM for it, and is split if not.  What cannot
 * be moved stays where it is, intact, and is counted; a batch whose copy fails leaves
 * all of its pages where they were.
 */
#include <linux/export.h>
#include <linux/ksm.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include <trace/events/hmm_p2p.h>

#include "../internal.h"
#include "internal.h"

/* Not HPAGE_PMD_NR, which is no constant without huge pages. */
#define BATCH_PAGES	(PMD_SIZE >> PAGE_SHIFT)

/* One batch under way. */
struct hmm_p2p_batch {
	struct hmm_p2p_exporter *exp;
	enum hmm_p2p_copy_dir dir;
	unsigned long *src;
	unsigned long *dst;
	unsigned int nr_copies;
	unsigned long failed;		/* ready to move, but got no destination */
	struct hmm_p2p_copy copies[];
};

/* Room for @nr pages.  One allocation: a CPU fault needs it for one page. */
static struct hmm_p2p_batch *batch_alloc(struct hmm_p2p_exporter *exp,
					 enum hmm_p2p_copy_dir dir,
					 unsigned long nr)
{
	struct hmm_p2p_batch *b;

	b = kvzalloc(struct_size(b, copies, nr) + 2 * nr * sizeof(long),
		     GFP_KERNEL);
	if (b) {
		b->exp = exp;
		b->dir = dir;
		b->src = (unsigned long *)&b->copies[nr];
		b->dst = b->src + nr;
	}
	return b;
}

/* A destination that was not used: unlocked, and back to where it came from. */
static void batch_drop_dst(struct hmm_p2p_batch *b, unsigned long i)
{
	struct page *page = migrate_pfn_to_page(b->dst[i]);

	b->dst[i] = 0;
	if (page) {
		unlock_page(page);
		put_page(page);
	}
}

static struct folio *alloc_ram(struct vm_area_struct *vma, unsigned long addr,
			       unsigned int order)
{
	gfp_t gfp = GFP_HIGHUSER_MOVABLE;
	struct folio *folio;

	/* A huge page is nice to have, and not worth much reclaim. */
	if (order)
		gfp = GFP_TRANSHUGE_LIGHT;
	/* Eviction does not know who uses the page. */
	if (vma)
		folio = vma_alloc_folio(gfp, order, vma, addr);
	else
		folio = folio_alloc(gfp, order);
	if (folio) {
		folio_lock(folio);
		/*
		 * A peer may have written the page, which no page table
		 * saw: after MADV_FREE a clean copy would be thrown away.
		 */
		folio_set_dirty(folio);
	}
	return folio;
}

static struct folio *alloc_device(struct hmm_p2p_exporter *exp)
{
	const struct hmm_p2p_exporter_desc *desc = &exp->desc;
	struct folio *folio = desc->ops->alloc_folio(desc->priv, 0);

	/* Of another device: the copy, and peers, would go astray. */
	if (folio && WARN_ONCE(!folio_is_device_private(folio) ||
			       folio->pgmap != desc->pgmap,
			       "hmm_p2p: %s: alloc_folio gave a page that is not its own\n",
			       desc->name)) {
		folio_unlock(folio);
		folio_put(folio);
		folio = NULL;
	}
	return folio;
}

/* A page that has a destination, to be copied. */
static void batch_add(struct hmm_p2p_batch *b, struct page *spage,
		      struct page *dpage)
{
	bool to_device = b->dir == HMM_P2P_TO_DEVICE;

	b->copies[b->nr_copies++] = (struct hmm_p2p_copy) {
		.dev_page = to_device ? dpage : spage,
		.ram_page = to_device ? spage : dpage,
	};
}

/* A huge page of the device, whole.  False if RAM has none for it. */
static bool batch_add_huge(struct hmm_p2p_batch *b, struct vm_area_struct *vma,
			   unsigned long addr, unsigned long i)
{
	struct page *spage = migrate_pfn_to_page(b->src[i]);
	unsigned int order = folio_order(page_folio(spage));
	struct folio *folio = alloc_ram(vma, addr, order);
	unsigned long j;

	if (!folio)
		return false;
	b->dst[i] = migrate_pfn(folio_pfn(folio)) | MIGRATE_PFN_COMPOUND |
		    (b->src[i] & MIGRATE_PFN_WRITE);
	for (j = 0; j < BIT(order); j++)
		batch_add(b, spage + j, folio_page(folio, j));
	return true;
}

/*
 * Give every page that is ready to move a destination and its data.  Entries
 * that get none are restored by the finalize step.
 */
static int batch_copy(struct hmm_p2p_batch *b, struct vm_area_struct *vma,
		      unsigned long start, unsigned long nr)
{
	const struct hmm_p2p_exporter_desc *desc = &b->exp->desc;
	unsigned long i, huge_end = 0, writable = 0;
	struct page *huge = NULL;
	int ret = 0;

	b->nr_copies = 0;
	b->failed = 0;
	memset(b->dst, 0, nr * sizeof(*b->dst));
	for (i = 0; i < nr; i++) {
		unsigned long addr = start + i * PAGE_SIZE;
		struct page *spage = migrate_pfn_to_page(b->src[i]);
		struct folio *folio;

		if (i < huge_end) {
			/* The kernel splits it, when it sees small pages. */
			spage = huge + (i - (huge_end - BATCH_PAGES));
		} else {
			if (!(b->src[i] & MIGRATE_PFN_MIGRATE))
				continue;
			if (!spage && b->dir == HMM_P2P_TO_RAM)
				continue;
			/*
			 * Devices take anonymous memory only.  Not KSM's: ksmd
			 * would read device memory, and nobody else checks.
			 */
			if (spage && b->dir == HMM_P2P_TO_DEVICE &&
			    (!folio_test_anon(page_folio(spage)) ||
			     folio_test_ksm(page_folio(spage))))
				continue;
			writable = b->src[i] & MIGRATE_PFN_WRITE;
			if (b->src[i] & MIGRATE_PFN_COMPOUND &&
			    b->dir == HMM_P2P_TO_RAM) {
				if (batch_add_huge(b, vma, addr, i)) {
					i += folio_nr_pages(page_folio(spage)) - 1;
					continue;
				}
				/* Eviction cannot split what is unmapped. */
				if (!vma) {
					b->failed += folio_nr_pages(page_folio(spage));
					ret = -ENOMEM;
					continue;
				}
				huge = spage;
				huge_end = i + BATCH_PAGES;
			}
		}

		folio = b->dir == HMM_P2P_TO_DEVICE ? alloc_device(b->exp) :
						      alloc_ram(vma, addr, 0);
		if (!folio) {
			b->failed++;
			ret = -ENOMEM;
			continue;
		}
		b->dst[i] = migrate_pfn(folio_pfn(folio)) | writable;
		batch_add(b, spage, folio_page(folio, 0));
	}

	if (b->nr_copies) {
		int err = -EIO;

		/* There is nothing to copy any more, and nobody to ask. */
		if (READ_ONCE(b->exp->state) != HMM_P2P_STATE_DEAD)
			err = desc->ops->copy(desc->priv, b->copies,
					      b->nr_copies, b->dir);
		if (err) {
			b->failed += b->nr_copies;
			for (i = 0; i < nr; i++)
				batch_drop_dst(b, i);
			ret = err;
		}
	}
	return ret;
}

/* After the pages step: what moved, and what had a destination and did not. */
static void batch_account(struct hmm_p2p_batch *b, unsigned long addr,
			  unsigned long nr, struct hmm_p2p_result *result)
{
	unsigned long i, migrated = 0, failed = b->failed;

	for (i = 0; i < nr; i++) {
		unsigned long pages = 1;

		if (!b->dst[i])
			continue;
		if (b->dst[i] & MIGRATE_PFN_COMPOUND)
			pages = compound_nr(migrate_pfn_to_page(b->dst[i]));
		if (b->src[i] & MIGRATE_PFN_MIGRATE)
			migrated += pages;
		else
			failed += pages;
	}
	hmm_p2p_count(b->exp, b->dir == HMM_P2P_TO_DEVICE ?
		      HMM_P2P_C_TO_DEVICE : HMM_P2P_C_TO_RAM, migrated);
	trace_hmm_p2p_migrate(b->exp->desc.name, b->dir, addr, migrated, failed);
	if (result) {
		result->migrated += migrated;
		result->failed += failed;
		result->skipped += nr - migrated - failed;
	}
}

/* One batch of one VMA.  mmap_lock is held for reading. */
static int migrate_batch(struct hmm_p2p_batch *b, struct vm_area_struct *vma,
			 unsigned long start, unsigned long end,
			 struct page *fault_page, struct hmm_p2p_result *result)
{
	unsigned long nr = (end - start) >> PAGE_SHIFT;
	struct migrate_vma args = {
		.vma = vma,
		.start = start,
		.end = end,
		.src = b->src,
		.dst = b->dst,
		.pgmap_owner = b->exp->desc.pgmap->owner,
		.fault_page = fault_page,
		.flags = b->dir == HMM_P2P_TO_DEVICE ?
			 MIGRATE_VMA_SELECT_SYSTEM :
			 MIGRATE_VMA_SELECT_DEVICE_PRIVATE |
			 MIGRATE_VMA_SELECT_COMPOUND,
	};
	struct hmm_p2p_watch watch;
	int ret, err;

	hmm_p2p_watch_begin(&watch, b->exp, vma->vm_mm);
	ret = migrate_vma_setup(&args);
	hmm_p2p_watch_end(&watch);
	if (ret)
		return ret;
	err = batch_copy(b, vma, start, nr);
	migrate_vma_pages(&args);
	batch_account(b, start, nr, result);
	migrate_vma_finalize(&args);
	return err;
}

/* Whether a device may reach, and we may move, what @vma maps (rule of hmm's). */
static int vma_check(struct vm_area_struct *vma)
{
	if (vma->vm_flags & (VM_IO | VM_PFNMAP) || !(vma->vm_flags & VM_READ))
		return -EFAULT;
	if (vma->vm_flags & VM_SPECIAL || is_vm_hugetlb_page(vma) ||
	    vma_is_dax(vma))
		return -EOPNOTSUPP;
	return 0;
}

/* All of the range, before the first page of it is moved. */
static int range_check(struct mm_struct *mm, unsigned long start,
		       unsigned long end)
{
	struct vm_area_struct *vma;
	unsigned long addr = start;
	int ret = 0;

	if (!PAGE_ALIGNED(start) || !PAGE_ALIGNED(end) || start >= end)
		return -EINVAL;
	if (mmap_read_lock_killable(mm))
		return -EINTR;
	while (addr < end && !ret) {
		vma = vma_lookup(mm, addr);
		ret = vma ? vma_check(vma) : -EFAULT;
		if (!ret)
			addr = vma->vm_end;
	}
	mmap_read_unlock(mm);
	return ret;
}

static int migrate_range(struct hmm_p2p_exporter *exp, struct mm_struct *mm,
			 unsigned long start, unsigned long end,
			 enum hmm_p2p_copy_dir dir,
			 struct hmm_p2p_result *result)
{
	struct hmm_p2p_batch *b;
	unsigned long addr, next;
	int ret;

	ret = range_check(mm, start, end);
	if (ret)
		return ret;
	b = batch_alloc(exp, dir, BATCH_PAGES);
	if (!b)
		return -ENOMEM;

	for (addr = start; addr < end && !ret; addr = next) {
		struct vm_area_struct *vma;

		next = addr;
		/*
		 * For one batch at a time: hmm_p2p_unregister() and a reset wait
		 * for us.
		 */
		if (dir == HMM_P2P_TO_DEVICE) {
			ret = hmm_p2p_live_get(exp);
			if (ret)
				break;
		}
		if (fatal_signal_pending(current) ||
		    mmap_read_lock_killable(mm)) {
			if (dir == HMM_P2P_TO_DEVICE)
				hmm_p2p_live_put(exp);
			ret = -EINTR;
			break;
		}
		/* The range may have changed since it was checked. */
		vma = vma_lookup(mm, addr);
		ret = vma ? vma_check(vma) : -EFAULT;
		if (!ret) {
			next = min3(end, vma->vm_end, pmd_addr_end(addr, end));
			ret = migrate_batch(b, vma, addr, next, NULL, result);
		}
		mmap_read_unlock(mm);
		if (dir == HMM_P2P_TO_DEVICE)
			hmm_p2p_live_put(exp);
		cond_resched();
	}
	kvfree(b);
	return ret;
}

/**
 * hmm_p2p_migrate_to_device - move memory of a process to a device
 * @exp: the exporter to move it to
 * @mm: the address space; the caller holds a reference (mmget())
 * @start: first address, page-aligned
 * @end: address behind the last, page-aligned
 * @result: set, also on errors, to what became of the pages so far
 *
 * Moves anonymous pages in RAM, and fills holes and zero pages with cleared
 * device memory.  Peer mappings of the pages are invalidated on the way.  Waits for
 * the end of a reset.
 *
 * Context: Process context, mmap_lock not held.  May sleep.
 *
 * Return: 0, with what could not be moved in @result, or
 * * -EINVAL: @start or @end is not page-aligned, or the range is empty; nothing
 *   was moved
 * * -EFAULT: part of the range is not mapped, not readable, or maps a device;
 *   nothing was moved, unless the range was changed meanwhile
 * * -EOPNOTSUPP: part of the range is hugetlb, DAX or otherwise special; likewise
 * * -ENODEV: the exporter is being unregistered, or its device is dead; @result
 *   tells how far it went
 * * -ENOMEM: no memory, or the device is full; @result tells how far it went
 * * -EINTR: a fatal signal arrived
 * * what the copy op returned
 */
int hmm_p2p_migrate_to_device(struct hmm_p2p_exporter *exp, struct mm_struct *mm,
			      unsigned long start, unsigned long end,
			      struct hmm_p2p_result *result)
{
	*result = (struct hmm_p2p_result) {};
	return migrate_range(exp, mm, start, end, HMM_P2P_TO_DEVICE, result);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_migrate_to_device, "HMM_P2P");

/**
 * hmm_p2p_migrate_to_ram - move memory of a process back from a device
 * @exp: the exporter to move it from; pages of other devices stay
 * @mm: the address space; the caller holds a reference (mmget())
 * @start: first address, page-aligned
 * @end: address behind the last, page-aligned
 * @result: set, also on errors, to what became of the pages so far
 *
 * Context: Process context, mmap_lock not held.  May sleep.
 *
 * Return: as hmm_p2p_migrate_to_device(), without -ENODEV.
 */
int hmm_p2p_migrate_to_ram(struct hmm_p2p_exporter *exp, struct mm_struct *mm,
			   unsigned long start, unsigned long end,
			   struct hmm_p2p_result *result)
{
	*result = (struct hmm_p2p_result) {};
	return migrate_range(exp, mm, start, end, HMM_P2P_TO_RAM, result);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_migrate_to_ram, "HMM_P2P");

/* Whether the entry that was faulted on is not there any more. */
static bool fault_is_stale(struct vm_fault *vmf)
{
	pte_t *ptep;
	bool same;

	/* A huge page: split by now, perhaps, and then faulted on once more. */
	if (!vmf->pte)
		return !pmd_same(pmdp_get_lockless(vmf->pmd), vmf->orig_pmd);
	ptep = pte_offset_map(vmf->pmd, vmf->address);
	if (!ptep)
		return true;
	same = pte_same(ptep_get(ptep), vmf->orig_pte);
	pte_unmap(ptep);
	return !same;
}

/**
 * hmm_p2p_migrate_fault - the body of dev_pagemap_ops.migrate_to_ram
 * @exp: the exporter that vmf->page belongs to
 * @vmf: the fault
 *
 * Context: As for the op: vmf->page is locked and has a reference for the
 * fault; mmap_lock or the VMA lock is held.
 *
 * Never returns 0 while the page is where it was, unless a reset is about to take
 * it: hmm_range_fault() would fault on it again for ever without letting go of
 * mmap_lock.
 *
 * Return: 0, VM_FAULT_OOM, or VM_FAULT_SIGBUS if the copy failed, the device is dead
 * or somebody holds on to the page with a reference.
 */
vm_fault_t hmm_p2p_migrate_fault(struct hmm_p2p_exporter *exp,
				 struct vm_fault *vmf)
{
	unsigned long deadline = jiffies +
		msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	/* do_huge_pmd_device_private() faults on a huge page as a whole. */
	unsigned long size = vmf->pte ? PAGE_SIZE : PMD_SIZE;
	unsigned long addr = ALIGN_DOWN(vmf->address, size);
	struct hmm_p2p_result result = {};
	struct hmm_p2p_batch *b;
	int ret;

	if (READ_ONCE(exp->state) == HMM_P2P_STATE_DEAD)
		return VM_FAULT_SIGBUS;
	b = batch_alloc(exp, HMM_P2P_TO_RAM, size >> PAGE_SHIFT);
	if (!b)
		return VM_FAULT_OOM;
	/*
	 * The page is locked, so no other migration of it runs; but one that
	 * tries holds a reference for a moment, and that makes ours fail.  Or the
	 * entry was zapped since: then there is nothing left to do here.
	 */
	for (;;) {
		ret = migrate_batch(b, vmf->vma, addr, addr + size,
				    vmf->page, &result);
		if (ret || result.migrated || fault_is_stale(vmf) ||
		    fatal_signal_pending(current) ||
		    time_after(jiffies, deadline))
			break;
		schedule_timeout_uninterruptible(1);
	}
	kvfree(b);

	if (result.migrated) {
		hmm_p2p_count(exp, HMM_P2P_C_CPU_FAULTS, result.migrated);
		return 0;
	}
	if (!ret && fault_is_stale(vmf))
		return 0;
	/* Once we have let go of the page, the reset can park it. */
	if (ret == -EAGAIN &&
	    READ_ONCE(exp->state) == HMM_P2P_STATE_RESETTING)
		return 0;
	return ret == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_migrate_fault, "HMM_P2P");

/* So that it can move as small pages, where there is no huge one for it. */
static void evict_split(unsigned long pfn)
{
	struct folio *folio = page_folio(pfn_to_page(pfn));

	if (!folio_try_get(folio))
		return;
	if (folio_trylock(folio)) {
		if (folio_test_large(folio) && folio_mapped(folio))
			split_folio(folio);
		folio_unlock(folio);
	}
	folio_put(folio);
}

/*
 * Collect the folios of @nr pages from @pfn that are mapped, in b->src, and keep the
 * anon_vma of each in @anon_vmas.  migrate_device_pfns() unmaps them and does not
 * hold any process's mmap_lock: without that, one that exits would free the anon_vma
 * by which the migration entries are found again.  Folios that are locked stay.
 */
static unsigned long evict_collect(struct hmm_p2p_batch *b,
				   struct anon_vma **anon_vmas,
				   unsigned long pfn, unsigned long nr)
{
	unsigned long end = pfn + nr, n = 0, i;

	while (pfn < end) {
		struct folio *folio = page_folio(pfn_to_page(pfn++));
		struct anon_vma *anon_vma;
		unsigned long pages;

		if (!folio_try_get(folio))
			continue;
		if (!folio_trylock(folio)) {
			folio_put(folio);
			continue;
		}
		pages = folio_nr_pages(folio);
		anon_vma = folio_pfn(folio) == pfn - 1 ?
			   folio_get_anon_vma(folio) : NULL;
		folio_unlock(folio);
		folio_put(folio);
		if (!anon_vma)
			continue;
		for (i = 0; i < pages; i++) {
			anon_vmas[n] = i ? NULL : anon_vma;
			b->src[n++] = pfn - 1 + i;
		}
		pfn += pages - 1;
	}
	return n;
}

/* Move what is in use of @nr pages from @pfn; folios that are locked stay. */
static void evict_batch(struct hmm_p2p_batch *b, struct anon_vma **anon_vmas,
			unsigned long pfn, unsigned long nr)
{
	unsigned long i, n = evict_collect(b, anon_vmas, pfn, nr);
	struct hmm_p2p_watch watch;

	if (!n)
		return;
	hmm_p2p_watch_begin(&watch, b->exp, NULL);
	migrate_device_pfns(b->src, n);
	hmm_p2p_watch_end(&watch);
	batch_copy(b, NULL, 0, n);
	migrate_device_pages(b->src, b->dst, n);
	batch_account(b, 0, n, NULL);
	migrate_device_finalize(b->src, b->dst, n);
	for (i = 0; i < n; i++)
		if (anon_vmas[i])
			put_anon_vma(anon_vmas[i]);
	if (b->failed)
		evict_split(pfn);
}

static unsigned long pages_in_use(unsigned long pfn, unsigned long nr)
{
	unsigned long i, used = 0;

	for (i = 0; i < nr; i++)
		used += !!page_count(pfn_to_page(pfn + i));
	return used;
}

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
	struct anon_vma **anon_vmas;
	struct hmm_p2p_batch *b;

	if (READ_ONCE(exp->state) == HMM_P2P_STATE_DEAD)
		return;
	while (!(b = batch_alloc(exp, HMM_P2P_TO_RAM, BATCH_PAGES)))
		schedule_timeout_uninterruptible(HZ / 10);
	while (!(anon_vmas = kvcalloc(BATCH_PAGES, sizeof(*anon_vmas), GFP_KERNEL)))
		schedule_timeout_uninterruptible(HZ / 10);

	for (;;) {
		unsigned long pfn, used = 0;

		for (pfn = exp->first_pfn; pfn < end; pfn += BATCH_PAGES) {
			if (pages_in_use(pfn, BATCH_PAGES))
				evict_batch(b, anon_vmas, pfn, BATCH_PAGES);
			used += pages_in_use(pfn, BATCH_PAGES);
			cond_resched();
		}
		/* Then its pages are nobody's any more, or were never mapped. */
		if (!used || READ_ONCE(exp->state) == HMM_P2P_STATE_DEAD)
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
	kvfree(anon_vmas);
	kvfree(b);
}
