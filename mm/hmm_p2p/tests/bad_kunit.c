// SPDX-License-Identifier: GPL-2.0
/* KUnit tests of drivers that break their contract with the core. */
#include <linux/delay.h>
#include <linux/kprobes.h>

#include "fake.h"

/* Create a mirror that has @nr pages mapped and ignores invalidations. */
static struct mirror *create_keeper(struct kunit *test, const char *name, unsigned long nr)
{
	struct mirror *m = mirror_create_mapped(test, name, nr);

	m->keeps = true;
	return m;
}

static bool in_state(struct fake *f, unsigned long i, u32 want)
{
	unsigned long end = jiffies + 5 * HZ;

	while (fake_window_state(f, i) != want && time_before(jiffies, end))
		msleep(1);
	return fake_window_state(f, i) == want;
}

/*
 * An importer that keeps its aliases is named and quarantined.  From then on it gets RAM, and
 * no importer gets aliases of the window until it lets go.
 */
static void importer_keeps(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *bad, *good;
	unsigned long start;

	fake_register(test);
	bad = create_keeper(test, "bad importer", 4);
	start = memory_create(test, WINDOW_PAGES);
	memory_place(test, start, WINDOW_PAGES);
	good = mirror_create(test, "good importer", start, WINDOW_PAGES);

	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, 1));
	KUNIT_EXPECT_TRUE(test, mirror_quarantined(bad));
	KUNIT_EXPECT_FALSE(test, mirror_quarantined(good));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp, HMM_P2P_C_QUARANTINES));
	KUNIT_EXPECT_EQ(test, HMM_P2P_STUCK, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_OPEN, fake_window_state(f, 1));

	/* No importer gets an alias in this window.  In another window the good importer does. */
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(good, 0, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(good, 0, 0));
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(good, WINDOW_PAGES - 1, 1,
					      HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(good, WINDOW_PAGES - 1,
					   fake_alias(f, WINDOW_PAGES + 3)));

	/* The bad importer lets go, late. */
	bad->keeps = false;
	mirror_let_go(bad);
	KUNIT_EXPECT_TRUE(test, in_state(f, 0, HMM_P2P_OPEN));
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(good, 1, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(good, 1, fake_alias(f, 5)));
	/* It stays in quarantine. */
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(bad, 1, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(bad, 1, 0));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp,
			HMM_P2P_C_FALLBACK + HMM_P2P_QUARANTINED));
	mirror_destroy(bad);
	mirror_destroy(good);
}

/*
 * There is room for one window, which a bad importer keeps.  A good importer wants another one.
 */
static void fill_one_slot(struct kunit *test, struct mirror **bad, struct mirror **good)
{
	unsigned long start;

	fake_on_demand(test, 1);
	fake_register(test);
	*bad = create_keeper(test, "bad importer", WINDOW_PAGES);
	start = memory_create(test, 8);
	memory_place(test, start, 8);
	*good = mirror_create(test, "good importer", start, 8);
	msleep(150);
}

/* The same with windows on demand: the slot is not given to another window. */
static void importer_keeps_slot(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *bad, *good;

	fill_one_slot(test, &bad, &good);
	/* The good importer finds no room, and its page moves to RAM. */
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(good, 0, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(good, 0, 0));
	KUNIT_EXPECT_EQ(test, HMM_P2P_STUCK, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, 0, f->closed);
	bad->keeps = false;
	mirror_let_go(bad);
	KUNIT_EXPECT_TRUE(test, in_state(f, 0, HMM_P2P_CLOSED));
	KUNIT_EXPECT_EQ(test, 1, f->closed);
	msleep(150);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(good, 1, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(good, 1, fake_alias(f, WINDOW_PAGES + 1)));
	mirror_destroy(bad);
	mirror_destroy(good);
}

static int linger_after_revoke(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	mdelay(300);
	return 0;
}

/*
 * The importer lets go at the moment when reclaim has found it out, before reclaim goes on.
 * One of the two settles the window, not both.
 *
 *	reclaim				importer, and hmm_p2p_settle()
 *	  the window is STUCK
 *	  (lingers)
 *					  lets go
 *					  the window is REVOKING, closed, CLOSED
 *	  goes on
 */
static void importer_lets_go_when_found(struct kunit *test)
{
	struct kretprobe slow = {
		.handler = linger_after_revoke, .kp.symbol_name = "hmm_p2p_revoke_window",
	};
	struct fake *f = test->priv;
	struct mirror *bad, *good;
	struct job job;

	fill_one_slot(test, &bad, &good);
	KUNIT_ASSERT_EQ(test, 0, register_kretprobe(&slow));
	job_fault(test, &job, good, 0, 1, HMM_PFN_REQ_FAULT);
	KUNIT_EXPECT_TRUE(test, in_state(f, 0, HMM_P2P_STUCK));
	bad->keeps = false;
	mirror_let_go(bad);
	KUNIT_EXPECT_TRUE(test, in_state(f, 0, HMM_P2P_CLOSED));
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	unregister_kretprobe(&slow);
	KUNIT_EXPECT_EQ(test, 1, f->closed);
	KUNIT_EXPECT_EQ(test, HMM_P2P_CLOSED, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_total_read(f->exp, HMM_P2P_C_RECLAIMED));
	mirror_destroy(bad);
	mirror_destroy(good);
}

/* A bad importer does not delay the driver, and no other memory gets its addresses meanwhile. */
static void importer_keeps_over_unregister(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *bad;
	unsigned long end = jiffies + 5 * HZ;
	int ret;

	fake_register(test);
	bad = create_keeper(test, "bad importer", 4);
	fake_unregister(f);
	KUNIT_EXPECT_TRUE(test, mirror_quarantined(bad));
	KUNIT_EXPECT_EQ(test, f->without_engine ? 0 : 4, f->freed);
	KUNIT_EXPECT_EQ(test, -EBUSY, fake_try_register(f));
	bad->keeps = false;
	mirror_let_go(bad);
	do {
		msleep(1);
		ret = fake_try_register(f);
	} while (ret && time_before(jiffies, end));
	KUNIT_EXPECT_EQ(test, 0, ret);
	mirror_destroy(bad);
}

static void importer_keeps_in_reset_and_death(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *bad;

	fake_register(test);
	bad = create_keeper(test, "bad importer", 4);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, HMM_P2P_STUCK, fake_window_state(f, 0));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	flush_work(&f->exp->settle);
	KUNIT_EXPECT_EQ(test, HMM_P2P_STUCK, fake_window_state(f, 0));
	hmm_p2p_dead(f->exp);
	KUNIT_EXPECT_EQ(test, 4, f->freed);
	fake_unregister(f);
	mirror_let_go(bad);
	mirror_destroy(bad);
}

/* The watchdog names an importer while its callback takes too long. */
static void importer_late(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = create_keeper(test, "late importer", 1);
	m->keeps = false;
	/*
	 * watch_kunit.c tests that punctual callbacks are not reported.  Here a stalled host
	 * could delay them.
	 */
	mirror_be_late(m, f, 1);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, 1));
	KUNIT_EXPECT_LE(test, 1, hmm_p2p_total_read(f->exp, HMM_P2P_C_LATE));
	KUNIT_EXPECT_FALSE(test, mirror_quarantined(m));
	mirror_destroy(m);
}

/* An entry that is no alias is not counted, and a warning names the importer. */
static void importer_maps_nonsense(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = create_keeper(test, "confused importer", 2);
	mirror_let_go(m);
	kunit_warning_suppress(test) {
		m->map.pfn_list[0] = (page_to_pfn(fake_page(f, 0))) |
				     HMM_PFN_VALID | HMM_PFN_PEER;
		hmm_p2p_map_get(&m->map, 0);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	hmm_p2p_map_put(&m->map, 0);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	mirror_destroy(m);
}

/* A callback that flushes would make reclaim wait for a device.  Lockdep reports it. */
static void importer_flushes(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = create_keeper(test, "eager importer", 1);
	m->keeps = false;
	m->flushes = f->exp;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_TRUE(test, memory_right(m->start, 0));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, IS_ENABLED(CONFIG_LOCKDEP));
	}
	m->flushes = NULL;
	mirror_destroy(m);
}

static void importer_destroys_too_early(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = create_keeper(test, "hasty importer", 2);
	/* This test destroys the mirror itself. */
	list_del(&m->node);
	mmu_interval_notifier_remove(&m->notifier);
	kunit_warning_suppress(test) {
		hmm_p2p_peer_destroy(&m->peer);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
}

/* The device of an importer that is in quarantine gets another name, and stays in quarantine. */
static void importer_renamed(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *bad, *renamed, *namesake;
	unsigned long start;

	fake_register(test);
	bad = create_keeper(test, "old name", 1);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_revoke(f->exp, 0, 1));
	KUNIT_EXPECT_TRUE(test, mirror_quarantined(bad));
	bad->keeps = false;
	mirror_let_go(bad);
	KUNIT_EXPECT_TRUE(test, in_state(f, 0, HMM_P2P_OPEN));

	start = memory_create(test, 2);
	memory_place(test, start, 2);
	renamed = mirror_create(test, "new name", start, 1);
	renamed->peer.identity = bad->peer.identity;
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(renamed, 0, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_quarantined(renamed));
	KUNIT_EXPECT_PTR_EQ(test, bad->peer.importer, renamed->peer.importer);
	KUNIT_EXPECT_TRUE(test, mirror_has(renamed, 0, 0));

	/* Another device that has the old name now. */
	namesake = mirror_create(test, "old name", start + PAGE_SIZE, 1);
	namesake->peer.identity = namesake;
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(namesake, 0, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_FALSE(test, mirror_quarantined(namesake));
	KUNIT_EXPECT_EQ(test, 1, mirror_peers(namesake));
	mirror_destroy(namesake);
	mirror_destroy(renamed);
	mirror_destroy(bad);
}

static void peer_without_a_map(struct kunit *test)
{
	struct hmm_p2p_peer_desc desc = { .name = "nobody", .identity = test };
	struct hmm_dma_map map = {};
	struct hmm_p2p_peer peer;

	memory_create(test, 1);
	desc.mm = current->mm;
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_peer_init(&peer, &desc));
	desc.map = &map;
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_peer_init(&peer, &desc));
	desc.nr_entries = 1;
	desc.name = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_peer_init(&peer, &desc));
	desc.name = "nobody";
	desc.identity = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_peer_init(&peer, &desc));
	desc.identity = test;
	desc.mm = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_p2p_peer_init(&peer, &desc));
}

/* A page of another device is refused with a warning, and nothing moves. */
static void exporter_gives_alien_page(struct kunit *test)
{
	struct hmm_p2p_result result = {};
	struct fake *f = test->priv;
	unsigned long start = memory_create(test, 1);

	fake_register(test);
	f->give = alloc_page(GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f->give);
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, -ENOMEM,
				memory_to_device(f, start, 1, HMM_P2P_NO_EVICT, &result));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, 1, result.failed);
	KUNIT_EXPECT_EQ(test, 1, page_count(f->give));
	__free_page(f->give);
	f->give = NULL;
	KUNIT_EXPECT_TRUE(test, memory_right(start, 0));
}

/* A copy that fails loses no data, either way. */
static void exporter_copy_fails(struct kunit *test)
{
	struct hmm_p2p_result result = {};
	struct fake *f = test->priv;
	unsigned long start = memory_create(test, 4);

	fake_register(test);
	f->copy_error = -EIO;
	KUNIT_EXPECT_EQ(test, -EIO, memory_to_device(f, start, 4, 0, &result));
	KUNIT_EXPECT_EQ(test, 4, result.failed);
	f->copy_error = 0;
	memory_place(test, start, 4);
	f->copy_error = -EIO;
	KUNIT_EXPECT_FALSE(test, memory_right(start, 2));
	f->copy_error = 0;
	KUNIT_EXPECT_TRUE(test, memory_right(start, 2));
}

static void exporter_unregisters_in_reset(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start = memory_create(test, 4);

	fake_register(test);
	memory_place(test, start, 4);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	kunit_warning_suppress(test) {
		fake_unregister(f);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_TRUE(test, memory_right(start, 2));
}

static struct kunit_case hmm_p2p_bad_cases[] = {
	KUNIT_CASE(importer_keeps),
	KUNIT_CASE(importer_keeps_slot),
	KUNIT_CASE(importer_lets_go_when_found),
	KUNIT_CASE(importer_keeps_over_unregister),
	KUNIT_CASE(importer_keeps_in_reset_and_death),
	KUNIT_CASE(importer_renamed),
	KUNIT_CASE(importer_late),
	KUNIT_CASE(importer_maps_nonsense),
	KUNIT_CASE(importer_flushes),
	KUNIT_CASE(importer_destroys_too_early),
	KUNIT_CASE(peer_without_a_map),
	KUNIT_CASE(exporter_gives_alien_page),
	KUNIT_CASE(exporter_copy_fails),
	KUNIT_CASE(exporter_unregisters_in_reset),
	{}
};

static struct kunit_suite hmm_p2p_bad_suite = {
	.name = "hmm_p2p_bad",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_bad_cases,
};

/* The same tests with a driver that moves its pages by itself. */
static struct kunit_case hmm_p2p_bad_without_engine_cases[] = {
	KUNIT_CASE(importer_keeps),
	KUNIT_CASE(importer_keeps_slot),
	KUNIT_CASE(importer_lets_go_when_found),
	KUNIT_CASE(importer_keeps_over_unregister),
	KUNIT_CASE(importer_keeps_in_reset_and_death),
	KUNIT_CASE(importer_renamed),
	KUNIT_CASE(importer_late),
	KUNIT_CASE(importer_maps_nonsense),
	KUNIT_CASE(importer_flushes),
	KUNIT_CASE(importer_destroys_too_early),
	{}
};

static struct kunit_suite hmm_p2p_bad_without_engine_suite = {
	.name = "hmm_p2p_bad_without_engine",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_bad_without_engine_cases,
};

fake_test_suites(hmm_p2p_bad_suite, hmm_p2p_bad_without_engine_suite);
