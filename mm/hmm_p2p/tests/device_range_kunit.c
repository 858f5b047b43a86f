// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of migrate_device_range() in mm/migrate_device.c.  Drivers with an engine of their
 * own evict with it.  It holds no lock of the processes from which it unmaps pages.  So it takes a
 * reference on the anon_vma of each mapped folio until migrate_device_finalize().  It takes none
 * for a folio that is not mapped, because the anon_vma of that folio may have been freed.
 *
 * The tests check the counts, on every kernel.  Only KASAN reports the use of a freed anon_vma.
 */
#include <linux/migrate.h>
#include <linux/rcupdate.h>

#include "fake.h"

#define NR	4UL

static unsigned long src[NR], dst[NR];

/* The first pages of the device. */
static void range_unmap(struct fake *f)
{
	memset(dst, 0, sizeof(dst));
	migrate_device_range(src, page_to_pfn(fake_page(f, 0)), NR);
}

static void range_map(void)
{
	migrate_device_pages(src, dst, NR);
	migrate_device_finalize(src, dst, NR);
}

static unsigned long range_migrating(void)
{
	unsigned long i, n = 0;

	for (i = 0; i < NR; i++)
		n += !!(src[i] & MIGRATE_PFN_MIGRATE);
	return n;
}

static unsigned long range_create(struct kunit *test)
{
	unsigned long start = memory_create(test, NR);

	fake_register(test);
	memory_place(test, start, NR);
	return start;
}

/* Pages that are mapped where they were, and one that a reference keeps there. */
static void range_puts_anon_vma(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start = range_create(test), i;
	struct anon_vma *anon_vma = folio_anon_vma_seen(page_folio(fake_page(f, 0)));
	int refs = atomic_read(&anon_vma->refcount);

	range_unmap(f);
	KUNIT_EXPECT_EQ(test, NR, range_migrating());
	KUNIT_EXPECT_EQ(test, refs + (int)NR, atomic_read(&anon_vma->refcount));
	range_map();
	KUNIT_EXPECT_EQ(test, refs, atomic_read(&anon_vma->refcount));

	folio_get(page_folio(fake_page(f, 1)));
	range_unmap(f);
	KUNIT_EXPECT_EQ(test, NR - 1, range_migrating());
	KUNIT_EXPECT_EQ(test, refs + (int)NR - 1, atomic_read(&anon_vma->refcount));
	range_map();
	KUNIT_EXPECT_EQ(test, refs, atomic_read(&anon_vma->refcount));
	folio_put(page_folio(fake_page(f, 1)));

	/* By the fault of the CPU, which has the VMA, and by place. */
	KUNIT_EXPECT_TRUE(test, memory_right(start, 2));
	KUNIT_EXPECT_EQ(test, refs, atomic_read(&anon_vma->refcount));
	KUNIT_EXPECT_EQ(test, 1, f->freed);
	fake_own_evict(f);
	KUNIT_EXPECT_EQ(test, NR, f->freed);
	KUNIT_EXPECT_EQ(test, refs, atomic_read(&anon_vma->refcount));
	for (i = 0; i < NR; i++)
		KUNIT_EXPECT_TRUE(test, memory_right(start, i));
}

/* All of the VMA: nothing else has its anon_vma. */
static void unmap_vma(struct kunit *test, unsigned long start)
{
	struct vm_area_struct *vma;
	unsigned long end;

	mmap_read_lock(current->mm);
	vma = find_vma(current->mm, start);
	start = vma->vm_start;
	end = vma->vm_end;
	mmap_read_unlock(current->mm);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(start, end - start));
	synchronize_rcu();
}

/* The memory goes while its pages are on their way. */
static void range_outlives_vma(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start = range_create(test);
	struct anon_vma *anon_vma = folio_anon_vma_seen(page_folio(fake_page(f, 0)));

	range_unmap(f);
	KUNIT_EXPECT_EQ(test, NR, range_migrating());
	unmap_vma(test, start);
	KUNIT_EXPECT_EQ(test, (int)NR, atomic_read(&anon_vma->refcount));
	range_map();
	KUNIT_EXPECT_EQ(test, NR, f->freed);
}

/* The memory has gone before, and only a reference keeps a page. */
static void range_after_vma(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start = range_create(test);

	folio_get(page_folio(fake_page(f, 1)));
	unmap_vma(test, start);
	KUNIT_EXPECT_EQ(test, NR - 1, f->freed);
	range_unmap(f);
	KUNIT_EXPECT_EQ(test, 0, range_migrating());
	range_map();
	folio_put(page_folio(fake_page(f, 1)));
	KUNIT_EXPECT_EQ(test, NR, f->freed);
}

static struct kunit_case hmm_p2p_device_range_cases[] = {
	KUNIT_CASE(range_puts_anon_vma),
	KUNIT_CASE(range_outlives_vma),
	KUNIT_CASE(range_after_vma),
	{}
};

static struct kunit_suite hmm_p2p_device_range_suite = {
	.name = "hmm_p2p_device_range",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_device_range_cases,
};

kunit_test_suite(hmm_p2p_device_range_suite);
