// SPDX-License-Identifier: GPL-2.0
/*
 * memory_failure() reports pages of the device as broken.  The device never uses them again, so
 * the runner reloads the module afterwards.
 */
#include "odp.h"
#include "parked.h"

#define NPAGES	256
#define LEN	(NPAGES * PAGE)

static int corrupt(unsigned long pfn)
{
	char text[32];

	snprintf(text, sizeof(text), "%#lx", pfn);
	return write_file("/sys/kernel/debug/hwpoison/corrupt-pfn", text);
}

/* Whether one of the pages has @pfn, as pagemap shows it for device-private entries. */
static bool has_pfn(const char *p, size_t length, unsigned long pfn)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	bool found = false;
	uint64_t entry;

	for (size_t i = 0; i < length && !found; i += PAGE)
		found = pread(fd, &entry, 8, ((uintptr_t)p + i) / PAGE * 8) != 8 ||
			(entry << 9 >> 14) == pfn;
	close(fd);
	return found;
}

TEST_LONG(memory_failure, 120)
{
	unsigned long pfn, free_pfn;
	struct hmm_dummy_migrate m;
	struct hmm_dummy_info info;
	struct rdma_buf bad;
	const char *error;
	struct odp o;
	char *p;

	error = odp_open(&o, LEN);
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_TRUE(odp_place(&o, 1));
	ASSERT_LE(0, gpu_offset(o.mem + 9 * PAGE, &pfn));
	ASSERT_EQ(0, corrupt(pfn));
	EXPECT_EQ(NPAGES - 1, pages_on_device(0, o.mem, LEN));
	EXPECT_EQ(NPAGES - 1, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(-SIGBUS, touch_in_child(o.mem + 9 * PAGE));
	EXPECT_EQ(-1, check_pattern(o.mem, PAGE, 1));
	bad = o.to;
	bad.addr = o.mem + 9 * PAGE;
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, rdma_read(&o.pair, o.from, bad, PAGE));
	/* A free page breaks as well. */
	ASSERT_LE(0, gpu_offset(o.mem + 20 * PAGE, &free_pfn));
	ASSERT_EQ(0, gpu_to_ram(o.gpu, o.mem + 20 * PAGE, PAGE));
	ASSERT_EQ(0, corrupt(free_pfn));
	error = odp_close(&o);
	EXPECT_EQ(0, strcmp(error ?: "", "device memory is still in use"));
	o.gpu = gpu_open(0);
	ASSERT_EQ(0, gpu_info(o.gpu, &info));
	EXPECT_EQ(info.vram_bytes - 2 * PAGE, info.vram_free);
	/* The device does not use the broken pages again, and uses all others. */
	p = anon(info.vram_free);
	ASSERT_EQ(0, gpu_migrate(o.gpu, GPU_SELF, p, info.vram_free, 0, &m));
	EXPECT_EQ(info.vram_free / PAGE, m.migrated);
	EXPECT_FALSE(has_pfn(p, info.vram_free, pfn));
	EXPECT_FALSE(has_pfn(p, info.vram_free, free_pfn));
	/* has_pfn() does find a page that is there. */
	ASSERT_LE(0, gpu_offset(p + 9 * PAGE, &pfn));
	EXPECT_TRUE(has_pfn(p, info.vram_free, pfn));
	munmap(p, info.vram_free);
	close(o.gpu);
}

/*
 * memory_failure() does not wait for the end of a reset, because all other memory errors of the
 * machine would wait, too.  No access to the page succeeds afterwards.
 */
TEST_LONG(memory_failure_in_reset, 120)
{
	struct hmm_dummy_migrate m;
	int gpu = gpu_open(0);
	char *p = anon(LEN);
	unsigned long pfn;
	struct reset r;

	ASSERT_LE(0, gpu);
	fill_pattern(p, LEN, 1);
	ASSERT_EQ(0, gpu_migrate(gpu, GPU_SELF, p, LEN, 0, &m));
	ASSERT_EQ(NPAGES, m.migrated);
	ASSERT_LE(0, gpu_offset(p + 9 * PAGE, &pfn));
	ASSERT_TRUE(reset_begin(&r, 0, p, LEN));
	EXPECT_EQ(0, corrupt(pfn));
	EXPECT_TRUE(reset_is_on());
	EXPECT_EQ(0, reset_end(&r));
	EXPECT_EQ(NPAGES - 1, pages_on_device(0, p, LEN));
	EXPECT_EQ(-SIGBUS, touch_in_child(p + 9 * PAGE));
	EXPECT_EQ(-1, check_pattern(p, 9 * PAGE, 1));
	munmap(p, LEN);
	close(gpu);
}

TEST_HARNESS_MAIN
