// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Copies
 *
 * A copy begins when the pages of a batch are locked and have destinations.  It ends when the
 * driver has copied them.  This file does what precedes the driver's copy op, waits for the end
 * of the copy, and checks whether its data can be used.
 *
 *	flush		what peers have written to the pages arrives first (flush.c)
 *	map		what is copied, for a device that copies by DMA (dma.c)
 *	copy op		the driver's; not for a device that is dead
 *	wait		for hmm_p2p_copy_done(), but not for ever if the device dies
 *	unmap		and map, copy and wait for the next part, if not all could be mapped
 *	is sound?	no device has gone under the copy
 *
 * If the task stops waiting for a copy, the copy is abandoned.  The core keeps its batch, and the
 * pages that it may still write to, until the driver says that the copy has ended.
 */
#include <kunit/visibility.h>
#include <linux/completion.h>
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "internal.h"

static DEFINE_MUTEX(abandoned_lock);
LIST_HEAD(hmm_p2p_abandoned);		/* abandoned_lock; batches */
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_abandoned);

static bool copy_has_device(struct hmm_p2p_exporter *exp)
{
	return !hmm_p2p_is_dead(exp) && !hmm_p2p_is_lost(exp);
}

/* Whether the copied data means anything: a device may have gone during the copy. */
bool hmm_p2p_copy_is_sound(struct hmm_p2p_batch *b)
{
	return copy_has_device(b->engine->exp) &&
	       (b->job.dir != HMM_P2P_FROM_PEER || copy_has_device(b->from));
}

/* The other device's pages are the source: the writes of peers to them must arrive first. */
static void flush_peer_source(struct hmm_p2p_batch *b)
{
	struct hmm_p2p_exporter *from = b->from;
	u32 after = hmm_p2p_flush_none(from);
	unsigned int i;

	for (i = 0; i < b->job.nr; i++) {
		unsigned long pfn = b->copies[i].peer & ~HMM_PFN_FLAGS;
		struct hmm_p2p_window *window = hmm_p2p_window_of_alias(pfn);

		/* All of a piece is in one window, which stays open: the pages are locked. */
		hmm_p2p_flush_need(from, hmm_p2p_window_begin(window), 1, &after);
	}
	hmm_p2p_flush_after(from, after);
}

/*
 * This device's pages are the source or the destination.  Another process may have freed a
 * destination a moment ago.  Writes of that process's peers must not land on top of the copy.
 */
static void flush_device_pages(struct hmm_p2p_batch *b)
{
	struct hmm_p2p_exporter *exp = b->engine->exp;
	u32 after = hmm_p2p_flush_none(exp);
	unsigned int i;

	for (i = 0; i < b->job.nr; i++) {
		const struct hmm_p2p_copy *c = &b->copies[i];

		hmm_p2p_flush_need(exp, PHYS_PFN(hmm_p2p_page_offset(c->dev_page)),
				   c->nr_pages, &after);
	}
	hmm_p2p_flush_after(exp, after);
}

/* Map what is left, or as much of it as can be mapped, and call the copy op. */
static void copy_start_part(struct hmm_p2p_batch *b)
{
	const struct hmm_p2p_engine_desc *desc = &b->engine->desc;
	struct hmm_p2p_exporter *exp = b->engine->exp;

	b->in_flight = false;
	if (desc->dma_copies) {
		b->job.error = hmm_p2p_dma_map(b);
		if (b->job.error)
			return;
	}
	/* If the device is dead, the copy fails: its driver must not be called. */
	b->job.error = -EIO;
	if (hmm_p2p_device_enter(exp)) {
		b->job.error = desc->ops->copy(desc->priv, &b->job);
		hmm_p2p_device_exit(exp);
	}
	/* If so, hmm_p2p_copy_done() brings the result. */
	b->in_flight = b->job.error == -EINPROGRESS;
}

/* Start the copy of a batch.  Its pages are locked and have destinations. */
void hmm_p2p_copy_start(struct hmm_p2p_batch *b)
{
	struct hmm_p2p_exporter *exp = b->engine->exp;

	b->job.error = 0;
	if (!b->job.nr)
		return;
	if (exp->let_go)
		flush_device_pages(b);
	if (b->job.dir == HMM_P2P_FROM_PEER && b->from->let_go)
		flush_peer_source(b);
	copy_start_part(b);
}

/* Let go of the pages that the copy might have written to. */
static void copy_put_destinations(struct hmm_p2p_batch *b)
{
	bool to_ram = b->job.dir == HMM_P2P_TO_RAM;
	unsigned int i, j, n, left;

	lockdep_assert_held(&abandoned_lock);
	if (!b->kept)
		return;
	b->kept = false;
	for (i = 0; i < b->job.nr; i++) {
		const struct hmm_p2p_copy *c = &b->copies[i];

		for (j = 0; j < c->nr_pages; j += n) {
			struct page *page = (to_ram ? c->ram_page : c->dev_page) + j;
			struct folio *folio = page_folio(page);

			left = folio_nr_pages(folio) - folio_page_idx(folio, page);
			n = min(left, c->nr_pages - j);
			/* The rest of it has a piece of its own: see batch_add_peer_copy(). */
			if (n < left)
				continue;
			/* As batch_drop_destination() has left it. */
			if (to_ram)
				folio_unlock(folio);
			folio_put(folio);
		}
	}
}

/* Free an abandoned batch.  Neither the task nor the driver has it any more. */
static void hmm_p2p_copy_reap(struct work_struct *work)
{
	struct hmm_p2p_batch *b = container_of(work, struct hmm_p2p_batch, reap);

	/* The mapping ends before the pages that the copy wrote to are free. */
	hmm_p2p_dma_end_late(b);
	mutex_lock(&abandoned_lock);
	copy_put_destinations(b);
	list_del(&b->node);
	mutex_unlock(&abandoned_lock);
	kvfree(b->dma);
	kvfree(b);
}

/* Whether the copy writes to the memory of a dead device, which is harmless. */
static bool copy_writes_to_dead(struct hmm_p2p_batch *b)
{
	/* Device pages that are kept keep the engine: see hmm_p2p_engine_unregister(). */
	return b->kept && b->job.dir == HMM_P2P_FROM_PEER &&
	       READ_ONCE(b->engine->exp->dying);
}

/*
 * hmm_p2p_copy_leave - give a batch with an abandoned copy away
 * @b: the batch, which is the driver's from here on
 *
 * The driver may end the copy at any time, also while the task still restores the pages.  The
 * task or the driver, whichever comes second, frees the batch:
 *
 *	task				driver
 *	  copy_wait() gives up
 *	  restores the pages
 *	  RUNNING -> ABANDONED
 *					  ABANDONED -> ENDED
 *					  queues the reap
 * or
 *	  copy_wait() gives up
 *					  RUNNING -> ENDED
 *	  restores the pages
 *	  finds ENDED			  completes job->done
 *	  waits for that, and reaps
 */
void hmm_p2p_copy_leave(struct hmm_p2p_batch *b)
{
	INIT_WORK(&b->reap, hmm_p2p_copy_reap);
	mutex_lock(&abandoned_lock);
	list_add_tail(&b->node, &hmm_p2p_abandoned);
	/* Or hmm_p2p_copy_forget() finds the batch in the list: it takes the lock later. */
	if (copy_writes_to_dead(b))
		copy_put_destinations(b);
	mutex_unlock(&abandoned_lock);
	/* Pairs with the xchg() in hmm_p2p_copy_done(). */
	if (cmpxchg(&b->job.state, HMM_P2P_COPY_RUNNING, HMM_P2P_COPY_ABANDONED) ==
	    HMM_P2P_COPY_RUNNING)
		return;
	wait_for_completion(&b->job.done);
	hmm_p2p_copy_reap(&b->reap);
}

/*
 * hmm_p2p_copy_forget - free the pages of a dead device that are kept for abandoned copies
 * @engine: of the device; it goes
 *
 * memunmap_pages() waits for these pages, and a dead device may never end its copies.  No batch
 * that needs the engine is left.
 */
void hmm_p2p_copy_forget(struct hmm_p2p_engine *engine)
{
	struct hmm_p2p_batch *b;

	mutex_lock(&abandoned_lock);
	list_for_each_entry(b, &hmm_p2p_abandoned, node)
		if (b->engine == engine && copy_writes_to_dead(b))
			copy_put_destinations(b);
	mutex_unlock(&abandoned_lock);
}

/*
 * hmm_p2p_copy_nr_kept - how much of a device waits for copies that are late
 * @engine: of the device
 *
 * Return: the number of its pages that are kept for abandoned copies.
 */
unsigned long hmm_p2p_copy_nr_kept(struct hmm_p2p_engine *engine)
{
	struct hmm_p2p_batch *b;
	unsigned long nr = 0;

	mutex_lock(&abandoned_lock);
	list_for_each_entry(b, &hmm_p2p_abandoned, node)
		if (b->engine == engine && b->kept && b->job.dir != HMM_P2P_TO_RAM)
			nr += b->job.nr_pages;
	mutex_unlock(&abandoned_lock);
	return nr;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_copy_nr_kept);

/**
 * hmm_p2p_copy_done - a copy that was under way has ended
 * @job: of the copy op that returned -EINPROGRESS, and which must not be touched
 *	afterwards
 * @error: 0, or a negative errno as the op could have returned
 *
 * The driver calls it once for every call of the op that returned -EINPROGRESS, when the device
 * does not write to the destination any more.  The call may come before the op has returned.  A
 * driver that finds its device dead calls it with an error, before hmm_p2p_dead().
 *
 * A copy may be late.  If a device that takes part in it is dead (see hmm_p2p_dead()), its task
 * stops waiting.  The driver is not told, and makes this call all the same.  @job stays until
 * then, even if the engine has been unregistered meanwhile.  Pages and aliases of the dead
 * device that @job names do not stay: the driver uses none of them later than five seconds after
 * the death.  No reset waits for such a copy.
 *
 * The DMA addresses of a copy that no task waits for any more do not stay either.  The core
 * unmaps addresses that the device reads from at once.  It unmaps addresses that the device
 * writes to after this call, or in hmm_p2p_engine_unregister() if that comes first.  Behind an
 * IOMMU, a device that goes on then causes faults, and does not reach other memory.  Without an
 * IOMMU, bounce buffers of a copy that has not ended by then stay in use for ever.
 *
 * Why a call that completes the job, and no dma_fence: one task waits for a copy, and no other
 * task or driver ever sees it, so there is nothing to share.  That task waits with mmap_lock
 * and page locks, and reports a copy that is late; a dma_fence is a promise to end in finite
 * time, on which memory reclaim may wait.  If the hardware has fences, its driver calls this from
 * a callback of dma_fence_add_callback().
 *
 * After this call, the core frees the memory that it kept for the copy.  A copy for which this
 * call never comes keeps that memory for ever.  If the memory is that of a device which is
 * alive, hmm_p2p_engine_unregister() of that device waits for the call.
 *
 * Context: Any.
 */
void hmm_p2p_copy_done(struct hmm_p2p_copy_job *job, int error)
{
	struct hmm_p2p_batch *b = container_of(job, struct hmm_p2p_batch, job);

	job->result = error;
	/* Pairs with the cmpxchg() in hmm_p2p_copy_leave(). */
	if (xchg(&job->state, HMM_P2P_COPY_ENDED) == HMM_P2P_COPY_ABANDONED)
		queue_work(system_dfl_wq, &b->reap);
	else
		complete(&job->done);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_copy_done, "HMM_P2P");

/* Whether a device of the copy died so long ago that its driver has to have ended the copy. */
static bool copy_is_overdue(struct hmm_p2p_batch *b)
{
	return hmm_p2p_is_overdue(b->engine->exp) ||
	       (b->job.dir == HMM_P2P_FROM_PEER && hmm_p2p_is_overdue(b->from));
}

/*
 * Wait for the copy that is under way.
 *
 * Return: false if the copy is abandoned, because a device of it is dead and its driver has not
 * ended the copy.  The driver still has the job of the batch, so the batch takes no other copy.
 * hmm_p2p_copy_leave() gives it away.
 */
static bool copy_wait(struct hmm_p2p_batch *b)
{
	unsigned long began = jiffies, report = began + 10 * HZ;
	const char *name = b->engine->exp->desc.name;

	while (!wait_for_completion_timeout(&b->job.done, HZ)) {
		if (copy_is_overdue(b)) {
			WARN(1, "hmm_p2p: %s: a copy has not ended for %u ms, and a device of it is dead\n",
			     name, jiffies_to_msecs(jiffies - began));
			b->abandoned = true;
			return false;
		}
		if (time_after(jiffies, report)) {
			pr_warn("hmm_p2p: %s: a copy has not ended for %u ms\n", name,
				jiffies_to_msecs(jiffies - began));
			report = jiffies + 10 * HZ;
		}
	}
	return true;
}

/* Whether a part of the copy has not been mapped.  What the CPU copies has no parts. */
static bool copy_has_part_left(struct hmm_p2p_batch *b)
{
	return b->engine->desc.dma_copies && b->dma_next < b->job.nr;
}

/*
 * hmm_p2p_copy_is_in_parts - whether a batch will need more of the DMA API
 * @b: a batch, after hmm_p2p_copy_start()
 *
 * Another batch of the task must not keep what this one may have to wait for.
 */
bool hmm_p2p_copy_is_in_parts(struct hmm_p2p_batch *b)
{
	return b->job.nr && (b->dma_short || copy_has_part_left(b));
}

/*
 * Give other users of the DMA API a tick to leave something for the batch.
 *
 * Return: 0, -EBUSY after @deadline, -EIO if the device is dead, or -EINTR after a fatal signal.
 */
static int copy_wait_for_dma(struct hmm_p2p_batch *b, unsigned long deadline)
{
	int error = 0;

	if (!copy_has_device(b->engine->exp))
		error = -EIO;
	else if (fatal_signal_pending(current))
		error = -EINTR;
	if (error) {
		b->dma_short = false;
		return error;
	}
	if (!time_before(jiffies, deadline))
		return -EBUSY;
	schedule_timeout_uninterruptible(1);
	return 0;
}

/*
 * hmm_p2p_copy_end - wait for the copy of a batch, and copy the parts that are left
 * @b: after hmm_p2p_copy_start()
 *
 * Only a copy by DMA has parts: see dma.c.  If there are no addresses or bounce buffers for a
 * single page, the function tries again with each tick.  It gives up after a second without
 * progress: the pages are locked meanwhile.
 *
 * Return: 0 if all of it has been copied, or the error of the copy op, of hmm_p2p_dma_map() or
 * of a copy that was abandoned.
 */
int hmm_p2p_copy_end(struct hmm_p2p_batch *b)
{
	unsigned long patience = msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	unsigned long deadline = jiffies + patience;
	int error;

	for (;;) {
		error = b->job.error;
		if (b->in_flight)
			error = copy_wait(b) ? b->job.result : -EIO;
		if (b->dma)
			hmm_p2p_dma_end(b);
		if (!b->dma_short && (error || !copy_has_part_left(b)))
			return error;
		if (!b->dma_short) {
			deadline = jiffies + patience;
		} else {
			error = copy_wait_for_dma(b, deadline);
			if (error)
				return error;
		}
		b->job.alone = true;
		b->job.state = HMM_P2P_COPY_RUNNING;
		reinit_completion(&b->job.done);
		copy_start_part(b);
	}
}
