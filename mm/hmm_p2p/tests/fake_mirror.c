// SPDX-License-Identifier: GPL-2.0
/* The importer of the KUnit suites, and the threads in which importer and exporter are called. */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/sched/mm.h>
#include <linux/stringhash.h>

#include "fake.h"

static void mirror_clear(struct mirror *m, unsigned long first,
			 unsigned long last)
{
	unsigned long i;

	for (i = first; i <= last; i++) {
		hmm_p2p_map_put(&m->map, i);
		m->map.pfn_list[i] = 0;
	}
}

static bool mirror_invalidate(struct mmu_interval_notifier *mni,
			      const struct mmu_notifier_range *range,
			      unsigned long cur_seq)
{
	struct mirror *m = container_of(mni, struct mirror, notifier);
	unsigned long start = max(range->start, m->start);
	unsigned long end = min(range->end, m->start + m->nr * PAGE_SIZE);
	unsigned long began = jiffies;

	if (m->sleep_ms)
		msleep(m->sleep_ms);
	if (m->stay)
		m->stay(m);
	m->longest = max(m->longest, jiffies - began);
	if (m->flushes)
		hmm_p2p_flush_writes(m->flushes, 0, PAGE_SIZE);
	mutex_lock(&m->lock);
	m->calls++;
	mmu_interval_set_seq(mni, cur_seq);
	if (!m->keeps) {
		hmm_p2p_invalidate_begin(&m->map);
		mirror_clear(m, (start - m->start) >> PAGE_SHIFT,
			     ((end - m->start) >> PAGE_SHIFT) - 1);
		hmm_p2p_invalidate_end(&m->map);
	}
	mutex_unlock(&m->lock);
	return true;
}

static const struct mmu_interval_notifier_ops mirror_ops = {
	.invalidate = mirror_invalidate,
};

const void *mirror_identity(const char *name)
{
	return (void *)(unsigned long)full_name_hash(NULL, name, strlen(name));
}

/* Create a mirror of the memory that the test has attached to. */
struct mirror *mirror_create(struct kunit *test, const char *name,
			     unsigned long start, unsigned long nr)
{
	struct mirror *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	struct hmm_p2p_peer_desc desc = {
		.name = name, .identity = mirror_identity(name), .mm = current->mm,
		.nr_entries = nr,
	};
	struct fake *f = test->priv;

	KUNIT_ASSERT_NOT_NULL(test, m);
	mutex_init(&m->lock);
	m->mm = current->mm;
	m->start = start;
	m->nr = nr;
	m->map.dma_entry_size = PAGE_SIZE;
	m->map.pfn_list = kunit_kcalloc(test, nr, sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m->map.pfn_list);
	desc.map = &m->map;
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_peer_init(&m->peer, &desc));
	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&m->notifier, m->mm, start,
						     nr * PAGE_SIZE, &mirror_ops));
	list_add(&m->node, &f->mirrors);
	return m;
}

struct mirror *mirror_create_mapped(struct kunit *test, const char *name, unsigned long nr)
{
	struct fake *f = test->priv;
	unsigned long start = memory_create(test, nr);
	s64 refs = hmm_p2p_refs(f->exp);
	struct mirror *m;

	memory_place(test, start, nr);
	m = mirror_create(test, name, start, nr);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, nr, HMM_PFN_REQ_FAULT));
	KUNIT_ASSERT_EQ(test, nr, mirror_peers(m));
	KUNIT_ASSERT_EQ(test, nr, hmm_p2p_refs(f->exp) - refs);
	return m;
}

/* Drop all entries that the mirror still holds. */
void mirror_let_go(struct mirror *m)
{
	mutex_lock(&m->lock);
	mirror_clear(m, 0, m->nr - 1);
	mutex_unlock(&m->lock);
}

void mirror_destroy(struct mirror *m)
{
	list_del(&m->node);
	m->sleep_ms = 0;
	m->stay = NULL;
	mirror_let_go(m);
	mmu_interval_notifier_remove(&m->notifier);
	hmm_p2p_peer_destroy(&m->peer);
}

static void mirror_stay_until_late(struct mirror *m)
{
	unsigned long end = jiffies + 30 * HZ;

	while (hmm_p2p_total_read(m->f->exp, HMM_P2P_C_LATE) < m->nr_late &&
	       time_before(jiffies, end))
		msleep(1);
}

void mirror_be_late(struct mirror *m, struct fake *f, unsigned int nr)
{
	m->f = f;
	m->nr_late = nr;
	m->stay = mirror_stay_until_late;
}

/* @flags: HMM_PFN_REQ_*, or 0 for a snapshot. */
int mirror_fault(struct mirror *m, unsigned long first, unsigned long nr,
		 unsigned long flags)
{
	struct hmm_range range = {
		.notifier = &m->notifier,
		.start = m->start + first * PAGE_SIZE,
		.end = m->start + (first + nr) * PAGE_SIZE,
		.default_flags = flags,
		.dev_private_owner = m->owner,
		.peer = &m->peer,
	};
	unsigned long i;
	int ret;

	range.hmm_pfns = kvcalloc(nr, sizeof(long), GFP_KERNEL);
	if (!range.hmm_pfns)
		return -ENOMEM;
	for (;;) {
		/* Pages that fall back to RAM one by one share this time. */
		ret = hmm_range_fault_unlocked_timeout(&range, 60 * HZ);
		if (ret)
			break;
		mutex_lock(&m->lock);
		if (!mmu_interval_read_retry(&m->notifier, range.notifier_seq))
			break;
		mutex_unlock(&m->lock);
	}
	for (i = 0; i < nr && !ret; i++) {
		/* A bad mirror keeps the entries that it did not drop. */
		if (m->keeps && m->map.pfn_list[first + i] & HMM_PFN_PEER)
			continue;
		m->map.pfn_list[first + i] = range.hmm_pfns[i];
		if (range.hmm_pfns[i] & HMM_PFN_PEER)
			hmm_p2p_map_get(&m->map, first + i);
	}
	if (!ret)
		mutex_unlock(&m->lock);
	kvfree(range.hmm_pfns);
	return ret;
}

/* Whether entry @i is the alias @pfn.  With @pfn 0: whether it is valid and not an alias. */
bool mirror_has(struct mirror *m, unsigned long i, unsigned long pfn)
{
	unsigned long entry = m->map.pfn_list[i];

	if (!(entry & HMM_PFN_VALID))
		return false;
	return pfn ? entry & HMM_PFN_PEER && (entry & ~HMM_PFN_FLAGS) == pfn :
		     !(entry & HMM_PFN_PEER);
}

unsigned long mirror_peers(struct mirror *m)
{
	unsigned long i, n = 0;

	for (i = 0; i < m->nr; i++)
		n += !!(m->map.pfn_list[i] & HMM_PFN_PEER);
	return n;
}

/* Ask what the page walk asks.  *@pending is NULL unless the lookup sets it. */
enum hmm_p2p_reason mirror_lookup(struct mirror *m, struct page *page,
				  unsigned int flags, unsigned long *alias,
				  struct hmm_p2p_window **pending)
{
	struct hmm_p2p_cursor cursor = {};
	enum hmm_p2p_reason reason;

	*pending = NULL;
	rcu_read_lock();
	reason = hmm_p2p_lookup(&m->peer, &cursor, page, flags, alias, pending);
	rcu_read_unlock();
	hmm_p2p_lookup_done(&cursor);
	return reason;
}

static int job_thread(void *data)
{
	struct job *job = data;

	complete(&job->started);
	if (job->m)
		job->ret = mirror_fault(job->m, job->first, job->nr, job->flags);
	else
		job->call(job->f);
	complete_all(&job->done);
	return 0;
}

static void job_run(struct kunit *test, struct job *job)
{
	struct task_struct *task;

	init_completion(&job->started);
	init_completion(&job->done);
	task = kthread_run(job_thread, job, "hmm_p2p_kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	/* Timeouts of a test begin here. */
	wait_for_completion(&job->started);
}

void job_fault(struct kunit *test, struct job *job, struct mirror *m,
	       unsigned long first, unsigned long nr, unsigned long flags)
{
	*job = (struct job) {
		.m = m, .first = first, .nr = nr, .flags = flags,
	};
	job_run(test, job);
}

void job_call(struct kunit *test, struct job *job,
	      void (*call)(struct fake *f), struct fake *f)
{
	*job = (struct job) { .call = call, .f = f };
	job_run(test, job);
}

/* Whether the job ends within @ms. */
bool job_done(struct job *job, unsigned int ms)
{
	return wait_for_completion_timeout(&job->done, msecs_to_jiffies(ms));
}
