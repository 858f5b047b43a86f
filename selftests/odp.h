/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A pair of queue pairs, a staging buffer in RAM, and a buffer that a test places on the
 * device.  Both buffers are registered with on-demand paging.
 */
#ifndef HMM_P2P_ODP_H
#define HMM_P2P_ODP_H

#include "common.h"
#include "rdma.h"

struct odp {
	int gpu;
	size_t length;
	struct rdma_pair pair;
	char *stage;
	char *mem;
	struct rdma_buf from;		/* stage */
	struct rdma_buf to;		/* mem */
};

/* Returns NULL, or what failed. */
static inline const char *odp_open(struct odp *o, size_t length)
{
	o->length = length;
	o->gpu = gpu_open(0);
	if (o->gpu < 0)
		return "no GPU";
	if (rdma_pair_open(&o->pair))
		return rdma_error();
	o->stage = anon(length);
	o->mem = anon(length);
	if (o->stage == MAP_FAILED || o->mem == MAP_FAILED)
		return "no memory";
	o->from.addr = o->stage;
	o->from.mr = ibv_reg_mr(o->pair.pd, o->stage, length, RDMA_ODP);
	o->to.addr = o->mem;
	o->to.mr = ibv_reg_mr(o->pair.pd, o->mem, length, RDMA_ODP);
	return o->from.mr && o->to.mr ? NULL : "ibv_reg_mr";
}

/* Release all but the GPU, which the test may still use.  Returns 0 or -1. */
static inline int odp_free(struct odp *o)
{
	int error = ibv_dereg_mr(o->from.mr) || ibv_dereg_mr(o->to.mr) ? -1 : 0;

	munmap(o->stage, o->length);
	if (o->mem)
		munmap(o->mem, o->length);
	rdma_pair_close(&o->pair);
	return error;
}

/* Release everything.  Returns NULL, or what leaked. */
static inline const char *odp_close(struct odp *o)
{
	const char *error = odp_free(o) ? "ibv_dereg_mr" : gpu_leak(0, o->gpu);

	close(o->gpu);
	return error;
}

/* The NIC writes a pattern to all of mem.  Returns the status of the completion. */
static inline int odp_write(struct odp *o, unsigned int seed)
{
	fill_pattern(o->stage, o->length, seed);
	return rdma_write(&o->pair, o->from, o->to, o->length);
}

/* The NIC reads mem.  Returns -1 if it finds the pattern, the first wrong offset, or -2. */
static inline long odp_check(struct odp *o, unsigned int seed)
{
	memset(o->stage, 0xbb, o->length);
	if (rdma_read(&o->pair, o->from, o->to, o->length))
		return -2;
	return check_pattern(o->stage, o->length, seed);
}

/* Move mem to the device and let the NIC write a pattern there. */
static inline bool odp_place(struct odp *o, unsigned int seed)
{
	return !gpu_to_device(o->gpu, o->mem, o->length) &&
	       odp_write(o, seed) == IBV_WC_SUCCESS &&
	       pages_on_device(0, o->mem, o->length) ==
	       (expect_reach() ? (long)(o->length / PAGE) : 0);
}

#endif
