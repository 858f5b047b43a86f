// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Windows
 *
 * Device memory becomes visible on the bus in windows.  If the BAR covers the memory,
 * registration opens all windows for good.  If not, a window opens when a peer first needs it.
 * If the BAR has no more room, the core revokes and closes another window for it.
 *
 * The core closes a window without references first: the one that lost its last reference, or
 * was opened, the longest ago.  If all windows have references, they take turns in the order
 * in which they came into use.  Nothing tells how busy a window is: an importer that maps
 * memory once and uses it all the time never looks again, so the last lookup means nothing.
 * So each window has its place in the BAR for as long as the others, and an importer that loses
 * one faults and waits for its next turn.
 *
 * exp->idle and exp->used have the open windows in these two orders.  A reference takes no
 * lock, so the lists are hints that reclaim corrects: a window on exp->idle that has got
 * references goes to the end of exp->used, and one that has lost its last reference comes
 * back, with exp->let_go_windows.
 *
 * Opening and closing sleep.  A state machine under exp->window_lock says which task may do
 * which step.  The steps themselves run without a lock, so that different windows open side by
 * side.  The page walk only reads the state.
 *
 * If the driver says -ENXIO, a window is INVISIBLE for good: no task tries to open it again, and
 * a peer gets its pages in RAM.
 *
 * Faults must not take each other's windows in turn for ever.  So a reclaim passes over a window
 * until its minimum residency is over, and over a window that has given an alias since the
 * reclaiming call began.  Such a window keeps its place in its list, and is first again as soon as
 * it may be taken.  A fault that finds no window to close brings its page to RAM.  The window that
 * it wanted is then not tried again for a while.
 *
 * A reclaim looks at a limited number of windows, since it holds exp->window_lock.  It begins with
 * the first ones of a list, so that the order holds for ever.  If none of these may be taken, it
 * looks at as many others, behind the place where the last such reclaim stopped.  So windows at the
 * head of the list that may never be taken do not hide the others.
 */
#include <kunit/visibility.h>
#include <linux/jiffies.h>
#include <linux/llist.h>
#include <linux/moduleparam.h>
#include <linux/sched/signal.h>
#include <linux/wait_bit.h>

#include <trace/events/hmm_p2p.h>

#include "internal.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "hmm_p2p."

static unsigned int window_residency_ms = 100;
module_param(window_residency_ms, uint, 0644);
MODULE_PARM_DESC(window_residency_ms,
		 "Milliseconds for which a window stays open after its last alias was handed out. A window that failed to open is not tried again for as long, and at least 100 ms (100)");

/*
 * How many windows a reclaim looks at that may not be taken now: at the head of each list, and as
 * many further on.  Visible so that tests need few windows.
 */
VISIBLE_IF_KUNIT unsigned int hmm_p2p_reclaim_looks = 32;
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_reclaim_looks);

/* How long a reclaim waits for pages of its victim that are locked. */
#define RECLAIM_TIMEOUT	(HZ / 10)

static bool older_than_residency(struct hmm_p2p_window *window)
{
	u32 residency = msecs_to_jiffies(READ_ONCE(window_residency_ms));

	return (u32)jiffies - READ_ONCE(window->used) >= residency;
}

/*
 * Return: true if it is time to try a window again that could not be opened.  Never at once,
 * whatever the parameter says: the fault that tried to open it has to see that it failed.
 */
static bool may_try_again(struct hmm_p2p_window *window)
{
	return older_than_residency(window) &&
	       (u32)jiffies - READ_ONCE(window->used) >= HZ / 10;
}

/* Return: true if the window may open, now or when another task is done with it. */
bool hmm_p2p_window_may_open(struct hmm_p2p_window *window)
{
	switch (READ_ONCE(window->state)) {
	case HMM_P2P_STUCK:
	case HMM_P2P_INVISIBLE:
		return false;
	case HMM_P2P_FAILED:
		return may_try_again(window);
	default:
		return true;
	}
}

/* Return: true if a task will change the state again soon. */
static bool is_busy_state(u32 state)
{
	return state == HMM_P2P_OPENING || state == HMM_P2P_REVOKING;
}

static void window_set(struct hmm_p2p_window *window,
		       enum hmm_p2p_window_state state)
{
	struct hmm_p2p_exporter *exp = window->exp;
	u32 old = window->state;

	lockdep_assert_held(&exp->window_lock);
	/* Pairs with the acquire in hmm_p2p_window_usable(). */
	smp_store_release(&window->state, state);
	list_del_init(&window->node);
	if (exp->on_demand && state == HMM_P2P_OPEN)
		list_add_tail(&window->node, &exp->idle.windows);
	/* Only the end of a busy state is waited for. */
	if (is_busy_state(old)) {
		/* Pairs with the barrier of wait_var_event(), before it reads the state. */
		smp_mb();
		wake_up_var(&window->state);
	}
	if (state == HMM_P2P_INVISIBLE)
		WRITE_ONCE(exp->nr_invisible, exp->nr_invisible + 1);
}

static void window_change(struct hmm_p2p_window *window,
			  enum hmm_p2p_window_state state)
{
	spin_lock(&window->exp->window_lock);
	window_set(window, state);
	spin_unlock(&window->exp->window_lock);
}

static u64 window_bytes(struct hmm_p2p_exporter *exp)
{
	return (u64)PAGE_SIZE << exp->window_order;
}

/* The first and the last byte of the memory that a window at @phys has. */
static phys_addr_t window_first_byte(struct hmm_p2p_window *window, phys_addr_t phys)
{
	return phys + PFN_PHYS(hmm_p2p_in_window(window->exp, hmm_p2p_window_begin(window)));
}

static phys_addr_t window_last_byte(struct hmm_p2p_window *window, phys_addr_t phys)
{
	unsigned long page = hmm_p2p_in_window(window->exp, hmm_p2p_window_end(window) - 1);

	return phys + PFN_PHYS(page + 1) - 1;
}

/* What is wrong with the address that the driver gives for a window, or NULL. */
static const char *window_map_defect(struct hmm_p2p_window *window, phys_addr_t phys)
{
	struct hmm_p2p_exporter *exp = window->exp;
	const struct range *aperture = &exp->desc.aperture;

	if (!phys)
		return "map->phys is missing";
	if (phys & (window_bytes(exp) - 1))
		return "map->phys is no multiple of the window size";
	if (phys >> (PMD_SHIFT + 32))
		return "map->phys is out of range";
	if (exp->on_demand &&
	    (window_first_byte(window, phys) < aperture->start ||
	     window_last_byte(window, phys) > aperture->end))
		return "map->phys is not in the aperture";
	return NULL;
}

/*
 * Ask the driver to open a window, and check its answer: a wrong address would send the writes
 * of peers to other memory.
 */
static int window_ask_driver(struct hmm_p2p_window *window)
{
	struct hmm_p2p_exporter *exp = window->exp;
	const struct hmm_p2p_exporter_desc *desc = &exp->desc;
	unsigned long index = hmm_p2p_window_index(window);
	struct hmm_p2p_window_map map = {};
	const char *defect;
	int ret;

	ret = desc->ops->open_window(desc->priv, index, &map);
	if (ret)
		return ret;
	ret = -EINVAL;
	defect = window_map_defect(window, map.phys);
	if (!defect) {
		window->kva = map.kva;
		ret = hmm_p2p_track_insert(window, map.phys >> PMD_SHIFT);
		if (ret == -EBUSY)
			defect = "map->phys is another window's";
	}
	if (!ret) {
		exp->alias_last = max(exp->alias_last, window_last_byte(window, map.phys));
		return 0;
	}
	if (defect)
		pr_err_ratelimited("hmm_p2p: %s: window %lu of %lu (each %#llx bytes) at %pa refused: %s\n",
				   desc->name, index, exp->nr_windows, window_bytes(exp),
				   &map.phys, defect);
	if (desc->ops->close_window)
		desc->ops->close_window(desc->priv, index);
	return ret;
}

/* Windows that are always visible: all that the bus shows are open. */
static int windows_open_all(struct hmm_p2p_exporter *exp)
{
	unsigned long i;
	int ret;

	for (i = 0; i < exp->nr_windows; i++) {
		ret = window_ask_driver(&exp->windows[i]);
		if (ret && ret != -ENXIO) {
			pr_err("hmm_p2p: %s: exporter refused: window %lu of %lu does not open: error %d\n",
			       exp->desc.name, i, exp->nr_windows, ret);
			goto err;
		}
		window_change(&exp->windows[i], ret ? HMM_P2P_INVISIBLE : HMM_P2P_OPEN);
	}
	if (exp->nr_invisible < exp->nr_windows || hmm_p2p_is_coherent(exp))
		return 0;
	pr_err("hmm_p2p: %s: exporter refused: none of %lu windows is visible\n",
	       exp->desc.name, exp->nr_windows);
	ret = -ENXIO;
err:
	while (i--)
		if (exp->windows[i].state == HMM_P2P_OPEN)
			hmm_p2p_track_erase(&exp->windows[i]);
	return ret;
}

/* At registration.  Windows on demand begin closed. */
int hmm_p2p_windows_init(struct hmm_p2p_exporter *exp)
{
	unsigned long i;

	for (i = 0; i < exp->nr_windows; i++) {
		exp->windows[i].exp = exp;
		INIT_LIST_HEAD(&exp->windows[i].node);
	}
	if (!exp->on_demand)
		return windows_open_all(exp);
	exp->alias_last = exp->desc.aperture.end;
	return 0;
}

static void window_close(struct hmm_p2p_window *window)
{
	const struct hmm_p2p_exporter_desc *desc = &window->exp->desc;

	hmm_p2p_track_erase(window);
	/* No peer has the window mapped, but writes may still be on their way to it. */
	hmm_p2p_flush_window(window);
	trace_hmm_p2p_close_window(desc->name, hmm_p2p_window_index(window), 0,
				   0);
	desc->ops->close_window(desc->priv, hmm_p2p_window_index(window));
	window_change(window, HMM_P2P_CLOSED);
}

/* Look after windows that were stuck.  The caller keeps the exporter.  Any context. */
void hmm_p2p_windows_settle(struct hmm_p2p_exporter *exp)
{
	kref_get(&exp->kref);
	if (!queue_work(system_dfl_wq, &exp->settle))
		hmm_p2p_exporter_put(exp);
}

/* For unregistering: only stuck windows still have aliases in use. */
void hmm_p2p_windows_close(struct hmm_p2p_exporter *exp)
{
	unsigned long i;

	for (i = 0; i < exp->nr_windows && exp->on_demand; i++)
		if (READ_ONCE(exp->windows[i].state) == HMM_P2P_OPEN)
			window_close(&exp->windows[i]);
}

/*
 * Forget the aliases.  A stuck window stays in the index and keeps the exporter: the put of its
 * last reference has to find it, and no other window may get its address.
 */
void hmm_p2p_windows_exit(struct hmm_p2p_exporter *exp)
{
	unsigned long i;

	spin_lock(&exp->window_lock);
	exp->gone = true;
	for (i = 0; i < exp->nr_windows; i++)
		if (exp->windows[i].state == HMM_P2P_STUCK)
			kref_get(&exp->kref);
	spin_unlock(&exp->window_lock);
	for (i = 0; i < exp->nr_windows; i++) {
		if (READ_ONCE(exp->windows[i].state) != HMM_P2P_OPEN)
			continue;
		hmm_p2p_track_erase(&exp->windows[i]);
		window_change(&exp->windows[i], HMM_P2P_CLOSED);
	}
	/* A window that became idle just now may have missed that the exporter is gone. */
	hmm_p2p_windows_settle(exp);
}

/* Move windows that lost their last reference since the last reclaim to the idle list. */
static void reclaim_collect_let_go(struct hmm_p2p_exporter *exp)
{
	struct llist_node *list = llist_reverse_order(llist_del_all(&exp->let_go_windows));
	struct hmm_p2p_window *window, *next;

	lockdep_assert_held(&exp->window_lock);
	llist_for_each_entry_safe(window, next, list, let_go_node) {
		/*
		 * From here on it is added again.  A full barrier: what was put without that
		 * is seen below.  Pairs with hmm_p2p_window_idle().
		 */
		xchg(&window->let_go, 0);
		if (window->state == HMM_P2P_OPEN)
			list_move_tail(&window->node, &exp->idle.windows);
	}
}

/* Return: true if an alias was handed out too recently.  Compares ages: times wrap around. */
static bool reclaim_is_too_early(struct hmm_p2p_window *window, u32 now, u32 since)
{
	return now - READ_ONCE(window->used) <= now - since || !older_than_residency(window);
}

/*
 * Look at some windows of a list, from *@node on.  *@node moves on behind them.  The mark leaves
 * the list if the look passes it.
 *
 * Return: the first window that may be closed, or NULL.
 */
static struct hmm_p2p_window *reclaim_look(struct hmm_p2p_exporter *exp,
					   struct hmm_p2p_window_list *list,
					   struct list_head **node, u32 since)
{
	unsigned int looks = 0;
	u32 now = jiffies;

	while (*node != &list->windows && looks < hmm_p2p_reclaim_looks) {
		struct hmm_p2p_window *window;
		struct list_head *this = *node;

		*node = this->next;
		if (this == &list->mark) {
			list_del_init(this);
			continue;
		}
		window = list_entry(this, struct hmm_p2p_window, node);
		/* Once for each time that it comes into use. */
		if (list == &exp->idle && atomic_read(&window->refs)) {
			list_move_tail(this, &exp->used.windows);
			continue;
		}
		if (!reclaim_is_too_early(window, now, since))
			return window;
		looks++;
	}
	return NULL;
}

/* The first window of a list that may be closed, or NULL: see the head of this file. */
static struct hmm_p2p_window *reclaim_first(struct hmm_p2p_exporter *exp,
					    struct hmm_p2p_window_list *list, u32 since)
{
	struct list_head *node = list->windows.next;
	struct hmm_p2p_window *window;

	lockdep_assert_held(&exp->window_lock);
	window = reclaim_look(exp, list, &node, since);
	if (window || node == &list->windows)
		return window;
	if (!list_empty(&list->mark) && list->mark.next != &list->windows)
		node = list->mark.next;
	window = reclaim_look(exp, list, &node, since);
	if (node != &list->mark)
		list_move_tail(&list->mark, node);
	return window;
}

/* The window to close for another one, or NULL: see the head of this file for the order. */
static struct hmm_p2p_window *reclaim_victim(struct hmm_p2p_exporter *exp, u32 since)
{
	struct hmm_p2p_window *victim;

	spin_lock(&exp->window_lock);
	reclaim_collect_let_go(exp);
	victim = reclaim_first(exp, &exp->idle, since);
	if (!victim)
		victim = reclaim_first(exp, &exp->used, since);
	if (victim)
		window_set(victim, HMM_P2P_REVOKING);
	spin_unlock(&exp->window_lock);
	return victim;
}

static bool reclaim(struct hmm_p2p_exporter *exp, u32 since)
{
	struct hmm_p2p_window *victim;

	/* Each window may take RECLAIM_TIMEOUT; a task that is killed does not go on. */
	while (!fatal_signal_pending(current) &&
	       (victim = reclaim_victim(exp, since))) {
		switch (hmm_p2p_revoke_window(victim, RECLAIM_TIMEOUT)) {
		case HMM_P2P_REVOKED:
			window_close(victim);
			hmm_p2p_count(exp, HMM_P2P_C_REVOKED, 1);
			hmm_p2p_count(exp, HMM_P2P_C_RECLAIMED, 1);
			return true;
		case HMM_P2P_HELD:
			/* Another task has its pages locked: count that as use. */
			WRITE_ONCE(victim->used, (u32)jiffies);
			window_change(victim, HMM_P2P_OPEN);
			break;
		case HMM_P2P_BROKEN:
			hmm_p2p_count(exp, HMM_P2P_C_REVOKED, 1);
			/* This task may not touch the window any more. */
			break;
		}
	}
	return false;
}

/*
 * hmm_p2p_window_open - open a window, or wait for the task that opens it
 * @window: of an exporter that does not go away meanwhile
 * @since: jiffies when the call began that needs it
 *
 * Context: May sleep; no mmap_lock, no page lock.
 *
 * Return: 0, after which the caller walks again, whatever the walk then finds, or -EINTR.
 */
int hmm_p2p_window_open(struct hmm_p2p_window *window, unsigned long since)
{
	struct hmm_p2p_exporter *exp = window->exp;
	int ret;

	spin_lock(&exp->window_lock);
	switch (window->state) {
	case HMM_P2P_OPENING:
	case HMM_P2P_REVOKING:
		spin_unlock(&exp->window_lock);
		ret = wait_var_event_killable(&window->state,
					      !is_busy_state(READ_ONCE(window->state)));
		return ret ? -EINTR : 0;
	case HMM_P2P_FAILED:
		if (!may_try_again(window))
			break;
		fallthrough;
	case HMM_P2P_CLOSED:
		window_set(window, HMM_P2P_OPENING);
		spin_unlock(&exp->window_lock);
		do {
			ret = window_ask_driver(window);
		} while (ret == -ENOSPC && !fatal_signal_pending(current) &&
			 reclaim(exp, since));
		trace_hmm_p2p_open_window(exp->desc.name,
					  hmm_p2p_window_index(window), 0, ret);
		if (!ret)
			hmm_p2p_count(exp, HMM_P2P_C_OPENED, 1);
		WRITE_ONCE(window->used, (u32)jiffies);
		/* A killed task must not mark the window FAILED for others. */
		window_change(window, !ret ? HMM_P2P_OPEN :
			      ret == -ENXIO ? HMM_P2P_INVISIBLE :
			      fatal_signal_pending(current) ? HMM_P2P_CLOSED :
							      HMM_P2P_FAILED);
		return 0;
	}
	spin_unlock(&exp->window_lock);
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_window_open);

/*
 * Stop handing out aliases of an open window.  Waits for another task that revokes it; if
 * @killable, a fatal signal ends the wait, and the caller checks for it.
 *
 * Return: false if the window is not open, and so has no aliases.
 */
bool hmm_p2p_window_begin_revoke(struct hmm_p2p_window *window, bool killable)
{
	struct hmm_p2p_exporter *exp = window->exp;
	bool open;

	for (;;) {
		spin_lock(&exp->window_lock);
		if (window->state != HMM_P2P_REVOKING)
			break;
		spin_unlock(&exp->window_lock);
		if (!killable)
			wait_var_event(&window->state,
				       READ_ONCE(window->state) != HMM_P2P_REVOKING);
		else if (wait_var_event_killable(&window->state,
						 READ_ONCE(window->state) !=
						 HMM_P2P_REVOKING))
			return false;
	}
	open = window->state == HMM_P2P_OPEN;
	if (open)
		window_set(window, HMM_P2P_REVOKING);
	spin_unlock(&exp->window_lock);
	return open;
}

void hmm_p2p_window_end_revoke(struct hmm_p2p_window *window, bool stuck)
{
	window_change(window, stuck ? HMM_P2P_STUCK : HMM_P2P_OPEN);
	/*
	 * The last reference may have been dropped before it could see that the
	 * window is stuck: pairs with the atomic_dec_and_test() in
	 * hmm_p2p_map_put().
	 */
	smp_mb();
	if (stuck && !atomic_read(&window->refs))
		hmm_p2p_window_idle(window);
}

/* The last reference of a window is gone.  Any context. */
void hmm_p2p_window_idle(struct hmm_p2p_window *window)
{
	struct hmm_p2p_exporter *exp = window->exp;

	if (READ_ONCE(window->state) == HMM_P2P_STUCK)
		hmm_p2p_windows_settle(exp);
	/* Once: reclaim takes it from there.  Pairs with reclaim_collect_let_go(). */
	if (exp->on_demand && !READ_ONCE(window->let_go) && !xchg(&window->let_go, 1))
		llist_add(&window->let_go_node, &exp->let_go_windows);
}

/* Use a window again that was stuck and is idle now. */
static void window_settle(struct hmm_p2p_window *window)
{
	struct hmm_p2p_exporter *exp = window->exp;
	bool gone;

	spin_lock(&exp->window_lock);
	if (window->state != HMM_P2P_STUCK || atomic_read(&window->refs)) {
		spin_unlock(&exp->window_lock);
		return;
	}
	gone = exp->gone;
	window_set(window, gone ? HMM_P2P_CLOSED :
			   exp->on_demand ? HMM_P2P_REVOKING : HMM_P2P_OPEN);
	spin_unlock(&exp->window_lock);
	pr_info("hmm_p2p: %s: window %lu is %s\n", exp->desc.name,
		hmm_p2p_window_index(window), gone ? "not in use any more" : "in use again");
	if (gone) {
		hmm_p2p_track_erase(window);
		hmm_p2p_exporter_put(exp);
	} else if (exp->on_demand) {
		window_close(window);
	}
}

static void hmm_p2p_settle(struct work_struct *work)
{
	struct hmm_p2p_exporter *exp =
		container_of(work, struct hmm_p2p_exporter, settle);
	unsigned long i;
	bool may_close;

	/*
	 * The driver is only asked to close a window while neither a reset nor
	 * hmm_p2p_unregister() can begin; both queue this work once more at their end.
	 */
	down_read(&exp->live_sem);
	may_close = READ_ONCE(exp->state) == HMM_P2P_STATE_LIVE ||
		    !exp->on_demand || READ_ONCE(exp->gone);
	for (i = 0; i < exp->nr_windows && may_close; i++)
		if (READ_ONCE(exp->windows[i].state) == HMM_P2P_STUCK)
			window_settle(&exp->windows[i]);
	up_read(&exp->live_sem);
	hmm_p2p_exporter_put(exp);
}

/* Called before anything else happens to the exporter. */
void hmm_p2p_window_setup(struct hmm_p2p_exporter *exp)
{
	spin_lock_init(&exp->window_lock);
	INIT_LIST_HEAD(&exp->idle.windows);
	INIT_LIST_HEAD(&exp->idle.mark);
	INIT_LIST_HEAD(&exp->used.windows);
	INIT_LIST_HEAD(&exp->used.mark);
	init_llist_head(&exp->let_go_windows);
	INIT_WORK(&exp->settle, hmm_p2p_settle);
	init_waitqueue_head(&exp->changed);
}
