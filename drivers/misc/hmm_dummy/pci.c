// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: A PCI device as GPU
 *
 * Any PCI device whose BAR 2 is plain memory will do; QEMU's ivshmem-plain is
 * one.  There is no id table: other drivers and user space have uses for such
 * devices, so one is bound on request only,
 *
 *	echo hmm_dummy > /sys/bus/pci/devices/ADDRESS/driver_override
 *	echo ADDRESS > /sys/bus/pci/drivers_probe
 *
 * With the module parameter vram_mb the device has that much memory, and a BAR that
 * is smaller shows windows of it: see slots.c.
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
	/* As importer it masters the bus. */
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	ret = ret ?: hmm_dummy_test_limit_dma(pdev);
	if (ret)
		return ret;
	pci_set_master(pdev);

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
 * decode its BAR, so that what is read from it means nothing.
 */
bool hmm_dummy_is_lost(struct hmm_dummy_dev *dev)
{
	u16 command;

	if (!dev->pdev)
		return false;
	/* Of a device that is gone, all bits are set. */
	pci_read_config_word(dev->pdev, PCI_COMMAND, &command);
	return PCI_POSSIBLE_ERROR(command) || !(command & PCI_COMMAND_MEMORY);
}

static void hmm_dummy_pci_remove(struct pci_dev *pdev)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	if (hmm_dummy_is_lost(dev))
		hmm_dummy_exporter_dead(dev);
	hmm_dummy_remove(dev);
}

static void hmm_dummy_reset_prepare(struct pci_dev *pdev)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	hmm_dummy_exports_revoke(dev);
	dev->in_reset = !hmm_p2p_reset_begin(dev->exporter);
	if (!dev->in_reset)
		pci_warn(pdev, "reset of a device that is in use\n");
}

static void hmm_dummy_reset_done(struct pci_dev *pdev)
{
	struct hmm_dummy_dev *dev = pci_get_drvdata(pdev);

	/* Another one's, which has kept ours from beginning, goes on. */
	if (dev->in_reset)
		hmm_p2p_reset_end(dev->exporter);
	dev->in_reset = false;
	hmm_dummy_exports_allow(dev);
}

static const struct pci_error_handlers hmm_dummy_err_handler = {
	.reset_prepare = hmm_dummy_reset_prepare,
	.reset_done = hmm_dummy_reset_done,
};

static struct pci_driver hmm_dummy_pci_driver = {
	.name = "hmm_dummy",
	.probe = hmm_dummy_pci_probe,
	.remove = hmm_dummy_pci_remove,
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
