/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Private to mm/hmm_p2p/migrate, the migration engine.  The engine uses peer access through
 * ../internal.h.  Peer access does not use the engine, and does not include this file.
 */
#ifndef _MM_HMM_P2P_MIGRATE_INTERNAL_H
#define _MM_HMM_P2P_MIGRATE_INTERNAL_H

#include <linux/dma-mapping.h>
#include <linux/hmm_p2p_migrate.h>
#include <linux/migrate.h>

#include "../internal.h"

/* engine.c */
enum hmm_p2p_engine_counter {
	HMM_P2P_E_TO_DEVICE,		/* pages migrated to it from RAM, or from nothing */
	HMM_P2P_E_TO_RAM,		/* ... from it to RAM */
	HMM_P2P_E_FROM_PEER,		/* ... from another device to it */
	HMM_P2P_E_CPU_FAULTS,		/* of those to RAM, by a fault, neighbours included */
	HMM_P2P_E_DMA_MAPPED,		/* pages given a DMA or bus address for a copy */
	HMM_P2P_E_DMA_UNMAPPED,		/* ... and unmapped */
	HMM_P2P_E_NR_COUNTERS,
};

struct hmm_p2p_engine_counters {
	u64 c[HMM_P2P_E_NR_COUNTERS];
};

struct hmm_p2p_engine {
	struct hmm_p2p_engine_desc desc;	/* constant after registration */
	struct hmm_p2p_exporter *exp;		/* the driver keeps it registered */
	struct hmm_p2p_engine_counters __percpu *counters;
	struct dentry *debugfs;
};

/*
 * NULL: the exporter has none.  What keeps the engine is a page of the device that is locked
 * and was mapped when it was locked, or hmm_p2p_exporter.live_sem with the exporter LIVE.
 */
static inline struct hmm_p2p_engine *hmm_p2p_engine_of(struct hmm_p2p_exporter *exp)
{
	/* Pairs with the release in hmm_p2p_engine_register(). */
	return READ_ONCE(exp->engine);
}

static inline void hmm_p2p_engine_count(struct hmm_p2p_engine *engine,
					enum hmm_p2p_engine_counter counter, u64 n)
{
	this_cpu_add(engine->counters->c[counter], n);
}

static inline u64 hmm_p2p_engine_sum(const struct hmm_p2p_engine *engine,
				     enum hmm_p2p_engine_counter counter)
{
	return hmm_p2p_percpu_sum(&engine->counters->c[counter]);
}

/* evict.c */
void hmm_p2p_evict_all(struct hmm_p2p_engine *engine);

/* batch.c */
/* Not HPAGE_PMD_NR, which is no constant without huge pages. */
#define HMM_P2P_BATCH_PAGES	(PMD_SIZE >> PAGE_SHIFT)
/* Small folios of a device that are asked for together. */
#define HMM_P2P_SPARE		32

/* Pages that migrate together: at most a PMD's worth, of one VMA or of none. */
struct hmm_p2p_batch {
	struct hmm_p2p_engine *engine;	/* its ops copy */
	struct hmm_p2p_exporter *from;	/* FROM_PEER: the pages are of this one */
	enum pci_p2pdma_map_type from_type;	/* ... how the engine's device reaches them */
	struct hmm_p2p_dma *dma;	/* dma.c; NULL: the CPU copies, or nothing was copied */
	unsigned int dma_next;		/* the first of the copies that has not been mapped, */
	unsigned int dma_next_page;	/* ... or not from this page on */
	bool dma_short;			/* the DMA API had nothing for a single page of it */
	struct hmm_p2p_copy_job job;
	struct migrate_vma args;	/* .vma is NULL on eviction */
	unsigned long nr;
	unsigned long taken;		/* pages, and holes, that are ready to move */
	unsigned long no_room;		/* pages that the device had no memory for */
	unsigned long moved;		/* at the end */
	bool in_flight;			/* the copy runs by itself */
	bool abandoned;			/* ... and the task does not wait for it any more */
	bool kept;			/* ... the destinations; abandoned_lock once listed */
	struct list_head node;		/* hmm_p2p_abandoned; abandoned_lock */
	struct work_struct reap;	/* when the copy has ended all the same */
	struct folio *split;		/* has to be split first; a reference until end */
	unsigned long want;		/* pages that may still need a destination */
	struct folio *spare[HMM_P2P_SPARE];	/* of the device, for those */
	unsigned int spare_first;
	unsigned int spare_end;
	int error;
	u8 *why;			/* enum hmm_p2p_outcome, one a page */
	struct hmm_p2p_copy copies[];
};

struct hmm_p2p_batch *hmm_p2p_batch_alloc(unsigned long nr);
void hmm_p2p_batch_free(struct hmm_p2p_batch *b);
void hmm_p2p_batch_init(struct hmm_p2p_batch *b, struct hmm_p2p_engine *engine,
			enum hmm_p2p_copy_dir dir, struct vm_area_struct *vma,
			unsigned long start, unsigned long end);
int hmm_p2p_batch_collect(struct hmm_p2p_batch *b, struct page *fault_page);
void hmm_p2p_batch_collect_pfns(struct hmm_p2p_batch *b, struct hmm_p2p_engine *engine,
				unsigned long nr);
void hmm_p2p_batch_start(struct hmm_p2p_batch *b);
int hmm_p2p_batch_end(struct hmm_p2p_batch *b);
void hmm_p2p_split_mapped(struct folio *folio);

/* copy.c */
/* hmm_p2p_copy_job.state: see hmm_p2p_copy_leave(). */
enum hmm_p2p_copy_state {
	HMM_P2P_COPY_RUNNING,
	HMM_P2P_COPY_ENDED,
	HMM_P2P_COPY_ABANDONED,
};

extern struct list_head hmm_p2p_abandoned;

void hmm_p2p_copy_start(struct hmm_p2p_batch *b);
int hmm_p2p_copy_end(struct hmm_p2p_batch *b);
bool hmm_p2p_copy_is_in_parts(struct hmm_p2p_batch *b);
void hmm_p2p_copy_leave(struct hmm_p2p_batch *b);
bool hmm_p2p_copy_is_sound(struct hmm_p2p_batch *b);
void hmm_p2p_copy_forget(struct hmm_p2p_engine *engine);
unsigned long hmm_p2p_copy_nr_kept(struct hmm_p2p_engine *engine);

/* dma.c */
struct hmm_p2p_dma_extent {
	dma_addr_t addr;
	size_t bytes;
};

/* What is mapped for the copy of a batch. */
struct hmm_p2p_dma {
	struct hmm_p2p_engine *engine;	/* NULL: nothing is mapped.  late_mappings_lock if late */
	struct device *dev;		/* its desc.dev */
	struct list_head node;		/* late_mappings_lock: late_mappings */
	enum dma_data_direction dir;
	unsigned long attrs;
	unsigned long nr_pages;		/* mapped */
	size_t max_piece;		/* bytes; what is below a page is a power of two */
	size_t max_extent;		/* bytes */
	unsigned long boundary;		/* mask; no piece crosses one */
	bool bus;			/* addresses are the bus's, and nothing is mapped */
	struct dma_iova_state iova;	/* or one range of addresses is for all of it */
	size_t linked;			/* ... bytes of it in use */
	struct hmm_p2p_dma_copy *pieces;	/* behind the extents */
	unsigned int nr;
	unsigned int room_pieces;
	unsigned int room_extents;
	unsigned int nr_extents;
	struct hmm_p2p_dma_extent extents[];	/* or each is mapped by itself */
};

bool hmm_p2p_dma_reaches_ram(struct device *dev);
int hmm_p2p_dma_map(struct hmm_p2p_batch *b);
void hmm_p2p_dma_end(struct hmm_p2p_batch *b);
void hmm_p2p_dma_end_late(struct hmm_p2p_batch *b);
void hmm_p2p_dma_forget(struct hmm_p2p_engine *engine);
#if IS_ENABLED(CONFIG_KUNIT)
dma_addr_t hmm_p2p_dma_map_extent(struct hmm_p2p_batch *b, phys_addr_t phys, size_t bytes);
void hmm_p2p_dma_add_pieces(struct hmm_p2p_dma *dma, struct hmm_p2p_dma_copy rest);
#endif

/* place.c */
struct folio *hmm_p2p_alloc_ram(struct vm_area_struct *vma, unsigned long addr,
				struct folio *from, unsigned int order);

/* scan.c */
#define HMM_P2P_MAX_OTHERS	4

/* What is at the addresses of a batch. */
struct hmm_p2p_scan {
	struct hmm_p2p_exporter *exp;
	enum hmm_p2p_copy_dir dir;
	unsigned long start;
	enum hmm_p2p_outcome hole;	/* what becomes of a hole, unless it moves */
	u8 *why;
	unsigned long todo;		/* pages that may move */
	unsigned int nr_others;
	struct hmm_p2p_exporter *others[HMM_P2P_MAX_OTHERS];	/* references */
};

void hmm_p2p_scan(struct hmm_p2p_scan *s, struct vm_area_struct *vma,
		  unsigned long start, unsigned long end);

/* range.c */
void hmm_p2p_result_init(struct hmm_p2p_result *result);
void hmm_p2p_result_sum(struct hmm_p2p_result *result);

#endif /* _MM_HMM_P2P_MIGRATE_INTERNAL_H */
