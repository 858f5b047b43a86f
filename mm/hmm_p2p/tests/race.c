// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Races, widened and counted
 *
 * A race window of a few instructions is too short for any test.  This module makes a task
 * linger in one of two functions, when it begins or when it returns, while its caller relies
 * on what it was told.  The module counts how often another task begins the other function
 * meanwhile:
 *
 *	first				other
 *	  (returns; lingers)
 *					  begins: they have met
 *	  its caller goes on
 *
 * Both can be any functions that take a kprobe.  The tested code does not know of the module.
 * The interface is debugfs, hmm_p2p_race/pair:
 *
 *	write "FIRST MS OTHER"	FIRST lingers for MS milliseconds before it begins
 *	write "FIRST:return MS OTHER"	... before its caller goes on
 *	write "FIRST:success MS OTHER"	... the same, if it returns an int that is not an error:
 *				otherwise its caller has no information to become out of date
 *	write "FIRST:busy MS"	FIRST returns -EBUSY for MS milliseconds from its first call on,
 *				as if it was overtaken each time
 *	write "off"		no task lingers
 *	read			"lingered N met M" since the last write; "busy" counts as lingering
 *
 *	write to plant		races with other writers, for KCSAN to find
 *	write to leak		loses some memory, for kmemleak to find
 *	write to sleep		virtio devices sleep and wake up without a reset, which the 9p
 *				transport of the root file system does not survive
 *
 * A task that lingers at the beginning of a function has interrupts disabled.  Operations
 * that need all CPUs wait for it.
 *
 * Switch /proc/sys/debug/kprobes-optimization off first.  With it, a CPU was seen to trap
 * at a probe that had just been removed, which killed the machine.  The reason is unknown.
 */
#include <linux/atomic.h>
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#define MAX_MS	20
#define MAX_BUSY_MS	5000

static DEFINE_MUTEX(race_lock);
static struct dentry *race_dir;
static char first_name[KSYM_NAME_LEN], other_name[KSYM_NAME_LEN];
static struct kretprobe *at_return;
static struct kprobe *at_first, *at_other;
static unsigned int linger_ms;
static atomic_t lingering, overtaken;
/* In jiffies; 0 before the first call. */
static atomic_long_t busy_until;
static atomic_long_t lingered, met;

static void race_linger(void)
{
	atomic_long_inc(&lingered);
	atomic_set(&overtaken, 0);
	atomic_inc(&lingering);
	mdelay(linger_ms);
	atomic_dec(&lingering);
}

static int first_begins(struct kprobe *p, struct pt_regs *regs)
{
	race_linger();
	return 0;
}

static int first_returns(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	race_linger();
	return 0;
}

static int first_succeeds(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if ((int)regs_return_value(regs) >= 0)
		race_linger();
	return 0;
}

static int first_is_busy(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	atomic_long_cmpxchg(&busy_until, 0, (jiffies + msecs_to_jiffies(linger_ms)) | 1);
	if (time_before(jiffies, (unsigned long)atomic_long_read(&busy_until))) {
		regs_set_return_value(regs, -EBUSY);
		atomic_long_inc(&lingered);
	}
	return 0;
}

static int other_begins(struct kprobe *p, struct pt_regs *regs)
{
	if (atomic_read(&lingering) && !atomic_xchg(&overtaken, 1))
		atomic_long_inc(&met);
	return 0;
}

static void race_disarm(void)
{
	if (at_return)
		unregister_kretprobe(at_return);
	if (at_first)
		unregister_kprobe(at_first);
	if (at_other)
		unregister_kprobe(at_other);
	kfree(at_return);
	kfree(at_first);
	kfree(at_other);
	at_return = NULL;
	at_first = NULL;
	at_other = NULL;
}

/* Allocate a new probe, because a used one cannot be registered again. */
static int race_arm_probe(struct kprobe **where, const char *name, kprobe_pre_handler_t handler)
{
	struct kprobe *p = kzalloc_obj(*p);
	int ret;

	if (!p)
		return -ENOMEM;
	p->symbol_name = name;
	p->pre_handler = handler;
	ret = register_kprobe(p);
	if (ret)
		kfree(p);
	else
		*where = p;
	return ret;
}

static int race_arm_return(const char *name, kretprobe_handler_t handler)
{
	struct kretprobe *p = kzalloc_obj(*p);
	int ret;

	if (!p)
		return -ENOMEM;
	p->kp.symbol_name = name;
	p->handler = handler;
	p->maxactive = 64;
	ret = register_kretprobe(p);
	if (ret)
		kfree(p);
	else
		at_return = p;
	return ret;
}

static int race_arm(char *text)
{
	char *first = strsep(&text, " "), *ms = strsep(&text, " "), *at = strchr(first, ':');
	bool busy = at && !strcmp(at, ":busy"), success = at && !strcmp(at, ":success");
	int ret;

	race_disarm();
	atomic_long_set(&lingered, 0);
	atomic_long_set(&met, 0);
	atomic_long_set(&busy_until, 0);
	if (!strcmp(first, "off") && !ms)
		return 0;
	if (!ms || busy == !!text || kstrtouint(ms, 10, &linger_ms) ||
	    linger_ms > (busy ? MAX_BUSY_MS : MAX_MS))
		return -EINVAL;
	if (at && !busy && !success && strcmp(at, ":return"))
		return -EINVAL;
	if (at)
		*at = 0;
	if (strscpy(first_name, first) < 0)
		return -EINVAL;
	if (busy)
		return race_arm_return(first_name, first_is_busy);
	if (strscpy(other_name, text) < 0)
		return -EINVAL;
	ret = race_arm_probe(&at_other, other_name, other_begins);
	if (!ret)
		ret = at ? race_arm_return(first_name, success ? first_succeeds : first_returns) :
			   race_arm_probe(&at_first, first_name, first_begins);
	if (ret)
		race_disarm();
	return ret;
}

static ssize_t pair_write(struct file *file, const char __user *user, size_t size,
			  loff_t *pos)
{
	char *text;
	int ret;

	if (size > 2 * KSYM_NAME_LEN)
		return -EINVAL;
	text = memdup_user_nul(user, size);
	if (IS_ERR(text))
		return PTR_ERR(text);
	scoped_guard(mutex, &race_lock)
		ret = race_arm(strim(text));
	kfree(text);
	return ret ?: size;
}

static ssize_t pair_read(struct file *file, char __user *user, size_t size, loff_t *pos)
{
	char text[80];
	int len = scnprintf(text, sizeof(text), "lingered %ld met %ld\n",
			    atomic_long_read(&lingered), atomic_long_read(&met));

	return simple_read_from_buffer(user, size, pos, text, len);
}

static const struct file_operations pair_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = pair_read,
	.write = pair_write,
};

static unsigned long planted;

/* A real race, for KCSAN to report. */
static ssize_t plant_write(struct file *file, const char __user *user, size_t size,
			   loff_t *pos)
{
	unsigned int i;

	for (i = 0; i < 1000000; i++) {
		planted++;
		barrier();
		cond_resched();
	}
	return size;
}

static const struct file_operations plant_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = plant_write,
};

#define LEAKS	16

/*
 * Lose several objects: the stack, and the registers of an interrupted task, may have pointers
 * to the last ones.
 */
static ssize_t leak_write(struct file *file, const char __user *user, size_t size,
			  loff_t *pos)
{
	unsigned int i;
	void *lost;

	for (i = 0; i < LEAKS; i++) {
		lost = kzalloc(64, GFP_KERNEL);
		OPTIMIZER_HIDE_VAR(lost);
	}
	return size;
}

static const struct file_operations leak_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = leak_write,
};

/*
 * The driver of virtio devices resets them when the machine wakes up.  Without its callbacks the
 * PCI core saves and restores their registers.  That is enough where the machine only steps
 * through the phases of sleep (/sys/power/pm_test).
 */
static ssize_t sleep_write(struct file *file, const char __user *user, size_t size,
			   loff_t *pos)
{
	struct pci_dev *pdev = NULL;

	while ((pdev = pci_get_device(PCI_VENDOR_ID_REDHAT_QUMRANET, PCI_ANY_ID, pdev)))
		if (pdev->dev.driver && !strcmp(pdev->dev.driver->name, "virtio-pci"))
			pdev->dev.driver->pm = NULL;
	return size;
}

static const struct file_operations sleep_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = sleep_write,
};

static int __init race_init(void)
{
	race_dir = debugfs_create_dir("hmm_p2p_race", NULL);
	debugfs_create_file("pair", 0600, race_dir, NULL, &pair_fops);
	debugfs_create_file("plant", 0200, race_dir, NULL, &plant_fops);
	debugfs_create_file("leak", 0200, race_dir, NULL, &leak_fops);
	debugfs_create_file("sleep", 0200, race_dir, NULL, &sleep_fops);
	return 0;
}

static void __exit race_exit(void)
{
	debugfs_remove_recursive(race_dir);
	race_disarm();
}

module_init(race_init);
module_exit(race_exit);
MODULE_DESCRIPTION("Widens and counts races of two functions");
MODULE_LICENSE("GPL");
