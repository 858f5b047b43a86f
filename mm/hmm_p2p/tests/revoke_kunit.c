// SPDX-License-Identifier: GPL-2.0
/* KUnit tests of revoke, reset, death and poison. */
#include <linux/delay.h>

#include "fake.h"

/* Register the exporter, and create a mirror with @nr of its pages. */
static struct mirror *create_mapped(struct kunit *test, const char *name, unsigned long nr)
{
	fake_register(test);
	return mirror_create_mapped(test, name, nr);
}

/* Revoke takes aliases away.  The memory stays in place, and new aliases are available. */
static void revoke_all(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", 20);

	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, NR_PAGES * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 20, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 19, fake_alias(f, 19)));
	mirror_let_go(m);
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 19));
	mirror_destroy(m);
}

static void revoke_range(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", WINDOW_PAGES + 10);

	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, PMD_SIZE + 5, 1));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, hmm_p2p_refs(f->exp));
	mirror_destroy(m);
}

static void revoke_bad_range(struct kunit *test)
{
	struct fake *f = test->priv;
	u64 size = NR_PAGES * PAGE_SIZE;

	fake_register(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_revoke(f->exp, 0, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_revoke(f->exp, 0, size + 1));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_revoke(f->exp, size, 1));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_revoke(f->exp, U64_MAX, 2));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_poison(f->exp, 0, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_poison(f->exp, size, 1));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, size));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_reset_end(f->exp));
}

static void revoke_importer(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", 8);

	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke_importer("somebody else"));
	KUNIT_EXPECT_EQ(test, 8, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke_importer("soft"));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	mirror_destroy(m);
}

/* Revoke waits for a locked folio and does not keep it from being unlocked and used. */
static void revoke_locked_page(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", 4);
	struct folio *folio = page_folio(fake_page(f, 2));

	folio_lock(folio);
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_p2p_revoke(f->exp, 0, 1));
	KUNIT_EXPECT_EQ(test, 1, folio_ref_count(folio));
	folio_unlock(folio);
	/* The window is in use again, and can be revoked again. */
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 4, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 4, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, 1));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	mirror_destroy(m);
}

/* Users of the memory wait for a reset, and then find the same pages. */
static void reset(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", 8);
	struct job job;

	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	job_fault(test, &job, m, 0, 8, HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 300));
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_TRUE(test, job_done(&job, 5000));
	KUNIT_EXPECT_EQ(test, 0, job.ret);
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 7, fake_alias(f, 7)));
	KUNIT_EXPECT_EQ(test, 8, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 3));
	mirror_destroy(m);
}

static void reset_huge(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;
	struct mirror *m;

	fake_register(test);
	start = memory_create_huge(test, 1);
	m = mirror_create(test, "soft", start, WINDOW_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, WINDOW_PAGES,
					      HMM_PFN_REQ_FAULT));
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, WINDOW_PAGES,
			HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, HPAGE_PMD_ORDER,
			hmm_pfn_to_map_order(m->map.pfn_list[0]));
	/* One page of the huge page breaks.  The others stay. */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_poison(f->exp, PMD_SIZE + 9 * PAGE_SIZE, 1));
	KUNIT_EXPECT_EQ(test, -EFAULT, mirror_fault(m, 9, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 10, WINDOW_PAGES - 10,
					      HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 10, fake_alias(f, WINDOW_PAGES + 10)));
	mirror_let_go(m);
	KUNIT_EXPECT_FALSE(test, memory_right(start, 9));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 8));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 511));
	mirror_destroy(m);
}

/* A reset parks a huge page once, however often it scans for the remaining pages. */
static void reset_huge_beside_locked(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;
	struct folio *folio;
	struct job job;

	fake_register(test);
	start = memory_create(test, 1);
	memory_place(test, start, 1);
	start = memory_create_huge(test, 1);
	folio = page_folio(fake_page(f, 0));
	folio_lock(folio);
	job_call(test, &job, fake_begin_reset, f);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 100));
	folio_unlock(folio);
	KUNIT_ASSERT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 100));
}

/* Death ends a reset that waits for a page. */
static void dead_in_begin(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", 8);
	struct folio *folio = page_folio(fake_page(f, 3));
	struct job reset, death;

	folio_lock(folio);
	job_call(test, &reset, fake_begin_reset, f);
	KUNIT_EXPECT_FALSE(test, job_done(&reset, 50));
	job_call(test, &death, fake_die, f);
	KUNIT_EXPECT_TRUE(test, job_done(&reset, 10000));
	folio_unlock(folio);
	KUNIT_EXPECT_TRUE(test, job_done(&death, 10000));
	KUNIT_EXPECT_EQ(test, 8, f->freed);
	KUNIT_EXPECT_EQ(test, -ENODEV, hmm_p2p_reset_end(f->exp));
	mirror_destroy(m);
}

/* The data of a dead device is lost, and accesses fail. */
static void dead(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", 8);
	struct hmm_p2p_result result = {};

	hmm_p2p_dead(f->exp);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 8, f->freed);
	KUNIT_EXPECT_EQ(test, -EFAULT, mirror_fault(m, 3, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 3));
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 8, 0));
	KUNIT_EXPECT_EQ(test, -ENODEV, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, -ENODEV, hmm_p2p_revoke(f->exp, 0, 1));
	if (f->engine)
		KUNIT_EXPECT_EQ(test, -ENODEV, memory_to_device(f, m->start, 1, 0, &result));
	/* The mapping still exists, and does not delay unregister. */
	fake_unregister(f);
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 3));
	mirror_destroy(m);
}

/* An exporter that is unregistered, and to which a task has a reference, stays as it is. */
static void unregistered_neither_resets_nor_dies(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_exporter *exp;

	fake_register(test);
	exp = f->exp;
	hmm_p2p_exporter_get(exp);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, -ENODEV, hmm_p2p_reset_begin(exp));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_reset_end(exp));
	hmm_p2p_dead(exp);
	KUNIT_EXPECT_EQ(test, HMM_P2P_STATE_DRAINING, READ_ONCE(exp->state));
	KUNIT_EXPECT_EQ(test, -ENODEV, hmm_p2p_revoke(exp, 0, 1));
	hmm_p2p_exporter_put(exp);
}

static void dead_in_reset(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", 8);
	struct job job;

	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	job_fault(test, &job, m, 0, 8, HMM_PFN_REQ_FAULT);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 50));
	hmm_p2p_dead(f->exp);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 5000));
	KUNIT_EXPECT_EQ(test, -EFAULT, job.ret);
	KUNIT_EXPECT_EQ(test, -ENODEV, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_EQ(test, 8, f->freed);
	mirror_destroy(m);
}

static void poison(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", 8);

	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_poison(f->exp, 5 * PAGE_SIZE, 1));
	KUNIT_EXPECT_EQ(test, 7, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 1, f->freed);
	KUNIT_EXPECT_EQ(test, -EFAULT, mirror_fault(m, 5, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 4, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 4, fake_alias(f, 4)));
	mirror_let_go(m);
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 5));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 4));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 6));
	/* Free memory is poisoned as well. */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_poison(f->exp, PMD_SIZE, PMD_SIZE));
	mirror_destroy(m);
}

/* A reset takes a locked page as soon as it is unlocked. */
static void reset_waits_for_locked_page(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", 8);
	struct folio *folio = page_folio(fake_page(f, 7));
	struct job job;

	folio_lock(folio);
	job_call(test, &job, fake_begin_reset, f);
	while (READ_ONCE(f->exp->state) != HMM_P2P_STATE_RESETTING)
		msleep(1);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 20));
	folio_unlock(folio);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 5000));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 7));
	mirror_destroy(m);
}

static void begin_revoke(struct fake *f)
{
	hmm_p2p_revoke(f->exp, 0, 1);
}

/* During a revoke, lookups give no aliases.  A locked page keeps the revoke going. */
static void revoke_hands_out_none(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, "soft", 4);
	struct folio *folio = page_folio(fake_page(f, 3));
	struct job job;

	folio_lock(folio);
	job_call(test, &job, begin_revoke, f);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 100));
	KUNIT_EXPECT_EQ(test, HMM_P2P_REVOKING, fake_window_state(f, 0));
	/* Page 0 has lost its alias, and a lookup gives no new one. */
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 1, 0));
	KUNIT_EXPECT_FALSE(test, mirror_has(m, 0, fake_alias(f, 0)));
	folio_unlock(folio);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 5000));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	mirror_destroy(m);
}

/* Small pages that are neighbours cost an importer one call of its callback. */
static void revoke_neighbours_at_once(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", WINDOW_PAGES);
	m->calls = 0;
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, 1));
	KUNIT_EXPECT_EQ(test, 1, m->calls);
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_FALSE(test, m->peer.importer->quarantined);
	mirror_destroy(m);
}

/* Nothing else is taken away: neither pages of another window, nor pages in RAM. */
static void revoke_leaves_neighbours(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *a, *b;

	fake_register(test);
	/* Pages 0 to 3, and 4 to 515: so the last four of these are in another window. */
	a = mirror_create_mapped(test, "soft", 4);
	b = mirror_create_mapped(test, "soft", WINDOW_PAGES);
	KUNIT_EXPECT_TRUE(test, memory_right(b->start, 100));
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(b, 100, 1, HMM_PFN_REQ_FAULT));
	a->calls = 0;
	b->calls = 0;
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, 1));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(a));
	KUNIT_EXPECT_EQ(test, 1, a->calls);
	KUNIT_EXPECT_EQ(test, 4, mirror_peers(b));
	KUNIT_EXPECT_TRUE(test, mirror_has(b, WINDOW_PAGES - 4, fake_alias(f, WINDOW_PAGES)));
	KUNIT_EXPECT_TRUE(test, mirror_has(b, 100, 0));
	KUNIT_EXPECT_EQ(test, 2, b->calls);
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_refs(f->exp));
	mirror_destroy(a);
	mirror_destroy(b);
}

/*
 * The first page of a huge page that was freed stays free, and keeps its size.  It does not hide
 * the pages behind it, which are in use again.
 */
static void revoke_behind_free_head(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;
	struct mirror *m;

	fake_register(test);
	start = memory_create_huge(test, 0);
	KUNIT_ASSERT_TRUE(test, memory_right(start, 0));
	KUNIT_ASSERT_EQ(test, WINDOW_PAGES, f->freed);
	/* As drivers that do not hand out the first free page. */
	set_bit(0, f->used);
	m = mirror_create_mapped(test, "soft", 4);
	clear_bit(0, f->used);
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 0, fake_alias(f, 1)));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, 1));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	mirror_destroy(m);
}

static struct kunit_case hmm_p2p_revoke_cases[] = {
	KUNIT_CASE(revoke_all),
	KUNIT_CASE(revoke_range),
	KUNIT_CASE(revoke_bad_range),
	KUNIT_CASE(revoke_importer),
	KUNIT_CASE(revoke_locked_page),
	KUNIT_CASE(reset),
	KUNIT_CASE(reset_huge),
	KUNIT_CASE(reset_waits_for_locked_page),
	KUNIT_CASE(reset_huge_beside_locked),
	KUNIT_CASE(dead),
	KUNIT_CASE(dead_in_begin),
	KUNIT_CASE(dead_in_reset),
	KUNIT_CASE(unregistered_neither_resets_nor_dies),
	KUNIT_CASE(poison),
	KUNIT_CASE(revoke_hands_out_none),
	KUNIT_CASE(revoke_neighbours_at_once),
	KUNIT_CASE(revoke_leaves_neighbours),
	KUNIT_CASE(revoke_behind_free_head),
	{}
};

static struct kunit_suite hmm_p2p_revoke_suite = {
	.name = "hmm_p2p_revoke",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_revoke_cases,
};

/* The same tests with a driver that moves its pages by itself. */
static struct kunit_case hmm_p2p_revoke_without_engine_cases[] = {
	KUNIT_CASE(revoke_all),
	KUNIT_CASE(revoke_range),
	KUNIT_CASE(revoke_bad_range),
	KUNIT_CASE(revoke_importer),
	KUNIT_CASE(revoke_locked_page),
	KUNIT_CASE(reset),
	KUNIT_CASE(reset_huge),
	KUNIT_CASE(reset_waits_for_locked_page),
	KUNIT_CASE(reset_huge_beside_locked),
	KUNIT_CASE(dead),
	KUNIT_CASE(dead_in_begin),
	KUNIT_CASE(dead_in_reset),
	KUNIT_CASE(unregistered_neither_resets_nor_dies),
	KUNIT_CASE(poison),
	KUNIT_CASE(revoke_hands_out_none),
	KUNIT_CASE(revoke_neighbours_at_once),
	KUNIT_CASE(revoke_leaves_neighbours),
	KUNIT_CASE(revoke_behind_free_head),
	{}
};

static struct kunit_suite hmm_p2p_revoke_without_engine_suite = {
	.name = "hmm_p2p_revoke_without_engine",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_revoke_without_engine_cases,
};

fake_test_suites(hmm_p2p_revoke_suite, hmm_p2p_revoke_without_engine_suite);
