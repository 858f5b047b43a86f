// SPDX-License-Identifier: GPL-2.0
/*
 * The dummy driver's policy: memory on which the device faults moves to the device, if the
 * parameter migrate_on_fault says so, but not again and again while the CPU takes it back.
 */
#include "common.h"

#define LEN	(MiB)
#define PARAM	"/sys/module/hmm_dummy/parameters/"

FIXTURE(policy) {
	int gpu;
	char *p;
};

FIXTURE_SETUP(policy)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	self->p = anon(LEN);
	fill_pattern(self->p, LEN, 1);
	ASSERT_EQ(0, write_file(PARAM "migrate_on_fault", "Y"));
}

FIXTURE_TEARDOWN(policy)
{
	EXPECT_EQ(0, write_file(PARAM "migrate_on_fault", "N"));
	EXPECT_EQ(0, write_file(PARAM "timeslice_ms", "20"));
	munmap(self->p, LEN);
	close(self->gpu);
}

TEST_F(policy, moves_on_fault)
{
	unsigned int crc;

	ASSERT_EQ(0, gpu_crc32c(self->gpu, self->p, LEN, &crc));
	EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
	ASSERT_EQ(0, write_file(PARAM "migrate_on_fault", "N"));
	ASSERT_EQ(0, gpu_crc32c(self->gpu, self->p, LEN, &crc));
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
}

/* A fault moves an aligned piece of memory, but only if all of that piece is present. */
TEST_F(policy, neighbours_come_along)
{
	size_t around = around_pages();
	size_t huge = 2 * MiB;
	char *p = anon_huge(huge, MADV_NOHUGEPAGE);
	struct hmm_dummy_info before, after;

	ASSERT_NE(NULL, p);
	/* Without a timeslice, memory moves even if the CPU has just used it. */
	ASSERT_EQ(0, write_file(PARAM "timeslice_ms", "0"));
	fill_pattern(p, huge, 2);
	ASSERT_EQ(0, gpu_fill(self->gpu, p + 37 * PAGE, 8, 0xaa));
	EXPECT_EQ(around, pages_on_device(0, p, huge));
	EXPECT_EQ(around, pages_on_device(0, p + 37 / around * around * PAGE, around * PAGE));
	gpu_info(self->gpu, &before);
	ASSERT_EQ(0, gpu_fill(self->gpu, p + 38 * PAGE + 8, 8, 0xaa));
	gpu_info(self->gpu, &after);
	EXPECT_EQ(around == 1, after.device_faults - before.device_faults);
	EXPECT_EQ(0xaa, (unsigned char)p[37 * PAGE]);
	EXPECT_EQ(pattern(37 * PAGE + 8, 2), (unsigned char)p[37 * PAGE + 8]);
	EXPECT_EQ(pattern(38 * PAGE, 2), (unsigned char)p[38 * PAGE]);
	munmap(p, 4 * PAGE);
	ASSERT_EQ(0, gpu_fill(self->gpu, p + 5 * PAGE, 8, 0xbb));
	EXPECT_EQ(1, pages_on_device(0, p + 4 * PAGE, 12 * PAGE));
	EXPECT_EQ(1, pages_on_device(0, p + 5 * PAGE, PAGE));
	EXPECT_EQ(0xbb, (unsigned char)p[5 * PAGE]);
	munmap(p, huge);
}

/* CPU and device work on the same memory in turn. */
static long moves(int gpu, char *p, const char *timeslice, unsigned long long *damped)
{
	struct hmm_dummy_info before, after;
	long long to_device;

	if (write_file(PARAM "timeslice_ms", timeslice) || gpu_info(gpu, &before))
		return -1;
	to_device = gpu_counter(0, "to_device");
	for (int i = 0; i < 20; i++) {
		if (gpu_fill(gpu, p, LEN, i))
			return -1;
		for (size_t k = 0; k < LEN; k += PAGE)
			if (p[k] != i)
				return -1;
	}
	gpu_info(gpu, &after);
	*damped = after.damped - before.damped;
	return gpu_counter(0, "to_device") - to_device;
}

TEST_F_TIMEOUT(policy, ping_pong_is_damped, 120)
{
	unsigned long long none, some;
	long without = moves(self->gpu, self->p, "0", &none);
	long with = moves(self->gpu, self->p, "60000", &some);

	TH_LOG("20 turns: %ld pages moved without a time slice, %ld with", without, with);
	EXPECT_LT(15 * (long)(LEN / PAGE), without);
	EXPECT_EQ(0, none);
	EXPECT_GE(2 * (long)(LEN / PAGE), with);
	EXPECT_LE(1, some);
}

TEST_HARNESS_MAIN
