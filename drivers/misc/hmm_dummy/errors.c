// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Resets and bus errors
 *
 * The PCI core tells a driver of a reset that user space has asked for, and of errors on the
 * bus (AER).  An error ends in a reset of the slot, or in the loss of the device:
 *
 *	reset by user space		error
 *	reset_prepare()			error_detected()
 *	  the device is reset		  the slot is reset, if a driver wants that
 *					slot_reset(): sets up the device
 *	reset_done()			resume()
 *
 * From the first call to the last, nothing reaches the memory of the device, and tasks that
 * want it wait.  These times may overlap, with each other and with a sleep of the machine
 * (power.c).  Then tasks wait for the end of the last one.
 *
 * The memory must keep its content.  If the device has lost it, or does not answer, its driver
 * returns %PCI_ERS_RESULT_DISCONNECT from slot_reset().  The PCI core then calls
 * error_detected() with %pci_channel_io_perm_failure, and the driver calls hmm_p2p_dead().
 *
 * Replace for real hardware: in hmm_dummy_reset_begin(), end the copies that the device does not
 * end any more, with -EAGAIN; in hmm_dummy_slot_reset(), set up the device and find out whether
 * its memory has kept its content.
 */
#include <linux/pci.h>

#include "hmm_dummy.h"

/**
 * hmm_dummy_reset_begin - keep CPU and peers away from the memory, for one more reason
 * @dev: the device, which has memory
 * @reason: the reason
 *
 * The core knows one reset at a time.  A driver that called hmm_p2p_reset_begin() for each reason
 * would get -EBUSY for the second one, and the end of the first one would let peers reach the
 * memory again.
 *
 * Context: Process context, may sleep: see hmm_p2p_reset_begin().
 *
 * Return: 0, and the caller calls hmm_dummy_reset_end() later; -EBUSY: @reason holds already;
 * -ENODEV: the device is dead; or another errno of hmm_p2p_reset_begin().
 */
int hmm_dummy_reset_begin(struct hmm_dummy_dev *dev, enum hmm_dummy_reset_reason reason)
{
	int ret = 0;

	/*
	 * Replace for real hardware: end the copies here.  hmm_p2p_reset_begin() waits for
	 * them, and a task that waits for resets_lock waits for that.
	 */
	guard(mutex)(&dev->resets_lock);
	if (READ_ONCE(dev->dead))
		return -ENODEV;
	if (dev->resets & BIT(reason))
		return -EBUSY;
	if (!dev->resets)
		ret = hmm_p2p_reset_begin(dev->exporter);
	if (!ret)
		dev->resets |= BIT(reason);
	return ret;
}

/**
 * hmm_dummy_reset_end - undo hmm_dummy_reset_begin()
 * @dev: the device
 * @reason: the reason
 *
 * Context: Process context, may sleep; any task may call it.
 *
 * Return: 0, also if another reason holds; -EINVAL: @reason does not hold; or an errno of
 * hmm_p2p_reset_end().
 */
int hmm_dummy_reset_end(struct hmm_dummy_dev *dev, enum hmm_dummy_reset_reason reason)
{
	guard(mutex)(&dev->resets_lock);
	if (!(dev->resets & BIT(reason)))
		return -EINVAL;
	dev->resets &= ~BIT(reason);
	return dev->resets ? 0 : hmm_p2p_reset_end(dev->exporter);
}

static void hmm_dummy_reset_prepare(struct pci_dev *pdev)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	if (!dev)
		return;
	hmm_dummy_quiesce(dev);
	hmm_dummy_exports_revoke(dev);
	/*
	 * The PCI core resets the device in any case.  If peers cannot be kept away for that time,
	 * they lose the memory for good: they must not access a device that is being reset.
	 */
	if (hmm_dummy_reset_begin(dev, HMM_DUMMY_RESET_REQUEST) && !READ_ONCE(dev->dead)) {
		pci_err(pdev, "dead: peers cannot be kept away during a reset\n");
		hmm_dummy_exporter_dead(dev);
		hmm_dummy_exports_revoke(dev);
	}
}

static void hmm_dummy_reset_done(struct pci_dev *pdev)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	if (!dev)
		return;
	/* Does nothing if the device is dead. */
	hmm_dummy_reset_end(dev, HMM_DUMMY_RESET_REQUEST);
	hmm_dummy_exports_allow(dev);
	hmm_dummy_unquiesce(dev);
}

/* Whether nothing reaches the memory until hmm_dummy_error_resume(). */
static bool hmm_dummy_error_begin(struct hmm_dummy_dev *dev)
{
	if (dev->in_error)
		return true;
	hmm_dummy_quiesce(dev);
	hmm_dummy_exports_revoke(dev);
	WRITE_ONCE(dev->in_error, !hmm_dummy_reset_begin(dev, HMM_DUMMY_RESET_ERROR));
	if (!dev->in_error)
		hmm_dummy_unquiesce(dev);
	return dev->in_error;
}

static pci_ers_result_t hmm_dummy_error_detected(struct pci_dev *pdev,
						 pci_channel_state_t state)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	if (!dev)
		return PCI_ERS_RESULT_NONE;
	if (state != pci_channel_io_perm_failure && hmm_dummy_error_begin(dev))
		return state == pci_channel_io_normal ? PCI_ERS_RESULT_CAN_RECOVER :
							PCI_ERS_RESULT_NEED_RESET;
	/* Also if the reset cannot begin: peers would read from a slot that is being reset. */
	hmm_dummy_exporter_dead(dev);
	hmm_dummy_exports_revoke(dev);
	/* Jobs end, since the device is dead. */
	if (dev->in_error)
		hmm_dummy_unquiesce(dev);
	WRITE_ONCE(dev->in_error, false);
	return PCI_ERS_RESULT_DISCONNECT;
}

static pci_ers_result_t hmm_dummy_slot_reset(struct pci_dev *pdev)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	pci_restore_state(pdev);
	if (dev && (READ_ONCE(dev->dead) || hmm_dummy_is_lost(dev)))
		return PCI_ERS_RESULT_DISCONNECT;
	return PCI_ERS_RESULT_RECOVERED;
}

/* The device works again, or goes before its recovery has come to an end. */
void hmm_dummy_error_resume(struct pci_dev *pdev)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	if (!dev || !dev->in_error)
		return;
	WRITE_ONCE(dev->in_error, false);
	hmm_dummy_reset_end(dev, HMM_DUMMY_RESET_ERROR);
	hmm_dummy_exports_allow(dev);
	hmm_dummy_unquiesce(dev);
}

const struct pci_error_handlers hmm_dummy_err_handler = {
	.reset_prepare = hmm_dummy_reset_prepare,
	.reset_done = hmm_dummy_reset_done,
	.error_detected = hmm_dummy_error_detected,
	.slot_reset = hmm_dummy_slot_reset,
	.resume = hmm_dummy_error_resume,
};
