// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Who is who
 *
 * Importers by name, their mirrors (peers), and their pairs: one for each
 * (importer, exporter, mm) that ever met, with what one did with the other's memory,
 * and the answer to the question whether they can talk.
 *
 * A peer and an exporter meet once, outside the page walk.  From then on the walk
 * finds the pair in the peer under the exporter's id.  Counters are per CPU: faults
 * on different pages of a mirror share no cache line here, and no lock.
 *
 * An importer that did not let go of an alias when its callback returned is
 * quarantined: all of its mirrors, in all address spaces, for as long as it has any,
 * get their data by way of RAM.  A driver that broke the contract once is not asked
 * whether it will do so again.
 */
#include <kunit/static_stub.h>
#include <kunit/visibility.h>
#include <linux/cleanup.h>
#include <linux/dma-map-ops.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/iommu-dma.h>
#include <linux/jiffies.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include <trace/events/hmm_p2p.h>

#include "internal.h"

/*
 * Importers, peers and pairs.  Nobody allocates memory under it: reclaim calls the callbacks
 * of importers, and all of them would wait for one that does not return.
 */
DEFINE_MUTEX(hmm_p2p_pairs_lock);
LIST_HEAD(hmm_p2p_importers);

/* How long a peer for which there was no pair does not ask for one again. */
#define MEET_AGAIN	(HZ / 10)

/* Of the exporter: its own, what pairs left behind, and the pairs that there are. */
u64 hmm_p2p_total_read(struct hmm_p2p_exporter *exp, unsigned int counter)
{
	struct hmm_p2p_pair *pair;
	u64 sum;

	mutex_lock(&hmm_p2p_pairs_lock);
	sum = hmm_p2p_sum(exp->counters, counter);
	list_for_each_entry(pair, &exp->pairs, node)
		sum += hmm_p2p_pair_read(pair, counter);
	mutex_unlock(&hmm_p2p_pairs_lock);
	return sum;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_total_read);

/* By device too: names can be changed while there are mirrors. */
static struct hmm_p2p_importer *importer_find(const char *name, struct device *dev)
{
	struct hmm_p2p_importer *importer;

	lockdep_assert_held(&hmm_p2p_pairs_lock);
	list_for_each_entry(importer, &hmm_p2p_importers, node) {
		if (importer->dev == dev && !strcmp(importer->name, name)) {
			importer->users++;
			return importer;
		}
	}
	return NULL;
}

static void importer_free(struct hmm_p2p_importer *importer)
{
	kfree(importer->name);
	kfree(importer);
}

static struct hmm_p2p_importer *importer_alloc(const char *name, struct device *dev)
{
	struct hmm_p2p_importer *importer = kzalloc_obj(*importer);

	if (!importer)
		return NULL;
	importer->name = kstrdup(name, GFP_KERNEL);
	if (!importer->name) {
		importer_free(importer);
		return NULL;
	}
	INIT_LIST_HEAD(&importer->peers);
	importer->dev = dev;
	importer->users = 1;
	return importer;
}

static struct hmm_p2p_importer *importer_get(const char *name, struct device *dev)
{
	struct hmm_p2p_importer *importer, *new;

	scoped_guard(mutex, &hmm_p2p_pairs_lock)
		importer = importer_find(name, dev);
	if (importer)
		return importer;
	new = importer_alloc(name, dev);
	if (!new)
		return NULL;
	scoped_guard(mutex, &hmm_p2p_pairs_lock) {
		importer = importer_find(name, dev);
		if (!importer)
			list_add_tail(&new->node, &hmm_p2p_importers);
	}
	if (!importer)
		return new;
	/* Another mirror was first. */
	importer_free(new);
	return importer;
}

static void importer_put(struct hmm_p2p_importer *importer)
{
	lockdep_assert_held(&hmm_p2p_pairs_lock);
	if (--importer->users)
		return;
	list_del(&importer->node);
	importer_free(importer);
}

/**
 * hmm_p2p_peer_init - introduce a mirror
 * @peer: to be initialised, zero or not
 * @desc: who it is; copied
 *
 * Pair it with hmm_p2p_peer_destroy(), before the device or the map go away.
 *
 * Context: Process context, may sleep.
 *
 * Return: 0, -ENOMEM, or -EINVAL if the name, the map or the mm is missing.
 */
int hmm_p2p_peer_init(struct hmm_p2p_peer *peer,
		      const struct hmm_p2p_peer_desc *desc)
{
	struct hmm_p2p_importer *importer;

	if (!desc->name || !desc->map || !desc->map->peer || !desc->mm)
		return -EINVAL;
	importer = importer_get(desc->name, desc->dev);
	if (!importer)
		return -ENOMEM;
	mutex_lock(&hmm_p2p_pairs_lock);
	*peer = (struct hmm_p2p_peer) {
		.importer = importer,
		.dev = desc->dev,
		.map = desc->map,
		.mm = desc->mm,
		.pid = desc->tgid ? pid_nr(desc->tgid) : task_tgid_nr(current),
		/*
		 * dma_unmap_phys() through an IOMMU may leave the IOTLB to a flush
		 * queue (iommu_dma_unmap_phys()); dma_iova_unlink() does not.
		 */
		.lazy_unmap = desc->dev && use_dma_iommu(desc->dev) &&
			      !dma_use_iova(&desc->map->state),
	};
	mmgrab(peer->mm);
	xa_init_flags(&peer->pairs, XA_FLAGS_ACCOUNT);
	desc->map->peer->peer = peer;
	list_add_tail(&peer->node, &importer->peers);
	mutex_unlock(&hmm_p2p_pairs_lock);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_peer_init, "HMM_P2P");

static void pair_free(struct hmm_p2p_pair *pair)
{
	free_percpu(pair->counters);
	kfree(pair);
}

static void pair_put(struct hmm_p2p_pair *pair)
{
	struct hmm_p2p_exporter *exp = pair->exp;
	unsigned int i;

	lockdep_assert_held(&hmm_p2p_pairs_lock);
	if (--pair->users)
		return;
	list_del(&pair->node);
	/* The exporter's totals never go back. */
	for (i = 0; i < HMM_P2P_NR_COUNTERS; i++)
		hmm_p2p_count(exp, i, hmm_p2p_pair_read(pair, i));
	mmdrop(pair->mm);
	pair_free(pair);
	hmm_p2p_exporter_put(exp);
}

/**
 * hmm_p2p_peer_destroy - undo hmm_p2p_peer_init()
 * @peer: no fault with it is running any more
 *
 * None of the entries of its map should hold an alias.  If some do, that is the
 * importer's bug: it is named, and the entries are let go of, since nobody else
 * could do that any more.
 *
 * Context: Process context, may sleep.
 */
void hmm_p2p_peer_destroy(struct hmm_p2p_peer *peer)
{
	struct hmm_p2p_pair *pair;
	unsigned long id;

	if (WARN_ONCE(peer->map->peer->held,
		      "hmm_p2p: %s: mirror destroyed with %lu aliases mapped\n",
		      peer->importer->name, peer->map->peer->held))
		hmm_p2p_map_drop_all(peer->map);
	mutex_lock(&hmm_p2p_pairs_lock);
	peer->map->peer->peer = NULL;
	peer->map->peer->pair = NULL;
	peer->map->peer->window = NULL;
	list_del(&peer->node);
	xa_for_each(&peer->pairs, id, pair)
		pair_put(pair);
	importer_put(peer->importer);
	mutex_unlock(&hmm_p2p_pairs_lock);
	xa_destroy(&peer->pairs);
	mmdrop(peer->mm);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_peer_destroy, "HMM_P2P");

/* Visible so that tests can have it fail. */
VISIBLE_IF_KUNIT struct hmm_p2p_pair *hmm_p2p_pair_alloc(void)
{
	struct hmm_p2p_pair *pair;

	KUNIT_STATIC_STUB_REDIRECT(hmm_p2p_pair_alloc);
	pair = kzalloc_obj(*pair, GFP_KERNEL_ACCOUNT);
	if (!pair)
		return NULL;
	pair->counters = alloc_percpu_gfp(struct hmm_p2p_counters, GFP_KERNEL_ACCOUNT);
	if (!pair->counters) {
		kfree(pair);
		return NULL;
	}
	return pair;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_pair_alloc);

static struct hmm_p2p_pair *pair_find(struct hmm_p2p_peer *peer,
				      struct hmm_p2p_exporter *exp)
{
	struct hmm_p2p_pair *pair;

	lockdep_assert_held(&hmm_p2p_pairs_lock);
	list_for_each_entry(pair, &exp->pairs, node) {
		if (pair->importer == peer->importer && pair->mm == peer->mm) {
			pair->users++;
			return pair;
		}
	}
	return NULL;
}

static void pair_add(struct hmm_p2p_pair *pair, struct hmm_p2p_peer *peer,
		     struct hmm_p2p_exporter *exp, enum hmm_p2p_reason reason,
		     enum pci_p2pdma_map_type type)
{
	lockdep_assert_held(&hmm_p2p_pairs_lock);
	kref_get(&exp->kref);
	mmgrab(peer->mm);
	pair->exp = exp;
	pair->importer = peer->importer;
	pair->mm = peer->mm;
	pair->pid = peer->pid;
	pair->reason = reason;
	pair->type = type;
	pair->translated = type == PCI_P2PDMA_MAP_THRU_HOST_BRIDGE &&
			   use_dma_iommu(peer->dev);
	pair->users = 1;
	list_add_tail(&pair->node, &exp->pairs);
}

static struct hmm_p2p_pair *pair_get(struct hmm_p2p_peer *peer,
				     struct hmm_p2p_exporter *exp,
				     enum hmm_p2p_reason reason,
				     enum pci_p2pdma_map_type type)
{
	struct hmm_p2p_pair *pair, *new;

	scoped_guard(mutex, &hmm_p2p_pairs_lock)
		pair = pair_find(peer, exp);
	if (pair)
		return pair;
	new = hmm_p2p_pair_alloc();
	if (!new)
		return NULL;
	scoped_guard(mutex, &hmm_p2p_pairs_lock) {
		pair = pair_find(peer, exp);
		if (!pair)
			pair_add(new, peer, exp, reason, type);
	}
	if (!pair)
		return new;
	/* Another mirror was first. */
	pair_free(new);
	return pair;
}

/*
 * hmm_p2p_pair_create - a peer and an exporter meet: ask, and make them a pair
 * @peer: the importer
 * @exp: does not get past draining meanwhile, so its provider is there
 *
 * Without memory for a pair the peer has no alias for a while, %HMM_P2P_NO_PAIR, and its
 * faults bring pages to RAM: what works without hmm_p2p does not fail because of it.
 * Not by the pair, since there is none, but by the peer: other exporters wait, too.
 *
 * Context: May sleep; no mmap_lock, so that nobody waits for it behind the allocation.
 */
void hmm_p2p_pair_create(struct hmm_p2p_peer *peer, struct hmm_p2p_exporter *exp)
{
	enum hmm_p2p_reason reason = HMM_P2P_REACHABLE;
	enum pci_p2pdma_map_type type = PCI_P2PDMA_MAP_UNKNOWN;
	struct hmm_p2p_pair *pair = NULL;

	/* Software needs a mapping for the CPU, which each window says. */
	if (peer->dev)
		reason = hmm_p2p_check_reach(exp, peer->dev, &type);
	trace_hmm_p2p_reach(exp->desc.name, peer->importer->name, reason);

	if (!xa_reserve(&peer->pairs, exp->id, GFP_KERNEL))
		pair = pair_get(peer, exp, reason, type);
	if (!pair) {
		WRITE_ONCE(peer->meet_after, jiffies + MEET_AGAIN);
		return;
	}
	mutex_lock(&hmm_p2p_pairs_lock);
	if (xa_load(&peer->pairs, exp->id))
		pair_put(pair);		/* another fault of this mirror was here first */
	else
		xa_store(&peer->pairs, exp->id, pair, GFP_NOWAIT);	/* it is reserved */
	mutex_unlock(&hmm_p2p_pairs_lock);
}

/*
 * hmm_p2p_quarantine - name those who hold a window that they must not hold
 * @window: every notifier has been called, and no alias is handed out any more
 *
 * Reads maps without their importer's lock: an entry that says that it holds an
 * alias in this window cannot be on its way to or from there, all of that is over.
 */
void hmm_p2p_quarantine(struct hmm_p2p_window *window)
{
	struct hmm_p2p_exporter *exp = window->exp;
	struct hmm_p2p_importer *importer;
	struct hmm_p2p_peer *peer;

	mutex_lock(&hmm_p2p_pairs_lock);
	list_for_each_entry(importer, &hmm_p2p_importers, node) {
		list_for_each_entry(peer, &importer->peers, node) {
			if (!hmm_p2p_map_holds(peer->map, window))
				continue;
			pr_err("hmm_p2p: %s does not let go of window %lu of %s: quarantined\n",
			       importer->name, hmm_p2p_window_index(window),
			       exp->desc.name);
			trace_hmm_p2p_quarantine(exp->desc.name, importer->name,
						 hmm_p2p_window_index(window), 0);
			/* It may hold several windows, and counts once. */
			if (!importer->quarantined)
				hmm_p2p_count(exp, HMM_P2P_C_QUARANTINES, 1);
			WRITE_ONCE(importer->quarantined, true);
			break;
		}
	}
	mutex_unlock(&hmm_p2p_pairs_lock);
}

/*
 * For the watchdog, which has named a callback by its function: the importers that have
 * memory of @exp mapped in @mm, one of which may be the device.
 */
void hmm_p2p_report_holders(struct hmm_p2p_exporter *exp, struct mm_struct *mm)
{
	struct hmm_p2p_pair *pair;

	mutex_lock(&hmm_p2p_pairs_lock);
	list_for_each_entry(pair, &exp->pairs, node) {
		u64 held = hmm_p2p_pair_held(pair);

		if (held && pair->mm == mm)
			pr_err("hmm_p2p: %s:   %s, for process %d: %llu pages\n",
			       exp->desc.name, pair->importer->name, pair->pid, held);
	}
	mutex_unlock(&hmm_p2p_pairs_lock);
}

/**
 * hmm_p2p_invalidate_begin - an importer's invalidate callback begins to let go
 * @map: the importer's map
 *
 * Optional: it is how the pair knows how long that took.  Costs nothing for a map
 * that holds no alias.
 *
 * Context: Under the lock that the callback takes.
 */
void hmm_p2p_invalidate_begin(struct hmm_dma_map *map)
{
	struct hmm_p2p_map *m = map->peer;

	if (!m || !m->held)
		return;
	m->dropped = 0;
	m->dropped_pair = NULL;
	m->began = local_clock();
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_invalidate_begin, "HMM_P2P");

/* The pairs of an invalidation in which there is more than one. */
#define PAIR_DROPPED	XA_MARK_0

/*
 * For hmm_p2p_map_put(), while an invalidation is timed: the entry was of another pair
 * than the one before.
 */
void hmm_p2p_set_dropped_pair(struct hmm_p2p_map *m)
{
	struct hmm_p2p_peer *peer = m->peer;

	if (m->dropped_pair) {
		xa_set_mark(&peer->pairs, m->dropped_pair->exp->id, PAIR_DROPPED);
		xa_set_mark(&peer->pairs, m->pair->exp->id, PAIR_DROPPED);
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
 * hmm_p2p_invalidate_end - an importer's invalidate callback has let go
 * @map: the importer's map
 *
 * Counts for each exporter whose memory was among what was let go of.
 *
 * Context: As hmm_p2p_invalidate_begin().
 */
void hmm_p2p_invalidate_end(struct hmm_dma_map *map)
{
	struct hmm_p2p_map *m = map->peer;
	struct hmm_p2p_pair *pair;
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
	xa_for_each_marked(&m->peer->pairs, id, pair, PAIR_DROPPED) {
		xa_clear_mark(&m->peer->pairs, id, PAIR_DROPPED);
		pair_invalidated(pair, m->dropped, ns);
	}
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_invalidate_end, "HMM_P2P");

static int __init hmm_p2p_pairs_init(void)
{
	/* Teach lockdep what it would see only if somebody allocated, and memory was short. */
	if (IS_ENABLED(CONFIG_LOCKDEP)) {
		fs_reclaim_acquire(GFP_KERNEL);
		mutex_lock(&hmm_p2p_pairs_lock);
		mutex_unlock(&hmm_p2p_pairs_lock);
		fs_reclaim_release(GFP_KERNEL);
	}
	return 0;
}
subsys_initcall(hmm_p2p_pairs_init);
