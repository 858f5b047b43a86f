// SPDX-License-Identifier: GPL-2.0
/*
 * The BAR of a GPU ends before its memory does (the module parameter bar_end_kb).  A NIC and the
 * other GPU reach the pages that the BAR shows where they are, and get the others in RAM.
 */
#include "odp.h"

#define NPAGES	256
#define LEN	(NPAGES * PAGE)
#define WINDOW	(2 * MiB)
#define STEP	(16 * PAGE)	/* of the search for the border */
#define PARAMETERS "/sys/module/hmm_dummy/parameters/"

FIXTURE(border) {
	int gpu[2];
	struct rdma_pair pair;
	char *stage;
	struct rdma_buf from, to;	/* stage, and all */
	unsigned long long end;		/* bytes of GPU 0's memory that its BAR shows */
	unsigned long long offset;	/* of its first byte in the first window */
	char *all;			/* on GPU 0, on both sides of the border */
	size_t length;
	char *p;			/* LEN bytes of it, around the border */
	long shown;			/* pages of p that the BAR shows */
};

FIXTURE_VARIANT(border) {
	int advice;
};

FIXTURE_VARIANT_ADD(border, small) { .advice = MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(border, huge) { .advice = MADV_HUGEPAGE };

/* Whether the BAR shows the page at @p, which is on GPU 0. */
static bool is_shown(FIXTURE_DATA(border) *self, const char *p)
{
	unsigned long long at = gpu_offset(p, NULL) + self->offset;

	return (at / WINDOW + 1) * WINDOW - self->offset <= self->end;
}

FIXTURE_SETUP(border)
{
	struct hmm_dummy_info info;

	for (int i = 0; i < 2; i++) {
		self->gpu[i] = gpu_open(i);
		ASSERT_LE(0, self->gpu[i]);
	}
	ASSERT_EQ(0, gpu_info(self->gpu[0], &info));
	self->end = number_in(PARAMETERS "bar_end_kb") << 10;
	self->offset = number_in(PARAMETERS "bar_offset_kb") << 10;
	/* More than there is on either side. */
	self->length = (self->end > info.vram_bytes - self->end ? self->end :
			info.vram_bytes - self->end) + 2 * WINDOW;
	ASSERT_LE(self->length, info.vram_bytes);
	self->all = anon_huge(self->length, variant->advice);
	ASSERT_NE(NULL, self->all);
	fill_pattern(self->all, self->length, 1);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->all, self->length));
	ASSERT_EQ(self->length / PAGE, pages_on_gpu(0, self->all, self->length));

	self->p = self->all + LEN / 2;
	while (is_shown(self, self->p) == is_shown(self, self->p + STEP)) {
		self->p += STEP;
		ASSERT_GT(self->all + self->length - LEN, self->p);
	}
	while (is_shown(self, self->p) == is_shown(self, self->p + PAGE))
		self->p += PAGE;
	self->p -= LEN / 2;
	for (size_t i = 0; i < LEN; i += PAGE)
		self->shown += is_shown(self, self->p + i);
	ASSERT_LT(0, self->shown);
	ASSERT_GT(NPAGES, self->shown);

	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	self->stage = anon(LEN);
	self->from.addr = self->stage;
	self->from.mr = ibv_reg_mr(self->pair.pd, self->stage, LEN, RDMA_ODP);
	ASSERT_NE(NULL, self->from.mr);
	/* A region maps what its memory has when it is made. */
	self->to.mr = variant->advice == MADV_HUGEPAGE ?
		      ibv_reg_mr(self->pair.pd, self->all, self->length, RDMA_ODP) :
		      ibv_reg_mr(self->pair.pd, self->p, LEN, RDMA_ODP);
	ASSERT_NE(NULL, self->to.mr);
}

FIXTURE_TEARDOWN(border)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->from.mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->to.mr));
	rdma_pair_close(&self->pair);
	munmap(self->stage, LEN);
	munmap(self->all, self->length);
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, self->gpu[i]);

		EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
		close(self->gpu[i]);
	}
}

/* Whether the NIC finds the pattern of @seed in @n bytes at @p. */
static bool nic_reads(FIXTURE_DATA(border) *self, char *p, size_t n, unsigned int seed)
{
	self->to.addr = p;
	memset(self->stage, 0xbb, n);
	if (rdma_read(&self->pair, self->from, self->to, n))
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)self->stage[i] != pattern(p - self->all + i, seed))
			return false;
	return true;
}

/* The border is that of a window. */
TEST_F(border, windows)
{
	struct hmm_dummy_info info;

	ASSERT_EQ(0, gpu_info(self->gpu[0], &info));
	EXPECT_EQ(self->end / WINDOW,
		  gpu_counter(0, "windows") - gpu_counter(0, "windows_invisible"));
	EXPECT_LT(0, gpu_counter(0, "windows_invisible"));
}

/* A NIC reads and writes over the border. */
TEST_F_TIMEOUT(border, nic, 120)
{
	long long fallbacks = gpu_counter(0, "fallback_no-window");
	bool huge = variant->advice == MADV_HUGEPAGE;
	long on_gpu = huge ? -1 : self->shown;

	for (int i = 0; i < 2; i++) {
		ASSERT_TRUE(nic_reads(self, self->p, LEN, 1));
		if (huge)
			continue;
		EXPECT_EQ(on_gpu, pages_on_gpu(0, self->p, LEN));
		EXPECT_EQ(on_gpu, gpu_counter(0, "mapped_now"));
		/* Once a page: then it is in RAM. */
		EXPECT_EQ(fallbacks + NPAGES - self->shown,
			  gpu_counter(0, "fallback_no-window"));
	}
	EXPECT_LT(fallbacks, gpu_counter(0, "fallback_no-window"));
	for (size_t i = 0; i < LEN; i++)
		self->stage[i] = pattern(self->p - self->all + i, 2);
	self->to.addr = self->p;
	ASSERT_EQ(0, rdma_write(&self->pair, self->from, self->to, LEN));
	EXPECT_TRUE(nic_reads(self, self->p, LEN, 2));
	if (!huge) {
		EXPECT_EQ(on_gpu, pages_on_gpu(0, self->p, LEN));
		EXPECT_EQ(fallbacks + NPAGES - self->shown,
			  gpu_counter(0, "fallback_no-window"));
	}
	for (size_t i = 0; i < LEN; i++) {
		ASSERT_EQ(pattern(self->p - self->all + i, 2), (unsigned char)self->p[i]);
	}
}

/* Each page, huge or not, stays where it is until a peer wants a part that it cannot reach. */
TEST_F_TIMEOUT(border, page_by_page, 300)
{
	size_t step = variant->advice == MADV_HUGEPAGE ? WINDOW : PAGE;
	char *first = self->p, *end = self->p + LEN;
	bool parts = false;

	if (step == WINDOW) {
		first = self->all;
		end = self->all + self->length;
	}
	for (char *p = first; p < end; p += step) {
		char *last = p + step - PAGE;
		bool shown = is_shown(self, p), last_shown = is_shown(self, last);

		parts |= shown != last_shown;
		ASSERT_TRUE(nic_reads(self, p, PAGE, 1));
		ASSERT_EQ(shown ? step / PAGE : 0, pages_on_gpu(0, p, step));
		ASSERT_TRUE(nic_reads(self, last, PAGE, 1));
		ASSERT_EQ(shown && last_shown ? step / PAGE : 0, pages_on_gpu(0, p, step));
	}
	/* With an offset, the border is within a huge page. */
	EXPECT_EQ(step == WINDOW && self->offset, parts);
	for (size_t i = 0; i < self->length; i++) {
		ASSERT_EQ(pattern(i, 1), (unsigned char)self->all[i]);
	}
}

/* The other GPU takes the pages: it copies those that the BAR shows, the rest goes through RAM. */
TEST_F_TIMEOUT(border, other_gpu, 120)
{
	long long direct = gpu_counter(1, "from_peer"), to_ram = gpu_counter(0, "to_ram");
	unsigned int crc, right;
	char *q = anon(LEN);

	for (size_t i = 0; i < LEN; i++)
		q[i] = pattern(self->p - self->all + i, 1);
	right = crc32c(q, LEN);
	munmap(q, LEN);
	ASSERT_EQ(0, gpu_to_device(self->gpu[1], self->p, LEN));
	EXPECT_EQ(NPAGES, pages_on_gpu(1, self->p, LEN));
	if (variant->advice == MADV_NOHUGEPAGE) {
		EXPECT_EQ(direct + self->shown, gpu_counter(1, "from_peer"));
		EXPECT_EQ(to_ram + NPAGES - self->shown, gpu_counter(0, "to_ram"));
	}
	ASSERT_EQ(0, gpu_crc32c(self->gpu[1], self->p, LEN, &crc));
	EXPECT_EQ(right, crc);
}

TEST_HARNESS_MAIN
