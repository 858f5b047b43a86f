// SPDX-License-Identifier: GPL-2.0
/*
 * A task that waits for a page which a reset has parked can be killed, and does not block
 * other tasks.
 *
 * The reset lasts until the test ends it.  Nothing is measured against a clock: an event has
 * happened in time if the device is still in reset afterwards.
 */
#include <sys/resource.h>
#include <sys/uio.h>

#include "odp.h"
#include "parked.h"
#include "uffd.h"

#define LEN	(2 * MiB)

#ifndef MADV_COLLAPSE		/* likewise */
#define MADV_COLLAPSE	25
#endif

enum way { BY_CPU, BY_SYSCALL, BY_GUP, BY_MOVE, BY_DUMP, BY_COLLAPSE, BY_PREFETCH, BY_NIC, BY_GPU };

static char *device_memory(int gpu, int advice)
{
	char *p = anon_huge(LEN, advice);

	if (!p)
		return NULL;
	fill_pattern(p, LEN, 1);
	if (gpu_to_device(gpu, p, LEN) || pages_on_device(0, p, LEN) != LEN / PAGE ||
	    huge_bytes(p) != (advice == MADV_HUGEPAGE ? LEN : 0))
		return NULL;
	return p;
}

/* Move the memory at @p to other addresses, by UFFDIO_MOVE. */
static void move_elsewhere(char *p, int advice)
{
	char *to = anon_huge(LEN, advice);
	struct uffdio_move move = { .dst = (uintptr_t)to, .src = (uintptr_t)p, .len = LEN };
	int fd = uffd_watch(to, LEN, UFFD_FEATURE_MOVE, UFFDIO_REGISTER_MODE_MISSING);

	if (fd >= 0)
		ioctl(fd, UFFDIO_MOVE, &move);
}

/* Touch the parked memory.  Returns 0 if the data is right. */
static int touch(enum way way, char *p, int advice, struct rdma_pair *pair, struct rdma_buf *buf)
{
	struct iovec from = { p, PAGE };
	char byte[PAGE];
	struct iovec to = { byte, PAGE };
	struct rdma_buf stage;
	unsigned int crc;
	int fds[2], ret, peer;

	switch (way) {
	case BY_CPU:
		return *(volatile unsigned char *)p != pattern(0, 1);
	case BY_SYSCALL:
		return pipe(fds) || write(fds[1], p, PAGE) != PAGE ||
		       read(fds[0], byte, PAGE) != PAGE || check_pattern(byte, PAGE, 1) != -1;
	case BY_GUP:
		return process_vm_readv(getpid(), &to, 1, &from, 1, 0) != PAGE ||
		       check_pattern(byte, PAGE, 1) != -1;
	case BY_MOVE:
		move_elsewhere(p, advice);
		return 0;
	case BY_DUMP:
		abort();
	case BY_COLLAPSE:
		/* MADV_COLLAPSE does not try again after it has waited. */
		return madvise(p, LEN, MADV_COLLAPSE) && errno != EAGAIN;
	case BY_PREFETCH:
		return rdma_advise(pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, buf->mr, p, LEN);
	case BY_NIC:
		stage.addr = anon(PAGE);
		stage.mr = ibv_reg_mr(pair->pd, stage.addr, PAGE, RDMA_ODP);
		if (!stage.mr)
			return -1;
		/* The NIC reads its source before it sends, so no response can be late. */
		ret = rdma_write(pair, *buf, stage, PAGE) ||
		      check_pattern(stage.addr, PAGE, 1) != -1;
		return ibv_dereg_mr(stage.mr) | munmap(stage.addr, PAGE) | ret;
	case BY_GPU:
		peer = gpu_open(1);
		ret = gpu_crc32c(peer, p, PAGE, &crc) || crc != crc32c(p, PAGE);
		close(peer);
		return ret;
	}
	return -1;
}

FIXTURE(killed) {
	int gpu;
};

FIXTURE_VARIANT(killed) {
	enum way way;
	int advice;
};

FIXTURE_VARIANT_ADD(killed, cpu) { BY_CPU, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(killed, cpu_huge) { BY_CPU, MADV_HUGEPAGE };
FIXTURE_VARIANT_ADD(killed, system_call) { BY_SYSCALL, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(killed, system_call_huge) { BY_SYSCALL, MADV_HUGEPAGE };
FIXTURE_VARIANT_ADD(killed, gup) { BY_GUP, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(killed, gup_huge) { BY_GUP, MADV_HUGEPAGE };
FIXTURE_VARIANT_ADD(killed, move) { BY_MOVE, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(killed, move_huge) { BY_MOVE, MADV_HUGEPAGE };
FIXTURE_VARIANT_ADD(killed, dump) { BY_DUMP, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(killed, dump_huge) { BY_DUMP, MADV_HUGEPAGE };
FIXTURE_VARIANT_ADD(killed, collapse) { BY_COLLAPSE, MADV_NORMAL };
FIXTURE_VARIANT_ADD(killed, prefetch) { BY_PREFETCH, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(killed, prefetch_huge) { BY_PREFETCH, MADV_HUGEPAGE };

FIXTURE_SETUP(killed)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	ASSERT_EQ(0, write_file("/proc/sys/kernel/core_pattern", "/run/core"));
}

FIXTURE_TEARDOWN(killed)
{
	const char *leak = gpu_leak(0, self->gpu);

	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->gpu);
	unlink("/run/core");
}

/*
 * The process that is killed.  It tells where its memory is, and touches it when it is told to.
 */
static void victim(enum way way, int advice, int told, int tell)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	char *p = device_memory(gpu_open(0), advice), byte;
	struct rdma_buf buf = { .addr = p };
	struct rdma_pair pair;

	if (!p || setrlimit(RLIMIT_CORE, &limit))
		_exit(1);
	if (way == BY_PREFETCH) {
		if (rdma_pair_open(&pair))
			_exit(2);
		buf.mr = ibv_reg_mr(pair.pd, p, LEN, RDMA_ODP);
		if (!buf.mr)
			_exit(3);
	}
	if (write(tell, &p, sizeof(p)) != sizeof(p) || read(told, &byte, 1) != 1)
		_exit(4);
	touch(way, p, advice, &pair, &buf);
	_exit(5);
}

/* The process dies while the device is still in reset. */
TEST_F_TIMEOUT(killed, at_once, 120)
{
	double began, died;
	int told[2], tell[2];
	struct reset reset;
	pid_t pid;
	char *p;

	ASSERT_EQ(0, pipe(told));
	ASSERT_EQ(0, pipe(tell));
	pid = fork();
	if (!pid)
		victim(variant->way, variant->advice, told[0], tell[1]);
	close(tell[1]);
	ASSERT_EQ(sizeof(p), read(tell[0], &p, sizeof(p)));
	ASSERT_TRUE(reset_begin(&reset, pid, p, LEN));
	ASSERT_EQ(1, write(told[1], "x", 1));
	EXPECT_TRUE(process_meets_page(&reset, pid));
	began = now_seconds();
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(-SIGKILL, wait_child(pid));
	died = now_seconds();
	EXPECT_TRUE(reset_is_on());
	TH_LOG("dead %.3f s after SIGKILL", died - began);
	EXPECT_EQ(0, reset_end(&reset));
	close(tell[0]);
	close(told[0]);
	close(told[1]);
}

FIXTURE(others) {
	int gpu;
	struct rdma_pair pair;
	struct rdma_buf buf;
};

FIXTURE_VARIANT(others) {
	enum way way;
	int advice;
};

FIXTURE_VARIANT_ADD(others, cpu) { BY_CPU, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(others, cpu_huge) { BY_CPU, MADV_HUGEPAGE };
FIXTURE_VARIANT_ADD(others, system_call) { BY_SYSCALL, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(others, system_call_huge) { BY_SYSCALL, MADV_HUGEPAGE };
FIXTURE_VARIANT_ADD(others, gup) { BY_GUP, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(others, gup_huge) { BY_GUP, MADV_HUGEPAGE };
FIXTURE_VARIANT_ADD(others, collapse) { BY_COLLAPSE, MADV_NORMAL };
FIXTURE_VARIANT_ADD(others, prefetch) { BY_PREFETCH, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(others, nic) { BY_NIC, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(others, nic_huge) { BY_NIC, MADV_HUGEPAGE };
FIXTURE_VARIANT_ADD(others, gpu) { BY_GPU, MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(others, gpu_huge) { BY_GPU, MADV_HUGEPAGE };

FIXTURE_SETUP(others)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	self->buf.addr = device_memory(self->gpu, variant->advice);
	ASSERT_NE(NULL, self->buf.addr);
	self->buf.mr = ibv_reg_mr(self->pair.pd, self->buf.addr, LEN, RDMA_ODP);
	ASSERT_NE(NULL, self->buf.mr);
}

FIXTURE_TEARDOWN(others)
{
	const char *leak;

	EXPECT_EQ(0, ibv_dereg_mr(self->buf.mr));
	munmap(self->buf.addr, LEN);
	rdma_pair_close(&self->pair);
	leak = gpu_leak(0, self->gpu);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->gpu);
}

struct toucher {
	enum way way;
	int advice;
	FIXTURE_DATA(others) *self;
	atomic_int tid;
	int result;
};

static void *toucher_thread(void *arg)
{
	struct toucher *t = arg;

	atomic_store(&t->tid, gettid());
	t->result = touch(t->way, t->self->buf.addr, t->advice, &t->self->pair, &t->self->buf);
	return NULL;
}

/* Whether the toucher, or a kernel thread that works for it, waits before the reset is over. */
static bool toucher_meets_page(struct reset *r, struct toucher *t)
{
	char task[64];

	while (!atomic_load(&r->over)) {
		snprintf(task, sizeof(task), "self/task/%d", atomic_load(&t->tid));
		if (waits_for_page(task) ||
		    ((t->way == BY_NIC || t->way == BY_GPU) && kernel_waits_for_page()))
			return true;
		usleep(1000);
	}
	return false;
}

/*
 * One thread, or a device for it, waits for a page.  Another thread can map memory, change the
 * mapping of that page, and unmap memory.
 */
TEST_F_TIMEOUT(others, go_on, 120)
{
	struct toucher t = { .way = variant->way, .advice = variant->advice, .self = self };
	char *p = self->buf.addr, *other;
	struct reset reset;
	pthread_t thread;

	ASSERT_TRUE(reset_begin(&reset, 0, p, LEN));
	ASSERT_EQ(0, pthread_create(&thread, NULL, toucher_thread, &t));
	EXPECT_TRUE(toucher_meets_page(&reset, &t));
	other = anon(LEN);
	EXPECT_NE(MAP_FAILED, other);
	memset(other, 1, PAGE);
	/* This changes the mapping of the page, and locks it for that. */
	EXPECT_EQ(0, madvise(p, LEN, MADV_DONTDUMP));
	EXPECT_EQ(0, munmap(other, LEN));
	EXPECT_TRUE(reset_is_on());
	EXPECT_EQ(0, reset_end(&reset));
	pthread_join(thread, NULL);
	EXPECT_EQ(0, t.result);
	EXPECT_EQ(-1, check_pattern(p, LEN, 1));
}

TEST_HARNESS_MAIN
