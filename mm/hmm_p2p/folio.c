// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Folios of a device
 *
 * Reset, death and eviction find the folios of a device by PFN, not by an address in a
 * process.  Until such a folio is locked, another task may free it, split it or migrate it.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>

#include "../internal.h"
#include "internal.h"

/*
 * hmm_p2p_page_is_free - tell whether a page is free
 * @pfn: of a page of a device
 *
 * No references do not mean that a page is free:
 *
 *	a task that splits the folio		this task
 *	  locks it
 *	  freezes its references at 0
 *	  stores over its size and heads	the size of the folio is wrong
 *						  page_folio() is the head of before
 *	  gives all parts references
 *	  unlocks all parts
 *						  the head has one page now
 *
 * So a folio that is locked is in use, whatever it says of its size.  If it is not, the page itself
 * tells whether it has become a part meanwhile.  A former head tells nothing of a page behind it
 * where it is small; if it is huge, the page is a part of it, since there are no other orders.
 *
 * Return: true if the page is free.  False may be wrong for a moment.
 */
bool hmm_p2p_page_is_free(unsigned long pfn)
{
	struct page *page = pfn_to_page(pfn);
	struct folio *folio = page_folio(page);
	unsigned long flags;

	/* Parts get their flags before they are no tails any more: see __split_folio_to_order(). */
	smp_rmb();
	/*
	 * The former head of a free page may be a small page, and locked, by now.  A free small
	 * page may become a tail meanwhile, and folio_test_locked() asserts that it is none.
	 */
	flags = READ_ONCE(folio->flags.f);
	if (flags & BIT(PG_locked) && (page == &folio->page || flags & BIT(PG_head)))
		return false;
	/* What comes before folio_unlock() is seen: pairs with its release. */
	smp_rmb();
	if (page_folio(page) != folio || page_ref_count(page))
		return false;
	folio = hmm_p2p_folio_of_pfn(pfn);
	return !folio || !folio_ref_count(folio);
}

/*
 * hmm_p2p_grab_folio - lock the folio of a page, if that is possible at once
 * @pfn: of a page of a device
 * @busy: set to true if the page is in use, and its folio could not be locked
 *
 * Return: the folio, locked and with a reference.  NULL if it is free or busy.
 */
struct folio *hmm_p2p_grab_folio(unsigned long pfn, bool *busy)
{
	struct folio *folio = hmm_p2p_folio_of_pfn(pfn);

	if (!folio || !folio_try_get(folio)) {
		*busy |= !hmm_p2p_page_is_free(pfn);
		return NULL;
	}
	if (folio_trylock(folio)) {
		/* Another task may have split it before this one had the lock. */
		if (hmm_p2p_folio_of_pfn(pfn) == folio)
			return folio;
		folio_unlock(folio);
	}
	folio_put(folio);
	*busy = true;
	return NULL;
}

/*
 * hmm_p2p_unmap_folio - replace all that maps a folio by migration entries
 * @folio: of the device, locked
 *
 * The anon_vma leads to the entries later.  No mmap_lock is held, so a process that exits
 * might free it meanwhile: the function takes a reference, which hmm_p2p_map_folio() or
 * put_anon_vma() drops.
 *
 * Return: the anon_vma.  NULL if the folio is not mapped, or if not all of its entries could
 * be replaced; then they are as they were.
 */
struct anon_vma *hmm_p2p_unmap_folio(struct folio *folio)
{
	struct anon_vma *anon_vma = folio_get_anon_vma(folio);

	if (!anon_vma)
		return NULL;
	try_to_migrate(folio, 0);
	if (!folio_mapped(folio))
		return anon_vma;
	hmm_p2p_map_folio(folio, anon_vma);
	return NULL;
}

/* Undo hmm_p2p_unmap_folio(); the folio stays locked. */
void hmm_p2p_map_folio(struct folio *folio, struct anon_vma *anon_vma)
{
	remove_migration_ptes(folio, folio, 0);
	put_anon_vma(anon_vma);
}
