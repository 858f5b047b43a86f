// SPDX-License-Identifier: GPL-2.0
/*
 * The migration engine: huge pages whole and in pieces, the outcome that each page reports,
 * copies from device to device, fault-around, and room made by eviction.  The runner says in
 * HMM_P2P_AROUND how many KiB one CPU fault moves.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "common.h"

#define HUGE		(2 * MiB)
#define HUGE_PAGES	512

FIXTURE(engine) {
	int gpu[2];
	struct hmm_dummy_info before;
};

FIXTURE_SETUP(engine)
{
	for (int i = 0; i < 2; i++) {
		self->gpu[i] = gpu_open(i);
		ASSERT_LE(0, self->gpu[i]);
	}
	ASSERT_EQ(0, gpu_info(self->gpu[0], &self->before));
	ASSERT_EQ(self->before.vram_bytes, self->before.vram_free);
}

FIXTURE_TEARDOWN(engine)
{
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, self->gpu[i]);

		EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
		close(self->gpu[i]);
	}
}

/* Touch one byte.  Only a huge page comes back as a whole then. */
static bool comes_back_whole(volatile char *p)
{
	long before = pages_on_device(0, (char *)p, HUGE);

	(void)p[HUGE / 2];
	return before == HUGE_PAGES && !pages_on_device(0, (char *)p, HUGE);
}

TEST_F(engine, huge_page_stays_whole)
{
	char *p = anon_huge(HUGE, MADV_HUGEPAGE);
	struct hmm_dummy_migrate m;

	fill_pattern(p, HUGE, 1);
	ASSERT_EQ(0, gpu_migrate(self->gpu[0], GPU_SELF, p, HUGE, 0, &m));
	EXPECT_EQ(HUGE_PAGES, m.migrated);
	EXPECT_TRUE(comes_back_whole(p));
	EXPECT_EQ(-1, check_pattern(p, HUGE, 1));
	/* On request it comes back as a huge page of RAM. */
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], p, HUGE));
	ASSERT_EQ(0, gpu_to_ram(self->gpu[0], p, HUGE));
	EXPECT_EQ(-1, check_pattern(p, HUGE, 1));
	munmap(p, HUGE);
}

/* An untouched huge page becomes a huge page of the device if the process wants huge pages. */
TEST_F(engine, huge_hole)
{
	char *yes = anon_huge(HUGE, MADV_HUGEPAGE), *no = anon_huge(HUGE, MADV_NOHUGEPAGE);

	ASSERT_EQ(0, gpu_to_device(self->gpu[0], yes, HUGE));
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], no, HUGE));
	EXPECT_TRUE(comes_back_whole(yes));
	EXPECT_FALSE(comes_back_whole(no));
	for (size_t i = 0; i < HUGE; i++) {
		ASSERT_EQ(0, yes[i] | no[i]);
	}
	munmap(yes, HUGE);
	munmap(no, HUGE);
}

/* Use every hundredth page of the device's memory, so that no free huge page is left. */
static char *fragment(int gpu, size_t all)
{
	char *filler = anon_huge(all, MADV_NOHUGEPAGE);

	if (gpu_to_device(gpu, filler, all))
		return NULL;
	for (size_t i = 0; i < all / PAGE; i++)
		if (i % 100)
			munmap(filler + i * PAGE, PAGE);
	return filler;
}

/* A huge page moves as small pages where the device has no free huge page. */
TEST_F_TIMEOUT(engine, no_huge_page_of_the_device, 120)
{
	size_t all = self->before.vram_free;
	char *filler = fragment(self->gpu[0], all), *p = anon_huge(HUGE, MADV_HUGEPAGE);
	struct hmm_dummy_migrate m;

	ASSERT_NE(NULL, filler);
	fill_pattern(p, HUGE, 2);
	ASSERT_EQ(0, gpu_migrate(self->gpu[0], GPU_SELF, p, HUGE,
				 HMM_DUMMY_MIGRATE_NO_EVICT, &m));
	EXPECT_EQ(HUGE_PAGES, m.migrated);
	EXPECT_FALSE(comes_back_whole(p));
	EXPECT_EQ(-1, check_pattern(p, HUGE, 2));
	munmap(p, HUGE);
	munmap(filler, all);
}

/* Migrate untouched memory that is larger than the device's. */
TEST_F_TIMEOUT(engine, hole_larger_than_the_device, 120)
{
	size_t length = self->before.vram_free + 2 * HUGE;
	char *one = anon(PAGE), *p = anon_huge(length, MADV_HUGEPAGE);
	struct hmm_dummy_migrate m;

	one[0] = 1;
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], one, PAGE));
	EXPECT_EQ(-1, gpu_migrate(self->gpu[0], GPU_SELF, p, length,
				  HMM_DUMMY_MIGRATE_NO_EVICT, &m));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(self->before.vram_free / PAGE - 1, m.migrated);
	EXPECT_EQ(m.migrated, pages_on_device(0, p, length));
	EXPECT_EQ(0, p[0] | p[length - 1]);
	munmap(p, length);
	munmap(one, PAGE);
}

/* A huge page that fork() has shared is split on its way.  Each process keeps its data. */
TEST_F_TIMEOUT(engine, shared_huge_page_in_pieces, 120)
{
	size_t all = self->before.vram_free;
	char *filler = fragment(self->gpu[0], all), *p = anon_huge(HUGE, MADV_HUGEPAGE);
	struct hmm_dummy_migrate m;
	int go[2];
	pid_t child;
	char c;

	ASSERT_NE(NULL, filler);
	ASSERT_EQ(0, pipe(go));
	fill_pattern(p, HUGE, 9);
	child = fork();
	if (!child) {
		close(go[1]);
		if (read(go[0], &c, 1) != 0)
			_exit(1);
		if (check_pattern(p, HUGE, 9) != -1)
			_exit(2);
		fill_pattern(p, HUGE, 10);
		_exit(check_pattern(p, HUGE, 10) == -1 ? 0 : 3);
	}
	ASSERT_EQ(0, gpu_migrate(self->gpu[0], GPU_SELF, p, HUGE,
				 HMM_DUMMY_MIGRATE_NO_EVICT, &m));
	EXPECT_EQ(HUGE_PAGES, m.migrated);
	EXPECT_EQ(HUGE_PAGES, pages_on_device(child, p, HUGE));
	close(go[0]);
	close(go[1]);
	EXPECT_EQ(0, wait_child(child));
	EXPECT_EQ(-1, check_pattern(p, HUGE, 9));
	munmap(p, HUGE);
	munmap(filler, all);
}

static int outcomes(int gpu, char *p, size_t length, unsigned int flags,
		    unsigned char *vec)
{
	struct hmm_dummy_migrate m = {
		.size = sizeof(m), .pidfd = -1, .flags = flags,
		.addr = (uintptr_t)p, .length = length, .vec = (uintptr_t)vec,
	};

	memset(vec, 0xee, length / PAGE);
	return ioctl(gpu, HMM_DUMMY_MIGRATE, &m);
}

/* Each page that does not move reports the reason. */
TEST_F(engine, outcomes)
{
	unsigned char vec[9], back[9];
	char *p = anon(8 * PAGE);
	int pin[2];
	FILE *f = tmpfile();

	/* Pages: 0 RAM, 1 hole, 2 there already, 3 other device, 4 file, 5 pinned, 6 and 7 RAM */
	ASSERT_EQ(0, ftruncate(fileno(f), PAGE));
	for (int i = 0; i < 8; i++)
		if (i != 1)
			p[i * PAGE] = i;
	ASSERT_EQ(p + 4 * PAGE, mmap(p + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_FIXED, fileno(f), 0));
	p[4 * PAGE] = 4;
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], p + 2 * PAGE, PAGE));
	ASSERT_EQ(0, gpu_to_device(self->gpu[1], p + 3 * PAGE, PAGE));
	/* The pipe holds a reference on the page that the kernel cannot take away. */
	ASSERT_EQ(0, pipe(pin));
	ASSERT_EQ(PAGE, vmsplice(pin[1], &(struct iovec){ p + 5 * PAGE, PAGE }, 1, 0));

	ASSERT_EQ(0, outcomes(self->gpu[0], p, 8 * PAGE, HMM_DUMMY_MIGRATE_ONLY_RAM, vec));
	EXPECT_EQ(HMM_DUMMY_MOVED, vec[0]);
	EXPECT_EQ(HMM_DUMMY_MOVED, vec[1]);
	EXPECT_EQ(HMM_DUMMY_THERE, vec[2]);
	EXPECT_EQ(HMM_DUMMY_OTHER, vec[3]);
	EXPECT_EQ(HMM_DUMMY_NOT_ANON, vec[4]);
	EXPECT_EQ(HMM_DUMMY_BUSY, vec[5]);
	EXPECT_EQ(HMM_DUMMY_MOVED, vec[6]);
	EXPECT_EQ(HMM_DUMMY_MOVED, vec[7]);

	madvise(p + 7 * PAGE, PAGE, MADV_DONTNEED);
	ASSERT_EQ(0, outcomes(self->gpu[0], p, 8 * PAGE, HMM_DUMMY_MIGRATE_TO_RAM, back));
	EXPECT_EQ(HMM_DUMMY_MOVED, back[0]);
	EXPECT_EQ(HMM_DUMMY_MOVED, back[2]);
	EXPECT_EQ(HMM_DUMMY_OTHER, back[3]);
	EXPECT_EQ(HMM_DUMMY_THERE, back[4]);
	EXPECT_EQ(HMM_DUMMY_THERE, back[5]);
	EXPECT_EQ(HMM_DUMMY_ABSENT, back[7]);
	for (int i = 2; i < 7; i++) {
		EXPECT_EQ(i, p[i * PAGE]);
	}
	close(pin[0]);
	close(pin[1]);
	fclose(f);
	munmap(p, 8 * PAGE);
}

/* KSM pages among others: they look as if they could move, but they stay. */
TEST_F_TIMEOUT(engine, merged_page_among_others, 120)
{
	unsigned char vec[8];
	char *p = anon_huge(8 * PAGE, MADV_NOHUGEPAGE);

	for (int i = 0; i < 8; i++)
		memset(p + i * PAGE, i == 5 ? 3 : i, PAGE);
	ASSERT_EQ(0, madvise(p, 8 * PAGE, MADV_MERGEABLE));
	ASSERT_TRUE(ksm_pass());
	ASSERT_EQ(0, outcomes(self->gpu[0], p, 8 * PAGE, 0, vec));
	for (int i = 0; i < 8; i++) {
		EXPECT_EQ(i == 3 || i == 5 ? HMM_DUMMY_KSM : HMM_DUMMY_MOVED, vec[i])
			TH_LOG("page %d", i);
		EXPECT_EQ(i == 5 ? 3 : i, p[i * PAGE]);
	}
	munmap(p, 8 * PAGE);
}

/* A file page among others: the pages that were allocated for the batch are given back. */
TEST_F(engine, file_page_among_others)
{
	FILE *f = tmpfile();
	unsigned char vec[8];
	char *p;

	ASSERT_EQ(0, ftruncate(fileno(f), 8 * PAGE));
	p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(f), 0);
	ASSERT_NE(MAP_FAILED, p);
	/* A write replaces the file page by an anonymous one. */
	for (int i = 0; i < 8; i++) {
		if (i != 5)
			p[i * PAGE] = i;
		else
			EXPECT_EQ(0, p[i * PAGE]);
	}
	ASSERT_EQ(0, outcomes(self->gpu[0], p, 8 * PAGE, 0, vec));
	for (int i = 0; i < 8; i++) {
		EXPECT_EQ(i == 5 ? HMM_DUMMY_NOT_ANON : HMM_DUMMY_MOVED, vec[i])
			TH_LOG("page %d", i);
		EXPECT_EQ(i == 5 ? 0 : i, p[i * PAGE]);
	}
	fclose(f);
	munmap(p, 8 * PAGE);
}

/* Move memory from one device to the other, over the alias or through RAM. */
static void move_between(struct __test_metadata *_metadata,
			 FIXTURE_DATA(engine) *self, char *p, size_t length)
{
	long long from_peer = gpu_counter(1, "from_peer");
	long long to_ram = gpu_counter(0, "to_ram");
	struct hmm_dummy_migrate m;
	long pages = length / PAGE;

	fill_pattern(p, length, 3);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], p, length));
	ASSERT_EQ(0, gpu_migrate(self->gpu[1], GPU_SELF, p, length, 0, &m));
	EXPECT_EQ(pages, m.migrated);
	EXPECT_EQ(pages, pages_on_device(0, p, length));
	EXPECT_EQ(self->before.vram_bytes,
		  (gpu_info(self->gpu[0], &self->before), self->before.vram_free));
	from_peer = gpu_counter(1, "from_peer") - from_peer;
	to_ram = gpu_counter(0, "to_ram") - to_ram;
	EXPECT_EQ(expect_reach() ? pages : 0, from_peer);
	EXPECT_EQ(expect_reach() ? 0 : pages, to_ram);
}

TEST_F(engine, device_to_device)
{
	char *p = anon(300 * PAGE);

	move_between(_metadata, self, p, 300 * PAGE);
	EXPECT_EQ(-1, check_pattern(p, 300 * PAGE, 3));
	munmap(p, 300 * PAGE);
}

TEST_F(engine, device_to_device_huge)
{
	char *p = anon_huge(2 * HUGE, MADV_HUGEPAGE);

	move_between(_metadata, self, p, 2 * HUGE);
	EXPECT_TRUE(comes_back_whole(p + HUGE));
	EXPECT_EQ(-1, check_pattern(p, 2 * HUGE, 3));
	munmap(p, 2 * HUGE);
}

/* All kinds of sources in one range. */
TEST_F(engine, all_sources)
{
	char *p = anon_huge(HUGE, MADV_NOHUGEPAGE);
	struct hmm_dummy_migrate m;

	fill_pattern(p, 400 * PAGE, 4);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], p, 100 * PAGE));
	ASSERT_EQ(0, gpu_to_device(self->gpu[1], p + 50 * PAGE, 150 * PAGE));
	ASSERT_EQ(0, gpu_migrate(self->gpu[0], GPU_SELF, p, HUGE, 0, &m));
	/* 50 pages are there already, 150 on the other device, 200 in RAM, 112 are holes. */
	EXPECT_EQ(HUGE_PAGES - 50, m.migrated);
	EXPECT_EQ(50, m.skipped);
	EXPECT_EQ(HUGE_PAGES, pages_on_device(0, p, HUGE));
	EXPECT_EQ(-1, check_pattern(p, 400 * PAGE, 4));
	for (size_t i = 400 * PAGE; i < HUGE; i++) {
		ASSERT_EQ(0, p[i]);
	}
	munmap(p, HUGE);
}

/* With peer access switched off, the data of a migration takes the way through RAM. */
TEST_F(engine, device_to_device_off)
{
	long long from_peer = gpu_counter(1, "from_peer");
	char *p = anon(64 * PAGE);

	fill_pattern(p, 64 * PAGE, 5);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], p, 64 * PAGE));
	ASSERT_EQ(1, peer_access_set(false));
	EXPECT_EQ(0, gpu_to_device(self->gpu[1], p, 64 * PAGE));
	ASSERT_EQ(0, peer_access_set(true));
	EXPECT_EQ(64, pages_on_device(0, p, 64 * PAGE));
	EXPECT_EQ(from_peer, gpu_counter(1, "from_peer"));
	EXPECT_EQ(-1, check_pattern(p, 64 * PAGE, 5));
	munmap(p, 64 * PAGE);
}

/* A CPU fault also moves the pages around it that are in the same VMA on the same device. */
TEST_F(engine, fault_around)
{
	size_t around = around_pages();
	char *p = anon_huge(HUGE, MADV_NOHUGEPAGE);

	fill_pattern(p, HUGE, 6);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], p, HUGE));
	EXPECT_EQ(pattern(37 * PAGE, 6), (unsigned char)p[37 * PAGE]);
	EXPECT_EQ(HUGE_PAGES - around, pages_on_device(0, p, HUGE));
	EXPECT_EQ(0, pages_on_device(0, p + 37 / around * around * PAGE, around * PAGE));
	/* The fault is at the edge of the VMA, and another device has a page beside it. */
	munmap(p, 4 * PAGE);
	ASSERT_EQ(0, gpu_to_device(self->gpu[1], p + 6 * PAGE, PAGE));
	EXPECT_EQ(pattern(5 * PAGE, 6), (unsigned char)p[5 * PAGE]);
	EXPECT_EQ(1, pages_on_device(0, p + 6 * PAGE, PAGE));
	if (around == 16) {
		EXPECT_EQ(1, pages_on_device(0, p + 4 * PAGE, 12 * PAGE));
	}
	munmap(p, HUGE);
}

/* Read a byte of a child's memory.  Returns 0 or -1. */
static int peek(pid_t pid, void *p)
{
	struct iovec to = { &(char){ 0 }, 1 }, from = { p, 1 };

	return process_vm_readv(pid, &to, 1, &from, 1, 0) == 1 ? 0 : -1;
}

/*
 * A peer that cannot reach a page moves that page to RAM, but not the pages around it, which it
 * may be able to reach.  A read by another process moves one page as well.
 */
TEST_F(engine, others_bring_one_page)
{
	size_t around = around_pages();
	char *p = anon_huge(HUGE, MADV_NOHUGEPAGE);
	pid_t child;

	fill_pattern(p, HUGE, 6);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], p, HUGE));
	/*
	 * Memory that is shared with a child is not writable, so the peer's write needs it in
	 * RAM.
	 */
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	ASSERT_LT(0, child);
	EXPECT_EQ(0, gpu_fill(self->gpu[1], p + 37 * PAGE, PAGE, 1));
	EXPECT_EQ(HUGE_PAGES - 1, pages_on_device(0, p, HUGE));
	EXPECT_EQ(0, pages_on_device(0, p + 37 * PAGE, PAGE));
	EXPECT_EQ(0, peek(child, p + 77 * PAGE));
	EXPECT_EQ(HUGE_PAGES - 2, pages_on_device(0, p, HUGE));
	/* With peer access switched off, the peer's fault moves the pages around it, too. */
	ASSERT_EQ(1, peer_access_set(false));
	EXPECT_EQ(0, gpu_fill(self->gpu[1], p + 137 * PAGE, PAGE, 1));
	ASSERT_EQ(0, peer_access_set(true));
	EXPECT_EQ(HUGE_PAGES - 2 - around, pages_on_device(0, p, HUGE));
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, wait_child(child));
	for (size_t i = 0; i < HUGE; i++) {
		bool filled = i / PAGE == 37 || i / PAGE == 137;

		ASSERT_EQ(filled ? 1 : pattern(i, 6), (unsigned char)p[i]);
	}
	munmap(p, HUGE);
}

#define MIGRATIONS	TRACE "events/hmm_p2p/hmm_p2p_migrate/enable"

static unsigned int migrations_traced(void)
{
	FILE *f = fopen(TRACE "trace", "r");
	unsigned int n = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		n += !!strstr(line, ": hmm_p2p_migrate: ");
	if (f)
		fclose(f);
	return n;
}

/*
 * A CPU fault splits a huge page of the device that is mapped by small entries.  The first page
 * of the huge page, which is around the fault, is a folio of its own then.  One migration moves
 * it and the faulting page.
 */
TEST_F(engine, fault_splits)
{
	size_t around = around_pages();
	char *p = anon_huge(HUGE, MADV_HUGEPAGE);

	fill_pattern(p, HUGE, 7);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], p, HUGE));
	ASSERT_EQ(HUGE, huge_bytes(p));
	ASSERT_EQ(0, mprotect(p + HUGE / 2, PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(p + HUGE / 2, PAGE, PROT_READ | PROT_WRITE));
	ASSERT_EQ(HUGE_PAGES, pages_on_device(0, p, HUGE));
	ASSERT_EQ(0, trace_clear());
	ASSERT_EQ(0, write_file(MIGRATIONS, "1"));
	EXPECT_EQ(pattern(3 * PAGE, 7), (unsigned char)p[3 * PAGE]);
	ASSERT_EQ(0, write_file(MIGRATIONS, "0"));
	EXPECT_EQ(1, migrations_traced());
	EXPECT_EQ(HUGE_PAGES - around, pages_on_device(0, p, HUGE));
	EXPECT_EQ(0, pages_on_device(0, p + 3 / around * around * PAGE, around * PAGE));
	EXPECT_EQ(-1, check_pattern(p, HUGE, 7));
	munmap(p, HUGE);
}

/* Eviction takes the memory that the device has used least recently. */
TEST_F_TIMEOUT(engine, evicts_the_oldest, 120)
{
	size_t third = self->before.vram_free / 3 / HUGE * HUGE;
	/* All of q do not fit beside p[]. */
	int more = (self->before.vram_free - 3 * third) / HUGE + 1;
	struct hmm_dummy_info after;
	char *p[3], *q[3];
	int i;

	for (i = 0; i < 3; i++) {
		p[i] = anon_huge(third, MADV_HUGEPAGE);
		fill_pattern(p[i], third, i);
		ASSERT_EQ(0, gpu_to_device(self->gpu[0], p[i], third));
	}
	/* Now p[1] is the oldest. */
	ASSERT_EQ(0, gpu_fill(self->gpu[0], p[0], third, 0xaa));
	ASSERT_EQ(0, gpu_fill(self->gpu[0], p[2], third, 0xcc));
	for (i = 0; i < more; i++) {
		q[i] = anon_huge(HUGE, MADV_HUGEPAGE);
		memset(q[i], i, HUGE);
		ASSERT_EQ(0, gpu_to_device(self->gpu[0], q[i], HUGE));
		EXPECT_EQ(HUGE_PAGES, pages_on_device(0, q[i], HUGE));
	}
	ASSERT_EQ(0, gpu_info(self->gpu[0], &after));
	EXPECT_LT(self->before.evicted, after.evicted);
	EXPECT_EQ(third / PAGE, pages_on_device(0, p[0], third));
	EXPECT_GT(third / PAGE, pages_on_device(0, p[1], third));
	EXPECT_EQ(third / PAGE, pages_on_device(0, p[2], third));
	EXPECT_EQ(-1, check_pattern(p[1], third, 1));
	for (i = 0; i < 3; i++)
		munmap(p[i], third);
	for (i = 0; i < more; i++) {
		EXPECT_EQ(i, q[i][HUGE - 1]);
		munmap(q[i], HUGE);
	}
}

/* Allow or forbid this process to allocate huge pages of RAM.  Returns 0 or -1. */
static int huge_pages_of_ram(bool on)
{
	static const char *const set[][2] = {
		{ "min-order", "9" }, { "ignore-gfp-wait", "N" },
		{ "ignore-gfp-highmem", "N" }, { "task-filter", "Y" },
		{ "verbose", "0" }, { "times", "-1" }, { "probability", "100" },
	};
	char path[128];

	for (size_t i = 0; i < sizeof(set) / sizeof(set[0]) && !on; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/fail_page_alloc/%s", set[i][0]);
		if (write_file(path, set[i][1]))
			return -1;
	}
	if (on && write_file("/sys/kernel/debug/fail_page_alloc/probability", "0"))
		return -1;
	return write_file("/proc/self/make-it-fail", on ? "0" : "1");
}

/*
 * With no huge page of RAM available, a huge page of the device is split for its eviction and
 * for a CPU fault.
 */
TEST_F_TIMEOUT(engine, no_huge_page_of_ram, 120)
{
	size_t all = self->before.vram_free / HUGE * HUGE;
	char *p = anon_huge(all, MADV_HUGEPAGE), *q = anon_huge(HUGE, MADV_NOHUGEPAGE);

	fill_pattern(p, all, 7);
	fill_pattern(q, HUGE, 8);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], p, all));
	ASSERT_EQ(0, huge_pages_of_ram(false));
	/* The device evicts one huge page, in small pieces, to make room. */
	EXPECT_EQ(0, gpu_to_device(self->gpu[0], q, HUGE));
	EXPECT_EQ(HUGE_PAGES, pages_on_device(0, q, HUGE));
	EXPECT_EQ(all / PAGE - HUGE_PAGES, pages_on_device(0, p, all));
	/* The fault moves small pages, as many as one fault moves. */
	EXPECT_EQ(pattern(all - 1, 7), (unsigned char)p[all - 1]);
	EXPECT_EQ(all / PAGE - HUGE_PAGES - around_pages(), pages_on_device(0, p, all));
	ASSERT_EQ(0, huge_pages_of_ram(true));
	EXPECT_EQ(-1, check_pattern(p, all, 7));
	EXPECT_EQ(-1, check_pattern(q, HUGE, 8));
	munmap(p, all);
	munmap(q, HUGE);
}

/* The same for a fault on a huge page that fork() has shared. */
TEST_F_TIMEOUT(engine, no_huge_page_of_ram_for_shared, 120)
{
	char *p = anon_huge(HUGE, MADV_HUGEPAGE);
	pid_t child;

	fill_pattern(p, HUGE, 9);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], p, HUGE));
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	ASSERT_LT(0, child);
	EXPECT_EQ(0, huge_pages_of_ram(false));
	EXPECT_EQ(pattern(0, 9), (unsigned char)p[0]);
	EXPECT_EQ(HUGE_PAGES - around_pages(), pages_on_device(0, p, HUGE));
	/* Another device can write to the pieces. */
	EXPECT_EQ(0, gpu_fill(self->gpu[1], p + PAGE, PAGE, 1));
	EXPECT_EQ(0, huge_pages_of_ram(true));
	EXPECT_EQ(0, pages_on_device(child, p, PAGE));
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, wait_child(child));
	for (size_t i = 0; i < HUGE; i++) {
		ASSERT_EQ(i / PAGE == 1 ? 1 : pattern(i, 9), (unsigned char)p[i]);
	}
	munmap(p, HUGE);
}

/* A process that is killed during migrations leaves nothing on the device. */
TEST_F_TIMEOUT(engine, killed, 120)
{
	size_t length = self->before.vram_free / 2;

	for (int round = 0; round < 8; round++) {
		pid_t child = fork();

		if (!child) {
			char *p = anon(length);
			int gpu = gpu_open(round % 2);

			memset(p, 1, length);
			for (;;) {
				gpu_to_device(gpu, p, length);
				gpu_fill(gpu, p, length, 2);
				gpu_to_ram(gpu, p, length);
			}
		}
		usleep(200000 + round * 37000);
		kill(child, SIGKILL);
		EXPECT_EQ(-SIGKILL, wait_child(child));
	}
	/* The teardown checks that all device memory is free. */
}

TEST_HARNESS_MAIN
