// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: A look at the devices when the machine goes down
 *
 * When the shutdown callbacks of all drivers have returned, this file warns of each PCI device
 * that still works.  Such a device would write to the memory of the next kernel.  The warning
 * in the kernel log fails the test.
 */
#include <linux/syscore_ops.h>

#include "test.h"

/* Tasks of other processors may still hold the mutex, but no device comes any more. */
static void hmm_dummy_test_shutdown(void *data)
{
	struct hmm_dummy_dev *dev;

	list_for_each_entry(dev, &hmm_dummy_list, node)
		WARN(dev->pdev && !dev->test.edu, "%s: still works after its shutdown callback\n",
		     dev->name);
}

static const struct syscore_ops shutdown_ops = {
	.shutdown = hmm_dummy_test_shutdown,
};

static struct syscore shutdown_syscore = {
	.ops = &shutdown_ops,
};

void hmm_dummy_shutdown_init(void)
{
	register_syscore(&shutdown_syscore);
}

void hmm_dummy_shutdown_exit(void)
{
	unregister_syscore(&shutdown_syscore);
}
