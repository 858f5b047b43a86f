// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of where the memory of an exporter ends: windows that the bus does not show,
 * and memory that is shorter than its pgmap and ends within a window.
 */
#include <linux/delay.h>
#include <linux/memremap.h>

#include "fake.h"

/* Memory of three windows and a half. */
#define SHORT_PAGES	(3 * WINDOW_PAGES + WINDOW_PAGES / 2)

static u64 fallbacks(struct fake *f)
{
	return hmm_p2p_total_read(f->exp, HMM_P2P_C_FALLBACK + HMM_P2P_NO_WINDOW);
}

/* A mirror of @nr pages that are all on the device. */
static struct mirror *place(struct kunit *test, unsigned long nr)
{
	unsigned long start = memory_create(test, nr);

	memory_place(test, start, nr);
	return mirror_create(test, "soft", start, nr);
}

/* Windows that are always visible, but for one: registration takes that, and asks once. */
static void invisible_at_registration(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long i, gone = 2 * WINDOW_PAGES;
	struct mirror *m;

	f->absent = BIT(2);
	fake_register(test);
	KUNIT_EXPECT_EQ(test, HMM_P2P_INVISIBLE, fake_window_state(f, 2));
	KUNIT_EXPECT_EQ(test, 1, f->exp->nr_invisible);
	m = place(test, NR_PAGES);
	/* A look moves nothing. */
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, gone - 1, 3, 0));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, gone - 1, fake_alias(f, gone - 1)));
	KUNIT_EXPECT_EQ(test, 1, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, f->freed);

	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, NR_PAGES, HMM_PFN_REQ_FAULT));
	for (i = 0; i < NR_PAGES; i++) {
		bool absent = i >= gone && i < gone + WINDOW_PAGES;

		KUNIT_ASSERT_TRUE(test, mirror_has(m, i, absent ? 0 : fake_alias(f, i)));
		KUNIT_ASSERT_TRUE(test, !absent || memory_right(m->start, i));
	}
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, f->freed);
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, fallbacks(f));
	KUNIT_EXPECT_EQ(test, NR_WINDOWS, f->nr_asked);

	/* There is nothing to take away, and what follows it is taken. */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, NR_WINDOWS * PMD_SIZE));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, HMM_P2P_INVISIBLE, fake_window_state(f, 2));
	mirror_destroy(m);
}

/* Windows on demand: one that is not there is asked for once, however long ago that was. */
static void invisible_on_demand(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_window *w;
	struct mirror *m;

	fake_on_demand(test, NR_WINDOWS);
	f->absent = BIT(1);
	fake_register(test);
	m = place(test, 2 * WINDOW_PAGES);
	w = &f->exp->windows[1];
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 1));
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, WINDOW_PAGES - 1, 2, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, WINDOW_PAGES - 1, fake_alias(f, WINDOW_PAGES - 1)));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, WINDOW_PAGES, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_INVISIBLE, fake_window_state(f, 1));
	KUNIT_EXPECT_EQ(test, 2, f->nr_asked);

	/* So much later a window that failed to open would be tried again. */
	WRITE_ONCE(w->used, (u32)jiffies - 10 * HZ);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, WINDOW_PAGES + 5, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, WINDOW_PAGES + 5, 0));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, WINDOW_PAGES + 5));
	KUNIT_EXPECT_EQ(test, 2, f->nr_asked);
	KUNIT_EXPECT_EQ(test, 2, fallbacks(f));
	mirror_destroy(m);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 1, f->closed);
}

/* Memory that the bus does not show at all is refused, and leaves nothing behind. */
static void invisible_all(struct kunit *test)
{
	struct fake *f = test->priv;

	f->absent = BIT(NR_WINDOWS) - 1;
	EXPECT_REFUSED(-ENXIO, f);
	/* Another error than that is one, also behind a window that is not there. */
	f->absent = BIT(0);
	f->open_error = -EIO;
	EXPECT_REFUSED(-EIO, f);
	f->absent = 0;
	f->open_error = 0;
	fake_register(test);
	KUNIT_EXPECT_EQ(test, 0, f->exp->nr_invisible);
}

/* A page behind the memory, which the driver uses for something else. */
static struct folio *page_behind(struct fake *f)
{
	struct page *page = fake_page(f, SHORT_PAGES);

	__set_bit(SHORT_PAGES, f->used);
	zone_device_page_init(page, &f->pgmap, 0);
	return page_folio(page);
}

static void short_register(struct kunit *test)
{
	struct fake *f = test->priv;

	f->desc.size = SHORT_PAGES * PAGE_SIZE;
	f->small_pages = SHORT_PAGES;
	fake_register(test);
	KUNIT_EXPECT_EQ(test, NR_WINDOWS, f->exp->nr_windows);
	KUNIT_EXPECT_EQ(test, SHORT_PAGES, f->exp->nr_pages);
}

/* All of the memory has aliases, and what is behind it none, nor is it looked at. */
static void short_memory(struct kunit *test)
{
	struct fake *f = test->priv;
	u64 size = SHORT_PAGES * PAGE_SIZE;
	struct folio *behind;
	struct mirror *m;
	unsigned long i;
	struct job job;
	bool done;

	short_register(test);
	m = place(test, SHORT_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, SHORT_PAGES, HMM_PFN_REQ_FAULT));
	for (i = 0; i < SHORT_PAGES; i++)
		KUNIT_ASSERT_TRUE(test, mirror_has(m, i, fake_alias(f, i)));
	behind = page_behind(f);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_EXPORTER, mirror_ask(m, folio_page(behind, 0)));

	/* The page is locked: whoever looks at it gives up, or waits for ever. */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, size - PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 3 * WINDOW_PAGES, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, SHORT_PAGES - 1, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, SHORT_PAGES - 1, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, SHORT_PAGES - 1, fake_alias(f, SHORT_PAGES - 1)));

	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_writes(f->exp, size - PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_flush_writes(f->exp, size, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_revoke(f->exp, size, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_poison(f->exp, size, PAGE_SIZE));

	mirror_destroy(m);
	job_call(test, &job, fake_unregister, f);
	done = job_done(&job, 20000);
	KUNIT_EXPECT_TRUE(test, done);
	KUNIT_EXPECT_TRUE(test, folio_test_locked(behind));
	hmm_p2p_drop_folio(behind);
	if (!done)
		KUNIT_EXPECT_TRUE(test, job_done(&job, 20000));
}

/* Death takes what there is. */
static void short_memory_dies(struct kunit *test)
{
	struct fake *f = test->priv;
	struct folio *behind;
	struct mirror *m;

	short_register(test);
	m = place(test, SHORT_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, SHORT_PAGES, HMM_PFN_REQ_FAULT));
	behind = page_behind(f);
	hmm_p2p_dead(f->exp);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, SHORT_PAGES, f->freed);
	hmm_p2p_drop_folio(behind);
	mirror_destroy(m);
}

/* The driver hands such a page out: the engine does not take it. */
static void short_memory_alloc(struct kunit *test)
{
	unsigned long start = memory_create(test, 1);
	struct fake *f = test->priv;
	struct folio *behind;

	short_register(test);
	behind = page_behind(f);
	folio_unlock(behind);
	f->give = folio_page(behind, 0);
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, -ENOMEM,
				memory_to_device(f, start, 1, HMM_P2P_NO_EVICT, NULL));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, 1, folio_ref_count(behind));
	f->give = NULL;
	folio_put(behind);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 0));
}

/* An aperture that begins and ends within windows, @cut bytes too early for the last one. */
static struct mirror *short_aperture(struct kunit *test, u64 cut)
{
	struct fake *f = test->priv;
	phys_addr_t last = page_to_phys(f->blocks[3]);
	struct mirror *m;

	fake_on_demand(test, NR_WINDOWS);
	f->desc.aperture.start = last - PMD_SIZE / 2 - cut;
	f->desc.aperture.end = last + PMD_SIZE / 2 - 1 - cut;
	short_register(test);
	m = place(test, SHORT_PAGES);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, SHORT_PAGES - 1, 1, HMM_PFN_REQ_FAULT));
	return m;
}

/* The last window needs room in the aperture for its memory only. */
static void short_last_window(struct kunit *test)
{
	struct mirror *m = short_aperture(test, 0);

	KUNIT_EXPECT_TRUE(test, mirror_has(m, SHORT_PAGES - 1,
					   fake_alias(test->priv, SHORT_PAGES - 1)));
	mirror_destroy(m);
}

static void short_aperture_too_short(struct kunit *test)
{
	struct mirror *m = short_aperture(test, 1);

	KUNIT_EXPECT_TRUE(test, mirror_has(m, SHORT_PAGES - 1, 0));
	mirror_destroy(m);
}

/* The highest alias, by which it is decided who reaches all of them. */
static void short_memory_reach(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long i;

	/* The last window is the highest on the bus. */
	for (i = 0; i < NR_WINDOWS - 1; i++)
		if (page_to_phys(f->blocks[i]) > page_to_phys(f->blocks[NR_WINDOWS - 1]))
			swap(f->blocks[i], f->blocks[NR_WINDOWS - 1]);
	short_register(test);
	KUNIT_EXPECT_EQ(test, page_to_phys(f->blocks[NR_WINDOWS - 1]) + PMD_SIZE / 2 - 1,
			f->exp->alias_last);
}

static struct kunit_case hmm_p2p_extent_cases[] = {
	KUNIT_CASE(invisible_at_registration),
	KUNIT_CASE(invisible_on_demand),
	KUNIT_CASE(invisible_all),
	KUNIT_CASE(short_memory),
	KUNIT_CASE(short_memory_dies),
	KUNIT_CASE(short_last_window),
	KUNIT_CASE(short_aperture_too_short),
	KUNIT_CASE(short_memory_reach),
	KUNIT_CASE(short_memory_alloc),
	{}
};

static struct kunit_suite hmm_p2p_extent_suite = {
	.name = "hmm_p2p_extent",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_extent_cases,
};

/* The same where the driver moves its pages by itself. */
static struct kunit_case hmm_p2p_extent_without_engine_cases[] = {
	KUNIT_CASE(invisible_at_registration),
	KUNIT_CASE(invisible_on_demand),
	KUNIT_CASE(short_memory),
	KUNIT_CASE(short_memory_dies),
	KUNIT_CASE(short_last_window),
	KUNIT_CASE(short_aperture_too_short),
	{}
};

static struct kunit_suite hmm_p2p_extent_without_engine_suite = {
	.name = "hmm_p2p_extent_without_engine",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_extent_without_engine_cases,
};

fake_test_suites(hmm_p2p_extent_suite, hmm_p2p_extent_without_engine_suite);
