// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of exporters with drivers that move their pages by themselves.  Unregistering
 * does not move pages to RAM: it takes the aliases away and leaves the pages to the driver.
 *
 * Tests of other suites that need no engine also run in this form, as the suites
 * *_without_engine.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/sched/signal.h>

#include "fake.h"

#define VP	(HMM_PFN_VALID | HMM_PFN_PEER)
#define LATE	12345UL		/* what a peer writes last */

/* What a test and its threads tell each other. */
static struct {
	struct hmm_p2p_exporter *exp;	/* of the fake, which forgets it once it is unregistered */
	struct task_struct *task;
	struct mm_struct *mm;
	unsigned long start;
	unsigned long nr;
	long ret;
	bool stop;
} seen;

/*
 * Register the exporter, and create a mirror with @nr of its pages, which keeps its memory
 * alive.
 */
static struct mirror *create_mapped(struct kunit *test, unsigned long nr)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", nr);
	memset(&seen, 0, sizeof(seen));
	seen.exp = f->exp;
	seen.mm = current->mm;
	return m;
}

static bool in_state(enum hmm_p2p_state state)
{
	unsigned long end = jiffies + 10 * HZ;

	while (READ_ONCE(seen.exp->state) != state && time_before(jiffies, end))
		msleep(1);
	return READ_ONCE(seen.exp->state) == state;
}

/* Small and huge pages stay where they are, and no peer reaches them any more. */
static void without_engine_unregister(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8), *huge;
	unsigned long i;

	huge = mirror_create(test, "soft", memory_create_huge(test, 1), WINDOW_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(huge, 0, WINDOW_PAGES, HMM_PFN_REQ_FAULT));
	KUNIT_ASSERT_EQ(test, 8 + WINDOW_PAGES, hmm_p2p_refs(seen.exp));
	fake_post(f, 3, LATE);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(seen.exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(huge));
	KUNIT_EXPECT_EQ(test, 0, f->nr_posted);
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	KUNIT_EXPECT_NULL(test, hmm_p2p_kmap_local(fake_alias(f, 0) | VP));
	KUNIT_EXPECT_NULL(test, hmm_p2p_kmap_local(fake_alias(f, WINDOW_PAGES) | VP));

	/* A snapshot gets no alias and moves nothing.  The driver handles a fault. */
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 8, 0));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 2, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 1, 0));
	KUNIT_EXPECT_EQ(test, 2, f->freed);
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_EQ(test, i == 3 ? LATE : i, memory_value(m->start, i));
	for (i = 0; i < WINDOW_PAGES; i++)
		KUNIT_ASSERT_TRUE(test, memory_right(huge->start, i));
	KUNIT_EXPECT_EQ(test, 8 + WINDOW_PAGES, f->freed);
	mirror_destroy(m);
	mirror_destroy(huge);
}

/* Unregister closes windows on demand.  The writes of peers have arrived by then. */
static void without_engine_unregister_closes(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_on_demand(test, NR_WINDOWS - 1);
	m = create_mapped(test, WINDOW_PAGES + 1);
	KUNIT_EXPECT_EQ(test, 2, f->opened);
	fake_post(f, WINDOW_PAGES, LATE);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 2, f->closed);
	KUNIT_EXPECT_FALSE(test, f->closed_too_early);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(seen.exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, LATE, memory_value(m->start, WINDOW_PAGES));
	mirror_destroy(m);
}

/* The driver unregisters and registers again.  Peers reach the pages that have stayed. */
static void without_engine_register_again(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);

	fake_unregister(f);
	fake_register(test);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 8, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 7, fake_alias(f, 7)));
	KUNIT_EXPECT_EQ(test, 8, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(seen.exp));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	mirror_destroy(m);
}

/* Unregister waits for a locked page.  No lookup gives an alias meanwhile. */
static void without_engine_unregister_locked_page(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 4), *behind = mirror_create_mapped(test, "soft", 4);
	struct folio *folio = page_folio(fake_page(f, 4));
	unsigned long end = jiffies + 30 * HZ, left;
	struct job job;

	folio_lock(folio);
	job_call(test, &job, fake_unregister, f);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 200));
	/* Pages 0 to 3 are revoked, 4 is locked, and the rest is behind it. */
	do {
		msleep(1);
		mutex_lock(&m->lock);
		left = mirror_peers(m);
		mutex_unlock(&m->lock);
	} while (left && time_before(jiffies, end));
	KUNIT_EXPECT_EQ(test, 0, left);
	KUNIT_EXPECT_EQ(test, 4, mirror_peers(behind));
	KUNIT_EXPECT_TRUE(test, in_state(HMM_P2P_STATE_DRAINING));
	KUNIT_EXPECT_EQ(test, -ENODEV, fake_live(seen.exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 1, 0));
	KUNIT_EXPECT_FALSE(test, mirror_has(m, 0, fake_alias(f, 0)));
	KUNIT_EXPECT_TRUE(test, mirror_has(behind, 0, fake_alias(f, 4)));
	/* The wait holds no reference, so that a task that has the page locked can migrate it. */
	KUNIT_EXPECT_EQ(test, 1, folio_ref_count(folio));
	folio_unlock(folio);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(seen.exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(behind));
	KUNIT_EXPECT_TRUE(test, memory_right(behind->start, 0));
	mirror_destroy(m);
	mirror_destroy(behind);
}

static void unregister_and_be_killed(struct fake *f)
{
	allow_signal(SIGKILL);
	WRITE_ONCE(seen.task, current);
	fake_unregister(f);
}

/* Unregister cannot fail, so a signal does not end its wait. */
static void without_engine_unregister_killed(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 4);
	struct folio *folio = page_folio(fake_page(f, 2));
	struct job job;

	folio_lock(folio);
	job_call(test, &job, unregister_and_be_killed, f);
	KUNIT_EXPECT_TRUE(test, in_state(HMM_P2P_STATE_DRAINING));
	send_sig(SIGKILL, READ_ONCE(seen.task), 1);
	KUNIT_EXPECT_FALSE(test, job_done(&job, 200));
	folio_unlock(folio);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(seen.exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	mirror_destroy(m);
}

static void seen_exporter_dies(struct fake *f)
{
	hmm_p2p_dead(seen.exp);
}

/* Death does not wait for an unregister that waits for a page. */
static void without_engine_unregister_dead(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 4);
	struct folio *folio = page_folio(fake_page(f, 2));
	unsigned long end = jiffies + 10 * HZ;
	struct job gone, death;

	hmm_p2p_exporter_get(f->exp);
	folio_lock(folio);
	job_call(test, &gone, fake_unregister, f);
	KUNIT_EXPECT_FALSE(test, job_done(&gone, 100));
	job_call(test, &death, seen_exporter_dies, f);
	KUNIT_EXPECT_TRUE(test, in_state(HMM_P2P_STATE_DEAD));
	while (READ_ONCE(f->freed) != 3 && time_before(jiffies, end))
		msleep(1);
	KUNIT_EXPECT_EQ(test, 3, READ_ONCE(f->freed));
	folio_unlock(folio);
	KUNIT_EXPECT_TRUE(test, job_done(&death, 10000));
	KUNIT_EXPECT_TRUE(test, job_done(&gone, 10000));
	KUNIT_EXPECT_EQ(test, 4, f->freed);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(seen.exp));
	hmm_p2p_exporter_put(seen.exp);
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 2));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&f->nr_faults));
	mirror_destroy(m);
}

static void move_seen(struct fake *f)
{
	seen.ret = fake_own_to_device(f, seen.mm, seen.start, seen.nr);
}

static void live_seen(struct fake *f)
{
	seen.ret = fake_live(f->exp);
}

/* The driver's own migration to the device delays a reset, and waits for one. */
static void without_engine_reset(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 4);
	struct job reset, move, live;

	seen.nr = 2;
	seen.start = memory_create(test, seen.nr);
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_live_get(f->exp));
	job_call(test, &reset, fake_begin_reset, f);
	KUNIT_EXPECT_FALSE(test, job_done(&reset, 100));
	KUNIT_EXPECT_EQ(test, 4, mirror_peers(m));
	hmm_p2p_live_put(f->exp);
	KUNIT_EXPECT_TRUE(test, job_done(&reset, 10000));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));

	job_call(test, &move, move_seen, f);
	KUNIT_EXPECT_FALSE(test, job_done(&move, 100));
	KUNIT_EXPECT_EQ(test, 4, bitmap_weight(f->used, NR_PAGES));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_TRUE(test, job_done(&move, 10000));
	KUNIT_EXPECT_EQ(test, 2, seen.ret);
	KUNIT_EXPECT_EQ(test, 6, bitmap_weight(f->used, NR_PAGES));
	KUNIT_EXPECT_TRUE(test, memory_right(seen.start, 1));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 3));

	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	job_call(test, &live, live_seen, f);
	KUNIT_EXPECT_FALSE(test, job_done(&live, 100));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_TRUE(test, job_done(&live, 10000));
	KUNIT_EXPECT_EQ(test, 0, seen.ret);
	mirror_destroy(m);
}

/* The core does not call the driver's engine when the device dies. */
static void without_engine_dead(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);
	unsigned long start = memory_create(test, 1);

	fake_post(f, 0, LATE);
	hmm_p2p_dead(f->exp);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, 8, f->freed);
	KUNIT_EXPECT_EQ(test, -ENODEV, fake_live(f->exp));
	KUNIT_EXPECT_EQ(test, -ENODEV, fake_own_to_device(f, current->mm, start, 1));
	KUNIT_EXPECT_EQ(test, -EFAULT, mirror_fault(m, 3, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 3));
	fake_unregister(f);
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 4));
	KUNIT_EXPECT_TRUE(test, memory_right(start, 0));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&f->nr_faults));
	KUNIT_EXPECT_EQ(test, 0, f->nr_flushes);
	mirror_destroy(m);
}

/* A page that the driver's engine has locked is not poisoned, and the return value tells that. */
static void without_engine_poison(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 8);
	struct folio *folio = page_folio(fake_page(f, 2));

	folio_lock(folio);
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_p2p_poison(f->exp, PAGE_SIZE, 2 * PAGE_SIZE));
	folio_unlock(folio);
	KUNIT_EXPECT_EQ(test, 1, f->freed);
	KUNIT_EXPECT_EQ(test, 7, mirror_peers(m));
	KUNIT_EXPECT_EQ(test, -EFAULT, mirror_fault(m, 1, 1, HMM_PFN_REQ_FAULT));
	/* Poisoned entries stay poisoned after unregister. */
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, 1, f->freed);
	KUNIT_EXPECT_FALSE(test, memory_right(m->start, 1));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&f->nr_faults));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 0));
	KUNIT_EXPECT_TRUE(test, memory_right(m->start, 2));
	KUNIT_EXPECT_EQ(test, 2, atomic_read(&f->nr_faults));
	mirror_destroy(m);
}

/* The driver flushes the last write of a peer before it copies the page out. */
static void without_engine_flush(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 4);

	fake_post(f, 1, LATE);
	KUNIT_EXPECT_EQ(test, LATE, memory_value(m->start, 1));
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	KUNIT_EXPECT_EQ(test, 3, mirror_peers(m));
	mirror_destroy(m);
}

/*
 * The exporter goes while the driver's engine has a page locked.  The driver gets the last
 * write of a peer all the same, and does not wait for the unregistering that waits for it.
 */
static void without_engine_flush_in_unregister(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m = create_mapped(test, 4);
	struct folio *folio = page_folio(fake_page(f, 0));
	struct job job;

	folio_lock(folio);
	job_call(test, &job, fake_unregister, f);
	KUNIT_EXPECT_TRUE(test, in_state(HMM_P2P_STATE_DRAINING));
	KUNIT_EXPECT_FALSE(test, job_done(&job, 100));
	fake_post(f, 0, LATE);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_flush_folio(folio));
	KUNIT_EXPECT_EQ(test, 0, f->nr_posted);
	KUNIT_EXPECT_EQ(test, 1, f->nr_flushes);
	folio_unlock(folio);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_EQ(test, 2, f->nr_flushes);
	KUNIT_EXPECT_EQ(test, LATE, memory_value(m->start, 0));
	KUNIT_EXPECT_EQ(test, 2, f->nr_flushes);
	mirror_destroy(m);
}

static void touch_as_peer(struct fake *f)
{
	unsigned long i = 0;
	int ret;

	while (!READ_ONCE(seen.stop)) {
		ret = mirror_fault(f->wants, i++ % seen.nr, 1,
				   HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE);
		if (ret && ret != -EBUSY)
			WRITE_ONCE(seen.ret, ret);
		cond_resched();
	}
}

static void touch_as_cpu(struct fake *f)
{
	unsigned long i = 0;

	kthread_use_mm(seen.mm);
	while (!READ_ONCE(seen.stop)) {
		if (!memory_right(seen.start, i % seen.nr))
			WRITE_ONCE(seen.ret, -EIO);
		i += 7;
		msleep(1);
	}
	kthread_unuse_mm(seen.mm);
}

/*
 * A peer and the CPU fault on half of the pages all the time, also while the exporter
 * unregisters, which moves them to RAM.  No task touches the other half; unregister takes their
 * aliases.  A round counts if the peer had aliases of both halves when unregister began.
 */
static void without_engine_unregister_in_use(struct kunit *test)
{
	unsigned long end = jiffies + 60 * HZ, met = 0, i;
	struct fake *f = test->priv;
	struct job peer, cpu;
	int ret = 0;

	memset(&seen, 0, sizeof(seen));
	seen.nr = 32;
	seen.start = memory_create(test, 2 * seen.nr);
	seen.mm = current->mm;
	f->wants = mirror_create(test, "soft", seen.start, 2 * seen.nr);
	job_call(test, &peer, touch_as_peer, f);
	job_call(test, &cpu, touch_as_cpu, f);
	while (met < 20 && time_before(jiffies, end) && !READ_ONCE(seen.ret)) {
		ret = fake_try_register(f);
		if (ret)
			break;
		fake_own_to_device(f, seen.mm, seen.start, 2 * seen.nr);
		KUNIT_EXPECT_EQ(test, 0, mirror_fault(f->wants, seen.nr, seen.nr,
						      HMM_PFN_REQ_FAULT));
		for (i = 0; i < 50 && hmm_p2p_refs(f->exp) <= seen.nr; i++)
			msleep(1);
		met += hmm_p2p_refs(f->exp) > seen.nr;
		fake_unregister(f);
		mutex_lock(&f->wants->lock);
		KUNIT_EXPECT_EQ(test, 0, mirror_peers(f->wants));
		mutex_unlock(&f->wants->lock);
	}
	WRITE_ONCE(seen.stop, true);
	KUNIT_EXPECT_TRUE(test, job_done(&peer, 10000));
	KUNIT_EXPECT_TRUE(test, job_done(&cpu, 10000));
	KUNIT_EXPECT_EQ(test, 0, ret);
	KUNIT_EXPECT_EQ(test, 0, seen.ret);
	KUNIT_EXPECT_EQ(test, 20, met);
	for (i = 0; i < 2 * seen.nr; i++)
		KUNIT_EXPECT_TRUE(test, memory_right(seen.start, i));
	mirror_destroy(f->wants);
}

/* Create a second exporter with the same owner.  test->priv stays the first one. */
static struct fake *create_sibling(struct kunit *test)
{
	struct fake *f = test->priv, *other = fake_second_init(test);

	other->without_engine = true;
	other->pgmap.owner = f->pgmap.owner;
	KUNIT_ASSERT_EQ(test, 0, fake_try_register(other));
	return other;
}

/* Two devices with one owner: a third party gets aliases of both, and each counts its own. */
static void owner_of_two_for_others(struct kunit *test)
{
	struct fake *a = test->priv, *b;
	unsigned long i, start;
	struct mirror *m;

	fake_register(test);
	b = create_sibling(test);
	start = memory_create(test, 8);
	memory_place_on(test, a, start, 4);
	memory_place_on(test, b, start + 4 * PAGE_SIZE, 4);
	m = mirror_create(test, "third party", start, 8);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 8, HMM_PFN_REQ_FAULT));
	for (i = 0; i < 4; i++) {
		KUNIT_EXPECT_TRUE(test, mirror_has(m, i, fake_alias(a, i)));
		KUNIT_EXPECT_TRUE(test, mirror_has(m, 4 + i, fake_alias(b, i)));
	}
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_refs(a->exp));
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_refs(b->exp));
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_total_read(a->exp, HMM_P2P_C_MAPPED));
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_total_read(b->exp, HMM_P2P_C_MAPPED));
	/* One of them unregisters. */
	fake_unregister(a);
	KUNIT_EXPECT_EQ(test, 4, mirror_peers(m));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 5, fake_alias(b, 1)));
	KUNIT_EXPECT_EQ(test, 4, hmm_p2p_refs(b->exp));
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_TRUE(test, memory_right(start, i));
	mirror_destroy(m);
	fake_second_exit(test, b);
}

/* Mirrors of the owner get device-private pages of both, as without hmm_p2p. */
static void owner_of_two_for_own(struct kunit *test)
{
	struct fake *a = test->priv, *b;
	unsigned long i, start;
	struct mirror *m;

	fake_register(test);
	b = create_sibling(test);
	start = memory_create(test, 8);
	memory_place_on(test, a, start, 4);
	memory_place_on(test, b, start + 4 * PAGE_SIZE, 4);
	m = mirror_create(test, "own", start, 8);
	m->owner = a->pgmap.owner;
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 8, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_EQ(test, 0, mirror_peers(m));
	for (i = 0; i < 4; i++) {
		KUNIT_EXPECT_EQ(test, page_to_pfn(fake_page(a, i)),
				m->map.pfn_list[i] & ~HMM_PFN_FLAGS);
		KUNIT_EXPECT_EQ(test, page_to_pfn(fake_page(b, i)),
				m->map.pfn_list[4 + i] & ~HMM_PFN_FLAGS);
	}
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(a->exp) + hmm_p2p_refs(b->exp));
	KUNIT_EXPECT_EQ(test, 0, a->freed + b->freed);
	mirror_destroy(m);
	fake_second_exit(test, b);
}

static struct kunit_case hmm_p2p_without_engine_cases[] = {
	KUNIT_CASE(without_engine_unregister),
	KUNIT_CASE(without_engine_unregister_closes),
	KUNIT_CASE(without_engine_register_again),
	KUNIT_CASE(without_engine_unregister_locked_page),
	KUNIT_CASE(without_engine_unregister_killed),
	KUNIT_CASE(without_engine_unregister_dead),
	KUNIT_CASE_SLOW(without_engine_unregister_in_use),
	KUNIT_CASE(without_engine_reset),
	KUNIT_CASE(without_engine_dead),
	KUNIT_CASE_SLOW(without_engine_poison),
	KUNIT_CASE(without_engine_flush),
	KUNIT_CASE(without_engine_flush_in_unregister),
	KUNIT_CASE(owner_of_two_for_others),
	KUNIT_CASE(owner_of_two_for_own),
	{}
};

static struct kunit_suite hmm_p2p_without_engine_suite = {
	.name = "hmm_p2p_without_engine",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_without_engine_cases,
};

kunit_test_suite(hmm_p2p_without_engine_suite);
