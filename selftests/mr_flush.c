// SPDX-License-Identifier: GPL-2.0
/*
 * RDMA FLUSH asks that writes to a region become persistent: which pages the kernel writes back
 * from the caches, and when.  A kprobe records each page that is written back, so that the test
 * needs no persistent memory.
 */
#include <rdma/ib_user_verbs.h>

#include "common.h"
#include "rdma.h"
#include "roce.h"

#define LEN	(16 * PAGE)

/* A flag of the kernel's that Debian 12's verbs.h does not have */
#define ACCESS_FLUSH_PERSISTENT	(1 << 9)
#define FLUSHABLE	(RDMA_ODP | ACCESS_FLUSH_PERSISTENT)
#define PROBES	\
	"p:" TRACE_PROBES "/written_back arch_wb_cache_pmem size=%si word=+0(%di):x64\n"
/* The words of a page contain its number. */
#define NUMBER(n)	(0xf1a5000000000000ULL + (n))

FIXTURE(mr_flush) {
	struct rdma_pair pair;
	struct rdma_buf from;		/* one page */
};

/* From here on, the trace shows what is written back from the caches. */
FIXTURE_SETUP(mr_flush)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTS,
		.qp_access_flags = RDMA_ACCESS | ACCESS_FLUSH_PERSISTENT,
	};

	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	ASSERT_EQ(0, ibv_modify_qp(self->pair.qp[1], &attr, IBV_QP_STATE | IBV_QP_ACCESS_FLAGS));
	self->from.addr = anon(PAGE);
	self->from.mr = ibv_reg_mr(self->pair.pd, self->from.addr, PAGE, RDMA_ACCESS);
	ASSERT_NE(NULL, self->from.mr);
	ASSERT_EQ(0, kprobes_on(PROBES));
	ASSERT_EQ(0, trace_clear());
}

FIXTURE_TEARDOWN(mr_flush)
{
	kprobes_off();
	EXPECT_EQ(0, ibv_dereg_mr(self->from.mr));
	munmap(self->from.addr, PAGE);
	rdma_pair_close(&self->pair);
}

/* Write the number of page @n into each word of that page by RDMA. */
static int write_number(FIXTURE_DATA(mr_flush) *self, struct rdma_buf region, size_t n)
{
	uint64_t *word = self->from.addr;

	for (size_t i = 0; i < PAGE / 8; i++)
		word[i] = NUMBER(n);
	region.addr = (char *)region.addr + n * PAGE;
	return rdma_write(&self->pair, self->from, region, PAGE);
}

/* How often @size bytes beginning in page @n were written back. */
static unsigned int written_back(size_t n, size_t size)
{
	FILE *f = fopen(TRACE "trace", "r");
	char want[64], line[256];
	unsigned int times = 0;

	snprintf(want, sizeof(want), " size=0x%zx word=0x%llx\n", size, NUMBER(n));
	while (f && fgets(line, sizeof(line), f))
		times += strstr(line, ": written_back: ") && strstr(line, want);
	if (f)
		fclose(f);
	return times;
}

/* How many pieces were written back. */
static unsigned int nr_written_back(void)
{
	FILE *f = fopen(TRACE "trace", "r");
	unsigned int times = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		times += !!strstr(line, ": written_back: ");
	if (f)
		fclose(f);
	return times;
}

/*
 * Send @flush and wait up to a minute until side 1 has executed it.  Side 0 does not know of
 * the request, so the pair is unusable for side 0 afterwards.
 */
static bool flush_is_done(struct rdma_pair *pair, struct roce_packet flush)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	double end;

	if (ibv_query_qp(pair->qp[1], &attr, IBV_QP_RQ_PSN, &init))
		return false;
	flush.opcode = ROCE_FLUSH;
	flush.qpn = pair->qp[1]->qp_num;
	flush.psn = attr.rq_psn;
	if (roce_send(&flush))
		return false;
	end = now_seconds() + 60;
	while (attr.rq_psn == flush.psn && now_seconds() < end) {
		usleep(1000);
		if (ibv_query_qp(pair->qp[1], &attr, IBV_QP_RQ_PSN, &init))
			return false;
	}
	return attr.rq_psn != flush.psn;
}

/*
 * A FLUSH of a whole region writes back all pages that exist, and faults none in.  The region
 * is a little longer than 4 GiB.  Two of its seven pages are on both sides of the border
 * between two pieces.
 */
TEST_F_TIMEOUT(mr_flush, region, 300)
{
	static const size_t there[] = {
		0, 511, 512, 2 * GiB / PAGE, 4 * GiB / PAGE - 1, 4 * GiB / PAGE,
		4 * GiB / PAGE + 1,
	};
	size_t length = 4 * GiB + 2 * PAGE, n = sizeof(there) / sizeof(*there);
	struct rdma_buf region = {
		.addr = mmap(NULL, length, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
	};

	ASSERT_NE(MAP_FAILED, region.addr);
	ASSERT_EQ(0, madvise(region.addr, length, MADV_NOHUGEPAGE));
	region.mr = ibv_reg_mr(self->pair.pd, region.addr, length, FLUSHABLE);
	ASSERT_NE(NULL, region.mr);
	for (size_t i = 0; i < n; i++) {
		ASSERT_EQ(0, write_number(self, region, there[i]));
	}
	ASSERT_EQ(n, pages_that_are(PAGE_PRESENT, region.addr, length));
	EXPECT_EQ(0, nr_written_back());
	EXPECT_TRUE(flush_is_done(&self->pair, (struct roce_packet) {
		.flush = ROCE_FLUSH_PERSISTENT | ROCE_FLUSH_REGION, .rkey = region.mr->rkey }));
	EXPECT_EQ(n, pages_that_are(PAGE_PRESENT, region.addr, length));
	for (size_t i = 0; i < n; i++) {
		EXPECT_EQ(1, written_back(there[i], PAGE)) TH_LOG("page %zu", there[i]);
	}
	EXPECT_EQ(n, nr_written_back());
	EXPECT_EQ(0, ibv_dereg_mr(region.mr));
	munmap(region.addr, length);
}

/* A FLUSH of an implicit region, which is all addresses, writes back what there is. */
TEST_F_TIMEOUT(mr_flush, implicit, 180)
{
	static const size_t there[] = { 0, 511, 512, 100000 };
	size_t length = GiB, n = sizeof(there) / sizeof(*there);
	char *p = reserve(length);
	struct rdma_buf region = { .addr = (char *)(((uintptr_t)p + 2 * MiB - 1) & -(2 * MiB)) };

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, madvise(p, length, MADV_NOHUGEPAGE));
	region.mr = ibv_reg_mr(self->pair.pd, NULL, SIZE_MAX, FLUSHABLE);
	ASSERT_NE(NULL, region.mr);
	for (size_t i = 0; i < n; i++)
		ASSERT_EQ(0, write_number(self, region, there[i]));
	EXPECT_EQ(0, nr_written_back());
	EXPECT_TRUE(flush_is_done(&self->pair, (struct roce_packet) {
		.flush = ROCE_FLUSH_PERSISTENT | ROCE_FLUSH_REGION, .rkey = region.mr->rkey }));
	for (size_t i = 0; i < n; i++) {
		EXPECT_EQ(1, written_back(there[i], PAGE)) TH_LOG("page %zu", there[i]);
	}
	EXPECT_EQ(n, nr_written_back());
	EXPECT_EQ(0, ibv_dereg_mr(region.mr));
	munmap(p, length);
}

/*
 * A FLUSH from the middle of page 2 to the middle of page 4.  The region has an iova of its
 * own, and page 3 does not exist.
 */
TEST_F_TIMEOUT(mr_flush, range, 180)
{
	uint64_t iova = 0x123456789000ULL;
	struct rdma_buf region = { .addr = (void *)(uintptr_t)iova };
	char *p = anon(LEN);

	region.mr = ibv_reg_mr_iova(self->pair.pd, p, LEN, iova, FLUSHABLE);
	ASSERT_NE(NULL, region.mr);
	for (size_t n = 1; n < 6; n++) {
		if (n != 3) {
			ASSERT_EQ(0, write_number(self, region, n));
		}
	}
	EXPECT_TRUE(flush_is_done(&self->pair, (struct roce_packet) {
		.flush = ROCE_FLUSH_PERSISTENT, .rkey = region.mr->rkey,
		.va = iova + 2 * PAGE + 64, .length = 2 * PAGE }));
	EXPECT_EQ(1, written_back(2, PAGE - 64));
	EXPECT_EQ(1, written_back(4, 64));
	EXPECT_EQ(2, nr_written_back());
	EXPECT_EQ(0, pages_that_are(PAGE_PRESENT, p + 3 * PAGE, PAGE));
	EXPECT_EQ(0, ibv_dereg_mr(region.mr));
	munmap(p, LEN);
}

/*
 * Memory that the owner of a region takes away is written back at once, because no later FLUSH
 * finds it.  That is so for each page that a remote side may have written to, once.
 */
TEST_F_TIMEOUT(mr_flush, taken_away, 180)
{
	struct rdma_buf region = { .addr = anon(LEN) }, other = { .addr = anon(LEN) };
	struct rdma_buf bindable = { .addr = anon(LEN) }, read;
	char *p = region.addr;

	region.mr = ibv_reg_mr(self->pair.pd, p, LEN, FLUSHABLE);
	other.mr = ibv_reg_mr(self->pair.pd, other.addr, LEN, RDMA_ODP);
	bindable.mr = ibv_reg_mr(self->pair.pd, bindable.addr, LEN, RDMA_ODP | IBV_ACCESS_MW_BIND);
	ASSERT_NE(NULL, region.mr);
	ASSERT_NE(NULL, other.mr);
	ASSERT_NE(NULL, bindable.mr);
	for (size_t n = 1; n < 5; n++) {
		ASSERT_EQ(0, write_number(self, region, n));
		ASSERT_EQ(0, write_number(self, other, n));
	}
	ASSERT_EQ(0, write_number(self, bindable, 6));
	/* A page that was only read is the shared page of zeros. */
	read = (struct rdma_buf) { region.mr, p + 5 * PAGE };
	ASSERT_EQ(0, rdma_read(&self->pair, self->from, read, PAGE));
	EXPECT_EQ(0, nr_written_back());

	ASSERT_EQ(0, mprotect(p + PAGE, PAGE, PROT_NONE));
	EXPECT_EQ(1, written_back(1, PAGE));
	ASSERT_EQ(0, madvise(p + 2 * PAGE, PAGE, MADV_DONTNEED));
	EXPECT_EQ(1, written_back(2, PAGE));
	ASSERT_EQ(0, munmap(p + 3 * PAGE, PAGE));
	EXPECT_EQ(1, written_back(3, PAGE));
	ASSERT_EQ(0, madvise(p + 5 * PAGE, PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, madvise(other.addr, LEN, MADV_DONTNEED));
	EXPECT_EQ(3, nr_written_back());
	/* A memory window may allow writes that the region does not. */
	ASSERT_EQ(0, madvise(bindable.addr, LEN, MADV_DONTNEED));
	EXPECT_EQ(1, written_back(6, PAGE));
	EXPECT_EQ(4, nr_written_back());

	/* A FLUSH over the hole is no error. */
	EXPECT_TRUE(flush_is_done(&self->pair, (struct roce_packet) {
		.flush = ROCE_FLUSH_PERSISTENT | ROCE_FLUSH_REGION, .rkey = region.mr->rkey }));
	EXPECT_EQ(1, written_back(4, PAGE));
	EXPECT_EQ(5, nr_written_back());
	EXPECT_EQ(0, ibv_dereg_mr(bindable.mr));
	EXPECT_EQ(0, ibv_dereg_mr(other.mr));
	EXPECT_EQ(0, ibv_dereg_mr(region.mr));
	munmap(bindable.addr, LEN);
	munmap(other.addr, LEN);
	munmap(p, LEN);
}

/* Returns 0 or -errno. */
static int change_access(struct rdma_pair *pair, struct ibv_mr *mr, int access)
{
	return rdma_rereg(pair, mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, 0, access) ? -errno : 0;
}

/* Changing the access flags can neither allow nor forbid FLUSH, nor the binding of windows. */
TEST_F(mr_flush, rights_stay)
{
	struct rdma_buf region = { .addr = anon(LEN) };
	const int rights[][2] = {
		{ FLUSHABLE, RDMA_ODP },
		{ RDMA_ODP, FLUSHABLE },
		{ RDMA_ODP | IBV_ACCESS_MW_BIND, RDMA_ODP },
		{ RDMA_ODP, RDMA_ODP | IBV_ACCESS_MW_BIND },
	};

	for (size_t i = 0; i < sizeof(rights) / sizeof(*rights); i++) {
		region.mr = ibv_reg_mr(self->pair.pd, region.addr, LEN, rights[i][0]);
		ASSERT_NE(NULL, region.mr);
		EXPECT_EQ(-EOPNOTSUPP, change_access(&self->pair, region.mr, rights[i][1]))
			TH_LOG("%zu", i);
		/* The region works as before, and other rights can be dropped. */
		ASSERT_EQ(0, write_number(self, region, i));
		EXPECT_EQ(0, change_access(&self->pair, region.mr,
					   rights[i][0] & ~IBV_ACCESS_REMOTE_READ));
		EXPECT_EQ(0, ibv_dereg_mr(region.mr));
	}
	munmap(region.addr, LEN);
}

/* A FLUSH skips the pages of a region that are on a GPU, and leaves them there. */
TEST_F_TIMEOUT(mr_flush, on_a_gpu, 180)
{
	struct rdma_buf region = { .addr = anon(LEN) };
	int gpu = gpu_open(0);

	ASSERT_LE(0, gpu);
	fill_pattern(region.addr, LEN / 2, 1);
	region.mr = ibv_reg_mr(self->pair.pd, region.addr, LEN, FLUSHABLE);
	ASSERT_NE(NULL, region.mr);
	ASSERT_EQ(0, gpu_to_device(gpu, region.addr, LEN / 2));
	ASSERT_EQ(0, trace_clear());
	/* The first page is on the GPU, the last one is not. */
	ASSERT_EQ(0, write_number(self, region, 0));
	ASSERT_EQ(0, write_number(self, region, LEN / PAGE - 1));
	ASSERT_EQ(LEN / 2 / PAGE, pages_on_device(0, region.addr, LEN));
	ASSERT_LE(1, gpu_counter(0, "mapped_now"));
	EXPECT_TRUE(flush_is_done(&self->pair, (struct roce_packet) {
		.flush = ROCE_FLUSH_PERSISTENT | ROCE_FLUSH_REGION, .rkey = region.mr->rkey }));
	EXPECT_EQ(1, written_back(LEN / PAGE - 1, PAGE));
	EXPECT_EQ(1, nr_written_back());
	EXPECT_EQ(LEN / 2 / PAGE, pages_on_device(0, region.addr, LEN));
	EXPECT_EQ(NUMBER(0), *(uint64_t *)region.addr);
	EXPECT_EQ(0, ibv_dereg_mr(region.mr));
	munmap(region.addr, LEN);
	EXPECT_EQ(NULL, gpu_leak(0, gpu));
	close(gpu);
}

TEST_HARNESS_MAIN
