// SPDX-License-Identifier: GPL-2.0
/* The process memory of the KUnit suites, and its migration to an exporter. */
#include <linux/migrate.h>
#include <linux/mman.h>
#include <linux/uaccess.h>

#include "fake.h"

/*
 * The memory has no huge pages in RAM, whatever the system's policy.  The split of a huge page maps
 * its zeroed pages as the zero page, and the driver without engine leaves that where it is.
 */
static void attach_mm(struct kunit *test)
{
	if (current->mm)
		return;
	KUNIT_ASSERT_EQ(test, 0, kunit_attach_mm());
	mm_flags_set(MMF_DISABLE_THP_COMPLETELY, current->mm);
}

unsigned long memory_create(struct kunit *test, unsigned long nr)
{
	unsigned long start, i;

	attach_mm(test);
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

unsigned long memory_value(unsigned long start, unsigned long i)
{
	unsigned long value;

	return get_user(value, (unsigned long __user *)(start + i * PAGE_SIZE)) ?
	       ULONG_MAX : value;
}

bool memory_right(unsigned long start, unsigned long i)
{
	return memory_value(start, i) == i;
}

int memory_to_device(struct fake *f, unsigned long start, unsigned long nr,
		     unsigned int flags, struct hmm_p2p_result *result)
{
	return hmm_p2p_migrate_to_device(f->engine, current->mm, start,
					 start + nr * PAGE_SIZE, flags, result);
}

void memory_place_on(struct kunit *test, struct fake *f, unsigned long start,
		     unsigned long nr)
{
	struct hmm_p2p_result result = {};

	if (f->without_engine) {
		KUNIT_ASSERT_EQ(test, nr, fake_own_to_device(f, current->mm, start, nr));
		return;
	}
	KUNIT_ASSERT_EQ(test, 0, memory_to_device(f, start, nr, 0, &result));
	KUNIT_ASSERT_EQ(test, nr, result.migrated);
}

void memory_place(struct kunit *test, unsigned long start, unsigned long nr)
{
	memory_place_on(test, test->priv, start, nr);
}

unsigned long memory_create_placed(struct kunit *test, unsigned long nr)
{
	unsigned long start = memory_create(test, nr);

	memory_place(test, start, nr);
	return start;
}

/* Map a huge page of the device at @start, where nothing is mapped. */
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
		*(unsigned long *)fake_kva(f, fake_page(f, window * WINDOW_PAGES + i)) = i;
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

/* Fresh memory that is a huge page of the device: all of window @window, but window_offset. */
unsigned long memory_create_huge(struct kunit *test, unsigned long window)
{
	unsigned long start;

	attach_mm(test);
	start = kunit_vm_mmap(test, NULL, 0, 2 * PMD_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_NE(test, 0, start);
	start = ALIGN(start, PMD_SIZE);
	memory_place_huge(test, start, window);
	return start;
}
