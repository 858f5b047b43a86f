// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The short hooks
 *
 * This file has the functions of hooks.h that take a few lines.  It starts and ends the other
 * files of this folder.
 *
 * With the module parameters a test switches off what the driver can do.
 *
 * /sys/kernel/debug/fail_hmm_dummy has the settings of lib/fault-inject.c for failures that no
 * failed allocation causes: of a window that opens, of a copy and of a DMA mapping.
 */
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/fault-inject.h>
#include <linux/minmax.h>
#include <linux/module.h>

#include "test.h"

bool hmm_dummy_offers_kmap = true;
module_param_named(kmap, hmm_dummy_offers_kmap, bool, 0444);
MODULE_PARM_DESC(kmap,
		 "Offer software importers a kernel mapping of the memory (default)");

static unsigned int dma_bits = 64;
module_param(dma_bits, uint, 0444);
MODULE_PARM_DESC(dma_bits, "Bits of a bus address that PCI devices master (64)");

static unsigned int bar_offset_kb;
module_param(bar_offset_kb, uint, 0444);
MODULE_PARM_DESC(bar_offset_kb,
		 "How far behind the start of its BAR a PCI device's memory begins, in KiB, if the BAR covers it (0)");

static unsigned int bar_end_kb;
module_param(bar_end_kb, uint, 0444);
MODULE_PARM_DESC(bar_end_kb,
		 "How much of a PCI device's memory peers reach, in KiB, as if its BAR ended there (0: all of it)");

static bool async_copy = true;
module_param(async_copy, bool, 0644);
MODULE_PARM_DESC(async_copy, "Let large copies run beside the migration (default)");

static bool evict = true;
module_param(evict, bool, 0644);
MODULE_PARM_DESC(evict, "Make room by eviction when the memory is full (default)");

static unsigned int queue_depth = HMM_DUMMY_QUEUE_DEPTH;
module_param(queue_depth, uint, 0644);
MODULE_PARM_DESC(queue_depth,
		 "Commands that one process may have under way on one file (1024)");

static DECLARE_FAULT_ATTR(fail_hmm_dummy);
static struct dentry *fail_dir;

/* Before the first device.  Returns how many devices there are now, or an errno. */
int hmm_dummy_test_init(void)
{
	int ret;

	fail_dir = fault_create_debugfs_attr("fail_hmm_dummy", NULL, &fail_hmm_dummy);
	ret = hmm_dummy_own_add();
	if (ret < 0)
		debugfs_remove_recursive(fail_dir);
	else
		hmm_dummy_shutdown_init();
	return ret;
}

/* Only the devices that hmm_dummy_test_init() has added are left. */
void hmm_dummy_test_exit(void)
{
	hmm_dummy_shutdown_exit();
	hmm_dummy_own_remove();
	debugfs_remove_recursive(fail_dir);
}

/* Before anything uses the device. */
void hmm_dummy_test_dev_init(struct hmm_dummy_dev *dev, const struct hmm_dummy_desc *desc)
{
	dev->test.edu = desc->test.edu;
}

/* The device exists and may be open, so this must not fail. */
void hmm_dummy_test_dev_add(struct hmm_dummy_dev *dev)
{
	hmm_dummy_dmirror_init(dev);
	hmm_dummy_control_init(dev);
}

/* Before anything of the device goes. */
void hmm_dummy_test_dev_remove(struct hmm_dummy_dev *dev)
{
	hmm_dummy_control_exit(dev);
	hmm_dummy_dmirror_exit(dev);
}

/* HMM_DUMMY_CAP_* of the device, given those that the driver knows. */
u32 hmm_dummy_test_caps(struct hmm_dummy_dev *dev, u32 caps)
{
	if (!hmm_dummy_offers_kmap)
		caps &= ~HMM_DUMMY_CAP_KMAP;
	if (hmm_dummy_canary)
		caps |= HMM_DUMMY_CAP_CANARY;
	if (dev->test.edu)
		caps |= HMM_DUMMY_CAP_EDU;
	return caps;
}

/* Whether to fail here, as hardware does. */
bool hmm_dummy_test_fails(void)
{
	return should_fail(&fail_hmm_dummy, 1);
}

/* Whether to fail the DMA mapping of page @index of @nr.  Only the middle one can fail. */
bool hmm_dummy_test_fails_dma(unsigned long index, unsigned long nr)
{
	return index == nr / 2 && hmm_dummy_test_fails();
}

int hmm_dummy_test_limit_dma(struct pci_dev *pdev)
{
	if (dma_bits >= 64)
		return 0;
	return dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(max(dma_bits, 24u)));
}

void hmm_dummy_test_hide_kva(struct hmm_p2p_window_map *map)
{
	if (!hmm_dummy_offers_kmap)
		map->kva = NULL;
}

/* Then a huge page lies in two windows of the BAR. */
u64 hmm_dummy_test_bar_offset(void)
{
	return (u64)bar_offset_kb << 10;
}

/* Whether peers must not reach a window that ends @end bytes behind the start of the memory. */
bool hmm_dummy_test_hides(u64 end)
{
	return bar_end_kb && end > (u64)bar_end_kb << 10;
}

/* Edu needs no mapping: its engine uses the DMA address. */
bool hmm_dummy_test_may_import(struct hmm_dummy_dev *dev)
{
	return dev->test.edu || hmm_dummy_offers_kmap;
}

bool hmm_dummy_test_copies_at_once(void)
{
	return !READ_ONCE(async_copy);
}

bool hmm_dummy_test_never_evicts(void)
{
	return !READ_ONCE(evict);
}

unsigned int hmm_dummy_test_queue_depth(unsigned int depth)
{
	return READ_ONCE(queue_depth);
}
