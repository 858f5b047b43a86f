// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Moving memory
 *
 * The migration engine moves memory.  This file has the entry from user space, and checks
 * whether the caller may reach the memory.
 */
#include <linux/build_bug.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "hmm_dummy.h"

/**
 * hmm_dummy_mm_get - the address space that a range is in
 * @addr: first address
 * @length: bytes
 * @pidfd: the process, or -1 for the caller
 *
 * Return: the address space, with a reference that the caller gives back by mmput(), or an
 * ERR_PTR(): -EINVAL if the range is unaligned, empty or wraps; -EFAULT if it is beyond where
 * processes have memory; an errno of hmm_p2p_mm_get_pidfd().
 */
struct mm_struct *hmm_dummy_mm_get(u64 addr, u64 length, int pidfd)
{
	u64 end;

	if (!length || !PAGE_ALIGNED(addr) || !PAGE_ALIGNED(length) ||
	    check_add_overflow(addr, length, &end))
		return ERR_PTR(-EINVAL);
	/* No process has memory there. */
	if (end > TASK_SIZE_MAX)
		return ERR_PTR(-EFAULT);
	if (pidfd == -1) {
		mmget(current->mm);
		return current->mm;
	}
	return hmm_p2p_mm_get_pidfd(pidfd);
}

/* enum hmm_dummy_outcome has the values of enum hmm_p2p_outcome. */
static_assert(HMM_DUMMY_MOVED == (int)HMM_P2P_MOVED);
static_assert(HMM_DUMMY_LOST == (int)HMM_P2P_LOST);
static_assert(HMM_DUMMY_BUSY == (int)HMM_P2P_BUSY);

static int migrate_mm_range(struct hmm_dummy_dev *dev, struct mm_struct *mm,
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

/* Tell user space what became of the pages that the migration has come to. */
static int migrate_vec_to_user(const struct hmm_dummy_migrate *arg,
			       const struct hmm_p2p_result *result)
{
	unsigned long nr = result->migrated + result->skipped + result->failed;

	if (WARN_ON_ONCE(nr > PHYS_PFN(arg->length)))
		nr = PHYS_PFN(arg->length);
	return copy_to_user(u64_to_user_ptr(arg->vec), result->vec, nr) ? -EFAULT : 0;
}

/**
 * hmm_dummy_migrate_for_job - move memory for a command
 * @ctx: the context; the caller holds references on it and on its mm (mmget())
 * @fault: what to move; @fault->done and @fault->moved are set, also on errors
 *
 * Context: As for hmm_dummy_fault().  Waits for user space only where the holder of mmap_lock does.
 *
 * Return: 0, -ENODEV if the device goes, or another errno of HMM_DUMMY_MIGRATE.
 */
int hmm_dummy_migrate_for_job(struct hmm_dummy_ctx *ctx, struct hmm_dummy_fault *fault)
{
	struct hmm_dummy_migrate arg = {
		.addr = fault->addr,
		.length = fault->length,
		.flags = fault->write ? 0 : HMM_DUMMY_MIGRATE_TO_RAM,
	};
	struct hmm_p2p_result result = {};
	int ret;

	/* Do not wait, as in hmm_dummy_fault(). */
	if (hmm_dummy_dev_enter(ctx->dev, false))
		return -ENODEV;
	ret = migrate_mm_range(ctx->dev, ctx->mm, &arg, &result);
	hmm_dummy_dev_exit(ctx->dev);
	fault->done = fault->length;
	fault->moved = result.migrated;
	return ret;
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
	if (arg->vec && arg->length > HMM_DUMMY_VEC_MAX)
		return -EINVAL;
	mm = hmm_dummy_mm_get(arg->addr, arg->length, arg->pidfd);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	ret = -ENOMEM;
	if (arg->vec)
		result.vec = kvzalloc(PHYS_PFN(arg->length), GFP_KERNEL_ACCOUNT);
	if (!arg->vec || result.vec) {
		ret = hmm_dummy_dev_enter(ctx->dev, true);
		if (!ret) {
			ret = migrate_mm_range(ctx->dev, mm, arg, &result);
			hmm_dummy_dev_exit(ctx->dev);
		}
	}
	mmput(mm);
	arg->migrated = result.migrated;
	arg->skipped = result.skipped;
	arg->failed = result.failed;
	if (result.vec && migrate_vec_to_user(arg, &result) && !ret)
		ret = -EFAULT;
	kvfree(result.vec);
	return ret;
}
