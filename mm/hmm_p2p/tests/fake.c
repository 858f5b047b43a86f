// SPDX-License-Identifier: GPL-2.0
/*
 * The exporter and the importer of the KUnit suites.
 */
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/ioport.h>
#include <linux/kthread.h>
#include <linux/migrate.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#include "fake.h"

static int fake_open_window(void *priv, unsigned long index,
			    struct hmm_p2p_window_map *map)
{
	struct fake *f = priv;

	if (f->slow && index == f->slow_window) {
		complete(&f->opening);
		wait_for_completion(&f->go_on);
	}
	if (f->open_error && index == NR_WINDOWS - 1)
		return f->open_error;
	if (f->max_open && f->nr_open >= f->max_open)
		return -ENOSPC;
	f->nr_open++;
	f->opened++;
	map->phys = page_to_phys(f->blocks[index]) + f->misalign;
	map->kva = f->no_kva ? NULL : page_address(f->blocks[index]);
	return 0;
}

static void fake_close_window(void *priv, unsigned long index)
{
	struct fake *f = priv;

	f->closed_too_early |= f->nr_posted;
	f->nr_open--;
	f->closed++;
}

void fake_post(struct fake *f, unsigned long i, unsigned long value)
{
	f->posted[f->nr_posted].kva = page_address(f->blocks[i / WINDOW_PAGES]) +
				      i % WINDOW_PAGES * PAGE_SIZE;
	f->posted[f->nr_posted++].value = value;
}

void fake_land(struct fake *f)
{
	while (f->nr_posted) {
		f->nr_posted--;
		*f->posted[f->nr_posted].kva = f->posted[f->nr_posted].value;
	}
}

static void fake_flush_writes(void *priv)
{
	struct fake *f = priv;

	f->nr_flushes++;
	if (f->hold_flush) {
		complete(&f->flush_begun);
		wait_for_completion(&f->flush_go);
	}
	fake_land(f);
}

static struct folio *alloc_one(struct fake *f, unsigned int order)
{
	unsigned long i;

	spin_lock(&f->lock);
	i = find_first_zero_bit(f->used, NR_PAGES);
	if (order || i == NR_PAGES ||
	    (f->small_pages && bitmap_weight(f->used, NR_PAGES) >= f->small_pages)) {
		spin_unlock(&f->lock);
		return NULL;
	}
	__set_bit(i, f->used);
	spin_unlock(&f->lock);
	zone_device_page_init(fake_page(f, i), &f->pgmap, 0);
	return page_folio(fake_page(f, i));
}

static unsigned int fake_alloc_folios(void *priv, unsigned int order,
				      struct folio **folios, unsigned int nr)
{
	struct fake *f = priv;
	unsigned int i;

	if (f->give) {
		lock_page(f->give);
		get_page(f->give);
		folios[0] = page_folio(f->give);
		return 1;
	}
	for (i = 0; i < nr; i++) {
		folios[i] = alloc_one(f, order);
		if (!folios[i])
			break;
	}
	return i;
}

static void *fake_kva(struct fake *f, const struct page *page)
{
	u64 offset = hmm_p2p_page_offset(page);

	return page_address(f->blocks[offset / PMD_SIZE]) + offset % PMD_SIZE;
}

static int fake_copy_page(struct fake *f, const struct hmm_p2p_copy *c,
			  unsigned int i, enum hmm_p2p_copy_dir dir)
{
	void *kva = fake_kva(f, c->dev_page + i), *peer;

	switch (dir) {
	case HMM_P2P_TO_DEVICE:
		if (c->ram_page)
			memcpy_from_page(kva, c->ram_page + i, 0, PAGE_SIZE);
		else
			memset(kva, 0, PAGE_SIZE);
		break;
	case HMM_P2P_TO_RAM:
		memcpy_to_page(c->ram_page + i, 0, kva, PAGE_SIZE);
		break;
	case HMM_P2P_FROM_PEER:
		peer = hmm_pfn_kmap_local(c->peer + i);
		if (!peer)
			return -EOPNOTSUPP;
		memcpy(kva, peer, PAGE_SIZE);
		hmm_pfn_kunmap_local(c->peer + i, peer);
		break;
	}
	return 0;
}

static int fake_copy_now(struct fake *f, struct hmm_p2p_copy_job *job)
{
	unsigned int i, j;
	int ret;

	if (f->copy_error)
		return f->copy_error;
	for (i = 0; i < job->nr; i++) {
		for (j = 0; j < job->copies[i].nr_pages; j++) {
			ret = fake_copy_page(f, &job->copies[i], j, job->dir);
			if (ret)
				return ret;
		}
	}
	return 0;
}

static void fake_copy_work(struct work_struct *work)
{
	struct fake *f = container_of(work, struct fake, copy_work);
	struct hmm_p2p_copy_job *job = f->copy_job;

	/* The next one begins while this one runs, or it is too late. */
	wait_for_completion_timeout(&f->copy_go, HZ);
	f->copy_job = NULL;
	hmm_p2p_copy_done(job, fake_copy_now(f, job));
}

/* The end of a copy that never ends: when the test is over, or long after it failed. */
static void fake_never_work(struct work_struct *work)
{
	fake_end_late(container_of(to_delayed_work(work), struct fake, never_work));
}

/* Long enough for the core to lose patience twice. */
static void fake_copy_stay(struct fake *f)
{
	while (!READ_ONCE(f->exp->dying))
		msleep(1);
	schedule_timeout_uninterruptible(2 * HMM_P2P_COPY_LIMIT);
}

static int fake_copy(void *priv, struct hmm_p2p_copy_job *job)
{
	struct fake *f = priv;

	f->nr_copies++;
	complete(&f->copy_begun);
	if (f->never_ends) {
		f->never_job = job;
		f->never_ram = job->copies[0].ram_page;
		schedule_delayed_work(&f->never_work, 20 * HZ);
		return -EINPROGRESS;
	}
	if (f->op_stays)
		fake_copy_stay(f);
	if (READ_ONCE(f->copy_job)) {
		f->overlapped = true;
		complete(&f->copy_go);
	}
	if (f->async && !job->alone && f->nr_copies == 1) {
		f->copy_job = job;
		schedule_work(&f->copy_work);
		return -EINPROGRESS;
	}
	if (f->hold_copies)
		wait_for_completion(&f->copy_go);
	return fake_copy_now(f, job);
}

/* What is asked for goes to RAM, from the first page on, for as long as we may. */
static int fake_make_room(void *priv, unsigned long nr_pages)
{
	struct hmm_p2p_result result = {};
	struct fake *f = priv;

	f->nr_room++;
	if (f->dies_for_room)
		hmm_p2p_dead(f->exp);
	if (f->room || f->nr_room > 1)
		return f->room ?: -ENOMEM;
	return hmm_p2p_evict(f->exp, 0, nr_pages * PAGE_SIZE, &result);
}

static bool fake_lost(void *priv)
{
	struct fake *f = priv;

	return f->lost;
}

static const struct hmm_p2p_exporter_ops fake_ops = {
	.open_window = fake_open_window,
	.flush_writes = fake_flush_writes,
	.alloc_folios = fake_alloc_folios,
	.copy = fake_copy,
	.make_room = fake_make_room,
	.lost = fake_lost,
};

static const struct hmm_p2p_exporter_ops fake_demand_ops = {
	.open_window = fake_open_window,
	.close_window = fake_close_window,
	.flush_writes = fake_flush_writes,
	.alloc_folios = fake_alloc_folios,
	.copy = fake_copy,
};

static void fake_folio_free(struct folio *folio)
{
	struct fake *f = container_of(folio->pgmap, struct fake, pgmap);
	unsigned long i = PHYS_PFN(hmm_p2p_page_offset(folio_page(folio, 0)));

	spin_lock(&f->lock);
	bitmap_clear(f->used, i, folio_nr_pages(folio));
	f->freed += folio_nr_pages(folio);
	spin_unlock(&f->lock);
}

static vm_fault_t fake_migrate_to_ram(struct vm_fault *vmf)
{
	struct fake *f = container_of(page_pgmap(vmf->page), struct fake, pgmap);

	return hmm_p2p_migrate_fault(f->exp, vmf);
}

/* What zone_device_private_split_cb() does without this op. */
static void fake_folio_split(struct folio *head, struct folio *tail)
{
	struct fake *f = container_of(head->pgmap, struct fake, pgmap);

	if (f->split)
		f->split(f, head, tail);
	if (tail) {
		tail->pgmap = head->pgmap;
		tail->page.mapping = head->page.mapping;
	}
}

static const struct dev_pagemap_ops fake_pgmap_ops = {
	.folio_free = fake_folio_free,
	.migrate_to_ram = fake_migrate_to_ram,
	.folio_split = fake_folio_split,
};

int fake_init(struct kunit *test)
{
	struct fake *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	unsigned long i;

	KUNIT_ASSERT_NOT_NULL(test, f);
	test->priv = f;
	spin_lock_init(&f->lock);
	INIT_LIST_HEAD(&f->mirrors);
	init_completion(&f->opening);
	init_completion(&f->go_on);
	init_completion(&f->copy_begun);
	init_completion(&f->copy_go);
	init_completion(&f->flush_begun);
	init_completion(&f->flush_go);
	INIT_WORK(&f->copy_work, fake_copy_work);
	INIT_DELAYED_WORK(&f->never_work, fake_never_work);
	for (i = 0; i < NR_WINDOWS; i++) {
		f->blocks[i] = alloc_pages(GFP_KERNEL, HPAGE_PMD_ORDER);
		KUNIT_ASSERT_NOT_NULL(test, f->blocks[i]);
	}
	f->res = request_free_mem_region(&iomem_resource, NR_WINDOWS * PMD_SIZE,
					 "hmm_p2p_kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(f->res));
	f->pgmap.type = MEMORY_DEVICE_PRIVATE;
	f->pgmap.range.start = f->res->start;
	f->pgmap.range.end = f->res->start + NR_WINDOWS * PMD_SIZE - 1;
	f->pgmap.nr_range = 1;
	f->pgmap.ops = &fake_pgmap_ops;
	f->pgmap.owner = f;
	KUNIT_ASSERT_FALSE(test,
			   IS_ERR(memremap_pages(&f->pgmap, NUMA_NO_NODE)));
	snprintf(f->name, sizeof(f->name), "kunit%llx", (u64)f->res->start);
	f->desc = (struct hmm_p2p_exporter_desc) {
		.name = f->name,
		.ops = &fake_ops,
		.priv = f,
		.pgmap = &f->pgmap,
	};
	return 0;
}

void fake_exit(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m, *next;
	unsigned long i;

	/* A test that ended by an assertion has left some, and their memory goes with it. */
	list_for_each_entry_safe(m, next, &f->mirrors, node)
		mirror_destroy(m);
	flush_delayed_work(&f->never_work);
	if (!IS_ERR_OR_NULL(f->exp))
		hmm_p2p_unregister(f->exp);
	memunmap_pages(&f->pgmap);
	release_mem_region(f->res->start, resource_size(f->res));
	for (i = 0; i < NR_WINDOWS; i++)
		__free_pages(f->blocks[i], HPAGE_PMD_ORDER);
}

/* Before fake_register(): windows open on demand, so many at a time. */
void fake_on_demand(struct kunit *test, unsigned int max_open)
{
	struct fake *f = test->priv;

	f->desc.ops = &fake_demand_ops;
	f->desc.aperture.start = PAGE_SIZE;
	f->desc.aperture.end = (1ULL << MAX_PHYSMEM_BITS) - 1;
	f->max_open = max_open;
}

void fake_register(struct kunit *test)
{
	struct fake *f = test->priv;

	f->exp = hmm_p2p_register(&f->desc);
	KUNIT_ASSERT_FALSE(test, IS_ERR(f->exp));
}

/* A second exporter; test->priv is the first again afterwards. */
struct fake *fake_second(struct kunit *test)
{
	struct fake *first = test->priv, *f;

	KUNIT_ASSERT_EQ(test, 0, fake_init(test));
	fake_register(test);
	f = test->priv;
	test->priv = first;
	return f;
}

void fake_second_exit(struct kunit *test, struct fake *f)
{
	struct fake *first = test->priv;

	test->priv = f;
	fake_exit(test);
	test->priv = first;
}

struct page *fake_page(struct fake *f, unsigned long i)
{
	return pfn_to_page(PHYS_PFN(f->res->start) + i);
}

unsigned long fake_alias(struct fake *f, unsigned long i)
{
	return page_to_pfn(f->blocks[i / WINDOW_PAGES]) + i % WINDOW_PAGES;
}

unsigned long memory_create(struct kunit *test, unsigned long nr)
{
	unsigned long start, i;

	if (!current->mm)
		KUNIT_ASSERT_EQ(test, 0, kunit_attach_mm());
	start = kunit_vm_mmap(test, NULL, 0, nr * PAGE_SIZE + PMD_SIZE,
			      PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			      0);
	KUNIT_ASSERT_NE(test, 0, start);
	start = ALIGN(start, PMD_SIZE);
	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_EQ(test, 0, put_user(i, (unsigned long __user *)
						  (start + i * PAGE_SIZE)));
	return start;
}

bool memory_right(unsigned long start, unsigned long i)
{
	unsigned long value;

	return !get_user(value, (unsigned long __user *)(start + i * PAGE_SIZE)) &&
	       value == i;
}

/* Move pages to the exporter, from its first free one on. */
void memory_place(struct kunit *test, unsigned long start, unsigned long nr)
{
	struct fake *f = test->priv;
	struct hmm_p2p_result result = {};

	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_migrate_to_device(f->exp, current->mm,
				start, start + nr * PAGE_SIZE, 0, &result));
	KUNIT_ASSERT_EQ(test, nr, result.migrated);
}

/* Put a huge page of the device at @start, where nothing is mapped yet. */
static void memory_place_huge(struct kunit *test, unsigned long start,
		       unsigned long window)
{
	struct fake *f = test->priv;
	unsigned long *src = kunit_kcalloc(test, HPAGE_PMD_NR, sizeof(*src),
					   GFP_KERNEL);
	unsigned long *dst = kunit_kcalloc(test, HPAGE_PMD_NR, sizeof(*dst),
					   GFP_KERNEL);
	struct folio *folio = page_folio(fake_page(f, window * WINDOW_PAGES));
	struct migrate_vma args = {
		.start = start,
		.end = start + PMD_SIZE,
		.src = src,
		.dst = dst,
		.pgmap_owner = f,
		.flags = MIGRATE_VMA_SELECT_SYSTEM | MIGRATE_VMA_SELECT_COMPOUND,
	};
	unsigned long i;

	KUNIT_ASSERT_TRUE(test, src && dst);
	bitmap_set(f->used, window * WINDOW_PAGES, WINDOW_PAGES);
	for (i = 0; i < WINDOW_PAGES; i++)
		*(unsigned long *)(page_address(f->blocks[window]) +
				   i * PAGE_SIZE) = i;
	mmap_read_lock(current->mm);
	args.vma = find_vma(current->mm, start);
	KUNIT_EXPECT_EQ(test, 0, migrate_vma_setup(&args));
	KUNIT_EXPECT_TRUE(test, src[0] & MIGRATE_PFN_COMPOUND);
	zone_device_folio_init(folio, &f->pgmap, HPAGE_PMD_ORDER);
	dst[0] = migrate_pfn(folio_pfn(folio)) | MIGRATE_PFN_COMPOUND |
		 MIGRATE_PFN_WRITE;
	migrate_vma_pages(&args);
	KUNIT_EXPECT_TRUE(test, src[0] & MIGRATE_PFN_MIGRATE);
	migrate_vma_finalize(&args);
	mmap_read_unlock(current->mm);
}

/* Fresh memory that is a huge page of the device: all of window @window. */
unsigned long memory_create_huge(struct kunit *test, unsigned long window)
{
	unsigned long start;

	if (!current->mm)
		KUNIT_ASSERT_EQ(test, 0, kunit_attach_mm());
	start = kunit_vm_mmap(test, NULL, 0, 2 * PMD_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_NE(test, 0, start);
	start = ALIGN(start, PMD_SIZE);
	memory_place_huge(test, start, window);
	return start;
}

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

	if (m->sleep_ms)
		msleep(m->sleep_ms);
	if (m->stay)
		m->stay(m);
	if (m->flushes)
		hmm_p2p_flush_writes(m->flushes, 0, PAGE_SIZE);
	mutex_lock(&m->lock);
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

/* Of the memory of the process that the test has attached to. */
struct mirror *mirror_create(struct kunit *test, const char *name,
			     unsigned long start, unsigned long nr)
{
	struct mirror *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	struct hmm_p2p_peer_desc desc = { .name = name, .mm = current->mm };
	struct fake *f = test->priv;

	KUNIT_ASSERT_NOT_NULL(test, m);
	mutex_init(&m->lock);
	m->mm = current->mm;
	m->start = start;
	m->nr = nr;
	m->map.dma_entry_size = PAGE_SIZE;
	m->map.pfn_list = kunit_kcalloc(test, nr, sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m->map.pfn_list);
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_map_alloc(&m->map, nr));
	desc.map = &m->map;
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_peer_init(&m->peer, &desc));
	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&m->notifier, m->mm, start,
						     nr * PAGE_SIZE, &mirror_ops));
	list_add(&m->node, &f->mirrors);
	return m;
}

/* Everything that it still holds, good or bad. */
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
	mirror_let_go(m);
	mmu_interval_notifier_remove(&m->notifier);
	hmm_p2p_peer_destroy(&m->peer);
	hmm_p2p_map_free(&m->map);
}

/* @flags: HMM_PFN_REQ_*, or 0 to look only. */
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
		ret = hmm_range_fault_unlocked_timeout(&range, HZ);
		if (ret)
			break;
		mutex_lock(&m->lock);
		if (!mmu_interval_read_retry(&m->notifier, range.notifier_seq))
			break;
		mutex_unlock(&m->lock);
	}
	for (i = 0; i < nr && !ret; i++) {
		/* What a bad mirror did not let go of, it keeps. */
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

/* Whether entry @i is the alias @pfn, or with 0 no alias at all but valid. */
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

/* What the page walk asks.  *@pending is NULL unless the answer sets it. */
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
		job->call(job->exp);
	complete(&job->done);
	return 0;
}

static void job_run(struct kunit *test, struct job *job)
{
	struct task_struct *task;

	init_completion(&job->started);
	init_completion(&job->done);
	task = kthread_run(job_thread, job, "hmm_p2p_kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	/* Whatever time a test gives it begins here. */
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
	      void (*call)(struct hmm_p2p_exporter *exp),
	      struct hmm_p2p_exporter *exp)
{
	*job = (struct job) { .call = call, .exp = exp };
	job_run(test, job);
}

/* Whether it ends in that time; to be asked until it says yes. */
bool job_done(struct job *job, unsigned int ms)
{
	return wait_for_completion_timeout(&job->done, msecs_to_jiffies(ms));
}

MODULE_DESCRIPTION("KUnit tests for hmm_p2p");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("HMM_P2P");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
