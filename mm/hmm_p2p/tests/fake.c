// SPDX-License-Identifier: GPL-2.0
/* The exporter of the KUnit suites, and its engine. */
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/ioport.h>
#include <linux/module.h>

#include "fake.h"

/* log2 of the blocks that a window has. */
static unsigned int fake_window_order(struct fake *f)
{
	return f->large_windows ? 1 : 0;
}

static int fake_open_window(void *priv, unsigned long index,
			    struct hmm_p2p_window_map *map)
{
	struct fake *f = priv;
	struct page *block = f->blocks[index << fake_window_order(f)];

	if (f->slow && index == f->slow_window) {
		complete(&f->opening);
		wait_for_completion(&f->go_on);
	}
	f->nr_asked++;
	if (f->absent & BIT(index))
		return -ENXIO;
	if (f->open_error && index == NR_WINDOWS - 1)
		return f->open_error;
	if (f->max_open && f->nr_open >= f->max_open)
		return -ENOSPC;
	f->nr_open++;
	f->opened++;
	map->phys = page_to_phys(block) + f->misalign;
	map->kva = f->no_kva ? NULL : page_address(block);
	return 0;
}

static void fake_close_window(void *priv, unsigned long index)
{
	struct fake *f = priv;

	f->closed_too_early |= f->nr_posted;
	f->nr_open--;
	f->closed++;
}

/* Where page @i of the memory is, in pages of the windows. */
static unsigned long fake_place(struct fake *f, unsigned long i)
{
	return i + PHYS_PFN(f->desc.window_offset);
}

void fake_post(struct fake *f, unsigned long i, unsigned long value)
{
	f->posted[f->nr_posted].kva = fake_kva(f, fake_page(f, i));
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

struct folio *fake_alloc_one(struct fake *f, unsigned int order)
{
	unsigned long i;

	spin_lock(&f->lock);
	i = bitmap_find_next_zero_area(f->used, NR_PAGES, 0, BIT(order), BIT(order) - 1);
	if ((order && !f->gives_huge) || i >= NR_PAGES ||
	    (f->small_pages && bitmap_weight(f->used, NR_PAGES) >= f->small_pages)) {
		spin_unlock(&f->lock);
		return NULL;
	}
	bitmap_set(f->used, i, BIT(order));
	spin_unlock(&f->lock);
	zone_device_page_init(fake_page(f, i), &f->pgmap, order);
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
		folios[i] = fake_alloc_one(f, order);
		if (!folios[i])
			break;
	}
	return i;
}

void *fake_kva(struct fake *f, const struct page *page)
{
	unsigned long i = fake_place(f, PHYS_PFN(hmm_p2p_page_offset(page)));

	return page_address(f->blocks[i / WINDOW_PAGES]) + i % WINDOW_PAGES * PAGE_SIZE;
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
	if (f->pdev)
		return fake_copy_dma(f, job);
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

	/* The next copy completes this while the first one runs, or it times out. */
	wait_for_completion_timeout(&f->copy_go, 10 * HZ);
	f->copy_job = NULL;
	hmm_p2p_copy_done(job, fake_copy_now(f, job));
}

/* End a copy that "never ends", when the test is over or long after it has failed. */
static void fake_never_work(struct work_struct *work)
{
	fake_end_late(container_of(to_delayed_work(work), struct fake, never_work));
}

static void fake_copy_stay(struct fake *f)
{
	while (!READ_ONCE(f->exp->dying))
		msleep(1);
	schedule_timeout_uninterruptible(f->op_stays);
}

static int fake_copy(void *priv, struct hmm_p2p_copy_job *job)
{
	struct fake *f = priv;

	f->nr_copies++;
	f->nr_pieces = job->nr;
	fake_see_dma(f, job);
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

/* Evict @nr_pages from the first page on, if the test allows it. */
static int fake_make_room(void *priv, unsigned long nr_pages)
{
	struct hmm_p2p_result result = {};
	struct fake *f = priv;

	f->nr_room++;
	if (f->dies_for_room)
		hmm_p2p_dead(f->exp);
	if (f->room || f->nr_room > 1)
		return f->room ?: -ENOMEM;
	return hmm_p2p_evict(f->engine, 0, nr_pages * PAGE_SIZE, &result);
}

static bool fake_lost(void *priv)
{
	struct fake *f = priv;

	return f->lost;
}

static const struct hmm_p2p_exporter_ops fake_ops = {
	.open_window = fake_open_window,
	.flush_writes = fake_flush_writes,
	.lost = fake_lost,
};

static const struct hmm_p2p_exporter_ops fake_demand_ops = {
	.open_window = fake_open_window,
	.close_window = fake_close_window,
	.flush_writes = fake_flush_writes,
};

static const struct hmm_p2p_engine_ops fake_engine_ops = {
	.alloc_folios = fake_alloc_folios,
	.copy = fake_copy,
	.make_room = fake_make_room,
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

	return f->without_engine ? fake_own_fault(f, vmf) : hmm_p2p_migrate_fault(vmf);
}

/* Do what zone_device_private_split_cb() does without this op. */
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
	f->without_engine = !IS_ENABLED(CONFIG_HMM_P2P_MIGRATE);
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
	f->evict_pfns = kunit_kcalloc(test, 2 * NR_PAGES, sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f->evict_pfns);
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
	f->engine_desc = (struct hmm_p2p_engine_desc) {
		.ops = &fake_engine_ops,
		.priv = f,
	};
	return 0;
}

void fake_exit(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m, *next;
	unsigned int order = fake_window_order(f);
	unsigned long i;

	/* A failed assertion leaves mirrors, and the memory of the mirrors ends with the test. */
	list_for_each_entry_safe(m, next, &f->mirrors, node)
		mirror_destroy(m);
	flush_delayed_work(&f->never_work);
	if (f->exp)
		fake_unregister(f);
	if (f->without_engine)
		fake_own_evict(f);
	memunmap_pages(&f->pgmap);
	release_mem_region(f->res->start, resource_size(f->res));
	for (i = 0; i < NR_WINDOWS; i += BIT(order))
		__free_pages(f->blocks[i], HPAGE_PMD_ORDER + order);
}

int fake_init_without_engine(struct kunit *test)
{
	int ret = fake_init(test);

	((struct fake *)test->priv)->without_engine = true;
	return ret;
}

/* Let windows open on demand, at most @max_open at a time.  Called before fake_register(). */
void fake_on_demand(struct kunit *test, unsigned int max_open)
{
	struct fake *f = test->priv;

	f->desc.ops = &fake_demand_ops;
	f->desc.aperture.start = PAGE_SIZE;
	f->desc.aperture.end = (1ULL << MAX_PHYSMEM_BITS) - 1;
	f->max_open = max_open;
}

/* Let windows have twice the size of a huge page.  Called before fake_register(). */
void fake_large_windows(struct kunit *test)
{
	struct page *large[NR_WINDOWS / 2];
	struct fake *f = test->priv;
	unsigned long i;

	for (i = 0; i < NR_WINDOWS / 2; i++) {
		large[i] = alloc_pages(GFP_KERNEL, HPAGE_PMD_ORDER + 1);
		KUNIT_ASSERT_NOT_NULL(test, large[i]);
	}
	for (i = 0; i < NR_WINDOWS; i++) {
		__free_pages(f->blocks[i], HPAGE_PMD_ORDER);
		f->blocks[i] = large[i / 2] + i % 2 * WINDOW_PAGES;
	}
	f->large_windows = true;
	f->desc.window_shift = PMD_SHIFT + 1;
}

int fake_try_register(struct fake *f)
{
	struct hmm_p2p_exporter *exp = hmm_p2p_register(&f->desc);
	struct hmm_p2p_engine *engine = NULL;

	if (IS_ERR(exp))
		return PTR_ERR(exp);
	if (!f->without_engine)
		engine = hmm_p2p_engine_register(exp, &f->engine_desc);
	if (IS_ERR(engine)) {
		hmm_p2p_unregister(exp);
		return PTR_ERR(engine);
	}
	f->exp = exp;
	f->engine = engine;
	return 0;
}

void fake_register(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, 0, fake_try_register(test->priv));
}

void fake_unregister(struct fake *f)
{
	if (f->engine)
		hmm_p2p_engine_unregister(f->engine);
	f->engine = NULL;
	hmm_p2p_unregister(f->exp);
	f->exp = NULL;
}

void fake_begin_reset(struct fake *f)
{
	hmm_p2p_reset_begin(f->exp);
}

void fake_die(struct fake *f)
{
	hmm_p2p_dead(f->exp);
}

struct fake *fake_second_init(struct kunit *test)
{
	struct fake *first = test->priv, *f;

	KUNIT_ASSERT_EQ(test, 0, fake_init(test));
	f = test->priv;
	test->priv = first;
	return f;
}

struct fake *fake_second(struct kunit *test)
{
	struct fake *f = fake_second_init(test);

	KUNIT_ASSERT_EQ(test, 0, fake_try_register(f));
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
	return hmm_p2p_page_at(&f->pgmap, PFN_PHYS(i));
}

unsigned long fake_alias(struct fake *f, unsigned long i)
{
	i = fake_place(f, i);
	return page_to_pfn(f->blocks[i / WINDOW_PAGES]) + i % WINDOW_PAGES;
}

MODULE_DESCRIPTION("KUnit tests for hmm_p2p");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("HMM_P2P");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
