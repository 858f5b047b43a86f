// SPDX-License-Identifier: GPL-2.0
/*
 * hmm_range_fault() on the second half of the caller's own device-private huge
 * page must report the second half.  Uses the kernel's own lib/test_hmm, whose
 * device memory comes in huge pages.
 */
#include "common.h"
#include "test_hmm_uapi.h"

#define HUGE	(2 * MiB)

static int dmirror(int fd, unsigned long request, char *addr, size_t length,
		   char *buffer)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)addr,
		.ptr = (uintptr_t)buffer,
		.npages = length / PAGE,
	};

	return ioctl(fd, request, &cmd);
}

TEST(pmd_offset)
{
	/* Two files of one device: one migrates, the other has nothing mapped. */
	int fd = open("/dev/hmm_dmirror0", O_RDWR);
	int fresh = open("/dev/hmm_dmirror0", O_RDWR);
	char *area = anon(2 * HUGE), *copy = anon(HUGE);
	char *huge = (char *)(((uintptr_t)area + HUGE - 1) & -HUGE);

	ASSERT_LE(0, fd);
	ASSERT_LE(0, fresh);
	ASSERT_EQ(0, madvise(huge, HUGE, MADV_HUGEPAGE));
	for (size_t i = 0; i < HUGE; i += PAGE)
		*(unsigned int *)(huge + i) = i / PAGE;

	ASSERT_EQ(0, dmirror(fd, HMM_DMIRROR_MIGRATE_TO_DEV, huge, HUGE, copy));
	memset(copy, 0, HUGE);
	ASSERT_EQ(0, dmirror(fresh, HMM_DMIRROR_READ, huge + 100 * PAGE,
			     8 * PAGE, copy));
	for (unsigned int i = 0; i < 8; i++) {
		EXPECT_EQ(100 + i, *(unsigned int *)(copy + i * PAGE));
	}
	close(fresh);
	close(fd);
	munmap(area, 2 * HUGE);
	munmap(copy, HUGE);
}

TEST_HARNESS_MAIN
