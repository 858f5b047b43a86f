// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Watchdog
 *
 * mm calls the invalidate callbacks of importers synchronously, so nothing can
 * bound the time that one takes; but it can be said whose it is.  Whoever is about
 * to fire notifiers for an exporter's pages enters a watch, on its stack, and
 * leaves it afterwards.  A work item looks at the entries while there are any, at
 * most once per limit: a watch that is entered and left costs a list operation.
 */
#include <linux/jiffies.h>
#include <linux/moduleparam.h>

#include "internal.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "hmm_p2p."

static unsigned int invalidate_limit_ms = 1000;
module_param(invalidate_limit_ms, uint, 0644);
MODULE_PARM_DESC(invalidate_limit_ms,
		 "Milliseconds after which an invalidation that has not returned is reported (1000)");

static unsigned long limit(void)
{
	return max(msecs_to_jiffies(READ_ONCE(invalidate_limit_ms)), 1UL);
}

static void hmm_p2p_watchdog(struct work_struct *work)
{
	struct hmm_p2p_exporter *exp = container_of(to_delayed_work(work),
						    struct hmm_p2p_exporter,
						    watchdog);
	struct hmm_p2p_watch *watch, *late = NULL;
	struct mm_struct *mm = NULL;
	unsigned int ms = 0;
	bool again;

	spin_lock(&exp->watch_lock);
	list_for_each_entry(watch, &exp->watches, node) {
		if (watch->reported ||
		    time_before(jiffies, watch->start + limit()))
			continue;
		late = watch;
		mm = watch->mm;
		ms = jiffies_to_msecs(jiffies - watch->start);
		break;
	}
	again = !list_empty(&exp->watches);
	spin_unlock(&exp->watch_lock);

	if (late && hmm_p2p_name_holders(exp, mm, ms)) {
		spin_lock(&exp->watch_lock);
		/* It may be over by now, and its stack somebody else's. */
		list_for_each_entry(watch, &exp->watches, node)
			if (watch == late)
				watch->reported = true;
		spin_unlock(&exp->watch_lock);
	}
	if (again)
		queue_delayed_work(system_dfl_wq, &exp->watchdog,
				   late ? 1 : limit());
}

void hmm_p2p_watch_init(struct hmm_p2p_exporter *exp)
{
	spin_lock_init(&exp->watch_lock);
	INIT_LIST_HEAD(&exp->watches);
	INIT_DELAYED_WORK(&exp->watchdog, hmm_p2p_watchdog);
}

/* Nobody enters a watch any more. */
void hmm_p2p_watch_exit(struct hmm_p2p_exporter *exp)
{
	cancel_delayed_work_sync(&exp->watchdog);
}

/*
 * hmm_p2p_watch_begin - notifiers are about to be fired
 * @watch: on the caller's stack, until hmm_p2p_watch_end()
 * @exp: whose pages it is about
 * @mm: the address space, or NULL if that is not known
 */
void hmm_p2p_watch_begin(struct hmm_p2p_watch *watch,
			 struct hmm_p2p_exporter *exp, struct mm_struct *mm)
{
	*watch = (struct hmm_p2p_watch) {
		.exp = exp,
		.mm = mm,
		.start = jiffies,
	};
	spin_lock(&exp->watch_lock);
	list_add_tail(&watch->node, &exp->watches);
	spin_unlock(&exp->watch_lock);
	if (!delayed_work_pending(&exp->watchdog))
		queue_delayed_work(system_dfl_wq, &exp->watchdog, limit());
}

void hmm_p2p_watch_end(struct hmm_p2p_watch *watch)
{
	spin_lock(&watch->exp->watch_lock);
	list_del(&watch->node);
	spin_unlock(&watch->exp->watch_lock);
}
