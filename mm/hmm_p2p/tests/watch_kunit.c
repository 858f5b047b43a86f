// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the watchdog.  It reports an importer's callback that is late, whichever task
 * waits for it, and no other delay.
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/rmap.h>

#include "../../internal.h"
#include "fake.h"

/* The watchdog checks once per limit, so a report may take two limits. */
#define LATE_MS		3500

static u64 nr_late(struct fake *f)
{
	return hmm_p2p_total_read(f->exp, HMM_P2P_C_LATE);
}

static void evict_all(struct fake *f)
{
	struct hmm_p2p_result result = {};

	hmm_p2p_evict(f->engine, 0, NR_PAGES * PAGE_SIZE, &result);
}

static DECLARE_COMPLETION(anon_vma_locked);

static void evict_when_locked(struct fake *f)
{
	wait_for_completion(&anon_vma_locked);
	evict_all(f);
}

/* An eviction waits for a task that holds the anon_vma.  No importer is involved. */
static void watch_says_nothing_of_others(struct kunit *test)
{
	struct fake *f = test->priv;
	struct anon_vma *anon_vma;
	struct mirror *m;
	struct job job;

	fake_register(test);
	m = mirror_create_mapped(test, "innocent importer", 2);
	mmap_read_lock(current->mm);
	anon_vma = vma_lookup(current->mm, m->start)->anon_vma;
	mmap_read_unlock(current->mm);
	KUNIT_ASSERT_NOT_NULL(test, anon_vma);
	/* Creating a thread allocates memory, which must not happen under the lock. */
	reinit_completion(&anon_vma_locked);
	job_call(test, &job, evict_when_locked, f);
	anon_vma_lock_write(anon_vma);
	complete(&anon_vma_locked);
	KUNIT_EXPECT_FALSE(test, job_done(&job, LATE_MS));
	anon_vma_unlock_write(anon_vma);
	KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
	KUNIT_EXPECT_EQ(test, 2, f->freed);
	KUNIT_EXPECT_EQ(test, 0, nr_late(f));
	mirror_destroy(m);
}

/* Many callbacks, each of them in time. */
static void watch_times_each_callback(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "innocent importer", 40);
	m->sleep_ms = LATE_MS / 40;
	evict_all(f);
	KUNIT_EXPECT_EQ(test, 40, f->freed);
	/* A host that stalls can make one of them late. */
	if (m->longest < HZ)
		KUNIT_EXPECT_EQ(test, 0, nr_late(f));
	mirror_destroy(m);
}

static void watch_names_callback_in_eviction(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "late importer", 1);
	mirror_be_late(m, f, 1);
	evict_all(f);
	KUNIT_EXPECT_EQ(test, 1, f->freed);
	KUNIT_EXPECT_EQ(test, 1, nr_late(f));
	mirror_destroy(m);
}

/* A late importer without aliases of the exporter delays migrations to it all the same. */
static void watch_names_callback_without_alias(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;
	struct mirror *m;

	fake_register(test);
	start = memory_create(test, 1);
	m = mirror_create(test, "late importer", start, 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	KUNIT_ASSERT_EQ(test, 0, mirror_peers(m));
	mirror_be_late(m, f, 1);
	memory_place(test, start, 1);
	KUNIT_EXPECT_LE(test, 1, nr_late(f));
	mirror_destroy(m);
}

/* How often the task was in the part of the hook that takes a lock. */
static struct task_struct *asking;
static unsigned int nr_asked;

static int count_asked(struct kprobe *p, struct pt_regs *regs)
{
	if (current == asking)
		nr_asked++;
	return 0;
}

static struct kprobe asked = {
	.symbol_name = "__hmm_p2p_watch_callback", .pre_handler = count_asked,
};

/* A watched task in another list than that of @apart_from.  It calls no callback. */
static struct {
	struct task_struct *apart_from;
	bool watched;
	struct completion ready;
	struct completion go_on;
} other;

static void stay_watched(struct fake *f)
{
	bool apart = hmm_p2p_watch_hash(current) != hmm_p2p_watch_hash(other.apart_from);
	struct hmm_p2p_watch watch;

	if (apart)
		hmm_p2p_watch_begin(&watch, f->exp);
	other.watched = apart;
	complete(&other.ready);
	wait_for_completion(&other.go_on);
	if (apart)
		hmm_p2p_watch_end(&watch);
}

static void munmap_invalidates(struct kunit *test, struct mirror *m, unsigned long i)
{
	KUNIT_EXPECT_TRUE(test, mirror_has(m, i, 0));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(m->start + i * PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, mirror_has(m, i, 0));
}

/*
 * A watch costs callbacks in other tasks no lock, and two calls for each callback in its own
 * task.
 */
static void watch_costs_others_nothing(struct kunit *test)
{
	static struct job jobs[8];
	struct fake *f = test->priv;
	struct hmm_p2p_watch watch;
	unsigned int i, n = 0;
	unsigned long start;
	struct mirror *m;

	fake_register(test);
	start = memory_create(test, 2);
	m = mirror_create(test, "importer", start, 2);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 2, HMM_PFN_REQ_FAULT));
	asking = current;
	nr_asked = 0;
	asked.addr = NULL;
	asked.flags = 0;
	KUNIT_ASSERT_EQ(test, 0, register_kprobe(&asked));
	other.apart_from = current;
	other.watched = false;
	init_completion(&other.ready);
	init_completion(&other.go_on);
	/* A thread may have the same hash as this task. */
	while (!other.watched && n < ARRAY_SIZE(jobs)) {
		job_call(test, &jobs[n++], stay_watched, f);
		wait_for_completion(&other.ready);
	}
	KUNIT_EXPECT_TRUE(test, other.watched);
	munmap_invalidates(test, m, 0);
	KUNIT_EXPECT_EQ(test, 0, nr_asked);
	hmm_p2p_watch_begin(&watch, f->exp);
	munmap_invalidates(test, m, 1);
	hmm_p2p_watch_end(&watch);
	KUNIT_EXPECT_EQ(test, 2, nr_asked);
	complete_all(&other.go_on);
	for (i = 0; i < n; i++)
		KUNIT_EXPECT_TRUE(test, job_done(&jobs[i], 10000));
	unregister_kprobe(&asked);
	mirror_destroy(m);
}

/* A task with the same hash as a watched task is not taken for it. */
static void watch_is_of_its_task(struct kunit *test)
{
	struct hmm_p2p_watch own, others;
	struct fake *f = test->priv;
	unsigned long start;
	struct mirror *m;

	fake_register(test);
	start = memory_create(test, 1);
	m = mirror_create(test, "importer", start, 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	hmm_p2p_watch_begin(&others, f->exp);
	others.task = NULL;
	hmm_p2p_watch_begin(&own, f->exp);
	munmap_invalidates(test, m, 0);
	hmm_p2p_watch_end(&own);
	hmm_p2p_watch_end(&others);
	/* Only callbacks in the watched task set the time. */
	KUNIT_EXPECT_NE(test, 0, own.start);
	KUNIT_EXPECT_EQ(test, 0, others.start);
	mirror_destroy(m);
}

/* A notifier of two passes, and what the watch of the task named in each. */
static struct {
	struct mmu_interval_notifier notifier;
	struct mmu_interval_notifier_finish finish;
	struct hmm_p2p_watch watch;
	const void *in_start;
	const void *in_finish;
} passes;

static bool pass_start(struct mmu_interval_notifier *mni, const struct mmu_notifier_range *range,
		       unsigned long cur_seq, struct mmu_interval_notifier_finish **finish)
{
	mmu_interval_set_seq(mni, cur_seq);
	passes.in_start = passes.watch.callback;
	*finish = &passes.finish;
	return true;
}

static void pass_finish(struct mmu_interval_notifier_finish *finish)
{
	passes.in_finish = passes.watch.callback;
}

static const struct mmu_interval_notifier_ops pass_ops = {
	.invalidate_start = pass_start,
	.invalidate_finish = pass_finish,
};

static void watch_names_the_pass(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;

	fake_register(test);
	start = memory_create(test, 1);
	KUNIT_ASSERT_EQ(test, 0, mmu_interval_notifier_insert(&passes.notifier, current->mm,
							      start, PAGE_SIZE, &pass_ops));
	passes.in_start = NULL;
	passes.in_finish = NULL;
	hmm_p2p_watch_begin(&passes.watch, f->exp);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(start, PAGE_SIZE));
	hmm_p2p_watch_end(&passes.watch);
	mmu_interval_notifier_remove(&passes.notifier);
	KUNIT_EXPECT_PTR_EQ(test, (void *)pass_start, passes.in_start);
	KUNIT_EXPECT_PTR_EQ(test, (void *)pass_finish, passes.in_finish);
	KUNIT_EXPECT_NULL(test, passes.watch.callback);
}

static atomic_t nr_runs;

static int count_run(struct kprobe *p, struct pt_regs *regs)
{
	atomic_inc(&nr_runs);
	return 0;
}

static struct kprobe run = {
	.symbol_name = "hmm_p2p_watchdog", .pre_handler = count_run,
};

/* As mirror.stay: until the watchdog has looked three times and reported, or for half a minute. */
static void stay_for_three_looks(struct mirror *m)
{
	unsigned long end = jiffies + 30 * HZ;

	while ((atomic_read(&nr_runs) < 3 || nr_late(m->f) < m->nr_late) &&
	       time_before(jiffies, end))
		msleep(20);
}

/* The watchdog reports all that is late at once, and so looks once per limit. */
static void watch_looks_once_per_limit(struct kunit *test)
{
	struct hmm_p2p_watch watches[8];
	struct fake *f = test->priv;
	unsigned long start, began;
	struct mirror *m;
	unsigned int i;

	fake_register(test);
	start = memory_create(test, 1);
	m = mirror_create(test, "late importer", start, 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 1, HMM_PFN_REQ_FAULT));
	atomic_set(&nr_runs, 0);
	run.addr = NULL;
	run.flags = 0;
	began = jiffies;
	KUNIT_ASSERT_EQ(test, 0, register_kprobe(&run));
	mirror_be_late(m, f, ARRAY_SIZE(watches));
	m->stay = stay_for_three_looks;
	for (i = 0; i < ARRAY_SIZE(watches); i++)
		hmm_p2p_watch_begin(&watches[i], f->exp);
	munmap_invalidates(test, m, 0);
	for (i = 0; i < ARRAY_SIZE(watches); i++)
		hmm_p2p_watch_end(&watches[i]);
	unregister_kprobe(&run);
	KUNIT_EXPECT_EQ(test, ARRAY_SIZE(watches), nr_late(f));
	KUNIT_EXPECT_LE(test, 3, atomic_read(&nr_runs));
	KUNIT_EXPECT_LE(test, atomic_read(&nr_runs), (jiffies - began) / HZ + 1);
	mirror_destroy(m);
}

static struct kunit_case hmm_p2p_watch_cases[] = {
	KUNIT_CASE(watch_costs_others_nothing),
	KUNIT_CASE(watch_is_of_its_task),
	KUNIT_CASE(watch_names_the_pass),
	KUNIT_CASE_SLOW(watch_looks_once_per_limit),
	KUNIT_CASE_SLOW(watch_says_nothing_of_others),
	KUNIT_CASE_SLOW(watch_times_each_callback),
	KUNIT_CASE_SLOW(watch_names_callback_in_eviction),
	KUNIT_CASE_SLOW(watch_names_callback_without_alias),
	{}
};

static struct kunit_suite hmm_p2p_watch_suite = {
	.name = "hmm_p2p_watch",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_watch_cases,
};

kunit_test_suite(hmm_p2p_watch_suite);
