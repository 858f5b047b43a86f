/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Peer access to device-private memory, for mm/hmm.c and mm/mmu_notifier.c.  What drivers call is
 * in linux/hmm_p2p.h.  The comments of the functions are in the files of mm/hmm_p2p/ that are
 * named above their prototypes.
 */
#ifndef _LINUX_HMM_P2P_MM_H
#define _LINUX_HMM_P2P_MM_H

#include <linux/cache.h>
#include <linux/hash.h>
#include <linux/hmm_p2p.h>
#include <linux/list.h>
#include <linux/pci-p2pdma.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct hmm_dma_map;
struct hmm_p2p_pair;
struct hmm_p2p_window;
struct mmu_interval_notifier;
struct page;
struct vm_area_struct;

/* What one walk remembers between lookups; begins zeroed. */
struct hmm_p2p_cursor {
#ifdef CONFIG_HMM_P2P
	struct hmm_p2p_pair *pair;	/* of the last exporter */
	struct hmm_p2p_window *window;	/* of the last alias, NULL: none yet */
	unsigned long first_pfn;	/* device-private PFNs in it */
	unsigned long nr;
	unsigned long skip;		/* pages of the window in front of them */
	u64 id;				/* which exporter it was */
	unsigned long aliases;		/* not in the pair's counters yet */
	unsigned long faults;
#endif
};

/* What a lookup is told about the entry and the caller. */
#define HMM_P2P_READ_ONLY_ENTRY	0x1	/* write is required and not given */
#define HMM_P2P_FAULT		0x2	/* the page is required */
#define HMM_P2P_WAIT		0x4	/* the caller can leave the walk */
#define HMM_P2P_WATCHED_ENTRY	0x8	/* userfaultfd waits for what is required */

#ifdef CONFIG_HMM_P2P

/* alias.c */
bool hmm_p2p_enabled(void);
enum hmm_p2p_reason hmm_p2p_lookup(struct hmm_p2p_peer *peer,
				   struct hmm_p2p_cursor *cursor,
				   struct page *page, unsigned int flags,
				   unsigned long *alias_pfn,
				   struct hmm_p2p_window **pending);
unsigned long hmm_p2p_lookup_span(struct page *page, unsigned long nr);
bool hmm_p2p_lookup_again(struct hmm_p2p_peer *peer, struct hmm_p2p_cursor *cursor,
			  struct page *page, bool required,
			  unsigned long *alias_pfn);
void hmm_p2p_lookup_done(struct hmm_p2p_cursor *cursor);
int hmm_p2p_resolve(struct hmm_p2p_peer *peer, struct hmm_p2p_window *pending,
		    unsigned long since);
unsigned int hmm_p2p_make_writable(struct vm_area_struct *vma, unsigned long addr,
				   pmd_t *pmdp);
enum pci_p2pdma_map_type hmm_p2p_dma_type(struct hmm_dma_map *map, size_t idx,
					  struct p2pdma_provider **provider);

/* watchdog.c: the tasks that it watches, in lists by a hash of the task */
#define HMM_P2P_WATCH_BITS	6
struct hmm_p2p_watch_list {
	struct hlist_head head;		/* lock to change; read without, too */
	spinlock_t lock;
} ____cacheline_aligned_in_smp;
extern struct hmm_p2p_watch_list hmm_p2p_watches[1 << HMM_P2P_WATCH_BITS];

static inline unsigned int hmm_p2p_watch_hash(const struct task_struct *task)
{
	return hash_ptr(task, HMM_P2P_WATCH_BITS);
}

void __hmm_p2p_watch_callback(const struct mmu_interval_notifier *notifier, bool finish);

/**
 * hmm_p2p_watch_callback - tell the watchdog which callback the calling task is in
 * @notifier: the task is about to call its callback; NULL: it is in none any more
 * @finish: that callback is invalidate_finish
 *
 * mm/mmu_notifier.c calls it in any task.  A task that is not watched takes no lock of the
 * watchdog, unless a task with the same hash is watched: then it takes the lock of their list.
 *
 * Context: Any in which an invalidate callback may be called; takes a spinlock at most.
 */
static inline void
hmm_p2p_watch_callback(const struct mmu_interval_notifier *notifier, bool finish)
{
	/*
	 * No barrier: the task looks for a watch that it has added to the list itself.  By
	 * program order, and by the scheduler's where the task has changed the CPU, it reads
	 * the head of the list as of then or later, and the list is not empty until the task
	 * takes its watch out.  Watches of other tasks come and go meanwhile: if the task sees
	 * one it takes the lock in vain, and if not it misses nothing.
	 */
	if (!hlist_empty(&hmm_p2p_watches[hmm_p2p_watch_hash(current)].head))
		__hmm_p2p_watch_callback(notifier, finish);
}

#else /* CONFIG_HMM_P2P */

static inline bool hmm_p2p_enabled(void)
{
	return false;
}

static inline enum hmm_p2p_reason
hmm_p2p_lookup(struct hmm_p2p_peer *peer, struct hmm_p2p_cursor *cursor,
	       struct page *page, unsigned int flags, unsigned long *alias_pfn,
	       struct hmm_p2p_window **pending)
{
	return HMM_P2P_NO_EXPORTER;
}

static inline unsigned long hmm_p2p_lookup_span(struct page *page, unsigned long nr)
{
	return nr;
}

static inline bool
hmm_p2p_lookup_again(struct hmm_p2p_peer *peer, struct hmm_p2p_cursor *cursor,
		     struct page *page, bool required, unsigned long *alias_pfn)
{
	return false;
}

static inline void hmm_p2p_lookup_done(struct hmm_p2p_cursor *cursor)
{
}

static inline int hmm_p2p_resolve(struct hmm_p2p_peer *peer,
				  struct hmm_p2p_window *pending,
				  unsigned long since)
{
	return 0;
}

static inline unsigned int hmm_p2p_make_writable(struct vm_area_struct *vma,
						 unsigned long addr, pmd_t *pmdp)
{
	return HMM_P2P_READ_ONLY_ENTRY;
}

static inline enum pci_p2pdma_map_type
hmm_p2p_dma_type(struct hmm_dma_map *map, size_t idx,
		 struct p2pdma_provider **provider)
{
	return PCI_P2PDMA_MAP_NOT_SUPPORTED;
}

static inline void
hmm_p2p_watch_callback(const struct mmu_interval_notifier *notifier, bool finish)
{
}

#endif /* CONFIG_HMM_P2P */

#endif /* _LINUX_HMM_P2P_MM_H */
