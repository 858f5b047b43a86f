// SPDX-License-Identifier: GPL-2.0
/*
 * A requester that hears nothing in time sends its request again, and the answers come meanwhile.
 * Needs rxe0 on the loopback interface.
 */
#include "common.h"
#include "rdma.h"
#include "roce.h"

#define PACKETS	64		/* rxe has at most 128 under way */
#define LEN	(PACKETS * PAGE)
#define MEETINGS 60

FIXTURE(rdma_retry) {
	struct rdma_pair pair;
	char *mem;
	struct rdma_buf buf;
};

FIXTURE_VARIANT(rdma_retry) {
	int answers;
};

FIXTURE_VARIANT_ADD(rdma_retry, one_answer) { 1 };
FIXTURE_VARIANT_ADD(rdma_retry, two_answers) { 2 };

FIXTURE_SETUP(rdma_retry)
{
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	self->mem = anon(LEN);
	ASSERT_NE(MAP_FAILED, self->mem);
	self->buf = (struct rdma_buf) {
		ibv_reg_mr(self->pair.pd, self->mem, LEN, RDMA_ACCESS), self->mem
	};
	ASSERT_NE(NULL, self->buf.mr);
}

FIXTURE_TEARDOWN(rdma_retry)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->buf.mr));
	munmap(self->mem, LEN);
	rdma_pair_close(&self->pair);
}

/* New queue pairs, with room for one request.  Only the first is connected: it gets no answers. */
static bool connect_to_nobody(struct rdma_pair *p)
{
	for (int i = 0; i < 2; i++) {
		struct ibv_qp_init_attr init = {
			.qp_type = IBV_QPT_RC,
			.send_cq = p->cq[i],
			.recv_cq = p->cq[i],
			.cap = { .max_send_wr = 1, .max_recv_wr = 1,
				 .max_send_sge = 1, .max_recv_sge = 1 },
		};

		ibv_destroy_qp(p->qp[i]);
		p->qp[i] = ibv_create_qp(p->pd, &init);
		if (!p->qp[i])
			return false;
	}
	/* 8 us: the next tick of the clock. */
	return !rdma_connect_with(p->qp[0], p->qp[1]->qp_num, 1, 7);
}

/* The kernel looks at its counters again after some ms. */
static long long all_sent(void)
{
	usleep(50000);
	return number_in(RXE_COUNTERS "sent_pkts");
}

static bool is_sent(long long packets)
{
	double end = now_seconds() + 60;

	while (number_in(RXE_COUNTERS "sent_pkts") < packets)
		if (now_seconds() > end)
			return false;
	return true;
}

static int post(FIXTURE_DATA(rdma_retry) *self)
{
	struct ibv_sge sge = { (uintptr_t)self->mem, LEN, self->buf.mr->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge,
		.opcode = IBV_WR_RDMA_WRITE,
		.wr.rdma = { (uintptr_t)self->mem, self->buf.mr->rkey },
	};

	return rdma_post(&self->pair, 0, &wr);
}

/* Acknowledge until a request ends.  Returns the status of its completion, or -1. */
static int acknowledge(FIXTURE_DATA(rdma_retry) *self, const struct roce_packet *ack)
{
	double end = now_seconds() + 60;
	struct ibv_wc wc;

	do {
		if (roce_send(ack))
			return -1;
		usleep(10000);
		if (ibv_poll_cq(self->pair.cq[0], 1, &wc) == 1)
			return wc.status;
	} while (now_seconds() < end);
	return -1;
}

/*
 * The last packet of a request is acknowledged while the requester sends the request again: once,
 * or for each time that it was sent.  The request has ended then.  The next one takes its place at
 * once, and is sent.
 */
TEST_F_TIMEOUT(rdma_retry, acknowledged_while_sent_again, 300)
{
	struct roce_packet ack = { .opcode = ROCE_ACK, .psn = -1 };
	long long sent, before = all_sent();
	double end = now_seconds() + 240;
	int met = 0, rounds = 0;

	ASSERT_TRUE(connect_to_nobody(&self->pair));
	ack.qpn = self->pair.qp[0]->qp_num;
	while (met < MEETINGS && now_seconds() < end) {
		rounds++;
		ack.psn = (ack.psn + PACKETS) & 0xffffff;
		ASSERT_EQ(0, post(self)) TH_LOG("%s", rdma_error());
		/* It was sent, and again in part or whole: chance tells. */
		ASSERT_TRUE(is_sent(before + 2 * PACKETS)) TH_LOG("round %d", rounds);
		for (int i = 0; i < variant->answers; i++)
			ASSERT_EQ(0, roce_send(&ack));
		ASSERT_EQ(0, rdma_wait(&self->pair, 0))
			TH_LOG("round %d: %s", rounds, rdma_error());
		ASSERT_EQ(0, post(self)) TH_LOG("%s", rdma_error());
		ack.psn = (ack.psn + PACKETS) & 0xffffff;
		ASSERT_EQ(0, acknowledge(self, &ack)) TH_LOG("round %d: the next one", rounds);
		/* Nothing is under way.  The last time, one was not sent to its end. */
		sent = all_sent();
		if ((sent - before) % PACKETS)
			met++;
		before = sent;
	}
	TH_LOG("%d of %d times", met, rounds);
	EXPECT_EQ(MEETINGS, met);
}

TEST_HARNESS_MAIN
