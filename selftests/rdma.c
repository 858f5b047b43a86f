// SPDX-License-Identifier: GPL-2.0
/*
 * Ordinary verbs on malloc'd memory, wherever it is.  With HMM_P2P_EXPECT=fallback the NIC
 * cannot reach the device's memory, and the memory moves to RAM.
 */
#include <pthread.h>

#include "common.h"
#include "rdma.h"

#define LEN	(256 * PAGE)

FIXTURE(rdma) {
	int gpu;
	struct rdma_pair pair;
	char *mem[2];
	struct ibv_mr *mr[2];
	struct rdma_buf buf[2];
};

FIXTURE_SETUP(rdma)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	for (int i = 0; i < 2; i++) {
		self->mem[i] = anon(LEN);
		ASSERT_NE(MAP_FAILED, self->mem[i]);
		self->mr[i] = ibv_reg_mr(self->pair.pd, self->mem[i], LEN, RDMA_ODP);
		ASSERT_NE(NULL, self->mr[i]);
		self->buf[i] = (struct rdma_buf) { self->mr[i], self->mem[i] };
	}
}

FIXTURE_TEARDOWN(rdma)
{
	const char *leak;

	for (int i = 0; i < 2; i++) {
		if (self->mr[i]) {
			EXPECT_EQ(0, ibv_dereg_mr(self->mr[i]));
		}
		if (self->mem[i])
			munmap(self->mem[i], LEN);
	}
	rdma_pair_close(&self->pair);
	leak = gpu_leak(0, self->gpu);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->gpu);
}

/*
 * Twelve sizes and offsets of transfers, both ways.  Every byte is right, and no other changes.
 */
static void shapes(struct __test_metadata *_metadata, FIXTURE_DATA(rdma) *self,
		   bool on_gpu)
{
	static const struct {
		size_t from, to, length;
	} shape[] = {
		{ 0, 0, PAGE }, { 0, 0, 8 * PAGE }, { 0, 0, 100 },
		{ 1, 1, 100 }, { 100, 3000, 90 }, { 4000, 0, 96 },
		{ 4000, 4000, 200 }, { 5, 7, PAGE }, { 5, 7, 3 * PAGE },
		{ 4095, 1, 2 }, { 123, 2049, 40000 }, { 0, 4095, 65537 },
	};

	for (size_t i = 0; i < 12; i++) {
		size_t from = shape[i].from, to = shape[i].to;
		size_t n = shape[i].length, k;

		for (int read = 0; read < 2; read++) {
			unsigned char *src = (void *)self->mem[read];
			unsigned char *dst = (void *)self->mem[!read];

			fill_pattern(src, LEN, 1 + i);
			memset(dst, 0xee, LEN);
			if (on_gpu) {
				ASSERT_EQ(0, gpu_to_device(self->gpu, src, LEN));
				ASSERT_EQ(0, gpu_to_device(self->gpu, dst, LEN));
			}
			if (read) {
				ASSERT_EQ(0, rdma_read(&self->pair,
						       rdma_at(self->buf[0], to),
						       rdma_at(self->buf[1], from), n));
			} else {
				ASSERT_EQ(0, rdma_write(&self->pair,
							rdma_at(self->buf[0], from),
							rdma_at(self->buf[1], to), n));
			}
			if (on_gpu && expect_reach()) {
				ASSERT_EQ(LEN / PAGE, pages_on_device(0, src, LEN));
				ASSERT_EQ(LEN / PAGE, pages_on_device(0, dst, LEN));
			}
			for (k = 0; k < to + n + PAGE; k++) {
				ASSERT_EQ(k < to || k >= to + n ? 0xee :
					  pattern(from + k - to, 1 + i), dst[k])
					TH_LOG("shape %zu read %d byte %zu", i,
					       read, k);
			}
		}
	}
}

TEST_F_TIMEOUT(rdma, shapes_in_ram, 300)
{
	shapes(_metadata, self, false);
}

TEST_F_TIMEOUT(rdma, shapes_on_device, 300)
{
	shapes(_metadata, self, true);
}

/* Regions with a length that does not fit into an int, or into 32 bits. */
TEST_F_TIMEOUT(rdma, large_regions, 120)
{
	static const size_t length[] = { 2UL << 30, 4UL << 30, (5UL << 30) + PAGE };

	fill_pattern(self->mem[0], 3 * PAGE, 7);
	for (int i = 0; i < 3; i++) {
		char *p = mmap(NULL, length[i], PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		struct rdma_buf end = { .addr = p + length[i] - 3 * PAGE };

		ASSERT_NE(MAP_FAILED, p);
		end.mr = ibv_reg_mr(self->pair.pd, p, length[i], RDMA_ODP);
		ASSERT_NE(NULL, end.mr) TH_LOG("%zu bytes: %s", length[i], strerror(errno));
		/* The length of an advice is below 4 GiB. */
		if (length[i] <= UINT32_MAX) {
			ASSERT_EQ(0, rdma_advise(&self->pair,
						 IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
						 end.mr, p, length[i]));
		}
		ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], end, 3 * PAGE));
		EXPECT_EQ(-1, check_pattern(end.addr, 3 * PAGE, 7));
		EXPECT_EQ(0, ibv_dereg_mr(end.mr));
		munmap(p, length[i]);
	}
}

/* An MR with an iova that differs from its address, as ibv_reg_mr_iova() makes it. */
TEST_F_TIMEOUT(rdma, iova, 120)
{
	uint64_t iova = 0x123456789000ULL;
	struct ibv_mr *mr = ibv_reg_mr_iova(self->pair.pd, self->mem[1], LEN,
					    iova, RDMA_ODP);
	struct rdma_buf remote = { mr, (void *)(uintptr_t)(iova + 5000) };

	ASSERT_NE(NULL, mr);
	fill_pattern(self->mem[0], 3 * PAGE, 2);
	memset(self->mem[1], 0, LEN);
	ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], remote, 3 * PAGE));
	EXPECT_EQ(-1, check_pattern(self->mem[1] + 5000, 3 * PAGE, 2));
	EXPECT_EQ(0, self->mem[1][4999]);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/* Advice on an MR without on-demand paging is refused. */
TEST_F(rdma, advise_without_odp)
{
	struct ibv_mr *mr = ibv_reg_mr(self->pair.pd, self->mem[0], LEN,
				       RDMA_ACCESS);

	ASSERT_NE(NULL, mr);
	EXPECT_EQ(-1, rdma_advise(&self->pair,
				  IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, mr,
				  self->mem[0], LEN));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, rdma_advise(&self->pair,
				 IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
				 self->mr[0], self->mem[0], LEN));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/* Data that the NIC writes after MADV_FREE is kept. */
TEST_F(rdma, written_pages_are_dirty)
{
	memset(self->mem[1], 1, LEN);
	fill_pattern(self->mem[0], LEN, 3);
	/* Map all pages writable, so that the write below faults nothing in. */
	ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	ASSERT_EQ(0, madvise(self->mem[1], LEN, MADV_FREE));
	ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	/* Reclaim drops clean pages. */
	ASSERT_EQ(0, madvise(self->mem[1], LEN, MADV_PAGEOUT));
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 3));
}

/*
 * Advice on an unused MR.  Pages that the NIC can reach are mapped in place, others move to
 * RAM.  With the flag that forbids faults, nothing moves and nothing is faulted in.
 */
TEST_F_TIMEOUT(rdma, prefetch, 120)
{
	static const struct {
		enum ib_uverbs_advise_mr_advice advice;
		bool faults;
	} kinds[] = {
		{ IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT, false },
		{ IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, true },
		{ IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, true },
	};

	for (int i = 0; i < 3; i++) {
		char *p = anon(LEN);
		/* The last quarter does not exist yet. */
		size_t placed = LEN / 4 * 3;
		long stay = expect_reach() || !kinds[i].faults ? placed / PAGE : 0;
		struct rdma_buf b = { .addr = p };

		fill_pattern(p, placed, 8);
		ASSERT_EQ(0, gpu_to_device(self->gpu, p, placed));
		b.mr = ibv_reg_mr(self->pair.pd, p, LEN, RDMA_ODP);
		ASSERT_NE(NULL, b.mr);
		ASSERT_EQ(0, rdma_advise(&self->pair, kinds[i].advice, b.mr, p, LEN));
		EXPECT_EQ(stay, pages_on_device(0, p, LEN));
		EXPECT_EQ(expect_reach() ? placed / PAGE : 0,
			  gpu_counter(0, "mapped_now"));
		EXPECT_EQ(kinds[i].faults ? LEN / PAGE - stay : 0,
			  pages_that_are(PAGE_PRESENT, p, LEN));
		ASSERT_EQ(0, rdma_read(&self->pair, self->buf[0], b, LEN));
		EXPECT_EQ(-1, check_pattern(self->mem[0], placed, 8));
		EXPECT_EQ(0, self->mem[0][LEN - 1]);
		EXPECT_EQ(0, ibv_dereg_mr(b.mr));
		munmap(p, LEN);
	}
}

TEST_F_TIMEOUT(rdma, read_write_on_device, 120)
{
	fill_pattern(self->mem[0], LEN, 4);
	memset(self->mem[1], 0, LEN);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[i], LEN));
	}
	ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(expect_reach() ? LEN / PAGE : 0,
			  pages_on_device(0, self->mem[i], LEN));
	}
	EXPECT_EQ(expect_reach() ? 2 * LEN / PAGE : 0,
		  gpu_counter(0, "mapped_now"));
	if (!expect_reach()) {
		EXPECT_LT(0, gpu_counter(0, "fallback_no-kmap"));
	}
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 4));
}

/* A huge page of the device is read and written where it is, and stays whole. */
TEST_F_TIMEOUT(rdma, huge_page_on_device, 120)
{
	long reached = expect_reach() ? 2 * LEN / PAGE : 0;
	char *p = anon_huge(2 * LEN, MADV_HUGEPAGE);
	struct rdma_buf b = { .addr = p };

	ASSERT_NE(NULL, p);
	fill_pattern(p, 2 * LEN, 3);
	ASSERT_EQ(0, gpu_to_device(self->gpu, p, 2 * LEN));
	b.mr = ibv_reg_mr(self->pair.pd, p, 2 * LEN, RDMA_ODP);
	ASSERT_NE(NULL, b.mr);
	for (size_t from = 0; from < 2 * LEN; from += LEN) {
		ASSERT_EQ(0, rdma_read(&self->pair, self->buf[0], rdma_at(b, from), LEN));
		for (size_t i = 0; i < LEN; i++) {
			ASSERT_EQ(pattern(from + i, 3), (unsigned char)self->mem[0][i]);
		}
	}
	EXPECT_EQ(reached, gpu_counter(0, "mapped_now"));
	fill_pattern(self->mem[0], LEN, 9);
	ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], rdma_at(b, LEN), LEN));
	EXPECT_EQ(reached, pages_on_device(0, p, 2 * LEN));
	/* Only a huge page comes back whole when one byte of it is touched. */
	EXPECT_EQ(pattern(1, 3), (unsigned char)p[1]);
	EXPECT_EQ(0, pages_on_device(0, p, 2 * LEN));
	EXPECT_EQ(-1, check_pattern(p, LEN, 3));
	EXPECT_EQ(-1, check_pattern(p + LEN, LEN, 9));
	EXPECT_EQ(0, ibv_dereg_mr(b.mr));
	munmap(p, 2 * LEN);
}

TEST_F_TIMEOUT(rdma, send_receive_on_device, 120)
{
	fill_pattern(self->mem[0], LEN, 5);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[i], LEN));
	}
	ASSERT_EQ(0, rdma_send(&self->pair, rdma_at(self->buf[0], 3),
			       rdma_at(self->buf[1], 8190), 20000));
	for (int i = 0; i < 2 && expect_reach(); i++) {
		EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->mem[i], LEN));
	}
	for (size_t i = 0; i < 20000; i++) {
		ASSERT_EQ(pattern(i + 3, 5),
			  (unsigned char)self->mem[1][8190 + i]);
	}
}

TEST_F_TIMEOUT(rdma, atomics_on_device, 120)
{
	volatile uint64_t *word = (void *)(self->mem[1] + 3 * PAGE + 64);
	volatile uint64_t *old = (void *)self->mem[0];

	*word = 40;
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[1], LEN));
	for (uint64_t i = 0; i < 10; i++) {
		ASSERT_EQ(0, rdma_fetch_add(&self->pair, self->buf[0],
					    rdma_at(self->buf[1], 3 * PAGE + 64), 7));
		ASSERT_EQ(40 + 7 * i, *old);
	}
	ASSERT_EQ(0, rdma_cmp_swap(&self->pair, self->buf[0],
				   rdma_at(self->buf[1], 3 * PAGE + 64), 110, 5));
	ASSERT_EQ(110, *old);
	ASSERT_EQ(0, rdma_cmp_swap(&self->pair, self->buf[0],
				   rdma_at(self->buf[1], 3 * PAGE + 64), 111, 6));
	ASSERT_EQ(5, *old);
	if (expect_reach()) {
		EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->mem[1], LEN));
	}
	EXPECT_EQ(5, *word);
}

/* With peer access switched off, the same traffic moves every page to RAM, as stock does. */
TEST_F_TIMEOUT(rdma, control_bounces, 120)
{
	fill_pattern(self->mem[0], LEN, 6);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[i], LEN));
	}
	ASSERT_EQ(1, peer_access_set(false));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	ASSERT_EQ(0, peer_access_set(true));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, pages_on_device(0, self->mem[i], LEN));
	}
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 6));
}

struct toucher {
	char *mem;
	volatile bool stop;
	unsigned long touched;
	int gpu;
	bool lost;
};

#define SLOT	64	/* the part of each page that the CPU owns: a counter */

/*
 * The CPU counts in each page, and the GPU takes the pages back.  No other thread writes to the
 * counters, so a counter that has another value has lost a write.
 */
static void *touch(void *arg)
{
	static uint64_t wrote[LEN / PAGE];
	struct toucher *t = arg;

	while (!t->stop) {
		for (size_t i = 0; i < LEN / PAGE && !t->stop; i += 3) {
			volatile uint64_t *slot = (void *)(t->mem + i * PAGE);

			if (*slot != wrote[i])
				t->lost = true;
			*slot = ++wrote[i];
			t->touched++;
		}
		gpu_to_device(t->gpu, t->mem, LEN);
	}
	for (size_t i = 0; i < LEN / PAGE; i++)
		if (*(volatile uint64_t *)(t->mem + i * PAGE) != wrote[i])
			t->lost = true;
	return NULL;
}

/*
 * The CPU touches pages and the GPU migrates them while the NIC writes all of each page but the
 * CPU's slot.  No byte of either may be lost.  Device pages that the memory has left contain a
 * canary, and no late write may change it.
 */
TEST_F_TIMEOUT(rdma, cpu_touch_during_traffic, 300)
{
	struct toucher t = { .mem = self->mem[1], .gpu = self->gpu };
	long long unmapped = gpu_counter(0, "unmapped");
	double end = now_seconds() + 8;
	unsigned int round = 0;
	pthread_t thread;
	size_t i, k;

	memset(self->mem[1], 0, LEN);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[1], LEN));
	ASSERT_EQ(0, pthread_create(&thread, NULL, touch, &t));
	while (now_seconds() < end) {
		round++;
		fill_pattern(self->mem[0], PAGE, round);
		for (i = 0; i < LEN / PAGE; i++) {
			ASSERT_EQ(0, rdma_write(&self->pair,
						rdma_at(self->buf[0], SLOT),
						rdma_at(self->buf[1], i * PAGE + SLOT),
						PAGE - SLOT));
		}
		for (i = 0; i < LEN / PAGE; i += 5)
			for (k = SLOT; k < PAGE; k++) {
				ASSERT_EQ(pattern(k, round), (unsigned char)
					  self->mem[1][i * PAGE + k])
					TH_LOG("round %u page %zu byte %zu",
					       round, i, k);
			}
	}
	t.stop = true;
	pthread_join(thread, NULL);
	TH_LOG("%u rounds of RDMA, %lu CPU touches", round, t.touched);
	EXPECT_FALSE(t.lost);
	EXPECT_LT(0, t.touched);
	if (expect_reach()) {
		EXPECT_LT(unmapped, gpu_counter(0, "unmapped"));
	}
}

TEST_F_TIMEOUT(rdma, munmap_with_live_mapping, 120)
{
	int status;

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[i], LEN));
	}
	ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	ASSERT_EQ(0, munmap(self->mem[1], LEN));
	EXPECT_EQ(expect_reach() ? LEN / PAGE : 0, gpu_counter(0, "mapped_now"));
	/* The NIC finds no memory at the address, and reports that. */
	status = rdma_write(&self->pair, self->buf[0], self->buf[1], PAGE);
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, status)
		TH_LOG("%s", ibv_wc_status_str(status));
	self->mem[1] = NULL;
}

TEST_F_TIMEOUT(rdma, fork_with_live_mapping, 120)
{
	int go[2];
	pid_t child;
	char c;

	ASSERT_EQ(0, pipe(go));
	fill_pattern(self->mem[1], LEN, 7);
	memset(self->mem[0], 0x44, LEN);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[1], LEN));
	/* The NIC has the pages mapped for writing before fork(). */
	ASSERT_EQ(0, rdma_read(&self->pair, self->buf[0], self->buf[1], LEN));
	memset(self->mem[0], 0x44, LEN);
	ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], PAGE));
	child = fork();
	if (!child) {
		close(go[1]);
		if (read(go[0], &c, 1) != 0)
			_exit(1);
		/* What the NIC writes after fork() goes to the parent's pages alone. */
		for (size_t i = 0; i < PAGE; i++)
			if (self->mem[1][i] != 0x44)
				_exit(2);
		for (size_t i = PAGE; i < LEN; i++)
			if ((unsigned char)self->mem[1][i] != pattern(i, 7))
				_exit(3);
		_exit(0);
	}
	close(go[0]);
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	close(go[1]);
	EXPECT_EQ(0, wait_child(child));
	for (size_t i = 0; i < LEN; i++) {
		ASSERT_EQ(0x44, self->mem[1][i]);
	}
}

/* A process with device pages and MRs on them exits or is killed. */
TEST_F_TIMEOUT(rdma, exit_with_live_mapping, 120)
{
	for (int killed = 0; killed < 2; killed++) {
		int ready[2];
		pid_t child;
		char c;

		ASSERT_EQ(0, pipe(ready));
		child = fork();
		if (!child) {
			struct rdma_pair pair;
			struct rdma_buf buf;
			int gpu = gpu_open(0);

			buf.addr = anon(LEN);
			if (rdma_pair_open(&pair))
				_exit(1);
			buf.mr = ibv_reg_mr(pair.pd, buf.addr, LEN, RDMA_ODP);
			if (!buf.mr || gpu_to_device(gpu, buf.addr, LEN) ||
			    rdma_write(&pair, buf, rdma_at(buf, LEN / 2), LEN / 2))
				_exit(2);
			if (expect_reach() && !gpu_counter(0, "mapped_now"))
				_exit(3);
			if (write(ready[1], "r", 1) != 1)
				_exit(4);
			if (killed)
				pause();
			_exit(0);
		}
		close(ready[1]);
		EXPECT_EQ(1, read(ready[0], &c, 1));
		close(ready[0]);
		if (killed)
			kill(child, SIGKILL);
		EXPECT_EQ(killed ? -SIGKILL : 0, wait_child(child));
		EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	}
}

TEST_HARNESS_MAIN
