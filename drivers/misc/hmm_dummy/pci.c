// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: A PCI device as GPU
 *
 * The driver works with any PCI device that has plain memory in its BAR 2, such as QEMU's
 * ivshmem-plain.  There is no id table, since other drivers and user space use such devices
 * as well.  A device is bound on request only:
 *
 *	echo hmm_dummy > /sys/bus/pci/devices/ADDRESS/driver_override
 *	echo ADDRESS > /sys/bus/pci/drivers_probe
 *
 * The module parameter vram_mb makes the memory larger than the BAR.  The BAR then shows
 * windows of the memory: see slots.c.
 *
 * Replace for real hardware: the probe, and hmm_dummy_is_lost() by what tells that the device
 * does not answer.
 */
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>

#include "hmm_dummy.h"

static unsigned int vram_mb;
module_param(vram_mb, uint, 0444);
MODULE_PARM_DESC(vram_mb,
		 "Memory of each PCI device, in MiB, if more than its BAR (0: as the BAR)");

static int hmm_dummy_pci_probe(struct pci_dev *pdev,
			       const struct pci_device_id *id)
{
	u64 size = pci_resource_len(pdev, VRAM_BAR);
	struct hmm_dummy_desc desc = {};
	struct hmm_dummy_dev *dev;
	int ret;

	if (!(pci_resource_flags(pdev, VRAM_BAR) & IORESOURCE_MEM) ||
	    size < VRAM_CHUNK)
		return dev_err_probe(&pdev->dev, -ENODEV,
				     "BAR %d is not memory of %lu MiB or more\n",
				     VRAM_BAR, VRAM_CHUNK >> 20);

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = pcim_request_region(pdev, VRAM_BAR, "hmm_dummy");
	if (ret)
		return ret;
	ret = pcim_p2pdma_init(pdev);
	if (ret)
		return ret;
	/* As an importer it masters the bus. */
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	ret = ret ?: hmm_dummy_test_limit_dma(pdev);
	if (ret)
		return ret;
	pci_set_master(pdev);
	/* For hmm_dummy_slot_reset(). */
	pci_save_state(pdev);

	desc.pdev = pdev;
	desc.vram_size = max(size, (u64)vram_mb << 20);
	desc.bar_size = size;
	dev = hmm_dummy_add(&desc);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	pci_set_drvdata(pdev, dev);
	return 0;
}

/*
 * Whether the memory is not there any more: the device was pulled out, or does not
 * decode its BAR.  Then the bus answers a read, and not the memory.
 */
bool hmm_dummy_is_lost(struct hmm_dummy_dev *dev)
{
	u16 command;

	if (!dev->pdev)
		return false;
	/* A read from a device that is gone has all bits set. */
	pci_read_config_word(dev->pdev, PCI_COMMAND, &command);
	return PCI_POSSIBLE_ERROR(command) || !(command & PCI_COMMAND_MEMORY);
}

/* Also called at shutdown.  If user space unbinds the device after that, it does nothing. */
void hmm_dummy_pci_remove(struct pci_dev *pdev)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	if (!dev)
		return;
	if (hmm_dummy_is_lost(dev))
		hmm_dummy_exporter_dead(dev);
	/* The device may go before its recovery from an error has ended. */
	hmm_dummy_error_resume(pdev);
	pci_set_drvdata(pdev, NULL);
	hmm_dummy_remove(dev);
}

static struct pci_driver hmm_dummy_pci_driver = {
	.name = "hmm_dummy",
	.probe = hmm_dummy_pci_probe,
	.remove = hmm_dummy_pci_remove,
	.shutdown = hmm_dummy_pci_shutdown,
	.driver.pm = pm_sleep_ptr(&hmm_dummy_pm_ops),
	.err_handler = &hmm_dummy_err_handler,
};

int hmm_dummy_pci_init(void)
{
	int ret = pci_register_driver(&hmm_dummy_pci_driver);

	if (!ret)
		hmm_dummy_test_pci_init();
	return ret;
}

void hmm_dummy_pci_exit(void)
{
	hmm_dummy_test_pci_exit();
	pci_unregister_driver(&hmm_dummy_pci_driver);
}
