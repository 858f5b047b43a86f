// SPDX-License-Identifier: GPL-2.0
/*
 * The fake as a driver with a migration engine of its own: migrate_vma_*() and
 * migrate_device_*() move its pages, and hmm_p2p only gives peers access to them.  This file
 * has what such a driver must do for peer access: it flushes the writes of peers, migrates
 * nothing to a device that is not live, and refuses the pages of a dead device.
 */
#include <linux/highmem.h>
#include <linux/migrate.h>
#include <linux/sched/signal.h>

#include "fake.h"

/* RAM for the folio of a device, with its data. */
static struct folio *own_copy_to_ram(struct fake *f, struct folio *from)
{
	struct folio *to;
	unsigned long i;

	/* A dead device has no data. */
	if (hmm_p2p_flush_folio(from))
		return NULL;
	to = folio_alloc(GFP_HIGHUSER_MOVABLE | __GFP_NOWARN, folio_order(from));
	if (!to)
		return NULL;
	__folio_set_locked(to);
	/* A peer may have written to it without a trace in the page table. */
	folio_set_dirty(to);
	for (i = 0; i < folio_nr_pages(from); i++)
		memcpy_to_page(folio_page(to, i), 0, fake_kva(f, folio_page(from, i)),
			       PAGE_SIZE);
	return to;
}

/* Give collected folios, which are locked and unmapped, a destination in RAM. */
static void own_fill_to_ram(struct fake *f, const unsigned long *src, unsigned long *dst,
			    unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++) {
		struct page *page = migrate_pfn_to_page(src[i]);
		struct folio *to;

		if (!page || !(src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		to = own_copy_to_ram(f, page_folio(page));
		if (!to)
			continue;
		dst[i] = migrate_pfn(folio_pfn(to)) | (src[i] & MIGRATE_PFN_WRITE);
		if (folio_test_large(to))
			dst[i] |= MIGRATE_PFN_COMPOUND;
	}
}

/* Try once to move the page of a fault to RAM.  Returns whether it moved. */
static bool own_fault_once(struct fake *f, struct vm_fault *vmf, unsigned long *src,
			   unsigned long *dst)
{
	unsigned long size = vmf->pte ? PAGE_SIZE : PMD_SIZE;
	struct migrate_vma args = {
		.vma = vmf->vma,
		.src = src,
		.dst = dst,
		.start = ALIGN_DOWN(vmf->address, size),
		.end = ALIGN_DOWN(vmf->address, size) + size,
		.pgmap_owner = f->pgmap.owner,
		.fault_page = vmf->page,
		.flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	};
	bool moved;

	/* do_huge_pmd_device_private() faults on a huge page as a whole. */
	if (!vmf->pte)
		args.flags |= MIGRATE_VMA_SELECT_COMPOUND;
	if (migrate_vma_setup(&args))
		return false;
	own_fill_to_ram(f, src, dst, args.npages);
	migrate_vma_pages(&args);
	moved = src[0] & MIGRATE_PFN_MIGRATE && dst[0];
	migrate_vma_finalize(&args);
	return moved;
}

vm_fault_t fake_own_fault(struct fake *f, struct vm_fault *vmf)
{
	unsigned long *pfns = kvcalloc(2 * HPAGE_PMD_NR, sizeof(*pfns), GFP_KERNEL);
	unsigned long end = jiffies + HZ;
	bool moved;

	if (!pfns)
		return VM_FAULT_OOM;
	atomic_inc(&f->nr_faults);
	/*
	 * A task that only tries to lock the page holds a reference for a moment, so try again.
	 */
	do {
		moved = own_fault_once(f, vmf, pfns, pfns + HPAGE_PMD_NR);
		if (!moved)
			schedule_timeout_uninterruptible(1);
	} while (!moved && !fatal_signal_pending(current) && time_before(jiffies, end));
	kvfree(pfns);
	return moved ? 0 : VM_FAULT_SIGBUS;
}

/* Bring all pages of the device to RAM, as memunmap_pages() wants it. */
void fake_own_evict(struct fake *f)
{
	unsigned long *src = f->evict_pfns, *dst = src + NR_PAGES;

	while (!bitmap_empty(f->used, NR_PAGES)) {
		memset(dst, 0, NR_PAGES * sizeof(*dst));
		migrate_device_range(src, PHYS_PFN(f->pgmap.range.start), NR_PAGES);
		own_fill_to_ram(f, src, dst, NR_PAGES);
		migrate_device_pages(src, dst, NR_PAGES);
		migrate_device_finalize(src, dst, NR_PAGES);
		/* Pages that a task has locked move later. */
		schedule_timeout_uninterruptible(1);
	}
}

/* Give collected pages of RAM a destination on the device. */
static void own_fill_to_device(struct fake *f, const unsigned long *src, unsigned long *dst,
			       unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++) {
		struct page *page = migrate_pfn_to_page(src[i]);
		struct folio *to;

		if (!page || !(src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		to = fake_alloc_one(f, 0);
		if (!to)
			break;
		/* A write of a peer to what was there before must not land in the new data. */
		hmm_p2p_flush_folio(to);
		memcpy_from_page(fake_kva(f, folio_page(to, 0)), page, 0, PAGE_SIZE);
		dst[i] = migrate_pfn(folio_pfn(to)) | (src[i] & MIGRATE_PFN_WRITE);
	}
}

/*
 * Take mmap_lock, and keep the exporter live.  The task holds neither while it waits for the other.
 * Returns 0 or the error of hmm_p2p_live_get().
 */
static int own_lock(struct fake *f, struct mm_struct *mm)
{
	int ret;

	for (;;) {
		mmap_read_lock(mm);
		if (hmm_p2p_live_tryget(f->exp))
			return 0;
		mmap_read_unlock(mm);
		ret = fake_live(f->exp);
		if (ret)
			return ret;
	}
}

/* Move at most 2 MiB inside of one 2 MiB piece.  Returns how many pages moved. */
static unsigned long own_piece_to_device(struct fake *f, struct mm_struct *mm,
					 unsigned long start, unsigned long end,
					 unsigned long *src, unsigned long *dst)
{
	struct migrate_vma args = {
		.src = src,
		.dst = dst,
		.start = start,
		.end = end,
		.pgmap_owner = f->pgmap.owner,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	unsigned long i, moved = 0;

	args.vma = vma_lookup(mm, start);
	if (args.vma && !migrate_vma_setup(&args)) {
		own_fill_to_device(f, src, dst, args.npages);
		migrate_vma_pages(&args);
		for (i = 0; i < args.npages; i++)
			moved += src[i] & MIGRATE_PFN_MIGRATE && dst[i];
		migrate_vma_finalize(&args);
	}
	return moved;
}

/*
 * Move @nr pages from RAM to the first free pages of the device.  No reset or unregister begins
 * meanwhile.  Returns how many moved, or the error of hmm_p2p_live_get().
 */
long fake_own_to_device(struct fake *f, struct mm_struct *mm, unsigned long start,
			unsigned long nr)
{
	unsigned long end = start + nr * PAGE_SIZE, next;
	unsigned long *pfns;
	long moved;

	moved = own_lock(f, mm);
	if (moved)
		return moved;
	pfns = kvcalloc(2 * HPAGE_PMD_NR, sizeof(*pfns), GFP_KERNEL);
	for (; pfns && start < end; start = next) {
		next = min(end, ALIGN(start + 1, PMD_SIZE));
		moved += own_piece_to_device(f, mm, start, next, pfns, pfns + HPAGE_PMD_NR);
	}
	kvfree(pfns);
	hmm_p2p_live_put(f->exp);
	mmap_read_unlock(mm);
	return moved;
}
