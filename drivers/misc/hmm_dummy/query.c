// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Where memory is
 *
 * HMM_DUMMY_QUERY asks each dummy which pages of a range it has.  No page is faulted in and
 * none moves.
 */
#include <linux/hmm.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "hmm_dummy.h"

static bool query_invalidate(struct mmu_interval_notifier *mni,
			     const struct mmu_notifier_range *range,
			     unsigned long cur_seq)
{
	/*
	 * The answer is kept nowhere, and was true at some time during the query, but for pages of
	 * a device that is newer than the query.
	 */
	mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct mmu_interval_notifier_ops query_ops = {
	.invalidate = query_invalidate,
};

/**
 * hmm_dummy_query_pfns - what pages are, as a device sees them
 * @notifier: of the address space, around the range
 * @addr: first address
 * @nr: pages
 * @owner: of the device's memory
 * @pfns: set to the entries of hmm_range_fault(), which faults nothing
 *
 * Return: 0, or an errno of hmm_range_fault().
 */
int hmm_dummy_query_pfns(struct mmu_interval_notifier *notifier, unsigned long addr,
			 unsigned long nr, void *owner, unsigned long *pfns)
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
 * Where a page is, by the entry that hmm gives @dev.  A device gets entries of its own memory and
 * of memory that the CPU reaches.  That may be coherent memory of a device before it in the
 * list: @before has its answer.
 */
static u8 query_where_is(struct hmm_dummy_dev *self, struct hmm_dummy_dev *dev,
			 unsigned long entry, u8 before)
{
	if (hmm_dummy_has_pfn(dev, entry))
		return dev == self ? HMM_DUMMY_AT_DEVICE : HMM_DUMMY_AT_PEER;
	return before == HMM_DUMMY_AT_NONE ? HMM_DUMMY_AT_RAM : before;
}

/* The devices that there are, with references, and in *@nr how many.  NULL: no memory. */
static struct hmm_dummy_dev **query_devices(unsigned int *nr)
{
	struct hmm_dummy_dev **devs, *dev;
	unsigned int n = 0;

	mutex_lock(&hmm_dummy_list_lock);
	devs = kcalloc(list_count_nodes(&hmm_dummy_list), sizeof(*devs), GFP_KERNEL);
	if (devs) {
		list_for_each_entry(dev, &hmm_dummy_list, node) {
			kref_get(&dev->kref);
			devs[n++] = dev;
		}
	}
	mutex_unlock(&hmm_dummy_list_lock);
	*nr = n;
	return devs;
}

static void query_devices_put(struct hmm_dummy_dev **devs, unsigned int nr)
{
	while (nr)
		hmm_dummy_put(devs[--nr]);
	kfree(devs);
}

/*
 * Pages of one PMD.  Each of @devs tells which of them are its own.  hmm waits for mmap_lock, so
 * the list of devices is not locked meanwhile.  One that is removed has no page any more.
 */
static int query_batch(struct hmm_dummy_dev *self, struct hmm_dummy_dev **devs,
		       unsigned int nr_devs, struct mmu_interval_notifier *notifier,
		       unsigned long addr, unsigned long nr,
		       unsigned long *pfns, u8 *where)
{
	unsigned int n;
	unsigned long i;
	int ret;

	memset(where, HMM_DUMMY_AT_NONE, nr);
	for (n = 0; n < nr_devs; n++) {
		ret = hmm_dummy_query_pfns(notifier, addr, nr, devs[n], pfns);
		if (ret)
			return ret;
		for (i = 0; i < nr; i++) {
			if (!(pfns[i] & HMM_PFN_VALID))
				continue;
			where[i] = query_where_is(self, devs[n], pfns[i], where[i]);
		}
	}
	return 0;
}

static int query_range(struct hmm_dummy_dev *dev, struct mm_struct *mm,
		       struct hmm_dummy_query *arg)
{
	struct mmu_interval_notifier notifier;
	u8 __user *vec = u64_to_user_ptr(arg->vec);
	unsigned long addr = arg->addr, end = arg->addr + arg->length, nr;
	unsigned long *pfns = kvcalloc(RANGE_PAGES, sizeof(*pfns), GFP_KERNEL);
	u8 *where = kvzalloc(RANGE_PAGES, GFP_KERNEL);
	struct hmm_dummy_dev **devs;
	unsigned int nr_devs;
	int ret = -ENOMEM;

	devs = query_devices(&nr_devs);
	if (!pfns || !where || !devs)
		goto out;
	ret = mmu_interval_notifier_insert(&notifier, mm, addr, arg->length,
					   &query_ops);
	if (ret)
		goto out;
	for (; addr < end && !ret; addr += nr << PAGE_SHIFT) {
		nr = (pmd_addr_end(addr, end) - addr) >> PAGE_SHIFT;
		ret = query_batch(dev, devs, nr_devs, &notifier, addr, nr, pfns, where);
		if (!ret && copy_to_user(vec, where, nr))
			ret = -EFAULT;
		vec += nr;
	}
	mmu_interval_notifier_remove(&notifier);
out:
	query_devices_put(devs, nr_devs);
	kvfree(where);
	kvfree(pfns);
	return ret;
}

/* 0 if all of the range is mapped, and maps no device. */
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
	if (arg->length > HMM_DUMMY_VEC_MAX)
		return -EINVAL;
	mm = hmm_dummy_mm_get(arg->addr, arg->length, arg->pidfd);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	ret = query_check_mapped(mm, arg->addr, arg->addr + arg->length);
	if (!ret)
		ret = query_range(ctx->dev, mm, arg);
	mmput(mm);
	return ret;
}
