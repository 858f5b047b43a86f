/* SPDX-License-Identifier: GPL-2.0 */
/* IORING_OP_URING_CMD on a dummy GPU, for which liburing 2.3 has no helper. */
#ifndef HMM_P2P_URING_H
#define HMM_P2P_URING_H

#include <liburing.h>

#include "common.h"

static inline struct io_uring_sqe *uring_sqe(struct io_uring *ring, int gpu,
					     unsigned int op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		return NULL;
	memset(sqe, 0, ring->flags & IORING_SETUP_SQE128 ? 128 : 64);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = gpu;
	/* sqe->off and sqe->cmd_op share their place. */
	sqe->off = op;
	return sqe;
}

/* sqe->cmd: 16 bytes, or 80 in a ring with large entries. */
static inline void *uring_payload(struct io_uring_sqe *sqe)
{
	return (char *)sqe + 48;
}

/* Queue @c by address.  The caller keeps *@c until it completes. */
static inline struct io_uring_sqe *uring_command(struct io_uring *ring, int gpu,
						 struct hmm_dummy_command *c)
{
	struct io_uring_sqe *sqe = uring_sqe(ring, gpu, HMM_DUMMY_COMMAND);
	struct hmm_dummy_uring *u = uring_payload(sqe);

	c->size = sizeof(*c);
	u->ptr = (uintptr_t)c;
	return sqe;
}

/*
 * Submit @nr entries.  Returns whether the kernel has all of them.  With SQPOLL, the return
 * value of io_uring_submit() does not tell how many entries the kernel has taken.
 */
static inline bool uring_submit(struct io_uring *ring, int nr)
{
	int ret = io_uring_submit(ring);

	return ring->flags & IORING_SETUP_SQPOLL ? ret >= 0 : ret == nr;
}

#endif
