// SPDX-License-Identifier: GPL-2.0
/*
 * Memory regions at their limits: the longest regions, long faults that user space or a lack of
 * memory holds up, and accesses outside of a region, by requests and through memory windows.
 *
 * Needs swap, and cgroup v2 at /sys/fs/cgroup.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "common.h"
#include "rdma.h"
#include "roce.h"
#include "uffd.h"

#define LEN	(16 * PAGE)

/* Wait up to a minute until *@p is @byte. */
static bool byte_comes(volatile char *p, char byte)
{
	double end = now_seconds() + 60;

	while (*p != byte && now_seconds() < end)
		usleep(1000);
	return *p == byte;
}

FIXTURE(mr) {
	struct rdma_pair pair;
	char *mem[2];
	struct ibv_mr *mr[2];
	struct rdma_buf buf[2];
};

FIXTURE_SETUP(mr)
{
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	for (int i = 0; i < 2; i++) {
		self->mem[i] = anon(LEN);
		ASSERT_NE(MAP_FAILED, self->mem[i]);
		self->mr[i] = ibv_reg_mr(self->pair.pd, self->mem[i], LEN,
					 RDMA_ACCESS | IBV_ACCESS_MW_BIND);
		ASSERT_NE(NULL, self->mr[i]);
		self->buf[i] = (struct rdma_buf) { self->mr[i], self->mem[i] };
	}
	fill_pattern(self->mem[0], LEN, 1);
	memset(self->mem[1], 0, LEN);
}

FIXTURE_TEARDOWN(mr)
{
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, ibv_dereg_mr(self->mr[i]));
		munmap(self->mem[i], LEN);
	}
	rdma_pair_close(&self->pair);
}

/* A region that the newer ioctl registers works like any other. */
TEST_F_TIMEOUT(mr, ioctl, 120)
{
	static const unsigned int access[] = { RDMA_ACCESS, RDMA_ODP };
	uint64_t want = 0x123456789000ULL + 100, length = 0, iova = 0;

	for (int i = 0; i < 2; i++) {
		struct ibv_mr mr = {};
		struct rdma_buf remote = { &mr, (void *)(uintptr_t)(want + 5000) };

		memset(self->mem[1], 0, LEN);
		ASSERT_EQ(0, rdma_ioctl_reg_mr(&self->pair, self->mem[1] + 100, 5 * PAGE, want,
					       access[i], &mr));
		EXPECT_EQ(0, rdma_ioctl_query_mr(&self->pair, &mr, &length, &iova));
		EXPECT_EQ(5 * PAGE, length);
		EXPECT_EQ(want, iova);
		EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], remote, 3 * PAGE));
		EXPECT_EQ(-1, check_pattern(self->mem[1] + 5100, 3 * PAGE, 1));
		EXPECT_EQ(0, self->mem[1][5099]);
		EXPECT_EQ(0, rdma_ioctl_dereg_mr(&self->pair, &mr));
	}
}

/* Lengths that the region's list of pages allows, and one that it does not. */
TEST_F_TIMEOUT(mr, large, 300)
{
	static const size_t length = 64 * GiB;
	char *p = reserve(length), *q = reserve(1024 * GiB);
	struct rdma_buf b = { .mr = ibv_reg_mr(self->pair.pd, p, length, RDMA_ODP) };

	ASSERT_NE(MAP_FAILED, q);
	ASSERT_NE(NULL, b.mr) TH_LOG("64 GiB: %s", strerror(errno));
	for (size_t at = 0; at < length; at += length / 4 - PAGE) {
		b.addr = p + at;
		ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], b, 3 * PAGE));
		EXPECT_EQ(-1, check_pattern(b.addr, 3 * PAGE, 1));
	}
	EXPECT_EQ(NULL, ibv_reg_mr(self->pair.pd, q, 1024 * GiB, RDMA_ODP));
	EXPECT_EQ(ENOMEM, errno);
	/* The refused region does not affect the existing one. */
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], b, PAGE));
	EXPECT_EQ(0, ibv_dereg_mr(b.mr));
	munmap(p, length);
	munmap(q, 1024 * GiB);
}

/* A pinned region that maps the same 2 MiB of a file again and again. */
TEST_F_TIMEOUT(mr, large_pinned, 300)
{
	static const size_t length = GiB + 2 * MiB;
	int file = memfd_create("mr", MFD_CLOEXEC);
	char *p = reserve(length);
	struct rdma_buf b;

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, ftruncate(file, 2 * MiB));
	for (size_t at = 0; at < length; at += 2 * MiB) {
		ASSERT_EQ(p + at, mmap(p + at, 2 * MiB, PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_FIXED, file, 0));
	}
	b.mr = ibv_reg_mr(self->pair.pd, p, length, RDMA_ACCESS);
	ASSERT_NE(NULL, b.mr) TH_LOG("%s", strerror(errno));
	b.addr = p + length - LEN;
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], b, LEN));
	EXPECT_EQ(-1, check_pattern(p + 2 * MiB - LEN, LEN, 1));
	EXPECT_EQ(0, ibv_dereg_mr(b.mr));
	munmap(p, length);
	close(file);
}

struct advice {
	struct rdma_pair *pair;
	struct ibv_mr *mr;
	char *p;
	size_t length;
	int ret;
};

static void *prefetch(void *arg)
{
	struct advice *a = arg;

	a->ret = rdma_advise(a->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, a->mr, a->p,
			     a->length);
	return NULL;
}

/*
 * A fault of a large range is complete at its end.  It waits in its second half for a page that
 * user space fetches.  Meanwhile a page of the first half is dropped.  At the end that page is
 * present again.
 */
TEST_F_TIMEOUT(mr, fault_in_pieces, 120)
{
	struct advice a = { &self->pair, .length = 4 * MiB, .p = anon(4 * MiB) };
	char *late = a.p + 3 * MiB;
	int fd = uffd_watch_missing(late, PAGE);
	struct uffd_msg msg;
	pthread_t thread;

	ASSERT_LE(0, fd);
	a.mr = ibv_reg_mr(self->pair.pd, a.p, a.length, RDMA_ODP);
	ASSERT_NE(NULL, a.mr);
	ASSERT_EQ(0, pthread_create(&thread, NULL, prefetch, &a));
	ASSERT_TRUE(uffd_next(fd, 60000, &msg));
	ASSERT_EQ((uintptr_t)late, msg.arg.pagefault.address & -PAGE);
	EXPECT_EQ(1, pages_that_are(PAGE_PRESENT, a.p + 5 * PAGE, PAGE));
	EXPECT_EQ(0, madvise(a.p + 5 * PAGE, PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, pages_that_are(PAGE_PRESENT, a.p + 5 * PAGE, PAGE));
	EXPECT_EQ(0, uffd_give(fd, late, 0));
	pthread_join(thread, NULL);
	EXPECT_EQ(0, a.ret);
	EXPECT_EQ(a.length / PAGE, pages_that_are(PAGE_PRESENT, a.p, a.length));
	EXPECT_EQ(0, ibv_dereg_mr(a.mr));
	close(fd);
	munmap(a.p, a.length);
}

/* Two pages; only one of them exists at a time, because fetching one drops the other. */
struct seesaw {
	struct advice advice;
	char *page[2];
	int fd;
	unsigned int fetched[2];
	atomic_bool over;
	bool gave_up;		/* after a minute the thread ends the game */
};

static void *tips(void *arg)
{
	struct seesaw *s = arg;
	double end = now_seconds() + 60;
	struct uffd_msg msg;

	while (!s->over) {
		int n;

		if (!uffd_next(s->fd, 50, &msg))
			continue;
		n = (msg.arg.pagefault.address & -PAGE) == (uintptr_t)s->page[1];
		s->fetched[n]++;
		if (now_seconds() < end)
			madvise(s->page[!n], PAGE, MADV_DONTNEED);
		else
			s->gave_up = true;
		uffd_give(s->fd, s->page[n], 0);
	}
	return NULL;
}

/* A fault of a range that is never present as a whole tries several times, then fails. */
TEST_F_TIMEOUT(mr, never_all_there, 240)
{
	struct seesaw s = { .advice = { &self->pair, .length = 4 * MiB, .p = anon(4 * MiB) } };
	struct advice *a = &s.advice;
	pthread_t thread;

	s.fd = uffd_open(0);
	ASSERT_LE(0, s.fd);
	for (int i = 0; i < 2; i++) {
		s.page[i] = a->p + i * 3 * MiB + 5 * PAGE;
		ASSERT_EQ(0, uffd_register(s.fd, s.page[i], PAGE, UFFDIO_REGISTER_MODE_MISSING));
	}
	a->mr = ibv_reg_mr(self->pair.pd, a->p, a->length, RDMA_ODP);
	ASSERT_NE(NULL, a->mr);
	ASSERT_EQ(0, pthread_create(&thread, NULL, tips, &s));
	prefetch(a);
	EXPECT_EQ(-1, a->ret);
	EXPECT_EQ(EBUSY, errno) TH_LOG("%s", strerror(errno));
	s.over = true;
	pthread_join(thread, NULL);
	TH_LOG("fetched %u and %u times", s.fetched[0], s.fetched[1]);
	EXPECT_FALSE(s.gave_up);
	EXPECT_LE(8, s.fetched[0]);
	EXPECT_LE(8, s.fetched[1]);
	EXPECT_EQ(0, ibv_dereg_mr(a->mr));
	close(s.fd);
	munmap(a->p, a->length);
}

#define LIMITED	"/sys/fs/cgroup/hmm_p2p_mr_limited"

/*
 * A range that exceeds the memory limit of its process can never be present as a whole.  The
 * fault fails with -EBUSY, and succeeds when the limit is raised.
 *
 * memory.max is the limit.  At memory.high, which is half of it, the kernel makes the process wait
 * for swap, the longer the more memory it has.  Without that, the kernel would kill the process
 * where swap is slower than the process.
 */
TEST_F_TIMEOUT(mr, more_than_allowed, 600)
{
	static const size_t limit = 8 * MiB;
	struct advice a = { &self->pair, .length = 2 * limit, .p = anon(2 * limit) };

	a.mr = ibv_reg_mr(self->pair.pd, a.p, a.length, RDMA_ODP);
	ASSERT_NE(NULL, a.mr);
	ASSERT_TRUE(!mkdir(LIMITED, 0755) || errno == EEXIST);
	ASSERT_EQ(0, write_file(LIMITED "/memory.high", "4M"));
	ASSERT_EQ(0, write_file(LIMITED "/memory.max", "8M"));
	ASSERT_EQ(0, write_file(LIMITED "/cgroup.procs", "0"));
	/* All of the memory exists, in RAM or in swap, before the fault fails. */
	fill_pattern(a.p, a.length, 1);
	prefetch(&a);
	EXPECT_EQ(-1, a.ret);
	EXPECT_EQ(EBUSY, errno) TH_LOG("%s", strerror(errno));
	/* As much was swapped as the limit requires. */
	EXPECT_LE(limit / PAGE, pages_that_are(PAGE_SWAPPED, a.p, a.length));
	ASSERT_EQ(0, write_file(LIMITED "/memory.max", "max"));
	ASSERT_EQ(0, write_file(LIMITED "/memory.high", "max"));
	prefetch(&a);
	EXPECT_EQ(0, a.ret);
	EXPECT_EQ(a.length / PAGE, pages_that_are(PAGE_PRESENT, a.p, a.length));
	EXPECT_EQ(0, ibv_dereg_mr(a.mr));
	munmap(a.p, a.length);
	EXPECT_EQ(0, write_file("/sys/fs/cgroup/cgroup.procs", "0"));
	EXPECT_EQ(0, rmdir(LIMITED));
}

/* A process that lets the NIC fault in nearly 4 GiB of zeroes, for 8 MiB of page tables. */
static void prefetch_much(int tell)
{
	static const size_t length = 4 * GiB - 2 * MiB;
	char *p = reserve(length);
	struct rdma_pair pair;
	struct ibv_mr *mr;

	if (write_file(LIMITED "/cgroup.procs", "0") || p == MAP_FAILED || rdma_pair_open(&pair))
		_exit(1);
	mr = ibv_reg_mr(pair.pd, p, length, RDMA_ODP);
	if (!mr || write(tell, "x", 1) != 1)
		_exit(2);
	_exit(rdma_advise(&pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, mr, p, length) ? 3 : 4);
}

/*
 * A process that is killed during a long fault ends before the fault is complete.  The size of
 * its page tables tells how far it got.
 */
TEST_F_TIMEOUT(mr, killed_while_it_faults, 300)
{
	long long before, peak;
	siginfo_t ended = {};
	int tell[2];
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe(tell));
	ASSERT_TRUE(!mkdir(LIMITED, 0755) || errno == EEXIST);
	/* The test above may have left its limits. */
	ASSERT_EQ(0, write_file(LIMITED "/memory.max", "max"));
	ASSERT_EQ(0, write_file(LIMITED "/memory.high", "max"));
	child = fork();
	if (!child)
		prefetch_much(tell[1]);
	close(tell[1]);
	ASSERT_EQ(1, read(tell[0], &byte, 1));
	close(tell[0]);
	before = number_in(LIMITED "/memory.current");
	while (number_in(LIMITED "/memory.current") < before + (long long)MiB / 2 && !ended.si_pid)
		waitid(P_PID, child, &ended, WEXITED | WNOHANG | WNOWAIT);
	EXPECT_EQ(0, kill(child, SIGKILL));
	EXPECT_EQ(-SIGKILL, wait_child(child));
	peak = number_in(LIMITED "/memory.peak");
	TH_LOG("%lld KiB more, at most", (peak - before) >> 10);
	EXPECT_GT(before + 4 * (long long)MiB, peak);
	EXPECT_EQ(0, rmdir(LIMITED));
}

/* Advice on memory outside of the region is refused, also if its end wraps around. */
TEST_F(mr, advice_beyond)
{
	struct ibv_mr *mr = ibv_reg_mr(self->pair.pd, self->mem[0], LEN, RDMA_ODP);
	char *const beyond[] = { self->mem[0] + LEN - PAGE, (char *)-PAGE, self->mem[0] - PAGE };

	ASSERT_NE(NULL, mr);
	for (int i = 0; i < 3; i++) {
		errno = 0;
		EXPECT_EQ(-1, rdma_advise(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
					  mr, beyond[i], 2 * PAGE));
		EXPECT_EQ(EFAULT, errno) TH_LOG("%d: %s", i, strerror(errno));
	}
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/*
 * A memory window covers pages 4 and 5 of a region and gives access to them alone.  Some
 * windows cannot be bound.  Addresses are offsets in the region or, for a zero-based window, in
 * the window.
 */
static const struct window {
	const char *name;
	bool zero_based;
	uint64_t addr, length;		/* of the window */
	bool refused;
	uint64_t at, n;			/* of the access */
	int status;
} windows[] = {
	{ "all of it", false, 4 * PAGE, 2 * PAGE, false, 4 * PAGE, 2 * PAGE, 0 },
	{ "its last byte", false, 4 * PAGE, 2 * PAGE, false, 6 * PAGE - 1, 1, 0 },
	{ "before it", false, 4 * PAGE, 2 * PAGE, false, 0, PAGE, IBV_WC_REM_ACCESS_ERR },
	{ "over its beginning", false, 4 * PAGE, 2 * PAGE, false, 4 * PAGE - 1, 2,
	  IBV_WC_REM_ACCESS_ERR },
	{ "over its end", false, 4 * PAGE, 2 * PAGE, false, 6 * PAGE - 1, 2,
	  IBV_WC_REM_ACCESS_ERR },
	{ "behind it", false, 4 * PAGE, 2 * PAGE, false, 6 * PAGE, PAGE, IBV_WC_REM_ACCESS_ERR },
	{ "all, zero based", true, 4 * PAGE, 2 * PAGE, false, 0, 2 * PAGE, 0 },
	{ "before it, zero based", true, 4 * PAGE, 2 * PAGE, false, -PAGE, PAGE,
	  IBV_WC_REM_ACCESS_ERR },
	{ "behind it, zero based", true, 4 * PAGE, 2 * PAGE, false, PAGE, 2 * PAGE,
	  IBV_WC_REM_ACCESS_ERR },
	{ "region to its end", false, 4 * PAGE, LEN - 4 * PAGE, false, LEN - PAGE, PAGE, 0 },
	{ "longer than the region", false, 4 * PAGE, LEN, true, 0, 0, 0 },
	{ "round the end of memory", false, 4 * PAGE, -PAGE, true, 0, 0, 0 },
	{ "before the region", false, -PAGE, 2 * PAGE, true, 0, 0, 0 },
	{ "longer than the region, zero based", true, 4 * PAGE, LEN, true, 0, 0, 0 },
	{ "round the end of memory, zero based", true, 4 * PAGE, -PAGE, true, 0, 0, 0 },
};

/* Bind a window on side 1.  Returns the status of the completion. */
static int bind_window(struct rdma_pair *pair, struct ibv_mr *mr, struct ibv_mw *mw,
		       const struct window *w)
{
	struct ibv_mw_bind_info info = {
		.mr = mr,
		.addr = (uintptr_t)mr->addr + w->addr,
		.length = w->length,
		.mw_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE |
				   (w->zero_based ? IBV_ACCESS_ZERO_BASED : 0),
	};
	struct ibv_mw_bind bind = { .send_flags = IBV_SEND_SIGNALED, .bind_info = info };
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_BIND_MW,
		.bind_mw = { .mw = mw, .rkey = ibv_inc_rkey(mw->rkey), .bind_info = info },
	};
	int status;

	/* Windows of type 1 are never zero based. */
	if (!w->zero_based)
		return ibv_bind_mw(pair->qp[1], mw, &bind) ? -1 : rdma_wait(pair, 1);
	status = rdma_post(pair, 1, &wr) ? -1 : rdma_wait(pair, 1);
	mw->rkey = wr.bind_mw.rkey;
	return status;
}

TEST_F_TIMEOUT(mr, windows, 300)
{
	for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++) {
		const struct window *w = &windows[i];
		struct ibv_mr window = {};
		struct rdma_pair pair;
		struct rdma_buf remote = { .mr = &window };
		struct ibv_mr *local, *region;
		struct ibv_mw *mw;
		uint64_t at = w->zero_based ? w->addr + w->at : w->at;

		/* Use a new pair each time, because an error ends a pair. */
		ASSERT_EQ(0, rdma_pair_open(&pair)) TH_LOG("%s", rdma_error());
		local = ibv_reg_mr(pair.pd, self->mem[0], LEN, RDMA_ACCESS);
		region = ibv_reg_mr(pair.pd, self->mem[1], LEN, RDMA_ACCESS | IBV_ACCESS_MW_BIND);
		ASSERT_NE(NULL, local);
		ASSERT_NE(NULL, region);
		mw = ibv_alloc_mw(pair.pd, w->zero_based ? IBV_MW_TYPE_2 : IBV_MW_TYPE_1);
		ASSERT_NE(NULL, mw);
		memset(self->mem[1], 0, LEN);
		/* rxe does not report the reason of a refusal. */
		EXPECT_EQ(w->refused, bind_window(&pair, region, mw, w) != 0)
			TH_LOG("%s", w->name);
		if (!w->refused) {
			window.rkey = mw->rkey;
			remote.addr = (void *)(uintptr_t)((w->zero_based ? 0 :
				      (uintptr_t)self->mem[1]) + w->at);
			EXPECT_EQ(w->status, rdma_write(&pair, (struct rdma_buf) {
						local, self->mem[0] }, remote, w->n))
				TH_LOG("%s", w->name);
			if (!w->status) {
				EXPECT_EQ(-1, check_pattern(self->mem[1] + at, w->n, 1));
			} else {
				for (size_t k = 0; k < LEN; k++) {
					ASSERT_EQ(0, self->mem[1][k])
						TH_LOG("%s: byte %zu", w->name, k);
				}
			}
		}
		EXPECT_EQ(0, ibv_dealloc_mw(mw));
		EXPECT_EQ(0, ibv_dereg_mr(region));
		EXPECT_EQ(0, ibv_dereg_mr(local));
		rdma_pair_close(&pair);
	}
}

/*
 * A repeated READ, as after a lost response, has another address.  The responder drops it and
 * goes on.
 */
TEST_F_TIMEOUT(mr, repeated_read, 120)
{
	struct roce_packet again = {
		.opcode = ROCE_READ_REQUEST,
		.qpn = self->pair.qp[1]->qp_num,
		.psn = 0,
		.va = -(PAGE / 2),
		.rkey = self->mr[0]->rkey,
		.length = PAGE,
	};
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	long long seen;
	double end;

	ASSERT_EQ(0, rdma_read(&self->pair, self->buf[1], self->buf[0], PAGE));
	seen = number_in(RXE_COUNTERS "duplicate_request");
	ASSERT_LE(0, seen);
	ASSERT_EQ(0, roce_send(&again));
	end = now_seconds() + 60;
	while (number_in(RXE_COUNTERS "duplicate_request") == seen && now_seconds() < end)
		usleep(1000);
	ASSERT_LT(seen, number_in(RXE_COUNTERS "duplicate_request"));
	EXPECT_EQ(0, rdma_read(&self->pair, self->buf[1], self->buf[0], LEN));
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 1));
	/*
	 * If the responder had executed it, the invalid address would have ended the queue
	 * pair.
	 */
	ASSERT_EQ(0, ibv_query_qp(self->pair.qp[1], &attr, IBV_QP_STATE, &init));
	EXPECT_EQ(IBV_QPS_RTS, attr.qp_state);
}

/* A buffer and a READ of 2 GiB, the longest message. */
TEST_F_TIMEOUT(mr, two_gigabytes, 300)
{
	size_t length = 2 * GiB;
	char *p[2] = { reserve(length), reserve(length) };
	struct ibv_mr *mr[2];
	struct ibv_sge sge = { .length = length };
	struct ibv_recv_wr recv = { .sg_list = &sge, .num_sge = 1 }, *bad;
	struct ibv_sge from = { (uintptr_t)self->mem[0], LEN, self->mr[0]->lkey };
	struct ibv_send_wr send = { .sg_list = &from, .opcode = IBV_WR_SEND };
	struct ibv_qp_attr error = { .qp_state = IBV_QPS_ERR };

	for (int i = 0; i < 2; i++) {
		ASSERT_NE(MAP_FAILED, p[i]);
		mr[i] = ibv_reg_mr(self->pair.pd, p[i], length, RDMA_ODP);
		ASSERT_NE(NULL, mr[i]);
	}
	sge.addr = (uintptr_t)p[1];
	sge.lkey = mr[1]->lkey;
	ASSERT_EQ(0, ibv_post_recv(self->pair.qp[1], &recv, &bad));
	ASSERT_EQ(0, rdma_post(&self->pair, 0, &send));
	EXPECT_EQ(0, rdma_wait(&self->pair, 0));
	EXPECT_EQ(0, rdma_wait(&self->pair, 1));
	EXPECT_EQ(-1, check_pattern(p[1], LEN, 1));

	/* Wait for the beginning of the READ only. */
	p[0][100] = 0x5e;
	p[1][100] = 0;
	send = (struct ibv_send_wr) {
		.sg_list = &sge, .opcode = IBV_WR_RDMA_READ,
		.wr.rdma = { (uintptr_t)p[0], mr[0]->rkey },
	};
	ASSERT_EQ(0, rdma_post(&self->pair, 0, &send));
	EXPECT_TRUE(byte_comes(p[1] + 100, 0x5e));
	/* End both queue pairs here.  Otherwise destroying them waits for the whole response. */
	for (int i = 1; i >= 0; i--) {
		ASSERT_EQ(0, ibv_modify_qp(self->pair.qp[i], &error, IBV_QP_STATE));
	}
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, ibv_dereg_mr(mr[i]));
		munmap(p[i], length);
	}
}

TEST_HARNESS_MAIN
