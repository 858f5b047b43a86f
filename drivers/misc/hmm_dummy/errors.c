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
 * want it wait.  The memory must keep its content.  A driver whose device has lost it, or does
 * not answer, returns %PCI_ERS_RESULT_DISCONNECT from slot_reset().  The PCI core then calls
 * error_detected() with %pci_channel_io_perm_failure, and the driver calls hmm_p2p_dead().
 *
 * Replace for real hardware: before hmm_p2p_reset_begin() in hmm_dummy_error_detected(), end
 * the copies that the device does not end any more, with -EAGAIN; in hmm_dummy_slot_reset(),
 * set up the device and find out whether its memory has kept its content.
 */
#include <linux/pci.h>

#include "hmm_dummy.h"

static void hmm_dummy_reset_prepare(struct pci_dev *pdev)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	if (!dev)
		return;
	hmm_dummy_quiesce(dev);
	hmm_dummy_exports_revoke(dev);
	dev->in_user_reset = !hmm_p2p_reset_begin(dev->exporter);
	if (!dev->in_user_reset)
		pci_warn(pdev, "reset of a device that is in use\n");
}

static void hmm_dummy_reset_done(struct pci_dev *pdev)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	if (!dev)
		return;
	/* If hmm_p2p_reset_begin() has failed, the reset is that of another caller. */
	if (dev->in_user_reset)
		hmm_p2p_reset_end(dev->exporter);
	dev->in_user_reset = false;
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
	dev->in_error = !hmm_p2p_reset_begin(dev->exporter);
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
	dev->in_error = false;
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
	dev->in_error = false;
	hmm_p2p_reset_end(dev->exporter);
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
