/* SPDX-License-Identifier: GPL-2.0 */
/* ioctl(PAGEMAP_SCAN): count the pages that were written or read under userfaultfd's watch. */
#ifndef HMM_P2P_PAGEMAP_SCAN_H
#define HMM_P2P_PAGEMAP_SCAN_H

#include "common.h"

/* Definitions that the distribution's headers do not have yet. */
#ifndef PAGEMAP_SCAN
struct page_region {
	__u64 start, end, categories;
};

struct pm_scan_arg {
	__u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	__u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PAGEMAP_SCAN		_IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_WRITTEN		(1 << 1)
#define PM_SCAN_WP_MATCHING	(1 << 0)
#define PM_SCAN_CHECK_WPASYNC	(1 << 1)
#endif
#ifndef PAGE_IS_ACCESSED
#define PAGE_IS_ACCESSED	(1 << 9)
#endif

/*
 * Count the pages of @category in @length bytes at @p, at most 2 MiB.  @pagemap is an open
 * /proc/self/pagemap.  @flags can restart the watch of these pages.  Returns -1 on error.
 */
static inline long pages_scanned(int pagemap, const char *p, size_t length, uint64_t category,
				 uint64_t flags)
{
	struct page_region vec[2 * MiB / PAGE];
	struct pm_scan_arg arg = {
		.size = sizeof(arg), .flags = flags, .start = (uintptr_t)p,
		.end = (uintptr_t)p + length, .vec = (uintptr_t)vec,
		.vec_len = sizeof(vec) / sizeof(*vec),
		.category_mask = category, .return_mask = category,
	};
	int n = ioctl(pagemap, PAGEMAP_SCAN, &arg);
	long pages = 0;

	if (n < 0 || arg.walk_end != arg.end)
		return -1;
	for (int i = 0; i < n; i++)
		pages += (vec[i].end - vec[i].start) / PAGE;
	return pages;
}

/* Count the pages that were written since their watch began, and restart it. */
static inline long pages_written(int pagemap, const char *p, size_t length)
{
	return pages_scanned(pagemap, p, length, PAGE_IS_WRITTEN,
			     PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC);
}

#endif /* HMM_P2P_PAGEMAP_SCAN_H */
