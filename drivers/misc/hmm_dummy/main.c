// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The dummy GPU
 *
 * A device with memory that processes' pages can move to, and a compute engine
 * that works on the memory of processes wherever it is: the reference for
 * drivers that use hmm_p2p, and the device under its tests.
 *
 * Here: life of a device, /dev/hmm_dummyN, and dispatch of ioctls.
 */
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "hmm_dummy.h"

static unsigned int reserved;
module_param(reserved, uint, 0444);
MODULE_PARM_DESC(reserved, "Number of devices without PCI to create (0)");

static unsigned int reserved_mb = 64;
module_param(reserved_mb, uint, 0444);
MODULE_PARM_DESC(reserved_mb, "Memory of each device without PCI, in MiB (64)");

static bool have_pci;		/* the PCI driver is registered */

DEFINE_MUTEX(hmm_dummy_list_lock);	/* hmm_dummy_list */
LIST_HEAD(hmm_dummy_list);
static DEFINE_IDA(hmm_dummy_ida);

static void hmm_dummy_release(struct kref *kref)
{
	struct hmm_dummy_dev *dev =
		container_of(kref, struct hmm_dummy_dev, kref);

	ida_free(&hmm_dummy_ida, dev->id);
	kfree(dev);
}

void hmm_dummy_put(struct hmm_dummy_dev *dev)
{
	kref_put(&dev->kref, hmm_dummy_release);
}

static int hmm_dummy_open(struct inode *inode, struct file *file)
{
	/* misc_open() keeps misc_deregister(), and so the device, waiting. */
	struct hmm_dummy_dev *dev =
		container_of(file->private_data, struct hmm_dummy_dev, misc);
	struct hmm_dummy_ctx *ctx;

	ctx = hmm_dummy_svm_open(dev);
	if (!ctx)
		return -ENOMEM;
	kref_get(&dev->kref);
	mutex_lock(&dev->ctx_lock);
	list_add(&ctx->node, &dev->contexts);
	mutex_unlock(&dev->ctx_lock);
	file->private_data = ctx;
	return 0;
}

static int hmm_dummy_fop_release(struct inode *inode, struct file *file)
{
	struct hmm_dummy_ctx *ctx = file->private_data;
	struct hmm_dummy_dev *dev = ctx->dev;

	/* Either we close it, or hmm_dummy_remove() has. */
	mutex_lock(&dev->ctx_lock);
	list_del_init(&ctx->node);
	hmm_dummy_svm_close(ctx);
	mutex_unlock(&dev->ctx_lock);
	hmm_dummy_svm_free(ctx);
	hmm_dummy_put(dev);
	return 0;
}

static int hmm_dummy_info(struct hmm_dummy_ctx *ctx, void *data)
{
	struct hmm_dummy_dev *dev = ctx->dev;
	struct hmm_dummy_info *info = data;

	if (info->flags || info->reserved)
		return -EOPNOTSUPP;
	info->caps = 0;
	if (dev->pdev)
		info->caps |= HMM_DUMMY_CAP_PCI;
	if (hmm_dummy_offers_kmap())
		info->caps |= HMM_DUMMY_CAP_KMAP;
	if (hmm_dummy_canary())
		info->caps |= HMM_DUMMY_CAP_CANARY;
	info->vram_bytes = dev->vram_size;
	info->vram_free = (u64)READ_ONCE(dev->nr_free) << PAGE_SHIFT;
	info->device_faults = atomic64_read(&dev->device_faults);
	info->stale_writes = hmm_dummy_devmem_check(dev);
	return 0;
}

struct hmm_dummy_ioctl {
	unsigned int min_size;	/* of the first version */
	unsigned int size;
	int (*fn)(struct hmm_dummy_ctx *ctx, void *arg);
};

#define IOCTL(cmd, type, last, func)					\
	[_IOC_NR(cmd)] = { offsetofend(struct type, last),		\
			   sizeof(struct type), func }

static const struct hmm_dummy_ioctl hmm_dummy_ioctls[] = {
	IOCTL(HMM_DUMMY_INFO, hmm_dummy_info, stale_writes, hmm_dummy_info),
	IOCTL(HMM_DUMMY_MIGRATE, hmm_dummy_migrate, failed, hmm_dummy_migrate),
	IOCTL(HMM_DUMMY_QUERY, hmm_dummy_query, vec, hmm_dummy_query),
	IOCTL(HMM_DUMMY_COMMAND, hmm_dummy_command, value, hmm_dummy_command),
};

union hmm_dummy_arg {
	struct hmm_dummy_info info;
	struct hmm_dummy_migrate migrate;
	struct hmm_dummy_query query;
	struct hmm_dummy_command command;
};

static long hmm_dummy_ioctl(struct file *file, unsigned int cmd,
			    unsigned long uarg)
{
	struct hmm_dummy_ctx *ctx = file->private_data;
	struct hmm_dummy_dev *dev = ctx->dev;
	void __user *user = (void __user *)uarg;
	const struct hmm_dummy_ioctl *op;
	union hmm_dummy_arg arg = {};
	u32 size;
	int ret;

	if (_IOC_TYPE(cmd) != HMM_DUMMY_TYPE || _IOC_DIR(cmd) != _IOC_NONE ||
	    _IOC_SIZE(cmd) || _IOC_NR(cmd) >= ARRAY_SIZE(hmm_dummy_ioctls))
		return -ENOTTY;
	op = &hmm_dummy_ioctls[_IOC_NR(cmd)];

	if (get_user(size, (u32 __user *)user))
		return -EFAULT;
	if (size < op->min_size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(&arg, op->size, user, size);
	if (ret)
		return ret;

	down_read(&dev->life);
	ret = dev->gone || READ_ONCE(dev->dead) ? -ENODEV : op->fn(ctx, &arg);
	up_read(&dev->life);

	/* On errors too: a migration says how far it got. */
	if (copy_to_user(user, &arg, min(size, op->size)) && !ret)
		ret = -EFAULT;
	return ret;
}

static const struct file_operations hmm_dummy_fops = {
	.owner = THIS_MODULE,
	.open = hmm_dummy_open,
	.release = hmm_dummy_fop_release,
	.unlocked_ioctl = hmm_dummy_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/**
 * hmm_dummy_add - make a device
 * @pdev: where its memory is, or NULL for reserved pages
 * @vram_size: bytes of it
 * @bar_size: bytes of it that are visible at a time; PCI only
 *
 * Return: the device, or an ERR_PTR().
 */
struct hmm_dummy_dev *hmm_dummy_add(struct pci_dev *pdev, u64 vram_size,
				    u64 bar_size)
{
	struct hmm_dummy_dev *dev;
	int ret;

	dev = kzalloc_obj(*dev);
	if (!dev)
		return ERR_PTR(-ENOMEM);
	dev->id = ida_alloc(&hmm_dummy_ida, GFP_KERNEL);
	if (dev->id < 0) {
		ret = dev->id;
		kfree(dev);
		return ERR_PTR(ret);
	}
	kref_init(&dev->kref);
	init_rwsem(&dev->life);
	mutex_init(&dev->ctx_lock);
	INIT_LIST_HEAD(&dev->contexts);
	scnprintf(dev->name, sizeof(dev->name), "hmm_dummy%d", dev->id);
	dev->pdev = pdev;
	dev->vram_size = vram_size;
	dev->bar_size = bar_size;

	/* Until there is an exporter to speak of; memory_failure() may ask. */
	dev->gone = true;
	ret = hmm_dummy_devmem_init(dev);
	if (ret)
		goto err_put;
	ret = hmm_dummy_exporter_init(dev);
	if (ret)
		goto err_devmem;
	down_write(&dev->life);
	dev->gone = false;
	up_write(&dev->life);

	mutex_lock(&hmm_dummy_list_lock);
	list_add_tail(&dev->node, &hmm_dummy_list);
	mutex_unlock(&hmm_dummy_list_lock);

	dev->misc = (struct miscdevice) {
		.minor = MISC_DYNAMIC_MINOR,
		.name = dev->name,
		.fops = &hmm_dummy_fops,
		.parent = pdev ? &pdev->dev : NULL,
		/* Memory is the caller's own, or guarded by ptrace rules. */
		.mode = 0666,
	};
	ret = misc_register(&dev->misc);
	if (ret)
		goto err_exporter;
	hmm_dummy_control_init(dev);
	return dev;

err_exporter:
	mutex_lock(&hmm_dummy_list_lock);
	list_del(&dev->node);
	mutex_unlock(&hmm_dummy_list_lock);
	down_write(&dev->life);
	dev->gone = true;
	up_write(&dev->life);
	hmm_p2p_unregister(dev->exporter);
err_devmem:
	hmm_dummy_devmem_exit(dev);
err_put:
	hmm_dummy_put(dev);
	return ERR_PTR(ret);
}

/**
 * hmm_dummy_remove - take a device apart
 * @dev: from hmm_dummy_add(); files may be open and memory may be in use
 *
 * Processes keep their data, which moves to RAM; open files say -ENODEV.
 */
void hmm_dummy_remove(struct hmm_dummy_dev *dev)
{
	struct hmm_dummy_ctx *ctx;

	hmm_dummy_control_exit(dev);
	misc_deregister(&dev->misc);

	/* Commands end here, and none begins. */
	down_write(&dev->life);
	dev->gone = true;
	up_write(&dev->life);

	/* Only now, or a query would not find the device that it asks. */
	mutex_lock(&hmm_dummy_list_lock);
	list_del(&dev->node);
	mutex_unlock(&hmm_dummy_list_lock);

	/* As importer: let go of what others lent us. */
	mutex_lock(&dev->ctx_lock);
	list_for_each_entry(ctx, &dev->contexts, node)
		hmm_dummy_svm_close(ctx);
	mutex_unlock(&dev->ctx_lock);

	/* As exporter: get everything back. */
	hmm_p2p_unregister(dev->exporter);
	hmm_dummy_devmem_exit(dev);
	hmm_dummy_put(dev);
}

/* Devices without PCI belong to the module; at most as many as asked for. */
static void remove_reserved(void)
{
	struct hmm_dummy_dev *dev, *next;

	list_for_each_entry_safe(dev, next, &hmm_dummy_list, node)
		if (!dev->pdev)
			hmm_dummy_remove(dev);
}

static int __init hmm_dummy_init(void)
{
	unsigned int i;
	int ret;

	for (i = 0; i < reserved; i++) {
		struct hmm_dummy_dev *dev =
			hmm_dummy_add(NULL, (u64)reserved_mb << 20, 0);

		if (!IS_ERR(dev))
			continue;
		ret = PTR_ERR(dev);
		pr_err("hmm_dummy: device %u of %u without PCI: error %d\n",
		       i + 1, reserved, ret);
		/*
		 * Once there is a device, somebody may have it open, and loading
		 * must not fail any more: there are fewer, then.
		 */
		if (!i)
			return ret;
		break;
	}
	ret = hmm_dummy_pci_init();
	if (ret && !reserved)
		return ret;
	have_pci = !ret;
	return 0;
}

static void __exit hmm_dummy_exit(void)
{
	if (have_pci)
		hmm_dummy_pci_exit();
	remove_reserved();
	ida_destroy(&hmm_dummy_ida);
}

module_init(hmm_dummy_init);
module_exit(hmm_dummy_exit);

MODULE_DESCRIPTION("Dummy GPU with device-private memory, for hmm_p2p");
MODULE_IMPORT_NS("HMM_P2P");
MODULE_LICENSE("GPL");
