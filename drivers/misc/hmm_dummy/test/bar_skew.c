// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: A mapping of the BAR that is fast in QEMU
 *
 * Where QEMU emulates the CPU, it has a direct-mapped TLB.  Huge pages and BARs are aligned, so
 * their pages have the same index there.  A copy from one to the other misses at each change
 * from loads to stores, and takes five times as long.  So the driver uses a second mapping of
 * the BAR, which begins some pages behind an aligned address.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "test.h"

/* Pages of the mapping before the BAR. */
static unsigned long bar_skew(struct hmm_dummy_dev *dev)
{
	return 1 + dev->id % (CHUNK_PAGES - 1);
}

/* Replaces dev->mem.bar_kva.  The first mapping stays. */
int hmm_dummy_test_bar_map(struct hmm_dummy_dev *dev)
{
	unsigned long i, skew = bar_skew(dev), nr = skew + PHYS_PFN(dev->mem.bar_size);
	unsigned long *pfns;

	pfns = kvmalloc_objs(*pfns, nr);
	if (!pfns)
		return -ENOMEM;
	/* Before the BAR, the mapping has the first page of the BAR. */
	for (i = 0; i < nr; i++)
		pfns[i] = PHYS_PFN(dev->mem.bar_phys) + max(i, skew) - skew;
	dev->test.bar_kva = vmap_pfn(pfns, nr,
				     pgprot_writecombine(pgprot_decrypted(PAGE_KERNEL)));
	kvfree(pfns);
	if (!dev->test.bar_kva)
		return -ENOMEM;
	dev->mem.bar_kva = dev->test.bar_kva + PFN_PHYS(skew);
	return 0;
}

void hmm_dummy_test_bar_unmap(struct hmm_dummy_dev *dev)
{
	vunmap(dev->test.bar_kva);
}
