/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Private to mm/hmm_p2p (and its KUnit tests).
 *
 * Lock order, outermost first:
 *
 *	hmm_p2p_exporter.migrate_sem (read: migrations to the device)
 *	  mmap_lock
 *	    the importer's invalidation lock (umem_mutex and its like)
 *	      RCU
 *
 *	hmm_p2p_lock (registration) nests in nothing of the above.
 *
 * Lookups, map_get and map_put take no lock of ours.  What keeps the objects
 * alive under them:
 *
 *	lookup		RCU, with the PTE read inside it: a device-private PTE
 *			keeps its page, the page keeps the exporter registered,
 *			and unregistering waits for RCU after the last page.
 *	map_get		the importer's lock after mmu_interval_read_retry(): the
 *			PTE that gave the alias is still there.
 *	map_put		the reference itself.
 */
#ifndef _MM_HMM_P2P_INTERNAL_H
#define _MM_HMM_P2P_INTERNAL_H

#include <linux/atomic.h>
#include <linux/hmm-dma.h>
#include <linux/hmm_p2p.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/memremap.h>
#include <linux/percpu.h>
#include <linux/rwsem.h>
#include <linux/wait.h>

enum hmm_p2p_state {
	HMM_P2P_LIVE,
	HMM_P2P_DRAINING,
};

/* One per window size of device memory.  At most 64 bytes with its index slot. */
struct hmm_p2p_window {
	struct hmm_p2p_exporter *exp;
	unsigned long alias_pfn;	/* of its first page */
	void *kva;			/* of its first byte, may be NULL */
	atomic_t refs;			/* map entries that hold an alias in it */
};

enum hmm_p2p_counter {
	HMM_P2P_C_ALIASES,		/* handed out by lookups */
	HMM_P2P_C_MAPPED,		/* map entries that took a reference */
	HMM_P2P_C_UNMAPPED,		/* ... and dropped it */
	HMM_P2P_C_TO_DEVICE,		/* pages migrated */
	HMM_P2P_C_TO_RAM,
	HMM_P2P_C_CPU_FAULTS,		/* of those, by a fault */
	HMM_P2P_C_FALLBACK,		/* first of the reasons */
	HMM_P2P_NR_COUNTERS = HMM_P2P_C_FALLBACK + HMM_P2P_NR_REASONS,
};

struct hmm_p2p_counters {
	u64 c[HMM_P2P_NR_COUNTERS];
};

struct hmm_p2p_exporter {
	struct hmm_p2p_exporter_desc desc;	/* constant after registration */
	u64 id;					/* never used again */
	enum hmm_p2p_state state;		/* READ_ONCE; only grows */
	struct kref kref;
	struct rcu_head rcu;

	unsigned long first_pfn;		/* fake PFNs of the pgmap */
	unsigned long nr_pages;
	unsigned int window_order;		/* in pages */
	unsigned long nr_windows;
	struct hmm_p2p_window *windows;
	phys_addr_t alias_last;			/* highest alias byte */
	bool kmappable;				/* every window has a kva */

	struct rw_semaphore migrate_sem;	/* write: no migration to us runs */
	wait_queue_head_t drained;		/* a window's refs fell to 0 */
	struct hmm_p2p_counters __percpu *counters;
	struct list_head node;			/* hmm_p2p_lock */
	struct dentry *debugfs;
};

/* core.c */
void hmm_p2p_exporter_put(struct hmm_p2p_exporter *exp);

static inline void hmm_p2p_count(struct hmm_p2p_exporter *exp,
				 unsigned int counter, u64 n)
{
	this_cpu_add(exp->counters->c[counter], n);
}

u64 hmm_p2p_counter_read(struct hmm_p2p_exporter *exp, unsigned int counter);

/* alias.c */
extern const char *const hmm_p2p_reason_names[HMM_P2P_NR_REASONS];

/* track.c */
int hmm_p2p_track_add(struct hmm_p2p_exporter *exp);
void hmm_p2p_track_remove(struct hmm_p2p_exporter *exp);
struct hmm_p2p_window *hmm_p2p_window_of_alias(unsigned long alias_pfn);
unsigned long hmm_p2p_refs(struct hmm_p2p_exporter *exp);

/* migrate.c */
void hmm_p2p_evict_all(struct hmm_p2p_exporter *exp);

/* debugfs.c */
void hmm_p2p_debugfs_add(struct hmm_p2p_exporter *exp);
void hmm_p2p_debugfs_remove(struct hmm_p2p_exporter *exp);

#endif /* _MM_HMM_P2P_INTERNAL_H */
