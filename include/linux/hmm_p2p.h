/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Peer access to device-private memory, for drivers: what exporters and importers call.  A
 * migration engine, for drivers that have none of their own, is in linux/hmm_p2p_migrate.h.  What
 * only mm calls is in linux/hmm_p2p_mm.h.
 *
 * Process memory that HMM moved to a device (MEMORY_DEVICE_PRIVATE) can be
 * reached in place by other devices: see Documentation/mm/hmm_p2p.rst for the
 * whole, Documentation/mm/hmm_p2p-contracts.rst for what each side owes, and
 * Documentation/mm/hmm_p2p-driver.rst for how to write a driver.  The kernel-doc of the
 * functions is in the files of mm/hmm_p2p/ that are named above their prototypes.
 *
 * Exporter: the driver of the device that has the memory.  It registers its
 * dev_pagemap and says where the memory is visible on the bus and to the CPU.  It maps
 * the memory for no importer.
 *
 * Importer: a driver that mirrors process memory with hmm_range_fault().  It sets
 * hmm_range.peer and gets HMM_PFN_PEER entries.  Such an entry has the PFN of an alias, which is
 * the bus-visible address of a device-private page.  An alias has no struct page.  The importer
 * maps it with hmm_dma_map_pfn(); software maps it with hmm_pfn_kmap_local().  The importer may
 * use it until its mmu interval notifier is invalidated, like any other entry.  It takes no pin
 * and no reference.
 */
#ifndef _LINUX_HMM_P2P_H
#define _LINUX_HMM_P2P_H

#include <linux/err.h>
#include <linux/highmem.h>
#include <linux/hmm.h>
#include <linux/pci-p2pdma.h>
#include <linux/range.h>
#include <linux/types.h>
#include <linux/xarray.h>

struct dev_pagemap;
struct device;
struct folio;
struct hmm_dma_map;
struct hmm_p2p_exporter;
struct hmm_p2p_importer;
struct mm_struct;
struct page;
struct pid;

/**
 * enum hmm_p2p_reason - why a peer does not get an alias
 * @HMM_P2P_REACHABLE: it does
 * @HMM_P2P_NO_EXPORTER: the page's device does not take part
 * @HMM_P2P_NOT_LIVE: the exporter is on its way out
 * @HMM_P2P_NO_KMAP: the importer is software and the exporter offers no
 *	mapping for the CPU
 * @HMM_P2P_NO_BUS: the importer is a bus master and the exporter's memory is
 *	not on the bus
 * @HMM_P2P_TOPOLOGY: p2pdma says that the two devices cannot talk
 * @HMM_P2P_ADDRESS: the memory lies beyond what the importer can address
 * @HMM_P2P_LAZY_IOMMU: the importer maps through an IOMMU without IOVA state,
 *	where DMA under way may land after the unmap returned
 * @HMM_P2P_READ_ONLY: write access was asked for and the entry is read-only
 * @HMM_P2P_WATCHED: userfaultfd waits for the access, and is told by a fault
 * @HMM_P2P_NO_WAIT: importer and exporter have not met yet, the window is not open yet, or
 *	the exporter is being reset, and this call must not sleep for it
 * @HMM_P2P_NO_WINDOW: the window of device memory that holds the page is not open
 *	and was not opened: no room in the BAR, no required fault, or an importer
 *	has not let go of it
 * @HMM_P2P_NO_PAIR: importer and exporter have not met yet, and there was no memory for
 *	their pair; a fault some time later tries again
 * @HMM_P2P_QUARANTINED: this importer did not let go of an alias when it was told to
 * @HMM_P2P_DEAD: the exporter's device is gone; no fallback, but an error
 * @HMM_P2P_NR_REASONS: number of reasons
 * @HMM_P2P_STALE: no reason: the page table entry has changed since it was read, and the
 *	walk reads it again
 */
enum hmm_p2p_reason {
	HMM_P2P_REACHABLE,
	HMM_P2P_NO_EXPORTER,
	HMM_P2P_NOT_LIVE,
	HMM_P2P_NO_KMAP,
	HMM_P2P_NO_BUS,
	HMM_P2P_TOPOLOGY,
	HMM_P2P_ADDRESS,
	HMM_P2P_LAZY_IOMMU,
	HMM_P2P_READ_ONLY,
	HMM_P2P_WATCHED,
	HMM_P2P_NO_WAIT,
	HMM_P2P_NO_WINDOW,
	HMM_P2P_NO_PAIR,
	HMM_P2P_QUARANTINED,
	HMM_P2P_DEAD,
	HMM_P2P_NR_REASONS,
	HMM_P2P_STALE,
};

/**
 * struct hmm_p2p_peer - an importer's mirror, as hmm_range_fault() sees it
 *
 * One per address space mirror (for RDMA: per MR); initialised by
 * hmm_p2p_peer_init().  A pointer to it in hmm_range.peer asks for peer
 * entries; a NULL there is stock behaviour.
 */
struct hmm_p2p_peer {
#ifdef CONFIG_HMM_P2P
	/* private: */
	const char *name;
	const void *identity;		/* compared only */
	struct device *dev;		/* the bus master, NULL for software */
	struct hmm_dma_map *map;
	size_t nr_entries;
	struct mm_struct *mm;
	pid_t pid;			/* of the process, to tell it by */
	bool lazy_unmap;		/* see HMM_P2P_LAZY_IOMMU */
	struct hmm_p2p_importer *importer;	/* NULL: it has met no exporter */
	unsigned long meet_after;	/* jiffies; 0: see HMM_P2P_NO_PAIR */
	struct xarray pairs;		/* exporter id -> attachment */
#endif
};

/**
 * struct hmm_p2p_peer_desc - what hmm_p2p_peer_init() needs to know
 * @name: of the importing device, under which it is reported.  The importer keeps the name that
 *	it has when its first mirror meets an exporter.  Not copied before: the core reads it in
 *	faults, so it stays until the mirror has no more faults
 * @identity: an address that stands for the importing device, such as that of its structure.
 *	The core compares it and does not read what is there.  All mirrors of a device give the
 *	same, and those of another device never do while they exist.  So a device that gets
 *	another name stays the importer that it was, and stays in quarantine
 * @dev: the device that masters the bus, or NULL if the importer's driver
 *	reaches memory with the CPU (rxe)
 * @map: the map that the entries are stored in, after hmm_dma_map_alloc(); software
 *	fills in its pfn_list itself
 * @nr_entries: number of entries in its pfn_list
 * @mm: the address space that is mirrored
 * @tgid: the process that it belongs to; NULL if that is the caller.  The mirror is reported with
 *	its number.  A worker that makes a mirror names the process
 */
struct hmm_p2p_peer_desc {
	const char *name;
	const void *identity;
	struct device *dev;
	struct hmm_dma_map *map;
	size_t nr_entries;
	struct mm_struct *mm;
	struct pid *tgid;
};

/**
 * struct hmm_p2p_window_map - where a window of device memory is visible
 * @phys: physical address of its first byte in the exporter's BAR, aligned to
 *	the window size.  Importers get it as alias.  For memory
 *	that only the CPU can reach, it is any physical address that is the memory's
 *	own.  If the memory begins within the window (window_offset), it is still the address
 *	of the window, in front of the memory.
 * @kva: kernel mapping of the window, or NULL if software cannot reach it.  Like @phys, it is that
 *	of the window's first byte, whether that byte is mapped or not.  The mapping may be
 *	write-combining: hmm_p2p_kunmap_local() has the barrier, and
 *	ops->flush_writes() waits for what that has sent.
 */
struct hmm_p2p_window_map {
	phys_addr_t phys;
	void *kva;
};

/**
 * struct hmm_p2p_exporter_ops - what a driver supplies
 *
 * @open_window: Make window @index (in units of the window size, from the start
 *	of the device memory) visible, and say where in @map, which comes zeroed.
 *	Without @close_window the core calls it for every window at registration, which fails
 *	with what it returns.  Memory that is always visible pays nothing later.  With
 *	@close_window the core calls it when a peer first touches the window, at most once at a
 *	time for the same window.
 *	-ENOSPC asks the core to close another window and try again.  -ENXIO says that the bus does
 *	not show this part of the memory, and never will: the core does not ask again, and
 *	registration goes on if any window is visible.  With any error the page goes to RAM.
 *	The last window may be longer than the memory.  The op may sleep.  It must not wait for
 *	anything that needs mmap_lock, a page lock, or a thread in hmm_p2p_unregister().  Coherent
 *	memory has no windows and not this op; other memory needs it.
 *
 * @close_window: No peer has window @index mapped, and none will.  The core also calls the op right
 *	after @open_window if it refuses the address.  hmm_p2p_unregister() calls it for open
 *	windows, whether the device is dead or not, but not for a window that an importer still
 *	holds then.  The core does not call it during a reset.  The context is that of
 *	@open_window.  Cannot fail.  Provide it if the BAR is smaller than the memory, and set
 *	hmm_p2p_exporter_desc.aperture.
 *
 * @flush_writes: Wait until every write that a peer sent before the call, and every write
 *	of the CPU through &struct hmm_p2p_window_map.kva, is in the device memory, where
 *	the device's engines see it.  A read back through the BAR pushes posted
 *	writes in front of it.  A device with a cache between BAR and memory (HDP) flushes
 *	that, too.  See "Writes on their way" in Documentation/mm/hmm_p2p.rst.  One call
 *	covers all of the memory.
 *	The core calls it if a peer had memory mapped since the last call: in
 *	hmm_p2p_flush_writes() and hmm_p2p_flush_folio(), before the migration engine copies out
 *	of that memory or into it, before @close_window, and before hmm_p2p_reset_begin(),
 *	hmm_p2p_revoke() and hmm_p2p_unregister() return.  It makes one call at a time.  It may
 *	hold mmap_lock and page locks, and never calls from an invalidate callback.  After
 *	hmm_p2p_dead() and after hmm_p2p_unregister() it does not call.
 *	The op may sleep.  It must not wait for anything that needs mmap_lock or a page lock, for
 *	a thread in hmm_p2p_unregister(), nor for a peer.  It also returns if the device does not
 *	answer any more.  Cannot fail.  Optional, for memory that is not behind a bus; not for
 *	coherent memory.
 *
 * @lost: Return true if the device has vanished, also before the driver calls hmm_p2p_dead().
 *	The migration engine asks after each copy from or to the memory, also after a copy
 *	by another device: data from a bus where no device answers must not pass for the
 *	process's.  The engine holds mmap_lock and page locks then.  The op does not sleep.
 *	hmm_p2p_engine_unregister() calls it, too, without locks, and treats true like
 *	hmm_p2p_dead().  Optional, for devices that can be pulled out; not for coherent
 *	memory.
 */
struct hmm_p2p_exporter_ops {
	int (*open_window)(void *priv, unsigned long index,
			   struct hmm_p2p_window_map *map);
	void (*close_window)(void *priv, unsigned long index);
	void (*flush_writes)(void *priv);
	bool (*lost)(void *priv);
};

/**
 * struct hmm_p2p_exporter_desc - what hmm_p2p_register() needs to know
 * @name: shown in tracepoints and debugfs, unique among exporters
 * @ops: what the driver supplies; NULL for coherent memory, which has none of them.  The core
 *	copies neither this nor @priv, @pgmap and @provider: what they point to stays until
 *	hmm_p2p_unregister() has returned
 * @priv: first argument of every op
 * @pgmap: the device memory, %MEMORY_DEVICE_PRIVATE or %MEMORY_DEVICE_COHERENT, with one
 *	range.  Its node is the one that is nearest to the device: the core moves pages to RAM
 *	there when other devices or CPUs need them.  hmm tells a driver's own pages by the owner
 *	of the pgmap.  Several devices may share an owner.  An importer with that owner gets the
 *	pages of all of them as its own, and other importers get aliases of each.  A device with
 *	an engine shares its owner with no other
 * @size: bytes of memory, from the start of the pgmap's range, in whole pages; 0 if all of the
 *	range is memory.  request_free_mem_region() rounds up, so the pgmap may be longer; the
 *	driver hands out no page that is behind the memory
 * @window_offset: bytes of the first window that are in front of the memory, in whole pages and
 *	less than a window.  Windows are aligned on the bus, and the memory may begin within one:
 *	64 KiB behind a multiple of the window size, for example.  A large folio then lies in two
 *	windows.  In a window that is larger than a huge page, the aliases of one may follow
 *	each other and not be aligned: importers then see small pages
 * @provider: the BAR's p2pdma provider, from pcim_p2pdma_provider(), or NULL if
 *	the memory is not on the bus
 * @aperture: physical addresses, in the exporter's BAR, where windows appear;
 *	a window elsewhere is refused.  With ops->close_window only; zero without.
 * @window_shift: log2 of the window size in bytes, PMD_SHIFT to 30; 0 for
 *	PMD_SHIFT
 */
struct hmm_p2p_exporter_desc {
	const char *name;
	const struct hmm_p2p_exporter_ops *ops;
	void *priv;
	struct dev_pagemap *pgmap;
	u64 size;
	u64 window_offset;
	struct p2pdma_provider *provider;
	struct range aperture;
	unsigned int window_shift;
};

/**
 * enum hmm_p2p_stat - how peers use an exporter's memory, for its driver's policy
 * @HMM_P2P_STAT_PEER_FAULTS: lookups for faults of peers, each for a page or a huge page
 * @HMM_P2P_STAT_PEER_FALLBACKS: of those, lookups after which the page had to go to RAM,
 *	since the peer does not reach it.  A page counts again if its fault is tried again
 */
enum hmm_p2p_stat {
	HMM_P2P_STAT_PEER_FAULTS,
	HMM_P2P_STAT_PEER_FALLBACKS,
};

#ifdef CONFIG_HMM_P2P

/* exporter.c */
struct hmm_p2p_exporter *
hmm_p2p_register(const struct hmm_p2p_exporter_desc *desc);
void hmm_p2p_unregister(struct hmm_p2p_exporter *exp);
void hmm_p2p_exporter_get(struct hmm_p2p_exporter *exp);
void hmm_p2p_exporter_put(struct hmm_p2p_exporter *exp);
u64 hmm_p2p_page_offset(const struct page *page);
struct page *hmm_p2p_page_at(const struct dev_pagemap *pgmap, u64 offset);
struct folio *hmm_p2p_folio_init(struct dev_pagemap *pgmap, u64 offset, unsigned int order);

u64 hmm_p2p_get_stat(struct hmm_p2p_exporter *exp, enum hmm_p2p_stat stat);

/* state.c */
int hmm_p2p_live_get(struct hmm_p2p_exporter *exp);
bool hmm_p2p_live_tryget(struct hmm_p2p_exporter *exp);
void hmm_p2p_live_put(struct hmm_p2p_exporter *exp);

/* revoke.c */
int hmm_p2p_revoke(struct hmm_p2p_exporter *exp, u64 offset, u64 length);
int hmm_p2p_revoke_importer(const char *name);

/* flush.c */
int hmm_p2p_flush_writes(struct hmm_p2p_exporter *exp, u64 offset, u64 length);
int hmm_p2p_flush_folio(struct folio *folio);

/* reset.c */
int hmm_p2p_reset_begin(struct hmm_p2p_exporter *exp);
int hmm_p2p_reset_end(struct hmm_p2p_exporter *exp);

/* death.c */
void hmm_p2p_dead(struct hmm_p2p_exporter *exp);
int hmm_p2p_poison(struct hmm_p2p_exporter *exp, u64 offset, u64 length);

/* importer.c */
int hmm_p2p_peer_init(struct hmm_p2p_peer *peer,
		      const struct hmm_p2p_peer_desc *desc);
void hmm_p2p_peer_destroy(struct hmm_p2p_peer *peer);
void hmm_p2p_invalidate_begin(struct hmm_dma_map *map);
void hmm_p2p_invalidate_end(struct hmm_dma_map *map);

void hmm_p2p_map_get(struct hmm_dma_map *map, size_t idx);
void hmm_p2p_map_put(struct hmm_dma_map *map, size_t idx);

/* alias.c; see hmm_pfn_kmap_local() below */
void *hmm_p2p_kmap_local(unsigned long hmm_pfn);
void hmm_p2p_kunmap_local(const void *kva);

#else /* CONFIG_HMM_P2P */

static inline struct hmm_p2p_exporter *
hmm_p2p_register(const struct hmm_p2p_exporter_desc *desc)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static inline void hmm_p2p_unregister(struct hmm_p2p_exporter *exp)
{
}

static inline void hmm_p2p_exporter_get(struct hmm_p2p_exporter *exp)
{
}

static inline void hmm_p2p_exporter_put(struct hmm_p2p_exporter *exp)
{
}

static inline u64 hmm_p2p_page_offset(const struct page *page)
{
	return 0;
}

static inline struct page *hmm_p2p_page_at(const struct dev_pagemap *pgmap, u64 offset)
{
	return NULL;
}

static inline struct folio *
hmm_p2p_folio_init(struct dev_pagemap *pgmap, u64 offset, unsigned int order)
{
	return NULL;
}

static inline int hmm_p2p_live_get(struct hmm_p2p_exporter *exp)
{
	return -EOPNOTSUPP;
}

static inline bool hmm_p2p_live_tryget(struct hmm_p2p_exporter *exp)
{
	return false;
}

static inline void hmm_p2p_live_put(struct hmm_p2p_exporter *exp)
{
}

static inline int hmm_p2p_revoke(struct hmm_p2p_exporter *exp, u64 offset,
				 u64 length)
{
	return -EOPNOTSUPP;
}

static inline int hmm_p2p_revoke_importer(const char *name)
{
	return -EOPNOTSUPP;
}

static inline int hmm_p2p_flush_writes(struct hmm_p2p_exporter *exp, u64 offset,
				       u64 length)
{
	return -EOPNOTSUPP;
}

static inline int hmm_p2p_flush_folio(struct folio *folio)
{
	return 0;
}

static inline int hmm_p2p_reset_begin(struct hmm_p2p_exporter *exp)
{
	return -EOPNOTSUPP;
}

static inline int hmm_p2p_reset_end(struct hmm_p2p_exporter *exp)
{
	return -EOPNOTSUPP;
}

static inline void hmm_p2p_dead(struct hmm_p2p_exporter *exp)
{
}

static inline int hmm_p2p_poison(struct hmm_p2p_exporter *exp, u64 offset,
				 u64 length)
{
	return -EOPNOTSUPP;
}

static inline u64 hmm_p2p_get_stat(struct hmm_p2p_exporter *exp,
				   enum hmm_p2p_stat stat)
{
	return 0;
}

static inline int hmm_p2p_peer_init(struct hmm_p2p_peer *peer,
				    const struct hmm_p2p_peer_desc *desc)
{
	return 0;
}

static inline void hmm_p2p_peer_destroy(struct hmm_p2p_peer *peer)
{
}

static inline void hmm_p2p_invalidate_begin(struct hmm_dma_map *map)
{
}

static inline void hmm_p2p_invalidate_end(struct hmm_dma_map *map)
{
}

static inline void hmm_p2p_map_get(struct hmm_dma_map *map, size_t idx)
{
}

static inline void hmm_p2p_map_put(struct hmm_dma_map *map, size_t idx)
{
}

static inline void *hmm_p2p_kmap_local(unsigned long hmm_pfn)
{
	return NULL;
}

static inline void hmm_p2p_kunmap_local(const void *kva)
{
}

#endif /* CONFIG_HMM_P2P */

/**
 * hmm_pfn_kmap_local - map one entry of hmm_range_fault() for the CPU
 * @hmm_pfn: an entry with %HMM_PFN_VALID, a page of system memory or an alias;
 *	never one of the caller's own device-private pages
 *
 * For software importers.  Call it under the lock that the importer's
 * invalidate callback takes, after a successful mmu_interval_read_retry(), and
 * undo it with hmm_pfn_kunmap_local() before that lock is dropped.  Nests like
 * kmap_local_page().  The mapping of an alias continues to the end of the window.  So it covers a
 * whole piece of struct hmm_p2p_copy, and all pages of a large folio if the entries say its order
 * (hmm_pfn_to_map_order()).
 *
 * Return: the address of the first byte of the page; NULL if the importer is a bus master and
 * the entry is an alias of an exporter that offers the CPU no mapping.
 */
static inline void *hmm_pfn_kmap_local(unsigned long hmm_pfn)
{
	if (hmm_pfn & HMM_PFN_PEER)
		return hmm_p2p_kmap_local(hmm_pfn);
	return kmap_local_page(hmm_pfn_to_page(hmm_pfn));
}

/**
 * hmm_pfn_kunmap_local - undo hmm_pfn_kmap_local()
 * @hmm_pfn: the entry that was mapped
 * @kva: what hmm_pfn_kmap_local() returned
 *
 * A write to system memory is an ordinary store: the next holder of the importer's lock sees
 * it.  A write to an alias has left the CPU when this returns, also one in the buffers of a
 * write-combining mapping: no later write of this CPU, to a device or to memory, overtakes
 * it there.  A CPU that reads through the alias afterwards sees it.
 *
 * It need not be in the device memory yet: like the write of any peer, it is posted and may
 * be on its way.  The exporter's device, and peers that reach the memory another way, may
 * not see it before ops->flush_writes was called.  The core calls that before the memory is
 * copied out or used again; see hmm_p2p_flush_writes().
 */
static inline void hmm_pfn_kunmap_local(unsigned long hmm_pfn, const void *kva)
{
	if (hmm_pfn & HMM_PFN_PEER)
		hmm_p2p_kunmap_local(kva);
	else
		kunmap_local(kva);
}

#endif /* _LINUX_HMM_P2P_H */
