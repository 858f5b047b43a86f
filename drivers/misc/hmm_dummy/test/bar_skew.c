// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: A mapping of the BAR that the emulator likes
 *
 * Huge pages and BARs are aligned, so their pages sit at the same index of a direct-mapped
 * TLB, which is what QEMU has where it emulates the CPU.  A copy from one to the other then
 * misses at each turn from loads to stores, and takes five times as long.  So the driver
 * uses a second mapping of the BAR, which begins some pages behind an aligned address.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "test.h"

/* How many pages the mapping has in front of the BAR. */
static unsigned long bar_skew(struct hmm_dummy_dev *dev)
{
	return 1 + dev->id % (CHUNK_PAGES - 1);
}

/* Replaces dev->mem.bar_kva, which goes on to be mapped. */
int hmm_dummy_test_bar_map(struct hmm_dummy_dev *dev)
{
	unsigned long i, skew = bar_skew(dev), nr = skew + PHYS_PFN(dev->mem.bar_size);
	unsigned long *pfns;

	pfns = kvmalloc_objs(*pfns, nr);
	if (!pfns)
		return -ENOMEM;
	/* In front of the first page is the first page, for want of another. */
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
