// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: What is there to move
 *
 * hmm_p2p_scan() looks at the page table of a batch's range.  It tells three things:
 *
 * - why a page stays that migrate_vma_setup() does not collect: that function gives no reason
 * - whether any page of the range may move
 * - which other devices have pages in the range: migrate_vma takes the pages of one owner at a
 *   time, so each device needs a pass of its own
 *
 * A page may change between the scan and the moment when the batch collects it.  A page that
 * has been collected looks like any page on its way.  Both count as BUSY until more is known.
 */
#include <linux/ksm.h>
#include <linux/leafops.h>
#include <linux/mm.h>
#include <linux/pagewalk.h>
#include <linux/swapops.h>
#include <linux/userfaultfd_k.h>

#include "internal.h"

/* Under the page table lock, which keeps the page in use. */
static void scan_other(struct hmm_p2p_scan *s, const struct page *page)
{
	struct hmm_p2p_exporter *other;
	unsigned int i;

	rcu_read_lock();
	other = hmm_p2p_exporter_of(page);
	for (i = 0; i < s->nr_others; i++)
		if (s->others[i] == other)
			break;
	/* Pages of a fifth device stay where they are, and are reported as OTHER. */
	if (other && i == s->nr_others && i < HMM_P2P_MAX_OTHERS &&
	    kref_get_unless_zero(&other->kref))
		s->others[s->nr_others++] = other;
	rcu_read_unlock();
}

static enum hmm_p2p_outcome scan_device_page(struct hmm_p2p_scan *s,
					     const struct page *page)
{
	bool ours = page_pgmap(page) == s->exp->desc.pgmap;

	if (ours)
		return s->dir == HMM_P2P_TO_RAM ? HMM_P2P_BUSY : HMM_P2P_THERE;
	if (s->dir == HMM_P2P_TO_DEVICE)
		scan_other(s, page);
	return HMM_P2P_OTHER;
}

/* The outcome of a page.  @page is NULL for a zero page, which a device treats like a hole. */
static enum hmm_p2p_outcome scan_page(struct hmm_p2p_scan *s, const struct page *page)
{
	const struct folio *folio;

	if (page && (is_device_private_page(page) || is_device_coherent_page(page)))
		return scan_device_page(s, page);
	if (s->dir == HMM_P2P_TO_RAM)
		return HMM_P2P_THERE;
	if (!page)
		return s->hole;
	folio = page_folio(page);
	if (folio_test_ksm(folio))
		return HMM_P2P_KSM;
	return folio_test_anon(folio) ? HMM_P2P_BUSY : HMM_P2P_NOT_ANON;
}

static enum hmm_p2p_outcome scan_leaf(struct hmm_p2p_scan *s, softleaf_t entry)
{
	if (softleaf_is_device_private(entry))
		return scan_page(s, softleaf_to_page(entry));
	/* An entry with a PFN is a page on its way, in a device's exclusive use, or broken. */
	return softleaf_has_pfn(entry) && !softleaf_is_hwpoison(entry) ? HMM_P2P_LOST :
									 HMM_P2P_ABSENT;
}

/* A BUSY page may move.  If it does not, BUSY stays its outcome.  A LOST page becomes BUSY. */
static void scan_set_outcome(struct hmm_p2p_scan *s, unsigned long addr,
			     unsigned long n, enum hmm_p2p_outcome outcome)
{
	u8 *why = &s->why[(addr - s->start) >> PAGE_SHIFT];

	if (outcome == HMM_P2P_BUSY)
		s->todo += n;
	else if (outcome == HMM_P2P_LOST)
		outcome = HMM_P2P_BUSY;
	while (n--) {
		/* Looked at for the second time: what is there now was moved by the first. */
		if (*why != HMM_P2P_MOVED || outcome != HMM_P2P_THERE)
			*why = outcome;
		why++;
	}
}

/* Devices fill holes in anonymous memory, unless user space does (userfaultfd). */
static bool scan_fills_holes(struct hmm_p2p_scan *s, struct vm_area_struct *vma)
{
	return s->dir == HMM_P2P_TO_DEVICE && vma_is_anonymous(vma) &&
	       !userfaultfd_missing(vma);
}

static int scan_hole(unsigned long addr, unsigned long end, int depth,
		     struct mm_walk *walk)
{
	struct hmm_p2p_scan *s = walk->private;

	scan_set_outcome(s, addr, (end - addr) >> PAGE_SHIFT, s->hole);
	return 0;
}

static enum hmm_p2p_outcome scan_huge(struct hmm_p2p_scan *s, pmd_t pmd)
{
	if (!pmd_present(pmd))
		return scan_leaf(s, softleaf_from_pmd(pmd));
	return scan_page(s, is_huge_zero_pmd(pmd) ? NULL : pmd_page(pmd));
}

static int scan_pmd(pmd_t *pmdp, unsigned long addr, unsigned long end,
		    struct mm_walk *walk)
{
	struct vm_area_struct *vma = walk->vma;
	struct hmm_p2p_scan *s = walk->private;
	pte_t *ptep, *first;
	spinlock_t *ptl;

	ptl = pmd_trans_huge_lock(pmdp, vma);
	if (ptl) {
		scan_set_outcome(s, addr, (end - addr) >> PAGE_SHIFT,
				 scan_huge(s, pmdp_get(pmdp)));
		spin_unlock(ptl);
		return 0;
	}
	first = pte_offset_map_lock(vma->vm_mm, pmdp, addr, &ptl);
	if (!first) {
		walk->action = ACTION_AGAIN;
		return 0;
	}
	for (ptep = first; addr < end; addr += PAGE_SIZE, ptep++) {
		pte_t pte = ptep_get(ptep);
		enum hmm_p2p_outcome outcome;

		if (pte_none(pte))
			outcome = s->hole;
		else if (pte_present(pte))
			outcome = scan_page(s, vm_normal_page(vma, addr, pte));
		else
			outcome = scan_leaf(s, softleaf_from_pte(pte));
		scan_set_outcome(s, addr, 1, outcome);
	}
	pte_unmap_unlock(first, ptl);
	return 0;
}

static const struct mm_walk_ops scan_ops = {
	.pmd_entry = scan_pmd,
	.pte_hole = scan_hole,
	.walk_lock = PGWALK_RDLOCK,
};

/*
 * hmm_p2p_scan - look at the pages of a batch
 * @s: exp, dir and why are set; the caller puts the references in others
 * @vma: a VMA that may be migrated, under mmap_lock
 * @start: first address
 * @end: behind the last; in the same PMD
 *
 * s->why gets the outcome of each page for the case that the page does not move.
 */
void hmm_p2p_scan(struct hmm_p2p_scan *s, struct vm_area_struct *vma,
		  unsigned long start, unsigned long end)
{
	s->start = start;
	s->hole = scan_fills_holes(s, vma) ? HMM_P2P_BUSY : HMM_P2P_ABSENT;
	s->todo = 0;
	s->nr_others = 0;
	walk_page_range_vma(vma, start, end, &scan_ops, s);
}
