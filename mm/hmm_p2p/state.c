// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The state of an exporter
 *
 * A task that needs a live exporter takes exp->live_sem for reading, and checks the state under
 * it.  hmm_p2p_live_get() does both for a migration to the device and for hmm_p2p_revoke().  A
 * fault that opens a window or asks p2pdma only tries the lock (alias.c), so that it does not wait
 * for another task's migration.
 *
 * A task that changes the state stores it first.  It then waits for the tasks that saw the state
 * before.
 */
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/lockdep.h>
#include <linux/sched.h>
#include <linux/wait.h>

#include <trace/events/hmm_p2p.h>

#include "internal.h"

void hmm_p2p_exporter_set_state(struct hmm_p2p_exporter *exp, enum hmm_p2p_state state)
{
	lockdep_assert_held(&exp->life);
	WRITE_ONCE(exp->state, state);
	trace_hmm_p2p_state(exp->desc.name, hmm_p2p_state_name(exp));
	wake_up_all(&exp->changed);
}

/*
 * hmm_p2p_flush_readers - wait for the tasks that saw the state before
 * @exp: the exporter, whose new state is stored
 *
 * Most of these tasks migrate memory to the device, and so wait for its copies.
 *
 * The function does not queue for the lock.  A reader would queue behind it and wait for
 * another task's copy, and no signal would end that wait.  Not to queue is safe: a reader
 * that comes now sees the new state and lets go of the lock at once.
 *
 * Return: false if the caller begins a reset and the device has died meanwhile.
 */
bool hmm_p2p_flush_readers(struct hmm_p2p_exporter *exp)
{
	unsigned long report = jiffies + HMM_P2P_REPORT_INTERVAL;

	might_lock(&exp->live_sem);
	while (!down_write_trylock(&exp->live_sem)) {
		if (READ_ONCE(exp->state) == HMM_P2P_STATE_RESETTING &&
		    READ_ONCE(exp->dying))
			return false;
		if (time_after(jiffies, report)) {
			pr_warn("hmm_p2p: %s: %s, and waits for copies and migrations to end\n",
				exp->desc.name, hmm_p2p_state_name(exp));
			report = jiffies + HMM_P2P_REPORT_INTERVAL;
		}
		schedule_timeout_uninterruptible(1);
	}
	up_write(&exp->live_sem);
	return true;
}

/**
 * hmm_p2p_live_get - keep an exporter from reset and from its end
 * @exp: the exporter, which the caller keeps registered
 *
 * A driver with a migration engine of its own calls it before each migration to the device,
 * and hmm_p2p_live_put() when the copy is over and the pages are mapped.  Between the two calls
 * a reset parks no page, and neither hmm_p2p_unregister() nor hmm_p2p_dead() gets to its end.
 * The core's engine does the same.  A migration from the device does not need it: the task has
 * the pages locked.  Between the two calls, the task calls none of hmm_p2p_reset_begin(),
 * hmm_p2p_revoke(), hmm_p2p_dead() and hmm_p2p_unregister(), and does not wait for mmap_lock.  A
 * task that needs mmap_lock takes that first, calls hmm_p2p_live_tryget(), and calls this function
 * only to wait without mmap_lock before it tries again.
 *
 * Context: Process context, may sleep: waits for the end of a reset, which a fatal signal
 * ends.  Not under mmap_lock nor a page lock.
 *
 * Return: 0, or
 * * -ENODEV: the exporter is being unregistered, or its device is dead
 * * -EINTR: a fatal signal arrived
 */
int hmm_p2p_live_get(struct hmm_p2p_exporter *exp)
{
	do {
		if (wait_event_killable(exp->changed, READ_ONCE(exp->state) !=
					HMM_P2P_STATE_RESETTING))
			return -EINTR;
		if (READ_ONCE(exp->state) != HMM_P2P_STATE_LIVE)
			continue;
		/* A writer has it for a moment only. */
		down_read(&exp->live_sem);
		if (READ_ONCE(exp->state) == HMM_P2P_STATE_LIVE)
			return 0;
		up_read(&exp->live_sem);
	} while (READ_ONCE(exp->state) <= HMM_P2P_STATE_RESETTING);
	return -ENODEV;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_live_get, "HMM_P2P");

/**
 * hmm_p2p_live_tryget - hmm_p2p_live_get() without a wait, for a task that holds mmap_lock
 * @exp: the exporter, which the caller keeps registered
 *
 * A task that waited for mmap_lock after hmm_p2p_live_get() could hang the resets of two devices,
 * which the PCI core makes together:
 *
 *	reset of A	reset of B	other tasks
 *	  parks pages
 *					1: has mmap_lock, and faults on a page of A
 *					2: queues for mmap_lock to write
 *					3: hmm_p2p_live_get(B), queues for mmap_lock
 *			  waits for 3
 *	  ends when B
 *	  has begun
 *
 * The core's engine calls it for the exporter of another device as well, from which it takes pages:
 * a task that keeps one exporter live does not wait for another.
 *
 * Context: Any; does not sleep.
 *
 * Return: true, and hmm_p2p_live_put() follows; false if a reset is under way, the exporter is
 * being unregistered, or its device is dead: hmm_p2p_live_get() tells which.
 */
bool hmm_p2p_live_tryget(struct hmm_p2p_exporter *exp)
{
	if (!down_read_trylock(&exp->live_sem))
		return false;
	if (READ_ONCE(exp->state) == HMM_P2P_STATE_LIVE)
		return true;
	up_read(&exp->live_sem);
	return false;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_live_tryget, "HMM_P2P");

/**
 * hmm_p2p_live_put - undo hmm_p2p_live_get() or hmm_p2p_live_tryget()
 * @exp: the exporter
 *
 * Context: In the task that called hmm_p2p_live_get() or hmm_p2p_live_tryget().
 */
void hmm_p2p_live_put(struct hmm_p2p_exporter *exp)
{
	up_read(&exp->live_sem);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_live_put, "HMM_P2P");

/*
 * hmm_p2p_device_enter - begin a call of the driver that needs the device
 * @exp: the exporter
 *
 * hmm_p2p_dead() waits until no task is in such a call: see wait_for_device_calls().
 *
 * Context: Any.
 *
 * Return: false if the device is dead: then the caller must not call the driver.  If true,
 * the caller calls hmm_p2p_device_exit() when the driver has returned.
 */
bool hmm_p2p_device_enter(struct hmm_p2p_exporter *exp)
{
	atomic_inc(&exp->device_calls);
	/* Counted before the look at the state: pairs with wait_for_device_calls(). */
	smp_mb__after_atomic();
	if (!hmm_p2p_is_dead(exp))
		return true;
	atomic_dec(&exp->device_calls);
	return false;
}

void hmm_p2p_device_exit(struct hmm_p2p_exporter *exp)
{
	atomic_dec(&exp->device_calls);
}

/*
 * hmm_p2p_check_refs - put windows that are still referenced out of use
 * @exp: the exporter
 *
 * The caller has called all notifiers, and the core hands out no alias any more.  An importer
 * that still holds one breaks its contract, and is quarantined.
 */
void hmm_p2p_check_refs(struct hmm_p2p_exporter *exp)
{
	unsigned long i;

	for (i = 0; i < exp->nr_windows; i++) {
		struct hmm_p2p_window *window = &exp->windows[i];

		if (!atomic_read(&window->refs) ||
		    !hmm_p2p_window_begin_revoke(window, false))
			continue;
		hmm_p2p_quarantine(window);
		hmm_p2p_window_end_revoke(window, true);
	}
}

/*
 * hmm_p2p_begin_drain - begin the end of an exporter, or of its engine
 * @exp: the exporter
 *
 * A reset that is under way ends here.  When the function returns, no migration to the device
 * is under way and none begins any more: the memory in use can only become less.
 */
void hmm_p2p_begin_drain(struct hmm_p2p_exporter *exp)
{
	mutex_lock(&exp->life);
	if (WARN_ONCE(exp->state == HMM_P2P_STATE_RESETTING,
		      "hmm_p2p: %s: unregistered during a reset\n",
		      exp->desc.name))
		hmm_p2p_unpark_all(exp);
	/* The engine is unregistered before the exporter: then it is DRAINING already. */
	if (exp->state < HMM_P2P_STATE_DRAINING)
		hmm_p2p_exporter_set_state(exp, HMM_P2P_STATE_DRAINING);
	mutex_unlock(&exp->life);
	/* Migrations to the device that saw LIVE finish here. */
	hmm_p2p_flush_readers(exp);
}
