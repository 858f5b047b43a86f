// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the core against an exporter that exists only in memory: fake
 * PFNs for its pages, blocks of system memory for its windows, no device.
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/ioport.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/sched/mm.h>

#include "../internal.h"

#define NR_WINDOWS	4UL
#define WINDOW_PAGES	HPAGE_PMD_NR

struct fake {
	struct dev_pagemap pgmap;
	struct resource *res;
	struct page *blocks[NR_WINDOWS];
	struct hmm_p2p_exporter_desc desc;
	struct hmm_p2p_exporter *exp;
	/* What open_window() does. */
	int open_error;
	bool no_kva;
	unsigned long misalign;
	unsigned long freed;
};

static int fake_open_window(void *priv, unsigned long index,
			    struct hmm_p2p_window_map *map)
{
	struct fake *f = priv;

	if (f->open_error && index == NR_WINDOWS - 1)
		return f->open_error;
	map->phys = page_to_phys(f->blocks[index]) + f->misalign;
	map->kva = f->no_kva ? NULL : page_address(f->blocks[index]);
	return 0;
}

static struct folio *fake_alloc_folio(void *priv, unsigned int order)
{
	return NULL;
}

static int fake_copy(void *priv, const struct hmm_p2p_copy *copies,
		     unsigned int nr, enum hmm_p2p_copy_dir dir)
{
	return 0;
}

static const struct hmm_p2p_exporter_ops fake_ops = {
	.open_window = fake_open_window,
	.alloc_folio = fake_alloc_folio,
	.copy = fake_copy,
};

static void fake_folio_free(struct folio *folio)
{
	struct fake *f = container_of(folio->pgmap, struct fake, pgmap);

	f->freed += folio_nr_pages(folio);
}

static vm_fault_t fake_migrate_to_ram(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static const struct dev_pagemap_ops fake_pgmap_ops = {
	.folio_free = fake_folio_free,
	.migrate_to_ram = fake_migrate_to_ram,
};

static int fake_init(struct kunit *test)
{
	struct fake *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	unsigned long i;

	KUNIT_ASSERT_NOT_NULL(test, f);
	test->priv = f;
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
	f->desc = (struct hmm_p2p_exporter_desc) {
		.name = "kunit",
		.ops = &fake_ops,
		.priv = f,
		.pgmap = &f->pgmap,
	};
	return 0;
}

static void fake_exit(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long i;

	if (!IS_ERR_OR_NULL(f->exp))
		hmm_p2p_unregister(f->exp);
	memunmap_pages(&f->pgmap);
	release_mem_region(f->res->start, resource_size(f->res));
	for (i = 0; i < NR_WINDOWS; i++)
		__free_pages(f->blocks[i], HPAGE_PMD_ORDER);
}

static struct page *fake_page(struct fake *f, unsigned long i)
{
	return pfn_to_page(PHYS_PFN(f->res->start) + i);
}

static void fake_register(struct kunit *test)
{
	struct fake *f = test->priv;

	f->exp = hmm_p2p_register(&f->desc);
	KUNIT_ASSERT_FALSE(test, IS_ERR(f->exp));
}

/* Registration */

#define EXPECT_REFUSED(err, f)						\
	KUNIT_EXPECT_EQ(test, err, PTR_ERR(hmm_p2p_register(&(f)->desc)))

static void register_refuses_bad_desc(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_exporter_desc good = f->desc;
	struct hmm_p2p_exporter_ops ops;
	struct range range = f->pgmap.range;

#define BAD_DESC(field, value)			\
	do {					\
		f->desc.field = (value);	\
		EXPECT_REFUSED(-EINVAL, f);	\
		f->desc = good;			\
	} while (0)
	BAD_DESC(name, NULL);
	BAD_DESC(ops, NULL);
	BAD_DESC(pgmap, NULL);
	BAD_DESC(window_shift, PMD_SHIFT - 1);
	BAD_DESC(window_shift, 31);
	/* Larger than the memory is a multiple of. */
	BAD_DESC(window_shift, PMD_SHIFT + 3);

#define BAD_OP(op)				\
	do {					\
		ops = fake_ops;			\
		ops.op = NULL;			\
		BAD_DESC(ops, &ops);		\
	} while (0)
	BAD_OP(open_window);
	BAD_OP(alloc_folio);
	BAD_OP(copy);

#define BAD_PGMAP(field, value, old)		\
	do {					\
		f->pgmap.field = (value);	\
		EXPECT_REFUSED(-EINVAL, f);	\
		f->pgmap.field = (old);		\
	} while (0)
	BAD_PGMAP(owner, NULL, f);
	BAD_PGMAP(type, MEMORY_DEVICE_COHERENT, MEMORY_DEVICE_PRIVATE);
	BAD_PGMAP(nr_range, 2, 1);
	BAD_PGMAP(range.start, range.start + PAGE_SIZE, range.start);
	BAD_PGMAP(range.end, range.end - PAGE_SIZE, range.end);

	/* And it is none the worse for it. */
	fake_register(test);
}

static void register_refuses_bad_windows(struct kunit *test)
{
	struct fake *f = test->priv;
	struct page *block;

	f->misalign = PAGE_SIZE;
	EXPECT_REFUSED(-EINVAL, f);
	f->misalign = 0;

	f->open_error = -EIO;
	EXPECT_REFUSED(-EIO, f);
	f->open_error = 0;

	/* The same address twice. */
	block = f->blocks[2];
	f->blocks[2] = f->blocks[1];
	EXPECT_REFUSED(-EBUSY, f);
	f->blocks[2] = block;

	fake_register(test);
}

static void register_twice(struct kunit *test)
{
	struct fake *f = test->priv;
	struct dev_pagemap *other;

	other = kunit_kzalloc(test, sizeof(*other), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, other);
	memcpy(other, &f->pgmap, sizeof(*other));
	fake_register(test);
	EXPECT_REFUSED(-EEXIST, f);
	f->desc.name = "kunit other name";
	EXPECT_REFUSED(-EEXIST, f);
	/* Other memory of the same owner: hmm could not tell them apart. */
	f->desc.pgmap = other;
	EXPECT_REFUSED(-EEXIST, f);
	/* Other memory and owner, the same name. */
	other->owner = other;
	f->desc.name = "kunit";
	EXPECT_REFUSED(-EEXIST, f);
	f->desc.pgmap = &f->pgmap;
	hmm_p2p_unregister(f->exp);
	fake_register(test);
}

/* Lookup */

static enum hmm_p2p_reason lookup(struct hmm_p2p_peer *peer, struct page *page,
				  bool read_only, bool may_wait,
				  unsigned long *alias,
				  struct hmm_p2p_exporter **pending)
{
	enum hmm_p2p_reason reason;

	*pending = NULL;
	rcu_read_lock();
	reason = hmm_p2p_lookup(peer, page, read_only, may_wait, alias, pending);
	rcu_read_unlock();
	return reason;
}

static void lookup_software(struct kunit *test)
{
	struct hmm_p2p_exporter *pending;
	struct fake *f = test->priv;
	struct hmm_p2p_peer peer;
	unsigned long i, alias;

	hmm_p2p_peer_init(&peer, NULL, NULL);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_EXPORTER,
			lookup(&peer, fake_page(f, 0), false, true, &alias,
			       &pending));
	fake_register(test);
	for (i = 0; i < NR_WINDOWS * WINDOW_PAGES; i++) {
		KUNIT_ASSERT_EQ(test, HMM_P2P_REACHABLE,
				lookup(&peer, fake_page(f, i), false, false,
				       &alias, &pending));
		KUNIT_ASSERT_EQ(test, alias,
				page_to_pfn(f->blocks[i / WINDOW_PAGES]) +
				i % WINDOW_PAGES);
		KUNIT_ASSERT_PTR_EQ(test,
			hmm_p2p_kmap_local(alias | HMM_PFN_VALID | HMM_PFN_PEER),
			page_address(f->blocks[i / WINDOW_PAGES]) +
			(i % WINDOW_PAGES) * PAGE_SIZE);
	}
	KUNIT_EXPECT_EQ(test, HMM_P2P_READ_ONLY,
			lookup(&peer, fake_page(f, 0), true, true, &alias,
			       &pending));
	KUNIT_EXPECT_EQ(test, 1, hmm_p2p_counter_read(f->exp,
			HMM_P2P_C_FALLBACK + HMM_P2P_READ_ONLY));
	hmm_p2p_peer_destroy(&peer);
}

static void lookup_no_kmap(struct kunit *test)
{
	struct hmm_p2p_exporter *pending;
	struct fake *f = test->priv;
	struct hmm_p2p_peer peer;
	unsigned long alias;

	f->no_kva = true;
	fake_register(test);
	hmm_p2p_peer_init(&peer, NULL, NULL);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_KMAP,
			lookup(&peer, fake_page(f, 0), false, true, &alias,
			       &pending));
	hmm_p2p_peer_destroy(&peer);
}

/* A bus master is asked about once, outside the walk, and then known. */
static void lookup_bus_master(struct kunit *test)
{
	struct device *dev = kunit_device_register(test, "hmm_p2p_kunit");
	struct hmm_p2p_exporter *pending;
	struct fake *f = test->priv;
	struct hmm_p2p_peer peer;
	unsigned long alias;

	KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
	fake_register(test);
	hmm_p2p_peer_init(&peer, dev, NULL);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_WAIT,
			lookup(&peer, fake_page(f, 0), false, false, &alias,
			       &pending));
	KUNIT_EXPECT_NULL(test, pending);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_WAIT,
			lookup(&peer, fake_page(f, 0), false, true, &alias,
			       &pending));
	KUNIT_ASSERT_PTR_EQ(test, pending, f->exp);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_resolve(&peer, pending));
	/* This exporter's memory is not on any bus. */
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_BUS,
			lookup(&peer, fake_page(f, 0), false, true, &alias,
			       &pending));
	/* One registered later is not taken for it. */
	hmm_p2p_unregister(f->exp);
	fake_register(test);
	KUNIT_EXPECT_EQ(test, HMM_P2P_NO_WAIT,
			lookup(&peer, fake_page(f, 0), false, false, &alias,
			       &pending));
	hmm_p2p_peer_destroy(&peer);
}

/* Tracking */

#define MAP_ENTRIES	8

static struct hmm_dma_map *map_create(struct kunit *test)
{
	struct hmm_dma_map *map = kunit_kzalloc(test, sizeof(*map), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, map);
	map->dma_entry_size = PAGE_SIZE;
	map->pfn_list = kunit_kcalloc(test, MAP_ENTRIES, sizeof(long),
				      GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, map->pfn_list);
	KUNIT_ASSERT_EQ(test, 0, hmm_p2p_map_alloc(map, MAP_ENTRIES));
	return map;
}

static unsigned long entry(struct fake *f, unsigned long i)
{
	return (page_to_pfn(f->blocks[i / WINDOW_PAGES]) + i % WINDOW_PAGES) |
	       HMM_PFN_VALID | HMM_PFN_PEER;
}

static int window_refs(struct fake *f, unsigned long i)
{
	return atomic_read(&f->exp->windows[i].refs);
}

static void track_counts_each_entry_once(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_dma_map *map;

	fake_register(test);
	map = map_create(test);
	/* Last page of one window, first of the next. */
	map->pfn_list[0] = entry(f, WINDOW_PAGES - 1);
	map->pfn_list[1] = entry(f, WINDOW_PAGES);
	map->pfn_list[5] = entry(f, WINDOW_PAGES);
	hmm_p2p_map_get(map, 0);
	hmm_p2p_map_get(map, 1);
	hmm_p2p_map_get(map, 5);
	hmm_p2p_map_get(map, 5);
	KUNIT_EXPECT_EQ(test, 1, window_refs(f, 0));
	KUNIT_EXPECT_EQ(test, 2, window_refs(f, 1));
	KUNIT_EXPECT_EQ(test, 3, hmm_p2p_refs(f->exp));

	/* An entry that holds nothing, and one put twice. */
	hmm_p2p_map_put(map, 3);
	hmm_p2p_map_put(map, 5);
	hmm_p2p_map_put(map, 5);
	KUNIT_EXPECT_EQ(test, 1, window_refs(f, 1));
	hmm_p2p_map_put(map, 0);
	hmm_p2p_map_put(map, 1);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, 3, hmm_p2p_counter_read(f->exp, HMM_P2P_C_MAPPED));
	KUNIT_EXPECT_EQ(test, 3,
			hmm_p2p_counter_read(f->exp, HMM_P2P_C_UNMAPPED));
	hmm_p2p_map_free(map);
}

static void track_large_windows(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_dma_map *map;
	struct page *big = alloc_pages(GFP_KERNEL, HPAGE_PMD_ORDER + 1);
	struct page *keep = f->blocks[0];

	KUNIT_ASSERT_NOT_NULL(test, big);
	f->desc.window_shift = PMD_SHIFT + 1;
	/* Only the first two blocks are asked for, each twice the size. */
	f->blocks[0] = big;
	f->blocks[1] = alloc_pages(GFP_KERNEL, HPAGE_PMD_ORDER + 1);
	KUNIT_ASSERT_NOT_NULL(test, f->blocks[1]);
	fake_register(test);
	map = map_create(test);
	map->pfn_list[0] = (page_to_pfn(big) + 2 * WINDOW_PAGES - 1) |
			   HMM_PFN_VALID | HMM_PFN_PEER;
	hmm_p2p_map_get(map, 0);
	KUNIT_EXPECT_EQ(test, 1, window_refs(f, 0));
	hmm_p2p_map_put(map, 0);
	KUNIT_EXPECT_EQ(test, 0, window_refs(f, 0));
	hmm_p2p_map_free(map);
	hmm_p2p_unregister(f->exp);
	f->exp = NULL;
	__free_pages(f->blocks[1], HPAGE_PMD_ORDER + 1);
	__free_pages(big, HPAGE_PMD_ORDER + 1);
	f->blocks[0] = keep;
	f->blocks[1] = alloc_pages(GFP_KERNEL, HPAGE_PMD_ORDER);
}

/* A device-private page has a made-up PFN: it must never be mapped for DMA. */
static void dma_refuses_device_private(struct kunit *test)
{
	struct device *dev = kunit_device_register(test, "hmm_p2p_kunit");
	struct pci_p2pdma_map_state state = {};
	struct fake *f = test->priv;
	struct hmm_dma_map *map = map_create(test);

	KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
	dev->coherent_dma_mask = DMA_BIT_MASK(64);
	dev->dma_mask = &dev->coherent_dma_mask;
	map->dma_list = kunit_kcalloc(test, MAP_ENTRIES, sizeof(dma_addr_t),
				      GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, map->dma_list);
	map->pfn_list[2] = page_to_pfn(fake_page(f, 7)) | HMM_PFN_VALID |
			   HMM_PFN_WRITE;
	KUNIT_EXPECT_EQ(test, DMA_MAPPING_ERROR,
			hmm_dma_map_pfn(dev, map, 2, &state));
	KUNIT_EXPECT_EQ(test, 0, map->pfn_list[2] & HMM_PFN_DMA_MAPPED);
	KUNIT_EXPECT_FALSE(test, hmm_dma_unmap_pfn(dev, map, 2));
	/* A page of RAM is. */
	map->pfn_list[3] = page_to_pfn(f->blocks[0]) | HMM_PFN_VALID;
	KUNIT_EXPECT_NE(test, DMA_MAPPING_ERROR,
			hmm_dma_map_pfn(dev, map, 3, &state));
	KUNIT_EXPECT_TRUE(test, hmm_dma_unmap_pfn(dev, map, 3));
	hmm_p2p_map_free(map);
}

/* hmm */

static bool no_invalidate(struct mmu_interval_notifier *mni,
			  const struct mmu_notifier_range *range,
			  unsigned long cur_seq)
{
	mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct mmu_interval_notifier_ops no_notifier_ops = {
	.invalidate = no_invalidate,
};

/* Put a device-private huge page at @addr, where nothing is mapped yet. */
static void insert_huge(struct kunit *test, unsigned long addr)
{
	struct fake *f = test->priv;
	unsigned long *src = kunit_kcalloc(test, HPAGE_PMD_NR, sizeof(*src),
					   GFP_KERNEL);
	unsigned long *dst = kunit_kcalloc(test, HPAGE_PMD_NR, sizeof(*dst),
					   GFP_KERNEL);
	struct folio *folio = page_folio(fake_page(f, 0));
	struct migrate_vma args = {
		.start = addr,
		.end = addr + PMD_SIZE,
		.src = src,
		.dst = dst,
		.pgmap_owner = f,
		.flags = MIGRATE_VMA_SELECT_SYSTEM | MIGRATE_VMA_SELECT_COMPOUND,
	};

	KUNIT_ASSERT_TRUE(test, src && dst);
	mmap_read_lock(current->mm);
	args.vma = find_vma(current->mm, addr);
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

/* A range that starts inside the caller's own huge page. */
static void hmm_offset_in_private_pmd(struct kunit *test)
{
	struct mmu_interval_notifier notifier;
	struct fake *f = test->priv;
	unsigned long area, huge, pfns[8] = {}, i;
	struct hmm_range range = {
		.notifier = &notifier,
		.hmm_pfns = pfns,
		.default_flags = HMM_PFN_REQ_FAULT,
		.dev_private_owner = f,
	};

	KUNIT_ASSERT_EQ(test, 0, kunit_attach_mm());
	area = kunit_vm_mmap(test, NULL, 0, 2 * PMD_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_NE(test, 0, area);
	huge = ALIGN(area, PMD_SIZE);
	insert_huge(test, huge);

	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&notifier, current->mm, huge,
						     PMD_SIZE, &no_notifier_ops));
	range.start = huge + 100 * PAGE_SIZE;
	range.end = range.start + 8 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked_timeout(&range, HZ));
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_EQ(test, page_to_pfn(fake_page(f, 100 + i)),
				pfns[i] & ~HMM_PFN_FLAGS);
	mmu_interval_notifier_remove(&notifier);
	vm_munmap(area, 2 * PMD_SIZE);
	KUNIT_EXPECT_EQ(test, HPAGE_PMD_NR, f->freed);
}

static struct kunit_case hmm_p2p_cases[] = {
	KUNIT_CASE(register_refuses_bad_desc),
	KUNIT_CASE(register_refuses_bad_windows),
	KUNIT_CASE(register_twice),
	KUNIT_CASE(lookup_software),
	KUNIT_CASE(lookup_no_kmap),
	KUNIT_CASE(lookup_bus_master),
	KUNIT_CASE(track_counts_each_entry_once),
	KUNIT_CASE(track_large_windows),
	KUNIT_CASE(dma_refuses_device_private),
	KUNIT_CASE(hmm_offset_in_private_pmd),
	{}
};

static struct kunit_suite hmm_p2p_suite = {
	.name = "hmm_p2p",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_cases,
};

kunit_test_suite(hmm_p2p_suite);

MODULE_DESCRIPTION("KUnit tests for hmm_p2p");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("HMM_P2P");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
