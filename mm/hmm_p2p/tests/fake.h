/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the KUnit suites of hmm_p2p share: an exporter without hardware, and an importer. Both
 * misbehave on request.
 */
#ifndef _HMM_P2P_TESTS_FAKE_H
#define _HMM_P2P_TESTS_FAKE_H

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/hmm.h>
#include <linux/hmm_p2p_migrate.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>

#include "../internal.h"

struct mirror;
struct platform_device;

#define NR_WINDOWS	4UL
#define WINDOW_PAGES	HPAGE_PMD_NR
#define NR_PAGES	(NR_WINDOWS * WINDOW_PAGES)

/*
 * An exporter and its engine.  Its pages have fake PFNs, its windows are blocks of system
 * memory, and there is no device.
 */
struct fake {
	struct dev_pagemap pgmap;
	struct resource *res;
	struct page *blocks[NR_WINDOWS];	/* for each 2 MiB of the windows */
	bool large_windows;		/* of two blocks */
	char name[32];
	struct hmm_p2p_exporter_desc desc;
	struct hmm_p2p_engine_desc engine_desc;
	struct list_head mirrors;	/* those that fake_exit() has to destroy */
	struct hmm_p2p_exporter *exp;	/* NULL: none is registered */
	struct hmm_p2p_engine *engine;
	bool without_engine;		/* fake_own.c moves the pages */
	atomic_t nr_faults;		/* faults by which fake_own.c has moved pages to RAM */
	unsigned long *evict_pfns;	/* for fake_own_evict(), which cannot fail */
	spinlock_t lock;
	DECLARE_BITMAP(used, NR_PAGES);	/* under lock */
	unsigned long freed;

	/* What its ops do. */
	int open_error;			/* of the last window */
	unsigned long absent;		/* bit per window: not visible, for good */
	bool no_kva;
	unsigned long misalign;
	unsigned int max_open;		/* on demand */
	unsigned long slow_window;	/* opening this window waits for go_on */
	bool slow;
	struct completion opening;
	struct completion go_on;
	struct page *give;		/* alloc_folios() returns this page */
	int copy_error;
	bool async;			/* copies end in another thread ... */
	bool hold_copies;		/* ... or in the op, after copy_go */
	struct completion copy_begun;
	struct completion copy_go;
	struct work_struct copy_work;
	struct hmm_p2p_copy_job *copy_job;
	bool never_ends;		/* copies from now on do not end */
	struct delayed_work never_work;	/* ends them at last, for the tests that follow */
	struct hmm_p2p_copy_job *never_job;
	struct page *never_ram;		/* RAM to which that copy may write */
	unsigned long op_stays;		/* copy() stays that many jiffies after death */
	bool lost;
	struct platform_device *pdev;	/* masters the bus; NULL: the CPU copies */
	unsigned int nr_dma;		/* pieces of the last copy by DMA */
	unsigned int nr_copied;		/* ... of the same in struct pages */
	unsigned int nr_clear;		/* ... to be cleared */
	unsigned int nr_bounced;	/* extents, of all of them, that are not where the RAM is */
	unsigned int nr_high;		/* ... and that the device cannot reach */
	bool dma_outside;		/* a piece was of no page of the copy */
	int room;			/* what make_room() returns; 0: once, then none */
	bool dies_for_room;		/* that is when the device dies */
	unsigned int small_pages;	/* more are refused; 0: no limit */
	bool gives_huge;		/* alloc_folios() has huge pages, too */
	/* As dev_pagemap_ops.folio_split(), before @tail has a pgmap; NULL: nothing. */
	void (*split)(struct fake *f, struct folio *head, struct folio *tail);
	void *split_arg;

	struct mirror *wants;		/* for threads that fault */

	bool hold_flush;		/* until flush_go is completed */
	struct completion flush_begun;
	struct completion flush_go;

	/* Writes of peers that have not arrived; see fake_post(). */
	struct {
		unsigned long *kva;
		unsigned long value;
	} posted[8];
	unsigned int nr_posted;

	/* What happened. */
	unsigned int nr_asked;		/* calls of open_window() */
	unsigned int nr_open;
	unsigned int nr_copies;
	unsigned int nr_pieces;		/* of the last copy */
	bool overlapped;		/* two copies were under way at once */
	unsigned int nr_room;
	unsigned long opened;
	unsigned long closed;
	unsigned int nr_flushes;
	bool closed_too_early;		/* with a write on its way */
};

/* With an engine, if the kernel has one. */
int fake_init(struct kunit *test);
/* The driver has an engine of its own, and the exporter has no engine. */
int fake_init_without_engine(struct kunit *test);

/* Suites of the same tests, as far as they need no engine.  A kernel without has the second. */
#if IS_ENABLED(CONFIG_HMM_P2P_MIGRATE)
#define fake_test_suites(with, without)	kunit_test_suites(&(with), &(without))
#else
#define fake_test_suites(with, without)						\
	static struct kunit_suite * const fake_suite_unused __maybe_unused = &(with);	\
	kunit_test_suite(without)
#endif

void fake_exit(struct kunit *test);
void fake_register(struct kunit *test);
int fake_try_register(struct fake *f);
void fake_unregister(struct fake *f);
/* Create a second fake, without or with registration.  test->priv stays the first one. */
struct fake *fake_second_init(struct kunit *test);
struct fake *fake_second(struct kunit *test);
void fake_second_exit(struct kunit *test, struct fake *f);
void fake_on_demand(struct kunit *test, unsigned int max_open);
void fake_large_windows(struct kunit *test);
struct page *fake_page(struct fake *f, unsigned long i);
unsigned long fake_alias(struct fake *f, unsigned long i);
void *fake_kva(struct fake *f, const struct page *page);
struct folio *fake_alloc_one(struct fake *f, unsigned int order);
/* Before fake_register(): a device that masters the bus copies.  fake_dma.c */
void fake_use_dma(struct kunit *test, struct fake *f, u64 mask);
int fake_copy_dma(struct fake *f, struct hmm_p2p_copy_job *job);
void fake_see_dma(struct fake *f, struct hmm_p2p_copy_job *job);

/* Functions for job_call(). */
void fake_begin_reset(struct fake *f);
void fake_die(struct fake *f);

static inline u32 fake_window_state(struct fake *f, unsigned long i)
{
	return READ_ONCE(f->exp->windows[i].state);
}

/* The result of hmm_p2p_live_get(), which is put again. */
static inline int fake_live(struct hmm_p2p_exporter *exp)
{
	int ret = hmm_p2p_live_get(exp);

	if (!ret)
		hmm_p2p_live_put(exp);
	return ret;
}

/* A peer writes to page @i.  The write arrives with fake_land() or with a flush. */
void fake_post(struct fake *f, unsigned long i, unsigned long value);
void fake_land(struct fake *f);

/* End the copy that "never ends", once, in the context of an interrupt. */
static inline void fake_end_late(struct fake *f)
{
	struct hmm_p2p_copy_job *job = xchg(&f->never_job, NULL);
	unsigned long flags;

	local_irq_save(flags);
	if (job)
		hmm_p2p_copy_done(job, 0);
	local_irq_restore(flags);
}

/* The engine of a driver that has its own (fake_own.c). */
vm_fault_t fake_own_fault(struct fake *f, struct vm_fault *vmf);
void fake_own_evict(struct fake *f);
long fake_own_to_device(struct fake *f, struct mm_struct *mm, unsigned long start,
			unsigned long nr);

/* The anon_vma of a folio that is mapped, for its count: it is the caller's VMA that keeps it. */
static inline struct anon_vma *folio_anon_vma_seen(struct folio *folio)
{
	return (void *)((unsigned long)folio->mapping & ~FOLIO_MAPPING_FLAGS);
}

/* Process memory: @nr pages that are aligned to 2 MiB, each with its index in it. */
unsigned long memory_create(struct kunit *test, unsigned long nr);
/* The value that the CPU reads in page @i, or ULONG_MAX; and whether it is right. */
unsigned long memory_value(unsigned long start, unsigned long i);
bool memory_right(unsigned long start, unsigned long i);
int memory_to_device(struct fake *f, unsigned long start, unsigned long nr,
		     unsigned int flags, struct hmm_p2p_result *result);
/* Move pages to the exporter, from its first free page on. */
void memory_place_on(struct kunit *test, struct fake *f, unsigned long start,
		     unsigned long nr);
void memory_place(struct kunit *test, unsigned long start, unsigned long nr);
/* Memory as of memory_create() that is on the device of the test. */
unsigned long memory_create_placed(struct kunit *test, unsigned long nr);
unsigned long memory_create_huge(struct kunit *test, unsigned long window);

/* A software importer, which can misbehave. */
struct mirror {
	struct list_head node;
	struct mmu_interval_notifier notifier;
	struct mutex lock;
	struct mm_struct *mm;
	unsigned long start;
	unsigned long nr;
	struct hmm_dma_map map;
	struct hmm_p2p_peer peer;
	void *owner;			/* of pages that are its own, or NULL */
	unsigned long calls;		/* of its callback */
	unsigned long longest;		/* ... one, in jiffies */
	bool keeps;			/* ... which does not let go */
	unsigned int sleep_ms;		/* its callback takes that long */
	void (*stay)(struct mirror *m);	/* ... and what this takes; NULL: nothing */
	struct fake *f;			/* for that */
	unsigned int nr_late;		/* see mirror_be_late() */
	struct hmm_p2p_exporter *flushes;	/* its callback flushes writes there */
};

/* What tells the importers of the tests apart: those of different names are different. */
const void *mirror_identity(const char *name);
struct mirror *mirror_create(struct kunit *test, const char *name,
			     unsigned long start, unsigned long nr);
/* Create a mirror of @nr new pages that are all on the device, with the aliases of them all. */
struct mirror *mirror_create_mapped(struct kunit *test, const char *name, unsigned long nr);
void mirror_destroy(struct mirror *m);
int mirror_fault(struct mirror *m, unsigned long first, unsigned long nr,
		 unsigned long flags);
void mirror_let_go(struct mirror *m);
/* Let its callback stay until the watchdog has reported @nr tasks, or for half a minute. */
void mirror_be_late(struct mirror *m, struct fake *f, unsigned int nr);
bool mirror_has(struct mirror *m, unsigned long i, unsigned long pfn);
unsigned long mirror_peers(struct mirror *m);

enum hmm_p2p_reason mirror_lookup(struct mirror *m, struct page *page,
				  unsigned int flags, unsigned long *alias,
				  struct hmm_p2p_window **pending);

/* One that has met no exporter has no importer yet. */
static inline bool mirror_quarantined(struct mirror *m)
{
	return m->peer.importer && READ_ONCE(m->peer.importer->quarantined);
}

/* The same for a fault that cannot wait, and without the alias. */
static inline enum hmm_p2p_reason mirror_ask(struct mirror *m, struct page *page)
{
	struct hmm_p2p_window *pending;
	unsigned long alias;

	return mirror_lookup(m, page, HMM_P2P_FAULT, &alias, &pending);
}

/* A thread that faults, or calls a function that takes a fake. */
struct job {
	struct completion started;
	struct completion done;
	struct mirror *m;
	unsigned long first;
	unsigned long nr;
	unsigned long flags;
	void (*call)(struct fake *f);
	struct fake *f;
	int ret;
};

void job_fault(struct kunit *test, struct job *job, struct mirror *m,
	       unsigned long first, unsigned long nr, unsigned long flags);
void job_call(struct kunit *test, struct job *job,
	      void (*call)(struct fake *f), struct fake *f);
bool job_done(struct job *job, unsigned int ms);

/* Register a fake, which is refused with @err. */
#define EXPECT_REFUSED(err, f)						\
	KUNIT_EXPECT_EQ(test, err, PTR_ERR(hmm_p2p_register(&(f)->desc)))

#endif /* _HMM_P2P_TESTS_FAKE_H */
