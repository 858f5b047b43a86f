// SPDX-License-Identifier: GPL-2.0
/* KUnit tests of the references that map entries hold on windows (alias_refs.c). */
#include "fake.h"

/* Create a mirror that has a pair with the exporter. */
static struct mirror *create_paired(struct kunit *test, unsigned long nr)
{
	unsigned long start = memory_create(test, nr);
	struct mirror *m = mirror_create(test, "soft", start, nr);

	memory_place(test, start, 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	mirror_let_go(m);
	return m;
}

static unsigned long peer_entry(struct fake *f, unsigned long i)
{
	return fake_alias(f, i) | HMM_PFN_VALID | HMM_PFN_PEER;
}

static int window_refs(struct fake *f, unsigned long i)
{
	return atomic_read(&f->exp->windows[i].refs);
}

static void track_counts_each_entry_once(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_dma_map *map;
	struct mirror *m;
	u64 before;

	fake_register(test);
	m = create_paired(test, 8);
	map = &m->map;
	before = hmm_p2p_total_read(f->exp, HMM_P2P_C_MAPPED);
	/* The last page of one window and the first page of the next one. */
	map->pfn_list[0] = peer_entry(f, WINDOW_PAGES - 1);
	map->pfn_list[1] = peer_entry(f, WINDOW_PAGES);
	map->pfn_list[5] = peer_entry(f, WINDOW_PAGES);
	hmm_p2p_map_get(map, 0);
	hmm_p2p_map_get(map, 1);
	hmm_p2p_map_get(map, 5);
	hmm_p2p_map_get(map, 5);
	KUNIT_EXPECT_EQ(test, 1, window_refs(f, 0));
	KUNIT_EXPECT_EQ(test, 2, window_refs(f, 1));
	KUNIT_EXPECT_EQ(test, 3, hmm_p2p_refs(f->exp));

	/* Put an entry without reference, and put another one twice. */
	hmm_p2p_map_put(map, 3);
	hmm_p2p_map_put(map, 5);
	hmm_p2p_map_put(map, 5);
	KUNIT_EXPECT_EQ(test, 1, window_refs(f, 1));
	hmm_p2p_map_put(map, 0);
	hmm_p2p_map_put(map, 1);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, before + 3,
			hmm_p2p_total_read(f->exp, HMM_P2P_C_MAPPED));
	KUNIT_EXPECT_EQ(test, before + 3,
			hmm_p2p_total_read(f->exp, HMM_P2P_C_UNMAPPED));
	mirror_destroy(m);
}

static void track_large_windows(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_large_windows(test);
	fake_register(test);
	m = create_paired(test, 8);
	m->map.pfn_list[0] = peer_entry(f, 2 * WINDOW_PAGES - 1);
	hmm_p2p_map_get(&m->map, 0);
	KUNIT_EXPECT_EQ(test, 1, window_refs(f, 0));
	hmm_p2p_map_put(&m->map, 0);
	KUNIT_EXPECT_EQ(test, 0, window_refs(f, 0));
	mirror_destroy(m);
}

/* The time of invalidations, and invalidations that drop nothing. */
static void track_times_invalidations(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_pair *pair;
	struct mirror *m;
	u64 sum = 0;
	int i;

	fake_register(test);
	m = create_paired(test, 8);
	pair = list_first_entry(&f->exp->pairs, struct hmm_p2p_pair, node);
	hmm_p2p_invalidate_begin(&m->map);
	hmm_p2p_invalidate_end(&m->map);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_pair_read(pair, HMM_P2P_C_INVALIDATIONS));
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 0));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_pair_read(pair, HMM_P2P_C_INVALIDATIONS));
	KUNIT_EXPECT_GT(test, atomic64_read(&pair->slowest), 0);
	for (i = 0; i < HMM_P2P_BUCKETS; i++)
		sum += hmm_p2p_pair_read(pair, HMM_P2P_C_BUCKET + i);
	KUNIT_EXPECT_EQ(test, 1, sum);
	mirror_destroy(m);
}

/* Another exporter has the same addresses.  No entry counts for the old one. */
static void track_after_rebinding(struct kunit *test)
{
	struct hmm_p2p_exporter *old;
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = create_paired(test, 8);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	old = f->exp;
	fake_unregister(f);
	fake_register(test);
	memory_place(test, m->start, 8);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 8, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 8, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 8, hmm_p2p_total_read(f->exp, HMM_P2P_C_MAPPED));
	/* The mirror's pair keeps the old exporter alive. */
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(old));
	mirror_let_go(m);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	mirror_destroy(m);
}

/* A cache line for a window, and 16 bytes for its slots in exp->let_go and the index. */
static void track_memory(struct kunit *test)
{
	unsigned long slot = DIV_ROUND_UP(sizeof(struct xa_node), XA_CHUNK_SIZE);

	KUNIT_EXPECT_EQ(test, sizeof(struct hmm_p2p_window), 64);
	KUNIT_EXPECT_LE(test, sizeof(u32) + slot, 16);
}

static struct kunit_case hmm_p2p_track_cases[] = {
	KUNIT_CASE(track_counts_each_entry_once),
	KUNIT_CASE(track_large_windows),
	KUNIT_CASE(track_times_invalidations),
	KUNIT_CASE(track_after_rebinding),
	KUNIT_CASE(track_memory),
	{}
};

static struct kunit_suite hmm_p2p_track_suite = {
	.name = "hmm_p2p_track",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_track_cases,
};

/* The same tests with a driver that moves its pages by itself. */
static struct kunit_case hmm_p2p_track_without_engine_cases[] = {
	KUNIT_CASE(track_counts_each_entry_once),
	KUNIT_CASE(track_large_windows),
	KUNIT_CASE(track_times_invalidations),
	{}
};

static struct kunit_suite hmm_p2p_track_without_engine_suite = {
	.name = "hmm_p2p_track_without_engine",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_track_without_engine_cases,
};

fake_test_suites(hmm_p2p_track_suite, hmm_p2p_track_without_engine_suite);
