// SPDX-License-Identifier: GPL-2.0
/*
 * Behind an IOMMU, unmapping a run of pages takes one unmap and one flush, as the IOMMU's own
 * tracepoint shows.  The pages are in RAM or on another device.
 */
#include "common.h"

#define LEN	(2 * MiB)

/* Count the iommu_unmap() calls since the trace was cleared, and the bytes that they unmapped. */
static long unmaps(unsigned long long *bytes)
{
	unsigned long long size;
	char line[256], *p;
	long n = 0;
	FILE *f = fopen(TRACE "trace", "r");

	*bytes = 0;
	while (f && fgets(line, sizeof(line), f)) {
		p = strstr(line, " unmap: ");
		if (!p)
			continue;
		p = strstr(p, " unmapped_size=");
		if (p && sscanf(p, " unmapped_size=%llu", &size) == 1)
			*bytes += size;
		n++;
	}
	if (f)
		fclose(f);
	return n;
}

TEST_LONG(one_flush, 120)
{
	unsigned long long bytes;
	unsigned int crc;
	int gpu[2];
	char *base, *p;
	long n;

	for (int i = 0; i < 2; i++) {
		gpu[i] = gpu_open(i);
		ASSERT_LE(0, gpu[i]);
	}
	base = anon(2 * LEN);
	p = (char *)(((uintptr_t)base + LEN - 1) & ~(LEN - 1));
	fill_pattern(p, LEN, 1);
	ASSERT_EQ(0, write_file(TRACE "events/iommu/unmap/enable", "1"));
	for (int peer = 0; peer < 2; peer++) {
		if (peer) {
			ASSERT_EQ(0, gpu_to_device(gpu[0], p, LEN));
		}
		ASSERT_EQ(0, gpu_crc32c(gpu[1], p, LEN, &crc));
		ASSERT_EQ(0, trace_clear());
		/* One event makes the mirror unmap everything. */
		ASSERT_EQ(0, mprotect(p, LEN, PROT_READ));
		n = unmaps(&bytes);
		TH_LOG("%s: %ld unmaps, %llu bytes", peer ? "peer" : "RAM", n, bytes);
		EXPECT_EQ(1, n);
		EXPECT_EQ(LEN, bytes);
		ASSERT_EQ(0, mprotect(p, LEN, PROT_READ | PROT_WRITE));
	}
	ASSERT_EQ(0, write_file(TRACE "events/iommu/unmap/enable", "0"));
	munmap(base, 2 * LEN);
	for (int i = 0; i < 2; i++)
		close(gpu[i]);
}

TEST_HARNESS_MAIN
