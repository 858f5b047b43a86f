// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the migration engine in cases that a real driver cannot produce: copies that
 * overlap or fail late, a device that has vanished, a full device, and a window that is revoked
 * during a copy between two devices.
 */
#include "fake.h"
#include "../migrate/internal.h"

/* While one batch is copied, the next one is collected and its copy begins. */
static void migrate_pipelines(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};
	unsigned long start, nr = 2 * WINDOW_PAGES;

	f->async = true;
	fake_register(test);
	start = memory_create(test, nr);
	/* The first copy ends when the second one has begun, or after ten seconds. */
	KUNIT_EXPECT_EQ(test, 0, memory_to_device(f, start, nr, 0, &result));
	KUNIT_EXPECT_EQ(test, 2, f->nr_copies);
	KUNIT_EXPECT_EQ(test, nr, result.migrated);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 0));
	KUNIT_EXPECT_TRUE(test, memory_right(start, nr - 1));
	KUNIT_EXPECT_TRUE(test, f->overlapped);
}

/* An error of an asynchronous copy counts like one that the op returns. */
static void migrate_fails_late(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};
	unsigned long start;

	f->async = true;
	f->copy_error = -EIO;
	fake_register(test);
	start = memory_create(test, 8);
	complete(&f->copy_go);
	KUNIT_EXPECT_EQ(test, -EIO, memory_to_device(f, start, 8, 0, &result));
	KUNIT_EXPECT_EQ(test, 8, result.count[HMM_P2P_COPY_FAILED]);
	KUNIT_EXPECT_EQ(test, 8, result.failed);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 7));
	KUNIT_EXPECT_EQ(test, 8, f->freed);
	f->copy_error = 0;
}

/* Data that is read from a vanished device is not used. */
static void migrate_lost_device(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};
	unsigned long start;

	fake_register(test);
	start = memory_create(test, 4);
	memory_place(test, start, 4);
	f->lost = true;
	KUNIT_EXPECT_EQ(test, -EIO, hmm_p2p_migrate_to_ram(f->engine, current->mm, start,
				start + 4 * PAGE_SIZE, &result));
	KUNIT_EXPECT_EQ(test, 4, result.count[HMM_P2P_COPY_FAILED]);
	KUNIT_EXPECT_FALSE(test, memory_right(start, 0));
	f->lost = false;
	KUNIT_EXPECT_TRUE(test, memory_right(start, 3));
}

/* A device vanishes during unregister.  Its data is lost, and unregister ends in finite time. */
static void migrate_lost_in_unregister(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;

	fake_register(test);
	start = memory_create(test, 8);
	memory_place(test, start, 4);
	f->lost = true;
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 4, f->freed);
	KUNIT_EXPECT_FALSE(test, memory_right(start, 0));
	KUNIT_EXPECT_FALSE(test, memory_right(start, 3));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 4));
}

/* A full device is asked to make room, and the chunk is repeated. */
static void migrate_makes_room(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};
	unsigned long start;

	f->small_pages = 8;
	fake_register(test);
	start = memory_create(test, 12);
	memory_place(test, start, 8);
	/* Four more pages need room, so four others are evicted. */
	KUNIT_EXPECT_EQ(test, 0, memory_to_device(f, start + 8 * PAGE_SIZE, 4, 0, &result));
	KUNIT_EXPECT_EQ(test, 1, f->nr_room);
	KUNIT_EXPECT_EQ(test, 4, result.migrated);
	KUNIT_EXPECT_EQ(test, 0, result.failed);
	KUNIT_EXPECT_EQ(test, 4, f->freed);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 0));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 11));
}

/* The device dies in make_room(), so the chunk is not repeated and counts as it was. */
static void migrate_dies_for_room(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};
	unsigned long start;

	f->small_pages = 8;
	f->dies_for_room = true;
	fake_register(test);
	start = memory_create(test, 12);
	KUNIT_EXPECT_EQ(test, -ENODEV, memory_to_device(f, start, 12, 0, &result));
	KUNIT_EXPECT_EQ(test, 8, result.count[HMM_P2P_MOVED]);
	KUNIT_EXPECT_EQ(test, 4, result.count[HMM_P2P_NO_MEMORY]);
	KUNIT_EXPECT_FALSE(test, memory_right(start, 7));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 8));
}

/* The result is optional. */
static void migrate_without_result(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start, end;

	fake_register(test);
	start = memory_create(test, 4);
	end = start + 4 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_migrate_to_device(f->engine, current->mm, start, end,
							   0, NULL));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_migrate_to_ram(f->engine, current->mm, start,
							start + PAGE_SIZE, NULL));
	KUNIT_EXPECT_EQ(test, 1, f->freed);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_evict(f->engine, 0, NR_PAGES * PAGE_SIZE, NULL));
	KUNIT_EXPECT_EQ(test, 4, f->freed);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 3));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_migrate_to_device(f->engine, current->mm, end,
								 start, 0, NULL));
}

/* A page that is evicted, and one that stays, keep nothing of their process. */
static void migrate_evict_puts_anon_vma(struct kunit *test)
{
	struct fake *f = test->priv;
	struct anon_vma *anon_vma;
	unsigned long start;
	int refs;

	fake_register(test);
	start = memory_create(test, 2);
	memory_place(test, start, 2);
	anon_vma = folio_anon_vma_seen(page_folio(fake_page(f, 0)));
	refs = atomic_read(&anon_vma->refcount);
	f->copy_error = -EIO;
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_evict(f->engine, 0, PMD_SIZE, NULL));
	KUNIT_EXPECT_EQ(test, refs, atomic_read(&anon_vma->refcount));
	f->copy_error = 0;
	folio_get(page_folio(fake_page(f, 1)));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_evict(f->engine, 0, PMD_SIZE, NULL));
	folio_put(page_folio(fake_page(f, 1)));
	KUNIT_EXPECT_EQ(test, 1, f->freed);
	KUNIT_EXPECT_EQ(test, refs, atomic_read(&anon_vma->refcount));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 0));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 1));
}

static u64 engine_stat(struct fake *f, enum hmm_p2p_engine_stat stat)
{
	return hmm_p2p_engine_get_stat(f->engine, stat);
}

/* The counters that a driver's policy can read. */
static void migrate_stats(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};
	struct mirror *m;
	unsigned long start;
	unsigned int i;

	f->no_kva = true;
	fake_register(test);
	for (i = HMM_P2P_STAT_PEER_FAULTS; i <= HMM_P2P_STAT_PEER_FALLBACKS; i++)
		KUNIT_EXPECT_EQ(test, 0, hmm_p2p_get_stat(f->exp, i));
	for (i = HMM_P2P_ENGINE_STAT_TO_DEVICE; i <= HMM_P2P_ENGINE_STAT_CPU_FAULTS; i++)
		KUNIT_EXPECT_EQ(test, 0, engine_stat(f, i));
	start = memory_create(test, 8);
	memory_place(test, start, 8);
	KUNIT_EXPECT_EQ(test, 8, engine_stat(f, HMM_P2P_ENGINE_STAT_TO_DEVICE));
	KUNIT_EXPECT_EQ(test, 0, engine_stat(f, HMM_P2P_ENGINE_STAT_TO_RAM));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_migrate_to_ram(f->engine, current->mm, start,
				start + 4 * PAGE_SIZE, &result));
	KUNIT_EXPECT_EQ(test, 4, engine_stat(f, HMM_P2P_ENGINE_STAT_TO_RAM));
	KUNIT_EXPECT_EQ(test, 0, engine_stat(f, HMM_P2P_ENGINE_STAT_CPU_FAULTS));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 4));
	KUNIT_EXPECT_EQ(test, 5, engine_stat(f, HMM_P2P_ENGINE_STAT_TO_RAM));
	KUNIT_EXPECT_EQ(test, 1, engine_stat(f, HMM_P2P_ENGINE_STAT_CPU_FAULTS));
	/* This peer does not reach two of the pages. */
	m = mirror_create(test, "soft", start, 8);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 5, 2, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_get_stat(f->exp, HMM_P2P_STAT_PEER_FALLBACKS));
	KUNIT_EXPECT_LE(test, 2, hmm_p2p_get_stat(f->exp, HMM_P2P_STAT_PEER_FAULTS));
	KUNIT_EXPECT_EQ(test, 7, engine_stat(f, HMM_P2P_ENGINE_STAT_TO_RAM));
	KUNIT_EXPECT_EQ(test, 3, engine_stat(f, HMM_P2P_ENGINE_STAT_CPU_FAULTS));
	KUNIT_EXPECT_EQ(test, 8, engine_stat(f, HMM_P2P_ENGINE_STAT_TO_DEVICE));
	/* The totals stay when the peer is destroyed. */
	mirror_destroy(m);
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_get_stat(f->exp, HMM_P2P_STAT_PEER_FALLBACKS));
}

/* If nothing can be evicted, or the caller forbids it, as many pages move as fit. */
static void migrate_full(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};
	unsigned long start;

	f->small_pages = 8;
	f->room = -ENOMEM;
	fake_register(test);
	start = memory_create(test, 12);
	KUNIT_EXPECT_EQ(test, -ENOMEM, memory_to_device(f, start, 12, 0, &result));
	KUNIT_EXPECT_EQ(test, 1, f->nr_room);
	KUNIT_EXPECT_EQ(test, 8, result.migrated);
	KUNIT_EXPECT_EQ(test, 4, result.count[HMM_P2P_NO_MEMORY]);
	KUNIT_EXPECT_EQ(test, -ENOMEM, memory_to_device(f, start + 8 * PAGE_SIZE, 4,
							HMM_P2P_NO_EVICT, &result));
	KUNIT_EXPECT_EQ(test, 1, f->nr_room);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 11));
}

static void migrate_bad_flags(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};
	unsigned long start;

	fake_register(test);
	start = memory_create(test, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, memory_to_device(f, start, 1, 0x4, &result));
	KUNIT_EXPECT_EQ(test, -EINVAL, memory_to_device(f, start + 1, 1, 0, &result));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_evict(f->engine, 0, 0, &result));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_evict(f->engine, PAGE_SIZE, NR_PAGES * PAGE_SIZE,
						     &result));
	KUNIT_EXPECT_EQ(test, 0, f->nr_copies);
}

static struct {
	struct mm_struct *mm;
	unsigned long start;
	struct hmm_p2p_result result;
	int ret;
} between;

static void migrate_between(struct fake *f)
{
	between.ret = hmm_p2p_migrate_to_device(f->engine, between.mm, between.start,
						between.start + 4 * PAGE_SIZE, 0,
						&between.result);
}

/* Also on a host so slow that one attempt gives up. */
static void revoke_first_window(struct fake *f)
{
	while (hmm_p2p_revoke(f->exp, 0, PMD_SIZE) == -EBUSY)
		;
}

/*
 * A copy between two devices uses a window of the source while no page table has its pages.
 * Revoking the window waits for the locks of these pages.
 */
static void migrate_keeps_window(struct kunit *test)
{
	struct fake *a = test->priv, *b;
	struct job copy, revoke;
	unsigned long start;

	fake_register(test);
	b = fake_second(test);
	start = memory_create(test, 4);
	memory_place(test, start, 4);
	between.mm = current->mm;
	between.start = start;
	b->hold_copies = true;
	job_call(test, &copy, migrate_between, b);
	wait_for_completion(&b->copy_begun);
	job_call(test, &revoke, revoke_first_window, a);
	KUNIT_EXPECT_FALSE(test, job_done(&revoke, 200));
	complete(&b->copy_go);
	KUNIT_EXPECT_TRUE(test, job_done(&copy, 10000));
	KUNIT_EXPECT_TRUE(test, job_done(&revoke, 10000));
	b->hold_copies = false;
	KUNIT_EXPECT_EQ(test, 0, between.ret);
	KUNIT_EXPECT_EQ(test, 4, between.result.migrated);
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_engine_sum(b->engine, HMM_P2P_E_FROM_PEER));
	KUNIT_EXPECT_EQ(test, 4, a->freed);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_sum(a->exp->counters, HMM_P2P_C_QUARANTINES));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 3));
	fake_second_exit(test, b);
}

/* A copy does not open a closed window.  The pages go through RAM. */
static void migrate_opens_no_window(struct kunit *test)
{
	struct fake *a = test->priv, *b;
	struct hmm_p2p_result result = {};
	unsigned long start;

	fake_on_demand(test, NR_WINDOWS);
	fake_register(test);
	b = fake_second(test);
	start = memory_create(test, 4);
	memory_place(test, start, 4);
	KUNIT_EXPECT_EQ(test, 0, memory_to_device(b, start, 4, 0, &result));
	KUNIT_EXPECT_EQ(test, 4, result.migrated);
	KUNIT_EXPECT_EQ(test, 0, a->opened);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_engine_sum(b->engine, HMM_P2P_E_FROM_PEER));
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_engine_sum(a->engine, HMM_P2P_E_TO_RAM));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 3));
	fake_second_exit(test, b);
}

/*
 * The device is found to be full after the pages have moved to RAM.  It is asked to make room
 * if that is allowed, and each page counts once.
 */
static void migrate_makes_room_behind_closed_windows(struct kunit *test)
{
	struct hmm_p2p_result result = {};
	unsigned long start, others;
	struct fake *b;

	fake_on_demand(test, NR_WINDOWS);
	fake_register(test);
	b = fake_second(test);
	start = memory_create(test, 4);
	others = memory_create(test, 3);
	KUNIT_EXPECT_EQ(test, 0, memory_to_device(b, others, 3, 0, &result));
	b->small_pages = 4;

	memory_place(test, start, 4);
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			memory_to_device(b, start, 4, HMM_P2P_NO_EVICT, &result));
	KUNIT_EXPECT_EQ(test, 0, b->nr_room);
	KUNIT_EXPECT_EQ(test, 1, result.migrated);
	KUNIT_EXPECT_EQ(test, 3, result.failed);
	KUNIT_EXPECT_EQ(test, 0, result.skipped);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 0));

	memory_place(test, start, 4);
	KUNIT_EXPECT_EQ(test, 0, memory_to_device(b, start, 4, 0, &result));
	KUNIT_EXPECT_EQ(test, 1, b->nr_room);
	KUNIT_EXPECT_EQ(test, 4, result.migrated);
	KUNIT_EXPECT_EQ(test, 0, result.failed);
	KUNIT_EXPECT_EQ(test, 0, result.skipped);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 3));
	KUNIT_EXPECT_TRUE(test, memory_right(others, 2));
	fake_second_exit(test, b);
}

/* Small pages in place of a former huge page.  Leftovers in the struct pages do no harm. */
static void migrate_after_huge(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};
	unsigned long huge, small;

	fake_register(test);
	huge = memory_create_huge(test, 0);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_migrate_to_ram(f->engine, current->mm, huge,
				huge + PMD_SIZE, &result));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, result.migrated);
	small = memory_create(test, 3);
	memory_place(test, small, 3);
	/* Their neighbours still look like tail pages of the first one. */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, PMD_SIZE));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_evict(f->engine, 0, PMD_SIZE, &result));
	KUNIT_EXPECT_EQ(test, 3, result.migrated);
	KUNIT_EXPECT_TRUE(test, memory_right(small, 2));
}

/*
 * A process unmaps a huge page that is a migration entry, here because of a reset.  The reset
 * keeps its reference.
 */
static void migrate_huge_unmapped_meanwhile(struct kunit *test)
{
	struct fake *f = test->priv;
	struct folio *folio;
	unsigned long huge;

	fake_register(test);
	huge = memory_create_huge(test, 0);
	folio = page_folio(fake_page(f, 0));
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, 1, folio_ref_count(folio));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(huge, PMD_SIZE));
	KUNIT_EXPECT_EQ(test, 1, folio_ref_count(folio));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	/* Without its reference the page is free by now. */
	if (!f->freed)
		KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, f->freed);
}

static struct kunit_case hmm_p2p_migrate_cases[] = {
	KUNIT_CASE_SLOW(migrate_pipelines),
	KUNIT_CASE(migrate_fails_late),
	KUNIT_CASE(migrate_lost_device),
	KUNIT_CASE(migrate_lost_in_unregister),
	KUNIT_CASE(migrate_without_result),
	KUNIT_CASE(migrate_evict_puts_anon_vma),
	KUNIT_CASE(migrate_makes_room),
	KUNIT_CASE(migrate_dies_for_room),
	KUNIT_CASE(migrate_stats),
	KUNIT_CASE(migrate_full),
	KUNIT_CASE(migrate_bad_flags),
	KUNIT_CASE_SLOW(migrate_keeps_window),
	KUNIT_CASE(migrate_opens_no_window),
	KUNIT_CASE(migrate_makes_room_behind_closed_windows),
	KUNIT_CASE(migrate_after_huge),
	KUNIT_CASE(migrate_huge_unmapped_meanwhile),
	{}
};

static struct kunit_suite hmm_p2p_migrate_suite = {
	.name = "hmm_p2p_migrate",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_migrate_cases,
};

kunit_test_suite(hmm_p2p_migrate_suite);
