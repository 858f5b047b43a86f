// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of waits: each wait ends, by itself or by a signal, and only tasks wait that
 * must.
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/sched/signal.h>
#include <linux/wait_bit.h>

#include "fake.h"

/* What the threads of a test tell it. */
static struct {
	struct mm_struct *mm;
	unsigned long start;
	struct hmm_p2p_result result;
	struct task_struct *task;
	int ret;
	int others;		/* the result of other calls ... */
	bool over;		/* ... that run before this is set ... */
	bool early;		/* ... and then set this */
} seen;

/* Place @nr pages on the device, and create a mirror with aliases of them all. */
static struct mirror *create_mapped(struct kunit *test, unsigned long nr)
{
	struct fake *f = test->priv;
	struct mirror *m;

	memset(&seen, 0, sizeof(seen));
	fake_register(test);
	m = mirror_create_mapped(test, "soft", nr);
	reinit_completion(&f->copy_begun);
	return m;
}

static void die_when_copy_begins(struct fake *f)
{
	wait_for_completion(&f->copy_begun);
	hmm_p2p_dead(f->exp);
}

/* Calls that need no copy succeed while a task waits for one. */
static void see_others_served(struct fake *f)
{
	struct hmm_p2p_exporter *exp = f->exp;

	while (READ_ONCE(exp->state) != HMM_P2P_STATE_DEAD || hmm_p2p_refs(exp))
		msleep(1);
	seen.others = hmm_p2p_revoke(exp, 0, 1);
	if (seen.others == -ENODEV)
		seen.others = hmm_p2p_reset_begin(exp);
	seen.early = !READ_ONCE(seen.over);
}

/* The device dies and its driver does not end a copy.  A report names it, and no task hangs. */
static void dead_copy_to_device_never_ends(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);
	struct job death, others;
	unsigned long start = memory_create(test, 4);

	f->never_ends = true;
	job_call(test, &death, die_when_copy_begins, f);
	job_call(test, &others, see_others_served, f);
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, -EIO,
				memory_to_device(f, start, 4, HMM_P2P_NO_EVICT,
						 &seen.result));
		WRITE_ONCE(seen.over, true);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_TRUE(test, job_done(&death, 60000));
	KUNIT_EXPECT_TRUE(test, job_done(&others, 60000));
	KUNIT_EXPECT_TRUE(test, seen.early);
	KUNIT_EXPECT_EQ(test, -ENODEV, seen.others);
	KUNIT_EXPECT_EQ(test, 4, seen.result.count[HMM_P2P_COPY_FAILED]);
	KUNIT_EXPECT_EQ(test, 12, f->freed);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 3));
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 3));
	fake_unregister(f);
	/* The copy ends late; see late_kunit.c. */
	flush_delayed_work(&f->never_work);
	mirror_destroy(m);
}

/* The same for a copy to RAM.  The RAM is not used again while the copy may write to it. */
static void dead_copy_to_ram_never_ends(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);
	struct job death;

	f->never_ends = true;
	job_call(test, &death, die_when_copy_begins, f);
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, -EIO,
				hmm_p2p_migrate_to_ram(f->engine, m->mm, m->start,
						       m->start + 4 * PAGE_SIZE,
						       &seen.result));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_TRUE(test, job_done(&death, 60000));
	KUNIT_EXPECT_EQ(test, 8, f->freed);
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 0));
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 7));
	KUNIT_EXPECT_TRUE(test, PageLocked(f->never_ram));
	KUNIT_EXPECT_EQ(test, 1, page_count(f->never_ram));
	flush_delayed_work(&f->never_work);
	mirror_destroy(m);
}

static void migrate_seen(struct fake *f)
{
	seen.ret = hmm_p2p_migrate_to_device(f->engine, seen.mm, seen.start,
					     seen.start + 4 * PAGE_SIZE,
					     HMM_P2P_NO_EVICT, &seen.result);
}

static void dead_behind_copy_op(struct kunit *test, bool in_reset)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);
	struct job copy, reset, others;

	seen.mm = current->mm;
	seen.start = memory_create(test, 4);
	/* Long enough for the core to give up twice. */
	f->op_stays = 2 * HMM_P2P_COPY_LIMIT;
	job_call(test, &copy, migrate_seen, f);
	wait_for_completion(&f->copy_begun);
	if (in_reset)
		job_call(test, &reset, fake_begin_reset, f);
	while (in_reset && READ_ONCE(f->exp->state) != HMM_P2P_STATE_RESETTING)
		msleep(1);
	job_call(test, &others, see_others_served, f);
	kunit_warning_suppress(test) {
		hmm_p2p_dead(f->exp);
		WRITE_ONCE(seen.over, true);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_TRUE(test, job_done(&copy, 60000));
	KUNIT_EXPECT_TRUE(test, job_done(&others, 60000));
	if (in_reset)
		KUNIT_EXPECT_TRUE(test, job_done(&reset, 60000));
	KUNIT_EXPECT_TRUE(test, seen.early);
	KUNIT_EXPECT_EQ(test, -ENODEV, seen.others);
	KUNIT_EXPECT_EQ(test, -EIO, seen.ret);
	KUNIT_EXPECT_TRUE(test, memory_right(seen.start, 3));
	mirror_destroy(m);
}

/* A copy op that does not return blocks its own task and the driver's.  A report names it. */
static void dead_copy_op_stays(struct kunit *test)
{
	dead_behind_copy_op(test, false);
}

/* A reset that waits for such an op ends when the device dies. */
static void dead_copy_op_stays_in_reset(struct kunit *test)
{
	dead_behind_copy_op(test, true);
}

static void reset_when_copy_begins(struct fake *f)
{
	wait_for_completion(&f->copy_begun);
	seen.others = hmm_p2p_reset_begin(f->exp);
}

static void die_in_reset(struct fake *f)
{
	while (READ_ONCE(f->exp->state) != HMM_P2P_STATE_RESETTING)
		msleep(1);
	hmm_p2p_dead(f->exp);
}

/* A reset that waits for such a copy ends when the device dies. */
static void dead_in_reset_that_waits_for_copy(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);
	struct job reset, death;
	unsigned long start = memory_create(test, 4);

	f->never_ends = true;
	job_call(test, &reset, reset_when_copy_begins, f);
	job_call(test, &death, die_in_reset, f);
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, -EIO,
				memory_to_device(f, start, 4, HMM_P2P_NO_EVICT,
						 &seen.result));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_TRUE(test, job_done(&reset, 60000));
	KUNIT_EXPECT_TRUE(test, job_done(&death, 60000));
	KUNIT_EXPECT_EQ(test, -ENODEV, seen.others);
	KUNIT_EXPECT_EQ(test, 12, f->freed);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 3));
	flush_delayed_work(&f->never_work);
	mirror_destroy(m);
}

static void poison_seen(struct fake *f)
{
	seen.ret = hmm_p2p_poison(f->exp, seen.start, PAGE_SIZE);
}

/* memory_failure() does not wait for a reset, and no access to the page succeeds afterwards. */
static void poison_in_reset(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);
	struct job job;

	seen.start = 5 * PAGE_SIZE;
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	job_call(test, &job, poison_seen, f);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_EQ(test, 0, seen.ret);
	/* A free page is poisoned as well. */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_poison(f->exp, PMD_SIZE, 1));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_EQ(test, 1, f->freed);
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp, HMM_P2P_C_POISONED));
	KUNIT_EXPECT_EQ(test, -EFAULT, mirror_fault(m, 5, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 5));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 4));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 6));
	mirror_destroy(m);
}

/* A page that the reset has yet to park is poisoned as well. */
static void poison_before_parked(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);
	unsigned long end = jiffies + 10 * HZ;
	struct job job;

	/* Hold the lock that a copy under way holds. */
	down_read(&f->exp->live_sem);
	job_call(test, &job, fake_begin_reset, f);
	while (READ_ONCE(f->exp->state) != HMM_P2P_STATE_RESETTING && time_before(jiffies, end))
		msleep(1);
	KUNIT_EXPECT_EQ(test, HMM_P2P_STATE_RESETTING, READ_ONCE(f->exp->state));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_poison(f->exp, 5 * PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 1, f->freed);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 10));
	up_read(&f->exp->live_sem);
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 5));
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp, HMM_P2P_C_POISONED));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 4));
	mirror_destroy(m);
}

static void poison_huge_in_reset(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;
	struct job job;

	fake_register(test);
	start = memory_create_huge(test, 1);
	seen.start = PMD_SIZE + 9 * PAGE_SIZE;
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	job_call(test, &job, poison_seen, f);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp, HMM_P2P_C_POISONED));
	KUNIT_EXPECT_FALSE(test, memory_right(start, 9));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 8));
	KUNIT_EXPECT_TRUE(test, memory_right(start, WINDOW_PAGES - 1));
}

/* poison waits for all locked pages together, not one after the other. */
static void poison_waits_once(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);
	unsigned long i, one, all;

	for (i = 0; i < 8; i++)
		folio_lock(page_folio(fake_page(f, i)));
	one = jiffies;
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_p2p_poison(f->exp, 0, 1));
	all = jiffies;
	one = all - one;
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_p2p_poison(f->exp, 0, 8 * PAGE_SIZE));
	all = jiffies - all;
	KUNIT_EXPECT_LT(test, all, 7 * one);
	for (i = 0; i < 8; i++)
		folio_unlock(page_folio(fake_page(f, i)));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_poison(f->exp, 0, 8 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 8, f->freed);
	mirror_destroy(m);
}

/*
 * A task is killed while it revokes a window.  It lingers there until the signal is sent.
 * nr_revoked counts the windows that it revokes.
 */
static atomic_t nr_revoked;
static bool revoker_killed;

static int linger_until_killed(struct kprobe *p, struct pt_regs *regs)
{
	unsigned int ms;

	if (atomic_inc_return(&nr_revoked) == 1)
		for (ms = 0; ms < 3000 && !READ_ONCE(revoker_killed); ms++)
			mdelay(1);
	return 0;
}

static struct kprobe revoker = {
	.symbol_name = "hmm_p2p_revoke_window", .pre_handler = linger_until_killed,
};

/* Kill the task.  Returns how many jiffies it took to end. */
static unsigned long kill_revoker(struct kunit *test, struct job *job,
				  void (*call)(struct fake *f))
{
	struct fake *f = test->priv;
	unsigned long end = jiffies + 10 * HZ, killed;

	atomic_set(&nr_revoked, 0);
	WRITE_ONCE(revoker_killed, false);
	revoker.addr = NULL;
	revoker.flags = 0;
	KUNIT_ASSERT_EQ(test, 0, register_kprobe(&revoker));
	job_call(test, job, call, f);
	while (!atomic_read(&nr_revoked) && time_before(jiffies, end))
		msleep(1);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&nr_revoked));
	if (atomic_read(&nr_revoked))
		send_sig(SIGKILL, READ_ONCE(seen.task), 1);
	WRITE_ONCE(revoker_killed, true);
	killed = jiffies;
	KUNIT_EXPECT_TRUE(test, job_done(job, 10000));
	killed = jiffies - killed;
	unregister_kprobe(&revoker);
	KUNIT_EXPECT_EQ(test, -EINTR, seen.ret);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&nr_revoked));
	return killed;
}

static void revoke_and_be_killed(struct fake *f)
{
	allow_signal(SIGKILL);
	WRITE_ONCE(seen.task, current);
	seen.ret = hmm_p2p_revoke(f->exp, 0, NR_PAGES * PAGE_SIZE);
}

static void revoke_killed(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 4);
	struct folio *folio = page_folio(fake_page(f, 2));
	unsigned long alive, killed;
	struct job job;

	folio_lock(folio);
	alive = jiffies;
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_p2p_revoke(f->exp, 0, PMD_SIZE));
	alive = jiffies - alive;
	killed = kill_revoker(test, &job, revoke_and_be_killed);
	folio_unlock(folio);
	/* The killed task gave up earlier. */
	KUNIT_EXPECT_LT(test, 2 * killed, alive);
	/* The window is in use again. */
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 0));
	mirror_destroy(m);
}

/* The task waits for another one that revokes the window. */
static void revoke_killed_behind_another(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_window *window;
	struct mirror *m = create_mapped(test, 4);
	struct job job;
	bool killed;

	window = &f->exp->windows[0];
	/* Leave the window as hmm_p2p_window_begin_revoke() of another task does. */
	WRITE_ONCE(window->state, HMM_P2P_REVOKING);
	job_call(test, &job, revoke_and_be_killed, f);
	while (!READ_ONCE(seen.task))
		msleep(1);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 100));
	send_sig(SIGKILL, READ_ONCE(seen.task), 1);
	killed = job_done(&job, 10000);
	KUNIT_EXPECT_TRUE(test, killed);
	WRITE_ONCE(window->state, HMM_P2P_OPEN);
	wake_up_var(&window->state);
	if (killed)
		KUNIT_EXPECT_EQ(test, -EINTR, seen.ret);
	else
		KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	mirror_destroy(m);
}

static void fault_and_be_killed(struct fake *f)
{
	struct mirror *m = f->wants;

	allow_signal(SIGKILL);
	WRITE_ONCE(seen.task, current);
	seen.ret = mirror_fault(m, (NR_WINDOWS - 1) * WINDOW_PAGES, 1, HMM_PFN_REQ_FAULT);
}

/* A fault that reclaims a window is killed.  It does not go on to the next victim. */
static void reclaim_killed(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start, i;
	struct job job;

	fake_on_demand(test, NR_WINDOWS - 1);
	fake_register(test);
	start = memory_create(test, NR_PAGES);
	memory_place(test, start, NR_PAGES);
	f->wants = mirror_create(test, "soft", start, NR_PAGES);
	for (i = 0; i < NR_WINDOWS - 1; i++) {
		KUNIT_ASSERT_EQ(test, 0, mirror_fault(f->wants, i * WINDOW_PAGES, 1,
						      HMM_PFN_REQ_FAULT));
		folio_lock(page_folio(fake_page(f, i * WINDOW_PAGES)));
	}
	msleep(150);
	kill_revoker(test, &job, fault_and_be_killed);
	for (i = 0; i < NR_WINDOWS - 1; i++)
		folio_unlock(page_folio(fake_page(f, i * WINDOW_PAGES)));
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, NR_WINDOWS - 1));
	mirror_destroy(f->wants);
}

static void own_migrate_seen(struct fake *f)
{
	seen.ret = fake_own_to_device(f, seen.mm, seen.start, 4) == 4 ? 0 : -EBUSY;
}

static void end_reset(struct fake *f)
{
	hmm_p2p_reset_end(f->exp);
}

/*
 * A reset does not wait for a migration that waits for mmap_lock.  The task that holds mmap_lock
 * may wait for the reset of another device.
 */
static void reset_beside_wait_for_mmap_lock(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);
	unsigned long end = jiffies + 10 * HZ;
	struct job migration, reset, ended;

	seen.mm = current->mm;
	seen.start = memory_create(test, 4);
	/* The migration has looked at the range when it waits for this reset. */
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	job_call(test, &migration, f->without_engine ? own_migrate_seen : migrate_seen, f);
	KUNIT_EXPECT_FALSE(test, job_done(&migration, 300));
	/* It has no mmap_lock meanwhile. */
	mmap_write_lock(seen.mm);
	/* By another task: a driver does not do that under mmap_lock. */
	job_call(test, &ended, end_reset, f);
	KUNIT_EXPECT_TRUE(test, job_done(&ended, 10000));
	while (!mmap_lock_is_contended(seen.mm) && time_before(jiffies, end))
		msleep(1);
	KUNIT_EXPECT_TRUE(test, mmap_lock_is_contended(seen.mm));
	job_call(test, &reset, fake_begin_reset, f);
	KUNIT_EXPECT_TRUE(test, job_done(&reset, 10000));
	mmap_write_unlock(seen.mm);
	wait_for_completion(&reset.done);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_TRUE(test, job_done(&migration, 10000));
	KUNIT_EXPECT_EQ(test, 0, seen.ret);
	mirror_destroy(m);
}

/*
 * Place a huge page at *@start.  Leave it as the split of a folio does before its parts have
 * references of their own.
 */
static struct folio *create_frozen(struct kunit *test, unsigned long *start)
{
	struct fake *f = test->priv;
	struct folio *folio;

	memset(&seen, 0, sizeof(seen));
	fake_register(test);
	*start = memory_create_huge(test, 0);
	folio = page_folio(fake_page(f, 0));
	KUNIT_ASSERT_EQ(test, WINDOW_PAGES, folio_nr_pages(folio));
	folio_lock(folio);
	KUNIT_ASSERT_TRUE(test, folio_ref_freeze(folio, 1));
#ifdef NR_PAGES_IN_LARGE_FOLIO
	folio->_nr_pages = 0;
#endif
	return folio;
}

static void unfreeze(struct folio *folio)
{
#ifdef NR_PAGES_IN_LARGE_FOLIO
	folio->_nr_pages = WINDOW_PAGES;
#endif
	folio_ref_unfreeze(folio, 1);
	folio_unlock(folio);
}

/* A page is not free while its folio is being split.  It is poisoned after the split. */
static void poison_beside_split(struct kunit *test)
{
	unsigned long start;
	struct folio *folio = create_frozen(test, &start);
	struct job job;

	seen.start = 9 * PAGE_SIZE;
	job_call(test, &job, poison_seen, test->priv);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 200));
	unfreeze(folio);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_EQ(test, 0, seen.ret);
	KUNIT_EXPECT_FALSE(test, memory_right(start, 9));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 8));
}

/* The engine does not end before the split either, because the task that splits uses it. */
static void unregister_beside_split(struct kunit *test)
{
	unsigned long start;
	struct folio *folio = create_frozen(test, &start);
	struct fake *f = test->priv;
	struct job job;

	job_call(test, &job, fake_unregister, f);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 300));
	unfreeze(folio);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, f->freed);
	/* If the engine has left the pages, the driver of the test brings them to RAM. */
	f->without_engine = !f->freed;
	KUNIT_EXPECT_TRUE(test, memory_right(start, 9));
}

static struct kunit_case hmm_p2p_wait_cases[] = {
	KUNIT_CASE_SLOW(dead_copy_to_device_never_ends),
	KUNIT_CASE_SLOW(dead_copy_to_ram_never_ends),
	KUNIT_CASE_SLOW(dead_copy_op_stays),
	KUNIT_CASE_SLOW(dead_copy_op_stays_in_reset),
	KUNIT_CASE_SLOW(dead_in_reset_that_waits_for_copy),
	KUNIT_CASE(poison_in_reset),
	KUNIT_CASE(poison_before_parked),
	KUNIT_CASE(poison_huge_in_reset),
	KUNIT_CASE_SLOW(poison_waits_once),
	KUNIT_CASE(revoke_killed),
	KUNIT_CASE(revoke_killed_behind_another),
	KUNIT_CASE(reclaim_killed),
	KUNIT_CASE(reset_beside_wait_for_mmap_lock),
	KUNIT_CASE(poison_beside_split),
	KUNIT_CASE(unregister_beside_split),
	{}
};

static struct kunit_suite hmm_p2p_wait_suite = {
	.name = "hmm_p2p_wait",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_wait_cases,
};

/* The same tests with a driver that moves its pages by itself. */
static struct kunit_case hmm_p2p_wait_without_engine_cases[] = {
	KUNIT_CASE(poison_in_reset),
	KUNIT_CASE(poison_before_parked),
	KUNIT_CASE(poison_huge_in_reset),
	KUNIT_CASE_SLOW(poison_waits_once),
	KUNIT_CASE(revoke_killed),
	KUNIT_CASE(reset_beside_wait_for_mmap_lock),
	KUNIT_CASE(poison_beside_split),
	{}
};

static struct kunit_suite hmm_p2p_wait_without_engine_suite = {
	.name = "hmm_p2p_wait_without_engine",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_wait_without_engine_cases,
};

fake_test_suites(hmm_p2p_wait_suite, hmm_p2p_wait_without_engine_suite);
