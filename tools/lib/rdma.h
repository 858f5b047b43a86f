/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Two connected RC queue pairs of one process on one RDMA device.  What side 0 sends, side 1
 * receives.  These are plain verbs, as any RDMA program uses them.
 */
#ifndef HMM_RDMA_H
#define HMM_RDMA_H

#include <stddef.h>
#include <stdint.h>
#include <infiniband/verbs.h>

struct rdma_pair {
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_cq *cq[2];
	struct ibv_qp *qp[2];
};

#define RDMA_ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | \
			 IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)
#define RDMA_ODP	(RDMA_ACCESS | IBV_ACCESS_ON_DEMAND)

/* Returns 0, or -1 with errno; rdma_error() says what failed. */
int rdma_pair_open(struct rdma_pair *pair);
void rdma_pair_close(struct rdma_pair *pair);
const char *rdma_error(void);

/* A new queue pair on the completion queue of a side.  @srq may be NULL.  NULL with errno. */
struct ibv_qp *rdma_create_qp(struct rdma_pair *pair, int side, enum ibv_qp_type type,
			      struct ibv_srq *srq);

/* Connect a new RC or UC queue pair to one of this host, of any process.  0, or -1 with errno. */
int rdma_connect(struct ibv_qp *qp, uint32_t peer);
/*
 * The same of an RC queue pair that waits 4096 * 2^@timeout ns (0: for ever) for an answer, and
 * sends again @retries times (7: without end) if none comes.
 */
int rdma_connect_with(struct ibv_qp *qp, uint32_t peer, uint8_t timeout, uint8_t retries);

/* The memory of an operation. */
struct rdma_buf {
	struct ibv_mr *mr;
	void *addr;		/* the iova, if registered with one */
};

static inline struct rdma_buf rdma_at(struct rdma_buf buf, size_t offset)
{
	buf.addr = (char *)buf.addr + offset;
	return buf;
}

/*
 * Post one operation of side 0 and wait for its completion.  @remote is memory of
 * the same process, to which both sides belong.  Returns the work completion's
 * status, or -1 with errno if it could not be posted or did not complete in 60 s.
 */
int rdma_write(struct rdma_pair *pair, struct rdma_buf local,
	       struct rdma_buf remote, size_t length);
int rdma_read(struct rdma_pair *pair, struct rdma_buf local,
	      struct rdma_buf remote, size_t length);
/* Side 0 sends @from, side 1 receives into @to. */
int rdma_send(struct rdma_pair *pair, struct rdma_buf from, struct rdma_buf to,
	      size_t length);
/* The old value of the 8 bytes at @remote arrives at @result. */
int rdma_fetch_add(struct rdma_pair *pair, struct rdma_buf result,
		   struct rdma_buf remote, uint64_t add);
int rdma_cmp_swap(struct rdma_pair *pair, struct rdma_buf result,
		  struct rdma_buf remote, uint64_t compare, uint64_t swap);

/* The same in two steps: post any request to a side, and wait for a completion there. */
int rdma_post(struct rdma_pair *pair, int side, struct ibv_send_wr *wr);
int rdma_wait(struct rdma_pair *pair, int side);

/*
 * Register a region by the newer ioctl, which Debian 12's library does not use.  Sets
 * the keys and the handle of @mr.  Returns 0, or -1 with errno.
 */
int rdma_ioctl_reg_mr(struct rdma_pair *pair, void *addr, size_t length, uint64_t iova,
		      unsigned int access, struct ibv_mr *mr);
int rdma_ioctl_query_mr(struct rdma_pair *pair, const struct ibv_mr *mr, uint64_t *length,
			uint64_t *iova);
int rdma_ioctl_dereg_mr(struct rdma_pair *pair, const struct ibv_mr *mr);

/*
 * ibv_rereg_mr() in the same protection domain; Debian 12's librxe does not have it.  @flags:
 * IBV_REREG_MR_CHANGE_*.  Returns 0, with new keys in @mr, or -1 with errno.
 */
int rdma_rereg(struct rdma_pair *pair, struct ibv_mr *mr, int flags, void *addr, size_t length,
	       int access);

/* Prefetch by the uverbs ioctl, which Debian 12's librxe does not have. */
int rdma_advise(struct rdma_pair *pair, enum ib_uverbs_advise_mr_advice advice,
		struct ibv_mr *mr, void *addr, size_t length);
/* The same without waiting for its end. */
int rdma_advise_later(struct rdma_pair *pair, enum ib_uverbs_advise_mr_advice advice,
		      struct ibv_mr *mr, void *addr, size_t length);

#endif
