// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of memory that begins within a window of the bus (window_offset).  A huge page then
 * lies in two windows, which open, close and are revoked separately.
 */
#include <linux/mman.h>

#include "fake.h"
#include "../migrate/internal.h"

/* Pages of the first window that are in front of the memory: 64 KiB. */
#define SKIP		16UL
/* The first page of the second window. */
#define BORDER		(WINDOW_PAGES - SKIP)
#define MEMORY_PAGES	(NR_PAGES - SKIP)

static void shift_memory(struct fake *f)
{
	f->desc.window_offset = SKIP * PAGE_SIZE;
	f->desc.size = MEMORY_PAGES * PAGE_SIZE;
	f->small_pages = MEMORY_PAGES;
}

/* A huge page in the first two windows, and a mirror of it that has nothing mapped. */
static struct mirror *huge(struct kunit *test)
{
	shift_memory(test->priv);
	fake_register(test);
	return mirror_create(test, "soft", memory_create_huge(test, 0), WINDOW_PAGES);
}

/* The same with windows on demand. */
static struct mirror *huge_on_demand(struct kunit *test, unsigned int max_open)
{
	fake_on_demand(test, max_open);
	return huge(test);
}

static int want(struct mirror *m, unsigned long first, unsigned long nr)
{
	return mirror_fault(m, first, nr, HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE);
}

/* How many of the pages have the alias that they should have. */
static unsigned long right_aliases(struct fake *f, struct mirror *m, unsigned long first,
				   unsigned long nr)
{
	unsigned long i, n = 0;

	for (i = first; i < first + nr; i++)
		n += mirror_has(m, i, fake_alias(f, i));
	return n;
}

static unsigned long right_values(struct mirror *m)
{
	unsigned long i, n = 0;

	for (i = 0; i < m->nr; i++)
		n += memory_right(m->start, i);
	return n;
}

/* How many entries say that they are part of a huge page. */
static unsigned long with_order(struct mirror *m)
{
	unsigned long i, n = 0;

	for (i = 0; i < m->nr; i++)
		n += hmm_pfn_to_map_order(m->map.pfn_list[i]) >= HPAGE_PMD_ORDER;
	return n;
}

static int refs(struct fake *f, unsigned long window)
{
	return atomic_read(&f->exp->windows[window].refs);
}

/* One look for each window, and the aliases of each. */
static void border_two_looks(struct kunit *test)
{
	struct mirror *m = huge(test);
	struct fake *f = test->priv;

	KUNIT_ASSERT_EQ(test, 0, want(m, 0, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_total_read(f->exp, HMM_P2P_C_ALIASES));
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_total_read(f->exp, HMM_P2P_C_FAULTS));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, right_aliases(f, m, 0, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, BORDER, refs(f, 0));
	KUNIT_EXPECT_EQ(test, SKIP, refs(f, 1));
	/* An order would say that the aliases are neighbours. */
	KUNIT_EXPECT_EQ(test, 0, with_order(m));

	/* A part of it, on either side and across. */
	mirror_let_go(m);
	KUNIT_ASSERT_EQ(test, 0, want(m, 7, 3));
	KUNIT_ASSERT_EQ(test, 0, want(m, BORDER - 2, 4));
	KUNIT_ASSERT_EQ(test, 0, want(m, WINDOW_PAGES - 1, 1));
	KUNIT_EXPECT_EQ(test, 3, right_aliases(f, m, 7, 3));
	KUNIT_EXPECT_EQ(test, 4, right_aliases(f, m, BORDER - 2, 4));
	KUNIT_EXPECT_EQ(test, 1, right_aliases(f, m, WINDOW_PAGES - 1, 1));
	KUNIT_EXPECT_EQ(test, 0, with_order(m));
	KUNIT_EXPECT_EQ(test, 5, refs(f, 0));
	KUNIT_EXPECT_EQ(test, 3, refs(f, 1));
	KUNIT_EXPECT_EQ(test, 6, hmm_p2p_total_read(f->exp, HMM_P2P_C_ALIASES));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	mirror_destroy(m);
}

/*
 * A large window has a huge page at any place.  Entries have no order where a device could not
 * map the alias by a single entry, since it is not aligned, whatever part of the page they are.
 */
static void border_large_window(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_large_windows(test);
	m = huge(test);
	KUNIT_ASSERT_EQ(test, 0, want(m, 0, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp, HMM_P2P_C_ALIASES));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, right_aliases(f, m, 0, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, 0, with_order(m));
	mirror_let_go(m);
	/* The first page has an alias that is aligned, and the huge page has not. */
	KUNIT_ASSERT_EQ(test, 0, want(m, BORDER, 1));
	KUNIT_EXPECT_EQ(test, 1, right_aliases(f, m, BORDER, 1));
	KUNIT_EXPECT_EQ(test, 0, with_order(m));
	mirror_destroy(m);
}

/* The memory begins within a large window, at a multiple of a huge page: then it is aligned. */
static void border_large_window_aligned(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_large_windows(test);
	f->desc.window_offset = PMD_SIZE;
	f->desc.size = (NR_WINDOWS - 1) * PMD_SIZE;
	fake_register(test);
	m = mirror_create(test, "soft", memory_create_huge(test, 0), WINDOW_PAGES);
	KUNIT_ASSERT_EQ(test, 0, want(m, 0, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, right_aliases(f, m, 0, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, with_order(m));
	mirror_let_go(m);
	KUNIT_ASSERT_EQ(test, 0, want(m, 7, 3));
	KUNIT_EXPECT_EQ(test, 3, right_aliases(f, m, 7, 3));
	KUNIT_EXPECT_EQ(test, 3, with_order(m));
	mirror_destroy(m);
}

/* Small pages, which a walk finds by what it remembers of the last one. */
static void border_small_pages(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;
	struct mirror *m;

	shift_memory(f);
	fake_register(test);
	start = memory_create_placed(test, MEMORY_PAGES);
	m = mirror_create(test, "soft", start, MEMORY_PAGES);
	KUNIT_ASSERT_EQ(test, 0, want(m, 0, MEMORY_PAGES));
	KUNIT_EXPECT_EQ(test, MEMORY_PAGES, right_aliases(f, m, 0, MEMORY_PAGES));
	KUNIT_EXPECT_EQ(test, BORDER, refs(f, 0));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, refs(f, 1));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, refs(f, NR_WINDOWS - 1));
	mirror_destroy(m);
}

/* What the walk remembers ends with the memory, on both sides: others have PFNs there, too. */
static void border_of_memory(struct kunit *test)
{
	struct hmm_p2p_window *pending = NULL;
	struct hmm_p2p_cursor cursor = {};
	struct fake *f = test->priv;
	unsigned long alias;
	struct mirror *m;

	shift_memory(f);
	f->desc.size -= PAGE_SIZE;
	fake_register(test);
	m = mirror_create(test, "soft", memory_create(test, 1), 1);
	/* The two meet. */
	memory_place(test, m->start, 1);
	KUNIT_ASSERT_EQ(test, 0, want(m, 0, 1));

	rcu_read_lock();
	KUNIT_EXPECT_EQ(test, HMM_P2P_REACHABLE,
			hmm_p2p_lookup(&m->peer, &cursor, fake_page(f, 3), HMM_P2P_FAULT,
				       &alias, &pending));
	KUNIT_EXPECT_TRUE(test, hmm_p2p_lookup_again(&m->peer, &cursor, fake_page(f, 0), true,
						     &alias));
	KUNIT_EXPECT_EQ(test, fake_alias(f, 0), alias);
	KUNIT_EXPECT_TRUE(test, hmm_p2p_lookup_again(&m->peer, &cursor,
						     fake_page(f, BORDER - 1), true, &alias));
	KUNIT_EXPECT_EQ(test, fake_alias(f, BORDER - 1), alias);
	KUNIT_EXPECT_FALSE(test, hmm_p2p_lookup_again(&m->peer, &cursor, fake_page(f, BORDER),
						      true, &alias));
	KUNIT_EXPECT_FALSE(test, hmm_p2p_lookup_again(&m->peer, &cursor, fake_page(f, 0) - 1,
						      true, &alias));
	KUNIT_EXPECT_EQ(test, HMM_P2P_REACHABLE,
			hmm_p2p_lookup(&m->peer, &cursor, fake_page(f, MEMORY_PAGES - 2),
				       HMM_P2P_FAULT, &alias, &pending));
	KUNIT_EXPECT_EQ(test, fake_alias(f, MEMORY_PAGES - 2), alias);
	KUNIT_EXPECT_FALSE(test, hmm_p2p_lookup_again(&m->peer, &cursor,
						      fake_page(f, MEMORY_PAGES - 1), true,
						      &alias));
	rcu_read_unlock();
	hmm_p2p_lookup_done(&cursor);
	mirror_destroy(m);
}

/* A look at a page of which one window is open moves nothing. */
static void border_one_closed(struct kunit *test)
{
	struct mirror *m = huge_on_demand(test, NR_WINDOWS);
	struct fake *f = test->priv;
	unsigned long i;

	KUNIT_ASSERT_EQ(test, 0, want(m, 0, BORDER));
	KUNIT_EXPECT_EQ(test, 1, f->opened);
	mirror_let_go(m);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, WINDOW_PAGES, 0));
	KUNIT_EXPECT_EQ(test, BORDER, right_aliases(f, m, 0, BORDER));
	for (i = BORDER; i < WINDOW_PAGES; i++)
		KUNIT_ASSERT_EQ(test, 0, m->map.pfn_list[i] & ~HMM_PFN_FLAGS);
	KUNIT_EXPECT_EQ(test, BORDER, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, BORDER, refs(f, 0));
	KUNIT_EXPECT_EQ(test, 0, refs(f, 1));
	KUNIT_EXPECT_EQ(test, 1, f->opened);
	KUNIT_EXPECT_EQ(test, 0, f->freed);

	/* What wants the rest opens the second one. */
	KUNIT_ASSERT_EQ(test, 0, want(m, BORDER, 1));
	KUNIT_EXPECT_EQ(test, 2, f->opened);
	KUNIT_EXPECT_EQ(test, 1, right_aliases(f, m, BORDER, 1));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	mirror_destroy(m);
}

/* Only the second one is open. */
static void border_first_closed(struct kunit *test)
{
	struct mirror *m = huge_on_demand(test, NR_WINDOWS);
	struct fake *f = test->priv;

	KUNIT_ASSERT_EQ(test, 0, want(m, BORDER + 1, 1));
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 0));
	mirror_let_go(m);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, WINDOW_PAGES, 0));
	KUNIT_EXPECT_EQ(test, SKIP, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, SKIP, right_aliases(f, m, BORDER, SKIP));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	mirror_destroy(m);
}

/* Room for one window, and all of the page is wanted: all of it goes to RAM. */
static void border_no_room(struct kunit *test)
{
	struct mirror *m = huge_on_demand(test, 1);
	struct fake *f = test->priv;
	unsigned long i;

	KUNIT_ASSERT_EQ(test, 0, want(m, 0, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	for (i = 0; i < WINDOW_PAGES; i++)
		KUNIT_ASSERT_TRUE(test, mirror_has(m, i, 0));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, f->freed);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 1, f->opened);
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, right_values(m));
	mirror_destroy(m);
}

/* The second window is one that the bus does not show. */
static void border_invisible(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	f->absent = BIT(1);
	m = huge(test);
	KUNIT_ASSERT_EQ(test, 0, want(m, 0, BORDER));
	KUNIT_EXPECT_EQ(test, BORDER, right_aliases(f, m, 0, BORDER));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	KUNIT_ASSERT_EQ(test, 0, want(m, BORDER, 1));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, BORDER, 0));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, right_values(m));
	mirror_destroy(m);
}

static unsigned int nr_calls;

static void count_call(struct mirror *m)
{
	nr_calls++;
}

/* One call of a notifier takes the aliases of the page, whichever window is revoked. */
static void border_revoke(struct kunit *test)
{
	struct mirror *m = huge(test);
	struct fake *f = test->priv;
	unsigned long i;

	m->stay = count_call;
	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_EQ(test, 0, want(m, 0, WINDOW_PAGES));
		KUNIT_EXPECT_EQ(test, SKIP, refs(f, 1));
		nr_calls = 0;
		KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, i * BORDER * PAGE_SIZE,
							PAGE_SIZE));
		KUNIT_EXPECT_EQ(test, 1, nr_calls);
		KUNIT_EXPECT_EQ(test, 0, refs(f, i));
		KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, i));
		KUNIT_EXPECT_EQ(test, i + 1, hmm_p2p_total_read(f->exp, HMM_P2P_C_REVOKED));
	}
	/* The last byte of one window and the first of the next. */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, BORDER * PAGE_SIZE - 1, 2));
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_total_read(f->exp, HMM_P2P_C_REVOKED));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	m->stay = NULL;
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, right_values(m));
	mirror_destroy(m);
}

/* A part over the border is unmapped: the rest goes on to be used, in both windows. */
static void border_unmap(struct kunit *test)
{
	struct mirror *m = huge(test);
	struct fake *f = test->priv;
	unsigned long first = BORDER - 2, nr = 4;

	KUNIT_ASSERT_EQ(test, 0, want(m, 0, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(m->start + first * PAGE_SIZE, nr * PAGE_SIZE));
	KUNIT_EXPECT_LE(test, refs(f, 0), first);
	KUNIT_EXPECT_LE(test, refs(f, 1), SKIP - 2);
	KUNIT_ASSERT_EQ(test, 0, want(m, 0, first));
	KUNIT_ASSERT_EQ(test, 0, want(m, first + nr, SKIP - 2));
	KUNIT_EXPECT_EQ(test, first, right_aliases(f, m, 0, first));
	KUNIT_EXPECT_EQ(test, SKIP - 2, right_aliases(f, m, first + nr, SKIP - 2));
	KUNIT_EXPECT_EQ(test, first, refs(f, 0));
	KUNIT_EXPECT_EQ(test, SKIP - 2, refs(f, 1));
	mirror_destroy(m);
}

/* A reset, death and unregistering take what is in both. */
static void border_reset_and_death(struct kunit *test)
{
	struct mirror *m = huge(test);
	struct fake *f = test->priv;

	KUNIT_ASSERT_EQ(test, 0, want(m, 0, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_ASSERT_EQ(test, 0, want(m, 0, WINDOW_PAGES));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, right_aliases(f, m, 0, WINDOW_PAGES));
	/* What is broken is of the second window, and one page. */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_poison(f->exp, BORDER * PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, BORDER - 1));
	KUNIT_EXPECT_EQ(test, ULONG_MAX, memory_value(m->start, BORDER));
	hmm_p2p_dead(f->exp);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	mirror_destroy(m);
}

static void border_unregister(struct kunit *test)
{
	struct mirror *m = huge(test);
	struct fake *f = test->priv;

	KUNIT_ASSERT_EQ(test, 0, want(m, 0, WINDOW_PAGES));
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, right_values(m));
	mirror_destroy(m);
}

/* A second device, whose memory has room for a huge page, and where it goes. */
static struct fake *second_for(struct kunit *test, struct mirror *m)
{
	struct hmm_p2p_result result = {};
	struct fake *b = fake_second(test);

	b->gives_huge = true;
	KUNIT_EXPECT_EQ(test, 0, memory_to_device(b, m->start, WINDOW_PAGES, 0, &result));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, result.migrated);
	return b;
}

/* A copy to another device: a piece for each window, and what a peer wrote in the second. */
static void border_copy(struct kunit *test)
{
	struct mirror *m = huge(test);
	struct fake *a = test->priv, *b;

	/* A peer that has pages of the second window only, and whose write is on its way. */
	KUNIT_ASSERT_EQ(test, 0, want(m, BORDER, SKIP));
	fake_post(a, WINDOW_PAGES - 1, 12345);
	b = second_for(test, m);
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, hmm_p2p_engine_sum(b->engine, HMM_P2P_E_FROM_PEER));
	KUNIT_EXPECT_EQ(test, 2, b->nr_pieces);
	KUNIT_EXPECT_EQ(test, 1, a->nr_flushes);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(a->exp));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, a->freed);
	KUNIT_EXPECT_EQ(test, 12345, memory_value(m->start, WINDOW_PAGES - 1));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES - 1, right_values(m));
	fake_second_exit(test, b);
	mirror_destroy(m);
}

/* One of the two windows is closed: the page goes through RAM as a whole. */
static void border_copy_closed(struct kunit *test)
{
	struct mirror *m = huge_on_demand(test, NR_WINDOWS);
	struct fake *a = test->priv, *b;

	KUNIT_ASSERT_EQ(test, 0, want(m, 0, 1));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(a, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(a, 1));
	b = second_for(test, m);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_engine_sum(b->engine, HMM_P2P_E_FROM_PEER));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, hmm_p2p_engine_sum(a->engine, HMM_P2P_E_TO_RAM));
	KUNIT_EXPECT_EQ(test, 1, a->opened);
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, right_values(m));
	fake_second_exit(test, b);
	mirror_destroy(m);
}

static struct kunit_case hmm_p2p_border_cases[] = {
	KUNIT_CASE(border_two_looks),
	KUNIT_CASE(border_large_window),
	KUNIT_CASE(border_large_window_aligned),
	KUNIT_CASE(border_small_pages),
	KUNIT_CASE(border_of_memory),
	KUNIT_CASE(border_one_closed),
	KUNIT_CASE(border_first_closed),
	KUNIT_CASE(border_no_room),
	KUNIT_CASE(border_invisible),
	KUNIT_CASE(border_revoke),
	KUNIT_CASE(border_unmap),
	KUNIT_CASE(border_reset_and_death),
	KUNIT_CASE(border_unregister),
	KUNIT_CASE(border_copy),
	KUNIT_CASE(border_copy_closed),
	{}
};

static struct kunit_suite hmm_p2p_border_suite = {
	.name = "hmm_p2p_border",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_border_cases,
};

/* The same where the driver moves its pages by itself. */
static struct kunit_case hmm_p2p_border_without_engine_cases[] = {
	KUNIT_CASE(border_two_looks),
	KUNIT_CASE(border_large_window),
	KUNIT_CASE(border_large_window_aligned),
	KUNIT_CASE(border_small_pages),
	KUNIT_CASE(border_of_memory),
	KUNIT_CASE(border_one_closed),
	KUNIT_CASE(border_first_closed),
	KUNIT_CASE(border_no_room),
	KUNIT_CASE(border_invisible),
	KUNIT_CASE(border_revoke),
	KUNIT_CASE(border_unmap),
	KUNIT_CASE(border_unregister),
	{}
};

static struct kunit_suite hmm_p2p_border_without_engine_suite = {
	.name = "hmm_p2p_border_without_engine",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_border_without_engine_cases,
};

fake_test_suites(hmm_p2p_border_suite, hmm_p2p_border_without_engine_suite);
