/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/hmm_dummyN: a dummy GPU with device-private memory.
 *
 * Every ioctl takes a structure that starts with its own size in bytes, which
 * the caller sets to sizeof().  Structures grow at the end: a caller's structure
 * that is shorter than the kernel's is taken as zero-extended, down to the size
 * of the first version, and a longer one must have zeros where the kernel does
 * not know it.  Results are written back as far as the caller's size goes.
 *
 * What all of them return, before anything is looked at or changed:
 *
 *  EINVAL	@size is shorter than the first version
 *  E2BIG	@size is longer than the kernel's version and the rest is not zero,
 *		or longer than a page
 *  EOPNOTSUPP	a flag, a value of an enumeration, or a reserved field is unknown
 *  EFAULT	the structure cannot be read (or, when all else is done, written)
 *  ENODEV	the device has been removed, or is dead
 *  ENOMEM	out of memory
 *  ENOTTY	no such ioctl
 */
#ifndef _UAPI_LINUX_HMM_DUMMY_H
#define _UAPI_LINUX_HMM_DUMMY_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define HMM_DUMMY_TYPE	0xB6

/* hmm_dummy_info.caps */
#define HMM_DUMMY_CAP_PCI	0x1	/* a PCI device: its memory, if any, is a BAR */
#define HMM_DUMMY_CAP_KMAP	0x2	/* offers software importers a mapping */
#define HMM_DUMMY_CAP_CANARY	0x4	/* free memory is watched */
#define HMM_DUMMY_CAP_COHERENT	0x8	/* memory that the CPU maps as well */
#define HMM_DUMMY_CAP_EDU	0x10	/* QEMU's edu: a bus master without memory */

/**
 * struct hmm_dummy_info - HMM_DUMMY_INFO: what the device is, and counters
 * @size: sizeof(struct hmm_dummy_info)
 * @flags: must be 0
 * @caps: out: HMM_DUMMY_CAP_*
 * @reserved: must be 0
 * @vram_bytes: size of the device memory
 * @vram_free: bytes of it that are not in use
 * @device_faults: device page faults handled
 * @stale_writes: pages of device memory that were written to while they were
 *	free; only with HMM_DUMMY_CAP_CANARY.  The call looks at all free memory.
 * @scratch_bytes: memory of the device, beside @vram_bytes, that read() and write()
 *	work on unless the file has imported other memory; it never moves
 * @evicted: pages that went to RAM to make room for others
 * @damped: device page faults that left pages in RAM because they had just come
 *	from the device
 */
struct hmm_dummy_info {
	__u32 size;
	__u32 flags;
	__u32 caps;
	__u32 reserved;
	__u64 vram_bytes;
	__u64 vram_free;
	__u64 device_faults;
	__u64 stale_writes;
	__u64 scratch_bytes;
	__u64 evicted;
	__u64 damped;
};

#define HMM_DUMMY_INFO		_IO(HMM_DUMMY_TYPE, 0x00)

/* hmm_dummy_migrate.flags; with HMM_DUMMY_MIGRATE_TO_RAM the others are refused */
#define HMM_DUMMY_MIGRATE_TO_RAM	0x1	/* default: to the device */
#define HMM_DUMMY_MIGRATE_ONLY_RAM	0x2	/* leave what is on other devices */
#define HMM_DUMMY_MIGRATE_NO_EVICT	0x4	/* if the device is full, evict nothing */

/* What became of a page: one byte each in hmm_dummy_migrate.vec */
enum hmm_dummy_outcome {
	HMM_DUMMY_MOVED,
	HMM_DUMMY_THERE,	/* was at the destination before */
	HMM_DUMMY_ABSENT,	/* nothing to move: in swap, a hole on the way to RAM,
				 * or a hole that userfaultfd watches
				 */
	HMM_DUMMY_NOT_ANON,	/* of a file, or shared memory */
	HMM_DUMMY_KSM,		/* merged by KSM */
	HMM_DUMMY_OTHER,	/* stays on another device */
	HMM_DUMMY_BUSY,		/* pinned, locked or being migrated */
	HMM_DUMMY_NO_MEMORY,	/* no memory at the destination */
	HMM_DUMMY_COPY_FAILED,
	HMM_DUMMY_LOST,		/* another task took a reference meanwhile */
};

/**
 * struct hmm_dummy_migrate - HMM_DUMMY_MIGRATE: move memory of a process
 * @size: sizeof(struct hmm_dummy_migrate)
 * @flags: HMM_DUMMY_MIGRATE_*
 * @pidfd: the process, or -1 for the caller
 * @reserved: must be 0
 * @addr: first address, page-aligned
 * @length: bytes, a multiple of the page size, not 0
 * @migrated: out: pages moved
 * @skipped: out: pages that did not have to move, or could not (already there, holes
 *	on the way to RAM, file-backed, shared by KSM, pinned or locked)
 * @failed: out: pages that were ready to move and did not (no memory, device full)
 * @vec: 0, or the address of one byte per page, enum hmm_dummy_outcome; written as far
 *	as the migration went
 *
 * A migration to the device moves pages of other devices as well, directly if this device
 * reaches them, and through RAM if not.  If the device is full, it evicts to RAM what was used
 * least recently.
 *
 * The counts are written on every return but those listed at the top and the
 * first four here:
 *
 *  EINVAL	@addr or @length unaligned, @length 0, or the range wraps; with @vec,
 *		@length above 1 GiB
 *  EBADF	@pidfd is not a pidfd
 *  ESRCH	the process is gone or has no memory
 *  EPERM	ptrace access to the process would be denied
 *  EFAULT	part of the range is not mapped, not readable, or maps a device;
 *		nothing was moved, unless the process changed it meanwhile
 *  EFAULT	also: @vec cannot be written; the memory was moved
 *  EOPNOTSUPP	part of the range is hugetlb, DAX or special; likewise.  Also: the
 *		device has no memory (HMM_DUMMY_CAP_EDU)
 *  ENOMEM	out of memory, or the device is full; the counts tell how far it went
 *  EBUSY	for a second, no DMA address or bounce buffer for a page; likewise
 *  EIO		data could not be copied; likewise
 *  EINTR	a fatal signal arrived
 */
struct hmm_dummy_migrate {
	__u32 size;
	__u32 flags;
	__s32 pidfd;
	__u32 reserved;
	__u64 addr;
	__u64 length;
	__u64 migrated;
	__u64 skipped;
	__u64 failed;
	__u64 vec;
};

#define HMM_DUMMY_MIGRATE	_IO(HMM_DUMMY_TYPE, 0x01)

/* Where a page lives: one byte each in hmm_dummy_query.vec */
#define HMM_DUMMY_AT_NONE	0	/* nowhere: not touched yet, or swapped out */
#define HMM_DUMMY_AT_RAM	1
#define HMM_DUMMY_AT_DEVICE	2	/* on this device */
#define HMM_DUMMY_AT_PEER	3	/* on another hmm_dummy */

/**
 * struct hmm_dummy_query - HMM_DUMMY_QUERY: where each page of a range lives
 * @size: sizeof(struct hmm_dummy_query)
 * @flags: must be 0
 * @pidfd: the process, or -1 for the caller
 * @reserved: must be 0
 * @addr: first address, page-aligned
 * @length: bytes, a multiple of the page size, not 0, at most 1 GiB
 * @vec: address of one byte per page for the answer, HMM_DUMMY_AT_*
 *
 * Moves and faults nothing.  A page is also reported as HMM_DUMMY_AT_NONE while it
 * is being moved, if its mapping has no read access, and if it is on a device of
 * another driver.
 *
 *  EINVAL	@addr or @length unaligned, @length 0 or above the limit, or the
 *		range wraps
 *  EBADF, ESRCH, EPERM, EINTR	as for HMM_DUMMY_MIGRATE
 *  EFAULT	part of the range is not mapped or maps a device, or @vec cannot be
 *		written
 *  EBUSY	the range kept changing for a second
 *  ENOMEM	out of memory
 */
struct hmm_dummy_query {
	__u32 size;
	__u32 flags;
	__s32 pidfd;
	__u32 reserved;
	__u64 addr;
	__u64 length;
	__u64 vec;
};

#define HMM_DUMMY_QUERY		_IO(HMM_DUMMY_TYPE, 0x02)

/* hmm_dummy_command.op */
enum hmm_dummy_op {
	HMM_DUMMY_OP_FILL,	/* addr[length] = low byte of value */
	HMM_DUMMY_OP_COPY,	/* addr[length] = src[length] */
	HMM_DUMMY_OP_CRC32C,	/* value = CRC-32C of addr[length] */
	HMM_DUMMY_OP_COMPARE,	/* value = offset of the first byte in which addr and
				 * src differ, or length
				 */
	HMM_DUMMY_OP_ADD,	/* each __u64 of addr[length] += value */
	HMM_DUMMY_OP_ATOMIC_ADD, /* the same, atomically to other devices and CPUs */
	HMM_DUMMY_OP_TO_DEVICE,	/* as HMM_DUMMY_MIGRATE; value = pages moved */
	HMM_DUMMY_OP_TO_RAM,
};

/* hmm_dummy_command.pattern: which bytes the command works on, in which order */
enum hmm_dummy_pattern {
	HMM_DUMMY_LINEAR,
	HMM_DUMMY_STRIDED,	/* unit bytes every stride bytes, as often as they fit */
	HMM_DUMMY_RANDOM,	/* all units, each once, in an order that follows from
				 * seed; not for CRC32C and COMPARE
				 */
};

#define HMM_DUMMY_QUEUES	8

/* hmm_dummy_command.flags */
#define HMM_DUMMY_IN_SCRATCH	0x1	/* work on the memory of read() and write() */

/**
 * struct hmm_dummy_command - HMM_DUMMY_COMMAND: let the device work on memory
 * @size: sizeof(struct hmm_dummy_command)
 * @flags: HMM_DUMMY_IN_SCRATCH: @addr is a position as of read(); FILL, CRC32C and ADD only
 * @op: enum hmm_dummy_op
 * @queue: 0 to HMM_DUMMY_QUEUES - 1
 * @addr: first address, any alignment (ADD and ATOMIC_ADD: of 8, TO_*: of a page)
 * @src: first address of the source; COPY and COMPARE, otherwise must be 0
 * @length: bytes, not 0 (ADD and ATOMIC_ADD: a multiple of 8, TO_*: of the page size)
 * @value: in (FILL, ADD, ATOMIC_ADD) or out (CRC32C, COMPARE, TO_*), see the op; must
 *	be 0 for COPY
 * @pattern: enum hmm_dummy_pattern; TO_* take LINEAR only
 * @unit: STRIDED and RANDOM: bytes, 1 to 4096 (ADD and ATOMIC_ADD: a multiple of 8);
 *	@length is no less (STRIDED), or a multiple of it (RANDOM)
 * @stride: STRIDED: bytes, @unit or more (ADD and ATOMIC_ADD: a multiple of 8)
 * @seed: RANDOM: any number; @unit, @stride and @seed must be 0 for other patterns
 * @tag: any number, for HMM_DUMMY_CANCEL
 *
 * The device works on the memory of the calling process where it is: in RAM, in its own
 * memory, or in the memory of another device that it reaches.  It faults in what its page table
 * has no entry for.
 *
 * Commands of one process, file and queue run and complete in the order in which they were
 * accepted.  Commands in different queues have no order.
 *
 *  EINVAL	@length is 0, a range wraps, or a size or alignment is not as above
 *  EAGAIN	the process has as many commands waiting on this file as it may have;
 *		nothing was done
 *  EFAULT	memory is not mapped, maps a device, or could not be reached: out of memory,
 *		or a copy or a DMA mapping failed.  Also: a position is behind the end
 *  EIO		TO_*: as for HMM_DUMMY_MIGRATE
 *  EPERM	write to memory that is mapped read-only
 *  EBUSY	memory kept moving for longer than the fault handler waits
 *  ENOMEM	out of memory
 *  EOPNOTSUPP	also: @queue is above its range; the device cannot map memory for DMA, or
 *		cannot do this op; or no system call waits for the command, and user space
 *		may have to fetch the memory: userfaultfd watches it, or it is in a file
 *		that is not in tmpfs
 *  ECANCELED	HMM_DUMMY_CANCEL, or the end of its ring, cancelled it
 *  EINTR	a fatal signal arrived
 *  ESRCH	the process has ended
 *  ENODEV	the device went before the command ended, or the memory that the file
 *		had imported was revoked
 *
 * On an error the command may have worked on a part of the range.
 */
struct hmm_dummy_command {
	__u32 size;
	__u32 flags;
	__u32 op;
	__u32 queue;
	__u64 addr;
	__u64 src;
	__u64 length;
	__u64 value;
	__u32 pattern;
	__u32 unit;
	__u64 stride;
	__u64 seed;
	__u64 tag;
};

#define HMM_DUMMY_COMMAND	_IO(HMM_DUMMY_TYPE, 0x03)

/**
 * struct hmm_dummy_cancel - HMM_DUMMY_CANCEL: end commands of the caller
 * @size: sizeof(struct hmm_dummy_cancel)
 * @flags: must be 0
 * @tag: of the commands
 * @cancelled: out: how many
 *
 * A command that waits completes at once, with ECANCELED.  A command that runs does so after its
 * piece of work.  If that was the last, the command is counted and ends with its own result.
 *
 *  ENOENT	the process has no such command on this file
 */
struct hmm_dummy_cancel {
	__u32 size;
	__u32 flags;
	__u64 tag;
	__u64 cancelled;
};

#define HMM_DUMMY_CANCEL	_IO(HMM_DUMMY_TYPE, 0x04)

/*
 * IORING_OP_URING_CMD: sqe->cmd_op is one of
 *
 *  HMM_DUMMY_COMMAND		sqe->cmd is a struct hmm_dummy_uring.  The command is read
 *				when it is submitted, and must be long enough for its tag;
 *				its value is written before it completes
 *  HMM_DUMMY_COMMAND_INLINE	sqe->cmd, in a ring with IORING_SETUP_SQE128, is a struct
 *				hmm_dummy_inline; the value is in the CQE's first extra word
 *				in a ring with IORING_SETUP_CQE32, and in other rings lost
 *  HMM_DUMMY_CANCEL		sqe->cmd is a struct hmm_dummy_uring with a pointer to a
 *				struct hmm_dummy_cancel
 *
 * cqe->res is 0 or a negative errno as above.  EINVAL also says that the ring lacks
 * IORING_SETUP_SQE128.  IORING_OP_ASYNC_CANCEL does not reach a command: use
 * HMM_DUMMY_CANCEL.  A ring that is closed cancels its commands.
 */
struct hmm_dummy_uring {
	__u64 ptr;		/* to a struct that begins with its size */
	__u64 reserved;		/* must be 0 */
};

#define HMM_DUMMY_COMMAND_INLINE	_IO(HMM_DUMMY_TYPE, 0x05)

/**
 * struct hmm_dummy_inline - a command in a large SQE, without flags; see struct
 *	hmm_dummy_command
 * @op: enum hmm_dummy_op
 * @queue: 0 to HMM_DUMMY_QUEUES - 1
 * @addr: first address
 * @src: first address of the source
 * @length: bytes
 * @value: in; see the op
 * @pattern: enum hmm_dummy_pattern
 * @unit: bytes
 * @stride: bytes
 * @seed: of the order
 * @tag: any number
 */
struct hmm_dummy_inline {
	__u32 op;
	__u32 queue;
	__u64 addr;
	__u64 src;
	__u64 length;
	__u64 value;
	__u32 pattern;
	__u32 unit;
	__u64 stride;
	__u64 seed;
	__u64 tag;
};

/**
 * struct hmm_dummy_export - HMM_DUMMY_EXPORT: the scratch memory as a dma-buf
 * @size: sizeof(struct hmm_dummy_export)
 * @flags: must be 0
 *
 * The dma-buf has all of the scratch memory.  Only HMM_DUMMY_IMPORT takes it.  It is revoked
 * when the device is reset, dies or is removed, and cannot be used after that.
 *
 * Returns a file descriptor, close-on-exec, or fails with
 *
 *  EOPNOTSUPP	also: the device has no scratch memory, or the bus does not reach all of it
 *		(no HMM_DUMMY_CAP_PCI, or a BAR that is smaller than the memory)
 *  EBUSY	the device is being reset
 *  EMFILE, ENFILE	too many files are open
 */
struct hmm_dummy_export {
	__u32 size;
	__u32 flags;
};

#define HMM_DUMMY_EXPORT	_IO(HMM_DUMMY_TYPE, 0x06)

/**
 * struct hmm_dummy_import - HMM_DUMMY_IMPORT: work on scratch memory of another device
 * @size: sizeof(struct hmm_dummy_import)
 * @flags: must be 0
 * @fd: from HMM_DUMMY_EXPORT
 * @reserved: must be 0
 *
 * From now on, read(), write() and HMM_DUMMY_IN_SCRATCH on this file work on that memory.  The
 * call maps it once.  It stays pinned until the file is closed, this device goes, or the export
 * is revoked.  There are no faults and no invalidations.  SEEK_END leads to its end.  It may be
 * the device's own scratch memory.
 *
 * With HMM_DUMMY_CAP_EDU only HMM_DUMMY_IN_SCRATCH works on it.  For read() and write() the
 * file is empty.
 *
 *  EBADF	@fd is not open
 *  EINVAL	@fd is not a dma-buf
 *  EOPNOTSUPP	also: the dma-buf is not from HMM_DUMMY_EXPORT, its device offers software
 *		no mapping (HMM_DUMMY_CAP_KMAP) and this one is not HMM_DUMMY_CAP_EDU, or
 *		this one is not HMM_DUMMY_CAP_PCI or does not reach it
 *  EBUSY	the file has imported one already
 *  EIO, ENOMEM	also: it could not be mapped for DMA
 *  ENODEV	also: it has been revoked
 */
struct hmm_dummy_import {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 reserved;
};

#define HMM_DUMMY_IMPORT	_IO(HMM_DUMMY_TYPE, 0x07)

/*
 * read() and write(), by AIO and io_uring as well, work on the scratch memory of the device
 * (hmm_dummy_info.scratch_bytes), which all files share, or on the memory that the file has
 * imported.  The device copies between it and the caller's buffers, in RAM or on a device.
 * Buffers that the kernel has pinned (registered buffers of io_uring) are in RAM, and the CPU
 * copies.
 *
 *  EAGAIN	as for HMM_DUMMY_COMMAND, with RWF_NOWAIT and the like; also: the device is
 *		being reset
 *  ENOSPC	a write begins at the end or behind it (a read returns 0 there)
 *  EFAULT, EPERM, EBUSY, ENOMEM, EINTR, ENODEV, EOPNOTSUPP	as for HMM_DUMMY_COMMAND
 */

#endif /* _UAPI_LINUX_HMM_DUMMY_H */
