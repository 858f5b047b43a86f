// SPDX-License-Identifier: GPL-2.0
/* KUnit tests of windows on demand. */
#include <linux/delay.h>

#include "fake.h"

static u64 fallbacks(struct fake *f, enum hmm_p2p_reason reason)
{
	return hmm_p2p_total_read(f->exp, HMM_P2P_C_FALLBACK + reason);
}

/* Place memory in all windows, and create a mirror of it. */
static struct mirror *place_in_windows(struct kunit *test, unsigned int max_open)
{
	unsigned long start;

	fake_on_demand(test, max_open);
	fake_register(test);
	start = memory_create(test, NR_PAGES);
	memory_place(test, start, NR_PAGES);
	return mirror_create(test, "soft", start, NR_PAGES);
}

static void window_opens_on_first_use(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, NR_WINDOWS);

	KUNIT_EXPECT_EQ(test, 0, f->opened);
	/* A snapshot opens no window and moves nothing. */
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 4, 0));
	KUNIT_EXPECT_EQ(test, 0, f->opened);
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, f->freed);

	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 2 * WINDOW_PAGES + 5, 3,
					      HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 1, f->opened);
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 2));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 2 * WINDOW_PAGES + 5,
					   fake_alias(f, 2 * WINDOW_PAGES + 5)));
	/* A snapshot finds the alias of an open window. */
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 2 * WINDOW_PAGES, 1, 0));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 2 * WINDOW_PAGES,
					   fake_alias(f, 2 * WINDOW_PAGES)));
	KUNIT_EXPECT_EQ(test, 1, f->opened);
	mirror_destroy(m);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, f->opened, f->closed);
}

/* The one that has been in use for longest makes room, and loses its aliases. */
static void window_reclaim(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, 2);
	unsigned long i;

	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, i * WINDOW_PAGES, 2,
						      HMM_PFN_REQ_FAULT));
		msleep(20);
	}
	/* Both are in use.  Another lookup says nothing of how busy the first is. */
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 2, HMM_PFN_REQ_FAULT));
	msleep(150);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 3 * WINDOW_PAGES, 2,
					      HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 1));
	KUNIT_EXPECT_NULL(test, hmm_p2p_kmap_local(fake_alias(f, 0) |
						   HMM_PFN_VALID | HMM_PFN_PEER));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 3));
	KUNIT_EXPECT_FALSE(test, mirror_has(m, 0, fake_alias(f, 0)));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, WINDOW_PAGES,
					   fake_alias(f, WINDOW_PAGES)));
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp, HMM_P2P_C_RECLAIMED));
	/* No page has moved. */
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	mirror_destroy(m);
}

/* Of window @i, when it may be taken. */
static void fault_in_window(struct kunit *test, struct mirror *m, unsigned long i)
{
	msleep(150);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, i * WINDOW_PAGES, 2, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(test->priv, i));
}

static void let_go_of_window(struct mirror *m, unsigned long i)
{
	mutex_lock(&m->lock);
	hmm_p2p_map_put(&m->map, i * WINDOW_PAGES);
	m->map.pfn_list[i * WINDOW_PAGES] = 0;
	hmm_p2p_map_put(&m->map, i * WINDOW_PAGES + 1);
	m->map.pfn_list[i * WINDOW_PAGES + 1] = 0;
	mutex_unlock(&m->lock);
}

/* Two windows: one is mapped and busy, the other was opened later and dropped, and goes. */
static void window_without_references_goes_first(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, 2);

	fault_in_window(test, m, 0);
	fault_in_window(test, m, 1);
	let_go_of_window(m, 1);
	fault_in_window(test, m, 2);
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 1));
	/* Reclaim knows that the first is in use.  It learns that it no longer is. */
	let_go_of_window(m, 0);
	fault_in_window(test, m, 3);
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 2));
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	mirror_destroy(m);
}

/* Of windows that have been let go, the one that is idle for longest goes, whenever opened. */
static void window_idle_for_longest_goes(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, 3);

	fault_in_window(test, m, 0);
	fault_in_window(test, m, 1);
	fault_in_window(test, m, 2);
	let_go_of_window(m, 2);
	let_go_of_window(m, 0);
	fault_in_window(test, m, 3);
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 1));
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 2));
	mirror_destroy(m);
}

/* Where all are in use, each has its turn, and keeps its place while the others have theirs. */
static void window_turns(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, 2);
	unsigned long i;

	for (i = 0; i < 9; i++) {
		fault_in_window(test, m, i % 3);
		if (i < 2)
			continue;
		KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, (i + 2) % 3));
		KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, (i + 1) % 3));
	}
	KUNIT_EXPECT_EQ(test, 7, hmm_p2p_total_read(f->exp, HMM_P2P_C_RECLAIMED));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	mirror_destroy(m);
}

/*
 * Open the last window, by a reclaim that looks at one window at the head of the list and at one
 * other.  The windows in @early may not be taken.
 */
static bool open_last_but(struct fake *f, unsigned long early)
{
	unsigned int looks = hmm_p2p_reclaim_looks;
	unsigned long i, since = jiffies;

	/* The last one itself may have failed to open. */
	for (i = 0; i < NR_WINDOWS; i++)
		WRITE_ONCE(f->exp->windows[i].used, (u32)(since - (early & BIT(i) ? 0 : HZ)));
	hmm_p2p_reclaim_looks = 1;
	hmm_p2p_window_open(&f->exp->windows[NR_WINDOWS - 1], since);
	hmm_p2p_reclaim_looks = looks;
	return fake_window_state(f, NR_WINDOWS - 1) == HMM_P2P_OPEN;
}

/* Reclaims that find all windows too early to take change nothing of the order. */
static void window_keeps_its_turn(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, 3);
	unsigned long i;

	for (i = 0; i < 3; i++)
		fault_in_window(test, m, i);
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_FALSE(test, open_last_but(f, 7));
	KUNIT_EXPECT_EQ(test, 3, f->opened);
	KUNIT_EXPECT_TRUE(test, open_last_but(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 1));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 2));
	mirror_destroy(m);
}

/* Windows that may never be taken do not hide the one behind them. */
static void window_behind_others(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, 3);
	unsigned long i;

	for (i = 0; i < 3; i++)
		fault_in_window(test, m, i);
	/* One reclaim looks at 0 and 1, the next one at 0 and 2. */
	KUNIT_EXPECT_FALSE(test, open_last_but(f, 3));
	KUNIT_EXPECT_TRUE(test, open_last_but(f, 3));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 1));
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 2));
	mirror_destroy(m);
}

static unsigned int nr_woken;

static int count_woken(struct wait_queue_entry *entry, unsigned int mode, int flags, void *key)
{
	nr_woken++;
	return 0;
}

/* Tasks that wait for the exporter are not woken because a window changes. */
static void window_wakes_nobody_else(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, 1);
	struct hmm_p2p_exporter *exp = f->exp;
	wait_queue_entry_t entry;

	nr_woken = 0;
	init_waitqueue_func_entry(&entry, count_woken);
	add_wait_queue(&exp->changed, &entry);
	fault_in_window(test, m, 0);
	fault_in_window(test, m, 1);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(exp, 0, NR_PAGES * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, 0, nr_woken);
	/* The state of the exporter does wake them. */
	hmm_p2p_exporter_get(exp);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 1, nr_woken);
	remove_wait_queue(&exp->changed, &entry);
	hmm_p2p_exporter_put(exp);
	mirror_destroy(m);
}

/* More windows than there is room for, in one call: the rest goes to RAM. */
static void window_exhaustion(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, 2);
	unsigned long i;

	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, NR_PAGES, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 2, f->opened);
	KUNIT_EXPECT_EQ(test, 0, f->closed);
	for (i = 0; i < NR_PAGES; i++)
		KUNIT_ASSERT_TRUE(test, mirror_has(m, i, i < 2 * WINDOW_PAGES ?
						   fake_alias(f, i) : 0));
	KUNIT_EXPECT_EQ(test, 2 * WINDOW_PAGES, f->freed);
	KUNIT_EXPECT_EQ(test, 2 * WINDOW_PAGES, fallbacks(f, HMM_P2P_NO_WINDOW));
	mirror_destroy(m);
}

/* Two windows are used in turn, with room for one.  Each fault succeeds, one way or the other. */
static void window_contention(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, 1);
	unsigned long end = jiffies + HZ;
	unsigned long turns = 0;

	while (turns <= 10 || time_before(jiffies, end)) {
		unsigned long i = turns++ % 2;

		KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, i * WINDOW_PAGES + turns % 64,
						      1, HMM_PFN_REQ_FAULT));
		KUNIT_ASSERT_TRUE(test, m->map.pfn_list[i * WINDOW_PAGES +
				  turns % 64] & HMM_PFN_VALID);
	}
	KUNIT_EXPECT_EQ(test, f->nr_open, 1);
	mirror_destroy(m);
}

/* While one window opens slowly, other windows open and are used. */
static void window_slow_open(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, NR_WINDOWS);
	struct job slow, same, other;

	f->slow = true;
	f->slow_window = 1;
	job_fault(test, &slow, m, WINDOW_PAGES, 1, HMM_PFN_REQ_FAULT);
	wait_for_completion(&f->opening);
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPENING, fake_window_state(f, 1));
	job_fault(test, &same, m, WINDOW_PAGES + 1, 1, HMM_PFN_REQ_FAULT);
	job_fault(test, &other, m, 3 * WINDOW_PAGES, 1, HMM_PFN_REQ_FAULT);
	KUNIT_EXPECT_TRUE(test, job_done(&other, 5000));
	/* The opener holds neither mmap_lock nor any other lock of the process. */
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 2 * WINDOW_PAGES, 1,
					      HMM_PFN_REQ_FAULT));
	mmap_write_lock(m->mm);
	mmap_write_unlock(m->mm);
	KUNIT_EXPECT_FALSE(test, job_done(&slow, 10));
	KUNIT_EXPECT_FALSE(test, job_done(&same, 10));
	complete_all(&f->go_on);
	KUNIT_EXPECT_TRUE(test, job_done(&slow, 5000));
	KUNIT_EXPECT_TRUE(test, job_done(&same, 5000));
	KUNIT_EXPECT_EQ(test, 0, slow.ret);
	KUNIT_EXPECT_EQ(test, 0, same.ret);
	KUNIT_EXPECT_TRUE(test, mirror_has(m, WINDOW_PAGES + 1,
					   fake_alias(f, WINDOW_PAGES + 1)));
	/* Each window was opened once. */
	KUNIT_EXPECT_EQ(test, 3, f->opened);
	mirror_destroy(m);
}

/*
 * A window that fails to open: the page moves to RAM in the same fault, and opening is tried
 * again later.
 */
static void window_open_fails(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, NR_WINDOWS);
	unsigned long last = (NR_WINDOWS - 1) * WINDOW_PAGES;

	f->open_error = -EIO;
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, last - 2, 4, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, last - 1, fake_alias(f, last - 1)));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, last, 0));
	KUNIT_EXPECT_EQ(test, 2, f->freed);
	KUNIT_EXPECT_EQ(test, HMM_P2P_FAILED, fake_window_state(f, NR_WINDOWS - 1));
	f->open_error = 0;
	msleep(150);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, last + 5, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, last + 5, fake_alias(f, last + 5)));
	mirror_destroy(m);
}

/* A window with an impossible address is refused and closed. */
static void window_open_lies(struct kunit *test)
{
	struct fake *f = test->priv;
	struct page *block = f->blocks[1];
	struct mirror *m;

	f->desc.name = "kunit liar";
	m = place_in_windows(test, NR_WINDOWS);
	f->misalign = PAGE_SIZE;
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 0, 0));
	f->misalign = 0;
	KUNIT_EXPECT_EQ(test, 1, f->closed);

	/* The address of another window. */
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 2 * WINDOW_PAGES, 1,
					      HMM_PFN_REQ_FAULT));
	f->blocks[1] = f->blocks[2];
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, WINDOW_PAGES, 1,
					      HMM_PFN_REQ_FAULT));
	f->blocks[1] = block;
	KUNIT_EXPECT_TRUE(test, mirror_has(m, WINDOW_PAGES, 0));
	KUNIT_EXPECT_EQ(test, 2, f->closed);
	/* The other window is not affected. */
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 2 * WINDOW_PAGES,
					   fake_alias(f, 2 * WINDOW_PAGES)));
	mirror_destroy(m);
}

static void window_outside_aperture(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;
	struct mirror *m;

	fake_on_demand(test, NR_WINDOWS);
	f->desc.aperture.end = f->desc.aperture.start + PMD_SIZE;
	fake_register(test);
	start = memory_create(test, 1);
	memory_place(test, start, 1);
	m = mirror_create(test, "soft", start, 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 0, 0));
	KUNIT_EXPECT_EQ(test, 1, f->closed);
	mirror_destroy(m);
}

/* A window is not reclaimed for a while after its last use, nor by the call that has used it. */
static void window_is_not_taken(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = place_in_windows(test, 1);
	struct hmm_p2p_window *w = f->exp->windows;

	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	/* Used before the call began, but just now. */
	WRITE_ONCE(w[0].used, (u32)jiffies - 2);
	kref_get(&f->exp->kref);	/* hmm_p2p_resolve() consumes it */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_resolve(&m->peer, &w[3], jiffies));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_FAILED, fake_window_state(f, 3));
	/* Used long ago, but after the call began. */
	WRITE_ONCE(w[0].used, (u32)jiffies - HZ);
	kref_get(&f->exp->kref);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_resolve(&m->peer, &w[1], jiffies - 2 * HZ));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_FAILED, fake_window_state(f, 1));
	/* Used long ago, and before the call began. */
	kref_get(&f->exp->kref);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_resolve(&m->peer, &w[2], jiffies));
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 2));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	mirror_destroy(m);
}

static struct kunit_case hmm_p2p_window_cases[] = {
	KUNIT_CASE(window_opens_on_first_use),
	KUNIT_CASE(window_reclaim),
	KUNIT_CASE(window_without_references_goes_first),
	KUNIT_CASE(window_idle_for_longest_goes),
	KUNIT_CASE_SLOW(window_turns),
	KUNIT_CASE(window_keeps_its_turn),
	KUNIT_CASE(window_behind_others),
	KUNIT_CASE(window_wakes_nobody_else),
	KUNIT_CASE(window_exhaustion),
	KUNIT_CASE(window_contention),
	KUNIT_CASE(window_slow_open),
	KUNIT_CASE(window_open_fails),
	KUNIT_CASE(window_open_lies),
	KUNIT_CASE(window_outside_aperture),
	KUNIT_CASE(window_is_not_taken),
	{}
};

static struct kunit_suite hmm_p2p_window_suite = {
	.name = "hmm_p2p_window",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_window_cases,
};

/* The same tests with a driver that moves its pages by itself. */
static struct kunit_case hmm_p2p_window_without_engine_cases[] = {
	KUNIT_CASE(window_opens_on_first_use),
	KUNIT_CASE(window_reclaim),
	KUNIT_CASE(window_without_references_goes_first),
	KUNIT_CASE(window_idle_for_longest_goes),
	KUNIT_CASE_SLOW(window_turns),
	KUNIT_CASE(window_keeps_its_turn),
	KUNIT_CASE(window_behind_others),
	KUNIT_CASE(window_wakes_nobody_else),
	KUNIT_CASE(window_exhaustion),
	KUNIT_CASE(window_contention),
	KUNIT_CASE(window_slow_open),
	KUNIT_CASE(window_open_fails),
	KUNIT_CASE(window_open_lies),
	KUNIT_CASE(window_outside_aperture),
	KUNIT_CASE(window_is_not_taken),
	{}
};

static struct kunit_suite hmm_p2p_window_without_engine_suite = {
	.name = "hmm_p2p_window_without_engine",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_window_without_engine_cases,
};

fake_test_suites(hmm_p2p_window_suite, hmm_p2p_window_without_engine_suite);
