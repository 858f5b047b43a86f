// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Watchdog
 *
 * mm calls the invalidate callbacks of importers synchronously, so nothing can
 * bound the time that one takes; but the core can name it.  A task that is about to
 * fire notifiers for an exporter's pages enters a watch, on its stack, and leaves it
 * afterwards.
 *
 * In between, other things may take long that no importer causes: the kernel drains the LRU
 * batches of all CPUs, waits for an anon_vma, or runs another task.  So mm/mmu_notifier.c tells
 * which callback the task is in, and the watchdog measures the time of that callback only:
 *
 *	watch_begin		watched, and in no callback
 *	  first callback	timed
 *	  second callback	timed from its own beginning
 *	  anything else		watched, and in no callback
 *	watch_end
 *
 * The watches are in lists by a hash of their task, each with a lock and a cache line of its
 * own.  A callback concerns the watches of the task that it is called in and no others, so a
 * task without a watch looks at the head of one list, finds it empty, and takes no lock.  Two
 * tasks with watches share a lock only if their hashes, out of 64, are equal.
 *
 * A work item looks at the watches while there are any, at most once per limit, and reports all
 * callbacks that are late by then.  A watch that is entered and left costs a list operation, and so
 * does a callback in it.
 */
#include <kunit/visibility.h>
#include <linux/jiffies.h>
#include <linux/mmu_notifier.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>

#include <trace/events/hmm_p2p.h>

#include "internal.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "hmm_p2p."

static unsigned int invalidate_limit_ms = 1000;
module_param(invalidate_limit_ms, uint, 0644);
MODULE_PARM_DESC(invalidate_limit_ms,
		 "Milliseconds after which an importer's callback that has not returned is reported (1000)");

/* The locks are innermost; none is taken inside another. */
struct hmm_p2p_watch_list hmm_p2p_watches[] = {
	[0 ... (1 << HMM_P2P_WATCH_BITS) - 1] = {
		.lock = __SPIN_LOCK_UNLOCKED(watch_lock),
	},
};

static unsigned long limit(void)
{
	return max(msecs_to_jiffies(READ_ONCE(invalidate_limit_ms)), 1UL);
}

static struct hmm_p2p_watch_list *list_of_current(void)
{
	return &hmm_p2p_watches[hmm_p2p_watch_hash(current)];
}

/* Find a late callback in @list that was not reported, and mark it as reported. */
static bool take_late(struct hmm_p2p_watch_list *list, struct hmm_p2p_watch *late)
{
	struct hmm_p2p_watch *watch;

	lockdep_assert_held(&list->lock);
	hlist_for_each_entry(watch, &list->head, node) {
		if (!watch->callback || watch->reported ||
		    time_before(jiffies, watch->start + limit()))
			continue;
		watch->reported = true;
		/* The watch keeps the exporter, but may end while it is reported. */
		kref_get(&watch->exp->kref);
		*late = *watch;
		return true;
	}
	return false;
}

static void report_late(const struct hmm_p2p_watch *late)
{
	unsigned int ms = jiffies_to_msecs(jiffies - late->start);
	struct hmm_p2p_exporter *exp = late->exp;
	char callback[64];

	snprintf(callback, sizeof(callback), "%ps", late->callback);
	pr_err("hmm_p2p: %s: %s has not returned for %u ms\n", exp->desc.name, callback,
	       ms);
	trace_hmm_p2p_late(exp->desc.name, callback, 0, ms);
	hmm_p2p_count(exp, HMM_P2P_C_LATE, 1);
	hmm_p2p_report_holders(exp, late->mm);
}

/* Report all late callbacks in @list.  Return: true if it has watches. */
static bool report_all_late(struct hmm_p2p_watch_list *list)
{
	struct hmm_p2p_watch late;
	bool found, again;

	do {
		/*
		 * The lock is taken for an empty list, too: a task that adds a watch afterwards
		 * then sees that the work is not pending any more, and queues it.
		 */
		spin_lock(&list->lock);
		found = take_late(list, &late);
		again = !hlist_empty(&list->head);
		spin_unlock(&list->lock);
		if (found) {
			report_late(&late);
			hmm_p2p_exporter_put(late.exp);
		}
	} while (found);
	return again;
}

static void hmm_p2p_watchdog(struct work_struct *work)
{
	bool again = false;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(hmm_p2p_watches); i++)
		again |= report_all_late(&hmm_p2p_watches[i]);
	if (again)
		queue_delayed_work(system_dfl_wq, to_delayed_work(work), limit());
}

static DECLARE_DELAYED_WORK(watchdog, hmm_p2p_watchdog);

/*
 * hmm_p2p_watch_begin - watch the calling task, which is about to call notifiers
 * @watch: on the caller's stack, until hmm_p2p_watch_end()
 * @exp: the exporter of the pages; the caller keeps it
 */
void hmm_p2p_watch_begin(struct hmm_p2p_watch *watch, struct hmm_p2p_exporter *exp)
{
	struct hmm_p2p_watch_list *list = list_of_current();

	*watch = (struct hmm_p2p_watch) {
		.exp = exp,
		.task = current,
	};
	spin_lock(&list->lock);
	hlist_add_head(&watch->node, &list->head);
	spin_unlock(&list->lock);
	if (!delayed_work_pending(&watchdog))
		queue_delayed_work(system_dfl_wq, &watchdog, limit());
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_watch_begin);

/* hmm_p2p_watch_end - undo hmm_p2p_watch_begin(), in the same task */
void hmm_p2p_watch_end(struct hmm_p2p_watch *watch)
{
	struct hmm_p2p_watch_list *list = list_of_current();

	spin_lock(&list->lock);
	hlist_del(&watch->node);
	spin_unlock(&list->lock);
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_watch_end);

/* The op that mn_itree_invalidate() calls, or mn_itree_finish_pass() if @finish. */
static const void *callback_of(const struct mmu_interval_notifier *notifier, bool finish)
{
	const struct mmu_interval_notifier_ops *ops = notifier->ops;

	if (finish)
		return ops->invalidate_finish;
	return ops->invalidate_start ? (void *)ops->invalidate_start : (void *)ops->invalidate;
}

/* The rest of hmm_p2p_watch_callback(): the list of the task is not empty. */
void __hmm_p2p_watch_callback(const struct mmu_interval_notifier *notifier, bool finish)
{
	struct hmm_p2p_watch_list *list = list_of_current();
	struct hmm_p2p_watch *watch;

	spin_lock(&list->lock);
	hlist_for_each_entry(watch, &list->head, node) {
		if (watch->task != current)
			continue;
		watch->callback = notifier ? callback_of(notifier, finish) : NULL;
		watch->mm = notifier ? notifier->mm : NULL;
		watch->start = jiffies;
		watch->reported = false;
	}
	spin_unlock(&list->lock);
}
