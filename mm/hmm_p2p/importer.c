// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Importers
 *
 * This file has the importers, and their mirrors (peers).
 *
 * The core does not know a mirror that has met no exporter: hmm_p2p_peer_init() takes no lock
 * and allocates nothing.  So a memory region costs the same with hmm_p2p as without, until a
 * fault meets memory of a device in it.  Then pair.c makes the two a pair.
 *
 * An importer breaks its contract if it keeps an alias when its callback returns.  The core finds
 * that when it revokes the window, and at reset, draining and death, but not in each callback.
 * It then quarantines the importer: all of its mirrors, in all address spaces, get their data by
 * way of RAM.  The quarantine ends with the last of these mirrors that has met an exporter.
 */
#include <linux/dma-map-ops.h>
#include <linux/export.h>
#include <linux/iommu-dma.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/slab.h>

#include <trace/events/hmm_p2p.h>

#include "internal.h"

LIST_HEAD(hmm_p2p_importers);

/*
 * hmm_p2p_importer_alloc - memory for an importer
 * @peer: its first mirror; the name is copied
 *
 * All processes share it, so none is charged for it.
 *
 * Return: an importer without users, in no list; the caller may kfree() it.  Or NULL.
 */
struct hmm_p2p_importer *hmm_p2p_importer_alloc(const struct hmm_p2p_peer *peer)
{
	/* The device may get another name meanwhile, so measure the name only once. */
	size_t length = strlen(peer->name);
	struct hmm_p2p_importer *importer = kzalloc_flex(*importer, name, length + 1);

	if (!importer)
		return NULL;
	memcpy(importer->name, peer->name, length);
	importer->identity = peer->identity;
	importer->dev = peer->dev;
	return importer;
}

/*
 * hmm_p2p_importer_find - the importer of a mirror, if it has met an exporter
 * @peer: the mirror, which may have met none
 *
 * Return: the importer, without a reference, or NULL.
 */
struct hmm_p2p_importer *hmm_p2p_importer_find(const struct hmm_p2p_peer *peer)
{
	struct hmm_p2p_importer *importer;

	lockdep_assert_held(&hmm_p2p_pairs_lock);
	list_for_each_entry(importer, &hmm_p2p_importers, node)
		if (hmm_p2p_is_mirror_of(peer, importer))
			return importer;
	return NULL;
}

/* A pair ends. */
void hmm_p2p_importer_put(struct hmm_p2p_importer *importer)
{
	lockdep_assert_held(&hmm_p2p_pairs_lock);
	if (--importer->users)
		return;
	list_del(&importer->node);
	/* hmm_p2p_pair_join() may have found the pair, and looks at its importer. */
	kfree_rcu(importer, rcu);
}

/**
 * hmm_p2p_peer_init - initialise a mirror
 * @peer: the mirror, zeroed or not
 * @desc: describes the mirror; copied, except the name
 *
 * The importer calls hmm_p2p_peer_destroy() before the map goes away.  This function takes no
 * lock and no memory.  The fault in which the mirror first meets an exporter allocates memory,
 * and charges it to the memory cgroup of that fault.
 *
 * Context: Any.
 *
 * Return: 0, or -EINVAL if the name, the identity, the map, its length or the mm is missing.
 */
int hmm_p2p_peer_init(struct hmm_p2p_peer *peer,
		      const struct hmm_p2p_peer_desc *desc)
{
	if (!desc->name || !desc->identity || !desc->map || !desc->nr_entries || !desc->mm)
		return -EINVAL;
	*peer = (struct hmm_p2p_peer) {
		.name = desc->name,
		.identity = desc->identity,
		.dev = desc->dev,
		.map = desc->map,
		.nr_entries = desc->nr_entries,
		.mm = desc->mm,
		.pid = desc->tgid ? pid_nr(desc->tgid) : task_tgid_nr(current),
		/*
		 * dma_unmap_phys() through an IOMMU may leave the IOTLB to a flush
		 * queue (iommu_dma_unmap_phys()); dma_iova_unlink() does not.
		 */
		.lazy_unmap = desc->dev && use_dma_iommu(desc->dev) &&
			      !dma_use_iova(&desc->map->state),
	};
	xa_init_flags(&peer->pairs, XA_FLAGS_ACCOUNT);
	desc->map->peer = NULL;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_peer_init, "HMM_P2P");

/**
 * hmm_p2p_peer_destroy - undo hmm_p2p_peer_init()
 * @peer: no fault with it is running any more
 *
 * No entry of the map should hold an alias.  If one does, that is a bug of the importer: the core
 * warns, names the importer, and drops the references.
 *
 * Context: Process context, may sleep.
 */
void hmm_p2p_peer_destroy(struct hmm_p2p_peer *peer)
{
	struct hmm_p2p_attachment *attachment;
	struct hmm_p2p_map *m = peer->map->peer;
	unsigned long id;

	/* The mirror has met no exporter. */
	if (!m)
		return;
	if (WARN_ONCE(m->held, "hmm_p2p: %s: mirror destroyed with %lu aliases mapped\n",
		      peer->importer->name, m->held))
		hmm_p2p_map_drop_all(peer->map);
	if (peer->importer)
		atomic_dec(&peer->importer->mirrors);
	xa_for_each(&peer->pairs, id, attachment)
		hmm_p2p_pair_leave(attachment);
	xa_destroy(&peer->pairs);
	peer->map->peer = NULL;
	kvfree(m);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_peer_destroy, "HMM_P2P");

/* Return: true if a mirror of @pair holds an alias in @window. */
static bool pair_holds(struct hmm_p2p_pair *pair, struct hmm_p2p_window *window)
{
	struct hmm_p2p_attachment *attachment;
	bool holds = false;

	mutex_lock(&pair->lock);
	list_for_each_entry(attachment, &pair->attachments, node) {
		holds = hmm_p2p_map_holds(attachment->peer->map, window);
		if (holds)
			break;
	}
	mutex_unlock(&pair->lock);
	return holds;
}

/*
 * hmm_p2p_quarantine - quarantine the importers that still hold aliases of a window
 * @window: every notifier has been called, and no alias is handed out any more
 *
 * Reads maps without their importer's lock: no entry can begin to hold an alias in this window
 * any more, and an importer that lets go right now is late.  The report names an importer once for
 * each process that it holds memory of.
 */
void hmm_p2p_quarantine(struct hmm_p2p_window *window)
{
	struct hmm_p2p_exporter *exp = window->exp;
	struct hmm_p2p_pair *pair;

	mutex_lock(&hmm_p2p_pairs_lock);
	list_for_each_entry(pair, &exp->pairs, node) {
		struct hmm_p2p_importer *importer = pair->importer;

		if (!pair_holds(pair, window))
			continue;
		pr_err("hmm_p2p: %s, for process %d, does not let go of window %lu of %s: quarantined\n",
		       importer->name, pair->pid, hmm_p2p_window_index(window),
		       exp->desc.name);
		trace_hmm_p2p_quarantine(exp->desc.name, importer->name,
					 hmm_p2p_window_index(window), 0);
		/* It may hold several windows, for several processes, and counts once. */
		if (!importer->quarantined)
			hmm_p2p_count(exp, HMM_P2P_C_QUARANTINES, 1);
		WRITE_ONCE(importer->quarantined, true);
	}
	mutex_unlock(&hmm_p2p_pairs_lock);
}

/**
 * hmm_p2p_invalidate_begin - begin to time an importer's invalidate callback
 * @map: the importer's map
 *
 * Optional.  debugfs shows how long the callbacks take.  Costs nothing for a map that holds no
 * alias.
 *
 * Context: Under the lock that the callback takes.
 */
void hmm_p2p_invalidate_begin(struct hmm_dma_map *map)
{
	struct hmm_p2p_map *m = READ_ONCE(map->peer);

	if (!m || !m->held)
		return;
	m->dropped = 0;
	m->dropped_pair = NULL;
	m->began = local_clock();
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_invalidate_begin, "HMM_P2P");

/* Mark of the pairs that one invalidation has to do with, if it is more than one. */
#define PAIR_DROPPED	XA_MARK_0

/* The entries that were dropped last are all of the same pair: count them there. */
static void attachment_add_dropped(struct hmm_p2p_map *m)
{
	struct hmm_p2p_peer *peer = m->peer;
	struct hmm_p2p_attachment *attachment;
	u64 id = m->dropped_pair->exp->id;

	/* A mirror has an attachment to each exporter of an alias that it holds. */
	attachment = xa_load(&peer->pairs, id);
	attachment->dropped += m->dropped;
	m->dropped = 0;
	xa_set_mark(&peer->pairs, id, PAIR_DROPPED);
}

/*
 * hmm_p2p_map_put() calls it while an invalidation is timed, for an entry that belongs to
 * another pair than the entry before.
 */
void hmm_p2p_set_dropped_pair(struct hmm_p2p_map *m)
{
	if (m->dropped_pair) {
		attachment_add_dropped(m);
		m->dropped_pairs = true;
	}
	m->dropped_pair = m->pair;
}

static void pair_invalidated(struct hmm_p2p_pair *pair, unsigned long entries, s64 ns)
{
	u64 us = ns / NSEC_PER_USEC;

	hmm_p2p_pair_count(pair, HMM_P2P_C_INVALIDATIONS, 1);
	hmm_p2p_pair_count(pair, HMM_P2P_C_BUCKET +
			   min(us ? fls64(us) : 0, HMM_P2P_BUCKETS - 1), 1);
	hmm_p2p_raise_max(&pair->slowest, ns);
	trace_hmm_p2p_invalidate(pair->exp->desc.name, pair->importer->name, entries, ns);
}

/**
 * hmm_p2p_invalidate_end - stop timing an importer's invalidate callback
 * @map: the importer's map
 *
 * If the callback has let go of memory of several exporters, it counts once for each, with the
 * entries of that exporter and the time of all of the callback.
 *
 * Context: As hmm_p2p_invalidate_begin().
 */
void hmm_p2p_invalidate_end(struct hmm_dma_map *map)
{
	struct hmm_p2p_map *m = READ_ONCE(map->peer);
	struct hmm_p2p_attachment *attachment;
	unsigned long id;
	s64 ns;

	if (!m || !m->began)
		return;
	/* local_clock() may go back a little between CPUs. */
	ns = max_t(s64, local_clock() - m->began, 0);
	m->began = 0;
	if (!m->dropped_pairs) {
		if (m->dropped_pair)
			pair_invalidated(m->dropped_pair, m->dropped, ns);
		return;
	}
	m->dropped_pairs = false;
	attachment_add_dropped(m);
	xa_for_each_marked(&m->peer->pairs, id, attachment, PAIR_DROPPED) {
		xa_clear_mark(&m->peer->pairs, id, PAIR_DROPPED);
		pair_invalidated(attachment->pair, attachment->dropped, ns);
		attachment->dropped = 0;
	}
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_invalidate_end, "HMM_P2P");
