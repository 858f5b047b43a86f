// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Device page faults
 *
 * The device found no entry for an address: ask hmm_range_fault() what is there, and
 * take it over into the page table.  The handler runs for a job that waits meanwhile
 * (scheduler.c), not for the process, whose memory may change at any time.
 *
 * Policy, which is the driver's and not the core's: where should memory live?  By default
 * it stays where it is.  With the module parameter migrate_on_fault, what the device
 * faults on moves to it, and what is beside it along, as it is on the way back
 * (fault_around_kb): it is likely to be next, and most of what a migration takes is the same
 * for a page and for a few.  Then a page that the CPU uses as well would go back and forth;
 * so, if the CPU took memory of a range back within timeslice_ms of its coming here, the
 * device works on the range where it is until that time is over.  That the CPU did it is
 * seen by the core's counter of CPU faults.
 *
 * Replace for real hardware: nothing in the order of steps; the policy by a better one.
 */
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/hmm.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/slab.h>
#include <linux/userfaultfd_k.h>

#include "hmm_dummy.h"

static bool migrate_on_fault;
module_param(migrate_on_fault, bool, 0644);
MODULE_PARM_DESC(migrate_on_fault,
		 "Move memory to the device when it faults on it (N: it is used where it is)");

static unsigned int timeslice_ms = 20;
module_param(timeslice_ms, uint, 0644);
MODULE_PARM_DESC(timeslice_ms,
		 "Milliseconds for which memory is left where the CPU took it back to (20)");

/**
 * hmm_dummy_range_fault - look at pages of a range, and take them over
 * @range: of the device page table
 * @first: index of the first page
 * @nr: pages
 * @flags: HMM_PFN_REQ_*, or 0: only pages in the device's own memory, and nothing is faulted
 *
 * On success the pages are mapped, but may be invalidated again at once.
 *
 * Context: Process context, may sleep; the caller holds a reference on the mm (mmget()).
 *
 * Return: 0, or an errno of hmm_range_fault() or hmm_dummy_range_merge().
 */
int hmm_dummy_range_fault(struct hmm_dummy_range *range, unsigned long first,
			  unsigned long nr, unsigned long flags)
{
	struct hmm_dummy_dev *dev = range->ctx->dev;
	struct hmm_range fault = {
		.notifier = &range->notifier,
		.start = range->start + (first << PAGE_SHIFT),
		.end = range->start + ((first + nr) << PAGE_SHIFT),
		.default_flags = flags,
		.dev_private_owner = dev,
		.peer = &range->peer,
	};
	unsigned long timeout = msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	unsigned long i;
	int ret;

	fault.hmm_pfns = kvcalloc(nr, sizeof(*fault.hmm_pfns), GFP_KERNEL_ACCOUNT);
	if (!fault.hmm_pfns)
		return -ENOMEM;

	for (;;) {
		ret = hmm_range_fault_unlocked_timeout(&fault, timeout);
		if (ret)
			break;
		for (i = 0; i < nr && !flags; i++)
			if (!hmm_dummy_has_pfn(dev, fault.hmm_pfns[i]))
				fault.hmm_pfns[i] = 0;
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
			ret = hmm_dummy_range_merge(range, first, fault.hmm_pfns,
						    nr);
			mutex_unlock(&range->lock);
			break;
		}
		mutex_unlock(&range->lock);
	}
	kvfree(fault.hmm_pfns);
	return ret;
}

/* Whether the device should have the range for itself now; sets @cpu_faults. */
static bool fault_wants_migration(struct hmm_dummy_range *range, u64 *cpu_faults)
{
	struct hmm_dummy_dev *dev = range->ctx->dev;
	unsigned long moved_at = READ_ONCE(range->moved_at);

	if (!READ_ONCE(migrate_on_fault) || !dev->exporter)
		return false;
	*cpu_faults = hmm_p2p_engine_get_stat(dev->engine, HMM_P2P_ENGINE_STAT_CPU_FAULTS);
	if (moved_at && *cpu_faults != READ_ONCE(range->cpu_faults) &&
	    time_before(jiffies, moved_at + msecs_to_jiffies(READ_ONCE(timeslice_ms)))) {
		atomic64_inc(&dev->faults.damped);
		return false;
	}
	return true;
}

/* What cannot move is used where it is. */
static void fault_migrate_range(struct hmm_dummy_range *range, unsigned long start,
				unsigned long end)
{
	struct hmm_dummy_dev *dev = range->ctx->dev;
	unsigned long around = max(dev->migration.fault_around, PAGE_SIZE);
	unsigned long first = ALIGN_DOWN(start, around), last = ALIGN(end, around);
	struct hmm_p2p_result result = {};
	u64 cpu_faults;
	int ret;

	if (!fault_wants_migration(range, &cpu_faults))
		return;
	ret = hmm_p2p_migrate_to_device(dev->engine, range->ctx->mm, first, last, 0,
					&result);
	/* Not all that is around can be moved: then nothing was. */
	if (ret == -EFAULT || ret == -EOPNOTSUPP)
		hmm_p2p_migrate_to_device(dev->engine, range->ctx->mm, start, end, 0,
					  &result);
	if (!result.migrated)
		return;
	/* Two faults at once may both write this: either is right. */
	WRITE_ONCE(range->cpu_faults, cpu_faults);
	WRITE_ONCE(range->moved_at, jiffies ?: 1);
	/* What came along is not to be faulted on page by page, if that can be helped. */
	if (!ret && last - first > end - start)
		hmm_dummy_range_fault(range, (first - range->start) >> PAGE_SHIFT,
				      (last - first) >> PAGE_SHIFT, 0);
}

/*
 * Our own page, but read-only: it is shared after fork(), or was made read-only, or
 * userfaultfd waits for a write.  hmm reports own pages as they are, so bring it to RAM,
 * where a write fault sorts it out.
 */
static int fault_unshare_page(struct hmm_dummy_range *range, unsigned long addr)
{
	struct hmm_p2p_result result = {};
	int ret;

	addr &= PAGE_MASK;
	ret = hmm_p2p_migrate_to_ram(range->ctx->dev->engine, range->ctx->mm,
				     addr, addr + PAGE_SIZE, &result);
	/* Somebody else has it in hand: give them a moment. */
	if (!ret && !result.migrated)
		schedule_timeout_killable(1);
	return ret;
}

static bool range_is_own_read_only(struct hmm_dummy_range *range, unsigned long index)
{
	unsigned long entry;

	guard(mutex)(&range->lock);
	entry = range->map.pfn_list[index];
	return hmm_dummy_entry_is_own(entry) && !(entry & HMM_PFN_WRITE);
}

/* Needs the device, which may have gone since the fault began, and waits for no user space. */
static int fault_unshare(struct hmm_dummy_range *range, struct hmm_dummy_dev *dev,
			 unsigned long addr)
{
	int ret;

	if (hmm_dummy_dev_enter(dev, false))
		return -ENODEV;
	ret = fault_unshare_page(range, addr);
	hmm_dummy_dev_exit(dev);
	return ret;
}

/**
 * hmm_dummy_fault - handle a device page fault
 * @ctx: the context; the caller holds references on it and on its mm (mmget())
 * @addr: where the device found no entry, or none that it may write to
 * @length: bytes from @addr on that will be needed as well; faulted in with it
 * @write: it was a write
 *
 * The fault may wait for user space (userfaultfd), for as long as user space likes.  The
 * device can be removed meanwhile: from there on only the range is used, and it has been
 * closed by then.
 *
 * Context: Process context, may sleep; not between hmm_dummy_dev_enter() and
 * hmm_dummy_dev_exit().
 *
 * Return: 0, after which the device is to try again, whatever it then finds; -ENODEV if
 * the device goes, or another errno of HMM_DUMMY_COMMAND, of which -EBUSY is worth another
 * attempt.
 */
int hmm_dummy_fault(struct hmm_dummy_ctx *ctx, unsigned long addr,
		    unsigned long length, bool write)
{
	unsigned long flags = HMM_PFN_REQ_FAULT | (write ? HMM_PFN_REQ_WRITE : 0);
	struct hmm_dummy_range *range;
	unsigned long first, nr, start;
	int ret;

	/*
	 * Only the removal of the device is waited for here, and it may wait for who waits
	 * for this fault.
	 */
	if (hmm_dummy_dev_enter(ctx->dev, false))
		return -ENODEV;
	range = hmm_dummy_range_get(ctx, addr);
	if (IS_ERR(range)) {
		hmm_dummy_dev_exit(ctx->dev);
		return PTR_ERR(range);
	}
	atomic64_inc(&ctx->dev->faults.handled);
	first = (addr - range->start) >> PAGE_SHIFT;
	nr = min(RANGE_PAGES - first, PFN_UP(offset_in_page(addr) + length));
	start = range->start + (first << PAGE_SHIFT);
	if (!write || !range_is_own_read_only(range, first))
		fault_migrate_range(range, start, start + (nr << PAGE_SHIFT));
	kref_get(&range->kref);
	hmm_dummy_dev_exit(ctx->dev);
	ret = hmm_dummy_range_fault(range, first, nr, flags);
	/* A page that was only read until now may be written where it is: ask before. */
	if (!ret && write && range_is_own_read_only(range, first)) {
		ret = fault_unshare(range, ctx->dev, addr);
		ret = ret ?: hmm_dummy_range_fault(range, first, nr, flags);
	}
	hmm_dummy_range_put(range);
	return ret;
}

/* Anonymous, or shared memory; not what a file system has to fetch. */
static bool fault_vma_is_kernels_own(struct vm_area_struct *vma)
{
	return !vma->vm_file || file_inode(vma->vm_file)->i_sb->s_magic == TMPFS_MAGIC;
}

/**
 * hmm_dummy_fault_may_block - whether a fault waits for user space
 * @ctx: the context; the caller holds a reference on its mm (mmget())
 * @addr: first address
 * @length: bytes
 *
 * Memory that userfaultfd watches, or that a file has, may be fetched by user space, in its
 * own time.  A worker must not wait for that: no signal would get it out when the process is
 * killed.
 *
 * Return: whether it does.
 */
bool hmm_dummy_fault_may_block(struct hmm_dummy_ctx *ctx, unsigned long addr,
			       unsigned long length)
{
	unsigned long end = addr + length;
	struct vm_area_struct *vma;
	bool may = false;

	VMA_ITERATOR(vmi, ctx->mm, addr & PAGE_MASK);

	mmap_read_lock(ctx->mm);
	for_each_vma_range(vmi, vma, end)
		may |= userfaultfd_armed(vma) || !fault_vma_is_kernels_own(vma);
	mmap_read_unlock(ctx->mm);
	return may;
}

static void fault_add_u64(void *p, unsigned long bytes, u64 value)
{
	for (; bytes; p += sizeof(u64), bytes -= sizeof(u64))
		atomic64_add(value, p);
}

/* In system memory the device needs the page for itself: bus atomics are not RAM's. */
static int fault_add_exclusive(struct hmm_dummy_ctx *ctx, unsigned long addr,
			       unsigned long bytes, u64 value)
{
	struct folio *folio;
	struct page *page;

	if (mmap_read_lock_killable(ctx->mm))
		return -EINTR;
	page = make_device_exclusive(ctx->mm, addr & PAGE_MASK, ctx, &folio);
	mmap_read_unlock(ctx->mm);
	if (IS_ERR(page))
		return PTR_ERR(page);
	/*
	 * The CPU's next access takes the page back, and waits for its lock first.
	 * Hardware would be given an entry, and would lose it at MMU_NOTIFY_EXCLUSIVE.
	 */
	fault_add_u64(page_address(page) + offset_in_page(addr), bytes, value);
	folio_mark_dirty(folio);
	folio_unlock(folio);
	folio_put(folio);
	return 0;
}

/**
 * hmm_dummy_atomic_add - add atomically, whoever else does
 * @ctx: the context; the caller holds a reference on its mm (mmget())
 * @addr: aligned to 8
 * @bytes: of one page, a multiple of 8
 * @value: what to add to each u64
 *
 * Memory of devices is added to where it is: who else gets at it comes the same way, by
 * the CPU here, by PCI atomics for hardware.
 *
 * Return: 0, %HMM_DUMMY_FAULT, or an errno of HMM_DUMMY_COMMAND.
 */
int hmm_dummy_atomic_add(struct hmm_dummy_ctx *ctx, unsigned long addr,
			 unsigned long bytes, u64 value)
{
	struct hmm_dummy_access access;
	int ret;

	ret = hmm_dummy_access_get(ctx, addr, bytes, true, &access);
	if (ret)
		return ret;
	if (access.own || access.entry & HMM_PFN_PEER) {
		fault_add_u64(access.kva, bytes, value);
		hmm_dummy_access_put(&access);
		return 0;
	}
	hmm_dummy_access_put(&access);
	ret = fault_add_exclusive(ctx, addr, bytes, value);
	/* What vanished since the access: the fault handler says why. */
	return ret == -EFAULT || ret == -EBUSY ? HMM_DUMMY_FAULT : ret;
}
