// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: A look at the devices when the machine goes down
 *
 * All drivers' shutdown callbacks have returned then.  A device that still works would write to
 * the memory of the next kernel.  A warning in the kernel log fails the test.
 */
#include <linux/syscore_ops.h>

#include "test.h"

/* Tasks of other processors may still hold the mutex, but no device comes any more. */
static void hmm_dummy_test_shutdown(void *data)
{
	struct hmm_dummy_dev *dev;

	list_for_each_entry(dev, &hmm_dummy_list, node)
		WARN(dev->pdev && !dev->test.edu, "%s: works when the machine goes down\n",
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
