// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Copies
 *
 * From when the pages of a batch are locked and have destinations until the driver has
 * copied them: what comes before its copy op, when the copy has ended, and whether it
 * means anything.
 *
 *	flush		what peers have written to the pages arrives first (flush.c)
 *	copy op		the driver's; not for a device that is dead
 *	wait		for hmm_p2p_copy_done(), but not for ever if the device dies
 *	is sound?	no device has gone under the copy
 */
#include <linux/completion.h>
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/kmemleak.h>
#include <linux/sched.h>

#include "internal.h"

static bool is_sound(struct hmm_p2p_exporter *exp)
{
	const struct hmm_p2p_exporter_desc *desc = &exp->desc;

	return !hmm_p2p_is_dead(exp) && (!desc->ops->lost || !desc->ops->lost(desc->priv));
}

/* Whether what was copied means anything: a device may have gone under the copy. */
bool hmm_p2p_copy_is_sound(struct hmm_p2p_batch *b)
{
	return is_sound(b->exp) &&
	       (b->job.dir != HMM_P2P_FROM_PEER || is_sound(b->from));
}

/* The pages of the other device are copied out: what peers wrote to them comes first. */
static void flush_peer_source(struct hmm_p2p_batch *b)
{
	struct hmm_p2p_exporter *from = b->from;
	u32 after = hmm_p2p_flush_none(from);
	unsigned int i;

	for (i = 0; i < b->job.nr; i++) {
		unsigned long pfn = b->copies[i].peer & ~HMM_PFN_FLAGS;
		struct hmm_p2p_window *window = hmm_p2p_window_of_alias(pfn);

		/* All of a piece is in one window, which stays open: the pages are locked. */
		hmm_p2p_flush_need(from, hmm_p2p_window_index(window) << from->window_order,
				   1, &after);
	}
	hmm_p2p_flush_after(from, after);
}

/*
 * The pages of this device are the source, or the destination.  A destination may have been
 * freed by another process a moment ago: what peers wrote for that process must not land on
 * top of the copy.
 */
static void flush_device_pages(struct hmm_p2p_batch *b)
{
	u32 after = hmm_p2p_flush_none(b->exp);
	unsigned int i;

	for (i = 0; i < b->job.nr; i++) {
		const struct hmm_p2p_copy *c = &b->copies[i];

		hmm_p2p_flush_need(b->exp, PHYS_PFN(hmm_p2p_page_offset(c->dev_page)),
				   c->nr_pages, &after);
	}
	hmm_p2p_flush_after(b->exp, after);
}

/* Start the copy of a batch, whose pages are locked and have destinations. */
void hmm_p2p_copy_start(struct hmm_p2p_batch *b)
{
	const struct hmm_p2p_exporter_desc *desc = &b->exp->desc;

	b->job.error = 0;
	if (!b->job.nr)
		return;
	if (b->exp->let_go)
		flush_device_pages(b);
	if (b->job.dir == HMM_P2P_FROM_PEER && b->from->let_go)
		flush_peer_source(b);
	/* There is nothing to copy any more, and nobody to ask. */
	b->job.error = -EIO;
	atomic_inc(&b->exp->copying);
	/* Counted before the look at the state: pairs with wait_for_copy_op(). */
	smp_mb__after_atomic();
	if (!hmm_p2p_is_dead(b->exp))
		b->job.error = desc->ops->copy(desc->priv, &b->job);
	atomic_dec(&b->exp->copying);
	/* From here on it is hmm_p2p_copy_done() that says what became of it. */
	b->in_flight = b->job.error == -EINPROGRESS;
}

/**
 * hmm_p2p_copy_done - a copy that was under way has ended
 * @job: of the copy op that returned -EINPROGRESS, and which must not be touched
 *	afterwards
 * @error: 0, or a negative errno as the op could have returned
 *
 * May come before the op has returned.  Comes for every such copy: a driver whose device
 * dies calls it, with an error, before hmm_p2p_dead().
 *
 * Context: Any.
 */
void hmm_p2p_copy_done(struct hmm_p2p_copy_job *job, int error)
{
	job->result = error;
	complete(&job->done);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_copy_done, "HMM_P2P");

/* Whether the copy has to do with a device whose driver had to end it by now. */
static bool copy_is_overdue(struct hmm_p2p_batch *b)
{
	return hmm_p2p_is_overdue(b->exp) ||
	       (b->job.dir == HMM_P2P_FROM_PEER && hmm_p2p_is_overdue(b->from));
}

/*
 * Wait for the copy that is under way.  Return: false if it was to end before
 * hmm_p2p_dead(), and has not.  Then nobody waits for it any more, and the batch, of
 * which the driver has the job, is never used again and never freed.
 */
bool hmm_p2p_copy_wait(struct hmm_p2p_batch *b)
{
	unsigned long began = jiffies, report = began + 10 * HZ;
	const char *name = b->exp->desc.name;

	while (!wait_for_completion_timeout(&b->job.done, HZ)) {
		if (copy_is_overdue(b)) {
			WARN(1, "hmm_p2p: %s: a copy has not ended for %u ms, of a device that is dead\n",
			     name, jiffies_to_msecs(jiffies - began));
			kmemleak_not_leak(b);
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
