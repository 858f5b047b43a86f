// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Failures of the device on demand
 *
 * /sys/kernel/debug/hmm_dummyN/control lets root do to the device what hardware, firmware and
 * administrators do to a real one.  A write is one command:
 *
 *	revoke OFFSET LENGTH	take back the aliases of a part of the memory
 *	revoke-importer NAME	take back all aliases of an importing device
 *	reset MS		reset the device and revoke its exports.  The reset takes MS
 *				milliseconds, a minute at most; a signal to the writer ends it
 *				earlier
 *	error, recover		PCI detects an error, and has recovered the device from it
 *	error-asleep		PCI detects an error when the machine sleeps the next time
 *	recover-asleep		... and recovers the device from it, before the machine wakes up
 *	dead			the device dies, and its exports are revoked
 *	poison OFFSET LENGTH	a part of the memory breaks
 *	pause, resume		the engines rest, and jobs wait; the engines go on
 *	loose 0|1		edu does not wait for DMA under the lock of the page table
 *
 * The write returns when the command is done, or fails: -EINVAL for a command that is not in the
 * list or not for this device, and otherwise the errno of the core.
 *
 * The other files in that folder:
 *
 *	edu		of edu: what it is doing
 *	flushes		of other devices: how often the device was told to flush the writes of peers
 *	copied		if edu makes the device's copies (edu.c): how many bytes it has copied
 *	copy_fails	... the number of the piece at which each copy fails from now on; 0: none
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "test.h"

#define RESET_MAX_MS	60000

static int control_reset(struct hmm_dummy_dev *dev, unsigned int ms)
{
	int ret;

	/* Until the end of the reset, tasks wait, and so does the removal of the device. */
	if (ms > RESET_MAX_MS)
		return -EINVAL;
	ret = hmm_dummy_reset_begin(dev, HMM_DUMMY_RESET_TEST);
	if (ret)
		return ret;
	hmm_dummy_exports_revoke(dev);
	msleep_interruptible(ms);
	hmm_dummy_exports_allow(dev);
	return hmm_dummy_reset_end(dev, HMM_DUMMY_RESET_TEST);
}

/*
 * As the PCI core calls the driver.  The removal of the device has the lock while it waits for
 * the end of this write.
 */
static int control_error(struct hmm_dummy_dev *dev)
{
	pci_ers_result_t result;

	if (!device_trylock(&dev->pdev->dev))
		return -EBUSY;
	result = hmm_dummy_err_handler.error_detected(dev->pdev, pci_channel_io_frozen);
	device_unlock(&dev->pdev->dev);
	return result == PCI_ERS_RESULT_NEED_RESET ? 0 : -ENODEV;
}

static int control_recover(struct hmm_dummy_dev *dev)
{
	pci_ers_result_t result;

	if (!device_trylock(&dev->pdev->dev))
		return -EBUSY;
	result = hmm_dummy_err_handler.slot_reset(dev->pdev);
	if (result == PCI_ERS_RESULT_RECOVERED)
		hmm_dummy_err_handler.resume(dev->pdev);
	device_unlock(&dev->pdev->dev);
	return result == PCI_ERS_RESULT_RECOVERED ? 0 : -ENODEV;
}

/* The machine sleeps, and its tasks are frozen. */
void hmm_dummy_test_asleep(struct hmm_dummy_dev *dev)
{
	if (dev->test.error_asleep)
		control_error(dev);
	if (dev->test.recover_asleep)
		control_recover(dev);
	dev->test.error_asleep = false;
	dev->test.recover_asleep = false;
}

static int control_pci_command(struct hmm_dummy_dev *dev, const char *command)
{
	if (!strcmp(command, "error"))
		return control_error(dev);
	if (!strcmp(command, "recover"))
		return control_recover(dev);
	dev->test.recover_asleep = !strcmp(command, "recover-asleep");
	dev->test.error_asleep = dev->test.recover_asleep || !strcmp(command, "error-asleep");
	return dev->test.error_asleep ? 0 : -EINVAL;
}

/* Let the engines rest, or go on. */
static void control_pause(struct hmm_dummy_dev *dev, bool pause)
{
	spin_lock(&dev->sched.lock);
	dev->test.paused = pause;
	spin_unlock(&dev->sched.lock);
	hmm_dummy_engines_wake(dev);
}

/* Whether the engines rest.  The caller holds dev->sched.lock. */
bool hmm_dummy_test_paused(struct hmm_dummy_dev *dev)
{
	return dev->test.paused;
}

/* The core tells the device to flush the writes of peers. */
void hmm_dummy_test_flush(struct hmm_dummy_dev *dev)
{
	WRITE_ONCE(dev->test.flushes, dev->test.flushes + 1);
	hmm_dummy_held_flush(dev);
}

static int control_command(struct hmm_dummy_dev *dev, const char *command)
{
	unsigned long long offset, length;
	unsigned int ms;
	char end;

	if (!strcmp(command, "pause") || !strcmp(command, "resume")) {
		control_pause(dev, !strcmp(command, "pause"));
		return 0;
	}
	if (sscanf(command, "loose %u%c", &ms, &end) == 1 && dev->test.edu) {
		hmm_dummy_edu_loose(dev->test.edu, ms);
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
	return dev->pdev ? control_pci_command(dev, command) : -EINVAL;
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
	ret = control_command(dev, strim(command));
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

	hmm_dummy_edu_show(dev->test.edu, m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(edu);

void hmm_dummy_control_init(struct hmm_dummy_dev *dev)
{
	dev->test.debugfs = debugfs_create_dir(dev->name, NULL);
	debugfs_create_file("control", 0200, dev->test.debugfs, dev, &control_fops);
	if (dev->test.edu)
		debugfs_create_file("edu", 0400, dev->test.debugfs, dev, &edu_fops);
	else
		debugfs_create_u64("flushes", 0400, dev->test.debugfs, &dev->test.flushes);
	if (dev->test.copier) {
		debugfs_create_u64("copied", 0400, dev->test.debugfs, &dev->test.copied);
		debugfs_create_u32("copy_fails", 0600, dev->test.debugfs,
				   &dev->test.copy_fails);
	}
}

/* Waits for writes to the files that are under way. */
void hmm_dummy_control_exit(struct hmm_dummy_dev *dev)
{
	debugfs_remove_recursive(dev->test.debugfs);
}
