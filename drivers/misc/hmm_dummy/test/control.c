// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Misfortune on demand
 *
 * /sys/kernel/debug/hmm_dummyN/control lets root do to the device what hardware,
 * firmware and administrators do to a real one.  One command a write:
 *
 *	revoke OFFSET LENGTH	take aliases of that part of the memory away
 *	revoke-importer NAME	take all aliases of an importing device away
 *	reset MS		reset the device, which revokes exports and takes that long,
 *				or until the writer gets a signal
 *	dead			the device is gone for good, and so are exports
 *	poison OFFSET LENGTH	that part of the memory is broken
 *	pause, resume		the engines rest: commands pile up
 *	loose 0|1		edu: do not wait for DMA under the lock of the page table
 *
 * The write returns when it is done, or with its error: -EINVAL for a command that is
 * not in the list or not for this device, and otherwise what the core said.
 *
 * /sys/kernel/debug/hmm_dummyN/edu tells what QEMU's edu is doing, and flushes how often the
 * device was told to flush the writes of peers.
 *
 * /sys/kernel/debug/fail_hmm_dummy has what lib/fault-inject.c offers, for the failures
 * that no allocation brings about: of a window that opens, a copy and a DMA mapping.
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/fault-inject.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "../hmm_dummy.h"

static int control_reset(struct hmm_dummy_dev *dev, unsigned int ms)
{
	int ret = hmm_p2p_reset_begin(dev->exporter);

	if (ret)
		return ret;
	hmm_dummy_exports_revoke(dev);
	msleep_interruptible(ms);
	hmm_dummy_exports_allow(dev);
	return hmm_p2p_reset_end(dev->exporter);
}

static int control_run(struct hmm_dummy_dev *dev, const char *command)
{
	unsigned long long offset, length;
	unsigned int ms;
	char end;

	if (!strcmp(command, "pause") || !strcmp(command, "resume")) {
		hmm_dummy_sched_pause(dev, !strcmp(command, "pause"));
		return 0;
	}
	if (sscanf(command, "loose %u%c", &ms, &end) == 1 && dev->edu) {
		hmm_dummy_edu_loose(dev->edu, ms);
		return 0;
	}
	if (!dev->exporter)
		return -EINVAL;
	if (sscanf(command, "revoke %llu %llu%c", &offset, &length, &end) == 2)
		return hmm_p2p_revoke(dev->exporter, offset, length);
	if (strstarts(command, "revoke-importer "))
		return hmm_p2p_revoke_importer(command + strlen("revoke-importer "));
	if (sscanf(command, "reset %u%c", &ms, &end) == 1)
		return control_reset(dev, ms);
	if (sscanf(command, "poison %llu %llu%c", &offset, &length, &end) == 2)
		return hmm_p2p_poison(dev->exporter, offset, length);
	if (!strcmp(command, "dead")) {
		hmm_dummy_exporter_dead(dev);
		hmm_dummy_exports_revoke(dev);
		return 0;
	}
	return -EINVAL;
}

static ssize_t control_write(struct file *file, const char __user *user,
			     size_t size, loff_t *pos)
{
	struct hmm_dummy_dev *dev = file->private_data;
	char *command;
	int ret;

	if (size > 128)
		return -EINVAL;
	command = memdup_user_nul(user, size);
	if (IS_ERR(command))
		return PTR_ERR(command);
	ret = control_run(dev, strim(command));
	kfree(command);
	return ret ?: size;
}

static const struct file_operations control_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = control_write,
};

static int edu_show(struct seq_file *m, void *v)
{
	struct hmm_dummy_dev *dev = m->private;

	hmm_dummy_edu_show(dev->edu, m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(edu);

void hmm_dummy_control_init(struct hmm_dummy_dev *dev)
{
	dev->debugfs = debugfs_create_dir(dev->name, NULL);
	debugfs_create_file("control", 0200, dev->debugfs, dev, &control_fops);
	if (dev->edu)
		debugfs_create_file("edu", 0400, dev->debugfs, dev, &edu_fops);
	else
		debugfs_create_u64("flushes", 0400, dev->debugfs, &dev->flushes);
}

static DECLARE_FAULT_ATTR(fail_hmm_dummy);
static struct dentry *fail_dir;

/* Whether hardware is to fail here. */
bool hmm_dummy_fails(void)
{
	return should_fail(&fail_hmm_dummy, 1);
}

void hmm_dummy_fail_init(void)
{
	fail_dir = fault_create_debugfs_attr("fail_hmm_dummy", NULL, &fail_hmm_dummy);
}

void hmm_dummy_fail_exit(void)
{
	debugfs_remove_recursive(fail_dir);
}

/* Waits for writes that are under way; there are none afterwards. */
void hmm_dummy_control_exit(struct hmm_dummy_dev *dev)
{
	debugfs_remove_recursive(dev->debugfs);
}
