// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of lookups, of the pairs that they make, and of the entries that hmm_range_fault()
 * fills in for small and for huge pages.
 */
#include <kunit/device.h>
#include <linux/dma-mapping.h>

#include "fake.h"

#define VP	(HMM_PFN_VALID | HMM_PFN_PEER)

#define FAULT_WAIT	(HMM_P2P_FAULT | HMM_P2P_WAIT)

/* Look a page up as a fault that may wait does: what must happen first happens. */
static enum hmm_p2p_reason lookup_and_resolve(struct kunit *test, struct mirror *m,
					       struct page *page, unsigned long *alias)
{
	struct hmm_p2p_window *pending;
	enum hmm_p2p_reason reason;

	reason = mirror_lookup(m, page, FAULT_WAIT, alias, &pending);
	if (reason != HMM_P2P_NO_WAIT)
		return reason;
	KUNIT_ASSERT_NOT_NULL(test, pending);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_resolve(&m->peer, pending, jiffies));
	return mirror_lookup(m, page, FAULT_WAIT, alias, &pending);
}

static void lookup_software(struct kunit *test)
{
	struct hmm_p2p_window *pending;
	struct fake *f = test->priv;
	unsigned long i, alias, start = memory_create(test, 1);
	struct mirror *m = mirror_create(test, "soft", start, 1);

	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_EXPORTER,
			lookup_and_resolve(test, m, fake_page(f, 0), &alias));
	fake_register(test);
	/* The pair does not exist yet, and this caller must not wait for it. */
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_WAIT,
			mirror_lookup(m, fake_page(f, 0), HMM_P2P_FAULT, &alias, &pending));
	KUNIT_EXPECT_NULL(test, pending);
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp,
			HMM_P2P_C_FALLBACK + HMM_P2P_NO_WAIT));
	for (i = 0; i < NR_PAGES; i++) {
		KUNIT_ASSERT_EQ(test, HMM_P2P_REACHABLE,
				lookup_and_resolve(test, m, fake_page(f, i), &alias));
		KUNIT_ASSERT_EQ(test, alias, fake_alias(f, i));
		KUNIT_ASSERT_PTR_EQ(test, hmm_p2p_kmap_local(alias | VP),
			page_address(f->blocks[i / WINDOW_PAGES]) +
			(i % WINDOW_PAGES) * PAGE_SIZE);
	}
	KUNIT_EXPECT_EQ(test, HMM_P2P_READ_ONLY,
			mirror_lookup(m, fake_page(f, 0),
			       FAULT_WAIT | HMM_P2P_READ_ONLY_ENTRY, &alias,
			       &pending));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp,
			HMM_P2P_C_FALLBACK + HMM_P2P_READ_ONLY));
	KUNIT_EXPECT_EQ(test, HMM_P2P_WATCHED,
			mirror_lookup(m, fake_page(f, 0), FAULT_WAIT | HMM_P2P_WATCHED_ENTRY,
			       &alias, &pending));
	/* The pair counts only required faults. */
	KUNIT_EXPECT_EQ(test, HMM_P2P_WATCHED,
			mirror_lookup(m, fake_page(f, 0), HMM_P2P_WATCHED_ENTRY, &alias,
			       &pending));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp,
			HMM_P2P_C_FALLBACK + HMM_P2P_WATCHED));
	mirror_destroy(m);
	/* The exporter counts what the pair has counted. */
	KUNIT_EXPECT_EQ(test, NR_PAGES,
			hmm_p2p_total_read(f->exp, HMM_P2P_C_ALIASES));
}

/* Look a page up after another one, as hmm.c does. */
static enum hmm_p2p_reason lookup_next(struct mirror *m, struct hmm_p2p_cursor *cursor,
				       struct page *page)
{
	struct hmm_p2p_window *pending = NULL;
	enum hmm_p2p_reason reason = HMM_P2P_REACHABLE;
	unsigned long alias;

	rcu_read_lock();
	if (!hmm_p2p_lookup_again(&m->peer, cursor, page, true, &alias))
		reason = hmm_p2p_lookup(&m->peer, cursor, page, HMM_P2P_FAULT, &alias,
					&pending);
	rcu_read_unlock();
	return reason;
}

/* A walk does not use its cached window after the window has changed. */
static void lookup_remembers(struct kunit *test)
{
	struct hmm_p2p_cursor cursor = {};
	struct fake *f = test->priv;
	unsigned long alias, start = memory_create(test, 1);
	struct mirror *m = mirror_create(test, "soft", start, 1);
	struct hmm_p2p_window *window;

	fake_register(test);
	window = &f->exp->windows[0];
	KUNIT_ASSERT_EQ(test, HMM_P2P_REACHABLE,
			lookup_and_resolve(test, m, fake_page(f, 0), &alias));
	KUNIT_EXPECT_EQ(test, HMM_P2P_REACHABLE, lookup_next(m, &cursor, fake_page(f, 1)));

	/* Leave the window as hmm_p2p_window_begin_revoke() does. */
	WRITE_ONCE(window->state, HMM_P2P_REVOKING);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_WAIT, lookup_next(m, &cursor, fake_page(f, 2)));
	WRITE_ONCE(window->state, HMM_P2P_OPEN);
	KUNIT_EXPECT_EQ(test, HMM_P2P_REACHABLE, lookup_next(m, &cursor, fake_page(f, 2)));

	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_begin(f->exp));
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_WAIT, lookup_next(m, &cursor, fake_page(f, 3)));
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_reset_end(f->exp));
	KUNIT_EXPECT_EQ(test, HMM_P2P_REACHABLE, lookup_next(m, &cursor, fake_page(f, 3)));

	WRITE_ONCE(m->peer.importer->quarantined, true);
	KUNIT_EXPECT_EQ(test, HMM_P2P_QUARANTINED, lookup_next(m, &cursor, fake_page(f, 4)));
	WRITE_ONCE(m->peer.importer->quarantined, false);
	hmm_p2p_lookup_done(&cursor);
	mirror_destroy(m);
}

static void lookup_no_kmap(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long alias, start = memory_create(test, 1);
	struct mirror *m = mirror_create(test, "soft", start, 1);

	f->no_kva = true;
	fake_register(test);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_KMAP,
			lookup_and_resolve(test, m, fake_page(f, 0), &alias));
	mirror_destroy(m);
}

/* p2pdma is asked about a bus master once, outside of the walk. */
static void lookup_bus_master(struct kunit *test)
{
	struct device *dev = kunit_device_register(test, "hmm_p2p_kunit");
	struct hmm_p2p_window *pending;
	struct fake *f = test->priv;
	unsigned long alias, start = memory_create(test, 1);
	struct mirror *m = mirror_create(test, "bus master", start, 1);

	KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
	m->peer.dev = dev;
	fake_register(test);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_WAIT,
			mirror_lookup(m, fake_page(f, 0), FAULT_WAIT, &alias, &pending));
	KUNIT_ASSERT_PTR_EQ(test, pending, &f->exp->windows[0]);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_resolve(&m->peer, pending, jiffies));
	/* This exporter's memory is not on any bus. */
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_BUS,
			mirror_lookup(m, fake_page(f, 0), 0, &alias, &pending));
	/* An exporter that registers later is asked about again. */
	fake_unregister(f);
	fake_register(test);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_WAIT,
			mirror_lookup(m, fake_page(f, 0), 0, &alias, &pending));
	m->peer.dev = NULL;
	mirror_destroy(m);
}

/* An importer with lazy unmap gets no aliases, because its DMA may outlive the unmap. */
static void lookup_lazy_iommu(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long alias, start = memory_create(test, 1);
	struct mirror *m = mirror_create(test, "bus master", start, 1);
	struct hmm_p2p_pair *pair;

	fake_register(test);
	KUNIT_EXPECT_EQ(test, HMM_P2P_REACHABLE,
			lookup_and_resolve(test, m, fake_page(f, 0), &alias));
	pair = list_first_entry(&f->exp->pairs, struct hmm_p2p_pair, node);
	/* Set what hmm_p2p_peer_init() and hmm_p2p_pair_create() find behind an IOMMU. */
	m->peer.lazy_unmap = true;
	KUNIT_EXPECT_EQ(test, HMM_P2P_REACHABLE,
			lookup_and_resolve(test, m, fake_page(f, 0), &alias));
	pair->translated = true;
	KUNIT_EXPECT_EQ(test, HMM_P2P_LAZY_IOMMU,
			lookup_and_resolve(test, m, fake_page(f, 0), &alias));
	m->peer.lazy_unmap = false;
	KUNIT_EXPECT_EQ(test, HMM_P2P_REACHABLE,
			lookup_and_resolve(test, m, fake_page(f, 0), &alias));
	mirror_destroy(m);
}

/* All mirrors of an importer in one mm share one pair. */
static void one_pair_per_importer(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long alias, start = memory_create(test, 3);
	struct mirror *a, *b, *c;

	fake_register(test);
	a = mirror_create(test, "soft", start, 1);
	b = mirror_create(test, "soft", start + PAGE_SIZE, 1);
	c = mirror_create(test, "other", start + 2 * PAGE_SIZE, 1);
	lookup_and_resolve(test, a, fake_page(f, 0), &alias);
	lookup_and_resolve(test, b, fake_page(f, 0), &alias);
	lookup_and_resolve(test, c, fake_page(f, 0), &alias);
	KUNIT_EXPECT_EQ(test, 2, list_count_nodes(&f->exp->pairs));
	mirror_destroy(a);
	KUNIT_EXPECT_EQ(test, 2, list_count_nodes(&f->exp->pairs));
	mirror_destroy(b);
	KUNIT_EXPECT_EQ(test, 1, list_count_nodes(&f->exp->pairs));
	mirror_destroy(c);
	KUNIT_EXPECT_EQ(test, 0, list_count_nodes(&f->exp->pairs));
}

/* A device-private page has a fake PFN, which must never be mapped for DMA. */
static void dma_refuses_device_private(struct kunit *test)
{
	struct device *dev = kunit_device_register(test, "hmm_p2p_kunit");
	struct pci_p2pdma_map_state state = {};
	struct fake *f = test->priv;
	unsigned long start = memory_create(test, 4);
	struct mirror *m = mirror_create(test, "soft", start, 4);
	struct hmm_dma_map *map = &m->map;

	KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
	dev->coherent_dma_mask = DMA_BIT_MASK(64);
	dev->dma_mask = &dev->coherent_dma_mask;
	map->dma_list = kunit_kcalloc(test, 4, sizeof(dma_addr_t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, map->dma_list);
	map->pfn_list[2] = page_to_pfn(fake_page(f, 7)) | HMM_PFN_VALID |
			   HMM_PFN_WRITE;
	KUNIT_EXPECT_EQ(test, DMA_MAPPING_ERROR,
			hmm_dma_map_pfn(dev, map, 2, &state));
	KUNIT_EXPECT_EQ(test, 0, map->pfn_list[2] & HMM_PFN_DMA_MAPPED);
	KUNIT_EXPECT_FALSE(test, hmm_dma_unmap_pfn(dev, map, 2));
	/* A page of RAM is mapped. */
	map->pfn_list[3] = page_to_pfn(f->blocks[0]) | HMM_PFN_VALID;
	KUNIT_EXPECT_NE(test, DMA_MAPPING_ERROR,
			hmm_dma_map_pfn(dev, map, 3, &state));
	KUNIT_EXPECT_TRUE(test, hmm_dma_unmap_pfn(dev, map, 3));
	mirror_destroy(m);
}

/* Huge pages */

/* A range that starts inside of a huge page of the caller's own device. */
static void huge_own_offset(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long pfns[8] = {}, i;
	struct hmm_range range = {
		.hmm_pfns = pfns,
		.default_flags = HMM_PFN_REQ_FAULT,
		.dev_private_owner = f,
	};
	struct mirror *m;

	fake_register(test);
	m = mirror_create(test, "soft", memory_create_huge(test, 0), WINDOW_PAGES);
	range.notifier = &m->notifier;
	range.start = m->start + 100 * PAGE_SIZE;
	range.end = range.start + 8 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked_timeout(&range, HZ));
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_EQ(test, page_to_pfn(fake_page(f, 100 + i)),
				pfns[i] & ~HMM_PFN_FLAGS);
	mirror_destroy(m);
}

/* One lookup finds all of a huge page for a peer, and every part of it is right. */
static void huge_one_lookup(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long i;
	struct mirror *m;

	fake_register(test);
	m = mirror_create(test, "soft", memory_create_huge(test, 1), WINDOW_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, WINDOW_PAGES,
					      HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_total_read(f->exp, HMM_P2P_C_ALIASES));
	for (i = 0; i < WINDOW_PAGES; i++)
		KUNIT_ASSERT_TRUE(test, mirror_has(m, i,
						   fake_alias(f, WINDOW_PAGES + i)));
	KUNIT_EXPECT_EQ(test, HPAGE_PMD_ORDER,
			hmm_pfn_to_map_order(m->map.pfn_list[7]));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, hmm_p2p_refs(f->exp));

	mirror_let_go(m);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 300, 5, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 300,
					   fake_alias(f, WINDOW_PAGES + 300)));
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 511, 1, HMM_PFN_REQ_FAULT));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 511,
					   fake_alias(f, WINDOW_PAGES + 511)));
	KUNIT_EXPECT_EQ(test, 6, hmm_p2p_refs(f->exp));
	mirror_destroy(m);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
}

/* A huge page that the peer cannot reach moves to RAM with its data. */
static void huge_fallback(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long i;
	struct mirror *m;

	f->no_kva = true;
	fake_register(test);
	m = mirror_create(test, "soft", memory_create_huge(test, 0), WINDOW_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 100, 20, HMM_PFN_REQ_FAULT));
	for (i = 100; i < 120; i++)
		KUNIT_ASSERT_TRUE(test, mirror_has(m, i, 0));
	for (i = 0; i < WINDOW_PAGES; i++)
		KUNIT_ASSERT_TRUE(test, memory_right(m->start, i));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, f->freed);
	mirror_destroy(m);
}

/* To look moves nothing, and a page that the peer cannot reach is absent, huge or small. */
static void huge_unreachable_snapshot(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m, *small;

	f->no_kva = true;
	fake_register(test);
	m = mirror_create(test, "soft", memory_create_huge(test, 0), WINDOW_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, WINDOW_PAGES, 0));
	KUNIT_EXPECT_NULL(test, memchr_inv(m->map.pfn_list, 0, WINDOW_PAGES * sizeof(long)));

	small = mirror_create(test, "soft", memory_create(test, 1), 1);
	memory_place(test, small->start, 1);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(small, 0, 1, 0));
	KUNIT_EXPECT_EQ(test, 0, small->map.pfn_list[0]);
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	mirror_destroy(small);
	mirror_destroy(m);
}

/* A CPU fault takes the huge page back as a whole. */
static void huge_cpu_fault(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start, i;

	fake_register(test);
	start = memory_create_huge(test, 0);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 77));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, f->freed);
	for (i = 0; i < WINDOW_PAGES; i++)
		KUNIT_ASSERT_TRUE(test, memory_right(start, i));
}

/* A part of a huge page is moved or unmapped.  The rest stays and is right. */
static void huge_partial(struct kunit *test)
{
	struct hmm_p2p_result result = {};
	struct fake *f = test->priv;
	struct mirror *m;
	unsigned long i;

	fake_register(test);
	m = mirror_create(test, "soft", memory_create_huge(test, 2), WINDOW_PAGES);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, WINDOW_PAGES, HMM_PFN_REQ_FAULT));
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_migrate_to_ram(f->engine, m->mm,
				m->start + 8 * PAGE_SIZE,
				m->start + 16 * PAGE_SIZE, &result));
	KUNIT_EXPECT_EQ(test, 8, result.migrated);
	KUNIT_EXPECT_EQ(test, 8, f->freed);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(m->start + 100 * PAGE_SIZE,
					   10 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 18, f->freed);
	KUNIT_ASSERT_EQ(test, 0, mirror_fault(m, 0, 100, HMM_PFN_REQ_FAULT));
	for (i = 0; i < 100; i++)
		KUNIT_ASSERT_TRUE(test, mirror_has(m, i, i < 8 || i >= 16 ?
				fake_alias(f, 2 * WINDOW_PAGES + i) : 0));
	KUNIT_EXPECT_EQ(test, -EFAULT, mirror_fault(m, 99, 2, HMM_PFN_REQ_FAULT));
	mirror_let_go(m);
	for (i = 0; i < WINDOW_PAGES; i++)
		if (i < 100 || i >= 110)
			KUNIT_ASSERT_TRUE(test, memory_right(m->start, i));
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, f->freed);
	mirror_destroy(m);
}

/* Unregistering moves huge pages to RAM as well. */
static void huge_drain(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start, i;

	fake_register(test);
	start = memory_create_huge(test, 3);
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, f->freed);
	for (i = 0; i < WINDOW_PAGES; i++)
		KUNIT_ASSERT_TRUE(test, memory_right(start, i));
}

static struct kunit_case hmm_p2p_alias_cases[] = {
	KUNIT_CASE(lookup_software),
	KUNIT_CASE(lookup_remembers),
	KUNIT_CASE(lookup_no_kmap),
	KUNIT_CASE(lookup_bus_master),
	KUNIT_CASE(lookup_lazy_iommu),
	KUNIT_CASE(one_pair_per_importer),
	KUNIT_CASE(dma_refuses_device_private),
	KUNIT_CASE(huge_own_offset),
	KUNIT_CASE(huge_one_lookup),
	KUNIT_CASE(huge_fallback),
	KUNIT_CASE(huge_unreachable_snapshot),
	KUNIT_CASE(huge_cpu_fault),
	KUNIT_CASE(huge_partial),
	KUNIT_CASE(huge_drain),
	{}
};

static struct kunit_suite hmm_p2p_alias_suite = {
	.name = "hmm_p2p_alias",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_alias_cases,
};

/* The same tests with a driver that moves its pages by itself. */
static struct kunit_case hmm_p2p_alias_without_engine_cases[] = {
	KUNIT_CASE(lookup_software),
	KUNIT_CASE(lookup_remembers),
	KUNIT_CASE(lookup_no_kmap),
	KUNIT_CASE(lookup_bus_master),
	KUNIT_CASE(lookup_lazy_iommu),
	KUNIT_CASE(one_pair_per_importer),
	KUNIT_CASE(dma_refuses_device_private),
	KUNIT_CASE(huge_own_offset),
	KUNIT_CASE(huge_one_lookup),
	KUNIT_CASE(huge_fallback),
	KUNIT_CASE(huge_unreachable_snapshot),
	KUNIT_CASE(huge_cpu_fault),
	{}
};

static struct kunit_suite hmm_p2p_alias_without_engine_suite = {
	.name = "hmm_p2p_alias_without_engine",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_alias_without_engine_cases,
};

fake_test_suites(hmm_p2p_alias_suite, hmm_p2p_alias_without_engine_suite);
