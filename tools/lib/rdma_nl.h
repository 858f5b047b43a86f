/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whether an RDMA device makes ordinary memory regions on demand, and of what kind the regions
 * that exist are: rdma netlink.
 */
#ifndef HMM_RDMA_NL_H
#define HMM_RDMA_NL_H

#include <stdint.h>
#include <sys/types.h>
#include <rdma/rdma_netlink.h>

/* Of include/uapi/rdma/rdma_netlink.h of a kernel that has them; Debian's header has not. */
#define RDMA_NL_ATTR_DEV_ODP_MR		119
#define RDMA_NL_ATTR_RES_MR_KIND	120

/* RDMA_NLDEV_ATTR_DEV_ODP_MR */
#define RDMA_NL_ODP_MR			1
#define RDMA_NL_ODP_MR_PREFETCH		2
#define RDMA_NL_ODP_MR_PARTIAL		4

/* RDMA_NLDEV_ATTR_RES_MR_KIND */
enum { RDMA_NL_PINNED, RDMA_NL_ODP, RDMA_NL_ODP_BY_DEVICE, RDMA_NL_DMABUF, RDMA_NL_NR_KINDS };

struct rdma_nl_dev {
	uint32_t index;
	char name[64];
	int odp_mr;	/* -1: this kernel has no such switch */
};

struct rdma_nl_mr {
	uint32_t dev, id;
	pid_t pid;
	uint64_t length;
	int kind;	/* -1: this kernel does not tell */
};

/*
 * Call @fn for each device, or for each region of a process on the device @dev.  A return value
 * other than 0 ends that.  Returns the last one of @fn, or -1 with errno.
 */
int rdma_nl_devs(int (*fn)(const struct rdma_nl_dev *dev, void *arg), void *arg);
int rdma_nl_mrs(uint32_t dev, int (*fn)(const struct rdma_nl_mr *mr, void *arg), void *arg);

/* Returns 0, or -1 with errno: ENODEV if there is no device @name. */
int rdma_nl_dev(const char *name, struct rdma_nl_dev *dev);

/*
 * Set RDMA_NLDEV_ATTR_DEV_ODP_MR.  Returns 0, or -1 with errno; then rdma_nl_error() has the
 * kernel's reason if it gave one, or "".
 */
int rdma_nl_set_odp_mr(uint32_t dev, uint8_t flags);
const char *rdma_nl_error(void);

#endif
