// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Sleep and shutdown
 *
 * While the machine sleeps, nothing reaches the memory of the device.  The kernel puts a
 * machine to sleep in phases, and begins a phase when all devices have ended the one before:
 *
 *	phase		importer				exporter
 *	(tasks freeze)
 *	prepare		stops its engines and its fault		moves memory to RAM that
 *			handler					would lose its content
 *	suspend		stops its DMA
 *	suspend_late						hmm_p2p_reset_begin()
 *	(the machine sleeps)
 *	resume_early						hmm_p2p_reset_end()
 *	resume		starts its DMA
 *	complete	starts its engines and its fault handler
 *	(tasks thaw)
 *
 * The dummy is exporter and importer.  As an importer it has only engines and a fault handler.  A
 * fault handler that does not move pages may be stopped in suspend.
 *
 * An exporter begins the reset in suspend_late because importers must not wait for it in
 * suspend.  Between hmm_p2p_reset_begin() and hmm_p2p_reset_end() a fault on the memory waits,
 * in a kernel thread without end.  An importer that waits for its fault handler in suspend
 * would wait for a machine that is not asleep yet:
 *
 *	exporter, in suspend (wrong)	importer
 *	hmm_p2p_reset_begin()
 *					its fault handler waits for the page
 *					in suspend: waits for its fault handler
 *	would end the reset in resume, which does not come
 *
 * No order of devices avoids that, since two devices can import from each other.
 *
 * The freezer waits for each task that is in the kernel.  A task that waits for a command
 * holds no lock, and so it freezes where it waits (job.c): a long command does not keep the
 * machine awake.  A task that migrates memory holds page locks.  It does not freeze before it
 * has unlocked them, and so hmm_p2p_reset_begin() does not wait for frozen tasks.
 *
 * An error on the bus may be detected while the machine falls asleep, and the PCI core may recover
 * the device from it before or after the machine wakes up.  The memory is out of reach until
 * both are over: see hmm_dummy_reset_begin().
 *
 * Shutdown takes the device apart, as unbinding it does.  Tasks still run then and other
 * devices may still work: what they use is in RAM from then on, and nothing waits for memory
 * that does not come back.  A reset without an end would make the fault handler of the next
 * device wait, and that device waits for its fault handler in shutdown.
 *
 * Replace for real hardware: hmm_dummy_loses_memory() by what is known of the device.  Save the
 * registers in suspend_late.  Set up the device in resume_early before hmm_p2p_reset_end(), and
 * the windows of a small BAR with it.  Save memory without struct pages as well, if it loses its
 * content: the dummy does not do that for its scratch memory.
 */
#include <linux/delay.h>
#include <linux/pci.h>
#include <linux/pm.h>
#include <linux/suspend.h>

#include "hmm_dummy.h"

/* How often memory is looked at for pages that were locked when they were to move. */
#define EVICT_ATTEMPTS	100
/* How often DMA addresses may be short.  hmm_p2p_evict() has waited for a second then. */
#define EVICT_SHORTAGES	5

/*
 * Whether the memory loses its content in the sleep that is about to begin.  It has power in
 * suspend-to-idle only; %PM_SUSPEND_ON means hibernation.
 */
static bool hmm_dummy_loses_memory(void)
{
	return pm_suspend_target_state != PM_SUSPEND_TO_IDLE;
}

/*
 * Move all of the memory to RAM.  0, or -EBUSY if there are pages that stay locked, or if DMA
 * addresses stay short; or another errno of hmm_p2p_evict().
 */
static int hmm_dummy_evict_all(struct hmm_dummy_dev *dev)
{
	unsigned int locked = 0, shortages = 0;
	int ret;

	do {
		ret = hmm_p2p_evict(dev->engine, 0, dev->mem.paged, NULL);
		if (ret && ret != -EBUSY)
			return ret;
		if (!ret && hmm_dummy_vram_is_unused(dev))
			return 0;
		msleep(20);
	} while (ret ? ++shortages < EVICT_SHORTAGES : ++locked < EVICT_ATTEMPTS);
	return -EBUSY;
}

/* Tasks are frozen.  An error keeps the machine awake. */
static int hmm_dummy_prepare(struct device *device)
{
	struct hmm_dummy_dev *dev = dev_get_drvdata(device);
	int ret = hmm_dummy_quiesce_all(dev);

	if (ret)
		return ret;
	/*
	 * Here the kernel does not write to disks for memory.  A driver with much memory moves
	 * most of it in a notifier of register_pm_notifier() before.
	 */
	if (!READ_ONCE(dev->dead) && hmm_dummy_loses_memory())
		ret = hmm_dummy_evict_all(dev);
	if (ret)
		hmm_dummy_unquiesce(dev);
	return ret;
}

static void hmm_dummy_complete(struct device *device)
{
	hmm_dummy_unquiesce(dev_get_drvdata(device));
}

static int hmm_dummy_suspend_late(struct device *device)
{
	struct hmm_dummy_dev *dev = dev_get_drvdata(device);
	int ret = hmm_dummy_reset_begin(dev, HMM_DUMMY_RESET_SLEEP);

	/* Nothing reaches the memory of a device that is dead. */
	if (ret == -ENODEV)
		return 0;
	if (ret)
		return ret;
	/* Another driver's fault handler may have moved pages here since hmm_dummy_prepare(). */
	if (hmm_dummy_loses_memory() && !hmm_dummy_vram_is_unused(dev)) {
		hmm_dummy_reset_end(dev, HMM_DUMMY_RESET_SLEEP);
		return -EBUSY;
	}
	hmm_dummy_test_asleep(dev);
	return 0;
}

static int hmm_dummy_resume_early(struct device *device)
{
	struct hmm_dummy_dev *dev = dev_get_drvdata(device);

	/*
	 * It may have been taken out while the machine slept.  If it does not answer because of
	 * an error that PCI recovers it from, hmm_dummy_slot_reset() decides.
	 */
	if (!READ_ONCE(dev->in_error) && !READ_ONCE(dev->dead) && hmm_dummy_is_lost(dev)) {
		hmm_dummy_exporter_dead(dev);
		hmm_dummy_exports_revoke(dev);
	}
	hmm_dummy_reset_end(dev, HMM_DUMMY_RESET_SLEEP);
	return 0;
}

const struct dev_pm_ops hmm_dummy_pm_ops = {
	.prepare = pm_sleep_ptr(hmm_dummy_prepare),
	.complete = pm_sleep_ptr(hmm_dummy_complete),
	LATE_SYSTEM_SLEEP_PM_OPS(hmm_dummy_suspend_late, hmm_dummy_resume_early)
};

/*
 * The machine goes down or starts another kernel.  The device must not write to memory any
 * more.
 */
void hmm_dummy_pci_shutdown(struct pci_dev *pdev)
{
	hmm_dummy_pci_remove(pdev);
	pci_clear_master(pdev);
}
