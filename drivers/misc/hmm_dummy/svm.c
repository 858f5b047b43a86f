// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The device page table of a process
 *
 * It mirrors the process's page table, filled by device page faults (fault.c).  It
 * consists of ranges of 2 MiB, each with an mmu interval notifier, a lock and its
 * entries, so that neither a fault nor an invalidation concerns more of the process than
 * it has to.  The entries of a range are 512 of 4 KiB, or one of 2 MiB if all of it is
 * one huge page.
 *
 * This is the importer side, the same for own memory, RAM and other devices:
 *
 *  - fault with hmm_range_fault(), without locks, into an array of its own
 *  - take the range's lock and ask mmu_interval_read_retry(); if the answer is
 *    yes, what was found is history: start again
 *  - map the entries with hmm_dma_map_pfn(); own pages need none, the device
 *    knows its way around its memory
 *  - use them, under the lock or until invalidated
 *  - on invalidation, under the same lock, let go of them
 *
 * A fault may wait for user space for as long as user space likes, with the notifier and
 * the mirror of a range in its hands.  The device does not wait for the fault when it goes:
 *
 *	fault					removal
 *	  takes a reference on the range
 *	  hmm_range_fault() waits
 *						hmm_dummy_svm_close(): lets go of all
 *						entries, marks the range as closed,
 *						removes the notifier, gives the IOVA back
 *						drops its reference; the device goes
 *	  hmm_range_fault() returns
 *	  the range is closed: stores nothing
 *	  drops the last reference
 *	    the mirror and the memory go
 *
 * Replace for real hardware: the dummy executes commands on the CPU, so it gets
 * at the entries by their kernel addresses and under the lock.  A GPU would be given
 * the DMA addresses, and invalidation would flush its TLB and wait for that.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "hmm_dummy.h"

#define MAPPED_FLAGS	(HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS)

/* The device that masters the bus; without one, the CPU stands in for it. */
static struct device *svm_bus_master(struct hmm_dummy_dev *dev)
{
	return dev->pdev ? &dev->pdev->dev : NULL;
}

/* An entry in our own memory has a made-up PFN, good for nothing but its offset. */
bool hmm_dummy_entry_is_own(unsigned long hmm_pfn)
{
	return hmm_pfn & HMM_PFN_VALID && !(hmm_pfn & HMM_PFN_PEER) &&
	       is_device_private_page(hmm_pfn_to_page(hmm_pfn));
}

static void range_clear(struct hmm_dummy_range *range, unsigned long first,
			unsigned long last)
{
	struct device *dev = range->dma_dev;
	unsigned long i;

	lockdep_assert_held(&range->lock);
	/* What is left of a huge entry are small ones. */
	range->huge = false;
	hmm_dummy_test_range_cleared(range, first, last - first + 1);
	if (dev)
		hmm_dma_unmap_pfns(dev, &range->map, first, last - first + 1);
	for (i = first; i <= last; i++) {
		unsigned long *entry = &range->map.pfn_list[i];

		if (!dev && *entry & HMM_PFN_PEER)
			hmm_p2p_map_put(&range->map, i);
		*entry = 0;
		range->dma[i] = 0;
	}
}

static bool range_invalidate(struct mmu_interval_notifier *mni,
			     const struct mmu_notifier_range *mmu_range,
			     unsigned long cur_seq)
{
	struct hmm_dummy_range *range =
		container_of(mni, struct hmm_dummy_range, notifier);
	unsigned long start = max(mmu_range->start, range->start);
	unsigned long last = min(mmu_range->end - 1,
				 range->start + RANGE_SIZE - 1);

	/*
	 * A window of our memory is revoked, the memory stays: of no concern to
	 * us, who do not use the BAR.  Nobody else may skip this event.
	 */
	if (mmu_range->owner && mmu_range->owner == range->ctx->dev->exporter)
		return true;
	/* We take pages for ourselves, and set up what follows from it. */
	if (mmu_range->event == MMU_NOTIFY_EXCLUSIVE &&
	    mmu_range->owner == range->ctx)
		return true;
	if (mmu_notifier_range_blockable(mmu_range))
		mutex_lock(&range->lock);
	else if (!mutex_trylock(&range->lock))
		return false;
	mmu_interval_set_seq(mni, cur_seq);
	/*
	 * Also for our own migrations: the owner of the event only says that the
	 * source was ours, not that this context had nothing of it mapped.
	 */
	hmm_p2p_invalidate_begin(&range->map);
	range_clear(range, (start - range->start) >> PAGE_SHIFT,
		    (last - range->start) >> PAGE_SHIFT);
	hmm_p2p_invalidate_end(&range->map);
	mutex_unlock(&range->lock);
	return true;
}

static const struct mmu_interval_notifier_ops range_notifier_ops = {
	.invalidate = range_invalidate,
};

static int range_map_alloc(struct hmm_dummy_range *range)
{
	struct device *dev = range->dma_dev;
	int ret;

	if (dev) {
		ret = hmm_dma_map_alloc(dev, &range->map, RANGE_PAGES, PAGE_SIZE);
		return ret ?: hmm_dummy_test_range_map(range);
	}
	range->map.pfn_list = kvcalloc(RANGE_PAGES, sizeof(unsigned long),
				       GFP_KERNEL_ACCOUNT);
	return range->map.pfn_list ? 0 : -ENOMEM;
}

/* The device may have lost its driver since range_close(): nothing is asked of it. */
static void range_map_free(struct hmm_dummy_range *range)
{
	struct device *dev = range->dma_dev;

	if (dev)
		hmm_dma_map_free(dev, &range->map);
	else
		kvfree(range->map.pfn_list);
}

static struct hmm_dummy_range *range_create(struct hmm_dummy_ctx *ctx,
					    unsigned long start)
{
	struct hmm_p2p_peer_desc peer = {
		.name = ctx->dev->name,
		.mm = ctx->mm,
	};
	struct hmm_dummy_range *range;
	int ret = -ENOMEM;

	range = kzalloc_obj(*range, GFP_KERNEL_ACCOUNT);
	if (!range)
		return ERR_PTR(-ENOMEM);
	kref_init(&range->kref);
	range->ctx = ctx;
	range->start = start;
	mutex_init(&range->lock);
	range->dma_dev = get_device(svm_bus_master(ctx->dev));
	range->dma = kvcalloc(RANGE_PAGES, sizeof(*range->dma),
			      GFP_KERNEL_ACCOUNT);
	if (!range->dma)
		goto err_free;
	ret = range_map_alloc(range);
	if (ret)
		goto err_dma;
	peer.dev = range->dma_dev;
	peer.map = &range->map;
	peer.nr_entries = RANGE_PAGES;
	ret = hmm_p2p_peer_init(&range->peer, &peer);
	if (ret)
		goto err_map;

	ret = mmu_interval_notifier_insert(&range->notifier, ctx->mm, start,
					   RANGE_SIZE, &range_notifier_ops);
	if (ret)
		goto err_peer;
	return range;

err_peer:
	hmm_p2p_peer_destroy(&range->peer);
err_map:
	range_map_free(range);
err_dma:
	kvfree(range->dma);
err_free:
	put_device(range->dma_dev);
	kfree(range);
	return ERR_PTR(ret);
}

static void hmm_dummy_range_release(struct kref *kref)
{
	struct hmm_dummy_range *range = container_of(kref, struct hmm_dummy_range, kref);

	hmm_p2p_peer_destroy(&range->peer);
	range_map_free(range);
	kvfree(range->dma);
	put_device(range->dma_dev);
	kfree(range);
}

/**
 * hmm_dummy_range_put - drop a reference on a range
 * @range: from kref_get() of its kref
 *
 * Context: Process context, may sleep.  Neither the context nor the device is needed.
 */
void hmm_dummy_range_put(struct hmm_dummy_range *range)
{
	kref_put(&range->kref, hmm_dummy_range_release);
}

/* Let go of everything that is the device's or the process's, whoever is at a fault. */
static void range_close(struct hmm_dummy_range *range)
{
	/* First, since nobody tells when pages move once the notifier is removed. */
	mutex_lock(&range->lock);
	range->closed = true;
	range_clear(range, 0, RANGE_PAGES - 1);
	mutex_unlock(&range->lock);
	mmu_interval_notifier_remove(&range->notifier);
	/* hmm_dma_map_free() may come when the device is behind no IOMMU any more. */
	if (range->dma_dev && dma_use_iova(&range->map.state)) {
		dma_iova_free(range->dma_dev, &range->map.state);
		range->map.state = (struct dma_iova_state) {};
	}
	hmm_dummy_range_put(range);
}

static bool svm_addr_is_mapped(struct mm_struct *mm, unsigned long addr)
{
	bool mapped;

	mmap_read_lock(mm);
	mapped = vma_lookup(mm, addr);
	mmap_read_unlock(mm);
	return mapped;
}

/**
 * hmm_dummy_range_get - the range of an address, made if need be
 * @ctx: the context; the caller holds a reference on its mm (mmget())
 * @addr: the address
 *
 * Ranges live until the context closes, so none is made for an address where there is
 * nothing.  A job that an engine works on keeps the context from closing, and so does
 * hmm_dummy_dev_enter(); whoever needs the range for longer takes a reference.
 *
 * Return: the range, or an ERR_PTR(): -EFAULT, -ENODEV, -ENOMEM, or -EOPNOTSUPP if the
 * device cannot map memory for DMA.
 */
struct hmm_dummy_range *hmm_dummy_range_get(struct hmm_dummy_ctx *ctx,
					    unsigned long addr)
{
	unsigned long index = addr >> PMD_SHIFT;
	struct hmm_dummy_range *range = xa_load(&ctx->ranges, index);
	int ret;

	if (range)
		return range;
	if (!svm_addr_is_mapped(ctx->mm, addr))
		return ERR_PTR(-EFAULT);
	mutex_lock(&ctx->lock);
	range = xa_load(&ctx->ranges, index);
	if (!range && ctx->closed)
		range = ERR_PTR(-ENODEV);
	if (!range) {
		range = range_create(ctx, index << PMD_SHIFT);
		if (!IS_ERR(range)) {
			ret = xa_err(xa_store(&ctx->ranges, index, range,
					      GFP_KERNEL));
			if (ret) {
				range_close(range);
				range = ERR_PTR(ret);
			}
		}
	}
	mutex_unlock(&ctx->lock);
	return range;
}

/* Whether all that was found is one huge page, mapped as such. */
static bool range_found_huge_page(const unsigned long *found, unsigned long nr)
{
	return nr == RANGE_PAGES && found[0] & HMM_PFN_VALID &&
	       hmm_pfn_to_map_order(found[0]) >= PMD_SHIFT - PAGE_SHIFT &&
	       (found[nr - 1] & ~HMM_PFN_FLAGS) ==
	       (found[0] & ~HMM_PFN_FLAGS) + nr - 1;
}

/**
 * hmm_dummy_range_merge - take over what a fault found
 * @range: locked, and mmu_interval_read_retry() said no
 * @first: index of the first page
 * @found: what hmm_range_fault() said
 * @nr: pages
 *
 * Return: 0, -EFAULT if something cannot be mapped for DMA, or -ENODEV if the range was
 * closed meanwhile.
 */
int hmm_dummy_range_merge(struct hmm_dummy_range *range, unsigned long first,
			  const unsigned long *found, unsigned long nr)
{
	struct pci_p2pdma_map_state state = {};
	struct device *dev = range->dma_dev;
	unsigned long i;

	lockdep_assert_held(&range->lock);
	if (range->closed)
		return -ENODEV;
	range->huge = false;
	for (i = first; i < first + nr; i++) {
		unsigned long *entry = &range->map.pfn_list[i];

		if (!(found[i - first] & HMM_PFN_VALID)) {
			range_clear(range, i, i);
			continue;
		}
		*entry = (*entry & MAPPED_FLAGS) | found[i - first];
		if (hmm_dummy_entry_is_own(*entry))
			continue;
		if (!dev) {
			if (*entry & HMM_PFN_PEER)
				hmm_p2p_map_get(&range->map, i);
			continue;
		}
		/* Once is enough, where something is mapped already. */
		range->dma[i] = hmm_dma_map_pfn(dev, &range->map, i, &state);
		if (dma_mapping_error(dev, range->dma[i]) ||
		    hmm_dummy_test_fails_dma(i - first, nr)) {
			range_clear(range, i, i);
			return -EFAULT;
		}
	}
	range->huge = range_found_huge_page(found, nr);
	return 0;
}

static bool range_entry_is_usable(unsigned long hmm_pfn, bool write)
{
	unsigned long need = HMM_PFN_VALID | (write ? HMM_PFN_WRITE : 0);

	return (hmm_pfn & need) == need;
}

/*
 * How much from @offset in a range on can be accessed at once, @bytes at most: pages side
 * by side where they are, with the same rights.  Memory is in one piece up to the end of a
 * chunk, and so is what a peer shows of its memory.
 */
static unsigned long range_contiguous_bytes(struct hmm_dummy_range *range, unsigned long offset,
					    unsigned long bytes)
{
	const unsigned long *entry = &range->map.pfn_list[offset >> PAGE_SHIFT];
	unsigned long in_page = offset_in_page(offset), nr = 1, max;

	bytes = min(bytes, RANGE_SIZE - offset);
	if (range->huge)
		return bytes;
	max = min(PFN_UP(in_page + bytes),
		  CHUNK_PAGES - (*entry & ~HMM_PFN_FLAGS) % CHUNK_PAGES);
	while (nr < max && entry[nr] == *entry + nr)
		nr++;
	return min(bytes, PFN_PHYS(nr) - in_page);
}

/* What hmm_dummy_access_get() says of @range, which is locked. */
static int access_get_locked(struct hmm_dummy_range *range, unsigned long addr,
			     unsigned long bytes, bool write,
			     struct hmm_dummy_access *access)
{
	struct hmm_dummy_dev *dev = range->ctx->dev;
	unsigned long idx = (addr - range->start) >> PAGE_SHIFT;
	unsigned long entry = range->map.pfn_list[idx];

	if (!range_entry_is_usable(entry, write))
		return HMM_DUMMY_FAULT;
	*access = (struct hmm_dummy_access) {
		.range = range,
		.entry = entry,
		.bytes = range_contiguous_bytes(range, addr - range->start, bytes),
		.dma = range->dma[idx] + offset_in_page(addr),
		.write = write,
		.own = hmm_dummy_entry_is_own(entry),
	};
	if (hmm_dummy_test_access_by_dma(dev, access))
		return 0;
	if (access->own) {
		u64 offset = hmm_p2p_page_offset(hmm_pfn_to_page(entry));

		hmm_dummy_vram_touch(dev, offset);
		access->kva = hmm_dummy_vram_get(dev, offset);
	} else if (entry & HMM_PFN_PEER) {
		access->kva = hmm_pfn_kmap_local(entry);
	} else {
		/* As kmap_local_page(), but of all of the run: RAM is mapped on 64 bits. */
		access->kva = page_address(hmm_pfn_to_page(entry));
	}
	/* Real hardware would use the DMA address; we are the CPU. */
	if (!access->kva)
		return -EOPNOTSUPP;
	access->kva += offset_in_page(addr);
	if (entry & HMM_PFN_PEER)
		hmm_dummy_test_access_begin(access);
	return 0;
}

/**
 * hmm_dummy_access_get - let the device access memory of the process
 * @ctx: the context; the caller holds a reference on its mm (mmget())
 * @addr: any address
 * @bytes: how much from there on is of use; not 0
 * @write: the access is a write
 * @access: set on success
 *
 * On success @access->bytes from @addr on, which may be less than @bytes, cannot be
 * invalidated until hmm_dummy_access_put(), before which the caller must not sleep for
 * long, nor wait for anything that needs the process's memory.
 *
 * Return: 0; %HMM_DUMMY_FAULT if there is no entry, and hmm_dummy_fault() is to make one;
 * or an errno of hmm_dummy_range_get().
 */
int hmm_dummy_access_get(struct hmm_dummy_ctx *ctx, unsigned long addr,
			 unsigned long bytes, bool write,
			 struct hmm_dummy_access *access)
{
	struct hmm_dummy_range *range = hmm_dummy_range_get(ctx, addr);
	int ret;

	if (IS_ERR(range))
		return PTR_ERR(range);
	mutex_lock(&range->lock);
	ret = access_get_locked(range, addr, bytes, write, access);
	if (ret)
		mutex_unlock(&range->lock);
	return ret;
}

/*
 * Of two pieces at once.  The longer run is looked at up to here for each piece of the
 * shorter, which may be a page.
 */
#define TWO_MOST	SZ_64K

/**
 * hmm_dummy_access_two - let the device access two pieces of memory at once
 * @ctx: as for hmm_dummy_access_get()
 * @src: an address, to be read
 * @addr: another
 * @bytes: how much from both on is of use; not 0
 * @write: what is at @addr is written
 * @from: set on success, for @src
 * @to: likewise, for @addr; @to->bytes of both can be accessed
 *
 * Undo it with hmm_dummy_access_put() of @to, then of @from.  What can be had only by
 * waiting is not: somebody else may have the one and wait for the other, or both are in
 * the same range, or behind the same lock (hmm_dummy_vram_get()).
 *
 * Return: whether both are there.  If not, hmm_dummy_access_get() of one after the other
 * tells why, or succeeds.
 */
bool hmm_dummy_access_two(struct hmm_dummy_ctx *ctx, unsigned long src, unsigned long addr,
			  unsigned long bytes, bool write,
			  struct hmm_dummy_access *from, struct hmm_dummy_access *to)
{
	struct hmm_dummy_range *source = xa_load(&ctx->ranges, src >> PMD_SHIFT);
	struct hmm_dummy_range *range = xa_load(&ctx->ranges, addr >> PMD_SHIFT);

	if (!source || !range || ctx->dev->slots.nr)
		return false;
	mutex_lock(&source->lock);
	if (!mutex_trylock(&range->lock))
		goto unlock;
	if (access_get_locked(source, src, min(bytes, TWO_MOST), false, from))
		goto unlock_both;
	if (!access_get_locked(range, addr, from->bytes, write, to))
		return true;
	mutex_unlock(&range->lock);
	hmm_dummy_access_put(from);
	return false;

unlock_both:
	mutex_unlock(&range->lock);
unlock:
	mutex_unlock(&source->lock);
	return false;
}

/* Of pages in system memory, side by side. */
static void access_mark_dirty(unsigned long pfn, unsigned long nr)
{
	unsigned long end = pfn + nr;
	struct folio *folio;

	for (; pfn < end; pfn = folio_pfn(folio) + folio_nr_pages(folio)) {
		folio = page_folio(pfn_to_page(pfn));
		folio_mark_dirty(folio);
	}
}

void hmm_dummy_access_put(struct hmm_dummy_access *access)
{
	struct hmm_dummy_range *range = access->range;
	unsigned long entry = access->entry;

	hmm_dummy_test_access_end(access);
	if (access->own)
		hmm_dummy_vram_put(range->ctx->dev);
	else if (access->kva && entry & HMM_PFN_PEER)
		hmm_pfn_kunmap_local(entry,
				     (void *)((unsigned long)access->kva & PAGE_MASK));
	if (access->write && !access->own && !(entry & HMM_PFN_PEER))
		access_mark_dirty(entry & ~HMM_PFN_FLAGS,
				  PFN_UP(offset_in_page(access->kva) + access->bytes));
	mutex_unlock(&range->lock);
}

/*
 * Let go of everything, now and for good.  No engine works on a job of the context; a fault
 * may still be handled, and finds its range closed.
 */
void hmm_dummy_svm_close(struct hmm_dummy_ctx *ctx)
{
	struct hmm_dummy_range *range;
	unsigned long index;

	mutex_lock(&ctx->lock);
	ctx->closed = true;
	xa_for_each(&ctx->ranges, index, range) {
		xa_erase(&ctx->ranges, index);
		range_close(range);
	}
	mutex_unlock(&ctx->lock);
}
