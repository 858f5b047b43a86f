// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of pairs: their size, how mirrors join and leave them, and that most mirrors do so
 * without a lock that processes share.
 */
#include <linux/slab.h>
#include <linux/tracepoint.h>

#include "fake.h"

static struct hmm_p2p_pair *pair_of(struct fake *f, struct mirror *m)
{
	return hmm_p2p_pair_of(&m->peer, f->exp->id);
}

/* A pair is at most 4 KiB, and no count of any CPU is lost. */
static void pair_size(struct kunit *test)
{
	static const unsigned int machines[] = { 1, 2, 3, 31, 32, 33, 256, 8192 };
	unsigned int i, counter, cpu;

	for (i = 0; i < ARRAY_SIZE(machines); i++) {
		struct hmm_p2p_pair *pair = hmm_p2p_pair_alloc(machines[i]);

		KUNIT_ASSERT_NOT_NULL(test, pair);
		KUNIT_EXPECT_LE(test, ksize(pair), SZ_4K);
		for (counter = 0; counter < HMM_P2P_NR_COUNTERS; counter++) {
			bool counted = counter < HMM_P2P_C_NR_HOT ||
				       counter >= HMM_P2P_C_FALLBACK;

			for (cpu = 0; counted && cpu < machines[i]; cpu++)
				atomic64_inc(hmm_p2p_pair_counter(pair, counter, cpu));
			KUNIT_EXPECT_EQ(test, counted ? machines[i] : 0,
					hmm_p2p_pair_read(pair, counter));
		}
		kfree(pair);
	}
}

/* As long as a mirror has met no exporter it has no memory of ours, and no importer. */
static void stranger_costs_nothing(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start = memory_create(test, 2);
	struct mirror *m;

	fake_register(test);
	m = mirror_create(test, "soft", start, 2);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 2, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 0, 0));
	KUNIT_EXPECT_NULL(test, m->map.peer);
	KUNIT_EXPECT_NULL(test, m->peer.importer);
	KUNIT_EXPECT_TRUE(test, xa_empty(&m->peer.pairs));
	memory_place(test, start, 1);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 2, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 0, fake_alias(f, 0)));
	KUNIT_EXPECT_NOT_NULL(test, m->map.peer);
	mirror_destroy(m);
	KUNIT_EXPECT_EQ(test, 0, list_count_nodes(&f->exp->pairs));
}

/*
 * A mirror in a thread of its own, which waits for @go: a thread cannot be made under
 * hmm_p2p_pairs_lock, as that takes memory.
 */
static struct {
	struct completion go;
	struct hmm_p2p_peer_desc desc;
	int ret;
	bool alias;
} joiner;

/* All that a memory region does in its life. */
static void mirror_comes_and_goes(struct fake *f)
{
	struct mirror *m = f->wants;

	wait_for_completion(&joiner.go);
	joiner.ret = hmm_p2p_peer_init(&m->peer, &joiner.desc);
	joiner.ret = joiner.ret ?: mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT);
	joiner.alias = mirror_peers(m) == 1;
	/* As its callback does. */
	mutex_lock(&m->lock);
	hmm_p2p_invalidate_begin(&m->map);
	hmm_p2p_map_put(&m->map, 0);
	hmm_p2p_invalidate_end(&m->map);
	m->map.pfn_list[0] = 0;
	mutex_unlock(&m->lock);
	hmm_p2p_peer_destroy(&m->peer);
}

static void mirror_faults(struct fake *f)
{
	wait_for_completion(&joiner.go);
	joiner.ret = mirror_fault(f->wants, 0, 1, HMM_PFN_REQ_FAULT);
}

static void joiner_start(struct kunit *test, struct job *job, void (*call)(struct fake *f))
{
	init_completion(&joiner.go);
	joiner.ret = -ETIMEDOUT;
	joiner.alias = false;
	job_call(test, job, call, test->priv);
}

/*
 * Once a mirror of the process has met the exporter, others meet it, use its memory, let go of it
 * and are destroyed without a lock that processes share.  The test holds all of these locks
 * meanwhile.
 */
static void joining_takes_no_shared_lock(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;
	struct mirror *first;
	struct job job;
	bool done;

	fake_register(test);
	start = memory_create(test, 2);
	memory_place(test, start, 2);
	first = mirror_create(test, "soft", start, 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(first, 0, 1, HMM_PFN_REQ_FAULT));
	f->wants = mirror_create(test, "soft", start + PAGE_SIZE, 1);
	hmm_p2p_peer_destroy(&f->wants->peer);
	joiner.desc = (struct hmm_p2p_peer_desc) {
		.name = "soft", .identity = mirror_identity("soft"), .map = &f->wants->map,
		.nr_entries = 1, .mm = current->mm,
	};

	joiner_start(test, &job, mirror_comes_and_goes);
	mutex_lock(&f->exp->life);
	KUNIT_EXPECT_TRUE(test, down_write_trylock(&f->exp->live_sem));
	mutex_lock(&hmm_p2p_pairs_lock);
	complete(&joiner.go);
	done = job_done(&job, 10000);
	mutex_unlock(&hmm_p2p_pairs_lock);
	up_write(&f->exp->live_sem);
	mutex_unlock(&f->exp->life);
	KUNIT_EXPECT_TRUE(test, done);
	if (!done)
		KUNIT_EXPECT_TRUE(test, job_done(&job, 60000));
	KUNIT_EXPECT_EQ(test, 0, joiner.ret);
	KUNIT_EXPECT_TRUE(test, joiner.alias);
	/* It met the pair of the first one, which counts for both. */
	KUNIT_EXPECT_EQ(test, 1, list_count_nodes(&f->exp->pairs));
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_pair_read(pair_of(f, first), HMM_P2P_C_MAPPED));
	KUNIT_EXPECT_EQ(test, 1, refcount_read(&pair_of(f, first)->users));
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&first->peer.importer->mirrors));
	mirror_destroy(f->wants);
	mirror_destroy(first);
	KUNIT_EXPECT_EQ(test, 0, list_count_nodes(&f->exp->pairs));
}

/* A pair whose last mirror is being destroyed is not joined any more: see pair.c. */
static void pair_that_ends(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *last, *next;
	struct hmm_p2p_pair *over;
	unsigned long start;
	struct job job;

	fake_register(test);
	start = memory_create(test, 2);
	memory_place(test, start, 2);
	last = mirror_create(test, "soft", start, 1);
	next = mirror_create(test, "soft", start + PAGE_SIZE, 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(last, 0, 1, HMM_PFN_REQ_FAULT));
	over = pair_of(f, last);
	f->wants = next;
	joiner_start(test, &job, mirror_faults);
	/* Make the pair look like one that has ended and is still in the table. */
	mutex_lock(&hmm_p2p_pairs_lock);
	refcount_set(&over->users, 0);
	complete(&joiner.go);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 200));
	mutex_unlock(&hmm_p2p_pairs_lock);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 60000));
	KUNIT_EXPECT_EQ(test, 0, joiner.ret);
	KUNIT_EXPECT_EQ(test, 1, mirror_peers(next));
	KUNIT_EXPECT_PTR_NE(test, pair_of(f, next), over);
	KUNIT_EXPECT_EQ(test, 2, list_count_nodes(&f->exp->pairs));
	refcount_set(&over->users, 1);
	mirror_destroy(last);
	KUNIT_EXPECT_EQ(test, 1, list_count_nodes(&f->exp->pairs));
	mirror_destroy(next);
	KUNIT_EXPECT_EQ(test, 0, list_count_nodes(&f->exp->pairs));
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_total_read(f->exp, HMM_P2P_C_MAPPED));
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_total_read(f->exp, HMM_P2P_C_UNMAPPED));
}

/* A mirror that has met two exporters is one mirror of its importer. */
static void mirror_of_two_pairs(struct kunit *test)
{
	struct fake *a = test->priv, *b;
	struct hmm_p2p_importer *importer;
	struct mirror *m, *other;
	unsigned long start;

	fake_register(test);
	b = fake_second(test);
	start = memory_create(test, 3);
	memory_place_on(test, a, start, 1);
	memory_place_on(test, b, start + PAGE_SIZE, 2);
	m = mirror_create(test, "soft", start, 2);
	other = mirror_create(test, "soft", start + 2 * PAGE_SIZE, 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 2, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 2, mirror_peers(m));
	importer = m->peer.importer;
	KUNIT_EXPECT_PTR_EQ(test, importer, pair_of(a, m)->importer);
	KUNIT_EXPECT_PTR_EQ(test, importer, pair_of(b, m)->importer);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&importer->mirrors));
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(other, 0, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_PTR_EQ(test, importer, other->peer.importer);
	KUNIT_EXPECT_EQ(test, 2, atomic_read(&importer->mirrors));
	KUNIT_EXPECT_EQ(test, 1, refcount_read(&pair_of(a, m)->users));
	KUNIT_EXPECT_EQ(test, 2, refcount_read(&pair_of(b, m)->users));
	mirror_destroy(m);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&importer->mirrors));
	KUNIT_EXPECT_EQ(test, 0, list_count_nodes(&a->exp->pairs));
	KUNIT_EXPECT_EQ(test, 1, list_count_nodes(&b->exp->pairs));
	mirror_destroy(other);
	fake_second_exit(test, b);
}

/* The entries of the last invalidation, by exporter. */
static struct {
	struct fake *a;
	struct fake *b;
	unsigned long of_a;
	unsigned long of_b;
} invalidated;

static void see_invalidation(void *data, const char *exporter, const char *importer,
			     unsigned long entries, u64 ns)
{
	if (!strcmp(exporter, invalidated.a->name))
		invalidated.of_a += entries;
	if (!strcmp(exporter, invalidated.b->name))
		invalidated.of_b += entries;
}

static void find_invalidate(struct tracepoint *tp, void *found)
{
	if (!strcmp(tp->name, "hmm_p2p_invalidate"))
		*(struct tracepoint **)found = tp;
}

/* One invalidation takes aliases of two exporters, in turns.  Each counts its own. */
static void invalidation_of_two_pairs(struct kunit *test)
{
	struct fake *a = test->priv, *b;
	struct tracepoint *tp = NULL;
	unsigned long start, round;
	struct mirror *m;

	for_each_kernel_tracepoint(find_invalidate, &tp);
	KUNIT_ASSERT_NOT_NULL(test, tp);
	fake_register(test);
	b = fake_second(test);
	invalidated.a = a;
	invalidated.b = b;
	start = memory_create(test, 10);
	for (round = 0; round < 10; round += 5) {
		memory_place_on(test, a, start + round * PAGE_SIZE, 1);
		memory_place_on(test, b, start + (round + 1) * PAGE_SIZE, 3);
		memory_place_on(test, a, start + (round + 4) * PAGE_SIZE, 1);
	}
	m = mirror_create(test, "soft", start, 10);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 10, HMM_PFN_REQ_FAULT));
	KUNIT_ASSERT_EQ(test, 10, mirror_peers(m));
	KUNIT_ASSERT_EQ(test, 0, tracepoint_probe_register(tp, see_invalidation, NULL));
	for (round = 0; round < 10; round += 5) {
		invalidated.of_a = 0;
		invalidated.of_b = 0;
		KUNIT_EXPECT_EQ(test, 0, vm_munmap(start + round * PAGE_SIZE, 5 * PAGE_SIZE));
		KUNIT_EXPECT_EQ(test, 2, invalidated.of_a);
		KUNIT_EXPECT_EQ(test, 3, invalidated.of_b);
	}
	tracepoint_probe_unregister(tp, see_invalidation, NULL);
	tracepoint_synchronize_unregister();
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_total_read(a->exp, HMM_P2P_C_INVALIDATIONS));
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_total_read(b->exp, HMM_P2P_C_INVALIDATIONS));
	mirror_destroy(m);
	fake_second_exit(test, b);
}

static struct kunit_case hmm_p2p_pair_cases[] = {
	KUNIT_CASE(pair_size),
	KUNIT_CASE(stranger_costs_nothing),
	KUNIT_CASE(joining_takes_no_shared_lock),
	KUNIT_CASE(pair_that_ends),
	KUNIT_CASE(mirror_of_two_pairs),
	KUNIT_CASE(invalidation_of_two_pairs),
	{}
};

static struct kunit_suite hmm_p2p_pair_suite = {
	.name = "hmm_p2p_pair",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_pair_cases,
};

kunit_test_suite(hmm_p2p_pair_suite);
