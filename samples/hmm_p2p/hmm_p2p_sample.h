/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* The ioctls of the two sample drivers. */
#ifndef HMM_P2P_SAMPLE_H
#define HMM_P2P_SAMPLE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct hmm_p2p_sample_move - move memory of the caller
 * @start: first address, page-aligned
 * @end: address behind the last, page-aligned
 * @to_device: 0: back to RAM; otherwise to the device
 *
 * On /dev/hmm_p2p_exporter.  The ioctl returns how many pages have moved.
 */
struct hmm_p2p_sample_move {
	__u64 start;
	__u64 end;
	__u64 to_device;
};

/**
 * struct hmm_p2p_sample_mirror - have the device mirror memory of the caller
 * @start: first address, page-aligned
 * @end: address behind the last, page-aligned; at most 1 GiB from @start
 *
 * On /dev/hmm_p2p_importer, once for each open file.  From then on pread() with an address of
 * the range for the offset reads there, up to the end of the page.
 */
struct hmm_p2p_sample_mirror {
	__u64 start;
	__u64 end;
};

#define HMM_P2P_SAMPLE_MOVE	_IOW(0xe9, 0x40, struct hmm_p2p_sample_move)
#define HMM_P2P_SAMPLE_MIRROR	_IOW(0xe9, 0x41, struct hmm_p2p_sample_mirror)

#endif /* HMM_P2P_SAMPLE_H */
