// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: References of aliases
 *
 * Each entry of an importer's map that holds an alias counts once in the window of the alias,
 * however often it is mapped again: a bit for each map index remembers it.  The bit is only
 * touched under the lock of the importer's invalidate callback, so it needs no atomic.
 *
 * Taking a reference always succeeds, even while the window is being revoked: the callback
 * waits for the lock that is held here, and finds the bit.  Dropping a reference cannot fail,
 * allocates nothing and is O(1).
 */
#include <kunit/visibility.h>
#include <linux/bitmap.h>
#include <linux/export.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include <trace/events/hmm_p2p.h>

#include "internal.h"

/* alias PFN >> HMM_P2P_ALIAS_ORDER -> window.  RCU for readers. */
static DEFINE_XARRAY(hmm_p2p_aliases);

/*
 * The window of an alias.  The caller holds, or is about to take, a reference on the window:
 * internal.h says why the window exists then.  RCU protects the nodes of the xarray.
 */
struct hmm_p2p_window *hmm_p2p_window_of_alias(unsigned long alias_pfn)
{
	return xa_load(&hmm_p2p_aliases, alias_pfn >> HMM_P2P_ALIAS_ORDER);
}

static unsigned long nr_slots(struct hmm_p2p_window *window)
{
	return BIT(window->exp->window_order - HMM_P2P_ALIAS_ORDER);
}

/* Remove the window's aliases from the index. */
void hmm_p2p_track_erase(struct hmm_p2p_window *window)
{
	unsigned long nr = nr_slots(window);

	while (nr--)
		xa_erase(&hmm_p2p_aliases, window->alias + nr);
	/* Maps that have cached this window must not use it for the next one at its address. */
	WRITE_ONCE(window->alias, 0);
}

/*
 * Add the window's aliases to the index, from @alias on.  Return: 0, -ENOMEM, or -EBUSY if
 * another window has one of them.
 */
int hmm_p2p_track_insert(struct hmm_p2p_window *window, u32 alias)
{
	unsigned long i, nr = nr_slots(window);
	int ret;

	for (i = 0; i < nr; i++) {
		ret = xa_insert(&hmm_p2p_aliases, alias + i, window, GFP_KERNEL);
		if (ret)
			goto err;
	}
	WRITE_ONCE(window->alias, alias);
	return 0;
err:
	while (i--)
		xa_erase(&hmm_p2p_aliases, alias + i);
	return ret;
}

/* The number of map entries, of all importers, that hold an alias of @exp. */
unsigned long hmm_p2p_refs(struct hmm_p2p_exporter *exp)
{
	unsigned long i, refs = 0;

	for (i = 0; i < exp->nr_windows; i++)
		refs += (unsigned int)atomic_read(&exp->windows[i].refs);
	return refs;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_refs);

/*
 * hmm_p2p_map_alloc - allocate the bits that tell which entries of a map hold aliases
 * @peer: a mirror that is about to meet an exporter; before that no entry holds an alias
 *
 * The memory is charged to the memory cgroup of the caller; hmm_p2p_peer_destroy() frees it.
 *
 * Context: May sleep; no mmap_lock.
 *
 * Return: 0, also if the memory is there already, or -ENOMEM.
 */
int hmm_p2p_map_alloc(struct hmm_p2p_peer *peer)
{
	struct hmm_dma_map *map = peer->map;
	struct hmm_p2p_map *m;

	if (READ_ONCE(map->peer))
		return 0;
	m = kvzalloc(struct_size(m, bits, BITS_TO_LONGS(peer->nr_entries)),
		     GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!m)
		return -ENOMEM;
	m->peer = peer;
	m->nr_entries = peer->nr_entries;
	/* Another fault of this mirror may do the same. */
	if (cmpxchg(&map->peer, NULL, m))
		kvfree(m);
	return 0;
}

/* The window of an entry that is not in the cached window: see hmm_p2p_map_window(). */
struct hmm_p2p_window *hmm_p2p_map_other_window(struct hmm_p2p_map *m,
						unsigned long pfn)
{
	struct hmm_p2p_window *window = hmm_p2p_window_of_alias(pfn);

	if (!window)
		return NULL;
	if (!m->pair || m->pair->exp != window->exp) {
		m->window = NULL;
		m->pair = hmm_p2p_pair_of(m->peer, window->exp->id);
		if (!m->pair)
			return NULL;
	}
	m->window = window;
	return window;
}

/**
 * hmm_p2p_map_get - count an entry that holds an alias from now on
 * @map: the importer's map
 * @idx: index of an entry with %HMM_PFN_PEER
 *
 * hmm_dma_map_pfn() calls it; a software importer calls it when it stores the
 * entry in its map.  Calling it again for the same entry counts once.  An entry
 * that is no alias of a device that is registered earns the importer a warning.
 *
 * Context: Under the lock that the importer's invalidate callback takes, after a
 * successful mmu_interval_read_retry().
 */
void hmm_p2p_map_get(struct hmm_dma_map *map, size_t idx)
{
	unsigned long pfn = map->pfn_list[idx] & ~HMM_PFN_FLAGS;
	struct hmm_p2p_map *m = READ_ONCE(map->peer);
	struct hmm_p2p_window *window;

	if (m && test_bit(idx, m->bits))
		return;
	window = m ? hmm_p2p_map_window(m, pfn) : NULL;
	if (WARN_ONCE(!window, "hmm_p2p: %s: map entry is no alias: %#lx\n",
		      hmm_p2p_map_name(m), pfn))
		return;
	__set_bit(idx, m->bits);
	m->held++;
	atomic_inc(&window->refs);
	hmm_p2p_pair_count(m->pair, HMM_P2P_C_MAPPED, 1);
	if (trace_hmm_p2p_map_enabled())
		trace_hmm_p2p_map(window->exp->desc.name, pfn);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_map_get, "HMM_P2P");

/**
 * hmm_p2p_map_put - undo hmm_p2p_map_get()
 * @map: the importer's map
 * @idx: index of any entry; nothing happens if it holds no alias
 *
 * hmm_dma_unmap_pfn() calls it; a software importer calls it when it clears the
 * entry.  The entry must still have the PFN that it had at hmm_p2p_map_get().
 *
 * The importer's device has stopped.  Its last writes to the page may be on their way to
 * the exporter's memory, and no more follow.  See the importer's contract in
 * Documentation/mm/hmm_p2p-contracts.rst.
 *
 * Context: Under the lock that the importer's invalidate callback takes.  Does
 * not sleep, does not fail.
 */
void hmm_p2p_map_put(struct hmm_dma_map *map, size_t idx)
{
	unsigned long pfn = map->pfn_list[idx] & ~HMM_PFN_FLAGS;
	struct hmm_p2p_map *m = READ_ONCE(map->peer);
	struct hmm_p2p_window *window;

	if (!m || !m->held || !test_bit(idx, m->bits))
		return;
	window = hmm_p2p_map_window(m, pfn);
	if (WARN_ONCE(!window, "hmm_p2p: %s: map entry lost its alias: %#lx\n",
		      hmm_p2p_map_name(m), pfn))
		return;
	__clear_bit(idx, m->bits);
	m->held--;
	if (m->began && m->pair != m->dropped_pair)
		hmm_p2p_set_dropped_pair(m);
	m->dropped++;

	/* The pair keeps the exporter, also if this is the last reference. */
	hmm_p2p_pair_count(m->pair, HMM_P2P_C_UNMAPPED, 1);
	if (trace_hmm_p2p_unmap_enabled())
		trace_hmm_p2p_unmap(window->exp->desc.name, pfn);
	/* Before the reference goes: pairs with the read in hmm_p2p_flush_need(). */
	if (window->exp->let_go)
		hmm_p2p_flush_note(window);
	/* Ordered before the look at the state: see hmm_p2p_window_end_revoke(). */
	if (atomic_dec_and_test(&window->refs))
		hmm_p2p_window_idle(window);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_map_put, "HMM_P2P");

/* Return: true if an entry holds an alias in @window; see hmm_p2p_quarantine(). */
bool hmm_p2p_map_holds(struct hmm_dma_map *map, struct hmm_p2p_window *window)
{
	struct hmm_p2p_map *m = map->peer;
	unsigned long idx;

	for_each_set_bit(idx, m->bits, m->nr_entries) {
		unsigned long pfn = READ_ONCE(map->pfn_list[idx]);

		if (hmm_p2p_window_of_alias(pfn & ~HMM_PFN_FLAGS) == window)
			return true;
	}
	return false;
}

/* Drop the references of a map that goes away with aliases in it. */
void hmm_p2p_map_drop_all(struct hmm_dma_map *map)
{
	unsigned long idx;

	for_each_set_bit(idx, map->peer->bits, map->peer->nr_entries)
		hmm_p2p_map_put(map, idx);
}
