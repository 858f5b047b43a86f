/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Migration of process memory to and from a device, for drivers without an engine of their
 * own.
 *
 * The driver supplies allocation and copy: struct hmm_p2p_exporter_ops of linux/hmm_p2p.h.
 * The engine does what they have in common.  See Documentation/mm/hmm_p2p.rst.
 */
#ifndef _LINUX_HMM_P2P_MIGRATE_H
#define _LINUX_HMM_P2P_MIGRATE_H

#include <linux/completion.h>
#include <linux/err.h>
#include <linux/hmm_p2p.h>
#include <linux/mm_types.h>
#include <linux/types.h>

struct hmm_p2p_exporter;
struct mm_struct;
struct page;
struct vm_fault;

/**
 * enum hmm_p2p_copy_dir - between which memories to copy
 * @HMM_P2P_TO_DEVICE: from system memory, or from nothing, to the device
 * @HMM_P2P_TO_RAM: from the device to system memory
 * @HMM_P2P_FROM_PEER: from another device to this one
 */
enum hmm_p2p_copy_dir {
	HMM_P2P_TO_DEVICE,
	HMM_P2P_TO_RAM,
	HMM_P2P_FROM_PEER,
};

/**
 * struct hmm_p2p_copy - pages to copy that follow one another on both sides
 * @dev_page: the first device page; hmm_p2p_page_offset() tells where it is
 * @ram_page: the first page of system memory, or NULL (%HMM_P2P_TO_DEVICE only) for
 *	pages that were never touched and are to be cleared on the device
 * @peer: the first page of the other device (%HMM_P2P_FROM_PEER only), an entry as
 *	from hmm_range_fault(), all in one window: hmm_pfn_kmap_local() takes it
 * @nr_pages: how many, 1 or more
 */
struct hmm_p2p_copy {
	struct page *dev_page;
	struct page *ram_page;
	unsigned long peer;
	unsigned int nr_pages;
};

/**
 * struct hmm_p2p_copy_job - what ops->copy is to do
 * @copies: the pieces
 * @nr: number of them
 * @nr_pages: number of pages in all of them
 * @dir: in which direction
 * @alone: nothing else is done until this copy has ended, so there is no point in
 *	-EINPROGRESS if that takes longer
 * @node: for the driver to use
 */
struct hmm_p2p_copy_job {
	const struct hmm_p2p_copy *copies;
	unsigned int nr;
	unsigned int nr_pages;
	enum hmm_p2p_copy_dir dir;
	bool alone;
	struct list_head node;
	/* private: */
	struct completion done;
	int state;			/* of the copy, with xchg() and cmpxchg() */
	int error;			/* what the op returned */
	int result;			/* what hmm_p2p_copy_done() was told */
};

/**
 * enum hmm_p2p_outcome - what became of a page in a migration
 * @HMM_P2P_MOVED: it is at the destination
 * @HMM_P2P_THERE: it was there before
 * @HMM_P2P_ABSENT: nothing to move: a hole on the way to RAM, or where a device does not fill
 *	it (memory that is not anonymous, or userfaultfd waits for missing pages; there a zero
 *	page counts as a hole), swapped out, poisoned
 * @HMM_P2P_NOT_ANON: of a file, or shared memory
 * @HMM_P2P_KSM: merged by KSM
 * @HMM_P2P_OTHER: on another device, and to be left there
 * @HMM_P2P_BUSY: pinned, locked or being migrated by somebody else
 * @HMM_P2P_NO_MEMORY: no memory for it at the destination
 * @HMM_P2P_COPY_FAILED: the driver's copy op failed
 * @HMM_P2P_LOST: somebody took a reference while it was on its way
 * @HMM_P2P_NR_OUTCOMES: number of outcomes
 *
 * Those from THERE to BUSY count as skipped, those behind as failed.
 */
enum hmm_p2p_outcome {
	HMM_P2P_MOVED,
	HMM_P2P_THERE,
	HMM_P2P_ABSENT,
	HMM_P2P_NOT_ANON,
	HMM_P2P_KSM,
	HMM_P2P_OTHER,
	HMM_P2P_BUSY,
	HMM_P2P_NO_MEMORY,
	HMM_P2P_COPY_FAILED,
	HMM_P2P_LOST,
	HMM_P2P_NR_OUTCOMES,
};

/**
 * struct hmm_p2p_result - what a migration did, in pages
 * @migrated: arrived at the destination
 * @skipped: stayed for a reason of their own
 * @failed: were ready to move and did not
 * @count: pages by &enum hmm_p2p_outcome
 * @vec: if not NULL when the call begins: a byte for each page of the range, set to
 *	its &enum hmm_p2p_outcome, up to where the migration ended
 */
struct hmm_p2p_result {
	unsigned long migrated;
	unsigned long skipped;
	unsigned long failed;
	unsigned long count[HMM_P2P_NR_OUTCOMES];
	u8 *vec;
};

/* For hmm_p2p_migrate_to_device(). */
#define HMM_P2P_ONLY_RAM	0x1	/* leave the pages of other devices */
#define HMM_P2P_NO_EVICT	0x2	/* do not call ops->make_room */

#ifdef CONFIG_HMM_P2P

int hmm_p2p_migrate_to_device(struct hmm_p2p_exporter *exp, struct mm_struct *mm,
			      unsigned long start, unsigned long end,
			      unsigned int flags, struct hmm_p2p_result *result);
int hmm_p2p_migrate_to_ram(struct hmm_p2p_exporter *exp, struct mm_struct *mm,
			   unsigned long start, unsigned long end,
			   struct hmm_p2p_result *result);
vm_fault_t hmm_p2p_migrate_fault(struct hmm_p2p_exporter *exp,
				 struct vm_fault *vmf);
int hmm_p2p_evict(struct hmm_p2p_exporter *exp, u64 offset, u64 length,
		  struct hmm_p2p_result *result);
void hmm_p2p_copy_done(struct hmm_p2p_copy_job *job, int error);
struct mm_struct *hmm_p2p_mm_get_pidfd(int pidfd);

#else /* CONFIG_HMM_P2P */

static inline int
hmm_p2p_migrate_to_device(struct hmm_p2p_exporter *exp, struct mm_struct *mm,
			  unsigned long start, unsigned long end,
			  unsigned int flags, struct hmm_p2p_result *result)
{
	return -EOPNOTSUPP;
}

static inline int
hmm_p2p_migrate_to_ram(struct hmm_p2p_exporter *exp, struct mm_struct *mm,
		       unsigned long start, unsigned long end,
		       struct hmm_p2p_result *result)
{
	return -EOPNOTSUPP;
}

static inline vm_fault_t hmm_p2p_migrate_fault(struct hmm_p2p_exporter *exp,
					       struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static inline int hmm_p2p_evict(struct hmm_p2p_exporter *exp, u64 offset,
				u64 length, struct hmm_p2p_result *result)
{
	return -EOPNOTSUPP;
}

static inline void hmm_p2p_copy_done(struct hmm_p2p_copy_job *job, int error)
{
}

static inline struct mm_struct *hmm_p2p_mm_get_pidfd(int pidfd)
{
	return ERR_PTR(-EOPNOTSUPP);
}

#endif /* CONFIG_HMM_P2P */

#endif /* _LINUX_HMM_P2P_MIGRATE_H */
