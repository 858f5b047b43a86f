// SPDX-License-Identifier: GPL-2.0
/*
 * memory_failure() finds a page of the device broken.  The device never uses it
 * again: the runner loads the module anew afterwards.
 */
#include <signal.h>

#include "odp.h"

#define NPAGES	256
#define LEN	(NPAGES * PAGE)

TEST_LONG(memory_failure, 120)
{
	struct rdma_buf bad;
	struct hmm_dummy_info info;
	unsigned long pfn;
	const char *error;
	struct odp o;
	char text[32];

	error = odp_open(&o, LEN);
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_TRUE(odp_place(&o, 1));
	ASSERT_LE(0, gpu_offset(o.mem + 9 * PAGE, &pfn));
	snprintf(text, sizeof(text), "%#lx", pfn);
	ASSERT_EQ(0, write_file("/sys/kernel/debug/hwpoison/corrupt-pfn", text));
	EXPECT_EQ(NPAGES - 1, pages_on_device(0, o.mem, LEN));
	EXPECT_EQ(NPAGES - 1, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(-SIGBUS, touch_in_child(o.mem + 9 * PAGE));
	EXPECT_EQ(-1, check_pattern(o.mem, PAGE, 1));
	bad = o.to;
	bad.addr = o.mem + 9 * PAGE;
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, rdma_read(&o.pair, o.from, bad, PAGE));
	/* The device does not use the page again. */
	error = odp_close(&o);
	EXPECT_EQ(0, strcmp(error ?: "", "device memory is still in use"));
	o.gpu = gpu_open(0);
	ASSERT_EQ(0, gpu_info(o.gpu, &info));
	EXPECT_EQ(info.vram_bytes - PAGE, info.vram_free);
	close(o.gpu);
}

TEST_HARNESS_MAIN
