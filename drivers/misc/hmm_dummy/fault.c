// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Device page faults
 *
 * The device has found no entry for an address.  The handler asks hmm_range_fault() for the
 * page and stores the entry in the device page table.  A job waits for the handler
 * (scheduler.c).  The process does not wait, and may change its memory at any time.
 *
 * Where memory should live is the driver's policy, not the core's.  By default memory stays
 * where it is.  With the module parameter migrate_on_fault, memory moves to the device when the
 * device faults on it.  Pages around it move as well (fault_around_kb), since the device is
 * likely to need them next and a migration of a few pages takes little longer than that of one.
 *
 * A page that both the device and the CPU use would move all the time.  So the policy damps: if
 * the CPU takes memory of a range back within timeslice_ms of its move to the device, the device
 * uses the range where it is until that time is over.  The core's counter of CPU faults tells
 * that the CPU did it.
 *
 * Replace for real hardware: the policy, by a better one.  Keep the order of steps.
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
 * hmm_dummy_range_fault - look up pages of a range, and store their entries
 * @range: the range
 * @first: index of the first page
 * @nr: pages
 * @flags: HMM_PFN_REQ_*; 0: store entries of the device's own memory only, and fault nothing in
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
		 * Without mmu_interval_read_retry() the fault would store an entry
		 * that no invalidation clears.
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

/* Whether the policy moves the range to the device now; sets @cpu_faults. */
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

/* Move pages to the device.  The device uses pages that cannot move where they are. */
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
	/* A page around the fault cannot move, and so none has. */
	if (ret == -EFAULT || ret == -EOPNOTSUPP)
		hmm_p2p_migrate_to_device(dev->engine, range->ctx->mm, start, end, 0,
					  &result);
	if (!result.migrated)
		return;
	/* Two faults may write this at once, and either value is right. */
	WRITE_ONCE(range->cpu_faults, cpu_faults);
	WRITE_ONCE(range->moved_at, jiffies ?: 1);
	/* Store entries of the pages around the fault, which saves later faults. */
	if (!ret && last - first > end - start)
		hmm_dummy_range_fault(range, (first - range->start) >> PAGE_SHIFT,
				      (last - first) >> PAGE_SHIFT, 0);
}

/*
 * A page of own memory is read-only: it is shared after fork(), it was made read-only, or
 * userfaultfd waits for a write.  hmm reports own pages as they are, so move the page to RAM,
 * where a write fault does what the process is due.
 */
static int fault_unshare_page(struct hmm_dummy_range *range, unsigned long addr)
{
	struct hmm_p2p_result result = {};
	int ret;

	addr &= PAGE_MASK;
	ret = hmm_p2p_migrate_to_ram(range->ctx->dev->engine, range->ctx->mm,
				     addr, addr + PAGE_SIZE, &result);
	/* Another task migrates the page.  Let it finish. */
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

/* The device may have been removed since the fault began.  Does not wait for user space. */
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
 * @length: bytes from @addr on that the job needs; faulted in as well
 * @write: the access was a write
 *
 * The fault may wait for user space (userfaultfd) without end.  The device may be removed
 * meanwhile.  After the wait the function uses the range only, which is closed then.
 *
 * Context: Process context, may sleep; not between hmm_dummy_dev_enter() and
 * hmm_dummy_dev_exit().
 *
 * Return: 0, and the device tries again and may fault again; -ENODEV if the device goes; or
 * another errno of HMM_DUMMY_COMMAND.  After -EBUSY the caller may try again.
 */
int hmm_dummy_fault(struct hmm_dummy_ctx *ctx, unsigned long addr,
		    unsigned long length, bool write)
{
	unsigned long flags = HMM_PFN_REQ_FAULT | (write ? HMM_PFN_REQ_WRITE : 0);
	struct hmm_dummy_range *range;
	unsigned long first, nr, start;
	int ret;

	/*
	 * Do not wait: only a removal holds the lock, and that may wait for the task that waits
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
	/* hmm may have made the page writable in place, so look at the entry again. */
	if (!ret && write && range_is_own_read_only(range, first)) {
		ret = fault_unshare(range, ctx->dev, addr);
		ret = ret ?: hmm_dummy_range_fault(range, first, nr, flags);
	}
	hmm_dummy_range_put(range);
	return ret;
}

/* Whether no file system fetches the memory: it is anonymous, or in tmpfs. */
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
 * User space may fetch memory that userfaultfd watches, or that is in a file, and may take any
 * time.  A worker must not wait for that, since no signal ends its wait when the process is
 * killed.
 *
 * Return: whether the fault may wait for user space.
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

/*
 * Add to a page, which is at @page.  A device that rests adds nothing now, and one that has been
 * removed meanwhile never.
 */
static int fault_add_as_device(struct hmm_dummy_dev *dev, void *page,
			       struct hmm_dummy_fault *fault)
{
	if (hmm_dummy_dev_enter(dev, false))
		return -ENODEV;
	if (hmm_dummy_work_enter(dev)) {
		fault_add_u64(page + offset_in_page(fault->addr), fault->length, fault->value);
		fault->done = fault->length;
		hmm_dummy_work_exit(dev);
	}
	hmm_dummy_dev_exit(dev);
	return 0;
}

static int fault_add_exclusive(struct hmm_dummy_ctx *ctx, struct hmm_dummy_fault *fault)
{
	struct folio *folio;
	struct page *page;
	int ret;

	if (mmap_read_lock_killable(ctx->mm))
		return -EINTR;
	page = make_device_exclusive(ctx->mm, fault->addr & PAGE_MASK, ctx, &folio);
	mmap_read_unlock(ctx->mm);
	if (IS_ERR(page))
		return PTR_ERR(page);
	/*
	 * The next access of the CPU takes the page back, and waits for the page lock.  Hardware
	 * would use an entry, and the driver would clear it at MMU_NOTIFY_EXCLUSIVE.
	 */
	ret = fault_add_as_device(ctx->dev, page_address(page), fault);
	if (fault->done)
		folio_mark_dirty(folio);
	folio_unlock(folio);
	folio_put(folio);
	return ret;
}

/**
 * hmm_dummy_fault_add - do an atomic operation on system memory
 * @ctx: the context; the caller holds references on it and on its mm (mmget())
 * @fault: as hmm_dummy_atomic_add() has left it
 *
 * In system memory the device needs exclusive access to the page: atomic operations of a device
 * are not atomic to the CPU.
 *
 * Context: As for hmm_dummy_fault().
 *
 * Return: 0, and if @fault->done is 0, the device rests and tries again; %HMM_DUMMY_FAULT if the
 * page has gone since the access, and hmm_dummy_fault() finds out why; or an errno of
 * hmm_dummy_fault().
 */
int hmm_dummy_fault_add(struct hmm_dummy_ctx *ctx, struct hmm_dummy_fault *fault)
{
	int ret = fault_add_exclusive(ctx, fault);

	return ret == -EFAULT || ret == -EBUSY ? HMM_DUMMY_FAULT : ret;
}

/**
 * hmm_dummy_atomic_add - add, atomically to CPUs and other devices
 * @ctx: as for hmm_dummy_access_get()
 * @fault: @fault->value is added to each u64 from @fault->addr on; the address and the length are
 *	multiples of 8, and all is in one page
 *
 * In the memory of a device the value is added in place.  All importers reach that memory in
 * the same way: with the CPU here, and by PCI atomics where there is hardware.
 *
 * Return: 0; %HMM_DUMMY_FAULT, and the handler does what @fault->kind says; or an errno of
 * hmm_dummy_access_get().
 */
int hmm_dummy_atomic_add(struct hmm_dummy_ctx *ctx, struct hmm_dummy_fault *fault)
{
	struct hmm_dummy_access access;
	int ret;

	fault->kind = HMM_DUMMY_NO_ENTRY;
	ret = hmm_dummy_access_get(ctx, fault->addr, fault->length, true, &access);
	if (ret)
		return ret;
	if (access.own || access.entry & HMM_PFN_PEER) {
		fault_add_u64(access.kva, fault->length, fault->value);
	} else {
		fault->kind = HMM_DUMMY_NOT_EXCLUSIVE;
		ret = HMM_DUMMY_FAULT;
	}
	hmm_dummy_access_put(&access);
	return ret;
}
