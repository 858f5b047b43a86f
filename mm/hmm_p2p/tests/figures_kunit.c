// SPDX-License-Identifier: GPL-2.0
/* KUnit tests of counters: each counts what its documentation says. */
#include <kunit/static_stub.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/pid.h>

#include "fake.h"

static u64 total(struct fake *f, unsigned int counter)
{
	return hmm_p2p_total_read(f->exp, counter);
}

static struct hmm_p2p_pair *first_pair(struct fake *f)
{
	return list_first_entry(&f->exp->pairs, struct hmm_p2p_pair, node);
}

static u64 buckets(struct hmm_p2p_pair *pair)
{
	u64 sum = 0;
	int i;

	for (i = 0; i < HMM_P2P_BUCKETS; i++)
		sum += hmm_p2p_pair_read(pair, HMM_P2P_C_BUCKET + i);
	return sum;
}

/* One callback drops entries of two exporters, in turn.  Both count it. */
static void invalidation_of_two_exporters(struct kunit *test)
{
	struct fake *a = test->priv, *b;
	unsigned long i, start;
	struct mirror *m;

	fake_register(test);
	b = fake_second(test);
	start = memory_create(test, 8);
	for (i = 0; i < 8; i++)
		memory_place_on(test, i % 2 ? b : a, start + i * PAGE_SIZE, 1);
	m = mirror_create(test, "soft", start, 8);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 8, HMM_PFN_REQ_FAULT));
	KUNIT_ASSERT_EQ(test, 8, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(start, 8 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 1, total(a, HMM_P2P_C_INVALIDATIONS));
	KUNIT_EXPECT_EQ(test, 1, total(b, HMM_P2P_C_INVALIDATIONS));
	KUNIT_EXPECT_EQ(test, 1, buckets(first_pair(a)));
	KUNIT_EXPECT_EQ(test, 1, buckets(first_pair(b)));
	KUNIT_EXPECT_LT(test, 0, atomic64_read(&first_pair(a)->slowest));
	KUNIT_EXPECT_LT(test, 0, atomic64_read(&first_pair(b)->slowest));
	/* The next one drops entries of one of them only. */
	start = memory_create(test, 2);
	memory_place(test, start, 2);
	mirror_destroy(m);
	m = mirror_create(test, "soft", start, 2);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 2, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(start, 2 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 2, total(a, HMM_P2P_C_INVALIDATIONS));
	KUNIT_EXPECT_EQ(test, 1, total(b, HMM_P2P_C_INVALIDATIONS));
	mirror_destroy(m);
	fake_second_exit(test, b);
}

/* An importer is quarantined once, however many windows it keeps. */
static void quarantine_of_two_windows(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;
	struct mirror *m;

	fake_register(test);
	start = memory_create(test, WINDOW_PAGES + 1);
	memory_place(test, start, WINDOW_PAGES + 1);
	m = mirror_create(test, "bad importer", start, WINDOW_PAGES + 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, WINDOW_PAGES - 1, 2, HMM_PFN_REQ_FAULT));
	m->keeps = true;
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, 2 * PMD_SIZE));
	KUNIT_EXPECT_EQ(test, HMM_P2P_STUCK, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_STUCK, fake_window_state(f, 1));
	KUNIT_EXPECT_EQ(test, 1, total(f, HMM_P2P_C_QUARANTINES));
	m->keeps = false;
	mirror_destroy(m);
}

static struct {
	struct mirror *m;
	struct hmm_p2p_peer_desc desc;
	bool stop;
	unsigned long rounds;
	int ret;
} shared;

static void worker_makes_mirror(struct fake *f)
{
	shared.ret = hmm_p2p_peer_init(&shared.m->peer, &shared.desc);
}

/* A mirror that a worker creates is reported with the pid of its process. */
static void pid_is_the_process(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start = memory_create(test, 1);
	struct job job;

	fake_register(test);
	memory_place(test, start, 1);
	shared.m = mirror_create(test, "soft", start, 1);
	hmm_p2p_peer_destroy(&shared.m->peer);
	shared.desc = (struct hmm_p2p_peer_desc) {
		.name = "soft", .identity = mirror_identity("soft"), .map = &shared.m->map,
		.nr_entries = 1, .mm = current->mm,
		.tgid = task_tgid(current),
	};
	job_call(test, &job, worker_makes_mirror, f);
	KUNIT_ASSERT_TRUE(test, job_done(&job, 10000));
	KUNIT_ASSERT_EQ(test, 0, shared.ret);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(shared.m, 0, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, task_tgid_nr(current), first_pair(f)->pid);
	mirror_destroy(shared.m);
}

static void map_and_unmap(struct fake *f)
{
	struct mirror *m = f->wants;

	while (!READ_ONCE(shared.stop)) {
		mutex_lock(&m->lock);
		hmm_p2p_map_get(&m->map, 0);
		hmm_p2p_map_put(&m->map, 0);
		mutex_unlock(&m->lock);
		WRITE_ONCE(shared.rounds, shared.rounds + 1);
		cond_resched();
	}
}

/*
 * mapped_now is the difference of two sums that change while they are read.  It is never
 * negative.  Only reads that saw one of the sums change count, and there must be many of them.
 */
static void mapped_now_is_never_negative(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start = memory_create(test, 1), met = 0, end;
	struct hmm_p2p_pair *pair;
	struct job job;

	fake_register(test);
	memory_place(test, start, 1);
	f->wants = mirror_create(test, "soft", start, 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(f->wants, 0, 1, HMM_PFN_REQ_FAULT));
	pair = first_pair(f);
	mutex_lock(&f->wants->lock);
	hmm_p2p_map_put(&f->wants->map, 0);
	mutex_unlock(&f->wants->lock);

	shared.stop = false;
	shared.rounds = 0;
	job_call(test, &job, map_and_unmap, f);
	for (end = jiffies + 60 * HZ; met < 10000 && time_before(jiffies, end);) {
		unsigned long before = READ_ONCE(shared.rounds);
		u64 held = hmm_p2p_pair_held(pair);

		met += READ_ONCE(shared.rounds) != before;
		if ((s64)held < 0) {
			KUNIT_FAIL(test, "%lld entries are mapped", (s64)held);
			break;
		}
		cond_resched();
	}
	WRITE_ONCE(shared.stop, true);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_LE(test, 1000, met);
	mirror_destroy(f->wants);
}

/*
 * A fallback counts as a fault, also before the pair exists.  A refusal by a dead device does
 * not.
 */
static void fallbacks_are_faults(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start = memory_create(test, 1);
	struct mirror *m = mirror_create(test, "soft", start, 1);

	fake_register(test);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_WAIT, mirror_ask(m, fake_page(f, 0)));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_get_stat(f->exp, HMM_P2P_STAT_PEER_FALLBACKS));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_get_stat(f->exp, HMM_P2P_STAT_PEER_FAULTS));
	hmm_p2p_dead(f->exp);
	KUNIT_EXPECT_EQ(test, HMM_P2P_DEAD, mirror_ask(m, fake_page(f, 0)));
	KUNIT_EXPECT_EQ(test, 1, total(f, HMM_P2P_C_FALLBACK + HMM_P2P_DEAD));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_get_stat(f->exp, HMM_P2P_STAT_PEER_FALLBACKS));
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_get_stat(f->exp, HMM_P2P_STAT_PEER_FAULTS));
	mirror_destroy(m);
}

static struct hmm_p2p_pair *no_pair(unsigned int nr_cpus)
{
	return NULL;
}

/* Without memory for a pair, a fault succeeds through RAM, and later faults get aliases. */
static void fault_without_a_pair(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long i, start;
	struct mirror *m;

	fake_register(test);
	start = memory_create(test, 8);
	memory_place(test, start, 8);
	m = mirror_create(test, "soft", start, 8);
	kunit_activate_static_stub(test, hmm_p2p_pair_alloc, no_pair);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 4, HMM_PFN_REQ_FAULT));
	kunit_deactivate_static_stub(test, hmm_p2p_pair_alloc);
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_TRUE(test, mirror_has(m, i, 0));
	KUNIT_EXPECT_EQ(test, 4, f->freed);
	KUNIT_EXPECT_EQ(test, 4, total(f, HMM_P2P_C_FALLBACK + HMM_P2P_NO_PAIR));
	msleep(200);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 4, 4, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 7, fake_alias(f, 7)));
	KUNIT_EXPECT_EQ(test, 4, mirror_peers(m));
	mirror_destroy(m);
}

static struct kunit_case hmm_p2p_figures_cases[] = {
	KUNIT_CASE(invalidation_of_two_exporters),
	KUNIT_CASE(quarantine_of_two_windows),
	KUNIT_CASE(pid_is_the_process),
	KUNIT_CASE_SLOW(mapped_now_is_never_negative),
	KUNIT_CASE(fallbacks_are_faults),
	KUNIT_CASE(fault_without_a_pair),
	{}
};

static struct kunit_suite hmm_p2p_figures_suite = {
	.name = "hmm_p2p_figures",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_figures_cases,
};

kunit_test_suite(hmm_p2p_figures_suite);
