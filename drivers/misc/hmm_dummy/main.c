// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The dummy GPU
 *
 * A device with memory that processes' pages can move to, and a compute engine
 * that works on the memory of processes wherever it is: the reference for
 * drivers that use hmm_p2p, and the device under its tests.
 *
 * This file: the life of a device, /dev/hmm_dummyN, and the dispatch of ioctls.
 */
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "hmm_dummy.h"

static bool hmm_dummy_have_pci;		/* the PCI driver is registered */

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

/**
 * hmm_dummy_dev_enter - keep the device from being taken apart
 * @dev: the device
 * @wait: the caller may wait for a removal that is under way
 *
 * The removal of the device waits for hmm_dummy_dev_exit(), so the caller must not wait for
 * user space before that.
 *
 * Return: 0, and the caller calls hmm_dummy_dev_exit(); -ENODEV if the device is gone or dead;
 * -EAGAIN if a removal is under way and @wait is false.
 */
int hmm_dummy_dev_enter(struct hmm_dummy_dev *dev, bool wait)
{
	if (wait)
		down_read(&dev->life);
	else if (!down_read_trylock(&dev->life))
		return -EAGAIN;
	if (!dev->gone && !READ_ONCE(dev->dead))
		return 0;
	up_read(&dev->life);
	return -ENODEV;
}

void hmm_dummy_dev_exit(struct hmm_dummy_dev *dev)
{
	up_read(&dev->life);
}

static int hmm_dummy_open(struct inode *inode, struct file *file)
{
	/* misc_deregister() waits for misc_open(), so the device stays. */
	struct hmm_dummy_dev *dev =
		container_of(file->private_data, struct hmm_dummy_dev, misc);

	file->private_data = hmm_dummy_file_open(dev);
	/* No call blocks if IOCB_NOWAIT is set, so io_uring needs no worker. */
	file->f_mode |= FMODE_NOWAIT | FMODE_CAN_ODIRECT;
	return file->private_data ? 0 : -ENOMEM;
}

static int hmm_dummy_fop_release(struct inode *inode, struct file *file)
{
	hmm_dummy_file_free(file->private_data);
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
	if (dev->exporter)
		info->caps |= HMM_DUMMY_CAP_KMAP;
	if (dev->mem.coherent_base)
		info->caps |= HMM_DUMMY_CAP_COHERENT;
	info->caps = hmm_dummy_test_caps(dev, info->caps);
	info->device_faults = atomic64_read(&dev->faults.handled);
	info->damped = atomic64_read(&dev->faults.damped);
	info->evicted = atomic64_read(&dev->migration.evicted);
	info->vram_bytes = dev->mem.paged;
	info->vram_free = (u64)READ_ONCE(dev->vram.nr_free) << PAGE_SHIFT;
	info->scratch_bytes = hmm_dummy_scratch_size(dev, NULL);
	info->stale_writes = dev->exporter ? hmm_dummy_test_stale_writes(dev) : 0;
	return 0;
}

struct hmm_dummy_ioctl {
	unsigned int min_size;	/* of the first version */
	unsigned int size;
	int (*fn)(struct hmm_dummy_ctx *ctx, void *arg);
	/*
	 * The function waits for a job or for memory of user space, which userfaultfd may
	 * watch.  It is called without hmm_dummy_dev_enter(), and calls that where it needs it.
	 */
	bool waits;
};

#define IOCTL(cmd, type, last, func, ...)				\
	[_IOC_NR(cmd)] = { offsetofend(struct type, last),		\
			   sizeof(struct type), func, ##__VA_ARGS__ }

static const struct hmm_dummy_ioctl hmm_dummy_ioctls[] = {
	IOCTL(HMM_DUMMY_INFO, hmm_dummy_info, stale_writes, hmm_dummy_info),
	IOCTL(HMM_DUMMY_MIGRATE, hmm_dummy_migrate, failed, hmm_dummy_migrate, true),
	IOCTL(HMM_DUMMY_QUERY, hmm_dummy_query, vec, hmm_dummy_query, true),
	IOCTL(HMM_DUMMY_COMMAND, hmm_dummy_command, value, hmm_dummy_command, true),
	IOCTL(HMM_DUMMY_CANCEL, hmm_dummy_cancel, cancelled, hmm_dummy_cancel),
	IOCTL(HMM_DUMMY_EXPORT, hmm_dummy_export, flags, hmm_dummy_export),
	IOCTL(HMM_DUMMY_IMPORT, hmm_dummy_import, reserved, hmm_dummy_import),
};

union hmm_dummy_arg {
	struct hmm_dummy_info info;
	struct hmm_dummy_migrate migrate;
	struct hmm_dummy_query query;
	struct hmm_dummy_command command;
	struct hmm_dummy_cancel cancel;
	struct hmm_dummy_export export;
	struct hmm_dummy_import import;
};

/**
 * hmm_dummy_copy_arg - read a structure that begins with its size
 * @arg: zeroed, @size bytes
 * @size: bytes of the kernel's version
 * @min_size: bytes of the first version
 * @user: address of the structure
 *
 * Return: 0, -EFAULT, -EINVAL if the structure is too short, or -E2BIG.
 */
int hmm_dummy_copy_arg(void *arg, size_t size, size_t min_size, void __user *user)
{
	u32 user_size;
	int ret;

	if (get_user(user_size, (u32 __user *)user))
		return -EFAULT;
	if (user_size < min_size)
		return -EINVAL;
	if (user_size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(arg, size, user, user_size);
	/* User space may have changed it since get_user(). */
	*(u32 *)arg = user_size;
	return ret;
}

static int hmm_dummy_ioctl_in_ctx(struct hmm_dummy_file *file, const struct hmm_dummy_ioctl *op,
				  void *arg)
{
	struct hmm_dummy_ctx *ctx;
	int ret;

	ret = hmm_dummy_dev_enter(file->dev, true);
	if (ret)
		return ret;
	/* The context stays as long as the file, which the caller has. */
	ctx = hmm_dummy_ctx_get(file);
	ret = PTR_ERR_OR_ZERO(ctx);
	if (!ret && !op->waits)
		ret = op->fn(ctx, arg);
	hmm_dummy_dev_exit(file->dev);
	return !ret && op->waits ? op->fn(ctx, arg) : ret;
}

static long hmm_dummy_ioctl(struct file *file, unsigned int cmd,
			    unsigned long uarg)
{
	void __user *user = (void __user *)uarg;
	const struct hmm_dummy_ioctl *op;
	union hmm_dummy_arg arg = {};
	int ret;

	if (_IOC_TYPE(cmd) != HMM_DUMMY_TYPE || _IOC_DIR(cmd) != _IOC_NONE ||
	    _IOC_SIZE(cmd) || _IOC_NR(cmd) >= ARRAY_SIZE(hmm_dummy_ioctls))
		return -ENOTTY;
	op = &hmm_dummy_ioctls[array_index_nospec(_IOC_NR(cmd), ARRAY_SIZE(hmm_dummy_ioctls))];
	/* Numbers that only io_uring uses. */
	if (!op->fn)
		return -ENOTTY;
	ret = hmm_dummy_copy_arg(&arg, op->size, op->min_size, user);
	if (ret)
		return ret;
	ret = hmm_dummy_ioctl_in_ctx(file->private_data, op, &arg);

	/* The result is a file descriptor; nothing is written back. */
	if (op->fn == hmm_dummy_export)
		return ret;
	/* Also on errors: a migration tells how far it got. */
	if (copy_to_user(user, &arg, min(arg.info.size, op->size)) && !ret)
		ret = -EFAULT;
	return ret;
}

static const struct file_operations hmm_dummy_fops = {
	.owner = THIS_MODULE,
	.open = hmm_dummy_open,
	.release = hmm_dummy_fop_release,
	.llseek = hmm_dummy_llseek,
	.read_iter = hmm_dummy_read_iter,
	.write_iter = hmm_dummy_write_iter,
	.unlocked_ioctl = hmm_dummy_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.uring_cmd = hmm_dummy_uring_cmd,
};

/**
 * hmm_dummy_add - make a device
 * @desc: what the device is like
 *
 * Return: the device, or an ERR_PTR().
 */
struct hmm_dummy_dev *hmm_dummy_add(const struct hmm_dummy_desc *desc)
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
	mutex_init(&dev->files_lock);
	mutex_init(&dev->resets_lock);
	INIT_LIST_HEAD(&dev->files);
	hmm_dummy_exports_init(dev);
	scnprintf(dev->name, sizeof(dev->name), "hmm_dummy%d", dev->id);
	dev->pdev = desc->pdev;
	dev->mem.size = desc->vram_size;
	dev->mem.bar_size = desc->bar_size;
	dev->mem.coherent_base = desc->coherent_base;
	hmm_dummy_test_dev_init(dev, desc);

	/* hmm_dummy_memory_failure() must not use the exporter before there is one. */
	dev->gone = true;
	ret = hmm_dummy_sched_init(dev);
	if (ret)
		goto err_put;
	if (dev->mem.size) {
		ret = hmm_dummy_devmem_init(dev);
		if (ret)
			goto err_sched;
		ret = hmm_dummy_exporter_init(dev);
		if (ret)
			goto err_devmem;
		ret = hmm_dummy_engine_init(dev);
		if (ret) {
			hmm_dummy_exporter_exit(dev);
			goto err_devmem;
		}
	}
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
		.parent = dev->pdev ? &dev->pdev->dev : NULL,
		/* Callers reach their own memory, and that which ptrace rules allow. */
		.mode = 0666,
	};
	ret = misc_register(&dev->misc);
	if (ret)
		goto err_exporter;
	hmm_dummy_test_dev_add(dev);
	return dev;

err_exporter:
	mutex_lock(&hmm_dummy_list_lock);
	list_del(&dev->node);
	mutex_unlock(&hmm_dummy_list_lock);
	down_write(&dev->life);
	dev->gone = true;
	up_write(&dev->life);
	if (dev->exporter) {
		hmm_dummy_engine_exit(dev);
		hmm_dummy_exporter_exit(dev);
	}
err_devmem:
	if (dev->mem.size)
		hmm_dummy_devmem_exit(dev);
err_sched:
	hmm_dummy_sched_exit(dev);
err_put:
	hmm_dummy_put(dev);
	return ERR_PTR(ret);
}

/**
 * hmm_dummy_remove - take a device apart
 * @dev: from hmm_dummy_add(); files may be open, commands and memory in use
 *
 * The data of processes moves to RAM, commands end, and calls on open files fail with -ENODEV.
 * A task may wait for user space in a fault of its command.  The removal does not wait for that
 * task, which gets -ENODEV when it comes back.
 */
void hmm_dummy_remove(struct hmm_dummy_dev *dev)
{
	struct hmm_dummy_file *file;

	hmm_dummy_test_dev_remove(dev);
	misc_deregister(&dev->misc);

	/* From here on hmm_dummy_dev_enter() fails. */
	down_write(&dev->life);
	WRITE_ONCE(dev->gone, true);
	up_write(&dev->life);
	hmm_dummy_sched_stop(dev);
	hmm_dummy_exports_revoke(dev);

	/* As an importer: end jobs, and let go of the memory of peers. */
	mutex_lock(&dev->files_lock);
	list_for_each_entry(file, &dev->files, node)
		hmm_dummy_file_close(file);
	mutex_unlock(&dev->files_lock);

	/* As an exporter: take aliases back, and move the memory to RAM. */
	if (dev->exporter) {
		hmm_dummy_engine_exit(dev);
		hmm_dummy_exporter_exit(dev);
	}
	/* Until the memory is in RAM, queries need the device in this list. */
	mutex_lock(&hmm_dummy_list_lock);
	list_del(&dev->node);
	mutex_unlock(&hmm_dummy_list_lock);
	if (dev->exporter)
		hmm_dummy_devmem_exit(dev);
	hmm_dummy_sched_exit(dev);
	hmm_dummy_put(dev);
}

static int __init hmm_dummy_init(void)
{
	int nr, ret;

	ret = hmm_dummy_fault_wq_init();
	if (ret)
		return ret;
	nr = hmm_dummy_test_init();
	if (nr < 0) {
		ret = nr;
		goto err_wq;
	}
	ret = hmm_dummy_pci_init();
	hmm_dummy_have_pci = !ret;
	/* A device may be open as soon as it exists, and then loading must not fail. */
	if (hmm_dummy_have_pci || nr)
		return 0;
	hmm_dummy_test_exit();
err_wq:
	hmm_dummy_fault_wq_exit();
	return ret;
}

static void __exit hmm_dummy_exit(void)
{
	if (hmm_dummy_have_pci)
		hmm_dummy_pci_exit();
	hmm_dummy_test_exit();
	hmm_dummy_fault_wq_exit();
	ida_destroy(&hmm_dummy_ida);
}

module_init(hmm_dummy_init);
module_exit(hmm_dummy_exit);

MODULE_DESCRIPTION("Dummy GPU with device-private memory, for hmm_p2p");
MODULE_IMPORT_NS("HMM_P2P");
MODULE_LICENSE("GPL");
