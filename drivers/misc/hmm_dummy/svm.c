// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The device's view of a process
 *
 * A context is one process as the device sees it: a page table that mirrors the
 * process's, filled by device page faults.  It consists of ranges of 2 MiB, each
 * with an mmu interval notifier, a lock and its entries, so that neither a fault
 * nor an invalidation concerns more of the process than it has to.
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
 * Replace for real hardware: the dummy executes commands on the CPU, so it gets
 * at the entries by hmm_pfn_kmap_local() and under the lock.  A GPU would be given
 * the DMA addresses, and invalidation would flush its TLB and wait for that.
 */
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/pci-p2pdma.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "hmm_dummy.h"

#define RANGE_SIZE	PMD_SIZE
#define RANGE_PAGES	(RANGE_SIZE >> PAGE_SHIFT)

#define MAPPED_FLAGS	(HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS)

struct hmm_dummy_range {
	struct mmu_interval_notifier notifier;
	struct mutex lock;		/* all below */
	struct hmm_dummy_ctx *ctx;
	unsigned long start;
	struct hmm_dma_map map;		/* pfn_list is the page table */
	dma_addr_t *dma;		/* what hardware would be given */
	struct hmm_p2p_peer peer;
};

/* The device that masters the bus; without one, the CPU stands in for it. */
static struct device *range_dma_dev(struct hmm_dummy_range *range)
{
	struct pci_dev *pdev = range->ctx->dev->pdev;

	return pdev ? &pdev->dev : NULL;
}

/* An entry in our own memory has a made-up PFN, good for nothing but its offset. */
static bool entry_is_own(unsigned long hmm_pfn)
{
	return hmm_pfn & HMM_PFN_VALID && !(hmm_pfn & HMM_PFN_PEER) &&
	       is_device_private_page(hmm_pfn_to_page(hmm_pfn));
}

static void range_clear(struct hmm_dummy_range *range, unsigned long first,
			unsigned long last)
{
	struct device *dev = range_dma_dev(range);
	unsigned long i;

	lockdep_assert_held(&range->lock);
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
	struct device *dev = range_dma_dev(range);
	int ret;

	if (dev)
		return hmm_dma_map_alloc(dev, &range->map, RANGE_PAGES,
					 PAGE_SIZE);
	range->map.pfn_list = kvcalloc(RANGE_PAGES, sizeof(unsigned long),
				       GFP_KERNEL_ACCOUNT);
	if (!range->map.pfn_list)
		return -ENOMEM;
	ret = hmm_p2p_map_alloc(&range->map, RANGE_PAGES);
	if (ret)
		kvfree(range->map.pfn_list);
	return ret;
}

static void range_map_free(struct hmm_dummy_range *range)
{
	struct device *dev = range_dma_dev(range);

	if (dev) {
		hmm_dma_map_free(dev, &range->map);
	} else {
		hmm_p2p_map_free(&range->map);
		kvfree(range->map.pfn_list);
	}
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
	range->ctx = ctx;
	range->start = start;
	mutex_init(&range->lock);
	range->dma = kvcalloc(RANGE_PAGES, sizeof(*range->dma),
			      GFP_KERNEL_ACCOUNT);
	if (!range->dma)
		goto err_free;
	ret = range_map_alloc(range);
	if (ret)
		goto err_dma;
	peer.dev = range_dma_dev(range);
	peer.map = &range->map;
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
	kfree(range);
	return ERR_PTR(ret);
}

static void range_destroy(struct hmm_dummy_range *range)
{
	/*
	 * Let go first: once the notifier is removed, nobody tells when the pages
	 * move.  No command runs that could fault anything in again.
	 */
	mutex_lock(&range->lock);
	range_clear(range, 0, RANGE_PAGES - 1);
	mutex_unlock(&range->lock);
	mmu_interval_notifier_remove(&range->notifier);
	hmm_p2p_peer_destroy(&range->peer);
	range_map_free(range);
	kvfree(range->dma);
	kfree(range);
}

static bool is_mapped(struct mm_struct *mm, unsigned long addr)
{
	bool mapped;

	mmap_read_lock(mm);
	mapped = vma_lookup(mm, addr);
	mmap_read_unlock(mm);
	return mapped;
}

/*
 * The range of @addr, made if need be.  Ranges live until the context closes, so
 * none is made for an address where there is nothing.
 */
static struct hmm_dummy_range *range_get(struct hmm_dummy_ctx *ctx,
					 unsigned long addr)
{
	unsigned long index = addr >> PMD_SHIFT;
	struct hmm_dummy_range *range = xa_load(&ctx->ranges, index);
	int ret;

	if (range)
		return range;
	if (!is_mapped(ctx->mm, addr))
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
				range_destroy(range);
				range = ERR_PTR(ret);
			}
		}
	}
	mutex_unlock(&ctx->lock);
	return range;
}

/* Take over what a fault found.  Under the lock, after read_retry said no. */
static int range_merge(struct hmm_dummy_range *range, unsigned long first,
		       const unsigned long *found, unsigned long nr)
{
	struct device *dev = range_dma_dev(range);
	struct pci_p2pdma_map_state state = {};
	unsigned long i;

	for (i = first; i < first + nr; i++) {
		unsigned long *entry = &range->map.pfn_list[i];

		*entry = (*entry & MAPPED_FLAGS) | found[i - first];
		if (entry_is_own(*entry))
			continue;
		if (!dev) {
			if (*entry & HMM_PFN_PEER)
				hmm_p2p_map_get(&range->map, i);
			continue;
		}
		range->dma[i] = hmm_dma_map_pfn(dev, &range->map, i, &state);
		if (dma_mapping_error(dev, range->dma[i])) {
			range_clear(range, i, i);
			return -EFAULT;
		}
	}
	return 0;
}

/*
 * The device faults on @nr pages.  Returns 0 with range->lock held and the pages
 * mapped, or an errno of hmm_range_fault_unlocked_timeout() without it.
 */
static int range_fault_and_lock(struct hmm_dummy_range *range,
				unsigned long first, unsigned long nr,
				bool write)
{
	struct hmm_dummy_dev *dev = range->ctx->dev;
	struct hmm_range fault = {
		.notifier = &range->notifier,
		.start = range->start + (first << PAGE_SHIFT),
		.end = range->start + ((first + nr) << PAGE_SHIFT),
		.default_flags = HMM_PFN_REQ_FAULT |
				 (write ? HMM_PFN_REQ_WRITE : 0),
		.dev_private_owner = dev,
		.peer = &range->peer,
	};
	int ret;

	fault.hmm_pfns = kvcalloc(nr, sizeof(*fault.hmm_pfns), GFP_KERNEL);
	if (!fault.hmm_pfns)
		return -ENOMEM;
	atomic64_inc(&dev->device_faults);

	for (;;) {
		ret = hmm_range_fault_unlocked_timeout(&fault,
				msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT));
		if (ret)
			break;
		mutex_lock(&range->lock);
		/*
		 * fault                        invalidation
		 *   reads the page table
		 *                              sets seq, clears entries
		 *                              (under the lock)
		 *                              page table changes
		 *   lock, retry?  yes
		 *
		 * Without the question an entry would be stored that nobody
		 * clears any more.
		 */
		if (!mmu_interval_read_retry(&range->notifier,
					     fault.notifier_seq)) {
			ret = range_merge(range, first, fault.hmm_pfns, nr);
			if (ret)
				mutex_unlock(&range->lock);
			break;
		}
		mutex_unlock(&range->lock);
	}
	kvfree(fault.hmm_pfns);
	return ret;
}

static bool entry_usable(unsigned long hmm_pfn, bool write)
{
	unsigned long need = HMM_PFN_VALID | (write ? HMM_PFN_WRITE : 0);

	return (hmm_pfn & need) == need;
}

/*
 * Our own page, but read-only: it is shared after fork(), or was made read-only.
 * hmm reports own pages as they are, so bring it to RAM, where a write fault
 * sorts it out.
 */
static int range_unshare(struct hmm_dummy_range *range, unsigned long addr)
{
	struct hmm_p2p_result result;
	int ret;

	addr &= PAGE_MASK;
	ret = hmm_p2p_migrate_to_ram(range->ctx->dev->exporter, range->ctx->mm,
				     addr, addr + PAGE_SIZE, &result);
	/* Somebody else has it in hand: give them a moment. */
	if (!ret && !result.migrated)
		schedule_timeout_killable(1);
	return ret;
}

/**
 * hmm_dummy_svm_get - let the device access a page of the process
 * @ctx: the context; the caller holds a reference on its mm (mmget())
 * @addr: any address in the page
 * @length: bytes from @addr on that will be needed as well; faulted in with it
 * @write: the access is a write
 * @access: set on success
 *
 * On success the page cannot be invalidated until hmm_dummy_svm_put(), before which
 * the caller must not sleep.
 *
 * Return: 0 or an errno of HMM_DUMMY_COMMAND.
 */
int hmm_dummy_svm_get(struct hmm_dummy_ctx *ctx, unsigned long addr,
		      unsigned long length, bool write,
		      struct hmm_dummy_access *access)
{
	struct hmm_dummy_range *range = range_get(ctx, addr);
	unsigned long deadline = jiffies +
		msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	unsigned long idx, nr, entry;
	int ret;

	if (IS_ERR(range))
		return PTR_ERR(range);
	idx = (addr - range->start) >> PAGE_SHIFT;
	nr = min(RANGE_PAGES - idx, PFN_UP(offset_in_page(addr) + length));

	mutex_lock(&range->lock);
	while (!entry_usable(range->map.pfn_list[idx], write)) {
		bool own = entry_is_own(range->map.pfn_list[idx]);

		mutex_unlock(&range->lock);
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, deadline))
			return -EBUSY;
		if (own) {
			ret = range_unshare(range, addr);
			if (ret)
				return ret;
		}
		ret = range_fault_and_lock(range, idx, nr, write);
		if (ret)
			return ret;
	}

	entry = range->map.pfn_list[idx];
	*access = (struct hmm_dummy_access) {
		.range = range,
		.idx = idx,
		.write = write,
		.own = entry_is_own(entry),
	};
	if (access->own)
		access->kva = hmm_dummy_vram_get(ctx->dev,
			hmm_p2p_page_offset(hmm_pfn_to_page(entry)));
	else
		access->kva = hmm_pfn_kmap_local(entry);
	if (!access->kva) {
		/* Real hardware would use the DMA address; we are the CPU. */
		mutex_unlock(&range->lock);
		return -EOPNOTSUPP;
	}
	return 0;
}

void hmm_dummy_svm_put(struct hmm_dummy_access *access)
{
	struct hmm_dummy_range *range = access->range;
	unsigned long entry = range->map.pfn_list[access->idx];

	if (access->own)
		hmm_dummy_vram_put(range->ctx->dev);
	else
		hmm_pfn_kunmap_local(entry, access->kva);
	if (access->write && !access->own && !(entry & HMM_PFN_PEER))
		set_page_dirty(hmm_pfn_to_page(entry));
	mutex_unlock(&range->lock);
}

struct hmm_dummy_ctx *hmm_dummy_svm_open(struct hmm_dummy_dev *dev)
{
	struct hmm_dummy_ctx *ctx = kzalloc_obj(*ctx);

	if (!ctx)
		return NULL;
	ctx->dev = dev;
	ctx->mm = current->mm;
	mmgrab(ctx->mm);
	mutex_init(&ctx->lock);
	xa_init(&ctx->ranges);
	INIT_LIST_HEAD(&ctx->node);
	return ctx;
}

/* Let go of everything, now and for good.  No command of the context runs. */
void hmm_dummy_svm_close(struct hmm_dummy_ctx *ctx)
{
	struct hmm_dummy_range *range;
	unsigned long index;

	mutex_lock(&ctx->lock);
	ctx->closed = true;
	xa_for_each(&ctx->ranges, index, range) {
		xa_erase(&ctx->ranges, index);
		range_destroy(range);
	}
	mutex_unlock(&ctx->lock);
}

void hmm_dummy_svm_free(struct hmm_dummy_ctx *ctx)
{
	xa_destroy(&ctx->ranges);
	mmdrop(ctx->mm);
	kfree(ctx);
}
