// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Moving memory, and telling where it is
 *
 * Thin: the core's engine does the moving.  What is here is the entry from user
 * space, with the question whose memory it is.
 */
#include <linux/hmm.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "hmm_dummy.h"

#define QUERY_MAX	SZ_1G

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

/* HMM_DUMMY_MIGRATE */
int hmm_dummy_migrate(struct hmm_dummy_ctx *ctx, void *data)
{
	struct hmm_dummy_migrate *arg = data;
	struct hmm_dummy_dev *dev = ctx->dev;
	struct hmm_p2p_result result = {};
	struct mm_struct *mm;
	int ret;

	if (arg->flags & ~HMM_DUMMY_MIGRATE_TO_RAM || arg->reserved)
		return -EOPNOTSUPP;
	arg->migrated = 0;
	arg->skipped = 0;
	arg->failed = 0;
	mm = get_mm(arg->addr, arg->length, arg->pidfd);
	if (IS_ERR(mm))
		return PTR_ERR(mm);

	if (arg->flags & HMM_DUMMY_MIGRATE_TO_RAM)
		ret = hmm_p2p_migrate_to_ram(dev->exporter, mm, arg->addr,
					     arg->addr + arg->length, &result);
	else
		ret = hmm_p2p_migrate_to_device(dev->exporter, mm, arg->addr,
						arg->addr + arg->length,
						&result);
	mmput(mm);
	arg->migrated = result.migrated;
	arg->skipped = result.skipped;
	arg->failed = result.failed;
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
			if (!is_device_private_page(hmm_pfn_to_page(pfns[i])))
				where[i] = HMM_DUMMY_AT_RAM;
			else
				where[i] = dev == self ? HMM_DUMMY_AT_DEVICE :
							 HMM_DUMMY_AT_PEER;
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
	unsigned long *pfns = kvcalloc(HPAGE_PMD_NR, sizeof(*pfns), GFP_KERNEL);
	u8 *where = kvzalloc(HPAGE_PMD_NR, GFP_KERNEL);
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
	if (arg->length > QUERY_MAX)
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
