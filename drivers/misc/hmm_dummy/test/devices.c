// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Devices without hardware
 *
 * For tests without a PCI device.  The memory of such a device is pages of system memory, or
 * coherent: memory that the kernel was told not to use.  The devices exist as long as the module
 * is loaded.
 */
#include <linux/module.h>

#include "test.h"

static unsigned int reserved;
module_param(reserved, uint, 0444);
MODULE_PARM_DESC(reserved, "Number of devices without PCI to create (0)");

static unsigned int reserved_mb = 64;
module_param(reserved_mb, uint, 0444);
MODULE_PARM_DESC(reserved_mb, "Memory of each device without PCI, in MiB (64)");

static unsigned long long coherent[2];
static unsigned int nr_coherent;
module_param_array(coherent, ullong, &nr_coherent, 0444);
MODULE_PARM_DESC(coherent,
		 "Physical addresses of memory that the kernel does not use (memmap=), each for a device with coherent memory");

static unsigned int coherent_mb = 256;
module_param(coherent_mb, uint, 0444);
MODULE_PARM_DESC(coherent_mb, "Memory of each coherent device, in MiB (256)");

/* Devices in pages of system memory come first, then coherent ones. */
static int devices_add_one(unsigned int i)
{
	struct hmm_dummy_desc desc = {
		.vram_size = (u64)reserved_mb << 20,
	};

	if (i >= reserved) {
		desc.coherent_base = coherent[i - reserved];
		desc.vram_size = (u64)coherent_mb << 20;
		if (!IS_ALIGNED(desc.coherent_base, VRAM_CHUNK) || !desc.coherent_base)
			return -EINVAL;
	}
	if (!desc.vram_size)
		return -EINVAL;
	return PTR_ERR_OR_ZERO(hmm_dummy_add(&desc));
}

/*
 * Add the devices that the module parameters ask for.  A device may be open as soon as it exists,
 * and then loading must not fail.  So an error behind the first one means fewer devices.
 *
 * Returns how many there are, or an errno.
 */
int hmm_dummy_own_add(void)
{
	unsigned int i, nr = reserved + nr_coherent;
	int ret;

	for (i = 0; i < nr; i++) {
		ret = devices_add_one(i);
		if (!ret)
			continue;
		pr_err("hmm_dummy: device %u of %u without PCI: error %d\n",
		       i + 1, nr, ret);
		return i ?: ret;
	}
	return nr;
}

void hmm_dummy_own_remove(void)
{
	struct hmm_dummy_dev *dev, *next;

	list_for_each_entry_safe(dev, next, &hmm_dummy_list, node)
		if (!dev->pdev)
			hmm_dummy_remove(dev);
}
