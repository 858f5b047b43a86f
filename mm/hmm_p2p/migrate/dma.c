// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: DMA addresses of copies
 *
 * If a device copies by DMA, its driver sets &hmm_p2p_engine_desc.dma_copies.  For each copy, the
 * engine then maps the other side for hmm_p2p_engine_desc.dev.  The other side is RAM or the
 * memory of another device.  Terms:
 *
 *	extent	memory that one call of the DMA API maps
 *	piece	what the driver gets (struct hmm_p2p_dma_copy): bytes that follow one another
 *		in device memory and in DMA space.  Extents that are neighbours in both make
 *		one piece.  A piece is no longer than dma_get_max_seg_size() of the device,
 *		and does not cross its dma_get_seg_boundary()
 *
 * There are three ways to map:
 *
 *	bus	The memory of another device behind the same switch has a bus address.
 *		Nothing is mapped.
 *	IOVA	An IOMMU gives the whole copy one range of addresses.  The extents are linked
 *		into it one behind the other, and the IOTLB is flushed once.
 *	each	Without an IOMMU, or if it has no such range, each extent is mapped by
 *		itself.  The DMA API may bounce an extent.
 *
 * The DMA API may have too few addresses or bounce buffers for all of a copy.  The driver then
 * copies it in parts, one call of its copy op after the other (copy.c).  A part is what can be
 * mapped while the part before is unmapped, and at least one page.
 *
 * The pages stay locked until they are unmapped: data that was bounced arrives in its page
 * only then.  When a mapping ends:
 *
 *	The copy has ended or failed: the task that waits for it unmaps.
 *	The copy is abandoned (copy.c), and the device reads from the mapping: the task unmaps
 *	at once.
 *	The copy is abandoned, and the device writes to the mapping: it stays, because its
 *	addresses must not become those of other memory while the device may use them.  It
 *	ends with hmm_p2p_copy_done(), or with the engine if that is first: a driver keeps
 *	its device until hmm_p2p_engine_unregister() has returned, and no longer.
 *	The same without an IOMMU, and the engine ends first: nothing stops the device.  Its
 *	bounce buffers stay in use for ever, as the pages of such a copy do (copy.c).
 */
#include <kunit/static_stub.h>
#include <kunit/visibility.h>
#include <linux/dma-mapping.h>
#include <linux/export.h>
#include <linux/hmm.h>
#include <linux/iommu-dma.h>
#include <linux/list.h>
#include <linux/minmax.h>
#include <linux/mutex.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>
#include <linux/swiotlb.h>

#include "internal.h"

/* No other lock of ours is taken in it; the DMA API unmaps under it. */
static DEFINE_MUTEX(late_mappings_lock);
static LIST_HEAD(late_mappings);	/* late_mappings_lock; of abandoned copies */

/* The bounce buffers may lie beyond the addresses of @dev, too: most often they end below 4 GiB. */
static bool dma_reaches_bounce_buffers(struct device *dev)
{
	u64 limit = min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);

	if (!is_swiotlb_active(dev))
		return false;
	/* A pool that the firmware has set aside for the device is within its reach. */
	return is_swiotlb_for_alloc(dev) || default_swiotlb_limit() <= limit;
}

/*
 * hmm_p2p_dma_reaches_ram - whether each page of RAM can be mapped for a device
 * @dev: the device, which has a DMA mask
 *
 * Return: false if RAM lies beyond the addresses of @dev, and nothing translates or bounces.
 */
bool hmm_p2p_dma_reaches_ram(struct device *dev)
{
	return use_dma_iommu(dev) || !dma_addressing_limited(dev) ||
	       dma_reaches_bounce_buffers(dev);
}

/* How many pieces a page may be cut into. */
static unsigned int dma_pieces_per_page(struct hmm_p2p_dma *dma)
{
	return max(1UL, PAGE_SIZE / dma->max_piece);
}

/* Set the limits of the device for a piece and for an extent. */
static void dma_set_limits(struct hmm_p2p_dma *dma)
{
	struct device *dev = dma->dev;

	dma->boundary = dma_get_seg_boundary(dev);
	/* A boundary of ULONG_MAX is none. */
	dma->max_piece = min_not_zero(dma->boundary + 1,
				      (unsigned long)dma_get_max_seg_size(dev));
	/* Whole pages, or pieces that fill a page and cross no boundary. */
	if (dma->max_piece < PAGE_SIZE)
		dma->max_piece = rounddown_pow_of_two(dma->max_piece);
	else
		dma->max_piece = ALIGN_DOWN(dma->max_piece, PAGE_SIZE);
	dma->max_extent = max(ALIGN_DOWN(dma_max_mapping_size(dev), PAGE_SIZE), PAGE_SIZE);
}

/* A batch keeps the room for its mappings, and the next copy uses it if it is large enough. */
static struct hmm_p2p_dma *dma_get_room(struct hmm_p2p_batch *b)
{
	struct hmm_p2p_dma limits = { .dev = b->engine->desc.dev }, *dma = b->dma;
	unsigned long nr_pages = b->job.nr_pages, nr_pieces;

	dma_set_limits(&limits);
	nr_pieces = nr_pages * dma_pieces_per_page(&limits);
	if (!dma || dma->room_extents < nr_pages || dma->room_pieces < nr_pieces) {
		kvfree(dma);
		dma = kvmalloc(struct_size(dma, extents, nr_pages) +
			       nr_pieces * sizeof(*dma->pieces), GFP_KERNEL);
		b->dma = dma;
		if (!dma)
			return NULL;
		limits.room_extents = nr_pages;
		limits.room_pieces = nr_pieces;
	} else {
		limits.room_extents = dma->room_extents;
		limits.room_pieces = dma->room_pieces;
	}
	*dma = limits;
	dma->pieces = (struct hmm_p2p_dma_copy *)&dma->extents[dma->room_extents];
	return dma;
}

/* Whether @next may be a part of the piece in front of it. */
static bool dma_piece_follows(struct hmm_p2p_dma *dma, const struct hmm_p2p_dma_copy *next)
{
	const struct hmm_p2p_dma_copy *last = dma->nr ? &dma->pieces[dma->nr - 1] : NULL;

	if (!last || last->bytes == dma->max_piece || last->clear != next->clear ||
	    last->offset + last->bytes != next->offset)
		return false;
	return next->clear || (last->addr + last->bytes == next->addr &&
			       next->addr & dma->boundary);
}

/*
 * hmm_p2p_dma_add_pieces - add bytes that follow one another on both sides
 * @dma: the mapping to add them to
 * @rest: the bytes
 *
 * Extends the last piece if the bytes follow it, and makes new pieces of the rest.
 */
VISIBLE_IF_KUNIT
void hmm_p2p_dma_add_pieces(struct hmm_p2p_dma *dma, struct hmm_p2p_dma_copy rest)
{
	size_t n;

	for (; rest.bytes; rest.bytes -= n, rest.offset += n) {
		n = min(rest.bytes, dma->max_piece);
		/* Count up to the last byte before the boundary: the address behind it may be 0. */
		if (!rest.clear)
			n = min(n - 1, dma->boundary - (rest.addr & dma->boundary)) + 1;
		if (dma_piece_follows(dma, &rest)) {
			struct hmm_p2p_dma_copy *last = &dma->pieces[dma->nr - 1];

			n = min(n, dma->max_piece - last->bytes);
			last->bytes += n;
		} else {
			dma->pieces[dma->nr] = rest;
			dma->pieces[dma->nr++].bytes = n;
		}
		if (!rest.clear)
			rest.addr += n;
	}
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_dma_add_pieces);

static bool dma_copy_clears(struct hmm_p2p_batch *b, const struct hmm_p2p_copy *c)
{
	return b->job.dir == HMM_P2P_TO_DEVICE && !c->ram_page;
}

/* Choose how to map what is left.  If the way is that of the IOVA, allocate the range. */
static void dma_choose_way(struct hmm_p2p_batch *b)
{
	struct hmm_p2p_dma *dma = b->dma;
	size_t bytes = 0;
	unsigned int i;

	dma->dir = b->job.dir == HMM_P2P_TO_RAM ? DMA_FROM_DEVICE : DMA_TO_DEVICE;
	dma->attrs = DMA_ATTR_NO_WARN;
	if (b->job.dir == HMM_P2P_FROM_PEER) {
		if (b->from_type == PCI_P2PDMA_MAP_BUS_ADDR) {
			dma->bus = true;
			dma->max_extent = SIZE_MAX;
			return;
		}
		dma->attrs |= DMA_ATTR_MMIO;
	}
	/* An IOMMU with larger pages than the CPU cannot link a single page. */
	if (dma_get_merge_boundary(dma->dev) & PAGE_MASK)
		return;
	for (i = b->dma_next; i < b->job.nr; i++)
		if (!dma_copy_clears(b, &b->copies[i]))
			bytes += (size_t)b->copies[i].nr_pages << PAGE_SHIFT;
	bytes -= (size_t)b->dma_next_page << PAGE_SHIFT;
	if (bytes && dma_iova_try_alloc(dma->dev, &dma->iova, 0, bytes))
		dma->max_extent = SIZE_MAX;
}

/* Map one extent.  Return: its DMA address, or %DMA_MAPPING_ERROR. */
VISIBLE_IF_KUNIT
dma_addr_t hmm_p2p_dma_map_extent(struct hmm_p2p_batch *b, phys_addr_t phys, size_t bytes)
{
	struct hmm_p2p_dma *dma = b->dma;
	dma_addr_t addr;

	KUNIT_STATIC_STUB_REDIRECT(hmm_p2p_dma_map_extent, b, phys, bytes);
	if (dma->bus)
		return pci_p2pdma_bus_addr_map(b->from->desc.provider, phys);
	if (dma_use_iova(&dma->iova)) {
		if (dma_iova_link(dma->dev, &dma->iova, phys, dma->linked, bytes, dma->dir,
				  dma->attrs))
			return DMA_MAPPING_ERROR;
		addr = dma->iova.addr + dma->linked;
		dma->linked += bytes;
		return addr;
	}
	addr = dma_map_phys(dma->dev, phys, bytes, dma->dir, dma->attrs);
	if (dma_mapping_error(dma->dev, addr))
		return DMA_MAPPING_ERROR;
	dma->extents[dma->nr_extents].addr = addr;
	dma->extents[dma->nr_extents++].bytes = bytes;
	return addr;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_dma_map_extent);

/*
 * Map the begin of what is left.  A part that has pieces already is not worth smaller extents:
 * other devices may need the last bounce buffers.
 *
 * Return: the number of bytes that are mapped, or 0.
 */
static size_t dma_map_begin(struct hmm_p2p_batch *b, phys_addr_t phys, size_t bytes,
			    dma_addr_t *addr)
{
	bytes = min(bytes, b->dma->max_extent);
	for (;;) {
		*addr = hmm_p2p_dma_map_extent(b, phys, bytes);
		if (*addr != DMA_MAPPING_ERROR)
			return bytes;
		if (bytes == PAGE_SIZE || b->dma->nr)
			return 0;
		bytes = PAGE_ALIGN(bytes / 2);
	}
}

/* Map what is left of the first copy that is not mapped. */
static int dma_map_copy(struct hmm_p2p_batch *b)
{
	const struct hmm_p2p_copy *c = &b->copies[b->dma_next];
	size_t done = (size_t)b->dma_next_page << PAGE_SHIFT;
	struct hmm_p2p_dma_copy piece = {
		.offset = hmm_p2p_page_offset(c->dev_page) + done,
		.addr = DMA_MAPPING_ERROR,
		.bytes = ((size_t)c->nr_pages << PAGE_SHIFT) - done,
		.clear = dma_copy_clears(b, c),
	};
	size_t bytes = piece.bytes;
	struct hmm_p2p_dma *dma = b->dma;
	phys_addr_t phys;

	if (piece.clear) {
		hmm_p2p_dma_add_pieces(dma, piece);
		return 0;
	}
	if (b->job.dir == HMM_P2P_FROM_PEER)
		phys = hmm_pfn_to_phys(c->peer);
	else
		phys = page_to_phys(c->ram_page);
	for (phys += done; bytes; bytes -= piece.bytes) {
		piece.bytes = dma_map_begin(b, phys, bytes, &piece.addr);
		if (!piece.bytes)
			return -EBUSY;
		/* There is room for whole pages: a bounce buffer may begin within one. */
		if (!PAGE_ALIGNED(piece.addr))
			return -EIO;
		dma->nr_pages += piece.bytes >> PAGE_SHIFT;
		b->dma_next_page += piece.bytes >> PAGE_SHIFT;
		hmm_p2p_dma_add_pieces(dma, piece);
		piece.offset += piece.bytes;
		phys += piece.bytes;
	}
	return 0;
}

static int dma_map_copies(struct hmm_p2p_batch *b)
{
	struct hmm_p2p_dma *dma = b->dma;
	int ret;

	for (; b->dma_next < b->job.nr; b->dma_next++, b->dma_next_page = 0) {
		ret = dma_map_copy(b);
		/* The driver copies what is mapped by then. */
		if (ret == -EBUSY && dma->nr)
			break;
		if (ret)
			return ret;
	}
	if (dma->linked && dma_iova_sync(dma->dev, &dma->iova, 0, dma->linked))
		return -EBUSY;
	return 0;
}

static void dma_unmap(struct hmm_p2p_dma *dma)
{
	unsigned int i;

	if (dma_use_iova(&dma->iova))
		dma_iova_destroy(dma->dev, &dma->iova, dma->linked, dma->dir, dma->attrs);
	/* Where the DMA API keeps nothing, there is nothing to give back. */
	else if (dma->nr_extents && dma_need_unmap(dma->dev))
		for (i = 0; i < dma->nr_extents; i++)
			dma_unmap_phys(dma->dev, dma->extents[i].addr, dma->extents[i].bytes,
				       dma->dir, dma->attrs);
	hmm_p2p_engine_count(dma->engine, HMM_P2P_E_DMA_UNMAPPED, dma->nr_pages);
	dma->engine = NULL;
}

/*
 * Take the extents that are bounced out of a mapping to which the device may write for ever.  An
 * IOMMU stops the device, so then none is taken out.
 *
 * Return: the number of pages in the extents that stay mapped.
 */
static unsigned long dma_keep_bounced(struct hmm_p2p_dma *dma)
{
	unsigned int i, nr_extents = dma->nr_extents;
	unsigned long nr_kept = 0;

	if (use_dma_iommu(dma->dev))
		return 0;
	dma->nr_extents = 0;
	for (i = 0; i < nr_extents; i++) {
		struct hmm_p2p_dma_extent extent = dma->extents[i];

		/* The CPU and the device do not see the same memory. */
		if (dma_need_sync(dma->dev, extent.addr))
			nr_kept += extent.bytes >> PAGE_SHIFT;
		else
			dma->extents[dma->nr_extents++] = extent;
	}
	dma->nr_pages -= nr_kept;
	return nr_kept;
}

/*
 * hmm_p2p_dma_map - give the driver DMA addresses of what it is to copy
 * @b: a batch of an engine that copies by DMA, with something left to copy.  For
 *	%HMM_P2P_FROM_PEER, b->from_type says how the device reaches b->from
 *
 * The caller then calls hmm_p2p_dma_end() if b->dma is set, also after an error.
 *
 * Return: 0 with the pieces in b->job, or
 * * -ENOMEM: no memory to keep account of them
 * * -EBUSY: the DMA API has no addresses or bounce buffers for a single page.  b->dma_short
 *   says whether trying again makes sense
 * * -EIO: RAM that the device can never reach, or not by whole pages
 */
int hmm_p2p_dma_map(struct hmm_p2p_batch *b)
{
	struct hmm_p2p_engine *engine = b->engine;
	unsigned int next = b->dma_next, next_page = b->dma_next_page;
	struct hmm_p2p_dma *dma;
	int ret;

	b->dma_short = false;
	dma = dma_get_room(b);
	if (!dma)
		return -ENOMEM;
	dma->engine = engine;
	dma_choose_way(b);
	ret = dma_map_copies(b);
	hmm_p2p_engine_count(engine, HMM_P2P_E_DMA_MAPPED, dma->nr_pages);
	if (ret == -EBUSY && b->job.dir != HMM_P2P_FROM_PEER) {
		b->dma_short = hmm_p2p_dma_reaches_ram(dma->dev);
		ret = b->dma_short ? -EBUSY : -EIO;
	}
	if (ret) {
		b->dma_next = next;
		b->dma_next_page = next_page;
		return ret;
	}
	b->job.dma = dma->pieces;
	b->job.nr_dma = dma->nr;
	return 0;
}

/*
 * hmm_p2p_dma_end - unmap what a copy needed that has ended or is abandoned
 * @b: a batch with locked pages, and with room for mappings
 */
void hmm_p2p_dma_end(struct hmm_p2p_batch *b)
{
	struct hmm_p2p_dma *dma = b->dma;

	/* The room may be that of an earlier copy, with nothing mapped. */
	if (!dma->engine)
		return;
	if (b->abandoned && dma->dir == DMA_FROM_DEVICE) {
		/* The engine is kept until the pages are unlocked: it finds these mappings. */
		mutex_lock(&late_mappings_lock);
		list_add_tail(&dma->node, &late_mappings);
		mutex_unlock(&late_mappings_lock);
		return;
	}
	dma_unmap(dma);
}

/* Unmap what an abandoned copy needed, which has ended.  The pages that it wrote to are kept. */
void hmm_p2p_dma_end_late(struct hmm_p2p_batch *b)
{
	struct hmm_p2p_dma *dma = b->dma;

	if (!dma)
		return;
	mutex_lock(&late_mappings_lock);
	/* NULL: hmm_p2p_dma_forget() was first, or it was unmapped when it was abandoned. */
	if (dma->engine) {
		list_del(&dma->node);
		dma_unmap(dma);
	}
	mutex_unlock(&late_mappings_lock);
}

/*
 * hmm_p2p_dma_forget - end the mappings of abandoned copies, before their device goes
 * @engine: the engine that goes; no task waits for a copy of it
 */
void hmm_p2p_dma_forget(struct hmm_p2p_engine *engine)
{
	struct hmm_p2p_dma *dma, *next;
	unsigned long nr_kept = 0;
	u64 left;

	mutex_lock(&late_mappings_lock);
	list_for_each_entry_safe(dma, next, &late_mappings, node) {
		if (dma->engine != engine)
			continue;
		list_del(&dma->node);
		nr_kept += dma_keep_bounced(dma);
		dma_unmap(dma);
	}
	mutex_unlock(&late_mappings_lock);
	left = hmm_p2p_engine_sum(engine, HMM_P2P_E_DMA_MAPPED) -
	       hmm_p2p_engine_sum(engine, HMM_P2P_E_DMA_UNMAPPED);
	if (nr_kept)
		pr_warn("hmm_p2p: %s: bounce buffers of %lu pages are lost to a copy that has not ended\n",
			engine->exp->desc.name, nr_kept);
	WARN(left != nr_kept, "hmm_p2p: %s: %llu pages are still mapped for DMA\n",
	     engine->exp->desc.name, left);
}
