// SPDX-License-Identifier: GPL-2.0
/*
 * Memory on a GPU as the buffer of each kind of queue pair: UC, UD, and receives from a shared
 * queue (SRQ).
 */
#include "common.h"
#include "rdma.h"

#define LEN	(32 * PAGE)
#define GRH	40		/* what UD puts in front of a message */
#define QKEY	0x1234
#define GID_INDEX 1

FIXTURE(transports) {
	int gpu;
	struct rdma_pair pair;		/* its queue pairs are replaced */
	struct ibv_srq *srq;
	char *mem[2];
	struct ibv_mr *mr[2];
};

FIXTURE_SETUP(transports)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	for (int i = 0; i < 2; i++) {
		self->mem[i] = anon(LEN);
		ASSERT_NE(MAP_FAILED, self->mem[i]);
		self->mr[i] = ibv_reg_mr(self->pair.pd, self->mem[i], LEN, RDMA_ODP);
		ASSERT_NE(NULL, self->mr[i]);
	}
	fill_pattern(self->mem[0], LEN, 1);
	memset(self->mem[1], 0, LEN);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[i], LEN));
}

FIXTURE_TEARDOWN(transports)
{
	const char *leak;

	for (int i = 0; i < 2; i++) {
		ibv_destroy_qp(self->pair.qp[i]);
		self->pair.qp[i] = NULL;
	}
	if (self->srq) {
		EXPECT_EQ(0, ibv_destroy_srq(self->srq));
	}
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, ibv_dereg_mr(self->mr[i]));
		munmap(self->mem[i], LEN);
	}
	rdma_pair_close(&self->pair);
	leak = gpu_leak(0, self->gpu);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->gpu);
}

static int ready_ud(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = QKEY };

	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY))
		return -1;
	attr.qp_state = IBV_QPS_RTR;
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE))
		return -1;
	attr.qp_state = IBV_QPS_RTS;
	return ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN);
}

/* Replace the RC queue pairs. */
static bool use(FIXTURE_DATA(transports) *self, enum ibv_qp_type type)
{
	struct rdma_pair *p = &self->pair;

	for (int i = 0; i < 2; i++) {
		ibv_destroy_qp(p->qp[i]);
		p->qp[i] = rdma_create_qp(p, i, type, i ? self->srq : NULL);
		if (!p->qp[i])
			return false;
	}
	for (int i = 0; i < 2; i++)
		if (type == IBV_QPT_UD ? ready_ud(p->qp[i]) :
					 rdma_connect(p->qp[i], p->qp[!i]->qp_num))
			return false;
	return true;
}

static struct ibv_sge sge(FIXTURE_DATA(transports) *self, int i, size_t offset, size_t length)
{
	return (struct ibv_sge) { (uintptr_t)self->mem[i] + offset, length, self->mr[i]->lkey };
}

/* Side 1 is to receive into mem[1] from @offset on. */
static int receive(FIXTURE_DATA(transports) *self, size_t offset, size_t length)
{
	struct ibv_sge to = sge(self, 1, offset, length);
	struct ibv_recv_wr wr = { .sg_list = &to, .num_sge = 1 }, *bad;

	return self->srq ? ibv_post_srq_recv(self->srq, &wr, &bad) :
			   ibv_post_recv(self->pair.qp[1], &wr, &bad);
}

static int post(FIXTURE_DATA(transports) *self, enum ibv_wr_opcode opcode, struct ibv_ah *ah,
		size_t from, size_t to, size_t length)
{
	struct ibv_sge local = sge(self, 0, from, length);
	struct ibv_send_wr wr = { .sg_list = &local, .opcode = opcode };

	if (ah) {
		wr.wr.ud.ah = ah;
		wr.wr.ud.remote_qpn = self->pair.qp[1]->qp_num;
		wr.wr.ud.remote_qkey = QKEY;
	} else {
		wr.wr.rdma.remote_addr = (uintptr_t)self->mem[1] + to;
		wr.wr.rdma.rkey = self->mr[1]->rkey;
	}
	return rdma_post(&self->pair, 0, &wr) ? -1 : rdma_wait(&self->pair, 0);
}

static bool in_place(FIXTURE_DATA(transports) *self)
{
	return pages_on_device(0, self->mem[0], LEN) == LEN / PAGE &&
	       pages_on_device(0, self->mem[1], LEN) == LEN / PAGE;
}

/* The bytes of mem[0] from @from on are in mem[1] from @to on, and nothing else has changed. */
static bool arrived(FIXTURE_DATA(transports) *self, size_t from, size_t to, size_t length)
{
	for (size_t i = 0; i < LEN; i++)
		if (self->mem[1][i] != (char)(i < to || i >= to + length ? 0 :
					      pattern(from + i - to, 1)))
			return false;
	return true;
}

TEST_F_TIMEOUT(transports, uc, 120)
{
	ASSERT_TRUE(use(self, IBV_QPT_UC));
	/* A message comes after what was written before it. */
	ASSERT_EQ(0, receive(self, 20 * PAGE + 9, PAGE));
	EXPECT_EQ(0, post(self, IBV_WR_RDMA_WRITE, NULL, 100, 200, 3 * PAGE));
	EXPECT_EQ(0, post(self, IBV_WR_SEND, NULL, 7, 0, PAGE));
	EXPECT_EQ(0, rdma_wait(&self->pair, 1));
	EXPECT_TRUE(in_place(self));
	EXPECT_EQ(-1, check_pattern(self->mem[0], LEN, 1));
	for (size_t i = 0; i < PAGE; i++)
		ASSERT_EQ(pattern(7 + i, 1), (unsigned char)self->mem[1][20 * PAGE + 9 + i]);
	memset(self->mem[1] + 20 * PAGE, 0, 2 * PAGE);
	EXPECT_TRUE(arrived(self, 100, 200, 3 * PAGE));
}

TEST_F_TIMEOUT(transports, ud, 120)
{
	struct ibv_ah_attr attr = {
		.is_global = 1, .port_num = 1,
		.grh = { .sgid_index = GID_INDEX, .hop_limit = 1 },
	};
	struct ibv_ah *ah;

	ASSERT_TRUE(use(self, IBV_QPT_UD));
	ASSERT_EQ(0, ibv_query_gid(self->pair.context, 1, GID_INDEX, &attr.grh.dgid));
	ah = ibv_create_ah(self->pair.pd, &attr);
	ASSERT_NE(NULL, ah);
	ASSERT_EQ(0, receive(self, PAGE - 50, GRH + 3000));
	EXPECT_EQ(0, post(self, IBV_WR_SEND, ah, PAGE - 10, 0, 3000));
	EXPECT_EQ(0, rdma_wait(&self->pair, 1));
	EXPECT_TRUE(in_place(self));
	memset(self->mem[1] + PAGE - 50, 0, GRH);
	EXPECT_TRUE(arrived(self, PAGE - 10, PAGE - 10, 3000));
	ibv_destroy_ah(ah);
}

TEST_F_TIMEOUT(transports, srq, 120)
{
	struct ibv_srq_init_attr init = { .attr = { .max_wr = 16, .max_sge = 1 } };

	self->srq = ibv_create_srq(self->pair.pd, &init);
	ASSERT_NE(NULL, self->srq);
	ASSERT_TRUE(use(self, IBV_QPT_RC));
	ASSERT_EQ(0, receive(self, 5, 9 * PAGE));
	ASSERT_EQ(0, receive(self, 10 * PAGE, PAGE));
	EXPECT_EQ(0, post(self, IBV_WR_SEND, NULL, 3, 0, 9 * PAGE));
	EXPECT_EQ(0, post(self, IBV_WR_SEND, NULL, 0, 0, PAGE));
	EXPECT_EQ(0, rdma_wait(&self->pair, 1));
	EXPECT_EQ(0, rdma_wait(&self->pair, 1));
	EXPECT_TRUE(in_place(self));
	EXPECT_EQ(-1, check_pattern(self->mem[1] + 10 * PAGE, PAGE, 1));
	memset(self->mem[1] + 10 * PAGE, 0, PAGE);
	EXPECT_TRUE(arrived(self, 3, 5, 9 * PAGE));
}

TEST_HARNESS_MAIN
