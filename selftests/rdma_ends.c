// SPDX-License-Identifier: GPL-2.0
/*
 * Traffic on memory of a GPU that ends in the middle: the program is killed, the RDMA device is
 * removed, the link goes down.  Nothing of it stays, and whoever comes next works.
 *
 * Needs rxe0 on the loopback interface.
 */
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>

#include "odp.h"

#define OPERATIONS 64
#define PIECE	(64 * PAGE)
#define LEN	(OPERATIONS * PIECE)
#define ROUNDS	3

FIXTURE(rdma_ends) {
	int gpu;
	pid_t child;
	/* what the child has done */
	struct {
		atomic_int operations;
		atomic_int status;	/* of the first operation that failed */
		atomic_bool posted;
	} *seen;
};

FIXTURE_SETUP(rdma_ends)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	self->seen = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->seen);
}

/* Entries go with the region, on a worker. */
static const char *left(FIXTURE_DATA(rdma_ends) *self)
{
	double end = now_seconds() + 60;
	const char *leak;

	do {
		leak = gpu_leak(0, self->gpu);
	} while (leak && now_seconds() < end && !usleep(10000));
	return leak;
}

FIXTURE_TEARDOWN(rdma_ends)
{
	const char *leak;

	if (self->child > 0) {
		kill(self->child, SIGKILL);
		wait_child(self->child);
	}
	/* For those that come next. */
	EXPECT_EQ(0, system("ip link set lo up"));
	if (access("/sys/class/infiniband/rxe0", F_OK)) {
		EXPECT_EQ(0, system("rdma link add rxe0 type rxe netdev lo"));
	}
	leak = left(self);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	munmap(self->seen, PAGE);
	close(self->gpu);
}

static void post_all(struct odp *o)
{
	for (int i = 0; i < OPERATIONS; i++) {
		struct ibv_sge sge = { (uintptr_t)o->stage + i * PIECE, PIECE, o->from.mr->lkey };
		struct ibv_send_wr wr = {
			.sg_list = &sge,
			.opcode = IBV_WR_RDMA_WRITE,
			.wr.rdma = { (uintptr_t)o->mem + i * PIECE, o->to.mr->rkey },
		};

		if (rdma_post(&o->pair, 0, &wr))
			_exit(2);
	}
}

/* In a child.  What it does not release goes with the process. */
static void open_on_gpu(struct odp *o)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (odp_open(o, LEN) || gpu_to_device(o->gpu, o->stage, LEN) ||
	    gpu_to_device(o->gpu, o->mem, LEN))
		_exit(1);
}

/* In a child: write to memory on the GPU until an operation fails. */
static pid_t traffic(FIXTURE_DATA(rdma_ends) *self)
{
	memset(self->seen, 0, PAGE);
	self->child = fork();
	if (!self->child) {
		struct odp o;
		int status;

		open_on_gpu(&o);
		do {
			status = rdma_write(&o.pair, o.from, o.to, PIECE);
			self->seen->operations++;
		} while (!status);
		self->seen->status = status;
		_exit(0);
	}
	return self->child;
}

/* The child's exit status or -signal. */
static int ended(FIXTURE_DATA(rdma_ends) *self)
{
	int status = wait_child(self->child);

	self->child = 0;
	return status;
}

static bool is_under_way(FIXTURE_DATA(rdma_ends) *self)
{
	double end = now_seconds() + 60;

	while (self->seen->operations < 3 && now_seconds() < end)
		usleep(1000);
	return self->seen->operations >= 3;
}

/* A new program can do it all. */
static const char *works(void)
{
	struct odp o;
	const char *error = odp_open(&o, 16 * PAGE);

	if (error)
		return error;
	if (!odp_place(&o, 9) || odp_check(&o, 9) != -1)
		error = "the NIC does not reach the GPU";
	return odp_close(&o) ?: error;
}

TEST_F_TIMEOUT(rdma_ends, killed_with_operations_under_way, 240)
{
	for (int i = 0; i < ROUNDS; i++) {
		double end = now_seconds() + 60;
		const char *leak;
		long mapped = 0;

		memset(self->seen, 0, PAGE);
		self->child = fork();
		if (!self->child) {
			struct odp o;

			open_on_gpu(&o);
			post_all(&o);
			self->seen->posted = true;
			pause();
		}
		while (now_seconds() < end && (!self->seen->posted || !mapped))
			mapped = gpu_counter(0, "mapped_now");
		ASSERT_EQ(0, kill(self->child, SIGKILL));
		EXPECT_EQ(-SIGKILL, ended(self));
		/* It was not all done before. */
		EXPECT_LT(0, mapped);
		EXPECT_GT(2 * LEN / PAGE, mapped);
		leak = left(self);
		ASSERT_EQ(NULL, leak) TH_LOG("round %d: %s", i, leak);
	}
	EXPECT_EQ(NULL, works());
}

TEST_F_TIMEOUT(rdma_ends, device_removed, 240)
{
	for (int i = 0; i < ROUNDS; i++) {
		const char *error;

		ASSERT_LT(0, traffic(self));
		ASSERT_TRUE(is_under_way(self));
		ASSERT_EQ(0, system("rdma link delete rxe0"));
		/* Its regions have gone, though the program still runs. */
		EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
		EXPECT_EQ(0, ended(self));
		EXPECT_NE(0, self->seen->status);
		ASSERT_EQ(0, system("rdma link add rxe0 type rxe netdev lo"));
		error = works();
		ASSERT_EQ(NULL, error) TH_LOG("round %d: %s", i, error);
	}
}

TEST_F_TIMEOUT(rdma_ends, link_down_and_up, 240)
{
	for (int i = 0; i < ROUNDS; i++) {
		const char *error;
		int before;

		ASSERT_LT(0, traffic(self));
		ASSERT_TRUE(is_under_way(self));
		ASSERT_EQ(0, system("ip link set lo down"));
		usleep(300000);
		before = self->seen->operations;
		usleep(300000);
		/* Nothing gets through. */
		EXPECT_GE(before + 1, self->seen->operations);
		ASSERT_EQ(0, system("ip link set lo up"));
		/* A program goes on where packets were only lost. */
		for (double end = now_seconds() + 60; now_seconds() < end &&
		     self->seen->operations < before + 3 && !self->seen->status;)
			usleep(1000);
		TH_LOG("the program %s", self->seen->status ? "saw an error" : "went on");
		EXPECT_TRUE(self->seen->status || self->seen->operations >= before + 3);
		kill(self->child, SIGKILL);
		ended(self);
		error = works();
		ASSERT_EQ(NULL, error) TH_LOG("round %d: %s", i, error);
	}
}

TEST_HARNESS_MAIN
