/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Migration of process memory to and from a device, for drivers without an engine of their
 * own.
 *
 * An engine moves pages between RAM and the memory of an exporter, and from another exporter to
 * it.  The driver registers the engine for its exporter, and supplies allocation and copy.  The
 * engine uses peer access (linux/hmm_p2p.h), which does not know of engines.
 * See Documentation/mm/hmm_p2p-migrate.rst.
 */
#ifndef _LINUX_HMM_P2P_MIGRATE_H
#define _LINUX_HMM_P2P_MIGRATE_H

#include <linux/completion.h>
#include <linux/err.h>
#include <linux/hmm_p2p.h>
#include <linux/mm_types.h>
#include <linux/types.h>

struct device;
struct folio;
struct hmm_p2p_engine;
struct hmm_p2p_exporter;
struct mm_struct;
struct page;
struct vm_fault;

/**
 * enum hmm_p2p_copy_dir - between which memories to copy
 * @HMM_P2P_TO_DEVICE: from system memory, or from nothing, to the device
 * @HMM_P2P_TO_RAM: from the device to system memory
 * @HMM_P2P_FROM_PEER: from another device to this one
 */
enum hmm_p2p_copy_dir {
	HMM_P2P_TO_DEVICE,
	HMM_P2P_TO_RAM,
	HMM_P2P_FROM_PEER,
};

/**
 * struct hmm_p2p_copy - pages to copy that follow one another on both sides
 * @dev_page: the first device page; hmm_p2p_page_offset() tells where it is
 * @ram_page: the first page of system memory, or NULL (%HMM_P2P_TO_DEVICE only): the pages
 *	were never touched, and the driver clears them on the device
 * @peer: the first page of the other device (%HMM_P2P_FROM_PEER only), an entry as
 *	from hmm_range_fault(), all in one window: hmm_pfn_kmap_local() takes it
 * @nr_pages: how many, 1 or more
 */
struct hmm_p2p_copy {
	struct page *dev_page;
	struct page *ram_page;
	unsigned long peer;
	unsigned int nr_pages;
};

/**
 * struct hmm_p2p_dma_copy - bytes that a device copies by DMA, which follow one another on
 *	both sides
 * @offset: of the first byte in the memory of this device, as from hmm_p2p_page_offset()
 * @addr: where &hmm_p2p_engine_desc.dev finds the other side on the bus: memory in RAM, or
 *	(%HMM_P2P_FROM_PEER) that of another device
 * @bytes: how many: at most dma_get_max_seg_size() of the device, and none of them is beyond
 *	the next dma_get_seg_boundary()
 * @clear: (%HMM_P2P_TO_DEVICE only) there is no other side, and the driver clears the bytes on
 *	the device; @addr means nothing
 *
 * @offset, @addr and @bytes are multiples of PAGE_SIZE, unless a limit of the device is less than
 * that: then they are multiples of the limit, rounded down to a power of two.
 */
struct hmm_p2p_dma_copy {
	u64 offset;
	dma_addr_t addr;
	size_t bytes;
	bool clear;
};

/**
 * struct hmm_p2p_copy_job - what &hmm_p2p_engine_ops.copy is to do
 * @copies: the pieces
 * @nr: number of them
 * @nr_pages: number of pages in all of them
 * @dma: the pieces for a device that copies by DMA (&hmm_p2p_engine_desc.dma_copies), or NULL.
 *	They are cut differently from @copies.  If the DMA API has too little to map all of
 *	@copies, the pieces are a part of it, and the op is called again for the rest.  The
 *	addresses are mapped until the copy has ended, and in its direction only
 * @nr_dma: number of pieces in @dma
 * @dir: in which direction
 * @alone: the caller waits for this copy before doing anything else, so -EINPROGRESS gains
 *	nothing
 * @node: for the driver to use
 */
struct hmm_p2p_copy_job {
	const struct hmm_p2p_copy *copies;
	unsigned int nr;
	unsigned int nr_pages;
	const struct hmm_p2p_dma_copy *dma;
	unsigned int nr_dma;
	enum hmm_p2p_copy_dir dir;
	bool alone;
	struct list_head node;
	/* private: */
	struct completion done;
	int state;			/* of the copy, with xchg() and cmpxchg() */
	int error;			/* what the op returned */
	int result;			/* what hmm_p2p_copy_done() was told */
};

/**
 * struct hmm_p2p_engine_ops - what the driver of an engine supplies
 *
 * @alloc_folios: Up to @nr free folios of order @order of the device memory, into
 *	@folios, each made by hmm_p2p_folio_init().  Returns how many; fewer than @nr mean
 *	that there are no more now.  Neighbours in ascending order make
 *	larger copies.  @order is 0 or that of a huge page; if there is no huge one,
 *	small ones are asked for.  Coherent memory is asked for small ones only.
 *	Called under mmap_lock, by several tasks at a time; may sleep, must not fault or
 *	take mmap_lock.  Folios come back through dev_pagemap_ops.folio_free, a few of them
 *	unused.  That is called by any task that drops the last reference, maybe under a
 *	spinlock, and for coherent memory also in an interrupt: it does not sleep, and the
 *	lock that it shares with this op is taken with interrupts disabled.  Peers' writes
 *	to a folio that was in use before may still be on their way: the engine calls
 *	&hmm_p2p_exporter_ops.flush_writes before @copy writes to the folio.  An op that
 *	writes to it earlier, to clear it for example, calls hmm_p2p_flush_writes() first.
 *	Required.
 *
 * @copy: Copy what @job says: @job->copies, or @job->dma if the device copies by DMA.
 *	Returns 0 when all of it has arrived; -EINPROGRESS if it is under way, and
 *	hmm_p2p_copy_done() will be called; or another negative
 *	errno, after which none of the pages migrate.  Source pages are unmapped from
 *	every page table; all pages are locked.  Called under mmap_lock or, on
 *	eviction, without, by several tasks at a time; may sleep; neither it nor the copy
 *	must wait for anything that needs mmap_lock or a page lock, nor for a thread in
 *	hmm_p2p_engine_unregister().  The driver ends each copy that is under way by one
 *	call of hmm_p2p_copy_done(), also a copy of %HMM_P2P_FROM_PEER from a device that
 *	has died.  -EOPNOTSUPP for %HMM_P2P_FROM_PEER makes the pages go through RAM.  The op
 *	has to work until hmm_p2p_reset_begin() returns.  If it returns -EAGAIN meanwhile,
 *	tasks that wait for the data wait for the reset.  Required.
 *
 * @make_room: A migration to the device needs @nr_pages small pages, and fewer are free.  The
 *	op evicts memory of its choice with hmm_p2p_evict().  Returns 0 if it is
 *	worth trying again, or an errno (-ENOMEM where there is nothing to evict): then only
 *	pages that fit move.  Called without locks.  Optional: without it, a migration to a
 *	full device moves the pages that fit.
 */
struct hmm_p2p_engine_ops {
	unsigned int (*alloc_folios)(void *priv, unsigned int order,
				     struct folio **folios, unsigned int nr);
	int (*copy)(void *priv, struct hmm_p2p_copy_job *job);
	int (*make_room)(void *priv, unsigned long nr_pages);
};

/**
 * struct hmm_p2p_engine_desc - what hmm_p2p_engine_register() needs to know
 * @ops: what the driver supplies; not copied, nor is what @priv and @dev point to: it stays
 *	until hmm_p2p_engine_unregister() has returned
 * @priv: first argument of every op
 * @dev: the device that masters the bus when ops->copy reads the memory of another device, or
 *	NULL if the CPU copies.  Stays until hmm_p2p_engine_unregister() has returned
 * @dma_copies: @dev masters the bus in every copy: the engine maps what is copied for it, with
 *	the DMA API, and ops->copy finds the addresses in &hmm_p2p_copy_job.dma.  @dev has a DMA
 *	mask then.  If false, ops->copy has struct pages only, and nothing is mapped: the CPU
 *	copies, or the driver maps by itself
 * @fault_around: bytes, a power of two up to PMD_SIZE: a CPU fault brings the pages
 *	around the one that it needs to RAM as well, as far as they are small pages of
 *	this device, in an aligned piece of that size of the VMA.  0: just the page.
 *	A fault on behalf of a peer, which may reach the pages around, or of another
 *	process brings just the page, too, unless hmm_p2p.enable is N.  A huge page
 *	always comes as a whole.
 */
struct hmm_p2p_engine_desc {
	const struct hmm_p2p_engine_ops *ops;
	void *priv;
	struct device *dev;
	bool dma_copies;
	unsigned int fault_around;
};

/**
 * enum hmm_p2p_outcome - the outcome of a migration for a page
 * @HMM_P2P_MOVED: it is at the destination
 * @HMM_P2P_THERE: it was there before
 * @HMM_P2P_ABSENT: nothing to move: a hole on the way to RAM, or where a device does not fill
 *	it (memory that is not anonymous, or userfaultfd waits for missing pages; there a zero
 *	page counts as a hole), swapped out, poisoned
 * @HMM_P2P_NOT_ANON: of a file, or shared memory
 * @HMM_P2P_KSM: merged by KSM
 * @HMM_P2P_OTHER: on another device, and left there
 * @HMM_P2P_BUSY: pinned, locked or being migrated by another task
 * @HMM_P2P_NO_MEMORY: no memory for it at the destination
 * @HMM_P2P_COPY_FAILED: the driver's copy op failed
 * @HMM_P2P_LOST: another task took a reference while the page was on its way
 * @HMM_P2P_NR_OUTCOMES: number of outcomes
 *
 * Outcomes from THERE to BUSY count as skipped, those from NO_MEMORY on as failed.
 */
enum hmm_p2p_outcome {
	HMM_P2P_MOVED,
	HMM_P2P_THERE,
	HMM_P2P_ABSENT,
	HMM_P2P_NOT_ANON,
	HMM_P2P_KSM,
	HMM_P2P_OTHER,
	HMM_P2P_BUSY,
	HMM_P2P_NO_MEMORY,
	HMM_P2P_COPY_FAILED,
	HMM_P2P_LOST,
	HMM_P2P_NR_OUTCOMES,
};

/**
 * struct hmm_p2p_result - what a migration did, in pages
 * @migrated: arrived at the destination
 * @skipped: stayed for a reason of their own
 * @failed: were ready to move and did not
 * @count: pages by &enum hmm_p2p_outcome
 * @vec: if not NULL when the call begins: a byte for each page of the range, set to
 *	its &enum hmm_p2p_outcome, up to where the migration ended
 */
struct hmm_p2p_result {
	unsigned long migrated;
	unsigned long skipped;
	unsigned long failed;
	unsigned long count[HMM_P2P_NR_OUTCOMES];
	u8 *vec;
};

/**
 * enum hmm_p2p_engine_stat - what an engine has moved, for its driver's policy
 * @HMM_P2P_ENGINE_STAT_TO_DEVICE: pages to the device, from RAM or another device, and holes
 *	that were filled there
 * @HMM_P2P_ENGINE_STAT_TO_RAM: pages from it to RAM.  Pages that another device took, and pages
 *	that were freed, do not count
 * @HMM_P2P_ENGINE_STAT_CPU_FAULTS: pages to RAM by a page fault of the CPU, or of a peer that
 *	does not reach them; the neighbours that came along count, too
 */
enum hmm_p2p_engine_stat {
	HMM_P2P_ENGINE_STAT_TO_DEVICE,
	HMM_P2P_ENGINE_STAT_TO_RAM,
	HMM_P2P_ENGINE_STAT_CPU_FAULTS,
};

/* For hmm_p2p_migrate_to_device(). */
#define HMM_P2P_ONLY_RAM	0x1	/* leave the pages of other devices */
#define HMM_P2P_NO_EVICT	0x2	/* do not call ops->make_room */

#ifdef CONFIG_HMM_P2P_MIGRATE

/*
 * The kernel-doc of the functions is in the files of mm/hmm_p2p/migrate/ that are named above
 * them.
 */

/* engine.c */
struct hmm_p2p_engine *
hmm_p2p_engine_register(struct hmm_p2p_exporter *exp,
			const struct hmm_p2p_engine_desc *desc);
void hmm_p2p_engine_unregister(struct hmm_p2p_engine *engine);
u64 hmm_p2p_engine_get_stat(struct hmm_p2p_engine *engine,
			    enum hmm_p2p_engine_stat stat);

/* range.c */
int hmm_p2p_migrate_to_device(struct hmm_p2p_engine *engine, struct mm_struct *mm,
			      unsigned long start, unsigned long end,
			      unsigned int flags, struct hmm_p2p_result *result);
int hmm_p2p_migrate_to_ram(struct hmm_p2p_engine *engine, struct mm_struct *mm,
			   unsigned long start, unsigned long end,
			   struct hmm_p2p_result *result);
struct mm_struct *hmm_p2p_mm_get_pidfd(int pidfd);

/* fault.c */
vm_fault_t hmm_p2p_migrate_fault(struct vm_fault *vmf);

/* evict.c */
int hmm_p2p_evict(struct hmm_p2p_engine *engine, u64 offset, u64 length,
		  struct hmm_p2p_result *result);

/* copy.c */
void hmm_p2p_copy_done(struct hmm_p2p_copy_job *job, int error);

#else /* CONFIG_HMM_P2P_MIGRATE */

static inline struct hmm_p2p_engine *
hmm_p2p_engine_register(struct hmm_p2p_exporter *exp,
			const struct hmm_p2p_engine_desc *desc)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static inline void hmm_p2p_engine_unregister(struct hmm_p2p_engine *engine)
{
}

static inline u64 hmm_p2p_engine_get_stat(struct hmm_p2p_engine *engine,
					  enum hmm_p2p_engine_stat stat)
{
	return 0;
}

static inline int
hmm_p2p_migrate_to_device(struct hmm_p2p_engine *engine, struct mm_struct *mm,
			  unsigned long start, unsigned long end,
			  unsigned int flags, struct hmm_p2p_result *result)
{
	return -EOPNOTSUPP;
}

static inline int
hmm_p2p_migrate_to_ram(struct hmm_p2p_engine *engine, struct mm_struct *mm,
		       unsigned long start, unsigned long end,
		       struct hmm_p2p_result *result)
{
	return -EOPNOTSUPP;
}

static inline vm_fault_t hmm_p2p_migrate_fault(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static inline int hmm_p2p_evict(struct hmm_p2p_engine *engine, u64 offset,
				u64 length, struct hmm_p2p_result *result)
{
	return -EOPNOTSUPP;
}

static inline void hmm_p2p_copy_done(struct hmm_p2p_copy_job *job, int error)
{
}

static inline struct mm_struct *hmm_p2p_mm_get_pidfd(int pidfd)
{
	return ERR_PTR(-EOPNOTSUPP);
}

#endif /* CONFIG_HMM_P2P_MIGRATE */

#endif /* _LINUX_HMM_P2P_MIGRATE_H */
