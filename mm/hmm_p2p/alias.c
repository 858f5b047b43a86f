// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Aliases
 *
 * From a device-private page and an importer to an alias, the bus-visible
 * address of the page, or to the reason why there is none.
 *
 * hmm_p2p_lookup() runs inside the page walk: no lock, no sleep, no search.
 * Whether a pair of devices can talk is asked of p2pdma once per (exporter,
 * peer), which may sleep: the walk returns HMM_P2P_NO_WAIT with a reference on
 * the exporter, hmm.c leaves the walk and drops mmap_lock, hmm_p2p_resolve()
 * asks, and the walk starts again.  The answer lives in the peer, under the
 * exporter's id, so neither can outlive what it speaks of.
 *
 * There is no policy here.  The answer is "reachable" or why not.
 */
#include <kunit/visibility.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/export.h>
#include <linux/iommu-dma.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>

#include <trace/events/hmm_p2p.h>

#include "internal.h"

const char *const hmm_p2p_reason_names[HMM_P2P_NR_REASONS] = {
	[HMM_P2P_REACHABLE]	= "reachable",
	[HMM_P2P_NO_EXPORTER]	= "no-exporter",
	[HMM_P2P_NOT_LIVE]	= "not-live",
	[HMM_P2P_NO_KMAP]	= "no-kmap",
	[HMM_P2P_NO_BUS]	= "no-bus",
	[HMM_P2P_TOPOLOGY]	= "topology",
	[HMM_P2P_ADDRESS]	= "address",
	[HMM_P2P_LAZY_IOMMU]	= "lazy-iommu",
	[HMM_P2P_READ_ONLY]	= "read-only",
	[HMM_P2P_NO_WAIT]	= "no-wait",
};

/**
 * hmm_p2p_peer_init - describe an importer
 * @peer: to be initialised, zero or not
 * @dev: the device that masters the bus, or NULL if the importer's driver
 *	reaches memory with the CPU (rxe)
 * @map: the map that the entries will be mapped in with hmm_dma_map_pfn(), from
 *	hmm_dma_map_alloc(); not looked at for software
 *
 * Pair it with hmm_p2p_peer_destroy(), before @dev or @map go away.
 */
void hmm_p2p_peer_init(struct hmm_p2p_peer *peer, struct device *dev,
		       struct hmm_dma_map *map)
{
	peer->dev = dev;
	/*
	 * dma_unmap_phys() through an IOMMU may leave the IOTLB to a flush queue
	 * (iommu_dma_unmap_phys()); dma_iova_unlink() does not.
	 */
	peer->lazy_unmap = dev && use_dma_iommu(dev) &&
			   !(map && dma_use_iova(&map->state));
	xa_init(&peer->reach);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_peer_init, "HMM_P2P");

/**
 * hmm_p2p_peer_destroy - undo hmm_p2p_peer_init()
 * @peer: no fault with it is running any more
 */
void hmm_p2p_peer_destroy(struct hmm_p2p_peer *peer)
{
	xa_destroy(&peer->reach);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_peer_destroy, "HMM_P2P");

static enum hmm_p2p_reason hmm_p2p_ask(struct hmm_p2p_exporter *exp,
				       struct hmm_p2p_peer *peer)
{
	struct p2pdma_provider *provider = exp->desc.provider;
	struct device *dev = peer->dev;
	u64 last = exp->alias_last;
	u64 limit;

	if (!provider)
		return HMM_P2P_NO_BUS;

	switch (pci_p2pdma_map_type(provider, dev)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		last = pci_p2pdma_bus_addr_map(provider, last);
		break;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		if (peer->lazy_unmap)
			return HMM_P2P_LAZY_IOMMU;
		if (use_dma_iommu(dev))
			return HMM_P2P_REACHABLE;	/* IOVA fits by itself */
		last = phys_to_dma(dev, last);
		break;
	default:
		return HMM_P2P_TOPOLOGY;
	}

	limit = min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);
	return last <= limit ? HMM_P2P_REACHABLE : HMM_P2P_ADDRESS;
}

/*
 * hmm_p2p_resolve - find out whether an importer reaches an exporter
 * @peer: the importer
 * @pending: the exporter that hmm_p2p_lookup() handed out with
 *	%HMM_P2P_NO_WAIT; its reference is consumed
 *
 * Context: May sleep; no mmap_lock, since p2pdma takes pci_bus_sem.
 *
 * Return: 0, after which the walk is to start again, or -ENOMEM.
 */
int hmm_p2p_resolve(struct hmm_p2p_peer *peer, struct hmm_p2p_exporter *pending)
{
	enum hmm_p2p_reason reason;
	int ret = 0;

	/*
	 * A draining exporter's provider may be on its way out.  A live one's is
	 * not: migrate_sem keeps hmm_p2p_unregister() from getting past draining.
	 * If that waits for it already, the state has changed and the walk falls
	 * back: nobody's fault waits behind somebody else's migration.
	 */
	if (!down_read_trylock(&pending->migrate_sem))
		goto out;
	if (READ_ONCE(pending->state) == HMM_P2P_LIVE) {
		reason = hmm_p2p_ask(pending, peer);
		trace_hmm_p2p_reach(pending->desc.name, peer->dev, reason);
		ret = xa_err(xa_store(&peer->reach, pending->id,
				      xa_mk_value(reason), GFP_KERNEL));
	}
	up_read(&pending->migrate_sem);
out:
	hmm_p2p_exporter_put(pending);
	return ret;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_resolve);

static enum hmm_p2p_reason hmm_p2p_reach(struct hmm_p2p_exporter *exp,
					 struct hmm_p2p_peer *peer)
{
	void *entry;

	if (!peer->dev)
		return exp->kmappable ? HMM_P2P_REACHABLE : HMM_P2P_NO_KMAP;
	entry = xa_load(&peer->reach, exp->id);
	return entry ? xa_to_value(entry) : HMM_P2P_NO_WAIT;
}

/*
 * hmm_p2p_lookup - the alias of a device-private page, for the page walk
 * @peer: the importer
 * @page: a device-private page, not the importer's own
 * @read_only: write access is required and the entry does not give it
 * @may_wait: whether the caller can leave the walk, wait, and come back
 * @alias_pfn: set on %HMM_P2P_REACHABLE
 * @pending: set on %HMM_P2P_NO_WAIT with @may_wait, for hmm_p2p_resolve()
 *
 * Context: Under rcu_read_lock(), with the page table entry that names @page
 * read inside it.  That keeps page, pgmap and exporter from going away.
 *
 * Everything but %HMM_P2P_REACHABLE, and %HMM_P2P_NO_WAIT with @pending set, is
 * a fallback, which the exporter counts if there is one: the caller moves the
 * page to RAM, or reports it absent.
 */
enum hmm_p2p_reason hmm_p2p_lookup(struct hmm_p2p_peer *peer, struct page *page,
				   bool read_only, bool may_wait,
				   unsigned long *alias_pfn,
				   struct hmm_p2p_exporter **pending)
{
	struct hmm_p2p_exporter *exp;
	struct hmm_p2p_window *window;
	enum hmm_p2p_reason reason;
	unsigned long pfn;

	/* Pairs with rcu_assign_pointer() in hmm_p2p_register(). */
	exp = rcu_dereference(page_pgmap(page)->p2p_exporter);
	if (!exp)
		return HMM_P2P_NO_EXPORTER;

	if (READ_ONCE(exp->state) != HMM_P2P_LIVE)
		reason = HMM_P2P_NOT_LIVE;
	else if (read_only)
		reason = HMM_P2P_READ_ONLY;
	else
		reason = hmm_p2p_reach(exp, peer);

	if (reason == HMM_P2P_NO_WAIT && may_wait &&
	    kref_get_unless_zero(&exp->kref)) {
		*pending = exp;
		return reason;
	}
	if (reason != HMM_P2P_REACHABLE) {
		hmm_p2p_count(exp, HMM_P2P_C_FALLBACK + reason, 1);
		trace_hmm_p2p_fallback(exp->desc.name, peer->dev, reason);
		return reason;
	}

	pfn = PHYS_PFN(hmm_p2p_page_offset(page));
	window = &exp->windows[pfn >> exp->window_order];
	*alias_pfn = window->alias_pfn +
		     (pfn & (BIT(exp->window_order) - 1));
	hmm_p2p_count(exp, HMM_P2P_C_ALIASES, 1);
	trace_hmm_p2p_alias(exp->desc.name, peer->dev, *alias_pfn);
	return HMM_P2P_REACHABLE;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_lookup);

/*
 * hmm_p2p_dma_type - how an alias is to be mapped, for hmm_dma_map_pfn()
 * @dev: the importer's device
 * @hmm_pfn: an entry with %HMM_PFN_PEER, current under the importer's lock
 * @provider: set to the provider for %PCI_P2PDMA_MAP_BUS_ADDR
 *
 * p2pdma has the answer from hmm_p2p_resolve(): this is a look-up.
 */
enum pci_p2pdma_map_type hmm_p2p_dma_type(struct device *dev,
					  unsigned long hmm_pfn,
					  struct p2pdma_provider **provider)
{
	struct hmm_p2p_window *window;

	window = hmm_p2p_window_of_alias(hmm_pfn & ~HMM_PFN_FLAGS);
	if (WARN_ON_ONCE(!window || !window->exp->desc.provider))
		return PCI_P2PDMA_MAP_NOT_SUPPORTED;
	*provider = window->exp->desc.provider;
	return pci_p2pdma_map_type(*provider, dev);
}

/**
 * hmm_p2p_kmap_local - map an alias for the CPU
 * @hmm_pfn: an entry with %HMM_PFN_PEER
 *
 * See hmm_pfn_kmap_local(), which takes any entry.
 *
 * Return: the address of the first byte of the page.
 */
void *hmm_p2p_kmap_local(unsigned long hmm_pfn)
{
	unsigned long pfn = hmm_pfn & ~HMM_PFN_FLAGS;
	struct hmm_p2p_window *window = hmm_p2p_window_of_alias(pfn);

	/* The lookup hands software an alias only where there is a mapping. */
	return window->kva + PFN_PHYS(pfn - window->alias_pfn);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_kmap_local, "HMM_P2P");

/**
 * hmm_p2p_kunmap_local - undo hmm_p2p_kmap_local()
 * @kva: what it returned
 */
void hmm_p2p_kunmap_local(const void *kva)
{
	/*
	 * The mapping may be write-combining, and neither a store-release nor an
	 * unlock drains those buffers on x86: what was written must be in the
	 * device before the importer's lock is dropped, or it can land after an
	 * invalidation returned and the page has moved.
	 */
	wmb();
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_kunmap_local, "HMM_P2P");
