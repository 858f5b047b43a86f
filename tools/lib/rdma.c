// SPDX-License-Identifier: GPL-2.0
/* Verbs of a connected pair, and uverbs ioctls without a library call; see rdma.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>

#include "gpu.h"
#include "rdma.h"

#define PORT		1
#define GID_INDEX	1	/* rxe's GID 0 is not routable on lo */
#define TIMEOUT_S	60

static char error[160];

const char *rdma_error(void)
{
	return error;
}

static int fail(const char *what)
{
	int e = errno;

	snprintf(error, sizeof(error), "%s: %s", what, strerror(e));
	errno = e;
	return -1;
}

static struct ibv_context *open_first_device(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context = NULL;

	if (list && list[0])
		context = ibv_open_device(list[0]);
	else
		errno = ENODEV;
	if (list)
		ibv_free_device_list(list);
	return context;
}

int rdma_connect_with(struct ibv_qp *qp, uint32_t peer, uint8_t timeout, uint8_t retries)
{
	bool uc = qp->qp_type == IBV_QPT_UC;	/* it knows no answers */
	union ibv_gid gid;
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = PORT,
		.qp_access_flags = RDMA_ACCESS,
	};

	if (ibv_query_gid(qp->context, PORT, GID_INDEX, &gid) ||
	    ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX |
			  IBV_QP_PORT | IBV_QP_ACCESS_FLAGS))
		return -1;
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_4096,
		.dest_qp_num = peer,
		.max_dest_rd_atomic = 16,
		.min_rnr_timer = 12,
		.ah_attr = {
			.is_global = 1,
			.grh = { .dgid = gid, .sgid_index = GID_INDEX,
				 .hop_limit = 1 },
			.port_num = PORT,
		},
	};
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV |
			  IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			  (uc ? 0 : IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER)))
		return -1;
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTS,
		.timeout = timeout,
		.retry_cnt = retries,
		.rnr_retry = 7,
		.max_rd_atomic = 16,
	};
	return ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN |
			     (uc ? 0 : IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			      IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC));
}

int rdma_connect(struct ibv_qp *qp, uint32_t peer)
{
	return rdma_connect_with(qp, peer, 18, 7);
}

struct ibv_qp *rdma_create_qp(struct rdma_pair *pair, int side, enum ibv_qp_type type,
			      struct ibv_srq *srq)
{
	struct ibv_qp_init_attr init = {
		.qp_type = type,
		.send_cq = pair->cq[side],
		.recv_cq = pair->cq[side],
		.srq = srq,
		.cap = { .max_send_wr = 64, .max_recv_wr = 16,
			 .max_send_sge = 1, .max_recv_sge = 1 },
	};

	return ibv_create_qp(pair->pd, &init);
}

int rdma_pair_open(struct rdma_pair *pair)
{
	memset(pair, 0, sizeof(*pair));
	pair->context = open_first_device();
	if (!pair->context)
		return fail("no RDMA device");
	pair->pd = ibv_alloc_pd(pair->context);
	if (!pair->pd)
		return fail("ibv_alloc_pd");

	for (int i = 0; i < 2; i++) {
		pair->cq[i] = ibv_create_cq(pair->context, 128, NULL, NULL, 0);
		if (!pair->cq[i])
			return fail("ibv_create_cq");
		pair->qp[i] = rdma_create_qp(pair, i, IBV_QPT_RC, NULL);
		if (!pair->qp[i])
			return fail("ibv_create_qp");
	}
	for (int i = 0; i < 2; i++)
		if (rdma_connect(pair->qp[i], pair->qp[!i]->qp_num))
			return fail("ibv_query_gid or ibv_modify_qp");
	return 0;
}

void rdma_pair_close(struct rdma_pair *pair)
{
	for (int i = 0; i < 2; i++) {
		if (pair->qp[i])
			ibv_destroy_qp(pair->qp[i]);
		if (pair->cq[i])
			ibv_destroy_cq(pair->cq[i]);
	}
	if (pair->pd)
		ibv_dealloc_pd(pair->pd);
	if (pair->context)
		ibv_close_device(pair->context);
	memset(pair, 0, sizeof(*pair));
}

int rdma_wait(struct rdma_pair *pair, int side)
{
	struct ibv_cq *cq = pair->cq[side];
	double end = now_seconds() + TIMEOUT_S;
	struct ibv_wc wc;
	int n;

	do {
		n = ibv_poll_cq(cq, 1, &wc);
		if (n < 0)
			return fail("ibv_poll_cq");
		if (n == 1)
			return wc.status;
	} while (now_seconds() < end);
	errno = ETIMEDOUT;
	return fail("no completion");
}

static struct ibv_sge sge_of(struct rdma_buf buf, size_t length)
{
	return (struct ibv_sge) {
		.addr = (uintptr_t)buf.addr,
		.length = length,
		.lkey = buf.mr->lkey,
	};
}

int rdma_post(struct rdma_pair *pair, int side, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;

	wr->send_flags = IBV_SEND_SIGNALED;
	wr->num_sge = wr->sg_list ? 1 : 0;
	errno = ibv_post_send(pair->qp[side], wr, &bad);
	return errno ? fail("ibv_post_send") : 0;
}

static int post(struct rdma_pair *pair, struct ibv_send_wr *wr)
{
	return rdma_post(pair, 0, wr) ? -1 : rdma_wait(pair, 0);
}

static int one_sided(struct rdma_pair *pair, enum ibv_wr_opcode opcode,
		     struct rdma_buf local, struct rdma_buf remote,
		     size_t length)
{
	struct ibv_sge sge = sge_of(local, length);
	struct ibv_send_wr wr = {
		.sg_list = &sge,
		.opcode = opcode,
		.wr.rdma = { .remote_addr = (uintptr_t)remote.addr,
			     .rkey = remote.mr->rkey },
	};

	return post(pair, &wr);
}

int rdma_write(struct rdma_pair *pair, struct rdma_buf local,
	       struct rdma_buf remote, size_t length)
{
	return one_sided(pair, IBV_WR_RDMA_WRITE, local, remote, length);
}

int rdma_read(struct rdma_pair *pair, struct rdma_buf local,
	      struct rdma_buf remote, size_t length)
{
	return one_sided(pair, IBV_WR_RDMA_READ, local, remote, length);
}

int rdma_send(struct rdma_pair *pair, struct rdma_buf from, struct rdma_buf to,
	      size_t length)
{
	struct ibv_sge to_sge = sge_of(to, length);
	struct ibv_sge from_sge = sge_of(from, length);
	struct ibv_recv_wr recv = { .sg_list = &to_sge, .num_sge = 1 }, *bad;
	struct ibv_send_wr send = { .sg_list = &from_sge,
				    .opcode = IBV_WR_SEND };
	int status;

	errno = ibv_post_recv(pair->qp[1], &recv, &bad);
	if (errno)
		return fail("ibv_post_recv");
	status = post(pair, &send);
	if (status)
		return status;
	return rdma_wait(pair, 1);
}

static int atomic(struct rdma_pair *pair, enum ibv_wr_opcode opcode,
		  struct rdma_buf result, struct rdma_buf remote,
		  uint64_t compare_add, uint64_t swap)
{
	struct ibv_sge sge = sge_of(result, 8);
	struct ibv_send_wr wr = {
		.sg_list = &sge,
		.opcode = opcode,
		.wr.atomic = { .remote_addr = (uintptr_t)remote.addr,
			       .compare_add = compare_add, .swap = swap,
			       .rkey = remote.mr->rkey },
	};

	return post(pair, &wr);
}

int rdma_fetch_add(struct rdma_pair *pair, struct rdma_buf result,
		   struct rdma_buf remote, uint64_t add)
{
	return atomic(pair, IBV_WR_ATOMIC_FETCH_AND_ADD, result, remote, add, 0);
}

int rdma_cmp_swap(struct rdma_pair *pair, struct rdma_buf result,
		  struct rdma_buf remote, uint64_t compare, uint64_t swap)
{
	return atomic(pair, IBV_WR_ATOMIC_CMP_AND_SWP, result, remote, compare,
		      swap);
}

static struct ib_uverbs_attr attr_of(uint16_t id, uint16_t length, uint64_t data)
{
	return (struct ib_uverbs_attr) {
		.attr_id = id, .flags = UVERBS_ATTR_F_MANDATORY, .len = length, .data = data,
	};
}

static int uverbs_ioctl(struct rdma_pair *pair, uint16_t object, uint16_t method, unsigned int nr,
			struct ib_uverbs_attr *attrs)
{
	struct {
		struct ib_uverbs_ioctl_hdr hdr;
		struct ib_uverbs_attr attrs[8];
	} cmd = {
		.hdr = {
			.length = sizeof(cmd.hdr) + nr * sizeof(*attrs),
			.object_id = object,
			.method_id = method,
			.num_attrs = nr,
			.driver_id = RDMA_DRIVER_RXE,
		},
	};
	int ret;

	memcpy(cmd.attrs, attrs, nr * sizeof(*attrs));
	ret = ioctl(pair->context->cmd_fd, RDMA_VERBS_IOCTL, &cmd);
	memcpy(attrs, cmd.attrs, nr * sizeof(*attrs));
	return ret;
}

static int advise(struct rdma_pair *pair, enum ib_uverbs_advise_mr_advice advice,
		  struct ibv_mr *mr, void *addr, size_t length, uint32_t flags)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)addr,
		.length = length,
		.lkey = mr->lkey,
	};
	struct ib_uverbs_attr attrs[] = {
		attr_of(UVERBS_ATTR_ADVISE_MR_PD_HANDLE, 0, pair->pd->handle),
		attr_of(UVERBS_ATTR_ADVISE_MR_ADVICE, 8, advice),
		attr_of(UVERBS_ATTR_ADVISE_MR_FLAGS, 4, flags),
		attr_of(UVERBS_ATTR_ADVISE_MR_SGE_LIST, sizeof(sge), (uintptr_t)&sge),
	};

	return uverbs_ioctl(pair, UVERBS_OBJECT_MR, UVERBS_METHOD_ADVISE_MR, 4, attrs);
}

int rdma_advise(struct rdma_pair *pair, enum ib_uverbs_advise_mr_advice advice,
		struct ibv_mr *mr, void *addr, size_t length)
{
	return advise(pair, advice, mr, addr, length, IB_UVERBS_ADVISE_MR_FLAG_FLUSH);
}

int rdma_advise_later(struct rdma_pair *pair, enum ib_uverbs_advise_mr_advice advice,
		      struct ibv_mr *mr, void *addr, size_t length)
{
	return advise(pair, advice, mr, addr, length, 0);
}

/* These methods are newer than Debian 12's headers. */
#define METHOD_REG_MR	(UVERBS_METHOD_REG_DMABUF_MR + 1)
enum {
	REG_MR_HANDLE, REG_MR_PD, REG_MR_DMA, REG_MR_IOVA, REG_MR_ADDR, REG_MR_LENGTH,
	REG_MR_ACCESS, REG_MR_FD, REG_MR_FD_OFFSET, REG_MR_LKEY, REG_MR_RKEY
};

int rdma_ioctl_reg_mr(struct rdma_pair *pair, void *addr, size_t length, uint64_t iova,
		      unsigned int access, struct ibv_mr *mr)
{
	struct ib_uverbs_attr attrs[] = {
		attr_of(REG_MR_HANDLE, 0, 0),
		attr_of(REG_MR_PD, 0, pair->pd->handle),
		attr_of(REG_MR_IOVA, 8, iova),
		attr_of(REG_MR_ADDR, 8, (uintptr_t)addr),
		attr_of(REG_MR_LENGTH, 8, length),
		attr_of(REG_MR_ACCESS, 4, access),
		attr_of(REG_MR_LKEY, 4, (uintptr_t)&mr->lkey),
		attr_of(REG_MR_RKEY, 4, (uintptr_t)&mr->rkey),
	};

	if (uverbs_ioctl(pair, UVERBS_OBJECT_MR, METHOD_REG_MR, 8, attrs))
		return -1;
	mr->handle = attrs[0].data;
	return 0;
}

int rdma_ioctl_query_mr(struct rdma_pair *pair, const struct ibv_mr *mr, uint64_t *length,
			uint64_t *iova)
{
	uint32_t lkey, rkey;
	struct ib_uverbs_attr attrs[] = {
		attr_of(UVERBS_ATTR_QUERY_MR_HANDLE, 0, mr->handle),
		attr_of(UVERBS_ATTR_QUERY_MR_RESP_LKEY, 4, (uintptr_t)&lkey),
		attr_of(UVERBS_ATTR_QUERY_MR_RESP_RKEY, 4, (uintptr_t)&rkey),
		attr_of(UVERBS_ATTR_QUERY_MR_RESP_LENGTH, 8, (uintptr_t)length),
		attr_of(UVERBS_ATTR_QUERY_MR_RESP_IOVA, 8, (uintptr_t)iova),
	};

	return uverbs_ioctl(pair, UVERBS_OBJECT_MR, UVERBS_METHOD_QUERY_MR, 5, attrs);
}

int rdma_ioctl_dereg_mr(struct rdma_pair *pair, const struct ibv_mr *mr)
{
	struct ib_uverbs_attr attr = attr_of(UVERBS_ATTR_DESTROY_MR_HANDLE, 0, mr->handle);

	return uverbs_ioctl(pair, UVERBS_OBJECT_MR, UVERBS_METHOD_MR_DESTROY, 1, &attr);
}

int rdma_rereg(struct rdma_pair *pair, struct ibv_mr *mr, int flags, void *addr, size_t length,
	       int access)
{
	struct ib_uverbs_rereg_mr in = {
		.mr_handle = mr->handle, .flags = flags, .start = (uintptr_t)addr,
		.length = length, .hca_va = (uintptr_t)addr, .access_flags = access,
	};
	struct ib_uverbs_rereg_mr_resp out;
	/* As ioctl: a write to the file is refused in a child. */
	struct ib_uverbs_attr attrs[] = {
		attr_of(UVERBS_ATTR_CORE_IN, sizeof(in), (uintptr_t)&in),
		attr_of(UVERBS_ATTR_CORE_OUT, sizeof(out), (uintptr_t)&out),
		attr_of(UVERBS_ATTR_WRITE_CMD, 8, IB_USER_VERBS_CMD_REREG_MR),
	};

	if (uverbs_ioctl(pair, UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INVOKE_WRITE, 3, attrs))
		return -1;
	mr->lkey = out.lkey;
	mr->rkey = out.rkey;
	return 0;
}
