// SPDX-License-Identifier: GPL-2.0
/*
 * A device dies while a NIC and another GPU use its memory.  The test leaves hmm_dummy0 dead
 * and unbound; the runner loads the module again.
 */
#include <signal.h>

#include "odp.h"

#define NPAGES	256
#define LEN	(NPAGES * PAGE)

/* Unbind the PCI device behind /dev/hmm_dummy0. */
static int unbind(void)
{
	char address[64];

	return gpu_bus_address(0, address, sizeof(address)) ?: gpu_driver("unbind", address);
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
	_exit(info->si_code == BUS_MCEERR_AR ? 42 : 43);
}

TEST_LONG(dead, 120)
{
	struct sigaction act = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
	struct rdma_buf lost;
	const char *error;
	char *other, buffer[PAGE];
	int gpu1, pinned, fd;
	pid_t child;
	struct odp o;

	error = odp_open(&o, LEN);
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	/* The death does not affect another device's memory, or RAM. */
	gpu1 = gpu_open(1);
	ASSERT_LE(0, gpu1);
	other = anon(LEN);
	fill_pattern(other, LEN, 5);
	ASSERT_EQ(0, gpu_to_device(gpu1, other, LEN));
	ASSERT_TRUE(odp_place(&o, 1));
	ASSERT_EQ(0, gpu_to_ram(o.gpu, o.mem, 8 * PAGE));

	/* Another GPU has pinned some of the dying device's memory. */
	pinned = gpu_open(1);
	fd = gpu_export(o.gpu);
	ASSERT_EQ(0, gpu_import(pinned, fd));
	ASSERT_EQ(PAGE, pread(pinned, buffer, PAGE, 0));

	ASSERT_EQ(0, gpu_control(0, "dead"));
	EXPECT_EQ(-1, pread(pinned, buffer, PAGE, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, gpu_export(o.gpu));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(0, pages_on_device(0, o.mem, LEN));
	EXPECT_EQ(-1, gpu_to_device(o.gpu, o.mem, LEN));
	EXPECT_EQ(ENODEV, errno);
	lost = o.to;
	lost.addr = o.mem + 8 * PAGE;
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, rdma_write(&o.pair, o.from, lost, PAGE));
	child = fork();
	if (!child) {
		sigaction(SIGBUS, &act, NULL);
		/* Data that was in RAM is still there. */
		if (check_pattern(o.mem, 8 * PAGE, 1) != -1)
			_exit(1);
		(void)*(volatile char *)(o.mem + 8 * PAGE);
		_exit(2);
	}
	EXPECT_EQ(42, wait_child(child));
	EXPECT_EQ(-1, check_pattern(other, LEN, 5));

	/* The driver releases the device while the test keeps its memory mapped. */
	ASSERT_EQ(0, unbind());
	EXPECT_NE(0, access("/dev/hmm_dummy0", F_OK));
	EXPECT_EQ(0, pages_on_device(0, o.mem, LEN));
	child = fork();
	if (!child) {
		sigaction(SIGBUS, &act, NULL);
		(void)*(volatile char *)(o.mem + 9 * PAGE);
		_exit(2);
	}
	EXPECT_EQ(42, wait_child(child));
	EXPECT_EQ(0, madvise(o.mem, LEN, MADV_DONTNEED));
	EXPECT_EQ(0, o.mem[8 * PAGE]);
	EXPECT_EQ(0, odp_free(&o));
}

TEST_HARNESS_MAIN
