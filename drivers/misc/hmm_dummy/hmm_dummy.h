/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Private to the dummy GPU.  One section per file, in the order in which the
 * files are best read.
 *
 * Lock order, outermost first:
 *
 *	hmm_dummy_dev.life	read: an ioctl runs; write: the device goes
 *	  hmm_dummy_ctx.lock	the set of ranges
 *	    mmap_lock		(taken by hmm and the core)
 *	      hmm_dummy_range.lock	the device page table of a range
 *	        hmm_dummy_dev.free_lock
 *	          hmm_dummy_dev.slot_lock	which windows are in the BAR
 */
#ifndef _HMM_DUMMY_H
#define _HMM_DUMMY_H

#include <linux/device.h>
#include <linux/hmm-dma.h>
#include <linux/hmm_p2p.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/memremap.h>
#include <linux/miscdevice.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/xarray.h>
#include <uapi/linux/hmm_dummy.h>

#define VRAM_BAR	2
#define VRAM_CHUNK	PMD_SIZE	/* also the core's window size */

struct hmm_dummy_dev {
	struct kref kref;		/* the bound device, and each open file */
	struct list_head node;		/* hmm_dummy_list_lock */
	int id;
	char name[16];
	struct pci_dev *pdev;		/* NULL: memory in reserved pages */
	struct miscdevice misc;

	struct rw_semaphore life;
	bool gone;			/* life */
	struct mutex ctx_lock;
	struct list_head contexts;	/* ctx_lock */

	/* devmem.c */
	struct dev_pagemap pgmap;
	struct resource *res;		/* the fake PFNs */
	u64 vram_size;
	u64 bar_size;			/* PCI only */
	phys_addr_t bar_phys;		/* PCI only */
	void *bar_kva;			/* PCI only, write-combining */
	struct page **chunks;		/* unless all is in the BAR, VRAM_CHUNK each */
	spinlock_t free_lock;
	u32 *free_stack;		/* page indices, free_lock */
	unsigned long *bad;		/* bit per page, free_lock */
	unsigned long nr_free;		/* free_lock */
	unsigned long nr_bad;		/* free_lock */
	unsigned long stale_writes;	/* free_lock */

	/* slots.c: a BAR that is smaller than the memory */
	unsigned int nr_slots;		/* 0: it is not */
	rwlock_t slot_lock;		/* both below; held over accesses to VRAM */
	int *slot_of;			/* for each chunk, or -1 */
	int *chunk_in;			/* for each slot, or -1 */

	/* exporter.c */
	struct hmm_p2p_exporter *exporter;
	bool dead;			/* by control.c; READ_ONCE */

	/* control.c */
	struct dentry *debugfs;

	/* svm.c */
	atomic64_t device_faults;
};

/* main.c */
extern struct mutex hmm_dummy_list_lock;
extern struct list_head hmm_dummy_list;

struct hmm_dummy_dev *hmm_dummy_add(struct pci_dev *pdev, u64 vram_size,
				    u64 bar_size);
void hmm_dummy_remove(struct hmm_dummy_dev *dev);
void hmm_dummy_put(struct hmm_dummy_dev *dev);

/* pci.c */
int hmm_dummy_pci_init(void);
void hmm_dummy_pci_exit(void);

/* devmem.c */
#define HMM_DUMMY_CANARY	0xC5

int hmm_dummy_devmem_init(struct hmm_dummy_dev *dev);
void hmm_dummy_devmem_exit(struct hmm_dummy_dev *dev);
struct folio *hmm_dummy_devmem_alloc(struct hmm_dummy_dev *dev);
void *hmm_dummy_vram_get(struct hmm_dummy_dev *dev, u64 offset);
void hmm_dummy_vram_put(struct hmm_dummy_dev *dev);
unsigned long hmm_dummy_devmem_check(struct hmm_dummy_dev *dev);
bool hmm_dummy_canary(void);

/* slots.c */
int hmm_dummy_slots_init(struct hmm_dummy_dev *dev);
void hmm_dummy_slots_exit(struct hmm_dummy_dev *dev);
int hmm_dummy_slot_open(struct hmm_dummy_dev *dev, unsigned long chunk);
void hmm_dummy_slot_close(struct hmm_dummy_dev *dev, unsigned long chunk);
unsigned long hmm_dummy_slots_check(struct hmm_dummy_dev *dev);

/* control.c */
void hmm_dummy_control_init(struct hmm_dummy_dev *dev);
void hmm_dummy_control_exit(struct hmm_dummy_dev *dev);

/* exporter.c */
int hmm_dummy_exporter_init(struct hmm_dummy_dev *dev);
bool hmm_dummy_offers_kmap(void);

/* svm.c: the device's view of one process */
struct hmm_dummy_ctx {
	struct hmm_dummy_dev *dev;
	struct list_head node;		/* dev->ctx_lock */
	struct mm_struct *mm;		/* mmgrab() */
	struct mutex lock;
	struct xarray ranges;		/* address >> PMD_SHIFT, stores under lock */
	bool closed;			/* lock: no new ranges */
};

/* A page that the device may access until hmm_dummy_svm_put(). */
struct hmm_dummy_access {
	struct hmm_dummy_range *range;	/* locked */
	unsigned long idx;
	bool write;
	bool own;
	void *kva;			/* of the first byte of the page */
};

struct hmm_dummy_ctx *hmm_dummy_svm_open(struct hmm_dummy_dev *dev);
void hmm_dummy_svm_close(struct hmm_dummy_ctx *ctx);
void hmm_dummy_svm_free(struct hmm_dummy_ctx *ctx);
int hmm_dummy_svm_get(struct hmm_dummy_ctx *ctx, unsigned long addr,
		      unsigned long length, bool write,
		      struct hmm_dummy_access *access);
void hmm_dummy_svm_put(struct hmm_dummy_access *access);

/* command.c */
int hmm_dummy_command(struct hmm_dummy_ctx *ctx, void *arg);

/* migrate.c */
int hmm_dummy_migrate(struct hmm_dummy_ctx *ctx, void *arg);
int hmm_dummy_query(struct hmm_dummy_ctx *ctx, void *arg);

#endif /* _HMM_DUMMY_H */
