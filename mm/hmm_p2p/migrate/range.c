// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Migration of ranges
 *
 * hmm_p2p_migrate_to_device() and hmm_p2p_migrate_to_ram() move a range of addresses between RAM
 * and an exporter's memory, or from one exporter to another.  See batch.c for how pages move,
 * fault.c for the CPU's fault, evict.c for migration by place.
 *
 * The engine works on a range in chunks of a PMD.  Each chunk is a batch.  Where the driver copies
 * asynchronously, two chunks are under way.  While the copy of one runs, the engine collects and
 * unmaps the next.  The third chunk then uses the first batch again:
 *
 *	batch 1  collect, start ~~~ copy ~~~ end
 *	batch 2         collect, start ~~~ copy ~~~ end
 *	batch 1                               collect, start ~~~ copy ~~~ end
 *
 * The engine keeps mmap_lock from one chunk to the next, unless another task waits for it.
 *
 * To a device, a chunk takes up to three passes:
 *
 *	1. pages in RAM, and holes
 *	2. pages of each other device, over its aliases, if this device reaches it and the
 *	   windows are open; the engine opens none for it
 *	3. pages that are still on another device: to RAM, and then as 1
 *
 * Usually one pass suffices, and it uses the chunk's own batch.  The engine looks at the page
 * table (scan.c) if the chunk before was not all RAM, or if this one turns out not to be.
 *
 * If the device has no memory left, the engine lets go of everything, the driver makes room, and
 * the engine does the chunk again.  Eviction never runs under a lock of a migration, so the two
 * cannot wait for each other.
 */
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/hugetlb_inline.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/ptrace.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#include "internal.h"

/* How often to make room for one chunk: others may take what was freed. */
#define MAKE_ROOM_TRIES	16

struct migration {
	struct hmm_p2p_engine *engine;
	struct mm_struct *mm;
	enum hmm_p2p_copy_dir dir;
	unsigned int flags;
	unsigned long start;
	unsigned long end;
	struct hmm_p2p_result *result;
	struct hmm_p2p_batch *idle;
	struct hmm_p2p_batch *next;	/* idle too, unless there is a busy one */
	struct hmm_p2p_batch *busy;	/* its copy runs */
	struct hmm_p2p_batch *extra;	/* for passes beside those */
	struct hmm_p2p_scan scan;
	bool look_first;
	unsigned long no_room;		/* pages of the chunk; it is done again */
	bool again;			/* the chunk has been split, and is done again */
	bool split_tried;
	int late_error;
};

void hmm_p2p_result_init(struct hmm_p2p_result *result)
{
	*result = (struct hmm_p2p_result) { .vec = result->vec };
}

void hmm_p2p_result_sum(struct hmm_p2p_result *result)
{
	unsigned int i;

	result->migrated = result->count[HMM_P2P_MOVED];
	result->skipped = 0;
	result->failed = 0;
	for (i = HMM_P2P_THERE; i <= HMM_P2P_BUSY; i++)
		result->skipped += result->count[i];
	for (i = HMM_P2P_NO_MEMORY; i < HMM_P2P_NR_OUTCOMES; i++)
		result->failed += result->count[i];
}

static void chunk_account(struct migration *m, struct hmm_p2p_batch *b)
{
	unsigned long i, first = (b->args.start - m->start) >> PAGE_SHIFT;

	for (i = 0; i < b->nr; i++)
		m->result->count[b->why[i]]++;
	if (m->result->vec)
		memcpy(&m->result->vec[first], b->why, b->nr);
}

/* Make a pass beside the chunk's own batch @b, and wait for its end. */
static int chunk_pass(struct migration *m, struct hmm_p2p_batch *b,
		      struct hmm_p2p_engine *engine, enum hmm_p2p_copy_dir dir)
{
	struct hmm_p2p_batch *pass = m->extra;
	unsigned long i;
	int ret;

	hmm_p2p_batch_init(pass, engine, dir, b->args.vma, b->args.start,
			   b->args.start + (b->nr << PAGE_SHIFT));
	memset(pass->why, HMM_P2P_THERE, b->nr);
	ret = hmm_p2p_batch_collect(pass, NULL);
	hmm_p2p_batch_start(pass);
	ret = ret ?: hmm_p2p_batch_end(pass);
	/* A pass to RAM by another engine is only half of the way: its outcomes are not final. */
	for (i = 0; i < b->nr && engine == m->engine; i++)
		if (pass->why[i] != HMM_P2P_THERE)
			b->why[i] = pass->why[i];
	return ret;
}

/*
 * Whether the CPU or the engine's device, whichever copies, reaches the memory of @other, the
 * source of @b.  Called between hmm_p2p_live_tryget() and hmm_p2p_live_put() of @other.
 */
static bool engine_reaches(struct migration *m, struct hmm_p2p_batch *b,
			   struct hmm_p2p_exporter *other)
{
	struct device *dev = m->engine->desc.dev;

	if (hmm_p2p_is_coherent(other) || !hmm_p2p_enabled())
		return false;
	b->from = other;
	return !dev || hmm_p2p_check_reach(other, dev, &b->from_type) == HMM_P2P_REACHABLE;
}

/*
 * Move pages of @other to RAM, and from there to the device.  The number of pages for which the
 * device had no memory is then in m->extra->no_room.  The way to RAM needs the copy op of the
 * other device.  If that device has no engine, its pages stay, and the answer is @failed, the
 * error of the direct way.  Called between hmm_p2p_live_tryget() and hmm_p2p_live_put(),
 * which keep that engine.
 */
static int chunk_through_ram(struct migration *m, struct hmm_p2p_batch *b,
			     struct hmm_p2p_exporter *other, int failed)
{
	struct hmm_p2p_engine *engine = hmm_p2p_engine_of(other);
	int ret;

	m->extra->no_room = 0;
	if (!engine)
		return failed == -EOPNOTSUPP ? 0 : failed;
	ret = chunk_pass(m, b, engine, HMM_P2P_TO_RAM);
	if (m->extra->moved)
		return chunk_pass(m, b, m->engine, HMM_P2P_TO_DEVICE);
	/* Other errors of that device are its pages' outcome. */
	return ret == -EBUSY ? ret : 0;
}

static bool batch_has_outcome(struct hmm_p2p_batch *b, enum hmm_p2p_outcome outcome)
{
	return memchr(b->why, outcome, b->nr);
}

/* Move the pages of the chunk that are in the memory of @other. */
static int chunk_from_other(struct migration *m, struct hmm_p2p_batch *b,
			    struct hmm_p2p_exporter *other)
{
	int ret = 0, failed = 0;
	bool done = false;

	if (!hmm_p2p_live_tryget(other))
		return 0;
	if (engine_reaches(m, m->extra, other)) {
		/* Pages that cannot go directly may go through RAM. */
		failed = chunk_pass(m, b, m->engine, HMM_P2P_FROM_PEER);
		done = !failed && !batch_has_outcome(m->extra, HMM_P2P_OTHER);
		if (m->extra->no_room)
			ret = -ENOMEM;
		else if (m->extra->abandoned)
			ret = -EIO;
	}
	if (!done && !ret)
		ret = chunk_through_ram(m, b, other, failed);
	m->no_room += m->extra->no_room;
	hmm_p2p_live_put(other);
	return ret;
}

/* End a chunk's batch.  Pages of another device that it could not move go through RAM. */
static int chunk_end(struct migration *m, struct hmm_p2p_batch *b)
{
	int ret = hmm_p2p_batch_end(b);

	if (b->job.dir != HMM_P2P_FROM_PEER)
		return ret;
	if (!b->no_room && !b->abandoned && (ret || batch_has_outcome(b, HMM_P2P_OTHER))) {
		ret = chunk_through_ram(m, b, b->from, ret);
		b->no_room = m->extra->no_room;
	}
	hmm_p2p_live_put(b->from);
	hmm_p2p_exporter_put(b->from);
	return ret;
}

/* Account for a chunk that has ended with @ret, and is not done again. */
static int chunk_over(struct migration *m, struct hmm_p2p_batch *b, int ret)
{
	chunk_account(m, b);
	/* Let the batch in flight finish; report -ENOMEM at the end. */
	if (b->job.dir == HMM_P2P_FROM_PEER && ret == -ENOMEM) {
		m->late_error = ret;
		ret = 0;
	}
	return ret;
}

/* End the chunk that has a copy under way, if there is one.  It is too late to make room for it. */
static int migration_end_busy(struct migration *m)
{
	struct hmm_p2p_batch *b = m->busy;
	int ret;

	if (!b)
		return 0;
	ret = chunk_over(m, b, chunk_end(m, b));
	m->busy = NULL;
	m->next = b;
	return ret;
}

static void chunk_scan(struct migration *m, struct hmm_p2p_batch *b,
		       struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	m->scan.exp = m->engine->exp;
	m->scan.dir = m->dir;
	m->scan.why = b->why;
	hmm_p2p_scan(&m->scan, vma, start, end);
	m->look_first = m->scan.nr_others || !m->scan.todo;
}

/*
 * Whether the first of the other devices shares its owner with a later one.  A batch for the
 * first then collects the pages of both.  Until it ends, the pages of the later one have no pass
 * of their own.
 */
static bool first_other_has_sibling(struct migration *m)
{
	unsigned int i;

	for (i = 1; i < m->scan.nr_others; i++)
		if (m->scan.others[i]->owner == m->scan.others[0]->owner)
			return true;
	return false;
}

/* Whether the chunk's own batch takes the pages of @other.  If so, chunk_end() puts @other. */
static bool chunk_takes_from(struct migration *m, struct hmm_p2p_batch *b,
			     struct hmm_p2p_exporter *other)
{
	if (!m->scan.nr_others || m->flags & HMM_P2P_ONLY_RAM ||
	    first_other_has_sibling(m) || !hmm_p2p_live_tryget(other))
		return false;
	if (!engine_reaches(m, b, other)) {
		hmm_p2p_live_put(other);
		return false;
	}
	kref_get(&other->kref);
	b->job.dir = HMM_P2P_FROM_PEER;
	return true;
}

/*
 * Begin the chunk's own batch, and start its copy.  *first is set to the number of other devices
 * that the batch takes pages from.
 */
static int chunk_begin(struct migration *m, struct hmm_p2p_batch *b,
		       struct vm_area_struct *vma, unsigned long start,
		       unsigned long end, unsigned int *first)
{
	bool looked = m->look_first;
	int ret;

	*first = 0;
	m->scan.todo = 0;
	m->scan.nr_others = 0;
	hmm_p2p_batch_init(b, m->engine, m->dir, vma, start, end);
	b->job.alone = false;
	if (looked) {
		chunk_scan(m, b, vma, start, end);
		if (!m->scan.todo && !chunk_takes_from(m, b, m->scan.others[0]))
			return 0;
		*first = b->job.dir == HMM_P2P_FROM_PEER;
	}
	ret = hmm_p2p_batch_collect(b, NULL);
	if (!looked && b->taken < b->nr)
		chunk_scan(m, b, vma, start, end);
	hmm_p2p_batch_start(b);
	return ret;
}

/*
 * Move one chunk.  mmap_lock is held for reading.  The chunk is not accounted for, and is done
 * again, in two cases: if m->no_room is set on return, the device had no memory for so many of
 * its pages; if m->again is set, a huge page of it has been split.
 */
static int chunk_run(struct migration *m, struct vm_area_struct *vma,
		     unsigned long start, unsigned long end, bool may_make_room)
{
	struct hmm_p2p_batch *b = m->idle;
	unsigned int i;
	int ret, err = 0;

	/* If it waits for DMA addresses, this chunk must not keep them. */
	if (m->busy && hmm_p2p_copy_is_in_parts(m->busy))
		err = migration_end_busy(m);
	ret = chunk_begin(m, b, vma, start, end, &i);
	err = err ?: migration_end_busy(m);
	m->no_room = b->no_room;
	/* Another pass would take holes that this batch is about to fill. */
	if (i < m->scan.nr_others && b->job.dir == HMM_P2P_TO_DEVICE)
		ret = ret ?: hmm_p2p_batch_end(b);
	for (; i < m->scan.nr_others && !(m->flags & HMM_P2P_ONLY_RAM) && !ret &&
	     !m->no_room; i++)
		ret = chunk_from_other(m, b, m->scan.others[i]);

	m->again = b->split && !b->abandoned && !m->split_tried;
	if (m->again) {
		/* chunk_end() splits the page, or cannot.  Try the chunk once more either way. */
		m->split_tried = true;
		m->no_room = 0;
		ret = chunk_end(m, b);
		/* A batch that a driver still has takes no other copy. */
		m->again = !b->abandoned;
		ret = m->again ? 0 : chunk_over(m, b, ret);
	} else if (b->in_flight && !(m->no_room && may_make_room)) {
		m->no_room = 0;
		m->busy = b;
		m->idle = m->next;
		m->next = NULL;
	} else {
		int ended = chunk_end(m, b);

		m->no_room = max(m->no_room, b->no_room);
		if (!m->no_room || !may_make_room) {
			m->no_room = 0;
			ret = chunk_over(m, b, ended) ?: ret;
		}
	}
	for (i = 0; i < m->scan.nr_others; i++)
		hmm_p2p_exporter_put(m->scan.others[i]);
	/* The chunk before lacked memory: make room for this chunk, and report that at the end. */
	if (m->no_room && err == -ENOMEM) {
		m->late_error = err;
		err = 0;
	}
	return err ?: ret;
}

/* Whether a device may reach the memory of @vma (the rule of hmm), and the engine may move it. */
static int vma_check(struct vm_area_struct *vma)
{
	if (vma->vm_flags & (VM_IO | VM_PFNMAP) || !(vma->vm_flags & VM_READ))
		return -EFAULT;
	if (vma->vm_flags & VM_SPECIAL || is_vm_hugetlb_page(vma) ||
	    vma_is_dax(vma))
		return -EOPNOTSUPP;
	return 0;
}

/* Check all of the range before its first page moves. */
static int range_check(struct mm_struct *mm, unsigned long start,
		       unsigned long end)
{
	struct vm_area_struct *vma;
	unsigned long addr = start;
	int ret = 0;

	if (!PAGE_ALIGNED(start) || !PAGE_ALIGNED(end) || start >= end)
		return -EINVAL;
	if (mmap_read_lock_killable(mm))
		return -EINTR;
	while (addr < end && !ret) {
		vma = vma_lookup(mm, addr);
		ret = vma ? vma_check(vma) : -EFAULT;
		if (!ret)
			addr = vma->vm_end;
	}
	mmap_read_unlock(mm);
	return ret;
}

/*
 * Take mmap_lock, and live_sem for a migration to the device.  The end of the engine and a reset
 * wait for live_sem, so it is held no longer than mmap_lock.
 */
static int migration_lock(struct migration *m)
{
	struct hmm_p2p_exporter *exp = m->engine->exp;
	int ret = 0;

	while (!ret) {
		if (fatal_signal_pending(current) || mmap_read_lock_killable(m->mm))
			return -EINTR;
		if (m->dir != HMM_P2P_TO_DEVICE || hmm_p2p_live_tryget(exp))
			return 0;
		mmap_read_unlock(m->mm);
		/* Wait for the end of a reset without mmap_lock. */
		ret = hmm_p2p_live_get(exp);
		if (!ret)
			hmm_p2p_live_put(exp);
	}
	return ret;
}

static void migration_unlock(struct migration *m)
{
	mmap_read_unlock(m->mm);
	if (m->dir == HMM_P2P_TO_DEVICE)
		hmm_p2p_live_put(m->engine->exp);
}

/*
 * Move chunks from *addr on, as long as no other task wants the lock and the device has room.
 * On return, *addr is where it ended, and nothing is under way.
 */
static int migration_run_locked(struct migration *m, unsigned long *addr, bool may_make_room)
{
	int ret;

	do {
		struct vm_area_struct *vma = vma_lookup(m->mm, *addr);
		unsigned long next;

		/* The range may have changed since it was checked. */
		ret = vma ? vma_check(vma) : -EFAULT;
		if (ret)
			break;
		next = min3(m->end, vma->vm_end, pmd_addr_end(*addr, m->end));
		ret = chunk_run(m, vma, *addr, next, may_make_room);
		if (m->no_room)
			break;
		if (m->again)
			continue;
		m->split_tried = false;
		*addr = next;
		memset(m->idle->why, HMM_P2P_BUSY, HMM_P2P_BATCH_PAGES);
	} while (*addr < m->end && !ret && !mmap_lock_is_contended(m->mm) &&
		 !fatal_signal_pending(current) &&
		 READ_ONCE(m->engine->exp->state) == HMM_P2P_STATE_LIVE);
	return migration_end_busy(m) ?: ret;
}

static int migration_run(struct migration *m)
{
	const struct hmm_p2p_engine_desc *desc = &m->engine->desc;
	bool can_make_room = desc->ops->make_room && m->dir == HMM_P2P_TO_DEVICE &&
			     !(m->flags & HMM_P2P_NO_EVICT);
	unsigned long addr = m->start;
	unsigned int tries = 0;
	int ret;

	memset(m->idle->why, HMM_P2P_BUSY, HMM_P2P_BATCH_PAGES);
	do {
		unsigned long from = addr;

		ret = migration_lock(m);
		if (ret)
			break;
		ret = migration_run_locked(m, &addr, can_make_room && tries < MAKE_ROOM_TRIES);
		migration_unlock(m);
		if (addr > from)
			tries = 0;
		if (m->no_room && (!ret || ret == -ENOMEM)) {
			tries++;
			ret = desc->ops->make_room(desc->priv, m->no_room);
			if (ret) {
				/* Go on without more room: pages that fit move. */
				tries = MAKE_ROOM_TRIES;
				ret = 0;
			}
		}
		cond_resched();
	} while (addr < m->end && !ret);
	/* The chunk that was not done again is accounted for as the last try has left it. */
	if (m->no_room)
		chunk_account(m, m->idle);
	return ret;
}

static int migrate_range(struct hmm_p2p_engine *engine, struct mm_struct *mm,
			 unsigned long start, unsigned long end,
			 enum hmm_p2p_copy_dir dir, unsigned int flags,
			 struct hmm_p2p_result *result)
{
	struct hmm_p2p_result unwanted = {};
	struct migration m = {
		.engine = engine, .mm = mm, .dir = dir, .flags = flags,
		.start = start, .end = end, .look_first = true,
	};
	int ret;

	if (!result)
		result = &unwanted;
	m.result = result;
	hmm_p2p_result_init(result);
	if (flags & ~(HMM_P2P_ONLY_RAM | HMM_P2P_NO_EVICT))
		return -EINVAL;
	ret = range_check(mm, start, end);
	if (ret)
		return ret;
	m.idle = hmm_p2p_batch_alloc(HMM_P2P_BATCH_PAGES);
	m.next = hmm_p2p_batch_alloc(HMM_P2P_BATCH_PAGES);
	m.extra = hmm_p2p_batch_alloc(HMM_P2P_BATCH_PAGES);
	ret = m.idle && m.next && m.extra ? migration_run(&m) ?: m.late_error : -ENOMEM;
	hmm_p2p_batch_free(m.idle);
	hmm_p2p_batch_free(m.next);
	hmm_p2p_batch_free(m.extra);
	hmm_p2p_result_sum(result);
	return ret;
}

/**
 * hmm_p2p_migrate_to_device - move memory of a process to a device
 * @engine: of the device to move it to
 * @mm: the address space; the caller holds a reference (mmget())
 * @start: first address, page-aligned
 * @end: address behind the last, page-aligned
 * @flags: %HMM_P2P_ONLY_RAM, %HMM_P2P_NO_EVICT
 * @result: set, also on errors, to what became of the pages so far; @result->vec is an
 *	input, and nothing else need be initialised.  NULL: the caller does not want it
 *
 * Moves anonymous pages in RAM and on other devices.  Fills holes and zero pages with cleared
 * device memory, but not where userfaultfd waits for missing pages: user space decides what
 * appears there.  Huge pages stay huge if the device has a huge page.  Peer mappings of the pages
 * are invalidated on the way.  Waits for the end of a reset.  Calls ops->make_room if the device
 * is full.  If another device has no engine and this one does not reach it, its pages stay there
 * (%HMM_P2P_OTHER).
 *
 * Context: Process context; takes mmap_lock, so the caller must not hold it, nor a lock that
 * ops need.  May sleep.
 *
 * Return: 0, with what could not be moved in @result, or
 * * -EINVAL: @start or @end is not page-aligned, the range is empty, or a flag is
 *   unknown; nothing was moved
 * * -EFAULT: part of the range is not mapped, not readable, or maps a device;
 *   nothing was moved, unless the range was changed meanwhile
 * * -EOPNOTSUPP: part of the range is hugetlb, DAX or otherwise special; likewise
 * * -ENODEV: the exporter is being unregistered, or its device is dead; @result
 *   tells how far it went
 * * -ENOMEM: no memory, or the device is full; @result tells how far it went
 * * -EBUSY: for a second, no DMA addresses or bounce buffers for a page; likewise
 * * -EINTR: a fatal signal arrived
 * * -EIO: the device has died, its bus does not answer, or a copy was abandoned; @result tells
 *   how far it went
 * * what the copy op returned
 */
int hmm_p2p_migrate_to_device(struct hmm_p2p_engine *engine, struct mm_struct *mm,
			      unsigned long start, unsigned long end,
			      unsigned int flags, struct hmm_p2p_result *result)
{
	return migrate_range(engine, mm, start, end, HMM_P2P_TO_DEVICE, flags, result);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_migrate_to_device, "HMM_P2P");

/**
 * hmm_p2p_migrate_to_ram - move memory of a process back from a device
 * @engine: of the device to move it from; pages of other devices stay
 * @mm: the address space; the caller holds a reference (mmget())
 * @start: first address, page-aligned
 * @end: address behind the last, page-aligned
 * @result: set, also on errors, to what became of the pages so far; @result->vec is an
 *	input, and nothing else need be initialised.  NULL: the caller does not want it
 *
 * Context: Process context; takes mmap_lock, so the caller must not hold it.  May sleep.
 *
 * Return: as hmm_p2p_migrate_to_device(), without -ENODEV.
 */
int hmm_p2p_migrate_to_ram(struct hmm_p2p_engine *engine, struct mm_struct *mm,
			   unsigned long start, unsigned long end,
			   struct hmm_p2p_result *result)
{
	return migrate_range(engine, mm, start, end, HMM_P2P_TO_RAM, 0, result);
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_migrate_to_ram, "HMM_P2P");

/**
 * hmm_p2p_mm_get_pidfd - the address space of another process
 * @pidfd: a pidfd of the caller's
 *
 * For drivers that act on another process's memory.  A caller that may attach to the process
 * with ptrace may get it (PTRACE_MODE_ATTACH_REALCREDS, as for process_vm_writev()).
 *
 * Return: the mm with a reference for mmput(), or
 * * -EBADF: not a pidfd
 * * -ESRCH: the process is gone, or has no memory (a kernel thread)
 * * -EPERM: ptrace access would be denied
 * * -EINTR: a fatal signal arrived
 */
struct mm_struct *hmm_p2p_mm_get_pidfd(int pidfd)
{
	struct task_struct *task;
	struct mm_struct *mm;
	unsigned int flags;

	task = pidfd_get_task(pidfd, &flags);
	if (IS_ERR(task))
		return ERR_CAST(task);
	mm = mm_access(task, PTRACE_MODE_ATTACH_REALCREDS);
	put_task_struct(task);
	/* mm_access() says -EACCES, which for ptrace has always been -EPERM. */
	if (mm == ERR_PTR(-EACCES))
		return ERR_PTR(-EPERM);
	return mm;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_mm_get_pidfd, "HMM_P2P");
