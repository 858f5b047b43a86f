// SPDX-License-Identifier: GPL-2.0
/*
 * The writes of peers arrive in the memory of GPU 0 before this memory is copied out or used
 * again, and before its window closes.  The peers are a NIC and GPU 1.  GPU 1 holds its last
 * write back until GPU 0 is told to flush (hold_writes).
 */
#include <pthread.h>
#include <stdatomic.h>

#include "odp.h"
#include "race.h"

#define NPAGES	16
#define LEN	(NPAGES * PAGE)
#define LAST	(LEN - PAGE)
#define WINDOW	(2 * MiB)
#define HOLD	"/sys/module/hmm_dummy/parameters/hold_writes"
#define PROBES	"p:" TRACE_PROBES "/copy hmm_dummy:hmm_dummy_copy\n"
#define FLUSHES	TRACE "events/hmm_p2p/hmm_p2p_flush/enable"

FIXTURE(flush) {
	struct odp o;
	int peer;
	char *late;		/* memory that GPU 1 writes to */
};

/* The driver of GPU 0 counts its flushes. */
static long long nr_flushes(void)
{
	FILE *f = fopen("/sys/kernel/debug/hmm_dummy0/flushes", "r");
	long long n = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%lld", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

/* Revoke all aliases.  That flushes: no write of a peer is on its way afterwards. */
static int revoke_all(FIXTURE_DATA(flush) *self)
{
	struct hmm_dummy_info info;

	return gpu_info(self->o.gpu, &info) ||
	       gpu_control(0, "revoke 0 %llu", (unsigned long long)info.vram_bytes);
}

FIXTURE_SETUP(flush)
{
	const char *error = odp_open(&self->o, LEN);

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	self->peer = gpu_open(1);
	ASSERT_LE(0, self->peer);
	ASSERT_EQ(0, revoke_all(self));
	self->late = anon(LEN);
	fill_pattern(self->late, LEN, 5);
	ASSERT_EQ(0, gpu_to_device(self->o.gpu, self->late, LEN));
}

FIXTURE_TEARDOWN(flush)
{
	const char *error;

	EXPECT_EQ(0, write_file(PAIR, "off"));
	EXPECT_EQ(0, write_file(HOLD, "N"));
	munmap(self->late, LEN);
	close(self->peer);
	error = odp_close(&self->o);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

/*
 * Count the copies since the trace was cleared, in *copies, and return how many of them had a
 * flush before them.
 */
static unsigned int copies_flushed(unsigned int *copies)
{
	FILE *f = fopen(TRACE "trace", "r");
	bool flushed = false;
	unsigned int n = 0;
	char line[256];

	*copies = 0;
	while (f && fgets(line, sizeof(line), f)) {
		if (strstr(line, ": hmm_p2p_flush: exporter=hmm_dummy0 "))
			flushed = true;
		if (!strstr(line, ": copy: "))
			continue;
		++*copies;
		n += flushed;
		flushed = false;
	}
	if (f)
		fclose(f);
	return n;
}

/* Each page that the NIC had mapped is copied after a flush, with the NIC's data. */
TEST_F_TIMEOUT(flush, nic_then_cpu, 120)
{
	unsigned int copies, flushed;
	long long before;

	ASSERT_TRUE(odp_place(&self->o, 1));
	ASSERT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, 2));
	ASSERT_EQ(NPAGES, pages_on_device(0, self->o.mem, LEN));
	before = nr_flushes();
	ASSERT_LE(0, before);
	ASSERT_EQ(0, kprobes_on(PROBES));
	ASSERT_EQ(0, trace_clear());
	ASSERT_EQ(0, write_file(FLUSHES, "1"));
	EXPECT_EQ(-1, check_pattern(self->o.mem, LEN, 2));
	write_file(FLUSHES, "0");
	flushed = copies_flushed(&copies);
	kprobes_off();
	EXPECT_EQ(0, pages_on_device(0, self->o.mem, LEN));
	EXPECT_LE(NPAGES, copies);
	EXPECT_EQ(copies, flushed);
	EXPECT_EQ(copies, nr_flushes() - before);
}

/* Memory that no peer has mapped since the last flush is not flushed. */
TEST_F(flush, none_without_peer)
{
	long long before;

	/* The NIC maps the memory.  Revoking unmaps and flushes it. */
	ASSERT_TRUE(odp_place(&self->o, 1));
	before = nr_flushes();
	ASSERT_EQ(0, revoke_all(self));
	EXPECT_LT(before, nr_flushes());
	before = nr_flushes();
	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(-1, check_pattern(self->o.mem, LEN, 1));
		ASSERT_EQ(0, gpu_to_device(self->o.gpu, self->o.mem, LEN));
	}
	EXPECT_EQ(before, nr_flushes());
}

/*
 * GPU 1 fills memory of GPU 0.  Its write to the last page is held back, so GPU 0 does not see
 * it.
 */
static void write_late(struct __test_metadata *_metadata, FIXTURE_DATA(flush) *self)
{
	char was[PAGE];
	unsigned int crc;

	ASSERT_EQ(0, write_file(HOLD, "Y"));
	ASSERT_EQ(0, gpu_fill(self->peer, self->late, LEN, 0x5a));
	ASSERT_EQ(NPAGES, pages_on_gpu(0, self->late, LEN));
	for (size_t i = 0; i < PAGE; i++)
		was[i] = pattern(LAST + i, 5);
	ASSERT_EQ(0, gpu_crc32c(self->o.gpu, self->late + LAST, PAGE, &crc));
	ASSERT_EQ(crc32c(was, PAGE), crc) TH_LOG("the write was not held back");
}

static bool is_filled(const char *p, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (p[i] != 0x5a)
			return false;
	return true;
}

/* Each way to copy memory out of the device includes the late write. */
TEST_F(flush, copied_out_by_fault)
{
	write_late(_metadata, self);
	EXPECT_TRUE(is_filled(self->late, LEN));
}

TEST_F(flush, copied_out_by_migration)
{
	write_late(_metadata, self);
	ASSERT_EQ(0, gpu_to_ram(self->o.gpu, self->late, LEN));
	ASSERT_EQ(0, pages_on_device(0, self->late, LEN));
	EXPECT_TRUE(is_filled(self->late, LEN));
}

TEST_F(flush, copied_to_another_device)
{
	write_late(_metadata, self);
	ASSERT_EQ(0, gpu_to_device(self->peer, self->late, LEN));
	ASSERT_EQ(NPAGES, pages_on_gpu(1, self->late, LEN));
	EXPECT_TRUE(is_filled(self->late, LEN));
}

/* When aliases have been revoked, the late write has arrived. */
TEST_F(flush, revoked)
{
	unsigned int crc;
	char now[PAGE];

	memset(now, 0x5a, PAGE);
	write_late(_metadata, self);
	ASSERT_EQ(0, revoke_all(self));
	ASSERT_EQ(0, gpu_crc32c(self->o.gpu, self->late + LAST, PAGE, &crc));
	EXPECT_EQ(crc32c(now, PAGE), crc);
}

/* The late write does not arrive in the data of the memory's next user. */
TEST_F(flush, freed_and_used_again)
{
	char *next = anon(LEN);
	char right[LEN];
	long long offset;
	unsigned int crc;
	bool met = false;

	fill_pattern(next, LEN, 9);
	fill_pattern(right, LEN, 9);
	write_late(_metadata, self);
	offset = gpu_offset(self->late + LAST, NULL);
	ASSERT_LE(0, offset);
	ASSERT_EQ(0, madvise(self->late, LEN, MADV_DONTNEED));
	ASSERT_EQ(0, gpu_to_device(self->o.gpu, next, LEN));
	for (size_t i = 0; i < LEN; i += PAGE)
		met |= gpu_offset(next + i, NULL) == offset;
	ASSERT_TRUE(met) TH_LOG("the memory is not used again");
	/* This read of GPU 1 makes a write that is still on its way arrive before it. */
	ASSERT_EQ(0, gpu_crc32c(self->peer, next, LEN, &crc));
	EXPECT_EQ(crc32c(right, LEN), crc);
	EXPECT_EQ(-1, check_pattern(next, LEN, 9));
	munmap(next, LEN);
}

/* The late write does not arrive in free memory either, where it would count as a stale write. */
TEST_F(flush, freed_before_it_arrives)
{
	struct hmm_dummy_info info;

	write_late(_metadata, self);
	ASSERT_EQ(0, madvise(self->late + LAST, PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, revoke_all(self));
	ASSERT_EQ(0, gpu_info(self->o.gpu, &info));
	EXPECT_EQ(0, info.stale_writes);
}

/* A thread in which GPU 1 reads from GPU 0, so that a late write arrives. */
struct arrival {
	int gpu;
	char *near;
	atomic_bool too_late;
	int error;
};

/* Wait until the page of the late write is being freed and its task lingers, then read. */
static void *arrives(void *arg)
{
	struct arrival *a = arg;
	unsigned int crc;

	while (!pair_lingered() && !a->too_late)
		;
	a->error = gpu_crc32c(a->gpu, a->near, PAGE, &crc);
	return NULL;
}

#define FREED_LATE	"hmm_dummy_canary_set:return 20 hmm_dummy_held_land_one"
#define MEETINGS	3

/* The late write does not arrive at the moment in which its page becomes free. */
TEST_F_TIMEOUT(flush, freed_while_it_arrives, 240)
{
	struct arrival a = { .gpu = self->peer, .near = anon_huge(2 * MiB, MADV_NOHUGEPAGE) };
	unsigned long lingered, met, meetings = 0;
	struct hmm_dummy_info info;
	unsigned int crc;
	pthread_t thread;
	int tries;

	fill_pattern(a.near, PAGE, 6);
	ASSERT_EQ(0, gpu_to_device(self->o.gpu, a.near, PAGE));
	ASSERT_EQ(0, gpu_crc32c(self->peer, a.near, PAGE, &crc));
	for (tries = 0; tries < 100 && meetings < MEETINGS; tries++) {
		fill_pattern(self->late, LEN, 5);
		ASSERT_EQ(0, gpu_to_device(self->o.gpu, self->late, LEN));
		write_late(_metadata, self);
		ASSERT_EQ(0, write_file(PAIR, FREED_LATE));
		a.too_late = false;
		ASSERT_EQ(0, pthread_create(&thread, NULL, arrives, &a));
		EXPECT_EQ(0, madvise(self->late + LAST, PAGE, MADV_DONTNEED));
		a.too_late = true;
		pthread_join(thread, NULL);
		EXPECT_EQ(0, a.error);
		ASSERT_EQ(0, pair_read(&lingered, &met));
		ASSERT_EQ(1, lingered);
		meetings += met;
		ASSERT_EQ(0, write_file(PAIR, "off"));
		ASSERT_EQ(0, gpu_info(self->o.gpu, &info));
		ASSERT_EQ(0, info.stale_writes);
	}
	TH_LOG("met %lu times in %d tries", meetings, tries);
	EXPECT_LE(MEETINGS, meetings);
	munmap(a.near, 2 * MiB);
}

/*
 * The late write arrives before its window closes.  The window closes because 24 MiB of memory
 * are read through 8 MiB of BAR.
 */
TEST_F_TIMEOUT(flush, window_closed, 120)
{
	long long reclaimed = gpu_counter(0, "windows_reclaimed");
	size_t length = 12 * WINDOW;
	struct rdma_buf big = { .addr = anon(length) };
	unsigned int crc;
	char now[PAGE];

	memset(now, 0x5a, PAGE);
	big.mr = ibv_reg_mr(self->o.pair.pd, big.addr, length, RDMA_ODP);
	ASSERT_NE(NULL, big.mr);
	fill_pattern(big.addr, length, 7);
	ASSERT_EQ(0, gpu_to_device(self->o.gpu, big.addr, length));
	write_late(_metadata, self);
	for (size_t at = 0; at < length; at += WINDOW) {
		struct rdma_buf b = big;

		usleep(110000);
		b.addr = (char *)big.addr + at;
		ASSERT_EQ(0, rdma_read(&self->o.pair, self->o.from, b, PAGE));
	}
	/*
	 * More windows closed than were open, so the window of the late write, the oldest,
	 * closed.
	 */
	ASSERT_LE(reclaimed + 5, gpu_counter(0, "windows_reclaimed"));
	ASSERT_EQ(0, gpu_crc32c(self->o.gpu, self->late + LAST, PAGE, &crc));
	EXPECT_EQ(crc32c(now, PAGE), crc);
	EXPECT_EQ(-1, check_pattern(big.addr, length, 7));
	EXPECT_TRUE(is_filled(self->late, LEN));
	EXPECT_EQ(0, ibv_dereg_mr(big.mr));
	munmap(big.addr, length);
}

TEST_HARNESS_MAIN
