// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Who is who
 *
 * Importers by name, their mirrors (peers), and the ledger: a line for each
 * (importer, exporter, mm) that ever met, with what one did with the other's memory,
 * and the answer to the question whether they can talk.
 *
 * A peer and an exporter meet once, outside the page walk.  From then on the walk
 * finds the line in the peer under the exporter's id.  Counters are per CPU: faults
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
 * Importers, peers and lines.  Nobody allocates memory under it: reclaim calls the callbacks
 * of importers, and all of them would wait for one that does not return.
 */
DEFINE_MUTEX(hmm_p2p_ledger_lock);
LIST_HEAD(hmm_p2p_importers);

/* How long a peer for which there was no line does not ask for one again. */
#define MEET_AGAIN	(HZ / 10)

/* Of the exporter: its own, what lines left behind, and the lines there are. */
u64 hmm_p2p_total_read(struct hmm_p2p_exporter *exp, unsigned int counter)
{
	struct hmm_p2p_line *line;
	u64 sum;

	mutex_lock(&hmm_p2p_ledger_lock);
	sum = hmm_p2p_sum(exp->counters, counter);
	list_for_each_entry(line, &exp->lines, node)
		sum += hmm_p2p_line_read(line, counter);
	mutex_unlock(&hmm_p2p_ledger_lock);
	return sum;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_total_read);

/* By device too: names can be changed while there are mirrors. */
static struct hmm_p2p_importer *importer_find(const char *name, struct device *dev)
{
	struct hmm_p2p_importer *importer;

	lockdep_assert_held(&hmm_p2p_ledger_lock);
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

	scoped_guard(mutex, &hmm_p2p_ledger_lock)
		importer = importer_find(name, dev);
	if (importer)
		return importer;
	new = importer_alloc(name, dev);
	if (!new)
		return NULL;
	scoped_guard(mutex, &hmm_p2p_ledger_lock) {
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
	lockdep_assert_held(&hmm_p2p_ledger_lock);
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
	mutex_lock(&hmm_p2p_ledger_lock);
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
	xa_init_flags(&peer->lines, XA_FLAGS_ACCOUNT);
	desc->map->peer->peer = peer;
	list_add_tail(&peer->node, &importer->peers);
	mutex_unlock(&hmm_p2p_ledger_lock);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_peer_init, "HMM_P2P");

static void line_free(struct hmm_p2p_line *line)
{
	free_percpu(line->counters);
	kfree(line);
}

static void line_put(struct hmm_p2p_line *line)
{
	struct hmm_p2p_exporter *exp = line->exp;
	unsigned int i;

	lockdep_assert_held(&hmm_p2p_ledger_lock);
	if (--line->users)
		return;
	list_del(&line->node);
	/* The exporter's totals never go back. */
	for (i = 0; i < HMM_P2P_NR_COUNTERS; i++)
		hmm_p2p_count(exp, i, hmm_p2p_line_read(line, i));
	mmdrop(line->mm);
	line_free(line);
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
	struct hmm_p2p_line *line;
	unsigned long id;

	if (WARN_ONCE(peer->map->peer->held,
		      "hmm_p2p: %s: mirror destroyed with %lu aliases mapped\n",
		      peer->importer->name, peer->map->peer->held))
		hmm_p2p_map_drop_all(peer->map);
	mutex_lock(&hmm_p2p_ledger_lock);
	peer->map->peer->peer = NULL;
	peer->map->peer->line = NULL;
	peer->map->peer->window = NULL;
	list_del(&peer->node);
	xa_for_each(&peer->lines, id, line)
		line_put(line);
	importer_put(peer->importer);
	mutex_unlock(&hmm_p2p_ledger_lock);
	xa_destroy(&peer->lines);
	mmdrop(peer->mm);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_peer_destroy, "HMM_P2P");

/* Visible so that tests can have it fail. */
VISIBLE_IF_KUNIT struct hmm_p2p_line *hmm_p2p_line_alloc(void)
{
	struct hmm_p2p_line *line;

	KUNIT_STATIC_STUB_REDIRECT(hmm_p2p_line_alloc);
	line = kzalloc_obj(*line, GFP_KERNEL_ACCOUNT);
	if (!line)
		return NULL;
	line->counters = alloc_percpu_gfp(struct hmm_p2p_counters, GFP_KERNEL_ACCOUNT);
	if (!line->counters) {
		kfree(line);
		return NULL;
	}
	return line;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_line_alloc);

static struct hmm_p2p_line *line_find(struct hmm_p2p_peer *peer,
				      struct hmm_p2p_exporter *exp)
{
	struct hmm_p2p_line *line;

	lockdep_assert_held(&hmm_p2p_ledger_lock);
	list_for_each_entry(line, &exp->lines, node) {
		if (line->importer == peer->importer && line->mm == peer->mm) {
			line->users++;
			return line;
		}
	}
	return NULL;
}

static void line_add(struct hmm_p2p_line *line, struct hmm_p2p_peer *peer,
		     struct hmm_p2p_exporter *exp, enum hmm_p2p_reason reason,
		     enum pci_p2pdma_map_type type)
{
	lockdep_assert_held(&hmm_p2p_ledger_lock);
	kref_get(&exp->kref);
	mmgrab(peer->mm);
	line->exp = exp;
	line->importer = peer->importer;
	line->mm = peer->mm;
	line->pid = peer->pid;
	line->reason = reason;
	line->type = type;
	line->translated = type == PCI_P2PDMA_MAP_THRU_HOST_BRIDGE &&
			   use_dma_iommu(peer->dev);
	line->users = 1;
	list_add_tail(&line->node, &exp->lines);
}

static struct hmm_p2p_line *line_get(struct hmm_p2p_peer *peer,
				     struct hmm_p2p_exporter *exp,
				     enum hmm_p2p_reason reason,
				     enum pci_p2pdma_map_type type)
{
	struct hmm_p2p_line *line, *new;

	scoped_guard(mutex, &hmm_p2p_ledger_lock)
		line = line_find(peer, exp);
	if (line)
		return line;
	new = hmm_p2p_line_alloc();
	if (!new)
		return NULL;
	scoped_guard(mutex, &hmm_p2p_ledger_lock) {
		line = line_find(peer, exp);
		if (!line)
			line_add(new, peer, exp, reason, type);
	}
	if (!line)
		return new;
	/* Another mirror was first. */
	line_free(new);
	return line;
}

/*
 * hmm_p2p_meet - a peer and an exporter meet: ask, and open a line
 * @peer: the importer
 * @exp: does not get past draining meanwhile, so its provider is there
 *
 * Without memory for a line the peer has no alias for a while, %HMM_P2P_NO_LINE, and its
 * faults bring pages to RAM: what works without hmm_p2p does not fail because of it.
 * Not by the line, since there is none, but by the peer: other exporters wait, too.
 *
 * Context: May sleep; no mmap_lock, so that nobody waits for it behind the allocation.
 */
void hmm_p2p_meet(struct hmm_p2p_peer *peer, struct hmm_p2p_exporter *exp)
{
	enum hmm_p2p_reason reason = HMM_P2P_REACHABLE;
	enum pci_p2pdma_map_type type = PCI_P2PDMA_MAP_UNKNOWN;
	struct hmm_p2p_line *line = NULL;

	/* Software needs a mapping for the CPU, which each window says. */
	if (peer->dev)
		reason = hmm_p2p_ask(exp, peer->dev, &type);
	trace_hmm_p2p_reach(exp->desc.name, peer->importer->name, reason);

	if (!xa_reserve(&peer->lines, exp->id, GFP_KERNEL))
		line = line_get(peer, exp, reason, type);
	if (!line) {
		WRITE_ONCE(peer->meet_after, jiffies + MEET_AGAIN);
		return;
	}
	mutex_lock(&hmm_p2p_ledger_lock);
	if (xa_load(&peer->lines, exp->id))
		line_put(line);		/* another fault of this mirror was here first */
	else
		xa_store(&peer->lines, exp->id, line, GFP_NOWAIT);	/* it is reserved */
	mutex_unlock(&hmm_p2p_ledger_lock);
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

	mutex_lock(&hmm_p2p_ledger_lock);
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
	mutex_unlock(&hmm_p2p_ledger_lock);
}

/*
 * For the watchdog, which has named a callback by its function: the importers that have
 * memory of @exp mapped in @mm, one of which may be the device.
 */
void hmm_p2p_name_holders(struct hmm_p2p_exporter *exp, struct mm_struct *mm)
{
	struct hmm_p2p_line *line;

	mutex_lock(&hmm_p2p_ledger_lock);
	list_for_each_entry(line, &exp->lines, node) {
		u64 held = hmm_p2p_line_held(line);

		if (held && line->mm == mm)
			pr_err("hmm_p2p: %s:   %s, for process %d: %llu pages\n",
			       exp->desc.name, line->importer->name, line->pid, held);
	}
	mutex_unlock(&hmm_p2p_ledger_lock);
}

/**
 * hmm_p2p_invalidate_begin - an importer's invalidate callback begins to let go
 * @map: the importer's map
 *
 * Optional: it is how the ledger knows how long that took.  Costs nothing for a map
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
	m->dropped_line = NULL;
	m->began = local_clock();
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_invalidate_begin, "HMM_P2P");

/* The lines of an invalidation in which there is more than one. */
#define LINE_DROPPED	XA_MARK_0

/*
 * For hmm_p2p_map_put(), while an invalidation is timed: the entry was of another line
 * than the one before.
 */
void hmm_p2p_note_dropped_line(struct hmm_p2p_map *m)
{
	struct hmm_p2p_peer *peer = m->peer;

	if (m->dropped_line) {
		xa_set_mark(&peer->lines, m->dropped_line->exp->id, LINE_DROPPED);
		xa_set_mark(&peer->lines, m->line->exp->id, LINE_DROPPED);
		m->dropped_lines = true;
	}
	m->dropped_line = m->line;
}

static void line_invalidated(struct hmm_p2p_line *line, unsigned long entries, s64 ns)
{
	u64 us = ns / NSEC_PER_USEC;

	hmm_p2p_line_count(line, HMM_P2P_C_INVALIDATIONS, 1);
	hmm_p2p_line_count(line, HMM_P2P_C_BUCKET +
			   min(us ? fls64(us) : 0, HMM_P2P_BUCKETS - 1), 1);
	hmm_p2p_note_max(&line->slowest, ns);
	trace_hmm_p2p_invalidate(line->exp->desc.name, line->importer->name, entries, ns);
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
	struct hmm_p2p_line *line;
	unsigned long id;
	s64 ns;

	if (!m || !m->began)
		return;
	/* local_clock() may go back a little between CPUs. */
	ns = max_t(s64, local_clock() - m->began, 0);
	m->began = 0;
	if (!m->dropped_lines) {
		if (m->dropped_line)
			line_invalidated(m->dropped_line, m->dropped, ns);
		return;
	}
	m->dropped_lines = false;
	xa_for_each_marked(&m->peer->lines, id, line, LINE_DROPPED) {
		xa_clear_mark(&m->peer->lines, id, LINE_DROPPED);
		line_invalidated(line, m->dropped, ns);
	}
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_invalidate_end, "HMM_P2P");

static int __init hmm_p2p_ledger_init(void)
{
	/* Teach lockdep what it would see only if somebody allocated, and memory was short. */
	if (IS_ENABLED(CONFIG_LOCKDEP)) {
		fs_reclaim_acquire(GFP_KERNEL);
		mutex_lock(&hmm_p2p_ledger_lock);
		mutex_unlock(&hmm_p2p_ledger_lock);
		fs_reclaim_release(GFP_KERNEL);
	}
	return 0;
}
subsys_initcall(hmm_p2p_ledger_init);
