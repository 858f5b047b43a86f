// SPDX-License-Identifier: GPL-2.0
/*
 * The samples: memory of a process moves to hmm_p2p_exporter and back, and hmm_p2p_importer and
 * a NIC read it there in place.  hmm_p2p_exporter's debugfs files tell how they reached it.
 *
 * Needs both modules, hmm_dummy0 and rxe0.  HMM_P2P_SAMPLE is the command that loads
 * hmm_p2p_exporter again.
 */
#include "common.h"
#include "rdma.h"

#include "hmm_p2p_sample.h"

#define LEN		(1 * MiB)
#define PAGES		((long)(LEN / PAGE))
#define DEVICE_BYTES	(32 * MiB)

static long long sample_counter(const char *name)
{
	return exporter_counter("hmm_p2p_exporter", name);
}

/* The caller's pages that are on a device, of whatever driver. */
static long pages_away(const void *p, size_t length)
{
	return pages_that_are(PAGE_ON_DEVICE, p, length);
}

static long sample_move(int fd, const void *p, size_t length, bool to_device)
{
	struct hmm_p2p_sample_move arg = {
		.start = (uintptr_t)p, .end = (uintptr_t)p + length, .to_device = to_device,
	};

	return ioctl(fd, HMM_P2P_SAMPLE_MOVE, &arg);
}

static int sample_mirror(int fd, const void *p, size_t length)
{
	struct hmm_p2p_sample_mirror arg = {
		.start = (uintptr_t)p, .end = (uintptr_t)p + length,
	};

	return ioctl(fd, HMM_P2P_SAMPLE_MIRROR, &arg);
}

/* Have the importer read, in pieces that begin and end anywhere, and compare. */
static bool reads_pattern(int fd, const char *p, size_t length, unsigned int seed)
{
	char *copy = malloc(length);
	size_t done;
	ssize_t n;
	bool same;

	for (done = 0; done < length; done += n) {
		n = pread(fd, copy + done, length - done < 3001 ? length - done : 3001,
			  (uintptr_t)p + done);
		if (n <= 0)
			break;
	}
	same = done == length && check_pattern(copy, length, seed) == -1;
	free(copy);
	return same;
}

FIXTURE(samples) {
	int exporter;
	int importer;
	char *p;
};

FIXTURE_SETUP(samples)
{
	self->exporter = open("/dev/hmm_p2p_exporter", O_RDWR | O_CLOEXEC);
	ASSERT_GE(self->exporter, 0);
	self->importer = open("/dev/hmm_p2p_importer", O_RDWR | O_CLOEXEC);
	ASSERT_GE(self->importer, 0);
	self->p = anon(LEN);
	ASSERT_NE(self->p, MAP_FAILED);
	ASSERT_EQ(madvise(self->p, LEN, MADV_NOHUGEPAGE), 0);
	fill_pattern(self->p, LEN, 1);
}

FIXTURE_TEARDOWN(samples)
{
	munmap(self->p, LEN);
	close(self->importer);
	close(self->exporter);
	EXPECT_EQ(sample_counter("mapped_now"), 0);
}

TEST_F(samples, there_and_back)
{
	char *hole = anon(LEN);

	ASSERT_EQ(sample_move(self->exporter, self->p, LEN, true), PAGES);
	EXPECT_EQ(pages_away(self->p, LEN), PAGES);
	/* The CPU takes one page back. */
	EXPECT_EQ(self->p[5 * PAGE + 7], (char)pattern(5 * PAGE + 7, 1));
	EXPECT_EQ(pages_away(self->p, LEN), PAGES - 1);
	EXPECT_EQ(sample_move(self->exporter, self->p, LEN, false), PAGES - 1);
	EXPECT_EQ(pages_away(self->p, LEN), 0);
	EXPECT_EQ(check_pattern(self->p, LEN, 1), -1);

	/* Memory that was never touched is zero there, whatever the device had in that place. */
	ASSERT_EQ(sample_move(self->exporter, hole, LEN, true), PAGES);
	for (size_t i = 0; i < LEN; i++)
		ASSERT_EQ(hole[i], 0);
	munmap(hole, LEN);
}

TEST_F(samples, huge_page)
{
	char *huge = anon_huge(2 * MiB, MADV_HUGEPAGE);

	ASSERT_NE(huge, NULL);
	fill_pattern(huge, 2 * MiB, 2);
	ASSERT_EQ(sample_move(self->exporter, huge, 2 * MiB, true), 2 * MiB / PAGE);
	EXPECT_EQ(pages_away(huge, 2 * MiB), 2 * MiB / PAGE);
	EXPECT_EQ(huge_bytes(huge), 2 * MiB);
	ASSERT_EQ(sample_mirror(self->importer, huge, 2 * MiB), 0);
	EXPECT_TRUE(reads_pattern(self->importer, huge, 2 * MiB, 2));
	EXPECT_EQ(pages_away(huge, 2 * MiB), 2 * MiB / PAGE);
	EXPECT_EQ(check_pattern(huge, 2 * MiB, 2), -1);
	munmap(huge, 2 * MiB);
}

/* What does not fit stays in RAM. */
TEST_F(samples, full)
{
	size_t length = DEVICE_BYTES + 4 * MiB;
	char *large = anon(length);

	ASSERT_EQ(madvise(large, length, MADV_NOHUGEPAGE), 0);
	fill_pattern(large, length, 3);
	EXPECT_EQ(sample_move(self->exporter, large, length, true), -1);
	EXPECT_EQ(errno, ENOMEM);
	EXPECT_GT(pages_away(large, length), 0);
	EXPECT_LE(pages_away(large, length), DEVICE_BYTES / PAGE);
	EXPECT_EQ(check_pattern(large, length, 3), -1);
	munmap(large, length);
	/* All of it is free again. */
	ASSERT_EQ(sample_move(self->exporter, self->p, LEN, true), PAGES);
}

TEST_F(samples, read_in_place)
{
	long long mapped, to_ram;

	ASSERT_EQ(sample_move(self->exporter, self->p, LEN, true), PAGES);
	ASSERT_EQ(sample_mirror(self->importer, self->p, LEN), 0);
	mapped = sample_counter("mapped");
	to_ram = sample_counter("to_ram");
	EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, 1));
	EXPECT_EQ(sample_counter("mapped"), mapped + PAGES);
	EXPECT_EQ(sample_counter("mapped_now"), PAGES);
	EXPECT_EQ(sample_counter("to_ram"), to_ram);
	EXPECT_EQ(pages_away(self->p, LEN), PAGES);
	/* Entries that are there are used again. */
	EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, 1));
	EXPECT_EQ(sample_counter("mapped"), mapped + PAGES);
}

TEST_F(samples, follows_the_pages)
{
	char byte;

	ASSERT_EQ(sample_mirror(self->importer, self->p, LEN), 0);
	EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, 1));
	for (unsigned int seed = 2; seed < 6; seed++) {
		ASSERT_EQ(sample_move(self->exporter, self->p, LEN, true), PAGES);
		EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, seed - 1));
		EXPECT_EQ(sample_counter("mapped_now"), PAGES);
		ASSERT_EQ(sample_move(self->exporter, self->p, LEN, false), PAGES);
		EXPECT_EQ(sample_counter("mapped_now"), 0);
		fill_pattern(self->p, LEN, seed);
		EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, seed));
	}
	ASSERT_EQ(sample_move(self->exporter, self->p, LEN, true), PAGES);
	EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, 5));
	ASSERT_EQ(munmap(self->p, LEN), 0);
	EXPECT_EQ(sample_counter("mapped_now"), 0);
	EXPECT_EQ(pread(self->importer, &byte, 1, (uintptr_t)self->p), -1);
	EXPECT_EQ(errno, EFAULT);
}

/* The importer knows of no exporter, so any will do. */
TEST_F(samples, memory_of_another_driver)
{
	int gpu = gpu_open(0);
	long long mapped = gpu_counter(0, "mapped");

	ASSERT_GE(gpu, 0);
	ASSERT_EQ(gpu_to_device(gpu, self->p, LEN / 2), 0);
	ASSERT_EQ(sample_move(self->exporter, self->p + LEN / 2, LEN / 2, true), PAGES / 2);
	ASSERT_EQ(sample_mirror(self->importer, self->p, LEN), 0);
	EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, 1));
	EXPECT_EQ(gpu_counter(0, "mapped"), mapped + PAGES / 2);
	EXPECT_EQ(sample_counter("mapped_now"), PAGES / 2);
	EXPECT_EQ(pages_on_gpu(0, self->p, LEN), PAGES / 2);
	EXPECT_EQ(pages_away(self->p, LEN), PAGES);

	/* From device to device, by way of RAM: the sample copies from no other. */
	ASSERT_EQ(sample_move(self->exporter, self->p, LEN / 2, true), PAGES / 2);
	EXPECT_EQ(pages_on_gpu(0, self->p, LEN), 0);
	EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, 1));
	EXPECT_EQ(pages_away(self->p, LEN), PAGES);
	close(gpu);
}

/* Nor does a NIC: rxe, as it is. */
TEST_F(samples, a_nic_reads_in_place)
{
	struct rdma_buf from = { .addr = self->p }, to = { .addr = self->p + LEN / 2 };
	struct rdma_pair pair;
	long long to_ram;

	ASSERT_EQ(rdma_pair_open(&pair), 0) TH_LOG("%s", rdma_error());
	from.mr = ibv_reg_mr(pair.pd, self->p, LEN, RDMA_ODP);
	ASSERT_NE(from.mr, NULL);
	to.mr = from.mr;
	ASSERT_EQ(sample_move(self->exporter, self->p, LEN, true), PAGES);
	to_ram = sample_counter("to_ram");
	ASSERT_EQ(rdma_write(&pair, from, to, LEN / 2), 0) TH_LOG("%s", rdma_error());
	EXPECT_EQ(sample_counter("mapped_now"), PAGES);
	EXPECT_EQ(sample_counter("to_ram"), to_ram);
	EXPECT_EQ(pages_away(self->p, LEN), PAGES);
	EXPECT_EQ(memcmp(self->p, self->p + LEN / 2, LEN / 2), 0);
	EXPECT_EQ(check_pattern(self->p, LEN / 2, 1), -1);
	ibv_dereg_mr(from.mr);
	rdma_pair_close(&pair);
}

TEST_F(samples, refusals)
{
	char byte;
	pid_t child;

	EXPECT_EQ(pread(self->importer, &byte, 1, (uintptr_t)self->p), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(sample_mirror(self->importer, self->p + 1, PAGE), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(sample_mirror(self->importer, self->p, 0), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(sample_mirror(self->importer, self->p, (1UL << 30) + PAGE), -1);
	EXPECT_EQ(errno, EINVAL);
	ASSERT_EQ(sample_mirror(self->importer, self->p, LEN), 0);
	EXPECT_EQ(sample_mirror(self->importer, self->p, LEN), -1);
	EXPECT_EQ(errno, EEXIST);
	EXPECT_EQ(pread(self->importer, &byte, 1, (uintptr_t)self->p + LEN), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(pread(self->importer, &byte, 1, (uintptr_t)self->p - 1), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(ioctl(self->importer, HMM_P2P_SAMPLE_MOVE, NULL), -1);
	EXPECT_EQ(errno, ENOTTY);
	EXPECT_EQ(ioctl(self->exporter, HMM_P2P_SAMPLE_MIRROR, NULL), -1);
	EXPECT_EQ(errno, ENOTTY);
	EXPECT_EQ(sample_move(self->exporter, self->p, 0, true), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(sample_move(self->exporter, self->p, -PAGE, true), -1);
	EXPECT_EQ(errno, EINVAL);

	child = fork();
	if (!child)
		_exit(pread(self->importer, &byte, 1, (uintptr_t)self->p) == -1 &&
		      errno == EINVAL ? 0 : 1);
	EXPECT_EQ(wait_child(child), 0);
}

/* The driver goes while pages are on its device, and a peer has them mapped. */
TEST_F(samples, unload)
{
	const char *load = getenv("HMM_P2P_SAMPLE");

	ASSERT_NE(load, NULL);
	ASSERT_EQ(sample_move(self->exporter, self->p, LEN, true), PAGES);
	ASSERT_EQ(sample_mirror(self->importer, self->p, LEN), 0);
	EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, 1));
	EXPECT_EQ(sample_counter("mapped_now"), PAGES);
	/* An open file keeps the module. */
	EXPECT_NE(system("rmmod hmm_p2p_exporter 2> /dev/null"), 0);
	close(self->exporter);
	ASSERT_EQ(system("rmmod hmm_p2p_exporter"), 0);
	EXPECT_EQ(pages_away(self->p, LEN), 0);
	EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, 1));
	EXPECT_EQ(check_pattern(self->p, LEN, 1), -1);
	ASSERT_EQ(system(load), 0);
	self->exporter = open("/dev/hmm_p2p_exporter", O_RDWR | O_CLOEXEC);
	ASSERT_GE(self->exporter, 0);
	ASSERT_EQ(sample_move(self->exporter, self->p, LEN, true), PAGES);
	EXPECT_TRUE(reads_pattern(self->importer, self->p, LEN, 1));
	EXPECT_EQ(sample_counter("mapped_now"), PAGES);
}

TEST_HARNESS_MAIN
