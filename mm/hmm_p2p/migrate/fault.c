// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The fault of the CPU
 *
 * The CPU touches a page of a device, or hmm_range_fault() faults it for a device that does not
 * reach it.  The page goes to RAM in a batch, with the neighbours that may come along.
 */
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include "internal.h"

/* Return: true if the page table entry has changed since the fault. */
static bool fault_is_stale(struct vm_fault *vmf)
{
	pte_t *ptep;
	bool same;

	/* A huge page may be split by now.  Then the next fault is on a small page. */
	if (!vmf->pte)
		return !pmd_same(pmdp_get_lockless(vmf->pmd), vmf->orig_pmd);
	ptep = pte_offset_map(vmf->pmd, vmf->address);
	if (!ptep)
		return true;
	same = pte_same(ptep_get(ptep), vmf->orig_pte);
	pte_unmap(ptep);
	return !same;
}

/*
 * Split the huge page of a fault, for which there is no huge page of RAM.
 *
 * The batch did not split it, because it was shared then: see batch_may_split().  Now it is back
 * in the page table, locked and with the reference of the fault.  The next fault is on a small
 * page.  Without the split, the OOM handler would repeat the fault until there is a huge page.
 */
static int fault_split(struct vm_fault *vmf)
{
	int ret = split_folio(page_folio(vmf->page));

	/* Another task has a reference for a moment: the caller tries again. */
	return ret == -EAGAIN || ret == -EBUSY ? 0 : ret;
}

/* Try once to move [start, end).  Sets @moved if the page at @addr has arrived. */
static int fault_run(struct hmm_p2p_batch *b, struct hmm_p2p_engine *engine,
		     struct vm_fault *vmf, unsigned long start, unsigned long end,
		     unsigned long addr, bool *moved)
{
	int ret;

	hmm_p2p_batch_init(b, engine, HMM_P2P_TO_RAM, vmf->vma, start, end);
	memset(b->why, HMM_P2P_BUSY, b->nr);
	ret = hmm_p2p_batch_collect(b, vmf->page);
	hmm_p2p_batch_start(b);
	ret = ret ?: hmm_p2p_batch_end(b);
	*moved = b->why[(addr - start) >> PAGE_SHIFT] == HMM_P2P_MOVED;
	if (b->moved)
		hmm_p2p_engine_count(engine, HMM_P2P_E_CPU_FAULTS, b->moved);
	/* Another task may have split the huge page by now. */
	if (ret == -ENOMEM && !*moved && !vmf->pte && folio_test_large(page_folio(vmf->page)))
		ret = fault_split(vmf);
	return ret;
}

/*
 * How many bytes a fault brings to RAM.  The neighbours are a guess at what the CPU touches next.
 * A fault that is not the process's own is no hint for that.  A peer's walk causes such a fault
 * (hmm_do_fault()), and the peer may reach the neighbours where they are.
 */
static unsigned long fault_around(struct hmm_p2p_engine *engine, struct vm_fault *vmf)
{
	/* do_huge_pmd_device_private() faults on a huge page as a whole. */
	if (!vmf->pte)
		return PMD_SIZE;
	if (vmf->flags & FAULT_FLAG_REMOTE && hmm_p2p_enabled())
		return PAGE_SIZE;
	return max(PAGE_SIZE, engine->desc.fault_around);
}

/*
 * The engine of the page's device, or NULL if the driver has registered none.
 *
 * The page is locked, and was mapped when the task locked it.  So neither hmm_p2p_evict_all()
 * nor hmm_p2p_dead() gets past it, and hmm_p2p_engine_unregister() waits for both.
 */
static struct hmm_p2p_engine *fault_engine(struct vm_fault *vmf)
{
	struct hmm_p2p_exporter *exp;
	struct hmm_p2p_engine *engine;

	rcu_read_lock();
	exp = hmm_p2p_exporter_of(vmf->page);
	engine = exp ? hmm_p2p_engine_of(exp) : NULL;
	rcu_read_unlock();
	return engine;
}

/**
 * hmm_p2p_migrate_fault - bring a page to RAM: the op dev_pagemap_ops.migrate_to_ram
 * @vmf: the fault, on a page of an exporter with an engine
 *
 * Small pages around it come along: see hmm_p2p_engine_desc.fault_around.
 *
 * The function returns 0 only if the page has moved or was split, its page table entry has
 * changed meanwhile, or a reset is about to park it.  Otherwise hmm_range_fault() would fault on
 * the page again for ever, and keep mmap_lock.
 *
 * Context: As for the op: vmf->page is locked and has a reference for the
 * fault; mmap_lock or the VMA lock is held.
 *
 * Return: 0, or
 * * VM_FAULT_OOM: no memory, or for a second no DMA addresses or bounce buffers.  A process that
 *   touches the page tries again; a system call fails with -EFAULT or -ENOMEM, and so does a
 *   device fault
 * * VM_FAULT_SIGBUS: the copy failed, the device is dead or has no engine, or another task keeps
 *   a reference on the page for longer than a second
 */
vm_fault_t hmm_p2p_migrate_fault(struct vm_fault *vmf)
{
	struct hmm_p2p_engine *engine = fault_engine(vmf);
	unsigned long deadline = jiffies +
		msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	unsigned long size = vmf->pte ? PAGE_SIZE : PMD_SIZE;
	unsigned long addr = ALIGN_DOWN(vmf->address, size);
	unsigned long around, start, end;
	struct hmm_p2p_batch *b;
	bool moved, dma_short;
	int ret;

	if (!engine || hmm_p2p_is_dead(engine->exp))
		return VM_FAULT_SIGBUS;
	around = fault_around(engine, vmf);
	start = max(ALIGN_DOWN(addr, around), vmf->vma->vm_start);
	end = min(ALIGN_DOWN(addr, around) + around, vmf->vma->vm_end);
	b = hmm_p2p_batch_alloc((end - start) >> PAGE_SHIFT);
	if (!b)
		return VM_FAULT_OOM;
	ret = fault_run(b, engine, vmf, start, end, addr, &moved);
	/*
	 * The page is locked, so no other migration of it runs.  But another task that
	 * tries to migrate the page holds a reference for a moment, and then this attempt
	 * fails.  If the entry was zapped meanwhile, nothing is left to do.  The next
	 * attempts leave out the neighbours, which may be the cause of the failure.
	 */
	while (!moved && (!ret || end - start > size) && !fault_is_stale(vmf) &&
	       !fatal_signal_pending(current) && !time_after(jiffies, deadline)) {
		if (end - start == size)
			schedule_timeout_uninterruptible(1);
		start = addr;
		end = addr + size;
		ret = fault_run(b, engine, vmf, start, end, addr, &moved);
	}
	dma_short = b->dma_short;
	hmm_p2p_batch_free(b);

	if (moved || (!ret && fault_is_stale(vmf)))
		return 0;
	/* When the caller unlocks the page, the reset can park it. */
	if (ret == -EAGAIN &&
	    READ_ONCE(engine->exp->state) == HMM_P2P_STATE_RESETTING)
		return 0;
	return ret == -ENOMEM || dma_short ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}
EXPORT_SYMBOL_NS_GPL(hmm_p2p_migrate_fault, "HMM_P2P");
