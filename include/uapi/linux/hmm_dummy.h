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
 *  ENODEV	the device has been removed
 *  ENOTTY	no such ioctl
 */
#ifndef _UAPI_LINUX_HMM_DUMMY_H
#define _UAPI_LINUX_HMM_DUMMY_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define HMM_DUMMY_TYPE	0xB6

/* hmm_dummy_info.caps */
#define HMM_DUMMY_CAP_PCI	0x1	/* memory in a BAR, reachable on the bus */
#define HMM_DUMMY_CAP_KMAP	0x2	/* offers software a mapping */
#define HMM_DUMMY_CAP_CANARY	0x4	/* free memory is watched */

/**
 * struct hmm_dummy_info - HMM_DUMMY_INFO: what the device is, and counters
 * @size: sizeof(struct hmm_dummy_info)
 * @flags: must be 0
 * @caps: out: HMM_DUMMY_CAP_*
 * @reserved: must be 0
 * @vram_bytes: size of the device memory
 * @vram_free: bytes of it that are not in use
 * @device_faults: device page faults handled
 * @stale_writes: pages of device memory that somebody wrote while they were
 *	free; only with HMM_DUMMY_CAP_CANARY.  Looks at all free memory now.
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
};

#define HMM_DUMMY_INFO		_IO(HMM_DUMMY_TYPE, 0x00)

/* hmm_dummy_migrate.flags */
#define HMM_DUMMY_MIGRATE_TO_RAM	0x1	/* default: to the device */

/**
 * struct hmm_dummy_migrate - HMM_DUMMY_MIGRATE: move memory of a process
 * @size: sizeof(struct hmm_dummy_migrate)
 * @flags: HMM_DUMMY_MIGRATE_*
 * @pidfd: the process, or -1 for the caller
 * @reserved: must be 0
 * @addr: first address, page-aligned
 * @length: bytes, a multiple of the page size, not 0
 * @migrated: out: pages moved
 * @skipped: out: pages that stayed for a reason of their own (already there, holes
 *	on the way to RAM, file-backed, shared by KSM, pinned or locked)
 * @failed: out: pages that were ready to move and did not (no memory, device full)
 *
 * The counts are written on every return but those listed at the top and the
 * first four here:
 *
 *  EINVAL	@addr or @length unaligned, @length 0, or the range wraps
 *  EBADF	@pidfd is not a pidfd
 *  ESRCH	the process is gone or has no memory
 *  EPERM	ptrace access to the process would be denied
 *  EFAULT	part of the range is not mapped, not readable, or maps a device;
 *		nothing was moved, unless the process changed it meanwhile
 *  EOPNOTSUPP	part of the range is hugetlb, DAX or special; likewise
 *  ENOMEM	out of memory, or the device is full; the counts tell how far it went
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
 * Moves and faults nothing.  HMM_DUMMY_AT_NONE is also what is said of a page that
 * is just being moved, that is in a mapping without read access, or that another
 * driver's device has.
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
};

/**
 * struct hmm_dummy_command - HMM_DUMMY_COMMAND: let the device work on memory
 * @size: sizeof(struct hmm_dummy_command)
 * @flags: must be 0
 * @op: enum hmm_dummy_op
 * @reserved: must be 0
 * @addr: first address, any alignment
 * @src: first address of the source; HMM_DUMMY_OP_COPY, otherwise must be 0
 * @length: bytes, not 0
 * @value: in (FILL) or out (CRC32C), see the op; must be 0 for COPY
 *
 * The device works on the memory of the process that opened the file, wherever
 * it is: RAM, its own memory, or, if it reaches it, that of another device.
 * What it has no entry for in its page table it faults in.
 *
 *  EINVAL	@length is 0 or a range wraps
 *  EPERM	the caller is not the process that opened the file
 *  EFAULT	memory is not mapped, or maps a device
 *  EPERM	write to memory that is mapped read-only
 *  EBUSY	memory kept moving for longer than the fault handler waits
 *  ENOMEM	out of memory
 *  EOPNOTSUPP	also: the device cannot map memory for DMA
 *  EINTR	a fatal signal arrived
 *
 * On an error the range may have been worked on in part.
 */
struct hmm_dummy_command {
	__u32 size;
	__u32 flags;
	__u32 op;
	__u32 reserved;
	__u64 addr;
	__u64 src;
	__u64 length;
	__u64 value;
};

#define HMM_DUMMY_COMMAND	_IO(HMM_DUMMY_TYPE, 0x03)

#endif /* _UAPI_LINUX_HMM_DUMMY_H */
