// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Tracking
 *
 * Who holds an alias.  Each entry of an importer's map that holds one counts
 * once in the alias's window, however often it is mapped again: a bit per map
 * index remembers it.  The bit is only touched under the lock that serialises
 * the importer's invalidation, so neither side needs an atomic for it.
 *
 * Taking a reference succeeds always, even while the window's users are being
 * thrown out: the invalidation waits for the very lock that is held here and
 * will find the bit.  Dropping one cannot fail, allocates nothing and is O(1).
 */
#include <kunit/visibility.h>
#include <linux/bitmap.h>
#include <linux/export.h>
#include <linux/slab.h>

#include <trace/events/hmm_p2p.h>

#include "internal.h"

/* alias PFN >> (PMD_SHIFT - PAGE_SHIFT) -> window.  RCU for readers. */
static DEFINE_XARRAY(hmm_p2p_aliases);

#define ALIAS_ORDER	(PMD_SHIFT - PAGE_SHIFT)

/*
 * The window of an alias.  The caller holds, or is about to take, a reference on
 * the window (see internal.h on why it is there); RCU is for the xarray's nodes.
 */
struct hmm_p2p_window *hmm_p2p_window_of_alias(unsigned long alias_pfn)
{
	return xa_load(&hmm_p2p_aliases, alias_pfn >> ALIAS_ORDER);
}

static void hmm_p2p_track_erase(struct hmm_p2p_window *window)
{
	unsigned long index = window->alias_pfn >> ALIAS_ORDER;
	unsigned long nr = BIT(window->exp->window_order - ALIAS_ORDER);

	while (nr--)
		xa_erase(&hmm_p2p_aliases, index + nr);
}

static int hmm_p2p_track_insert(struct hmm_p2p_window *window)
{
	unsigned long index = window->alias_pfn >> ALIAS_ORDER;
	unsigned long nr = BIT(window->exp->window_order - ALIAS_ORDER);
	unsigned long i;
	int ret;

	for (i = 0; i < nr; i++) {
		ret = xa_insert(&hmm_p2p_aliases, index + i, window, GFP_KERNEL);
		if (ret)
			goto err;
	}
	return 0;
err:
	while (i--)
		xa_erase(&hmm_p2p_aliases, index + i);
	return ret;
}

/* Make the exporter's aliases known.  -EBUSY if one is known already. */
int hmm_p2p_track_add(struct hmm_p2p_exporter *exp)
{
	unsigned long i;
	int ret;

	for (i = 0; i < exp->nr_windows; i++) {
		ret = hmm_p2p_track_insert(&exp->windows[i]);
		if (ret)
			goto err;
	}
	return 0;
err:
	while (i--)
		hmm_p2p_track_erase(&exp->windows[i]);
	return ret;
}

void hmm_p2p_track_remove(struct hmm_p2p_exporter *exp)
{
	unsigned long i;

	for (i = 0; i < exp->nr_windows; i++)
		hmm_p2p_track_erase(&exp->windows[i]);
}

/* Map entries of all importers that hold an alias of @exp. */
unsigned long hmm_p2p_refs(struct hmm_p2p_exporter *exp)
{
	unsigned long i, refs = 0;

	for (i = 0; i < exp->nr_windows; i++)
		refs += atomic_read(&exp->windows[i].refs);
	return refs;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_refs);

/**
 * hmm_p2p_map_alloc - room to remember which entries of a map hold aliases
 * @map: the importer's map
 * @nr_entries: number of entries in its pfn_list
 *
 * hmm_dma_map_alloc() calls it; a software importer, which allocates pfn_list
 * itself, does so too.
 *
 * Return: 0 or -ENOMEM.
 */
int hmm_p2p_map_alloc(struct hmm_dma_map *map, size_t nr_entries)
{
	map->peer_bits = kvcalloc(BITS_TO_LONGS(nr_entries), sizeof(long),
				  GFP_KERNEL | __GFP_NOWARN);
	return map->peer_bits ? 0 : -ENOMEM;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_map_alloc, "HMM_P2P");

/**
 * hmm_p2p_map_free - undo hmm_p2p_map_alloc()
 * @map: none of its entries holds an alias any more
 */
void hmm_p2p_map_free(struct hmm_dma_map *map)
{
	kvfree(map->peer_bits);
	map->peer_bits = NULL;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_map_free, "HMM_P2P");

/**
 * hmm_p2p_map_get - an entry of a map holds an alias now
 * @map: the importer's map
 * @idx: index of an entry with %HMM_PFN_PEER
 *
 * hmm_dma_map_pfn() calls it; a software importer calls it when it stores the
 * entry in its map.  Calling it again for the same entry counts once.
 *
 * Context: Under the lock that the importer's invalidate callback takes, after a
 * successful mmu_interval_read_retry().
 */
void hmm_p2p_map_get(struct hmm_dma_map *map, size_t idx)
{
	unsigned long pfn = map->pfn_list[idx] & ~HMM_PFN_FLAGS;
	struct hmm_p2p_window *window;

	if (__test_and_set_bit(idx, map->peer_bits))
		return;
	window = hmm_p2p_window_of_alias(pfn);
	if (WARN_ONCE(!window, "hmm_p2p: map entry is no alias: %#lx\n", pfn)) {
		__clear_bit(idx, map->peer_bits);
		return;
	}
	atomic_inc(&window->refs);
	hmm_p2p_count(window->exp, HMM_P2P_C_MAPPED, 1);
	trace_hmm_p2p_map(window->exp->desc.name, pfn);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_map_get, "HMM_P2P");

/**
 * hmm_p2p_map_put - an entry of a map holds no alias any more
 * @map: the importer's map
 * @idx: index of any entry; one that holds no alias is left alone
 *
 * hmm_dma_unmap_pfn() calls it; a software importer calls it when it clears the
 * entry.  The entry must still have the PFN that it had at hmm_p2p_map_get().
 *
 * Context: Under the lock that the importer's invalidate callback takes.  Does
 * not sleep, does not fail.
 */
void hmm_p2p_map_put(struct hmm_dma_map *map, size_t idx)
{
	unsigned long pfn = map->pfn_list[idx] & ~HMM_PFN_FLAGS;
	struct hmm_p2p_exporter *exp;
	struct hmm_p2p_window *window;

	if (!map->peer_bits || !__test_and_clear_bit(idx, map->peer_bits))
		return;
	window = hmm_p2p_window_of_alias(pfn);
	if (WARN_ONCE(!window, "hmm_p2p: map entry lost its alias: %#lx\n", pfn))
		return;

	/*
	 * The reference may be the last thing that keeps the exporter: touch it
	 * under RCU, which hmm_p2p_unregister() waits for.
	 */
	rcu_read_lock();
	exp = window->exp;
	hmm_p2p_count(exp, HMM_P2P_C_UNMAPPED, 1);
	trace_hmm_p2p_unmap(exp->desc.name, pfn);
	if (atomic_dec_and_test(&window->refs))
		wake_up(&exp->drained);
	rcu_read_unlock();
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_map_put, "HMM_P2P");
