/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Private to mm/hmm_p2p and its KUnit tests.  What is private to the migration engine is in
 * migrate/internal.h.  Outside of migrate/ only the tests include that: peer access does not know
 * the engine.
 *
 * Lock order, outermost first:
 *
 *	hmm_p2p_exporter.life (reset, death)
 *	  hmm_p2p_exporter.live_sem (Migrations to the device, the opening of windows and
 *	  questions to p2pdma take it to read.  No task queues for it to write.  A task with
 *	  mmap_lock only tries it, and no task with it waits for mmap_lock: see
 *	  hmm_p2p_live_tryget().)
 *	    hmm_p2p_pairs_lock (Importers and pairs.  A mirror takes it where a pair begins
 *	    or ends.  No task calls a callback under it, or allocates memory, which may wait
 *	    for a callback.)
 *	      hmm_p2p_pair.lock (Its mirrors.  The same holds for it.)
 *	    mmap_lock
 *	      folio lock of a device page
 *	        anon_vma (rmap walks that fire notifiers)
 *	          the importer's invalidation lock (umem_mutex and its like)
 *	            RCU, hmm_p2p_exporter.window_lock, .late_lock, watch_lock
 *	            xa_lock of hmm_p2p_peer.pairs (An invalidation marks pairs under it.  A
 *	            mirror that meets an exporter takes it in hmm_p2p_pair.lock.)
 *	        hmm_p2p_exporter.flush_lock (A task holds it while it calls
 *	        ops->flush_writes.  It never holds a lock of an importer at the same time.)
 *	      abandoned_lock (migrate/copy.c.  A task puts folios under it, which calls
 *	      ops->folio_free of the driver, and takes no other lock.)
 *	      late_mappings_lock (migrate/dma.c.  The DMA API unmaps under it.)
 *
 *	hmm_p2p_lock (registration) nests in none of the above, and none of them nests in it.
 *
 * Lookups, map_get and map_put take no lock of ours.  What keeps the objects
 * alive under them:
 *
 *	lookup		RCU.  The walk reads the PTE inside it.  A device-private PTE keeps
 *			its page.  The page keeps the pgmap: memunmap_pages() waits for
 *			RCU when the last page is free.  Pages may be in use when the
 *			exporter is unregistered, so that clears the pointer in the pgmap
 *			and waits for RCU.
 *	exporter_of()	RCU, or a reference that was taken under it.
 *	map_get		The importer's lock after mmu_interval_read_retry().  The PTE that
 *			gave the alias is still there, and unregistering has yet to revoke
 *			it.
 *	map_put		The pair has a reference on the exporter.  An exporter that is
 *			unregistered also stays until its windows have no references.
 *	pairs		The peer that holds them.  A mirror that looks for the pair of
 *			other mirrors needs RCU: see hmm_p2p_pair_join().
 */
#ifndef _MM_HMM_P2P_INTERNAL_H
#define _MM_HMM_P2P_INTERNAL_H

#include <linux/atomic.h>
#include <linux/cache.h>
#include <linux/hmm-dma.h>
#include <linux/hmm_p2p.h>
#include <linux/hmm_p2p_mm.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/percpu.h>
#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/sizes.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

struct mmu_notifier_range;

/* LIVE and RESETTING alternate; from there on it only grows. */
enum hmm_p2p_state {
	HMM_P2P_STATE_LIVE,
	HMM_P2P_STATE_RESETTING,
	HMM_P2P_STATE_DRAINING,
	HMM_P2P_STATE_DEAD,
};

/*
 *	CLOSED <--> OPENING --> OPEN <--> REVOKING --> CLOSED
 *	             |  | ^                 ^ |
 *	             |  v |                 | v
 *	             |  FAILED             STUCK --> CLOSED or OPEN
 *	             v
 *	         INVISIBLE
 *
 * OPENING becomes CLOSED again if the task that opens the window is killed.  It becomes FAILED if
 * the window cannot be opened now: no task tries again for a while, and then a fault opens the
 * window like one that is CLOSED.  INVISIBLE is for good.
 *
 * A window that is always visible begins as OPEN or INVISIBLE.  It goes OPEN, REVOKING, OPEN, or
 * through STUCK to OPEN.  A window on demand goes from STUCK to REVOKING and CLOSED.  When the
 * exporter is unregistered, OPEN windows become CLOSED, and so do STUCK ones once they are let go.
 */
enum hmm_p2p_window_state {
	HMM_P2P_CLOSED,
	HMM_P2P_OPENING,
	HMM_P2P_OPEN,
	HMM_P2P_REVOKING,	/* no more aliases; those that exist are taken away */
	HMM_P2P_FAILED,
	HMM_P2P_STUCK,		/* an importer does not let go */
	HMM_P2P_INVISIBLE,	/* the bus does not show this memory */
};

/*
 * One for each window of the device memory.  It takes 64 bytes, 4 more in exp->let_go, and about 9
 * more in the index of aliases for each 2 MiB of it that are open.
 *
 * A window has a cache line of its own, so that importers of neighbouring windows do not
 * disturb each other.  An importer that looks for an alias counts it next, so what lookups read is
 * beside what map_get and map_put count.
 */
struct hmm_p2p_window {
	struct hmm_p2p_exporter *exp;
	void *kva;			/* of its first byte, may be NULL */
	u32 alias;			/* of its first page, in ALIAS_ORDER; 0: none */
	u32 state;			/* exp->window_lock to change */
	atomic_t refs;			/* map entries that hold an alias in it */
	u32 used;			/* jiffies: last alias, or when opening failed */
	/* Windows on demand only, and touched by reclaim. */
	struct list_head node;		/* exp->window_lock; in exp->idle or exp->used, if OPEN */
	struct llist_node let_go_node;	/* in exp->let_go_windows */
	u32 let_go;			/* xchg(); it is in there */
} __aligned(64);

static_assert(sizeof(struct hmm_p2p_window) == 64);

/* Open windows, in the order in which reclaim may take them. */
struct hmm_p2p_window_list {
	struct list_head windows;
	struct list_head mark;		/* reclaim goes on behind it; empty: not in the list */
};

#define HMM_P2P_ALIAS_ORDER	(PMD_SHIFT - PAGE_SHIFT)

#define HMM_P2P_BUCKETS		16	/* of a histogram: below 1 us, 2, 4, ... */

enum hmm_p2p_counter {
	/* Of pairs and exporters, and counted all the time. */
	HMM_P2P_C_ALIASES,		/* lookups that found one, for a page or a huge one */
	HMM_P2P_C_FAULTS,		/* lookups on behalf of a required fault */
	HMM_P2P_C_MAPPED,		/* map entries that took a reference */
	HMM_P2P_C_UNMAPPED,		/* ... and dropped it */
	HMM_P2P_C_INVALIDATIONS,	/* importer's callbacks that dropped some */
	HMM_P2P_C_NR_HOT,
	/* Of exporters. */
	HMM_P2P_C_UPGRADES = HMM_P2P_C_NR_HOT,	/* read-only entries made writable in place */
	HMM_P2P_C_POISONED,		/* page table entries poisoned */
	HMM_P2P_C_OPENED,		/* windows opened on demand */
	HMM_P2P_C_RECLAIMED,		/* of those, closed again for another */
	HMM_P2P_C_REVOKED,		/* windows revoked one by one: not by reset or drain */
	HMM_P2P_C_QUARANTINES,		/* importers that a window of it put in quarantine */
	HMM_P2P_C_LATE,			/* callbacks that the watchdog reported */
	HMM_P2P_C_FLUSHES,		/* of peers' writes */
	/* Of both. */
	HMM_P2P_C_FALLBACK,		/* first of the reasons */
	HMM_P2P_C_BUCKET = HMM_P2P_C_FALLBACK + HMM_P2P_NR_REASONS,
	HMM_P2P_NR_COUNTERS = HMM_P2P_C_BUCKET + HMM_P2P_BUCKETS,
};

struct hmm_p2p_counters {
	u64 c[HMM_P2P_NR_COUNTERS];
};

/*
 * Fields that are written together begin a cache line.  Every lookup reads the first fields: those
 * must not move between CPUs because a fault elsewhere waits for a window.
 */
struct hmm_p2p_exporter {
	struct hmm_p2p_exporter_desc desc;	/* constant after registration */
	u64 id;					/* never used again */
	enum hmm_p2p_state state;		/* READ_ONCE; seldom changes */

	void *owner;				/* of the pgmap */
	unsigned long first_pfn;		/* fake PFNs of the pgmap */
	unsigned long nr_pages;			/* the pgmap may have more */
	unsigned int window_order;		/* in pages */
	unsigned long window_skip;		/* pages of the first window before the memory */
	unsigned long nr_windows;		/* the first and the last may have less memory */
	unsigned long nr_invisible;		/* window_lock to change */
	struct hmm_p2p_window *windows;
	u32 *let_go;				/* for each: see flush.c; NULL: nothing to flush */
	phys_addr_t alias_last;			/* highest alias byte there can be */
	bool on_demand;				/* windows open and close */
	bool coherent;				/* memory that the CPU maps: no windows */
	bool sole_owner;			/* hmm_p2p_lock; see hmm_p2p_claim_owner() */
	struct hmm_p2p_engine *engine;		/* migrate/ alone knows what it is */
	struct hmm_p2p_counters __percpu *counters;
	bool dying;				/* READ_ONCE; resets and copies give up */
	unsigned long died;			/* jiffies; if dying */

	/* Written by faults that leave the walk, and by migrations. */
	struct kref kref ____cacheline_aligned;
	atomic_t device_calls;			/* tasks in ops that need the device */
	struct rw_semaphore live_sem;	/* write: nothing comes in any more */

	/* Written when a window opens, closes or becomes idle. */
	spinlock_t window_lock ____cacheline_aligned;	/* states of windows */
	struct hmm_p2p_window_list idle;	/* window_lock; see window.c for both */
	struct hmm_p2p_window_list used;	/* window_lock */
	struct llist_head let_go_windows;	/* that have lost their last reference */
	bool gone;				/* window_lock; unregistered */
	struct work_struct settle;		/* windows that are no longer stuck */

	/* Written by each flush; read by each importer that lets go of a page. */
	struct mutex flush_lock ____cacheline_aligned;	/* one flush at a time */
	u32 flush_begun;			/* flush_lock to change: the last one's number */
	u32 flush_ended;			/* flush_lock to change */
	bool flush_closed;			/* flush_lock; the op is not called any more */

	/* Of reset, death and registration. */
	struct mutex life ____cacheline_aligned;	/* parked, and every change of state */
	bool closed;				/* life: it is too late to die */
	unsigned long *parked;			/* bit per page, during a reset */
	spinlock_t late_lock;			/* late, and the bits in it */
	unsigned long *late;			/* bit per page, during a reset: to be poisoned */
	wait_queue_head_t changed;		/* the state; of a window: wake_up_var() */
	struct rcu_head rcu;

	atomic64_t slowest_revoke;		/* ns */

	struct list_head pairs;			/* hmm_p2p_pairs_lock */
	struct list_head node;			/* hmm_p2p_lock */
	struct dentry *debugfs;
};

#define HMM_P2P_LINE(type, field)	(offsetof(type, field) / SMP_CACHE_BYTES)

/* Nothing that a fault or a migration writes is in a line that a lookup reads. */
static_assert(HMM_P2P_LINE(struct hmm_p2p_exporter, kref) >
	      HMM_P2P_LINE(struct hmm_p2p_exporter, died));
static_assert(HMM_P2P_LINE(struct hmm_p2p_exporter, window_lock) >
	      HMM_P2P_LINE(struct hmm_p2p_exporter, live_sem));
static_assert(HMM_P2P_LINE(struct hmm_p2p_exporter, flush_lock) >
	      HMM_P2P_LINE(struct hmm_p2p_exporter, settle));
static_assert(HMM_P2P_LINE(struct hmm_p2p_exporter, life) >
	      HMM_P2P_LINE(struct hmm_p2p_exporter, flush_closed));

/* An importing device, or software: all of its mirrors that have met an exporter. */
struct hmm_p2p_importer {
	const void *identity;			/* compared only */
	struct device *dev;			/* compared only; NULL: software */
	struct list_head node;			/* hmm_p2p_pairs_lock, both */
	unsigned int users;			/* pairs */
	atomic_t mirrors;
	bool quarantined;			/* READ_ONCE; never taken back */
	struct rcu_head rcu;
	char name[];
};

/* Counters that many CPUs add to at the same time: a cache line for some of the CPUs. */
struct hmm_p2p_hot_counters {
	atomic64_t c[HMM_P2P_C_NR_HOT];
} __aligned(64);

#define HMM_P2P_MAX_HOT		32U		/* of them in a pair; a power of two */
#define HMM_P2P_NR_COLD		(HMM_P2P_NR_COUNTERS - HMM_P2P_C_FALLBACK)

/*
 * One (importer, exporter, mm).  The cold counters count what takes long anyway: a page that
 * goes to RAM, a callback of the importer.
 */
struct hmm_p2p_pair {
	/* Constant from the first meeting on. */
	struct hmm_p2p_exporter *exp;
	struct hmm_p2p_importer *importer;
	struct mm_struct *mm;			/* compared only */
	pid_t pid;
	enum hmm_p2p_reason reason;		/* whether the importer reaches it */
	enum pci_p2pdma_map_type type;		/* ... and how */
	bool translated;			/* ... through an IOMMU */
	unsigned int nr_hot;			/* a power of two */

	refcount_t users;			/* attachments */
	struct list_head node;			/* exp->pairs; hmm_p2p_pairs_lock */
	struct hlist_node hash;			/* hmm_p2p_pairs_lock to change, RCU to read */
	struct rcu_head rcu;
	struct mutex lock;			/* of the list below */
	struct list_head attachments;
	atomic64_t slowest;			/* invalidation, ns */
	atomic64_t cold[HMM_P2P_NR_COLD];
	struct hmm_p2p_hot_counters hot[];
};

/* Whatever the number of CPUs. */
static_assert(struct_size_t(struct hmm_p2p_pair, hot, HMM_P2P_MAX_HOT) <= SZ_4K);

/* A mirror that has met an exporter. */
struct hmm_p2p_attachment {
	struct hmm_p2p_peer *peer;
	struct hmm_p2p_pair *pair;
	struct list_head node;			/* pair->attachments */
	unsigned long dropped;			/* importer's lock; of an invalidation */
};

/*
 * What an importer's map remembers.  It exists as soon as the mirror has met an exporter.  The
 * importer's lock protects all of it.
 */
struct hmm_p2p_map {
	struct hmm_p2p_peer *peer;
	struct hmm_p2p_pair *pair;		/* the last one that was needed */
	struct hmm_p2p_window *window;		/* ... of its exporter */
	unsigned long held;			/* bits that are set */
	u64 began;				/* ns: an invalidation; 0: none is timed */
	unsigned long dropped;			/* ... its last puts that are of the same pair */
	struct hmm_p2p_pair *dropped_pair;	/* ... which is this; NULL: none yet */
	bool dropped_pairs;			/* ... has puts of other pairs, which are marked */
	size_t nr_entries;
	unsigned long bits[];			/* entries that hold an alias */
};

/* All that map_get and map_put need, but for the bit itself, is in one cache line. */
static_assert(offsetof(struct hmm_p2p_map, nr_entries) <= 64);

/* exporter.c */
extern struct mutex hmm_p2p_lock;
extern struct list_head hmm_p2p_exporters;

/* Where a range of the device memory ends.  False: it is empty, or reaches beyond. */
static inline bool hmm_p2p_range_end(struct hmm_p2p_exporter *exp, u64 offset,
				     u64 length, u64 *end)
{
	return length && !check_add_overflow(offset, length, end) &&
	       *end <= PFN_PHYS(exp->nr_pages);
}

/* No other function knows where a page is.  hmm_p2p_page_offset() asks the page for @pgmap. */
static inline u64 hmm_p2p_offset_in(const struct dev_pagemap *pgmap,
				    const struct page *page)
{
	return PFN_PHYS(page_to_pfn(page)) - pgmap->range.start;
}

/* Whether a folio that the driver hands out is memory that it has registered. */
static inline bool hmm_p2p_has_folio(struct hmm_p2p_exporter *exp, const struct folio *folio)
{
	u64 offset;

	if (!folio_is_zone_device(folio) || folio->pgmap != exp->desc.pgmap)
		return false;
	offset = hmm_p2p_offset_in(folio->pgmap, folio_page(folio, 0));
	return offset + folio_size(folio) <= PFN_PHYS(exp->nr_pages);
}

struct hmm_p2p_exporter *hmm_p2p_exporter_of(const struct page *page);
u64 hmm_p2p_percpu_sum(const u64 __percpu *counter);

static inline u64 hmm_p2p_sum(const struct hmm_p2p_counters __percpu *counters,
			      unsigned int counter)
{
	return hmm_p2p_percpu_sum(&counters->c[counter]);
}

void hmm_p2p_raise_max(atomic64_t *max, s64 value);
const char *hmm_p2p_state_name(struct hmm_p2p_exporter *exp);
bool hmm_p2p_is_lost(struct hmm_p2p_exporter *exp);
int hmm_p2p_claim_owner(struct hmm_p2p_exporter *exp);

static inline void hmm_p2p_count(struct hmm_p2p_exporter *exp,
				 unsigned int counter, u64 n)
{
	this_cpu_add(exp->counters->c[counter], n);
}

static inline bool hmm_p2p_is_coherent(struct hmm_p2p_exporter *exp)
{
	return exp->coherent;
}

/* For tasks that do not hold exp->life.  The device may die as soon as this has returned. */
static inline bool hmm_p2p_is_dead(struct hmm_p2p_exporter *exp)
{
	return READ_ONCE(exp->state) == HMM_P2P_STATE_DEAD;
}

/* alias.c */
extern const char *const hmm_p2p_reason_names[HMM_P2P_NR_REASONS];
enum hmm_p2p_reason hmm_p2p_check_reach(struct hmm_p2p_exporter *exp, struct device *dev,
					enum pci_p2pdma_map_type *type);

/* window.c */
void hmm_p2p_window_setup(struct hmm_p2p_exporter *exp);
int hmm_p2p_windows_init(struct hmm_p2p_exporter *exp);
void hmm_p2p_windows_close(struct hmm_p2p_exporter *exp);
void hmm_p2p_windows_exit(struct hmm_p2p_exporter *exp);
void hmm_p2p_windows_settle(struct hmm_p2p_exporter *exp);
#if IS_ENABLED(CONFIG_KUNIT)
extern unsigned int hmm_p2p_reclaim_looks;
#endif
bool hmm_p2p_window_may_open(struct hmm_p2p_window *window);
int hmm_p2p_window_open(struct hmm_p2p_window *window, unsigned long since);
bool hmm_p2p_window_begin_revoke(struct hmm_p2p_window *window, bool killable);
void hmm_p2p_window_end_revoke(struct hmm_p2p_window *window, bool stuck);
void hmm_p2p_window_idle(struct hmm_p2p_window *window);

/* Whether an alias may be handed out. */
static inline bool hmm_p2p_window_usable(struct hmm_p2p_window *window)
{
	/* Pairs with the release in window_set(): alias and kva are there. */
	if (smp_load_acquire(&window->state) != HMM_P2P_OPEN)
		return false;
	if (window->exp->on_demand && READ_ONCE(window->used) != (u32)jiffies)
		WRITE_ONCE(window->used, (u32)jiffies);
	return true;
}

static inline unsigned long hmm_p2p_window_index(struct hmm_p2p_window *window)
{
	return window - window->exp->windows;
}

static inline unsigned long hmm_p2p_window_alias(struct hmm_p2p_window *window)
{
	return (unsigned long)READ_ONCE(window->alias) << HMM_P2P_ALIAS_ORDER;
}

/* The window of page @i of the device memory. */
static inline struct hmm_p2p_window *hmm_p2p_window_at(struct hmm_p2p_exporter *exp,
						       unsigned long i)
{
	return &exp->windows[(i + exp->window_skip) >> exp->window_order];
}

/* The pages of the device memory that a window has: the first, and the one behind the last. */
static inline unsigned long hmm_p2p_window_begin(struct hmm_p2p_window *window)
{
	unsigned long skip = window->exp->window_skip;

	return max(hmm_p2p_window_index(window) << window->exp->window_order, skip) - skip;
}

static inline unsigned long hmm_p2p_window_end(struct hmm_p2p_window *window)
{
	unsigned long next = (hmm_p2p_window_index(window) + 1) << window->exp->window_order;

	return min(next - window->exp->window_skip, window->exp->nr_pages);
}

/* Where page @i of the device memory is in its window, in pages. */
static inline unsigned long hmm_p2p_in_window(struct hmm_p2p_exporter *exp, unsigned long i)
{
	return (i + exp->window_skip) & (BIT(exp->window_order) - 1);
}

/* How many of @nr pages, from page @i of the device memory on, are in the window of page @i. */
static inline unsigned long hmm_p2p_window_span(struct hmm_p2p_exporter *exp, unsigned long i,
						unsigned long nr)
{
	return min(nr, hmm_p2p_window_end(hmm_p2p_window_at(exp, i)) - i);
}

/* alias_refs.c */
int hmm_p2p_track_insert(struct hmm_p2p_window *window, u32 alias);
void hmm_p2p_track_erase(struct hmm_p2p_window *window);
struct hmm_p2p_window *hmm_p2p_window_of_alias(unsigned long alias_pfn);
unsigned long hmm_p2p_refs(struct hmm_p2p_exporter *exp);
struct hmm_p2p_window *hmm_p2p_map_other_window(struct hmm_p2p_map *m,
						unsigned long pfn);
int hmm_p2p_map_alloc(struct hmm_p2p_peer *peer);
bool hmm_p2p_map_holds(struct hmm_dma_map *map, struct hmm_p2p_window *window);
void hmm_p2p_map_drop_all(struct hmm_dma_map *map);

/*
 * hmm_p2p_map_window - the window of an entry, and in m->pair the pair for it
 * @m: the importer's map, under the importer's lock
 * @pfn: of an entry that is current, or that holds a reference
 *
 * Usually it is the window that the map has cached.  The pair keeps the exporter, and so its
 * struct hmm_p2p_window.  But the window may have been closed, or its exporter unregistered, and
 * another window may have its address.  hmm_p2p_track_erase() has set window->alias to 0 before
 * that, so the cached window does not match.
 *
 * Return: the window, or NULL if @pfn is no alias of an exporter that was met.
 */
static inline struct hmm_p2p_window *hmm_p2p_map_window(struct hmm_p2p_map *m,
							unsigned long pfn)
{
	struct hmm_p2p_window *window = m->window;
	u32 alias = window ? READ_ONCE(window->alias) : 0;

	if (alias && (pfn - ((unsigned long)alias << HMM_P2P_ALIAS_ORDER)) >>
		     window->exp->window_order == 0)
		return window;
	return hmm_p2p_map_other_window(m, pfn);
}

/* flush.c */
int hmm_p2p_flush_init(struct hmm_p2p_exporter *exp);
void hmm_p2p_flush_note(struct hmm_p2p_window *window);
void hmm_p2p_flush_need(struct hmm_p2p_exporter *exp, unsigned long pfn,
			unsigned long nr, u32 *after);
void hmm_p2p_flush_after(struct hmm_p2p_exporter *exp, u32 after);
void hmm_p2p_flush_window(struct hmm_p2p_window *window);
void hmm_p2p_flush_all(struct hmm_p2p_exporter *exp);
void hmm_p2p_flush_end(struct hmm_p2p_exporter *exp);

/* The first @after for hmm_p2p_flush_need(): the flushes that have ended are enough. */
static inline u32 hmm_p2p_flush_none(struct hmm_p2p_exporter *exp)
{
	return READ_ONCE(exp->flush_ended) - 1;
}

/* importer.c */
extern struct list_head hmm_p2p_importers;	/* hmm_p2p_pairs_lock */

struct hmm_p2p_importer *hmm_p2p_importer_alloc(const struct hmm_p2p_peer *peer);
struct hmm_p2p_importer *hmm_p2p_importer_find(const struct hmm_p2p_peer *peer);
void hmm_p2p_importer_put(struct hmm_p2p_importer *importer);
void hmm_p2p_quarantine(struct hmm_p2p_window *window);
void hmm_p2p_set_dropped_pair(struct hmm_p2p_map *m);

/* Return: true if @peer is a mirror of @importer.  Its name does not count: that may change. */
static inline bool hmm_p2p_is_mirror_of(const struct hmm_p2p_peer *peer,
					const struct hmm_p2p_importer *importer)
{
	return importer->identity == peer->identity && importer->dev == peer->dev;
}

/* The name of the importer; before the mirror has one, the name that the driver gives. */
static inline const char *hmm_p2p_peer_name(const struct hmm_p2p_peer *peer)
{
	const struct hmm_p2p_importer *importer = READ_ONCE(peer->importer);

	return importer ? importer->name : peer->name;
}

static inline const char *hmm_p2p_map_name(const struct hmm_p2p_map *m)
{
	return m ? hmm_p2p_peer_name(m->peer) : "mirror that has met no exporter";
}

/* pair.c */
extern struct mutex hmm_p2p_pairs_lock;

bool hmm_p2p_pair_join(struct hmm_p2p_peer *peer, struct hmm_p2p_exporter *exp);
void hmm_p2p_pair_create(struct hmm_p2p_peer *peer, struct hmm_p2p_exporter *exp);
void hmm_p2p_pair_leave(struct hmm_p2p_attachment *attachment);
void hmm_p2p_report_holders(struct hmm_p2p_exporter *exp, struct mm_struct *mm);
u64 hmm_p2p_pair_read(struct hmm_p2p_pair *pair, unsigned int counter);
u64 hmm_p2p_total_read(struct hmm_p2p_exporter *exp, unsigned int counter);

/* The pair of a peer and the exporter with that id, NULL if they have not met. */
static inline struct hmm_p2p_pair *hmm_p2p_pair_of(struct hmm_p2p_peer *peer, u64 id)
{
	struct hmm_p2p_attachment *attachment = xa_load(&peer->pairs, id);

	return attachment ? attachment->pair : NULL;
}

/*
 * Map entries that hold an alias now.  The two sums are taken while entries are mapped and
 * unmapped: unmapped first, so that an entry that is counted there is among the mapped.
 */
static inline u64 hmm_p2p_pair_held(struct hmm_p2p_pair *pair)
{
	u64 unmapped = hmm_p2p_pair_read(pair, HMM_P2P_C_UNMAPPED);

	/* Pairs with the importer's lock, under which one is counted after the other. */
	smp_rmb();
	return hmm_p2p_pair_read(pair, HMM_P2P_C_MAPPED) - unmapped;
}

/* Where @cpu counts, if a pair has that counter. */
static inline atomic64_t *hmm_p2p_pair_counter(struct hmm_p2p_pair *pair,
					       unsigned int counter, unsigned int cpu)
{
	if (counter < HMM_P2P_C_NR_HOT)
		return &pair->hot[cpu & (pair->nr_hot - 1)].c[counter];
	return &pair->cold[counter - HMM_P2P_C_FALLBACK];
}

/* Atomic, since CPUs may share a counter; the task may also move to another CPU. */
static inline void hmm_p2p_pair_count(struct hmm_p2p_pair *pair,
				      unsigned int counter, u64 n)
{
	atomic64_add(n, hmm_p2p_pair_counter(pair, counter, raw_smp_processor_id()));
}

#if IS_ENABLED(CONFIG_KUNIT)
struct hmm_p2p_pair *hmm_p2p_pair_alloc(unsigned int nr_cpus);
#endif

/* revoke.c */
enum hmm_p2p_revoked { HMM_P2P_REVOKED, HMM_P2P_HELD, HMM_P2P_BROKEN };

#define HMM_P2P_NO_TIMEOUT	ULONG_MAX

enum hmm_p2p_revoked hmm_p2p_revoke_window(struct hmm_p2p_window *window,
					   unsigned long timeout);
void hmm_p2p_revoke_all(struct hmm_p2p_exporter *exp);

/* state.c */
/* How often a task that waits for others says so in the kernel log. */
#define HMM_P2P_REPORT_INTERVAL	(10 * HZ)

void hmm_p2p_exporter_set_state(struct hmm_p2p_exporter *exp, enum hmm_p2p_state state);
bool hmm_p2p_flush_readers(struct hmm_p2p_exporter *exp);
bool hmm_p2p_device_enter(struct hmm_p2p_exporter *exp);
void hmm_p2p_device_exit(struct hmm_p2p_exporter *exp);
void hmm_p2p_check_refs(struct hmm_p2p_exporter *exp);
void hmm_p2p_begin_drain(struct hmm_p2p_exporter *exp);

/* reset.c */
void hmm_p2p_unpark_all(struct hmm_p2p_exporter *exp);
bool hmm_p2p_poison_later(struct hmm_p2p_exporter *exp, unsigned long i);

/* death.c */
/* How long the driver of a dead device has to end the copies that are under way. */
#define HMM_P2P_COPY_LIMIT	(5 * HZ)

bool hmm_p2p_is_overdue(struct hmm_p2p_exporter *exp);
void hmm_p2p_poison_folio(struct hmm_p2p_exporter *exp, struct folio *folio,
			  struct page *only);
int hmm_p2p_poison_page(struct hmm_p2p_exporter *exp, unsigned long i,
			unsigned long deadline);

/* watchdog.c */
struct hmm_p2p_watch {
	struct hlist_node node;
	struct hmm_p2p_exporter *exp;
	struct task_struct *task;	/* compared only */
	const void *callback;		/* that the task is in, to be named; NULL: in none */
	struct mm_struct *mm;		/* of that callback; compared only */
	unsigned long start;		/* ... jiffies */
	bool reported;			/* ... by the watchdog */
};

void hmm_p2p_watch_begin(struct hmm_p2p_watch *watch, struct hmm_p2p_exporter *exp);
void hmm_p2p_watch_end(struct hmm_p2p_watch *watch);

/* folio.c */
static inline void hmm_p2p_drop_folio(struct folio *folio)
{
	folio_unlock(folio);
	folio_put(folio);
}

/*
 * The folio that a page of a device is in, or NULL if the page is free.  A free page that was the
 * tail of a huge folio still looks like one until it is used again, whatever its head is by then.
 * A free page that was the head keeps the size of that folio, although its tails may be in use as
 * other pages.  The caller asks again when it has the folio's lock and a reference on it, and does
 * not trust the folio's size before.
 */
static inline struct folio *hmm_p2p_folio_of_pfn(unsigned long pfn)
{
	struct folio *folio = page_folio(pfn_to_page(pfn));

	/* Not folio_nr_pages(), which asserts that it has a head: a free page may become a tail. */
	return pfn - folio_pfn(folio) < compound_nr(&folio->page) ? folio : NULL;
}

bool hmm_p2p_page_is_free(unsigned long pfn);
struct folio *hmm_p2p_grab_folio(unsigned long pfn, bool *busy);
struct anon_vma *hmm_p2p_unmap_folio(struct folio *folio);
void hmm_p2p_map_folio(struct folio *folio, struct anon_vma *anon_vma);

/* debugfs.c */
extern struct fault_attr hmm_p2p_fail_lookup;

void hmm_p2p_debugfs_add(struct hmm_p2p_exporter *exp);
void hmm_p2p_debugfs_remove(struct hmm_p2p_exporter *exp);

/* Where an engine has its file, from hmm_p2p_register() to hmm_p2p_unregister(). */
static inline struct dentry *hmm_p2p_debugfs_dir(struct hmm_p2p_exporter *exp)
{
	return exp->debugfs;
}

#endif /* _MM_HMM_P2P_INTERNAL_H */
