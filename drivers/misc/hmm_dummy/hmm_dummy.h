/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Private to the dummy GPU.  One section per file, in the order in which the
 * files are best read.  Names with hmm_dummy_test_, and members called test, serve tests
 * only.  They compile to nothing without CONFIG_HMM_DUMMY_TEST: see test/hooks.h.
 *
 * Terms:
 *
 *	VRAM		the memory of the device
 *	chunk		a piece of VRAM of the size of a huge page
 *	slot		a place for a chunk in a BAR that is smaller than the VRAM
 *	scratch memory	VRAM without struct pages, for read(), write() and export
 *	context		a process as the device sees it
 *	range		2 MiB of the device page table of a context
 *	job		a command, or a read() or write(), that an engine works on
 *	peer		another device, or memory of one
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
 *	hmm_dummy_list_lock nests in hmm_dummy_dev.life, and nothing in it.
 *
 *	hmm_dummy_sched.copies nests in hmm_dummy_dev.life.  To read, a task only tries it, also
 *	with a page locked.
 *
 *	hmm_dummy_dev.resets_lock is outside of all of them, and inside of device_lock().
 *
 *	hmm_dummy_sched.lock nests in all of them and nothing in it.  A task that holds the
 *	lock of one range only tries that of another.
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
	u64 size;			/* bytes; 0: the device has no memory */
	u64 paged;			/* bytes with struct pages; the rest is scratch memory */
	u64 bar_size;			/* PCI only */
	u64 bar_offset;			/* PCI only: where in the BAR the memory begins */
	phys_addr_t bar_phys;		/* PCI only: of the memory */
	void *bar_kva;			/* PCI only, write-combining */
	u64 coherent_base;		/* physical address of coherent memory, or 0 */
};

/* A chunk; hmm_dummy_vram.lock. */
struct hmm_dummy_chunk {
	struct page *backing;		/* unless it is in a BAR; constant */
	struct list_head node;		/* in free or partial; empty: all pages are used */
	DECLARE_BITMAP(used, CHUNK_PAGES);	/* in use, or bad */
	DECLARE_BITMAP(bad, CHUNK_PAGES);
	unsigned int nr_used;
	unsigned long first_free;	/* no page before this one is free */
	u64 last_use;			/* READ_ONCE */
};

/* The allocator; vram_alloc.c. */
struct hmm_dummy_vram {
	struct hmm_dummy_chunk *chunks;
	spinlock_t lock;		/* all below */
	struct list_head free;		/* chunks without a used page */
	struct list_head partial;	/* chunks with used and free pages */
	unsigned long nr_free;
	unsigned long nr_bad;
	atomic64_t clock;		/* without the lock: uses of chunks */
};

/* A BAR that is smaller than the memory; slots.c. */
struct hmm_dummy_slots {
	unsigned int nr;		/* 0: the BAR shows all of the memory */
	rwlock_t lock;			/* both below; held over accesses to VRAM */
	int *slot_of;			/* for each chunk, or -1 */
	int *chunk_in;			/* for each slot, or -1 */
};

/* The copy engine; engine_ops.c. */
struct hmm_dummy_migration {
	unsigned long fault_around;	/* bytes; 0: a page */
	atomic64_t evicted;		/* pages */
	spinlock_t lock;
	struct list_head copies;	/* lock: copies that wait for the engine */
	struct work_struct work;
};

/* Scratch memory that peers have pinned; dmabuf.c. */
struct hmm_dummy_exports {
	struct mutex lock;		/* all below */
	struct list_head list;
	unsigned int closed;		/* reasons not to export; 0: none */
};

/* An engine, which works on jobs. */
struct hmm_dummy_engine {
	struct work_struct work;
	struct hmm_dummy_dev *dev;
};

/* The scheduler; scheduler.c. */
struct hmm_dummy_sched {
	struct workqueue_struct *wq;		/* the engines, which never wait for user space */
	struct workqueue_struct *copy_wq;	/* the copy engine: a fault may wait for it */
	spinlock_t lock;
	struct list_head ready;		/* lock: queues with work */
	bool stopped;			/* lock: no new jobs */
	unsigned int resting;		/* lock, READ_ONCE: reasons for the engines to rest */
	unsigned int handling;		/* lock, READ_ONCE: workers that handle a fault */
	struct rw_semaphore copies;	/* read: between hmm_dummy_work_enter() and _exit() */
	wait_queue_head_t progress;	/* a job or such a worker has ended; the engines go on */
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
	/* errors.c */
	struct mutex resets_lock;
	unsigned long resets;		/* resets_lock: bits of enum hmm_dummy_reset_reason */
	bool in_error;			/* device_lock(); READ_ONCE: from detection to recovery */

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

/* Why CPU and peers are kept away from the memory. */
enum hmm_dummy_reset_reason {
	HMM_DUMMY_RESET_REQUEST,	/* user space has asked PCI for a reset */
	HMM_DUMMY_RESET_ERROR,		/* PCI recovers the device from an error */
	HMM_DUMMY_RESET_SLEEP,		/* the machine sleeps */
	HMM_DUMMY_RESET_TEST,		/* test/control.c */
};

int hmm_dummy_reset_begin(struct hmm_dummy_dev *dev, enum hmm_dummy_reset_reason reason);
int hmm_dummy_reset_end(struct hmm_dummy_dev *dev, enum hmm_dummy_reset_reason reason);
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

/* dev->sched.lock. */
enum hmm_dummy_queue_state {
	HMM_DUMMY_IDLE,			/* the queue has no job */
	HMM_DUMMY_READY,		/* in dev->sched.ready */
	HMM_DUMMY_RUNNING,		/* an engine works on the first job */
	HMM_DUMMY_FAULTED,		/* a fault of the first job is being handled */
};

/*
 * Work that an engine leaves to a fault handler, because an engine must not wait for mmap_lock.
 * The task that holds mmap_lock may wait for the reset of another device, and a reset waits for
 * the engines.
 */
enum hmm_dummy_fault_kind {
	HMM_DUMMY_NO_ENTRY,		/* a device page fault */
	HMM_DUMMY_NOT_EXCLUSIVE,	/* ... of an atomic operation, which the handler does */
	HMM_DUMMY_TO_MOVE,		/* no fault: a command moves memory */
};

/* What a fault handler does for an engine. */
struct hmm_dummy_fault {
	enum hmm_dummy_fault_kind kind;
	unsigned long addr;
	unsigned long length;
	bool write;			/* to memory; or, if it moves: to the device */
	u64 value;			/* of an atomic operation */
	/* Set by the handler: what it has done of the job. */
	unsigned long done;		/* bytes */
	unsigned long moved;		/* pages */
};

/* Jobs that an engine works on one after another. */
struct hmm_dummy_queue {
	struct hmm_dummy_ctx *ctx;
	enum hmm_dummy_queue_state state;
	struct list_head node;
	struct list_head jobs;
	struct work_struct fault;
};

/* A process that uses the device: one for each file and address space. */
struct hmm_dummy_ctx {
	struct kref kref;		/* held by its file, and by each fault in a worker */
	struct hmm_dummy_dev *dev;	/* the context holds a reference */
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
	struct kref kref;		/* held by ctx->ranges, and by each fault */
	struct mmu_interval_notifier notifier;
	struct device *dma_dev;		/* the bus master or NULL; constant, with a reference */
	struct mutex lock;		/* all below */
	bool closed;			/* no entry is stored any more */
	struct hmm_dummy_ctx *ctx;
	unsigned long start;
	struct hmm_dma_map map;		/* pfn_list: entries of 4 KiB */
	bool huge;			/* the entries are one of 2 MiB */
	dma_addr_t *dma;		/* DMA addresses, which hardware would use */
	struct hmm_p2p_peer peer;
	/* Policy, without the lock: see fault.c. */
	unsigned long moved_at;		/* jiffies; 0: never */
	u64 cpu_faults;			/* the engine's counter at that time */
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
	void *kva;			/* of the address that the caller asked for */
	dma_addr_t dma;			/* likewise; not for own memory */
	unsigned long bytes;		/* from that address on */
	bool write;
	bool own;			/* it is memory of this device */
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
int hmm_dummy_fault_add(struct hmm_dummy_ctx *ctx, struct hmm_dummy_fault *fault);
int hmm_dummy_atomic_add(struct hmm_dummy_ctx *ctx, struct hmm_dummy_fault *fault);

/* job.c: the life of a job */
#define HMM_DUMMY_QUEUE_DEPTH	1024	/* jobs that a context may have under way */

/* A step returns these when the job goes on: after a fault, or at its next turn. */
#define HMM_DUMMY_FAULT		1
#define HMM_DUMMY_YIELD		2

/* Bytes of one job that an engine works on before it is another queue's turn. */
#define HMM_DUMMY_QUANTUM	SZ_2M

struct hmm_dummy_job {
	struct list_head node;		/* in its queue; dev->sched.lock */
	struct hmm_dummy_dev *dev;
	struct hmm_dummy_queue *queue;	/* not valid after the end of the job */
	/* 0 or an errno ends the job; HMM_DUMMY_FAULT with fault set; HMM_DUMMY_YIELD. */
	int (*step)(struct hmm_dummy_job *job);
	/* The job has ended with job->result.  Called from a worker. */
	void (*done)(struct hmm_dummy_job *job);
	int result;
	bool queued;			/* dev->sched.lock: it is in the queue */
	bool cancelled;			/* READ_ONCE */
	bool tagged;			/* HMM_DUMMY_CANCEL may end it */
	bool waited_for;		/* a task is in job_wait() */
	bool handed_over;		/* dev->sched.lock: that task handles the fault */
	unsigned int retries;
	struct hmm_dummy_fault fault;

	/* Bytes, counted by the step. */
	u64 progress;
	u64 total;
	/* For jobs on scratch memory; NULL: the device's own. */
	struct hmm_dummy_pinned *pinned;

	/* command.c */
	struct hmm_dummy_command arg;
	u32 crc;
	void *buffer;

	/* scratch.c */
	struct iov_iter iter;		/* the rest of the caller's buffer */
	const void *iov;		/* the job's copy of the caller's array */
	u64 pos;			/* where the job begins in the scratch memory */
	bool to_memory;

	/* One of these learns of the end. */
	struct completion completion;
	struct io_uring_cmd *ioucmd;
	struct kiocb *iocb;
	struct hmm_dummy_command __user *user;	/* where the value goes */
	bool cqe32;				/* the value goes to the CQE as well */
};

/*
 * Works on a piece of a job from job->progress on, and sets *bytes to its length.  Returns 0,
 * or what a step returns.
 */
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

/* scheduler.c: engines, and the queues that they take turns at */
int hmm_dummy_fault_wq_init(void);
void hmm_dummy_fault_wq_exit(void);
int hmm_dummy_sched_init(struct hmm_dummy_dev *dev);
void hmm_dummy_sched_stop(struct hmm_dummy_dev *dev);
void hmm_dummy_sched_exit(struct hmm_dummy_dev *dev);
bool hmm_dummy_work_enter(struct hmm_dummy_dev *dev);
void hmm_dummy_work_exit(struct hmm_dummy_dev *dev);
void hmm_dummy_quiesce(struct hmm_dummy_dev *dev);
int hmm_dummy_quiesce_all(struct hmm_dummy_dev *dev);
void hmm_dummy_unquiesce(struct hmm_dummy_dev *dev);
void hmm_dummy_engines_wake(struct hmm_dummy_dev *dev);
void hmm_dummy_queue_init(struct hmm_dummy_queue *queue, struct hmm_dummy_ctx *ctx);
bool hmm_dummy_queue_is_active(struct hmm_dummy_queue *queue);
struct hmm_dummy_job *hmm_dummy_queue_first(struct hmm_dummy_queue *queue);
void hmm_dummy_queue_ready(struct hmm_dummy_queue *queue);
void hmm_dummy_queue_idle(struct hmm_dummy_queue *queue);
int hmm_dummy_job_fault(struct hmm_dummy_ctx *ctx, struct hmm_dummy_fault *fault,
			bool for_user);
void hmm_dummy_queue_fault_handled(struct hmm_dummy_queue *queue,
				   const struct hmm_dummy_fault *fault, int ret);

/* command.c */
int hmm_dummy_command_init(struct hmm_dummy_job *job, struct hmm_dummy_ctx *ctx,
			   const struct hmm_dummy_command *arg);
void hmm_dummy_command_exit(struct hmm_dummy_job *job);
int hmm_dummy_job_access(struct hmm_dummy_job *job, unsigned long addr,
			 unsigned long bytes, bool write,
			 struct hmm_dummy_access *access);
int hmm_dummy_command(struct hmm_dummy_ctx *ctx, void *arg);

/* dmabuf.c: scratch memory, the device's own and that of peers */
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
#define HMM_DUMMY_VEC_MAX	SZ_1G	/* bytes of memory, at a byte of the answer per page */

struct mm_struct *hmm_dummy_mm_get(u64 addr, u64 length, int pidfd);
int hmm_dummy_migrate(struct hmm_dummy_ctx *ctx, void *arg);
int hmm_dummy_migrate_for_job(struct hmm_dummy_ctx *ctx, struct hmm_dummy_fault *fault);

/* query.c */
int hmm_dummy_query(struct hmm_dummy_ctx *ctx, void *arg);
int hmm_dummy_query_pfns(struct mmu_interval_notifier *notifier, unsigned long addr,
			 unsigned long nr, void *owner, unsigned long *pfns);

#endif /* _HMM_DUMMY_H */
