/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Private to the dummy GPU.  One section per file, in the order in which the
 * files are best read.  What is called hmm_dummy_test_*, or test, is of use for tests
 * only, and compiles to nothing without CONFIG_HMM_DUMMY_TEST: see test/hooks.h.
 *
 * Lock order, outermost first:
 *
 *	hmm_dummy_dev.life	read: a call from user space; write: the device goes
 *	  hmm_dummy_dev.files_lock
 *	    hmm_dummy_file.lock	the contexts of a file
 *	      hmm_dummy_ctx.lock	the set of ranges
 *	        mmap_lock	(taken by hmm and the core)
 *	          hmm_dummy_range.lock	the device page table of a range
 *	            hmm_dummy_vram.lock
 *	              hmm_dummy_slots.lock	which windows are in the BAR
 *
 *	hmm_dummy_sched.lock nests in all of them and nothing in it.  Of two ranges the
 *	second lock is only ever tried.
 *
 *	hmm_dummy_file.lock, hmm_dummy_exports.lock
 *	  dma_buf.resv		in mmap_lock, and around reclaim: see dma_resv_lockdep()
 *	    hmm_dummy_pinned.lock	in hmm_dummy_range.lock as well
 */
#ifndef _HMM_DUMMY_H
#define _HMM_DUMMY_H

#include <linux/completion.h>
#include <linux/device.h>
#include <linux/hmm-dma.h>
#include <linux/hmm_p2p.h>
#include <linux/hmm_p2p_migrate.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/memremap.h>
#include <linux/miscdevice.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <uapi/linux/hmm_dummy.h>
#include "test/hooks.h"

struct hmm_dummy_ctx;
struct hmm_dummy_file;
struct hmm_dummy_job;
struct hmm_dummy_pinned;
struct io_uring_cmd;

#define VRAM_BAR	2
#define VRAM_CHUNK	PMD_SIZE	/* also the core's window size */
#define CHUNK_PAGES	(VRAM_CHUNK >> PAGE_SHIFT)

/* Where the memory is, and its struct pages; pagemap.c.  Constant. */
struct hmm_dummy_mem {
	struct dev_pagemap pgmap;
	struct resource *res;		/* the fake PFNs */
	u64 size;			/* all of it; 0: the device has none */
	u64 paged;			/* that has struct pages; scratch memory is behind it */
	u64 bar_size;			/* PCI only */
	u64 bar_offset;			/* PCI only: where in the BAR the memory begins */
	phys_addr_t bar_phys;		/* PCI only: of the memory */
	void *bar_kva;			/* PCI only, write-combining */
	u64 coherent_base;		/* physical address of coherent memory, or 0 */
};

/* A piece of the memory of the size of a huge page; hmm_dummy_vram.lock. */
struct hmm_dummy_chunk {
	struct page *backing;		/* unless it is in a BAR; constant */
	struct list_head node;		/* in one of the lists, or empty: all is used */
	DECLARE_BITMAP(used, CHUNK_PAGES);	/* in use, or bad */
	DECLARE_BITMAP(bad, CHUNK_PAGES);
	unsigned int nr_used;
	unsigned long first_free;	/* no free page is in front of it */
	u64 last_use;			/* READ_ONCE */
};

/* What is free; vram_alloc.c. */
struct hmm_dummy_vram {
	struct hmm_dummy_chunk *chunks;
	spinlock_t lock;		/* all below */
	struct list_head free;		/* chunks without a used page */
	struct list_head partial;	/* with used and free ones */
	unsigned long nr_free;
	unsigned long nr_bad;
	atomic64_t clock;		/* without the lock: ticks with each use of a chunk */
};

/* A BAR that is smaller than the memory; slots.c. */
struct hmm_dummy_slots {
	unsigned int nr;		/* 0: it is not */
	rwlock_t lock;			/* both below; held over accesses to VRAM */
	int *slot_of;			/* for each chunk, or -1 */
	int *chunk_in;			/* for each slot, or -1 */
};

/* What moves memory; engine_ops.c. */
struct hmm_dummy_migration {
	unsigned long fault_around;	/* bytes; 0: a page */
	atomic64_t evicted;		/* pages */
	spinlock_t lock;
	struct list_head copies;	/* lock: jobs of the copy engine */
	struct work_struct work;
};

/* Scratch memory that peers have pinned; dmabuf.c. */
struct hmm_dummy_exports {
	struct mutex lock;		/* all below */
	struct list_head list;
	unsigned int closed;		/* no new ones, for so many reasons */
};

/* What works on jobs. */
struct hmm_dummy_engine {
	struct work_struct work;
	struct hmm_dummy_dev *dev;
};

/* Whose turn it is; scheduler.c. */
struct hmm_dummy_sched {
	struct workqueue_struct *wq;		/* the engines; no piece waits for user space */
	struct workqueue_struct *copy_wq;	/* nobody's fault is in front of a copy */
	spinlock_t lock;
	struct list_head ready;		/* lock: queues with work */
	bool stopped;			/* lock: no new jobs */
	unsigned int resting;		/* lock, READ_ONCE: the engines rest, for so many reasons */
	wait_queue_head_t progress;	/* a job has ended */
	struct hmm_dummy_engine engines[2];
};

/* Counters; fault.c. */
struct hmm_dummy_faults {
	atomic64_t handled;
	atomic64_t damped;
};

struct hmm_dummy_dev {
	struct kref kref;		/* the bound device, each open file and dma-buf */
	struct list_head node;		/* hmm_dummy_list_lock */
	int id;
	char name[16];
	struct pci_dev *pdev;		/* NULL: no PCI device */
	struct miscdevice misc;

	struct rw_semaphore life;
	bool gone;			/* life; READ_ONCE by jobs */
	struct mutex files_lock;
	struct list_head files;		/* files_lock */

	/* exporter.c */
	struct hmm_p2p_exporter *exporter;	/* NULL: no memory */
	struct hmm_p2p_engine *engine;		/* engine_ops.c; NULL: no memory */
	bool dead;			/* READ_ONCE */
	/* Each has begun a reset of the exporter, and ends it: errors.c, errors.c, power.c. */
	bool in_user_reset;
	bool in_error;
	bool in_sleep;

	struct hmm_dummy_mem mem;
	struct hmm_dummy_vram vram;
	struct hmm_dummy_slots slots;
	struct hmm_dummy_migration migration;
	struct hmm_dummy_exports exports;
	struct hmm_dummy_sched sched;
	struct hmm_dummy_faults faults;
	struct hmm_dummy_test_dev test;
};

/* main.c */
extern struct mutex hmm_dummy_list_lock;
extern struct list_head hmm_dummy_list;

struct hmm_dummy_desc {
	struct pci_dev *pdev;		/* the device, or NULL */
	u64 vram_size;			/* bytes of memory; 0: none */
	u64 bar_size;			/* bytes of it that are visible at a time */
	u64 coherent_base;		/* where the memory is, or 0: not coherent */
	struct hmm_dummy_test_desc test;
};

struct hmm_dummy_dev *hmm_dummy_add(const struct hmm_dummy_desc *desc);
void hmm_dummy_remove(struct hmm_dummy_dev *dev);
void hmm_dummy_put(struct hmm_dummy_dev *dev);
int hmm_dummy_copy_arg(void *arg, size_t size, size_t min_size, void __user *user);
int hmm_dummy_dev_enter(struct hmm_dummy_dev *dev, bool wait);
void hmm_dummy_dev_exit(struct hmm_dummy_dev *dev);

/* pci.c */
int hmm_dummy_pci_init(void);
void hmm_dummy_pci_exit(void);
bool hmm_dummy_is_lost(struct hmm_dummy_dev *dev);
void hmm_dummy_pci_remove(struct pci_dev *pdev);

/* errors.c: resets and bus errors */
extern const struct pci_error_handlers hmm_dummy_err_handler;

void hmm_dummy_error_resume(struct pci_dev *pdev);

/* power.c: sleep and shutdown */
extern const struct dev_pm_ops hmm_dummy_pm_ops;

void hmm_dummy_pci_shutdown(struct pci_dev *pdev);

/* pagemap.c: struct pages, and where the memory is */
int hmm_dummy_devmem_init(struct hmm_dummy_dev *dev);
void hmm_dummy_devmem_exit(struct hmm_dummy_dev *dev);
bool hmm_dummy_has_pfn(const struct hmm_dummy_dev *dev, unsigned long hmm_pfn);
unsigned int hmm_dummy_devmem_alloc(struct hmm_dummy_dev *dev, unsigned int order,
				    struct folio **folios, unsigned int nr);
void hmm_dummy_copy_bytes(void *to, const void *from, unsigned long bytes);
void *hmm_dummy_vram_get(struct hmm_dummy_dev *dev, u64 offset);
void hmm_dummy_vram_put(struct hmm_dummy_dev *dev);

/* vram_alloc.c: the allocator */
void hmm_dummy_vram_init(struct hmm_dummy_dev *dev);
void hmm_dummy_vram_exit(struct hmm_dummy_dev *dev);
long hmm_dummy_vram_alloc(struct hmm_dummy_dev *dev, unsigned int order,
			  unsigned int *nr);
void hmm_dummy_vram_free(struct hmm_dummy_dev *dev, unsigned long index,
			 unsigned long nr);
void hmm_dummy_vram_bad(struct hmm_dummy_dev *dev, unsigned long index);
bool hmm_dummy_vram_is_bad(struct hmm_dummy_dev *dev, unsigned long index,
			   unsigned long nr);
void hmm_dummy_vram_touch(struct hmm_dummy_dev *dev, u64 offset);
bool hmm_dummy_vram_is_unused(struct hmm_dummy_dev *dev);
long hmm_dummy_vram_oldest(struct hmm_dummy_dev *dev, u64 before);

/* slots.c */
int hmm_dummy_slots_init(struct hmm_dummy_dev *dev);
void hmm_dummy_slots_exit(struct hmm_dummy_dev *dev);
int hmm_dummy_slot_open(struct hmm_dummy_dev *dev, unsigned long chunk);
void hmm_dummy_slot_close(struct hmm_dummy_dev *dev, unsigned long chunk);

/* exporter.c */
int hmm_dummy_exporter_init(struct hmm_dummy_dev *dev);
void hmm_dummy_exporter_exit(struct hmm_dummy_dev *dev);
void hmm_dummy_exporter_dead(struct hmm_dummy_dev *dev);

/* engine_ops.c */
int hmm_dummy_engine_init(struct hmm_dummy_dev *dev);
void hmm_dummy_engine_exit(struct hmm_dummy_dev *dev);
void hmm_dummy_copies_end(struct hmm_dummy_dev *dev);

/* ctx.c: a process that uses the device */

/* Commands that are worked on one after another.  dev->sched.lock. */
enum hmm_dummy_queue_state {
	HMM_DUMMY_IDLE,			/* without a job */
	HMM_DUMMY_READY,		/* in dev->sched.ready */
	HMM_DUMMY_RUNNING,		/* an engine works on the first job */
	HMM_DUMMY_FAULTED,		/* the fault of the first job is handled */
};

/* What a fault is about. */
struct hmm_dummy_fault {
	unsigned long addr;
	unsigned long length;
	bool write;
};

struct hmm_dummy_queue {
	struct hmm_dummy_ctx *ctx;
	enum hmm_dummy_queue_state state;
	struct list_head node;
	struct list_head jobs;
	struct work_struct fault;
};

/* One (file, mm). */
struct hmm_dummy_ctx {
	struct kref kref;		/* its file, and each fault in a worker */
	struct hmm_dummy_dev *dev;	/* with a reference */
	struct hmm_dummy_file *file;
	struct list_head node;		/* file->lock */
	struct mm_struct *mm;		/* mmgrab() */
	struct mutex lock;
	struct xarray ranges;		/* address >> PMD_SHIFT, stores under lock */
	bool closed;			/* lock: no new ranges */
	unsigned int nr_jobs;		/* dev->sched.lock */
	struct hmm_dummy_queue queues[HMM_DUMMY_QUEUES];
};

struct hmm_dummy_file {
	struct hmm_dummy_dev *dev;
	struct list_head node;		/* dev->files_lock */
	struct mutex lock;
	struct list_head contexts;	/* lock */
	bool closed;			/* lock */
	struct hmm_dummy_pinned *pinned;	/* hmm_dummy_file_pinned(); set once */
};

struct hmm_dummy_file *hmm_dummy_file_open(struct hmm_dummy_dev *dev);
void hmm_dummy_file_close(struct hmm_dummy_file *file);
void hmm_dummy_file_free(struct hmm_dummy_file *file);
struct hmm_dummy_ctx *hmm_dummy_ctx_get(struct hmm_dummy_file *file);
void hmm_dummy_ctx_put(struct hmm_dummy_ctx *ctx);

/* svm.c: the device page table of a process */
#define RANGE_SIZE	PMD_SIZE
#define RANGE_PAGES	(RANGE_SIZE >> PAGE_SHIFT)

struct hmm_dummy_range {
	struct kref kref;		/* ctx->ranges, and each fault that is handled */
	struct mmu_interval_notifier notifier;
	struct device *dma_dev;		/* the bus master, with a reference, or NULL; constant */
	struct mutex lock;		/* all below */
	bool closed;			/* for good: nothing is stored any more */
	struct hmm_dummy_ctx *ctx;
	unsigned long start;
	struct hmm_dma_map map;		/* pfn_list: entries of 4 KiB */
	bool huge;			/* they are one entry of 2 MiB */
	dma_addr_t *dma;		/* what hardware would be given */
	struct hmm_p2p_peer peer;
	/* Policy, without the lock: see fault.c. */
	unsigned long moved_at;		/* jiffies; 0: never */
	u64 cpu_faults;			/* of the device, then */
	struct hmm_dummy_test_range test;
};

struct hmm_dummy_range *hmm_dummy_range_get(struct hmm_dummy_ctx *ctx,
					    unsigned long addr);
void hmm_dummy_range_put(struct hmm_dummy_range *range);
int hmm_dummy_range_merge(struct hmm_dummy_range *range, unsigned long first,
			  const unsigned long *found, unsigned long nr);
void hmm_dummy_svm_close(struct hmm_dummy_ctx *ctx);
bool hmm_dummy_entry_is_own(unsigned long hmm_pfn);

/* Memory that the device may access until hmm_dummy_access_put(). */
struct hmm_dummy_access {
	struct hmm_dummy_range *range;	/* locked */
	unsigned long entry;		/* of the first page, as from hmm_range_fault() */
	void *kva;			/* of the address that was asked for */
	dma_addr_t dma;			/* likewise; of no use for own memory */
	unsigned long bytes;		/* from there on */
	bool write;
	bool own;
	struct hmm_dummy_test_access test;
};

int hmm_dummy_access_get(struct hmm_dummy_ctx *ctx, unsigned long addr,
			 unsigned long bytes, bool write,
			 struct hmm_dummy_access *access);
bool hmm_dummy_access_two(struct hmm_dummy_ctx *ctx, unsigned long src, unsigned long addr,
			  unsigned long bytes, bool write,
			  struct hmm_dummy_access *from, struct hmm_dummy_access *to);
void hmm_dummy_access_put(struct hmm_dummy_access *access);

/* fault.c: device page faults */
int hmm_dummy_fault(struct hmm_dummy_ctx *ctx, unsigned long addr,
		    unsigned long length, bool write);
bool hmm_dummy_fault_may_block(struct hmm_dummy_ctx *ctx, unsigned long addr,
			       unsigned long length);
int hmm_dummy_range_fault(struct hmm_dummy_range *range, unsigned long first,
			  unsigned long nr, unsigned long flags);
int hmm_dummy_atomic_add(struct hmm_dummy_ctx *ctx, unsigned long addr,
			 unsigned long bytes, u64 value);

/* job.c: what is worked on */
#define HMM_DUMMY_QUEUE_DEPTH	1024	/* jobs of a context that may be under way */

/* What a step returns when the job goes on: behind a fault, or at its next turn. */
#define HMM_DUMMY_FAULT		1
#define HMM_DUMMY_YIELD		2

/* How much of one job is worked on before it is another queue's turn. */
#define HMM_DUMMY_QUANTUM	SZ_2M

struct hmm_dummy_job {
	struct list_head node;		/* in its queue; dev->sched.lock */
	struct hmm_dummy_dev *dev;
	struct hmm_dummy_queue *queue;	/* not any more when it has ended */
	/* 0 or an errno when it has ended, HMM_DUMMY_FAULT with fault set, or YIELD. */
	int (*step)(struct hmm_dummy_job *job);
	/* It has ended with job->result; from a worker. */
	void (*done)(struct hmm_dummy_job *job);
	int result;
	bool queued;			/* dev->sched.lock: in the queue, and nobody's */
	bool cancelled;			/* READ_ONCE */
	bool tagged;			/* HMM_DUMMY_CANCEL may end it */
	bool waited_for;		/* by job_wait() */
	bool handed_over;		/* dev->sched.lock: the fault is its business */
	unsigned int retries;
	struct hmm_dummy_fault fault;

	/* Bytes; by the step. */
	u64 progress;
	u64 total;
	/* The scratch memory, where that is meant: NULL for the device's own. */
	struct hmm_dummy_pinned *pinned;

	/* command.c */
	struct hmm_dummy_command arg;
	u32 crc;
	void *buffer;

	/* scratch.c */
	struct iov_iter iter;		/* what is left */
	const void *iov;		/* a copy, to be freed */
	u64 pos;			/* in the scratch memory, of the beginning */
	bool to_memory;

	/* Who waits: one of these. */
	struct completion completion;
	struct io_uring_cmd *ioucmd;
	struct kiocb *iocb;
	struct hmm_dummy_command __user *user;	/* gets the value */
	bool cqe32;				/* and so does the CQE */
};

/* Does some of a job, from job->progress on, and says in *bytes how much: 0, or as a step. */
typedef int (*hmm_dummy_piece)(struct hmm_dummy_job *job, unsigned long *bytes);

void hmm_dummy_job_init(struct hmm_dummy_job *job, struct hmm_dummy_ctx *ctx,
			unsigned int queue);
int hmm_dummy_job_submit(struct hmm_dummy_job *job);
int hmm_dummy_job_run(struct hmm_dummy_job *job);
int hmm_dummy_job_pieces(struct hmm_dummy_job *job, hmm_dummy_piece piece);
int hmm_dummy_job_must_end(struct hmm_dummy_job *job);
void hmm_dummy_job_end(struct hmm_dummy_job *job, int result);
int hmm_dummy_wait_room(struct hmm_dummy_ctx *ctx);
int hmm_dummy_wait_rest(struct hmm_dummy_dev *dev);
void hmm_dummy_job_cancel(struct hmm_dummy_job *job);
int hmm_dummy_cancel(struct hmm_dummy_ctx *ctx, void *arg);
void hmm_dummy_ctx_drain(struct hmm_dummy_ctx *ctx, int error);

/* scheduler.c: whose turn it is */
int hmm_dummy_fault_wq_init(void);
void hmm_dummy_fault_wq_exit(void);
int hmm_dummy_sched_init(struct hmm_dummy_dev *dev);
void hmm_dummy_sched_stop(struct hmm_dummy_dev *dev);
void hmm_dummy_sched_exit(struct hmm_dummy_dev *dev);
void hmm_dummy_quiesce(struct hmm_dummy_dev *dev);
void hmm_dummy_unquiesce(struct hmm_dummy_dev *dev);
void hmm_dummy_engines_wake(struct hmm_dummy_dev *dev);
void hmm_dummy_queue_init(struct hmm_dummy_queue *queue, struct hmm_dummy_ctx *ctx);
bool hmm_dummy_queue_is_active(struct hmm_dummy_queue *queue);
struct hmm_dummy_job *hmm_dummy_queue_first(struct hmm_dummy_queue *queue);
void hmm_dummy_queue_ready(struct hmm_dummy_queue *queue);
void hmm_dummy_queue_idle(struct hmm_dummy_queue *queue);
int hmm_dummy_job_fault(struct hmm_dummy_ctx *ctx, const struct hmm_dummy_fault *fault);
void hmm_dummy_queue_fault_handled(struct hmm_dummy_queue *queue, int ret);

/* command.c */
int hmm_dummy_command_init(struct hmm_dummy_job *job, struct hmm_dummy_ctx *ctx,
			   const struct hmm_dummy_command *arg);
void hmm_dummy_command_exit(struct hmm_dummy_job *job);
int hmm_dummy_job_access(struct hmm_dummy_job *job, unsigned long addr,
			 unsigned long bytes, bool write,
			 struct hmm_dummy_access *access);
int hmm_dummy_command(struct hmm_dummy_ctx *ctx, void *arg);

/* dmabuf.c: scratch memory, and that of peers */
int hmm_dummy_export(struct hmm_dummy_ctx *ctx, void *arg);
int hmm_dummy_import(struct hmm_dummy_ctx *ctx, void *arg);
void hmm_dummy_exports_init(struct hmm_dummy_dev *dev);
void hmm_dummy_exports_revoke(struct hmm_dummy_dev *dev);
void hmm_dummy_exports_allow(struct hmm_dummy_dev *dev);
struct hmm_dummy_pinned *hmm_dummy_file_pinned(struct hmm_dummy_file *file);
void hmm_dummy_pinned_close(struct hmm_dummy_file *file);
u64 hmm_dummy_scratch_size(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned);
void *hmm_dummy_scratch_get(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned,
			    u64 pos);
bool hmm_dummy_pinned_get_dma(struct hmm_dummy_pinned *pinned, u64 pos, dma_addr_t *dma);
void hmm_dummy_scratch_put(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned);

/* uring.c */
int hmm_dummy_uring_cmd(struct io_uring_cmd *ioucmd, unsigned int issue_flags);

/* scratch.c */
ssize_t hmm_dummy_read_iter(struct kiocb *iocb, struct iov_iter *to);
ssize_t hmm_dummy_write_iter(struct kiocb *iocb, struct iov_iter *from);
loff_t hmm_dummy_llseek(struct file *file, loff_t offset, int whence);

/* migrate.c */
#define HMM_DUMMY_VEC_MAX	SZ_1G	/* a byte for each page of so much at a time */

struct mm_struct *hmm_dummy_mm_get(u64 addr, u64 length, int pidfd);
int hmm_dummy_migrate(struct hmm_dummy_ctx *ctx, void *arg);

/* query.c */
int hmm_dummy_query(struct hmm_dummy_ctx *ctx, void *arg);
int hmm_dummy_query_pfns(struct mmu_interval_notifier *notifier, unsigned long addr,
			 unsigned long nr, void *owner, unsigned long *pfns);

#endif /* _HMM_DUMMY_H */
