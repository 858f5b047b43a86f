// SPDX-License-Identifier: GPL-2.0
/*
 * NUMA balancing takes write access from entries as it scans.  The NIC gets it back
 * in place.  Needs a machine with two nodes: scripts/vm --numa.
 */
#include "odp.h"

#define NPAGES	64
#define DEBUG	"/sys/kernel/debug/sched/numa_balancing/"

TEST_LONG(numa_scan, 240)
{
	long long upgrades, fallbacks;
	double end = now_seconds() + 90;
	unsigned int round = 2;
	const char *error;
	struct odp o;

	ASSERT_EQ(0, access("/sys/devices/system/node/node1", F_OK));
	error = odp_open(&o, NPAGES * PAGE);
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_TRUE(odp_place(&o, 1));
	upgrades = gpu_counter(0, "upgrades");
	fallbacks = gpu_counter(0, "fallback_read-only");
	ASSERT_EQ(0, write_file("/proc/sys/kernel/numa_balancing", "1"));
	ASSERT_EQ(0, write_file(DEBUG "scan_period_min_ms", "20"));
	ASSERT_EQ(0, write_file(DEBUG "scan_period_max_ms", "50"));
	ASSERT_EQ(0, write_file(DEBUG "scan_delay_ms", "10"));
	while (gpu_counter(0, "upgrades") == upgrades && now_seconds() < end) {
		ASSERT_EQ(IBV_WC_SUCCESS, odp_write(&o, round));
		EXPECT_EQ(NPAGES, pages_on_device(0, o.mem, o.length));
		ASSERT_EQ(-1, odp_check(&o, round));
		round++;
	}
	EXPECT_EQ(0, write_file("/proc/sys/kernel/numa_balancing", "0"));
	TH_LOG("%u rounds until the first scan", round - 2);
	EXPECT_LT(upgrades, gpu_counter(0, "upgrades"));
	EXPECT_EQ(fallbacks, gpu_counter(0, "fallback_read-only"));
	error = odp_close(&o);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

TEST_HARNESS_MAIN
