// SPDX-License-Identifier: GPL-2.0
/*
 * The device faults on RAM, on its own memory and, as an importer, on the memory of another
 * device.  The runner tells in HMM_P2P_EXPECT=reach|fallback whether the device can reach the
 * other one's memory in this topology, or that memory moves to RAM.
 */
#include "common.h"

#define LEN	(3 * MiB)
#define NPAGES	(LEN / PAGE)

FIXTURE(svm) {
	int gpu[2];
	char *p;
};

FIXTURE_SETUP(svm)
{
	for (int i = 0; i < 2; i++) {
		struct hmm_dummy_info info;

		self->gpu[i] = gpu_open(i);
		ASSERT_LE(0, self->gpu[i]);
		/* The GPUs are those that the runner meant. */
		ASSERT_EQ(0, gpu_info(self->gpu[i], &info));
		ASSERT_EQ(!getenv("HMM_P2P_NO_PCI"),
			  !!(info.caps & HMM_DUMMY_CAP_PCI));
	}
	self->p = anon(LEN);
	ASSERT_NE(MAP_FAILED, self->p);
}

FIXTURE_TEARDOWN(svm)
{
	munmap(self->p, LEN);
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, self->gpu[i]);

		EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
		close(self->gpu[i]);
	}
}

/* The device faults in memory that was never touched. */
TEST_F(svm, faults_in_untouched)
{
	struct hmm_dummy_info before, after;

	ASSERT_EQ(0, gpu_info(self->gpu[0], &before));
	ASSERT_EQ(0, gpu_fill(self->gpu[0], self->p + 100, LEN - 200, 0x42));
	ASSERT_EQ(0, gpu_info(self->gpu[0], &after));
	EXPECT_LT(before.device_faults, after.device_faults);
	EXPECT_EQ(0, self->p[99]);
	EXPECT_EQ(0, self->p[LEN - 100]);
	for (size_t i = 100; i < LEN - 100; i++) {
		ASSERT_EQ(0x42, self->p[i]);
	}
}

TEST_F(svm, own_memory_stays)
{
	unsigned int crc;

	fill_pattern(self->p, LEN, 1);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	ASSERT_EQ(0, gpu_crc32c(self->gpu[0], self->p + 5, 70001, &crc));
	ASSERT_EQ(0, gpu_fill(self->gpu[0], self->p + MiB, 3, 'x'));
	EXPECT_EQ(NPAGES, pages_on_device(0, self->p, LEN));
	EXPECT_EQ('x', self->p[MiB + 2]);
	EXPECT_EQ(pattern(MiB + 3, 1), (unsigned char)self->p[MiB + 3]);
	EXPECT_EQ(crc32c(self->p + 5, 70001), crc);
}

TEST_F(svm, copy_any_mix)
{
	char *q = anon(LEN);

	fill_pattern(self->p, LEN, 2);
	/*
	 * Sources of the copy are in RAM and on the device; destinations are on the device or
	 * holes.
	 */
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p + 3 * PAGE, 200 * PAGE));
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], q, 100 * PAGE));
	ASSERT_EQ(0, gpu_copy(self->gpu[0], q + 13, self->p + 4001, LEN - 5000));
	for (size_t i = 0; i < LEN - 5000; i++) {
		ASSERT_EQ(pattern(i + 4001, 2), (unsigned char)q[i + 13]);
	}
	munmap(q, LEN);
}

/* Pages that are adjacent for the process, but not in the device's memory. */
TEST_F(svm, pages_in_disorder)
{
	const size_t n = 64;
	char *q = anon(n * PAGE);

	ASSERT_NE(MAP_FAILED, q);
	ASSERT_EQ(0, madvise(self->p, LEN, MADV_NOHUGEPAGE));
	fill_pattern(self->p, LEN, 6);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	/* Reverse the order of the pages.  The other memory extends over the end of a chunk. */
	for (size_t i = 0; i < n; i++) {
		ASSERT_EQ(q + i * PAGE,
			  mremap(self->p + (n - 1 - i) * PAGE, PAGE, PAGE,
				 MREMAP_MAYMOVE | MREMAP_FIXED, q + i * PAGE));
	}
	for (int i = 0; i < 2; i++) {
		char *to = anon(LEN);

		ASSERT_NE(MAP_FAILED, to);
		ASSERT_EQ(0, gpu_copy(self->gpu[i], to, q, n * PAGE));
		ASSERT_EQ(0, gpu_copy(self->gpu[i], to + n * PAGE, self->p + n * PAGE,
				      LEN - n * PAGE));
		for (size_t j = 0; j < LEN; j++) {
			size_t from = j < n * PAGE ? j + (n - 1 - 2 * (j / PAGE)) * PAGE : j;

			ASSERT_EQ(pattern(from, 6), (unsigned char)to[j]) {
				TH_LOG("GPU %d, byte %zu", i, j);
			}
		}
		munmap(to, LEN);
	}
	munmap(q, n * PAGE);
}

/* A GPU works on memory that is on another GPU. */
TEST_F(svm, peer)
{
	unsigned int crc;

	fill_pattern(self->p, LEN, 3);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	ASSERT_EQ(0, gpu_crc32c(self->gpu[1], self->p + 1, LEN - 1, &crc));
	ASSERT_EQ(0, gpu_fill(self->gpu[1], self->p + 2 * MiB + 7, 9, 'y'));
	if (expect_reach()) {
		EXPECT_EQ(NPAGES, pages_on_device(0, self->p, LEN));
		EXPECT_EQ(NPAGES, gpu_counter(0, "mapped_now"));
	} else {
		EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
		EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
		const char *reason = getenv("HMM_P2P_FALLBACK") ?: "fallback_topology";

		EXPECT_LE(NPAGES, gpu_counter(0, reason));
	}
	for (size_t i = 0; i < 9; i++) {
		EXPECT_EQ('y', self->p[2 * MiB + 7 + i]);
	}
	EXPECT_EQ(pattern(2 * MiB + 16, 3),
		  (unsigned char)self->p[2 * MiB + 16]);
	fill_pattern(self->p + 2 * MiB, 32, 0);
	for (size_t i = 2 * MiB; i < 2 * MiB + 32; i++)
		self->p[i] = pattern(i, 3);
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 3));
	EXPECT_EQ(crc32c(self->p + 1, LEN - 1), crc);
}

/* With peer access off, the kernel behaves as stock does. */
TEST_F(svm, peer_access_off)
{
	unsigned int crc;

	fill_pattern(self->p, LEN, 3);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	ASSERT_EQ(1, peer_access_set(false));
	EXPECT_EQ(0, gpu_crc32c(self->gpu[1], self->p, LEN, &crc));
	ASSERT_EQ(0, peer_access_set(true));
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(crc32c(self->p, LEN), crc);
}

/* Pages of both devices and of RAM in one range.  The device finds each page where it is. */
TEST_F(svm, mixed_exporters)
{
	fill_pattern(self->p, LEN, 4);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, MiB));
	ASSERT_EQ(0, gpu_to_device(self->gpu[1], self->p + MiB, MiB));
	for (int i = 0; i < 2; i++) {
		unsigned int crc;

		ASSERT_EQ(0, gpu_crc32c(self->gpu[i], self->p, LEN, &crc));
	}
	EXPECT_EQ(expect_reach() ? 512 : 0, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 4));
}

/*
 * A page of RAM, a hole of one page and a hole of three pages between device pages.  Only they
 * are faulted; their neighbours stay.
 */
TEST_F(svm, neighbours_stay)
{
	long stay = expect_reach() ? 256 - 5 : 0;

	fill_pattern(self->p, MiB, 5);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, MiB));
	ASSERT_EQ(0, madvise(self->p + 10 * PAGE, PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, madvise(self->p + 20 * PAGE, 3 * PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, gpu_to_ram(self->gpu[0], self->p + 30 * PAGE, PAGE));
	EXPECT_EQ(256 - 5, pages_on_device(0, self->p, MiB));
	ASSERT_EQ(0, gpu_fill(self->gpu[1], self->p, MiB, 0x11));
	EXPECT_EQ(stay, pages_on_device(0, self->p, MiB));
	for (size_t i = 0; i < MiB; i++) {
		ASSERT_EQ(0x11, self->p[i]);
	}
}

/* After fork() a device page is shared and read-only.  A write copies it. */
TEST_F(svm, write_after_fork)
{
	for (int writer = 0; writer < 2; writer++) {
		int go[2];
		pid_t child;
		char c;

		ASSERT_EQ(0, pipe(go));
		fill_pattern(self->p, 64 * PAGE, 6);
		ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, 64 * PAGE));
		child = fork();
		if (!child) {
			close(go[1]);
			if (read(go[0], &c, 1) != 0)
				_exit(1);
			_exit(check_pattern(self->p, 64 * PAGE, 6) == -1 ? 0 : 2);
		}
		EXPECT_EQ(0, gpu_fill(self->gpu[writer], self->p, 64 * PAGE,
				      0x33));
		close(go[0]);
		close(go[1]);
		EXPECT_EQ(0, wait_child(child));
		for (size_t i = 0; i < 64 * PAGE; i++) {
			ASSERT_EQ(0x33, self->p[i]);
		}
	}
}

/* The exporter's pages move while the importer has them mapped. */
TEST_F(svm, cpu_takes_back)
{
	for (int round = 0; round < 8; round++) {
		ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, 32 * PAGE));
		ASSERT_EQ(0, gpu_fill(self->gpu[1], self->p, 32 * PAGE, round));
		EXPECT_EQ(expect_reach() ? 32 : 0, gpu_counter(0, "mapped_now"));
		for (size_t i = 0; i < 32; i++) {
			ASSERT_EQ(round, self->p[i * PAGE]);
			self->p[i * PAGE] = 'c';
		}
		EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
		ASSERT_EQ(0, gpu_fill(self->gpu[1], self->p + 1, 30 * PAGE, 1));
		EXPECT_EQ('c', self->p[0]);
	}
}

TEST_HARNESS_MAIN
