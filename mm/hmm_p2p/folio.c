// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Folios of a device
 *
 * A reset, death and eviction find the folios of a device by place, and not by the address
 * of a process.  No page table keeps such a folio what it is: it may be free, or be split,
 * or move away, until it is locked.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>

#include "../internal.h"
#include "internal.h"

/*
 * The folio of a page, locked and with a reference.  NULL if it is free, or with
 * *busy set if somebody has it locked.
 */
struct folio *hmm_p2p_grab_folio(unsigned long pfn, bool *busy)
{
	struct folio *folio = hmm_p2p_folio_of_pfn(pfn);

	if (!folio)
		return NULL;
	if (!folio_try_get(folio)) {
		/* Free, or frozen by who splits it, under its lock. */
		*busy |= folio_test_locked(folio);
		return NULL;
	}
	if (folio_trylock(folio)) {
		/* It may have been split before we had the lock. */
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
 * Nobody's mmap_lock is held, so a process that exits would free the anon_vma by which
 * the entries are found again: it stays until hmm_p2p_map_folio(), or put_anon_vma().
 *
 * Return: the anon_vma; NULL if nobody maps the folio, or all is as it was.
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
