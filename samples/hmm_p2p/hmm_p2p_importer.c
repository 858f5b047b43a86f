// SPDX-License-Identifier: GPL-2.0
/*
 * The smallest driver that reads pages in another device's memory in place.
 *
 * HMM_P2P_SAMPLE_MIRROR has an open file of /dev/hmm_p2p_importer mirror a range of the
 * caller's memory, and pread() with an address for the offset reads there.  The pages may be
 * in RAM, or in the memory of any exporter.  The CPU plays the device.
 * Documentation/mm/hmm_p2p-driver.rst has the steps, and what a bus master does differently.
 */
#include <linux/hmm.h>
#include <linux/hmm-dma.h>
#include <linux/hmm_p2p.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "hmm_p2p_sample.h"

struct mirror {
	struct mmu_interval_notifier notifier;
	struct hmm_p2p_peer peer;
	struct mutex lock;		/* entries; the invalidate callback takes it */
	struct hmm_dma_map map;
	unsigned long start, end;
	unsigned long entries[];	/* what the device has for each page; map.pfn_list */
};

/* Under m->lock: let go of all pages of [start, end), wherever they are. */
static void mirror_clear(struct mirror *m, unsigned long start, unsigned long end)
{
	unsigned long i;

	for (i = PHYS_PFN(start - m->start); i <= PHYS_PFN(end - 1 - m->start); i++) {
		hmm_p2p_map_put(&m->map, i);
		m->entries[i] = 0;
	}
}

/* When this returns the device does not use the pages of the range any more. */
static bool mirror_invalidate(struct mmu_interval_notifier *notifier,
			      const struct mmu_notifier_range *range, unsigned long seq)
{
	struct mirror *m = container_of(notifier, struct mirror, notifier);

	if (mmu_notifier_range_blockable(range))
		mutex_lock(&m->lock);
	else if (!mutex_trylock(&m->lock))
		return false;
	mmu_interval_set_seq(notifier, seq);
	mirror_clear(m, max(range->start, m->start), min(range->end, m->end));
	mutex_unlock(&m->lock);
	return true;
}

static const struct mmu_interval_notifier_ops mirror_ops = { .invalidate = mirror_invalidate };

/* The device has no entry for @addr: find the page, and store an entry. */
static int mirror_fault(struct mirror *m, unsigned long addr)
{
	unsigned long i = PHYS_PFN(addr - m->start), entry = 0;
	struct hmm_range range = {
		.notifier = &m->notifier,
		.start = ALIGN_DOWN(addr, PAGE_SIZE), .end = PAGE_ALIGN(addr + 1),
		.hmm_pfns = &entry,
		.default_flags = HMM_PFN_REQ_FAULT,
		.peer = &m->peer,
	};
	int ret = hmm_range_fault_unlocked_timeout(&range,
						   msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT));

	if (ret)
		return ret;
	guard(mutex)(&m->lock);
	/* Unless the page has moved since it was found, or another task was faster. */
	if (!mmu_interval_read_retry(&m->notifier, range.notifier_seq) && !m->entries[i]) {
		m->entries[i] = entry;
		if (entry & HMM_PFN_PEER)
			hmm_p2p_map_get(&m->map, i);
	}
	return 0;
}

static void mirror_destroy(struct mirror *m)
{
	/* While the notifier is there: without it, no one says that a page moves. */
	scoped_guard(mutex, &m->lock)
		mirror_clear(m, m->start, m->end);
	mmu_interval_notifier_remove(&m->notifier);
	hmm_p2p_peer_destroy(&m->peer);
	kvfree(m);
}

static struct miscdevice misc;

/* At most up to the end of the page. */
static ssize_t sample_read(struct file *file, char __user *to, size_t length, loff_t *pos)
{
	void *bounce __free(kfree) = kmalloc(PAGE_SIZE, GFP_KERNEL);
	struct mirror *m = READ_ONCE(file->private_data);
	unsigned long addr = *pos, entry = 0;
	int ret = 0;

	/* A process that inherited the file has other memory. */
	if (m == (void *)&misc || m->notifier.mm != current->mm || addr < m->start ||
	    addr >= m->end)
		return -EINVAL;
	if (!bounce)
		return -ENOMEM;
	length = min(length, PAGE_SIZE - offset_in_page(addr));
	while (!entry && !ret) {
		scoped_guard(mutex, &m->lock) {
			entry = m->entries[PHYS_PFN(addr - m->start)];
			if (entry) {
				void *page = hmm_pfn_kmap_local(entry);

				memcpy(bounce, page + offset_in_page(addr), length);
				hmm_pfn_kunmap_local(entry, page);
			}
		}
		if (!entry)
			ret = fatal_signal_pending(current) ? -EINTR : mirror_fault(m, addr);
	}
	/* Without the lock: this may fault, and a fault may call mirror_invalidate(). */
	if (!ret && copy_to_user(to, bounce, length))
		ret = -EFAULT;
	return ret ?: length;
}

static long sample_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct hmm_p2p_peer_desc desc = {
		.name = KBUILD_MODNAME,
		.identity = &mirror_ops,	/* one importer: the same for all mirrors */
		.mm = current->mm,
	};
	struct hmm_p2p_sample_mirror range;
	struct mirror *m;
	int ret, nr;

	if (cmd != HMM_P2P_SAMPLE_MIRROR)
		return -ENOTTY;
	if (copy_from_user(&range, (void __user *)arg, sizeof(range)))
		return -EFAULT;
	if (!PAGE_ALIGNED(range.start | range.end) || range.end - range.start - 1 >= SZ_1G)
		return -EINVAL;
	nr = PHYS_PFN(range.end - range.start);
	m = kvzalloc(struct_size(m, entries, nr), GFP_KERNEL_ACCOUNT);
	if (!m)
		return -ENOMEM;
	mutex_init(&m->lock);
	m->start = range.start;
	m->end = range.end;
	m->map.pfn_list = m->entries;
	desc.map = &m->map;
	desc.nr_entries = nr;
	ret = hmm_p2p_peer_init(&m->peer, &desc);
	if (ret)
		goto err_free;
	ret = mmu_interval_notifier_insert(&m->notifier, desc.mm, m->start, m->end - m->start,
					   &mirror_ops);
	if (ret)
		goto err_peer;
	if (cmpxchg(&file->private_data, &misc, m) == &misc)
		return 0;
	mirror_destroy(m);
	return -EEXIST;

err_peer:
	hmm_p2p_peer_destroy(&m->peer);
err_free:
	kvfree(m);
	return ret;
}

static int sample_release(struct inode *inode, struct file *file)
{
	if (file->private_data != &misc)
		mirror_destroy(file->private_data);
	return 0;
}

static const struct file_operations sample_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = sample_ioctl,
	.read = sample_read,
	.release = sample_release,
};

/* An open file's private_data is this until it mirrors a range. */
static struct miscdevice misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &sample_fops,
};
module_misc_device(misc);

MODULE_DESCRIPTION("hmm_p2p sample: a peer of devices with memory");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("HMM_P2P");
