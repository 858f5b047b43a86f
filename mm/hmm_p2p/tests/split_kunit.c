// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of walks that meet a folio during its split: its tail pages have no pgmap from
 * __split_folio_to_order() until zone_device_private_split_cb() stores it.
 *
 * The race module cannot produce this.  The walk reads the entry and the pgmap in one function,
 * and the split calls no function between its two stores, unless the driver has a folio_split()
 * op.  The first test looks a page up inside of that op.  The others walk while they keep a
 * page in that state.
 */
#include "fake.h"

/* Store to the first word of a page, as mm/hmm.c reads it. */
static void set_first_word(struct page *page, void *word)
{
	WRITE_ONCE(((struct folio *)page)->pgmap, word);
}

static void *first_word(struct page *page)
{
	return READ_ONCE(((struct folio *)page)->pgmap);
}

struct look {
	struct mirror *m;
	unsigned int times;
	enum hmm_p2p_reason head;
	enum hmm_p2p_reason tail;
};

/* Called for the first tail page, when no tail page has a pgmap. */
static void lookup_in_split(struct fake *f, struct folio *head, struct folio *tail)
{
	struct look *look = f->split_arg;

	if (look->times++)
		return;
	look->head = mirror_ask(look->m, folio_page(head, 0));
	look->tail = mirror_ask(look->m, folio_page(head, 100));
}

static void split_has_no_pgmap(struct kunit *test)
{
	struct hmm_p2p_result result = {};
	struct fake *f = test->priv;
	struct look look = {};
	unsigned long i;

	fake_register(test);
	look.m = mirror_create(test, "soft", memory_create_huge(test, 0), WINDOW_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(look.m, 0, 1, HMM_PFN_REQ_FAULT));
	f->split_arg = &look;
	f->split = lookup_in_split;
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_migrate_to_ram(f->engine, look.m->mm,
				look.m->start + 8 * PAGE_SIZE,
				look.m->start + 9 * PAGE_SIZE, &result));
	f->split = NULL;
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, look.times);
	KUNIT_EXPECT_EQ(test, HMM_P2P_REACHABLE, look.head);
	KUNIT_EXPECT_EQ(test, HMM_P2P_STALE, look.tail);
	KUNIT_EXPECT_EQ(test, HMM_P2P_REACHABLE, mirror_ask(look.m, fake_page(f, 100)));
	for (i = 0; i < WINDOW_PAGES; i++)
		KUNIT_ASSERT_TRUE(test, memory_right(look.m->start, i));
	mirror_destroy(look.m);
}

/* Let @m fault on its page @i, which is @page, and wait until the page has a pgmap. */
static void walk_without_pgmap(struct kunit *test, struct mirror *m, unsigned long i,
			       struct page *page, void *without)
{
	void *word = first_word(page);
	struct job job;
	bool done;

	set_first_word(page, without);
	job_fault(test, &job, m, i, 1, HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE);
	done = job_done(&job, 50);
	set_first_word(page, word);
	KUNIT_EXPECT_FALSE(test, done);
	KUNIT_ASSERT_TRUE(test, done || job_done(&job, 60000));
	KUNIT_EXPECT_EQ(test, 0, job.ret);
}

static void split_walk_pte(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create(test, "soft", memory_create(test, 4), 4);
	memory_place(test, m->start, 4);
	/* Create the pair. */
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	walk_without_pgmap(test, m, 2, fake_page(f, 2), NULL);
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 2, fake_alias(f, 2)));
	/* The page has become a tail page of another folio, without pgmap. */
	walk_without_pgmap(test, m, 3, fake_page(f, 3),
			   (void *)((unsigned long)fake_page(f, 3) | 1));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 3, fake_alias(f, 3)));
	mirror_destroy(m);
}

static void split_walk_own_pte(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create(test, "soft", memory_create(test, 4), 4);
	m->owner = f;
	memory_place(test, m->start, 4);
	walk_without_pgmap(test, m, 2, fake_page(f, 2), NULL);
	KUNIT_EXPECT_EQ(test, page_to_pfn(fake_page(f, 2)),
			m->map.pfn_list[2] & ~HMM_PFN_FLAGS);
	mirror_destroy(m);
}

static void split_walk_pmd(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create(test, "soft", memory_create_huge(test, 1), WINDOW_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	walk_without_pgmap(test, m, 100, fake_page(f, WINDOW_PAGES + 100), NULL);
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 100, fake_alias(f, WINDOW_PAGES + 100)));
	mirror_destroy(m);
}

static struct kunit_case hmm_p2p_split_cases[] = {
	KUNIT_CASE(split_has_no_pgmap),
	KUNIT_CASE(split_walk_pte),
	KUNIT_CASE(split_walk_own_pte),
	KUNIT_CASE(split_walk_pmd),
	{}
};

static struct kunit_suite hmm_p2p_split_suite = {
	.name = "hmm_p2p_split",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_split_cases,
};

kunit_test_suite(hmm_p2p_split_suite);
