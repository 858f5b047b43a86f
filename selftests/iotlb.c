// SPDX-License-Identifier: GPL-2.0
/*
 * Behind an IOMMU, unmapping a run of pages takes one unmap and one flush, as the IOMMU's own
 * tracepoint shows.  The pages are in RAM or on another device.  The dummy does it, and an ODP
 * region of a device that masters the bus (mm/hmm_p2p/tests/umem.c).
 */
#include "common.h"

#define LEN	(2 * MiB)
#define REGION	"/sys/kernel/debug/hmm_p2p_umem/region"

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

/* An ODP region of @length bytes at @p, mapped by GPU 1's DMA device: a file, or -1. */
static int region_open(const char *p, size_t length)
{
	char device[64], path[128], text[96];
	ssize_t n = readlink("/sys/class/misc/hmm_dummy1/device", path, sizeof(path) - 1);
	int fd = open(REGION, O_RDWR | O_CLOEXEC);

	if (n < 0 || fd < 0)
		return -1;
	path[n] = 0;
	snprintf(device, sizeof(device), "%s", strrchr(path, '/') + 1);
	n = snprintf(text, sizeof(text), "%s %lx %zx", device, (unsigned long)p, length);
	if (write(fd, text, n) == n)
		return fd;
	close(fd);
	return -1;
}

/* What a region says of itself. */
static bool region_has(int fd, long mapped, long peer)
{
	char text[80] = "";
	long is, of, aliases;

	return pread(fd, text, sizeof(text) - 1, 0) > 0 &&
	       sscanf(text, "mapped %ld of %ld, %ld peer", &is, &of, &aliases) == 3 &&
	       is == mapped && of == (long)(LEN / PAGE) && aliases == peer;
}

/* Whether the page at @p is dirty, as /proc/kpageflags says; below 0 if it is not in RAM. */
static int page_dirty(const char *p)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0, bits = 0;
	ssize_t n = pread(pagemap, &entry, 8, (uintptr_t)p / PAGE * 8);

	if (n == 8 && entry >> 63)
		n = pread(flags, &bits, 8, (entry & ((1ULL << 55) - 1)) * 8);
	close(pagemap);
	close(flags);
	return n == 8 && entry >> 63 ? bits >> 4 & 1 : -1;
}

/* A 2 MiB invalidation of an ODP region is one flush, whatever the pages are. */
TEST_LONG(odp_one_flush, 120)
{
	unsigned long long bytes;
	int gpu = gpu_open(0), fd;
	char *p = anon_huge(LEN, MADV_NOHUGEPAGE);
	long n;

	ASSERT_LE(0, gpu);
	ASSERT_NE(NULL, p);
	fill_pattern(p, LEN, 1);
	ASSERT_EQ(0, write_file(TRACE "events/iommu/unmap/enable", "1"));
	for (int peer = 0; peer < 2; peer++) {
		if (peer) {
			ASSERT_EQ(0, gpu_to_device(gpu, p, LEN));
		} else {
			/* The CPU wrote to it, and its page table says so, not the page. */
			EXPECT_EQ(0, page_dirty(p));
			EXPECT_EQ(0, page_dirty(p + LEN - PAGE));
		}
		fd = region_open(p, LEN);
		ASSERT_LE(0, fd) TH_LOG("%s: %s", REGION, strerror(errno));
		EXPECT_TRUE(region_has(fd, LEN / PAGE, peer ? LEN / PAGE : 0));
		EXPECT_EQ(peer ? (long long)(LEN / PAGE) : 0, gpu_counter(0, "mapped_now"));
		ASSERT_EQ(0, trace_clear());
		ASSERT_EQ(0, mprotect(p, LEN, PROT_READ));
		n = unmaps(&bytes);
		TH_LOG("%s: %ld unmaps, %llu bytes", peer ? "peer" : "RAM", n, bytes);
		EXPECT_EQ(1, n);
		EXPECT_EQ(LEN, bytes);
		EXPECT_TRUE(region_has(fd, 0, 0));
		EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
		if (!peer) {
			EXPECT_EQ(1, page_dirty(p));
			EXPECT_EQ(1, page_dirty(p + LEN - PAGE));
		}
		ASSERT_EQ(0, mprotect(p, LEN, PROT_READ | PROT_WRITE));
		close(fd);
	}
	ASSERT_EQ(0, write_file(TRACE "events/iommu/unmap/enable", "0"));
	close(gpu);
}

/* Entries that are unmapped in pieces, or that are mapped in different ways, all get unmapped. */
TEST_LONG(odp_mixed, 120)
{
	unsigned long long bytes;
	int gpu = gpu_open(0), fd;
	char *p = anon_huge(LEN, MADV_NOHUGEPAGE);

	ASSERT_LE(0, gpu);
	ASSERT_NE(NULL, p);
	fill_pattern(p, LEN, 1);
	/* RAM, then the device, then RAM. */
	ASSERT_EQ(0, gpu_to_device(gpu, p + 100 * PAGE, 300 * PAGE));
	fd = region_open(p, LEN);
	ASSERT_LE(0, fd) TH_LOG("%s: %s", REGION, strerror(errno));
	EXPECT_TRUE(region_has(fd, LEN / PAGE, 300));
	ASSERT_EQ(0, write_file(TRACE "events/iommu/unmap/enable", "1"));
	ASSERT_EQ(0, trace_clear());
	/* Of this page alone; mprotect() would split the mapping, with an event of 2 MiB. */
	ASSERT_EQ(0, madvise(p + 50 * PAGE, PAGE, MADV_DONTNEED));
	EXPECT_EQ(1, unmaps(&bytes));
	EXPECT_EQ(PAGE, bytes);
	EXPECT_TRUE(region_has(fd, LEN / PAGE - 1, 300));
	ASSERT_EQ(0, trace_clear());
	ASSERT_EQ(0, mprotect(p, LEN, PROT_READ));
	/* Up to the hole and behind it, the aliases, and the rest. */
	EXPECT_EQ(4, unmaps(&bytes));
	EXPECT_EQ(LEN - PAGE, bytes);
	EXPECT_TRUE(region_has(fd, 0, 0));
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	ASSERT_EQ(0, write_file(TRACE "events/iommu/unmap/enable", "0"));
	close(fd);
	EXPECT_EQ(-1, check_pattern(p, 50 * PAGE, 1));
	for (size_t i = 51 * PAGE; i < LEN; i++)
		ASSERT_EQ(pattern(i, 1), (unsigned char)p[i]);
	close(gpu);
}

TEST_HARNESS_MAIN
