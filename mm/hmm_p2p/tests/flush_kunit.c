// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of flushes.  A peer's last write is held back.  It arrives when the exporter is
 * told to flush, or when the test lets it arrive too late.
 */
#include "fake.h"
#include "../migrate/internal.h"

#define LATE	12345UL		/* what a peer writes last */

/* Each way of copying pages out of the device includes the last write. */
static void flush_before_copy_out(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 4);
	KUNIT_EXPECT_EQ(test, 0, f->nr_flushes);
	/* By a CPU fault. */
	fake_post(f, 0, LATE);
	KUNIT_EXPECT_EQ(test, LATE, memory_value(m->start, 0));
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	/* By address. */
	fake_post(f, 1, LATE + 1);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_migrate_to_ram(f->engine, current->mm,
				m->start + PAGE_SIZE, m->start + 2 * PAGE_SIZE, &result));
	KUNIT_EXPECT_EQ(test, LATE + 1, memory_value(m->start, 1));
	/* By place in device memory. */
	fake_post(f, 2, LATE + 2);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_evict(f->engine, 2 * PAGE_SIZE, PAGE_SIZE, &result));
	KUNIT_EXPECT_EQ(test, LATE + 2, memory_value(m->start, 2));
	/* By unregistering the device. */
	fake_post(f, 3, LATE + 3);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, LATE + 3, memory_value(m->start, 3));
	mirror_destroy(m);
}

/* A copy to another device copies pages out as well. */
static void flush_before_copy_to_peer(struct kunit *test)
{
	struct fake *a = test->priv, *b;
	struct hmm_p2p_result result = {};
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 2);
	fake_post(a, 1, LATE);
	b = fake_second(test);
	KUNIT_EXPECT_EQ(test, 0, memory_to_device(b, m->start, 2, 0, &result));
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_engine_sum(b->engine, HMM_P2P_E_FROM_PEER));
	KUNIT_EXPECT_EQ(test, 1, a->nr_flushes);
	KUNIT_EXPECT_EQ(test, 0, b->nr_flushes);
	KUNIT_EXPECT_EQ(test, LATE, memory_value(m->start, 1));
	mirror_destroy(m);
	fake_second_exit(test, b);
}

/* A late write to freed memory does not land in the next owner's data. */
static void flush_before_reuse(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long other, i;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 4);
	other = memory_create(test, 4);
	for (i = 0; i < 4; i++)
		fake_post(f, i, LATE);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(m->start, 4 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 4, f->freed);
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	/* No flush yet, because the memory has not been used again. */
	KUNIT_EXPECT_EQ(test, 0, f->nr_flushes);
	memory_place(test, other, 4);
	KUNIT_EXPECT_EQ(test, 4, bitmap_weight(f->used, 4));
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	fake_land(f);
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_TRUE(test, memory_right(other, i));
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	mirror_destroy(m);
}

/* hmm_p2p_flush_writes(), which drivers call. */
static void flush_for_driver(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 2);
	fake_post(f, 0, LATE);
	/* Each call flushes while a peer has the window mapped ... */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_writes(f->exp, PAGE_SIZE, 1));
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	KUNIT_EXPECT_EQ(test, 0, f->nr_posted);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_writes(f->exp, 0, PMD_SIZE));
	KUNIT_EXPECT_EQ(test, 2, f->nr_flushes);
	/* ... and once more after that. */
	mirror_let_go(m);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_writes(f->exp, 0, NR_PAGES * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 3, f->nr_flushes);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_writes(f->exp, 0, NR_PAGES * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 3, f->nr_flushes);
	KUNIT_EXPECT_EQ(test, 3, hmm_p2p_sum(f->exp->counters, HMM_P2P_C_FLUSHES));

	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_flush_writes(f->exp, 0, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_flush_writes(f->exp, PAGE_SIZE,
							    NR_PAGES * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_flush_writes(f->exp, PAGE_SIZE, ~0ULL));
	mirror_destroy(m);
}

/* The call for drivers that have no more than a page.  It does nothing without an exporter. */
static void flush_by_folio(struct kunit *test)
{
	struct fake *f = test->priv;
	struct folio *folio = page_folio(fake_page(f, 1));
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", WINDOW_PAGES + 1);
	fake_post(f, 1, LATE);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_folio(folio));
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	KUNIT_EXPECT_EQ(test, 0, f->nr_posted);
	/* The peer has only the other window. */
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(m->start, WINDOW_PAGES * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 1, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_folio(folio));
	KUNIT_EXPECT_EQ(test, 2, f->nr_flushes);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_folio(folio));
	KUNIT_EXPECT_EQ(test, 2, f->nr_flushes);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_folio(page_folio(fake_page(f, WINDOW_PAGES))));
	KUNIT_EXPECT_EQ(test, 3, f->nr_flushes);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 4, f->nr_flushes);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_folio(folio));
	KUNIT_EXPECT_EQ(test, 4, f->nr_flushes);
	mirror_destroy(m);
}

/*
 * A task that was about to flush when its exporter went.  The importer that does not let go is
 * why the core still sees something to flush, and the op must not be called any more.
 */
static void flush_after_unregister(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_exporter *exp;
	unsigned int flushes;
	struct mirror *m;

	fake_register(test);
	exp = f->exp;
	m = mirror_create_mapped(test, "bad importer", 1);
	m->keeps = true;
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_refs(exp));
	flushes = f->nr_flushes;
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_writes(exp, 0, PMD_SIZE));
	KUNIT_EXPECT_EQ(test, flushes, f->nr_flushes);
	m->keeps = false;
	mirror_destroy(m);
}

/* Windows without a peer are not flushed. */
static void flush_not_needed(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start, i;
	struct mirror *m;

	fake_register(test);
	start = memory_create(test, WINDOW_PAGES + 4);
	memory_place(test, start, WINDOW_PAGES + 4);
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_TRUE(test, memory_right(start, i));
	KUNIT_EXPECT_EQ(test, 0, f->nr_flushes);

	/* A peer has the first window mapped, and not the second one. */
	m = mirror_create(test, "soft", start, WINDOW_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 8, 4, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 4, mirror_peers(m));
	KUNIT_EXPECT_TRUE(test, memory_right(start, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, 0, f->nr_flushes);
	mirror_let_go(m);
	KUNIT_EXPECT_TRUE(test, memory_right(start, WINDOW_PAGES + 1));
	KUNIT_EXPECT_EQ(test, 0, f->nr_flushes);
	/* One flush covers everything that the peer has written there. */
	KUNIT_EXPECT_TRUE(test, memory_right(start, 8));
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 9));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 20));
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	mirror_destroy(m);
}

/* A late write arrives before its window closes. */
static void flush_before_close(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;
	struct mirror *m;

	fake_on_demand(test, 1);
	fake_register(test);
	start = memory_create(test, WINDOW_PAGES + 1);
	memory_place(test, start, WINDOW_PAGES + 1);
	m = mirror_create(test, "soft", start, WINDOW_PAGES + 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	fake_post(f, 0, LATE);
	/* The window was used long ago, and the fault needs its slot. */
	WRITE_ONCE(f->exp->windows[0].used, (u32)jiffies - HZ);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, WINDOW_PAGES, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, WINDOW_PAGES, fake_alias(f, WINDOW_PAGES)));
	KUNIT_EXPECT_EQ(test, 1, f->closed);
	KUNIT_EXPECT_FALSE(test, f->closed_too_early);
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	mirror_destroy(m);
}

/* When one of these calls returns, no write is on its way. */
static void flush_with_revoke(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 2);
	fake_post(f, 0, LATE);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, 1));
	KUNIT_EXPECT_EQ(test, 0, f->nr_posted);
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	mirror_destroy(m);
}

static void flush_with_reset(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 2);
	fake_post(f, 0, LATE);
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, 0, f->nr_posted);
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_EQ(test, LATE, memory_value(m->start, 0));
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	mirror_destroy(m);
}

static void flush_with_unregister(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 2);
	fake_post(f, 0, LATE);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(m->start, 2 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, f->nr_flushes);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 0, f->nr_posted);
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	mirror_destroy(m);
}

/* The core does not call flush_writes of a dead device. */
static void flush_of_dead_device(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 2);
	fake_post(f, 0, LATE);
	hmm_p2p_dead(f->exp);
	KUNIT_EXPECT_EQ(test, -ENODEV, hmm_p2p_flush_writes(f->exp, 0, PMD_SIZE));
	KUNIT_EXPECT_EQ(test, -ENODEV, hmm_p2p_flush_folio(page_folio(fake_page(f, 0))));
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 0, f->nr_flushes);
	mirror_destroy(m);
}

/* The op is optional. */
static void flush_without_op(struct kunit *test)
{
	static struct hmm_p2p_exporter_ops ops;
	struct fake *f = test->priv;
	struct mirror *m;

	ops = *f->desc.ops;
	ops.flush_writes = NULL;
	f->desc.ops = &ops;
	fake_register(test);
	m = mirror_create_mapped(test, "soft", 2);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_writes(f->exp, 0, PMD_SIZE));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, 1));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 0));
	mirror_destroy(m);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 0, f->nr_flushes);
}

static void flush_first_window(struct fake *f)
{
	hmm_p2p_flush_writes(f->exp, 0, PMD_SIZE);
}

static void flush_second_window(struct fake *f)
{
	hmm_p2p_flush_writes(f->exp, PMD_SIZE, PMD_SIZE);
}

/* A mirror that had pages of the first two windows mapped. */
static struct mirror *map_two_windows(struct kunit *test)
{
	struct mirror *m = mirror_create_mapped(test, "soft", WINDOW_PAGES + 1);

	mirror_let_go(m);
	return m;
}

/*
 * Two callers at a time.  All writes were sent before the first flush began, so it covers the
 * second caller, too.  That caller waits for the end and does not call the op.
 */
static void flush_waits_for_another(struct kunit *test)
{
	struct fake *f = test->priv;
	struct job first, second;
	struct mirror *m;

	fake_register(test);
	m = map_two_windows(test);
	f->hold_flush = true;
	job_call(test, &first, flush_first_window, f);
	wait_for_completion(&f->flush_begun);
	job_call(test, &second, flush_second_window, f);
	KUNIT_EXPECT_FALSE(test, job_done(&second, 100));
	/* This is for a second call of the op, which should not happen. */
	complete(&f->flush_go);
	complete(&f->flush_go);
	KUNIT_EXPECT_TRUE(test, job_done(&first, 10000));
	KUNIT_EXPECT_TRUE(test, job_done(&second, 10000));
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	f->hold_flush = false;
	mirror_destroy(m);
}

/* A peer has written since the first flush began, so the second caller calls the op itself. */
static void flush_again_after_another(struct kunit *test)
{
	struct fake *f = test->priv;
	struct job first, second;
	struct mirror *m;

	fake_register(test);
	m = map_two_windows(test);
	f->hold_flush = true;
	job_call(test, &first, flush_first_window, f);
	wait_for_completion(&f->flush_begun);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, WINDOW_PAGES, 1, HMM_PFN_REQ_FAULT));
	mirror_let_go(m);
	job_call(test, &second, flush_second_window, f);
	KUNIT_EXPECT_FALSE(test, job_done(&second, 100));
	complete(&f->flush_go);
	KUNIT_EXPECT_TRUE(test, job_done(&first, 10000));
	complete(&f->flush_go);
	KUNIT_EXPECT_TRUE(test, job_done(&second, 10000));
	KUNIT_EXPECT_EQ(test, 2, f->nr_flushes);
	f->hold_flush = false;
	mirror_destroy(m);
}

/* Two peers unmap pages of one window, and one of them has seen an earlier flush. */
static void flush_note_never_goes_back(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 1);
	/* The other peer has seen a flush that begins now. */
	f->exp->let_go[0] = f->exp->flush_begun + 1;
	mirror_let_go(m);
	KUNIT_EXPECT_EQ(test, f->exp->flush_begun + 1, f->exp->let_go[0]);
	mirror_destroy(m);
}

static struct kunit_case hmm_p2p_flush_cases[] = {
	KUNIT_CASE(flush_before_copy_out),
	KUNIT_CASE(flush_before_copy_to_peer),
	KUNIT_CASE(flush_before_reuse),
	KUNIT_CASE(flush_for_driver),
	KUNIT_CASE(flush_by_folio),
	KUNIT_CASE(flush_after_unregister),
	KUNIT_CASE(flush_not_needed),
	KUNIT_CASE(flush_before_close),
	KUNIT_CASE(flush_with_revoke),
	KUNIT_CASE(flush_with_reset),
	KUNIT_CASE(flush_with_unregister),
	KUNIT_CASE(flush_of_dead_device),
	KUNIT_CASE(flush_without_op),
	KUNIT_CASE(flush_waits_for_another),
	KUNIT_CASE(flush_again_after_another),
	KUNIT_CASE(flush_note_never_goes_back),
	{}
};

static struct kunit_suite hmm_p2p_flush_suite = {
	.name = "hmm_p2p_flush",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_flush_cases,
};

/* The same tests with a driver that moves its pages by itself. */
static struct kunit_case hmm_p2p_flush_without_engine_cases[] = {
	KUNIT_CASE(flush_before_reuse),
	KUNIT_CASE(flush_for_driver),
	KUNIT_CASE(flush_by_folio),
	KUNIT_CASE(flush_after_unregister),
	KUNIT_CASE(flush_not_needed),
	KUNIT_CASE(flush_before_close),
	KUNIT_CASE(flush_with_revoke),
	KUNIT_CASE(flush_with_reset),
	KUNIT_CASE(flush_with_unregister),
	KUNIT_CASE(flush_of_dead_device),
	{}
};

static struct kunit_suite hmm_p2p_flush_without_engine_suite = {
	.name = "hmm_p2p_flush_without_engine",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_flush_without_engine_cases,
};

fake_test_suites(hmm_p2p_flush_suite, hmm_p2p_flush_without_engine_suite);
