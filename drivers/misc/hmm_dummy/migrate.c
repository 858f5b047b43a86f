// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Moving memory, and telling where it is
 *
 * Thin: the core's engine does the moving.  What is here is the entry from user
 * space, with the question whose memory it is.
 */
#include <linux/build_bug.h>
#include <linux/hmm.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "hmm_dummy.h"

#define VEC_MAX		SZ_1G	/* a byte for each page of so much at a time */

/*
 * The address space that a range is in, with a reference for mmput(), or an
 * ERR_PTR() if it is no range or not the caller's business.
 */
static struct mm_struct *get_mm(u64 addr, u64 length, int pidfd)
{
	u64 end;

	if (!length || !PAGE_ALIGNED(addr) || !PAGE_ALIGNED(length) ||
	    check_add_overflow(addr, length, &end))
		return ERR_PTR(-EINVAL);
	/* No process has anything there. */
	if (end > TASK_SIZE_MAX)
		return ERR_PTR(-EFAULT);
	if (pidfd == -1) {
		mmget(current->mm);
		return current->mm;
	}
	return hmm_p2p_mm_get_pidfd(pidfd);
}

/* hmm_dummy_outcome is hmm_p2p_outcome, by another name. */
static_assert(HMM_DUMMY_MOVED == (int)HMM_P2P_MOVED);
static_assert(HMM_DUMMY_LOST == (int)HMM_P2P_LOST);
static_assert(HMM_DUMMY_BUSY == (int)HMM_P2P_BUSY);

static int migrate(struct hmm_dummy_dev *dev, struct mm_struct *mm,
		   const struct hmm_dummy_migrate *arg, struct hmm_p2p_result *result)
{
	unsigned int flags = 0;

	if (arg->flags & HMM_DUMMY_MIGRATE_TO_RAM)
		return hmm_p2p_migrate_to_ram(dev->engine, mm, arg->addr,
					      arg->addr + arg->length, result);
	if (arg->flags & HMM_DUMMY_MIGRATE_ONLY_RAM)
		flags |= HMM_P2P_ONLY_RAM;
	if (arg->flags & HMM_DUMMY_MIGRATE_NO_EVICT)
		flags |= HMM_P2P_NO_EVICT;
	return hmm_p2p_migrate_to_device(dev->engine, mm, arg->addr,
					 arg->addr + arg->length, flags, result);
}

/* What became of the pages, as far as it went. */
static int vec_to_user(const struct hmm_dummy_migrate *arg,
		       const struct hmm_p2p_result *result)
{
	unsigned long nr = result->migrated + result->skipped + result->failed;

	if (WARN_ON_ONCE(nr > PHYS_PFN(arg->length)))
		nr = PHYS_PFN(arg->length);
	return copy_to_user(u64_to_user_ptr(arg->vec), result->vec, nr) ? -EFAULT : 0;
}

/* HMM_DUMMY_MIGRATE */
int hmm_dummy_migrate(struct hmm_dummy_ctx *ctx, void *data)
{
	struct hmm_dummy_migrate *arg = data;
	struct hmm_p2p_result result = {};
	struct mm_struct *mm;
	int ret;

	if (arg->flags & ~(HMM_DUMMY_MIGRATE_TO_RAM | HMM_DUMMY_MIGRATE_ONLY_RAM |
			   HMM_DUMMY_MIGRATE_NO_EVICT) || arg->reserved)
		return -EOPNOTSUPP;
	if (arg->flags & HMM_DUMMY_MIGRATE_TO_RAM &&
	    arg->flags & ~HMM_DUMMY_MIGRATE_TO_RAM)
		return -EOPNOTSUPP;
	if (!ctx->dev->exporter)
		return -EOPNOTSUPP;
	arg->migrated = 0;
	arg->skipped = 0;
	arg->failed = 0;
	if (arg->vec && arg->length > VEC_MAX)
		return -EINVAL;
	mm = get_mm(arg->addr, arg->length, arg->pidfd);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	ret = -ENOMEM;
	if (arg->vec)
		result.vec = kvzalloc(PHYS_PFN(arg->length), GFP_KERNEL_ACCOUNT);
	if (!arg->vec || result.vec) {
		ret = hmm_dummy_dev_enter(ctx->dev, true);
		if (!ret) {
			ret = migrate(ctx->dev, mm, arg, &result);
			hmm_dummy_dev_exit(ctx->dev);
		}
	}
	mmput(mm);
	arg->migrated = result.migrated;
	arg->skipped = result.skipped;
	arg->failed = result.failed;
	if (result.vec && vec_to_user(arg, &result) && !ret)
		ret = -EFAULT;
	kvfree(result.vec);
	return ret;
}

static bool query_invalidate(struct mmu_interval_notifier *mni,
			     const struct mmu_notifier_range *range,
			     unsigned long cur_seq)
{
	/* Nothing is kept: what changes while we look was true at some point. */
	mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct mmu_interval_notifier_ops query_ops = {
	.invalidate = query_invalidate,
};

/* What the pages are, as the device with @owner sees them: nothing is faulted. */
static int query_snapshot(struct mmu_interval_notifier *notifier,
			  unsigned long addr, unsigned long nr,
			  void *owner, unsigned long *pfns)
{
	struct hmm_range range = {
		.notifier = notifier,
		.start = addr,
		.end = addr + (nr << PAGE_SHIFT),
		.hmm_pfns = pfns,
		.dev_private_owner = owner,
	};

	memset(pfns, 0, nr * sizeof(*pfns));
	return hmm_range_fault_unlocked_timeout(&range,
			msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT));
}

/*
 * By an entry that @dev was told of.  Each is told of its own memory and of what the CPU
 * can reach, which may be the coherent memory of one that was asked before.
 */
static u8 where_is(struct hmm_dummy_dev *self, struct hmm_dummy_dev *dev,
		   unsigned long entry, u8 before)
{
	if (hmm_dummy_has_pfn(dev, entry))
		return dev == self ? HMM_DUMMY_AT_DEVICE : HMM_DUMMY_AT_PEER;
	return before == HMM_DUMMY_AT_NONE ? HMM_DUMMY_AT_RAM : before;
}

/**
 * hmm_dummy_snapshot - what the pages are, as the device with @owner sees them
 * @mm: the address space; the caller holds a reference
 * @addr: first address
 * @nr: pages
 * @owner: of a dummy's memory
 * @pfns: set to the entries of hmm_range_fault(), which faults nothing
 *
 * Return: 0, or an errno of hmm_range_fault() or mmu_interval_notifier_insert().
 */
int hmm_dummy_snapshot(struct mm_struct *mm, unsigned long addr, unsigned long nr,
		       void *owner, unsigned long *pfns)
{
	struct mmu_interval_notifier notifier;
	int ret;

	ret = mmu_interval_notifier_insert(&notifier, mm, addr, nr << PAGE_SHIFT,
					   &query_ops);
	if (ret)
		return ret;
	ret = query_snapshot(&notifier, addr, nr, owner, pfns);
	mmu_interval_notifier_remove(&notifier);
	return ret;
}

/* One PMD's worth of pages.  Every dummy is asked for the pages that it owns. */
static int query_batch(struct hmm_dummy_dev *self,
		       struct mmu_interval_notifier *notifier,
		       unsigned long addr, unsigned long nr,
		       unsigned long *pfns, u8 *where)
{
	struct hmm_dummy_dev *dev;
	unsigned long i;
	int ret = 0;

	memset(where, HMM_DUMMY_AT_NONE, nr);
	mutex_lock(&hmm_dummy_list_lock);
	list_for_each_entry(dev, &hmm_dummy_list, node) {
		ret = query_snapshot(notifier, addr, nr, dev, pfns);
		if (ret)
			break;
		for (i = 0; i < nr; i++) {
			if (!(pfns[i] & HMM_PFN_VALID))
				continue;
			where[i] = where_is(self, dev, pfns[i], where[i]);
		}
	}
	mutex_unlock(&hmm_dummy_list_lock);
	return ret;
}

static int query_range(struct hmm_dummy_dev *dev, struct mm_struct *mm,
		       struct hmm_dummy_query *arg)
{
	struct mmu_interval_notifier notifier;
	u8 __user *vec = u64_to_user_ptr(arg->vec);
	unsigned long addr = arg->addr, end = arg->addr + arg->length, nr;
	unsigned long *pfns = kvcalloc(RANGE_PAGES, sizeof(*pfns), GFP_KERNEL);
	u8 *where = kvzalloc(RANGE_PAGES, GFP_KERNEL);
	int ret = -ENOMEM;

	if (!pfns || !where)
		goto out;
	ret = mmu_interval_notifier_insert(&notifier, mm, addr, arg->length,
					   &query_ops);
	if (ret)
		goto out;
	for (; addr < end && !ret; addr += nr << PAGE_SHIFT) {
		nr = (pmd_addr_end(addr, end) - addr) >> PAGE_SHIFT;
		ret = query_batch(dev, &notifier, addr, nr, pfns, where);
		if (!ret && copy_to_user(vec, where, nr))
			ret = -EFAULT;
		vec += nr;
	}
	mmu_interval_notifier_remove(&notifier);
out:
	kvfree(where);
	kvfree(pfns);
	return ret;
}

/* Whether all of the range is mapped: an answer about nothing is no answer. */
static int query_check_mapped(struct mm_struct *mm, unsigned long addr,
			      unsigned long end)
{
	struct vm_area_struct *vma;
	int ret = 0;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	while (addr < end && !ret) {
		vma = vma_lookup(mm, addr);
		if (!vma || vma->vm_flags & (VM_IO | VM_PFNMAP))
			ret = -EFAULT;
		else
			addr = vma->vm_end;
	}
	mmap_read_unlock(mm);
	return ret;
}

/* HMM_DUMMY_QUERY */
int hmm_dummy_query(struct hmm_dummy_ctx *ctx, void *data)
{
	struct hmm_dummy_query *arg = data;
	struct mm_struct *mm;
	int ret;

	if (arg->flags || arg->reserved)
		return -EOPNOTSUPP;
	if (arg->length > VEC_MAX)
		return -EINVAL;
	mm = get_mm(arg->addr, arg->length, arg->pidfd);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	ret = query_check_mapped(mm, arg->addr, arg->addr + arg->length);
	if (!ret)
		ret = query_range(ctx->dev, mm, arg);
	mmput(mm);
	return ret;
}
