// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The interface of lib/test_hmm
 *
 * With the module parameter dmirror each device that has memory also appears as
 * /dev/hmm_dmirrorN with the ioctls of the kernel's own HMM test driver.  So its test program,
 * tools/testing/selftests/mm/hmm-tests, runs on this driver, unmodified.  It expects
 * devices 0 and 1 to have private memory, and 2 and 3 coherent memory.
 *
 * lib/test_hmm_uapi.h has the meaning of the commands.  A mirror is of the process that opened the
 * file.
 *
 * One command makes the driver refuse the next huge page, and another takes pages for the
 * exclusive use of the device.  For these two the driver calls the functions at the end of this
 * file.
 */
#include <linux/fs.h>
#include <linux/hmm.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "../../../../lib/test_hmm_uapi.h"
#include "test.h"

static bool dmirror;
module_param(dmirror, bool, 0444);
MODULE_PARM_DESC(dmirror,
		 "Offer /dev/hmm_dmirrorN as lib/test_hmm does, for the kernel's HMM tests (N)");

/* What one command works on. */
struct mirror {
	struct hmm_dummy_ctx *ctx;
	struct hmm_dmirror_cmd *cmd;
	unsigned long start;
	unsigned long end;
	u8 *data;			/* of all pages */
	unsigned long answer;		/* bytes of it that user space gets on success */
};

struct mirror_command {
	int (*fn)(struct mirror *m);
	/* The command waits for user space: see struct hmm_dummy_ioctl. */
	bool waits;
};

static int mirror_fault_all(struct mirror *m, unsigned long addr, bool write)
{
	unsigned long next;
	int ret = 0;

	m->cmd->faults++;
	for (; addr < m->end && !ret; addr = next) {
		next = pmd_addr_end(addr, m->end);
		ret = hmm_dummy_fault(m->ctx, addr, next - addr, write);
	}
	return ret;
}

/* Copy between the data and memory, for as long as the page table has entries. */
static int mirror_copy_mapped(struct mirror *m, bool write)
{
	struct hmm_dummy_access access;
	u8 *data;
	int ret;

	for (;;) {
		unsigned long addr = m->start + (m->cmd->cpages << PAGE_SHIFT);

		if (addr == m->end)
			return 0;
		ret = hmm_dummy_access_get(m->ctx, addr, PAGE_SIZE, write, &access);
		if (ret)
			return ret;
		data = m->data + (addr - m->start);
		if (write)
			memcpy(access.kva, data, PAGE_SIZE);
		else
			memcpy(data, access.kva, PAGE_SIZE);
		hmm_dummy_access_put(&access);
		m->cmd->cpages++;
	}
}

static int mirror_copy_all(struct mirror *m, bool write)
{
	struct hmm_dummy_dev *dev = m->ctx->dev;
	int ret;

	for (;;) {
		ret = hmm_dummy_dev_enter(dev, true);
		if (ret)
			return ret;
		ret = mirror_copy_mapped(m, write);
		hmm_dummy_dev_exit(dev);
		if (ret != HMM_DUMMY_FAULT)
			return ret;
		ret = mirror_fault_all(m, m->start + (m->cmd->cpages << PAGE_SHIFT), write);
		if (ret)
			return ret;
		if (fatal_signal_pending(current))
			return -EINTR;
	}
}

static int mirror_read(struct mirror *m)
{
	m->answer = m->end - m->start;
	return mirror_copy_all(m, false);
}

static int mirror_write(struct mirror *m)
{
	if (copy_from_user(m->data, u64_to_user_ptr(m->cmd->ptr), m->end - m->start))
		return -EFAULT;
	return mirror_copy_all(m, true);
}

/*
 * Store entries of the device's own memory.  Faults nothing in, and drops entries of other
 * memory in the range.
 */
static int mirror_populate_own(struct hmm_dummy_ctx *ctx, unsigned long addr,
			       unsigned long length)
{
	unsigned long end = addr + length, next, first;
	struct hmm_dummy_range *range;
	int ret = 0;

	for (; addr < end && !ret; addr = next) {
		next = pmd_addr_end(addr, end);
		range = hmm_dummy_range_get(ctx, addr);
		if (IS_ERR(range))
			return PTR_ERR(range);
		first = (addr - range->start) >> PAGE_SHIFT;
		ret = hmm_dummy_range_fault(range, first, (next - addr) >> PAGE_SHIFT, 0);
	}
	return ret;
}

/* The errno of test_hmm for a range that it cannot migrate. */
static int mirror_migrate_error(int ret)
{
	return ret == -EFAULT || ret == -EOPNOTSUPP ? -EINVAL : ret;
}

/* Migrates the range and answers with its data.  All of the range must move. */
static int mirror_to_device(struct mirror *m)
{
	struct hmm_dummy_ctx *ctx = m->ctx;
	struct hmm_p2p_result result = {};
	int ret;

	ret = hmm_p2p_migrate_to_device(ctx->dev->engine, ctx->mm, m->start, m->end,
					HMM_P2P_ONLY_RAM, &result);
	if (ret)
		return mirror_migrate_error(ret);
	ret = mirror_populate_own(ctx, m->start, m->end - m->start);
	if (!ret)
		ret = mirror_copy_mapped(m, false);
	m->answer = m->end - m->start;
	return ret == HMM_DUMMY_FAULT ? -ENOENT : ret;
}

static int mirror_to_ram(struct mirror *m)
{
	struct hmm_p2p_result result = {};
	int ret;

	/* FLAG_FAIL_ALLOC is ignored: it asks for a failed allocation of system memory here. */
	WRITE_ONCE(m->ctx->dev->test.fail_huge, false);
	ret = hmm_p2p_migrate_to_ram(m->ctx->dev->engine, m->ctx->mm, m->start, m->end,
				     &result);
	m->cmd->cpages = result.migrated;
	return mirror_migrate_error(ret);
}

/* The caller does not hold the lock of the range: see hmm_dummy_has_pfn(). */
static u8 mirror_prot_of_page(struct hmm_dummy_dev *dev, unsigned long entry)
{
	if (hmm_dummy_has_pfn(dev, entry))
		return dev->mem.coherent_base ? HMM_DMIRROR_PROT_DEV_COHERENT_LOCAL :
					    HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL;
	if (is_zero_pfn(page_to_pfn(hmm_pfn_to_page(entry))))
		return HMM_DMIRROR_PROT_ZERO;
	/* hmm reports no private memory of others, and coherent memory has no huge pages. */
	return is_device_coherent_page(hmm_pfn_to_page(entry)) ?
	       HMM_DMIRROR_PROT_DEV_COHERENT_REMOTE : HMM_DMIRROR_PROT_NONE;
}

static u8 mirror_prot_of(struct hmm_dummy_dev *dev, unsigned long entry)
{
	u8 prot;

	if (entry & HMM_PFN_ERROR)
		return HMM_DMIRROR_PROT_ERROR;
	if (!(entry & HMM_PFN_VALID))
		return HMM_DMIRROR_PROT_NONE;
	prot = mirror_prot_of_page(dev, entry);
	prot |= entry & HMM_PFN_WRITE ? HMM_DMIRROR_PROT_WRITE : HMM_DMIRROR_PROT_READ;
	if (hmm_pfn_to_map_order(entry) + PAGE_SHIFT == PMD_SHIFT)
		prot |= HMM_DMIRROR_PROT_PMD;
	else if (hmm_pfn_to_map_order(entry) + PAGE_SHIFT == PUD_SHIFT)
		prot |= HMM_DMIRROR_PROT_PUD;
	return prot;
}

static bool mirror_snapshot_invalidate(struct mmu_interval_notifier *mni,
				       const struct mmu_notifier_range *range,
				       unsigned long cur_seq)
{
	mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct mmu_interval_notifier_ops snapshot_ops = {
	.invalidate = mirror_snapshot_invalidate,
};

/* The entries of the pages, as hmm reports them to the device with @owner. */
static int mirror_snapshot_pfns(struct mm_struct *mm, unsigned long addr, unsigned long nr,
				void *owner, unsigned long *pfns)
{
	struct mmu_interval_notifier notifier;
	int ret;

	ret = mmu_interval_notifier_insert(&notifier, mm, addr, nr << PAGE_SHIFT,
					   &snapshot_ops);
	if (ret)
		return ret;
	ret = hmm_dummy_query_pfns(&notifier, addr, nr, owner, pfns);
	mmu_interval_notifier_remove(&notifier);
	return ret;
}

static int mirror_snapshot(struct mirror *m)
{
	struct hmm_dummy_dev *dev = m->ctx->dev;
	unsigned long addr, next, i, nr, pages = 0;
	unsigned long *pfns = kvcalloc(RANGE_PAGES, sizeof(*pfns), GFP_KERNEL);
	int ret = 0;

	if (!pfns)
		return -ENOMEM;
	for (addr = m->start; addr < m->end && !ret; addr = next) {
		next = pmd_addr_end(addr, m->end);
		nr = (next - addr) >> PAGE_SHIFT;
		ret = mirror_snapshot_pfns(m->ctx->mm, addr, nr, dev, pfns);
		for (i = 0; i < nr && !ret; i++)
			m->data[pages++] = mirror_prot_of(dev, pfns[i]);
	}
	kvfree(pfns);
	m->answer = pages;
	m->cmd->cpages = pages;
	return ret;
}

static int mirror_exclusive_page(struct mirror *m, unsigned long addr)
{
	struct hmm_dummy_range *range = hmm_dummy_range_get(m->ctx, addr);
	struct folio *folio;
	struct page *page;

	if (IS_ERR(range))
		return PTR_ERR(range);
	mmap_read_lock(m->ctx->mm);
	page = make_device_exclusive(m->ctx->mm, addr, m->ctx, &folio);
	if (!IS_ERR(page)) {
		/* A CPU that takes the page back waits for the folio lock. */
		mutex_lock(&range->lock);
		__set_bit((addr - range->start) >> PAGE_SHIFT, range->test.exclusive);
		mutex_unlock(&range->lock);
		memcpy_from_page(m->data + (addr - m->start), page, 0, PAGE_SIZE);
		folio_unlock(folio);
		folio_put(folio);
	}
	mmap_read_unlock(m->ctx->mm);
	return PTR_ERR_OR_ZERO(page);
}

static int mirror_exclusive(struct mirror *m)
{
	unsigned long addr;
	int ret;

	for (addr = m->start; addr < m->end; addr += PAGE_SIZE) {
		ret = mirror_exclusive_page(m, addr);
		if (ret)
			return ret;
		m->cmd->cpages++;
	}
	m->answer = m->end - m->start;
	return 0;
}

static int mirror_check_exclusive(struct mirror *m)
{
	unsigned long addr;
	int ret = 0;

	for (addr = m->start; addr < m->end && !ret; addr += PAGE_SIZE) {
		struct hmm_dummy_range *range = xa_load(&m->ctx->ranges,
							addr >> PMD_SHIFT);

		if (!range)
			continue;
		mutex_lock(&range->lock);
		if (test_bit((addr - range->start) >> PAGE_SHIFT, range->test.exclusive))
			ret = -EPERM;
		mutex_unlock(&range->lock);
	}
	return ret;
}

static int mirror_release(struct mirror *m)
{
	struct hmm_dummy_dev *dev = m->ctx->dev;
	struct hmm_p2p_result result = {};

	return hmm_p2p_evict(dev->engine, 0, dev->mem.paged, &result);
}

static int mirror_flags(struct mirror *m)
{
	WRITE_ONCE(m->ctx->dev->test.fail_huge,
		   m->cmd->npages & HMM_DMIRROR_FLAG_FAIL_ALLOC);
	return 0;
}

static const struct mirror_command mirror_commands[] = {
	[_IOC_NR(HMM_DMIRROR_READ)] = { mirror_read, true },
	[_IOC_NR(HMM_DMIRROR_WRITE)] = { mirror_write, true },
	[_IOC_NR(HMM_DMIRROR_MIGRATE_TO_DEV)] = { mirror_to_device },
	[_IOC_NR(HMM_DMIRROR_MIGRATE_TO_SYS)] = { mirror_to_ram },
	[_IOC_NR(HMM_DMIRROR_SNAPSHOT)] = { mirror_snapshot },
	[_IOC_NR(HMM_DMIRROR_EXCLUSIVE)] = { mirror_exclusive },
	[_IOC_NR(HMM_DMIRROR_CHECK_EXCLUSIVE)] = { mirror_check_exclusive },
	[_IOC_NR(HMM_DMIRROR_RELEASE)] = { mirror_release },
	[_IOC_NR(HMM_DMIRROR_FLAGS)] = { mirror_flags },
	/* No command holds mmap_lock while a page is fetched. */
	[_IOC_NR(HMM_DMIRROR_READ_UNLOCKED)] = { mirror_read, true },
};

static int mirror_call(struct mirror *m, const struct mirror_command *command)
{
	struct hmm_dummy_dev *dev = m->ctx->dev;
	int ret;

	if (command->waits)
		return command->fn(m);
	ret = hmm_dummy_dev_enter(dev, true);
	if (ret)
		return ret;
	ret = command->fn(m);
	hmm_dummy_dev_exit(dev);
	return ret;
}

static int mirror_run(struct hmm_dummy_file *file, unsigned int nr,
		      struct hmm_dmirror_cmd *cmd)
{
	struct mirror m = { .cmd = cmd, .start = cmd->addr };
	unsigned long bytes = cmd->npages << PAGE_SHIFT;
	int ret;

	m.ctx = list_first_entry(&file->contexts, struct hmm_dummy_ctx, node);
	m.end = m.start + bytes;
	if (!mmget_not_zero(m.ctx->mm))
		return -EFAULT;
	m.data = kvmalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	nr = array_index_nospec(nr, ARRAY_SIZE(mirror_commands));
	ret = m.data ? mirror_call(&m, &mirror_commands[nr]) : -ENOMEM;
	if (!ret && copy_to_user(u64_to_user_ptr(cmd->ptr), m.data, m.answer))
		ret = -EFAULT;
	kvfree(m.data);
	mmput(m.ctx->mm);
	return ret;
}

static long mirror_ioctl(struct file *filp, unsigned int command, unsigned long arg)
{
	struct hmm_dummy_file *file = filp->private_data;
	void __user *user = (void __user *)arg;
	struct hmm_dmirror_cmd cmd;
	int ret;

	if (_IOC_NR(command) >= ARRAY_SIZE(mirror_commands) ||
	    command != _IOWR('H', _IOC_NR(command), struct hmm_dmirror_cmd))
		return -EINVAL;
	if (copy_from_user(&cmd, user, sizeof(cmd)))
		return -EFAULT;
	if (!PAGE_ALIGNED(cmd.addr) || cmd.npages > TASK_SIZE_MAX >> PAGE_SHIFT ||
	    cmd.addr >= cmd.addr + (cmd.npages << PAGE_SHIFT))
		return -EINVAL;
	cmd.cpages = 0;
	cmd.faults = 0;

	ret = mirror_run(file, _IOC_NR(command), &cmd);
	if (!ret && copy_to_user(user, &cmd, sizeof(cmd)))
		ret = -EFAULT;
	return ret;
}

/* Map pages of RAM by the file: hmm has to find those as well. */
static int mirror_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long addr;
	int ret = 0;

	for (addr = vma->vm_start; addr < vma->vm_end && !ret; addr += PAGE_SIZE) {
		struct page *page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);

		if (!page)
			return -ENOMEM;
		ret = vm_insert_page(vma, addr, page);
		put_page(page);
	}
	return ret;
}

static int mirror_open(struct inode *inode, struct file *filp)
{
	struct hmm_dummy_dev *dev =
		container_of(filp->private_data, struct hmm_dummy_dev, test.dmirror);
	struct hmm_dummy_file *file = hmm_dummy_file_open(dev);
	struct hmm_dummy_ctx *ctx;

	if (!file)
		return -ENOMEM;
	ctx = hmm_dummy_ctx_get(file);
	if (IS_ERR(ctx)) {
		hmm_dummy_file_free(file);
		return PTR_ERR(ctx);
	}
	filp->private_data = file;
	return 0;
}

static int mirror_fop_release(struct inode *inode, struct file *filp)
{
	hmm_dummy_file_free(filp->private_data);
	return 0;
}

/* Whether to refuse a folio of @order, as a command has asked for. */
bool hmm_dummy_test_no_folio(struct hmm_dummy_dev *dev, unsigned int order)
{
	if (!order || !READ_ONCE(dev->test.fail_huge))
		return false;
	WRITE_ONCE(dev->test.fail_huge, false);
	return true;
}

/* The device has lost the pages.  The caller holds range->lock. */
void hmm_dummy_test_range_cleared(struct hmm_dummy_range *range, unsigned long first,
				  unsigned long nr)
{
	bitmap_clear(range->test.exclusive, first, nr);
}

static const struct file_operations mirror_fops = {
	.owner = THIS_MODULE,
	.open = mirror_open,
	.release = mirror_fop_release,
	.mmap = mirror_mmap,
	.unlocked_ioctl = mirror_ioctl,
};

void hmm_dummy_dmirror_init(struct hmm_dummy_dev *dev)
{
	int ret;

	if (!dmirror || !dev->exporter)
		return;
	dev->test.dmirror = (struct miscdevice) {
		.minor = MISC_DYNAMIC_MINOR,
		.name = kasprintf(GFP_KERNEL, "hmm_dmirror%d", dev->id),
		.fops = &mirror_fops,
	};
	ret = dev->test.dmirror.name ? misc_register(&dev->test.dmirror) : -ENOMEM;
	if (!ret)
		return;
	pr_warn("%s: no hmm_dmirror%d: error %d\n", dev->name, dev->id, ret);
	kfree(dev->test.dmirror.name);
	dev->test.dmirror.name = NULL;
}

void hmm_dummy_dmirror_exit(struct hmm_dummy_dev *dev)
{
	if (!dev->test.dmirror.name)
		return;
	misc_deregister(&dev->test.dmirror);
	kfree(dev->test.dmirror.name);
}
