// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The device page table of a process
 *
 * The device page table mirrors the page table of the process.  Device page faults (fault.c)
 * fill it.  It consists of ranges of 2 MiB.  Each range has an mmu interval notifier, a lock and
 * entries of its own, so that a fault or an invalidation stops no other range.  A range has 512
 * entries of 4 KiB, or one of 2 MiB if all of it is one huge page.
 *
 * This is the importer's side.  It is the same for own memory, RAM and the memory of peers:
 *
 *  - call hmm_range_fault() without locks, with an array of the call's own
 *  - take the lock of the range and call mmu_interval_read_retry(); if it returns true, the
 *    array is out of date: start again
 *  - map the entries with hmm_dma_map_pfn(), but for own pages, which the device reaches
 *    without the bus
 *  - use the entries, under the lock or until the invalidate callback
 *  - in the invalidate callback, take the same lock and unmap the entries
 *
 * A fault may wait for user space without end, and it uses the notifier and the mirror of its
 * range.  The removal of the device does not wait for the fault:
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
 * Replace for real hardware: the dummy executes commands on the CPU, so it accesses memory
 * through kernel addresses and under the lock.  A GPU uses the DMA addresses, and the
 * invalidate callback flushes the TLB of the GPU and waits for that.
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

/* The device that masters the bus, or NULL: the CPU plays an importer in software. */
static struct device *svm_bus_master(struct hmm_dummy_dev *dev)
{
	return dev->pdev ? &dev->pdev->dev : NULL;
}

/* The PFN of an entry in own memory is made up.  Only hmm_p2p_page_offset() uses it. */
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
	/* The rest of a huge entry is small ones. */
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
	 * A window of this device's own memory is revoked.  The pages stay, and the device does
	 * not use the BAR for them.  Other importers must not skip this event.
	 */
	if (mmu_range->owner && mmu_range->owner == range->ctx->dev->exporter)
		return true;
	/* This context takes pages by make_device_exclusive(), and uses no entry for them. */
	if (mmu_range->event == MMU_NOTIFY_EXCLUSIVE &&
	    mmu_range->owner == range->ctx)
		return true;
	if (mmu_notifier_range_blockable(mmu_range))
		mutex_lock(&range->lock);
	else if (!mutex_trylock(&range->lock))
		return false;
	mmu_interval_set_seq(mni, cur_seq);
	/*
	 * Do not skip the driver's own migrations: the owner of the event tells from which
	 * device the memory moves, and this context may have that mapped.
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

/* The device may be without driver since range_close(), so no DMA mapping is left here. */
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
		.identity = ctx->dev,
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
 * @range: the range; the caller got the reference by kref_get()
 *
 * Context: Process context, may sleep.  Neither the context nor the device is needed.
 */
void hmm_dummy_range_put(struct hmm_dummy_range *range)
{
	kref_put(&range->kref, hmm_dummy_range_release);
}

/* Free what the range has of the device and of the process.  A fault may still use the range. */
static void range_close(struct hmm_dummy_range *range)
{
	/* Before the notifier goes, since nothing tells of pages that move after that. */
	mutex_lock(&range->lock);
	range->closed = true;
	range_clear(range, 0, RANGE_PAGES - 1);
	mutex_unlock(&range->lock);
	mmu_interval_notifier_remove(&range->notifier);
	/* When hmm_dma_map_free() is called, the device may have left its IOMMU. */
	if (range->dma_dev && dma_use_iova(&range->map.state)) {
		dma_iova_free(range->dma_dev, &range->map.state);
		range->map.state = (struct dma_iova_state) {};
	}
	hmm_dummy_range_put(range);
}

/* 0, -EFAULT if no memory is mapped at @addr, or -EINTR for a fatal signal. */
static int svm_check_mapped(struct mm_struct *mm, unsigned long addr)
{
	int ret;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	ret = vma_lookup(mm, addr) ? 0 : -EFAULT;
	mmap_read_unlock(mm);
	return ret;
}

/**
 * hmm_dummy_range_get - the range of an address, made if there is none
 * @ctx: the context; the caller holds a reference on its mm (mmget())
 * @addr: the address
 *
 * A range lives until its context closes, so the function makes none for an address that is not
 * mapped.  The context does not close between hmm_dummy_dev_enter() and hmm_dummy_dev_exit().  A
 * caller that needs the range for longer takes a reference.
 *
 * Context: Process context, may sleep; waits for mmap_lock, so not for engines.
 *
 * Return: the range, or an ERR_PTR(): -EFAULT, -EINTR for a fatal signal, -ENODEV, -ENOMEM, or
 * -EOPNOTSUPP if the device cannot map memory for DMA.
 */
struct hmm_dummy_range *hmm_dummy_range_get(struct hmm_dummy_ctx *ctx,
					    unsigned long addr)
{
	unsigned long index = addr >> PMD_SHIFT;
	struct hmm_dummy_range *range = xa_load(&ctx->ranges, index);
	int ret;

	if (range)
		return range;
	ret = svm_check_mapped(ctx->mm, addr);
	if (ret)
		return ERR_PTR(ret);
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

/* Whether @found is one huge page that the process has mapped as such. */
static bool range_found_huge_page(const unsigned long *found, unsigned long nr)
{
	return nr == RANGE_PAGES && found[0] & HMM_PFN_VALID &&
	       hmm_pfn_to_map_order(found[0]) >= PMD_SHIFT - PAGE_SHIFT &&
	       (found[nr - 1] & ~HMM_PFN_FLAGS) ==
	       (found[0] & ~HMM_PFN_FLAGS) + nr - 1;
}

/**
 * hmm_dummy_range_merge - store the entries of a fault
 * @range: the range; locked, after mmu_interval_read_retry() has returned false
 * @first: index of the first page
 * @found: entries from hmm_range_fault()
 * @nr: pages
 *
 * Return: 0, -EFAULT if a page cannot be mapped for DMA, or -ENODEV if the range has been
 * closed.
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
		/* For a page that is mapped this returns the address that it has. */
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
 * How many bytes from @offset in a range on can be accessed at once, @bytes at most: pages that
 * lie side by side and have the same rights.  VRAM is contiguous up to the end of a chunk, and
 * so is the memory in a window of a peer.
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

/* hmm_dummy_access_get() for @range, which is locked. */
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
		/* kmap_local_page() maps one page.  On 64 bits the kernel maps all RAM. */
		access->kva = page_address(hmm_pfn_to_page(entry));
	}
	/* Real hardware uses the DMA address. */
	if (!access->kva)
		return -EOPNOTSUPP;
	access->kva += offset_in_page(addr);
	if (entry & HMM_PFN_PEER)
		hmm_dummy_test_access_begin(access);
	return 0;
}

/**
 * hmm_dummy_access_get - let the device access memory of the process
 * @ctx: the context; the caller holds a reference on its mm (mmget()).  It does not close while an
 *	engine works on one of its jobs, nor between hmm_dummy_dev_enter() and hmm_dummy_dev_exit()
 * @addr: any address
 * @bytes: bytes from @addr on that the caller wants; not 0
 * @write: the access is a write
 * @access: set on success
 *
 * On success, @access->bytes from @addr on cannot be invalidated until hmm_dummy_access_put().
 * They may be fewer than @bytes.  Before that call the caller must not sleep for long, nor wait
 * for anything that needs the memory of the process.
 *
 * Return: 0; %HMM_DUMMY_FAULT if there is no entry, and hmm_dummy_fault() can make one; or
 * -EOPNOTSUPP: the memory has no kernel address.
 */
int hmm_dummy_access_get(struct hmm_dummy_ctx *ctx, unsigned long addr,
			 unsigned long bytes, bool write,
			 struct hmm_dummy_access *access)
{
	struct hmm_dummy_range *range = xa_load(&ctx->ranges, addr >> PMD_SHIFT);
	int ret;

	/* hmm_dummy_range_get(), which the fault handler calls, waits for mmap_lock. */
	if (!range)
		return HMM_DUMMY_FAULT;
	mutex_lock(&range->lock);
	ret = access_get_locked(range, addr, bytes, write, access);
	if (ret)
		mutex_unlock(&range->lock);
	return ret;
}

/*
 * The most that hmm_dummy_access_two() gives at once.  It looks through one run of pages for
 * each piece of the other, which may be a page.
 */
#define TWO_MOST	SZ_64K

/**
 * hmm_dummy_access_two - let the device access two pieces of memory at once
 * @ctx: as for hmm_dummy_access_get()
 * @src: an address to read from
 * @addr: another address
 * @bytes: bytes from both on that the caller wants; not 0
 * @write: the access to @addr is a write
 * @from: set on success, for @src
 * @to: likewise, for @addr; @to->bytes of both can be accessed
 *
 * The caller calls hmm_dummy_access_put() of @to, then of @from.  The function does not wait
 * for a second lock: another task may hold that and wait for the first, both addresses may be in
 * one range, or both need the lock of hmm_dummy_vram_get().
 *
 * Return: whether both can be accessed.  If not, hmm_dummy_access_get() of one after the other
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

/* The device has written to pages in system memory, which lie side by side. */
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
 * Close all ranges; the context gets no new ones.  No engine works on a job of the context.  A
 * fault that is being handled finds its range closed.
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
