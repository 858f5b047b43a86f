/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The functions that the driver calls for tests only.  Without CONFIG_HMM_DUMMY_TEST each of them
 * does nothing, or returns a constant or its argument.
 */
#ifndef _HMM_DUMMY_TEST_HOOKS_H
#define _HMM_DUMMY_TEST_HOOKS_H

#include <linux/errno.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/pgtable.h>
#include <linux/types.h>

struct dentry;
struct hmm_dummy_access;
struct hmm_dummy_command;
struct hmm_dummy_desc;
struct hmm_dummy_dev;
struct hmm_dummy_edu;
struct hmm_dummy_held;
struct hmm_dummy_job;
struct hmm_dummy_range;
struct hmm_p2p_copy_job;
struct hmm_p2p_engine_desc;
struct hmm_p2p_window_map;
struct pci_dev;

#ifdef CONFIG_HMM_DUMMY_TEST

/* In struct hmm_dummy_desc. */
struct hmm_dummy_test_desc {
	struct hmm_dummy_edu *edu;
};

/* In struct hmm_dummy_dev. */
struct hmm_dummy_test_dev {
	struct hmm_dummy_edu *edu;	/* a bus master without memory; edu.c */
	struct hmm_dummy_edu *copier;	/* that makes our copies, or NULL; edu.c */
	u64 copied;			/* ... bytes that it did */
	u32 copy_fails;			/* ... at the piece with this number; 0: at none */
	struct dentry *debugfs;		/* control.c */
	u64 flushes;			/* of peers' writes; one at a time */
	bool paused;			/* sched.lock: engines rest */
	bool error_asleep;		/* what happens in the next sleep; control.c */
	bool recover_asleep;
	struct miscdevice dmirror;	/* dmirror.c */
	bool fail_huge;			/* the next huge page is refused; dmirror.c */
	void *bar_kva;			/* the BAR as vmap_pfn() mapped it; bar_skew.c */
	struct list_head held_node;	/* held.c */
	struct list_head held;		/* writes of peers that are on their way */
	unsigned long stale_writes;	/* vram.lock; canary.c */
	unsigned long stale_told;	/* vram.lock: how many of them user space was told of */
};

/* In struct hmm_dummy_range. */
struct hmm_dummy_test_range {
	/* range->lock: pages that the device has for itself; dmirror.c */
	DECLARE_BITMAP(exclusive, PTRS_PER_PMD);
};

/* In struct hmm_dummy_access. */
struct hmm_dummy_test_access {
	struct hmm_dummy_held *held;	/* the write arrives later; held.c */
};

/* hooks.c */
int hmm_dummy_test_init(void);
void hmm_dummy_test_exit(void);
void hmm_dummy_test_dev_init(struct hmm_dummy_dev *dev, const struct hmm_dummy_desc *desc);
void hmm_dummy_test_dev_add(struct hmm_dummy_dev *dev);
void hmm_dummy_test_dev_remove(struct hmm_dummy_dev *dev);
u32 hmm_dummy_test_caps(struct hmm_dummy_dev *dev, u32 caps);
bool hmm_dummy_test_fails(void);
bool hmm_dummy_test_fails_dma(unsigned long index, unsigned long nr);
int hmm_dummy_test_limit_dma(struct pci_dev *pdev);
void hmm_dummy_test_hide_kva(struct hmm_p2p_window_map *map);
u64 hmm_dummy_test_bar_offset(void);
bool hmm_dummy_test_hides(u64 end);
bool hmm_dummy_test_may_import(struct hmm_dummy_dev *dev);
bool hmm_dummy_test_copies_at_once(void);
bool hmm_dummy_test_never_evicts(void);
unsigned int hmm_dummy_test_queue_depth(unsigned int depth);

/* control.c */
void hmm_dummy_test_flush(struct hmm_dummy_dev *dev);
bool hmm_dummy_test_paused(struct hmm_dummy_dev *dev);
void hmm_dummy_test_asleep(struct hmm_dummy_dev *dev);

/* canary.c */
void hmm_dummy_test_vram_init(struct hmm_dummy_dev *dev);
void hmm_dummy_test_vram_exit(struct hmm_dummy_dev *dev);
void hmm_dummy_test_vram_taken(struct hmm_dummy_dev *dev, unsigned long index,
			       unsigned long nr);
void hmm_dummy_test_vram_freed(struct hmm_dummy_dev *dev, unsigned long index,
			       unsigned long nr);
void hmm_dummy_test_slot_closed(struct hmm_dummy_dev *dev, int slot);
unsigned long hmm_dummy_test_stale_writes(struct hmm_dummy_dev *dev);

/* bar_skew.c */
int hmm_dummy_test_bar_map(struct hmm_dummy_dev *dev);
void hmm_dummy_test_bar_unmap(struct hmm_dummy_dev *dev);

/* held.c */
void hmm_dummy_test_exporter_init(struct hmm_dummy_dev *dev);
void hmm_dummy_test_exporter_exit(struct hmm_dummy_dev *dev);
void hmm_dummy_test_access_begin(struct hmm_dummy_access *access);
void hmm_dummy_test_access_end(struct hmm_dummy_access *access);

/* edu.c */
void hmm_dummy_test_pci_init(void);
void hmm_dummy_test_pci_exit(void);
int hmm_dummy_test_range_map(struct hmm_dummy_range *range);
bool hmm_dummy_test_access_by_dma(struct hmm_dummy_dev *dev,
				  struct hmm_dummy_access *access);
bool hmm_dummy_test_refuses(struct hmm_dummy_dev *dev, const struct hmm_dummy_command *arg);
bool hmm_dummy_test_has_engine(struct hmm_dummy_dev *dev);
int hmm_dummy_test_engine_piece(struct hmm_dummy_job *job, u64 offset, unsigned long *bytes);
int hmm_dummy_test_engine_desc(struct hmm_dummy_dev *dev, struct hmm_p2p_engine_desc *desc);
int hmm_dummy_test_copy_by_dma(struct hmm_dummy_dev *dev, struct hmm_p2p_copy_job *job);

/* dmirror.c */
bool hmm_dummy_test_no_folio(struct hmm_dummy_dev *dev, unsigned int order);
void hmm_dummy_test_range_cleared(struct hmm_dummy_range *range, unsigned long first,
				  unsigned long nr);

#else

struct hmm_dummy_test_desc {};
struct hmm_dummy_test_dev {};
struct hmm_dummy_test_range {};
struct hmm_dummy_test_access {};

static inline int hmm_dummy_test_init(void)
{
	return 0;
}

static inline void hmm_dummy_test_exit(void)
{
}

static inline void hmm_dummy_test_dev_init(struct hmm_dummy_dev *dev,
					   const struct hmm_dummy_desc *desc)
{
}

static inline void hmm_dummy_test_dev_add(struct hmm_dummy_dev *dev)
{
}

static inline void hmm_dummy_test_dev_remove(struct hmm_dummy_dev *dev)
{
}

static inline u32 hmm_dummy_test_caps(struct hmm_dummy_dev *dev, u32 caps)
{
	return caps;
}

static inline bool hmm_dummy_test_fails(void)
{
	return false;
}

static inline bool hmm_dummy_test_fails_dma(unsigned long index, unsigned long nr)
{
	return false;
}

static inline int hmm_dummy_test_limit_dma(struct pci_dev *pdev)
{
	return 0;
}

static inline void hmm_dummy_test_hide_kva(struct hmm_p2p_window_map *map)
{
}

static inline u64 hmm_dummy_test_bar_offset(void)
{
	return 0;
}

static inline bool hmm_dummy_test_hides(u64 end)
{
	return false;
}

static inline bool hmm_dummy_test_may_import(struct hmm_dummy_dev *dev)
{
	return true;
}

static inline bool hmm_dummy_test_copies_at_once(void)
{
	return false;
}

static inline bool hmm_dummy_test_never_evicts(void)
{
	return false;
}

static inline unsigned int hmm_dummy_test_queue_depth(unsigned int depth)
{
	return depth;
}

static inline void hmm_dummy_test_flush(struct hmm_dummy_dev *dev)
{
}

static inline bool hmm_dummy_test_paused(struct hmm_dummy_dev *dev)
{
	return false;
}

static inline void hmm_dummy_test_asleep(struct hmm_dummy_dev *dev)
{
}

static inline void hmm_dummy_test_vram_init(struct hmm_dummy_dev *dev)
{
}

static inline void hmm_dummy_test_vram_exit(struct hmm_dummy_dev *dev)
{
}

static inline void hmm_dummy_test_vram_taken(struct hmm_dummy_dev *dev,
					     unsigned long index, unsigned long nr)
{
}

static inline void hmm_dummy_test_vram_freed(struct hmm_dummy_dev *dev,
					     unsigned long index, unsigned long nr)
{
}

static inline void hmm_dummy_test_slot_closed(struct hmm_dummy_dev *dev, int slot)
{
}

static inline unsigned long hmm_dummy_test_stale_writes(struct hmm_dummy_dev *dev)
{
	return 0;
}

static inline int hmm_dummy_test_bar_map(struct hmm_dummy_dev *dev)
{
	return 0;
}

static inline void hmm_dummy_test_bar_unmap(struct hmm_dummy_dev *dev)
{
}

static inline void hmm_dummy_test_exporter_init(struct hmm_dummy_dev *dev)
{
}

static inline void hmm_dummy_test_exporter_exit(struct hmm_dummy_dev *dev)
{
}

static inline void hmm_dummy_test_access_begin(struct hmm_dummy_access *access)
{
}

static inline void hmm_dummy_test_access_end(struct hmm_dummy_access *access)
{
}

static inline void hmm_dummy_test_pci_init(void)
{
}

static inline void hmm_dummy_test_pci_exit(void)
{
}

static inline int hmm_dummy_test_range_map(struct hmm_dummy_range *range)
{
	return 0;
}

static inline bool hmm_dummy_test_access_by_dma(struct hmm_dummy_dev *dev,
						struct hmm_dummy_access *access)
{
	return false;
}

static inline bool hmm_dummy_test_refuses(struct hmm_dummy_dev *dev,
					  const struct hmm_dummy_command *arg)
{
	return false;
}

static inline bool hmm_dummy_test_has_engine(struct hmm_dummy_dev *dev)
{
	return false;
}

static inline int hmm_dummy_test_engine_piece(struct hmm_dummy_job *job, u64 offset,
					      unsigned long *bytes)
{
	return 0;
}

static inline int hmm_dummy_test_engine_desc(struct hmm_dummy_dev *dev,
					     struct hmm_p2p_engine_desc *desc)
{
	return 0;
}

static inline int hmm_dummy_test_copy_by_dma(struct hmm_dummy_dev *dev,
					     struct hmm_p2p_copy_job *job)
{
	return -EOPNOTSUPP;
}

static inline bool hmm_dummy_test_no_folio(struct hmm_dummy_dev *dev, unsigned int order)
{
	return false;
}

static inline void hmm_dummy_test_range_cleared(struct hmm_dummy_range *range,
						unsigned long first, unsigned long nr)
{
}

#endif /* CONFIG_HMM_DUMMY_TEST */
#endif /* _HMM_DUMMY_TEST_HOOKS_H */
