// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Scratch memory that is pinned for a peer
 *
 * What devices do without hmm_p2p, for comparison: a driver exports a piece of its memory as a
 * dma-buf, and the driver of a peer maps it once and keeps the mapping.  There is no fault and no
 * invalidation.  But a process has to ask this driver for the memory, the memory cannot move,
 * and nothing else can use it.
 *
 * The owner revokes an export when the device is reset, dies or is removed.  It does not wait
 * for user space: exporter and importer are both in this file, and the importer unmaps at once.
 * Other drivers may not attach.
 *
 * Only edu uses the DMA addresses.  The engines of the dummy are the CPU, which cannot, and
 * dma-buf has no kernel mapping that can be revoked.  So they use the exporter's mapping of
 * the BAR directly.
 */
#include <linux/dma-buf.h>
#include <linux/dma-buf-mapping.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/iommu-dma.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>

#include "hmm_dummy.h"

/* The exporter's side; dma_buf.priv. */
struct scratch_export {
	struct hmm_dummy_dev *dev;
	struct list_head node;		/* dev->exports.lock */
	struct dma_buf *dmabuf;
	struct phys_vec where;		/* in the BAR */
	bool revoked;			/* the reservation lock */
};

/* The importer's side; dma_buf_attachment.importer_priv. */
struct hmm_dummy_pinned {
	struct dma_buf_attachment *attach;	/* file->lock; NULL: detached */
	struct sg_table *sgt;		/* the reservation lock; NULL: unmapped */
	u64 size;
	dma_addr_t dma;
	void *kva;
	struct rw_semaphore lock;	/* innermost; held over accesses */
	bool there;			/* lock: not revoked */
};

static const struct dma_buf_attach_ops pinned_ops;

static int scratch_export_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	return attach->importer_ops == &pinned_ops ? 0 : -EOPNOTSUPP;
}

static struct sg_table *scratch_export_map(struct dma_buf_attachment *attach,
					   enum dma_data_direction dir)
{
	struct scratch_export *exp = attach->dmabuf->priv;
	struct sg_table *sgt;

	dma_resv_assert_held(attach->dmabuf->resv);
	/* The device exists until its exports are revoked. */
	if (exp->revoked)
		return ERR_PTR(-ENODEV);
	if (hmm_dummy_test_fails())
		return ERR_PTR(-EIO);
	sgt = dma_buf_phys_vec_to_sgt(attach, pcim_p2pdma_provider(exp->dev->pdev, VRAM_BAR),
				      &exp->where, 1, exp->where.len, dir);
	/* -EINVAL means that p2pdma finds no way between the two devices. */
	return sgt == ERR_PTR(-EINVAL) ? ERR_PTR(-EOPNOTSUPP) : sgt;
}

static void scratch_export_release(struct dma_buf *dmabuf)
{
	struct scratch_export *exp = dmabuf->priv;
	struct hmm_dummy_dev *dev = exp->dev;

	mutex_lock(&dev->exports.lock);
	list_del(&exp->node);
	mutex_unlock(&dev->exports.lock);
	kfree(exp);
	hmm_dummy_put(dev);
}

static const struct dma_buf_ops scratch_export_ops = {
	.attach = scratch_export_attach,
	.map_dma_buf = scratch_export_map,
	.unmap_dma_buf = dma_buf_free_sgt,
	.release = scratch_export_release,
};

static int scratch_export_create(struct hmm_dummy_dev *dev)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct scratch_export *exp;
	struct dma_buf *dmabuf;
	int fd;

	lockdep_assert_held(&dev->exports.lock);
	if (dev->exports.closed)
		return -EBUSY;
	exp = kzalloc_obj(*exp, GFP_KERNEL_ACCOUNT);
	if (!exp)
		return -ENOMEM;
	exp->dev = dev;
	exp->where.paddr = dev->mem.bar_phys + dev->mem.paged;
	exp->where.len = hmm_dummy_scratch_size(dev, NULL);
	info.ops = &scratch_export_ops;
	info.size = exp->where.len;
	info.flags = O_RDWR | O_CLOEXEC;
	info.priv = exp;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		kfree(exp);
		return PTR_ERR(dmabuf);
	}
	/* From here on scratch_export_release() frees it. */
	kref_get(&dev->kref);
	exp->dmabuf = dmabuf;
	list_add(&exp->node, &dev->exports.list);
	fd = dma_buf_fd(dmabuf, O_CLOEXEC);
	if (fd < 0)
		dma_buf_put(dmabuf);
	return fd;
}

/* HMM_DUMMY_EXPORT */
int hmm_dummy_export(struct hmm_dummy_ctx *ctx, void *data)
{
	struct hmm_dummy_export *arg = data;
	struct hmm_dummy_dev *dev = ctx->dev;
	int ret;

	if (arg->flags || !dev->pdev || dev->slots.nr || !hmm_dummy_scratch_size(dev, NULL))
		return -EOPNOTSUPP;
	mutex_lock(&dev->exports.lock);
	ret = scratch_export_create(dev);
	mutex_unlock(&dev->exports.lock);
	return ret;
}

static void scratch_export_revoke(struct scratch_export *exp)
{
	struct dma_buf *dmabuf = exp->dmabuf;

	dma_resv_lock(dmabuf->resv, NULL);
	exp->revoked = true;
	/* There are no fences to wait for: pinned_invalidate() waits for accesses. */
	dma_buf_invalidate_mappings(dmabuf);
	dma_resv_unlock(dmabuf->resv);
}

/**
 * hmm_dummy_exports_revoke - revoke all exports of a device
 * @dev: the device
 *
 * When this returns, no peer has the scratch memory mapped.  HMM_DUMMY_EXPORT fails until
 * hmm_dummy_exports_allow() has been called as often as this.
 *
 * Context: Process context.  Waits for accesses that are under way.
 */
void hmm_dummy_exports_revoke(struct hmm_dummy_dev *dev)
{
	struct scratch_export *exp;

	mutex_lock(&dev->exports.lock);
	dev->exports.closed++;
	list_for_each_entry(exp, &dev->exports.list, node) {
		/* If not, scratch_export_release() waits for the mutex, and no peer maps it. */
		if (!get_file_active(&exp->dmabuf->file))
			continue;
		scratch_export_revoke(exp);
		fput(exp->dmabuf->file);
	}
	mutex_unlock(&dev->exports.lock);
}

/* Undo hmm_dummy_exports_revoke(), but for the exports that it has revoked. */
void hmm_dummy_exports_allow(struct hmm_dummy_dev *dev)
{
	mutex_lock(&dev->exports.lock);
	dev->exports.closed--;
	mutex_unlock(&dev->exports.lock);
}

void hmm_dummy_exports_init(struct hmm_dummy_dev *dev)
{
	mutex_init(&dev->exports.lock);
	INIT_LIST_HEAD(&dev->exports.list);
}

/*
 * Unmap, because the export is revoked or the importer closes it.  A driver of hardware stops its
 * engines where this takes pinned->lock.
 */
static void pinned_invalidate(struct dma_buf_attachment *attach)
{
	struct hmm_dummy_pinned *pinned = attach->importer_priv;

	dma_resv_assert_held(attach->dmabuf->resv);
	if (!pinned->sgt)
		return;
	down_write(&pinned->lock);
	pinned->there = false;
	up_write(&pinned->lock);
	dma_buf_unmap_attachment(attach, pinned->sgt, DMA_BIDIRECTIONAL);
	dma_buf_unpin(attach);
	pinned->sgt = NULL;
}

static const struct dma_buf_attach_ops pinned_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = pinned_invalidate,
};

/* Whether the device can address that.  Behind a switch an address in a BAR is a bus address. */
static bool pinned_can_master(struct device *dev, u64 addr, u64 length)
{
	return addr + length - 1 <= min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);
}

static int pinned_map(struct hmm_dummy_pinned *pinned)
{
	struct dma_buf_attachment *attach = pinned->attach;
	struct scratch_export *exp = attach->dmabuf->priv;
	int ret;

	dma_resv_assert_held(attach->dmabuf->resv);
	/* Without an IOMMU the DMA API warns about an address that the device cannot reach. */
	if (!use_dma_iommu(attach->dev) &&
	    !pinned_can_master(attach->dev, exp->where.paddr, exp->where.len))
		return -EOPNOTSUPP;
	ret = dma_buf_pin(attach);
	if (ret)
		return ret;
	pinned->sgt = dma_buf_map_attachment(attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(pinned->sgt)) {
		ret = PTR_ERR(pinned->sgt);
		pinned->sgt = NULL;
		dma_buf_unpin(attach);
		return ret;
	}
	pinned->dma = sg_dma_address(pinned->sgt->sgl);
	/* There is no IOMMU between devices behind a switch.  One entry has up to 4 GiB. */
	if (pinned->sgt->nents > 1 || !pinned_can_master(attach->dev, pinned->dma, pinned->size)) {
		pinned_invalidate(attach);
		return -EOPNOTSUPP;
	}
	pinned->kva = exp->dev->mem.bar_kva + exp->dev->mem.paged;
	pinned->there = true;
	return 0;
}

static struct hmm_dummy_pinned *pinned_create(struct hmm_dummy_dev *dev,
					      struct dma_buf *dmabuf)
{
	struct hmm_dummy_pinned *pinned;
	int ret;

	if (dmabuf->ops != &scratch_export_ops || !hmm_dummy_test_may_import(dev))
		return ERR_PTR(-EOPNOTSUPP);
	pinned = kzalloc_obj(*pinned, GFP_KERNEL_ACCOUNT);
	if (!pinned)
		return ERR_PTR(-ENOMEM);
	init_rwsem(&pinned->lock);
	pinned->size = dmabuf->size;
	pinned->attach = dma_buf_dynamic_attach(dmabuf, &dev->pdev->dev, &pinned_ops,
						pinned);
	if (IS_ERR(pinned->attach)) {
		ret = PTR_ERR(pinned->attach);
		goto err;
	}
	dma_resv_lock(dmabuf->resv, NULL);
	ret = pinned_map(pinned);
	dma_resv_unlock(dmabuf->resv);
	if (!ret)
		return pinned;
	dma_buf_detach(dmabuf, pinned->attach);
err:
	kfree(pinned);
	return ERR_PTR(ret);
}

/* HMM_DUMMY_IMPORT */
int hmm_dummy_import(struct hmm_dummy_ctx *ctx, void *data)
{
	struct hmm_dummy_import *arg = data;
	struct hmm_dummy_file *file = ctx->file;
	struct hmm_dummy_pinned *pinned = ERR_PTR(-EBUSY);
	struct dma_buf *dmabuf;

	if (arg->flags || arg->reserved || !ctx->dev->pdev)
		return -EOPNOTSUPP;
	dmabuf = dma_buf_get(arg->fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	mutex_lock(&file->lock);
	if (!file->pinned)
		pinned = pinned_create(ctx->dev, dmabuf);
	if (!IS_ERR(pinned)) {
		/* Pairs with hmm_dummy_file_pinned(). */
		smp_store_release(&file->pinned, pinned);
	}
	mutex_unlock(&file->lock);
	/* On success hmm_dummy_pinned_close() puts the reference. */
	if (IS_ERR(pinned))
		dma_buf_put(dmabuf);
	return PTR_ERR_OR_ZERO(pinned);
}

/* The memory that the file has imported, which lives as long as the file, or NULL. */
struct hmm_dummy_pinned *hmm_dummy_file_pinned(struct hmm_dummy_file *file)
{
	/* Pairs with hmm_dummy_import(). */
	return smp_load_acquire(&file->pinned);
}

/* Unmap and detach what the file has imported.  No job of the file runs. */
void hmm_dummy_pinned_close(struct hmm_dummy_file *file)
{
	struct hmm_dummy_pinned *pinned = file->pinned;
	struct dma_buf *dmabuf;

	lockdep_assert_held(&file->lock);
	if (!pinned || !pinned->attach)
		return;
	dmabuf = pinned->attach->dmabuf;
	dma_resv_lock(dmabuf->resv, NULL);
	pinned_invalidate(pinned->attach);
	dma_resv_unlock(dmabuf->resv);
	dma_buf_detach(dmabuf, pinned->attach);
	pinned->attach = NULL;
	dma_buf_put(dmabuf);
}

/* Bytes of what is imported, or of @dev's own. */
u64 hmm_dummy_scratch_size(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned)
{
	return pinned ? pinned->size : dev->mem.size - dev->mem.paged;
}

static bool pinned_get(struct hmm_dummy_pinned *pinned)
{
	down_read(&pinned->lock);
	if (pinned->there)
		return true;
	up_read(&pinned->lock);
	return false;
}

/**
 * hmm_dummy_scratch_get - access scratch memory, as hmm_dummy_vram_get()
 * @dev: the device; its engine accesses the memory
 * @pinned: imported memory; NULL: the device's own
 * @pos: bytes from the start of the scratch memory
 *
 * The caller calls hmm_dummy_scratch_put() after the access, and does not sleep before.
 *
 * Return: the address, valid up to the end of the chunk, or NULL if the memory was revoked.
 */
void *hmm_dummy_scratch_get(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned,
			    u64 pos)
{
	if (!pinned)
		return hmm_dummy_vram_get(dev, dev->mem.paged + pos);
	return pinned_get(pinned) ? pinned->kva + pos : NULL;
}

/**
 * hmm_dummy_pinned_get_dma - let hardware access imported memory
 * @pinned: from hmm_dummy_file_pinned(), not NULL
 * @pos: bytes from the start of the memory
 * @dma: set to the DMA address
 *
 * The caller calls hmm_dummy_scratch_put() when the hardware is done.  A revocation waits for
 * that.
 *
 * Return: false if the memory was revoked.
 */
bool hmm_dummy_pinned_get_dma(struct hmm_dummy_pinned *pinned, u64 pos, dma_addr_t *dma)
{
	*dma = pinned->dma + pos;
	return pinned_get(pinned);
}

/* After hmm_dummy_scratch_get() or hmm_dummy_pinned_get_dma(), with the same arguments. */
void hmm_dummy_scratch_put(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned)
{
	if (!pinned) {
		hmm_dummy_vram_put(dev);
		return;
	}
	/* The BAR is mapped write-combining: see hmm_dummy_vram_put(). */
	wmb();
	up_read(&pinned->lock);
}

MODULE_IMPORT_NS("DMA_BUF");
