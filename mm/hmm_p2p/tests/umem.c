// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: An ODP region of a device that masters the bus
 *
 * The RDMA device of the tests, rxe, is software: it maps nothing for DMA.  Here the regions
 * of umem_odp get an ib_device whose dma_device is a PCI device, and are mapped and unmapped as
 * a driver of hardware does.  Nothing is registered with the RDMA core, and no DMA happens.
 *
 * debugfs, hmm_p2p_umem/region; each open file is a region:
 *
 *	write "DEVICE START LENGTH"	makes it, of the caller's memory, and maps all of it: DEVICE
 *				is a PCI address, the others are in bytes and hexadecimal
 *	read			"mapped N of M, K peer": entries that are mapped for DMA, by the
 *				region's own count; entries; and how many are an alias
 */
#include <linux/debugfs.h>
#include <linux/hmm-dma.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <rdma/ib_umem_odp.h>

#define MAX_LENGTH	(16UL << 20)

/* One for each open file. */
struct umem_region {
	struct mutex lock;		/* all of it */
	struct pci_dev *pdev;
	struct ib_device *ibdev;
	struct ib_umem_odp *umem;	/* NULL: none yet */
	unsigned long nr;
};

static struct dentry *umem_dir;

static bool umem_region_invalidate(struct mmu_interval_notifier *mni,
				   const struct mmu_notifier_range *range,
				   unsigned long cur_seq)
{
	struct ib_umem_odp *umem = container_of(mni, struct ib_umem_odp, notifier);

	if (!mmu_notifier_range_blockable(range))
		return false;
	mutex_lock(&umem->umem_mutex);
	mmu_interval_set_seq(mni, cur_seq);
	ib_umem_odp_unmap_dma_pages(umem, range->start, range->end);
	mutex_unlock(&umem->umem_mutex);
	return true;
}

static const struct mmu_interval_notifier_ops umem_region_ops = {
	.invalidate = umem_region_invalidate,
};

/* As mlx5_ib does. */
static int umem_region_map(struct umem_region *region)
{
	struct pci_p2pdma_map_state state = {};
	struct ib_umem_odp *umem = region->umem;
	unsigned long i;
	int ret;

	ret = ib_umem_odp_map_dma_and_lock(umem, ib_umem_start(umem),
					   region->nr << PAGE_SHIFT,
					   HMM_PFN_VALID | HMM_PFN_WRITE, true);
	if (ret < 0)
		return ret;
	ret = 0;
	for (i = 0; i < region->nr && !ret; i++) {
		if (dma_mapping_error(&region->pdev->dev,
				      hmm_dma_map_pfn(&region->pdev->dev, &umem->map, i,
						      &state)))
			ret = -EIO;
		else
			umem->npages++;
	}
	mutex_unlock(&umem->umem_mutex);
	return ret;
}

static void umem_region_free(struct umem_region *region)
{
	if (region->umem)
		ib_umem_odp_release(region->umem);
	region->umem = NULL;
	pci_dev_put(region->pdev);
	region->pdev = NULL;
}

static int umem_region_make(struct umem_region *region, const char *text)
{
	unsigned int domain, bus, slot, function;
	unsigned long start, length;
	struct ib_umem_odp *umem;
	int ret;

	if (sscanf(text, "%x:%x:%x.%x %lx %lx", &domain, &bus, &slot, &function, &start,
		   &length) != 6 || !length || length > MAX_LENGTH)
		return -EINVAL;
	if (region->umem)
		return -EBUSY;
	region->pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
	if (!region->pdev)
		return -ENODEV;
	region->ibdev->dma_device = &region->pdev->dev;
	umem = ib_umem_odp_get(region->ibdev, start, length,
			       IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE, &umem_region_ops);
	if (IS_ERR(umem)) {
		umem_region_free(region);
		return PTR_ERR(umem);
	}
	region->umem = umem;
	region->nr = ib_umem_odp_num_pages(umem);
	ret = umem_region_map(region);
	if (ret)
		umem_region_free(region);
	return ret;
}

static ssize_t umem_region_write(struct file *file, const char __user *user, size_t size,
				 loff_t *pos)
{
	struct umem_region *region = file->private_data;
	char text[80];
	int ret;

	if (size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, size))
		return -EFAULT;
	text[size] = 0;
	mutex_lock(&region->lock);
	ret = umem_region_make(region, text);
	mutex_unlock(&region->lock);
	return ret ?: size;
}

static ssize_t umem_region_read(struct file *file, char __user *user, size_t size, loff_t *pos)
{
	struct umem_region *region = file->private_data;
	unsigned long i, peer = 0;
	char text[80];
	int len = 0;

	mutex_lock(&region->lock);
	if (region->umem) {
		mutex_lock(&region->umem->umem_mutex);
		for (i = 0; i < region->nr; i++)
			peer += !!(region->umem->map.pfn_list[i] & HMM_PFN_PEER);
		len = scnprintf(text, sizeof(text), "mapped %d of %lu, %lu peer\n",
				region->umem->npages, region->nr, peer);
		mutex_unlock(&region->umem->umem_mutex);
	}
	mutex_unlock(&region->lock);
	return simple_read_from_buffer(user, size, pos, text, len);
}

static int umem_region_open(struct inode *inode, struct file *file)
{
	struct umem_region *region = kzalloc_obj(*region);

	if (!region)
		return -ENOMEM;
	region->ibdev = kzalloc_obj(*region->ibdev);
	if (!region->ibdev) {
		kfree(region);
		return -ENOMEM;
	}
	strscpy(region->ibdev->name, "hmm_p2p_umem");
	mutex_init(&region->lock);
	file->private_data = region;
	return 0;
}

static int umem_region_release(struct inode *inode, struct file *file)
{
	struct umem_region *region = file->private_data;

	umem_region_free(region);
	kfree(region->ibdev);
	kfree(region);
	return 0;
}

static const struct file_operations umem_region_fops = {
	.owner = THIS_MODULE,
	.open = umem_region_open,
	.release = umem_region_release,
	.read = umem_region_read,
	.write = umem_region_write,
};

static int __init umem_test_init(void)
{
	umem_dir = debugfs_create_dir("hmm_p2p_umem", NULL);
	debugfs_create_file("region", 0600, umem_dir, NULL, &umem_region_fops);
	return 0;
}

static void __exit umem_test_exit(void)
{
	debugfs_remove_recursive(umem_dir);
}

module_init(umem_test_init);
module_exit(umem_test_exit);
MODULE_DESCRIPTION("ODP regions of a PCI device, for tests of hmm_p2p");
MODULE_LICENSE("GPL");
