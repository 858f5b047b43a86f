// SPDX-License-Identifier: GPL-2.0
/*
 * Like fail_nth.c, for binding, unbinding and reset.  Whatever fails, the driver binds completely
 * or not at all, unbinding loses no data, and no peer reaches a device that is being reset.
 */
#include "fault_injection.h"

#define LENGTH	(8 * PAGE)

FIXTURE(plug) {
	int gpu;
	char *p;
	char address[64];
};

FIXTURE_SETUP(plug)
{
	ASSERT_EQ(0, attrs_init());
	ASSERT_LE(0, fail_file_open());
	ASSERT_EQ(0, gpu_bus_address(1, self->address, sizeof(self->address)));
	self->p = anon(LENGTH);
	fill_pattern(self->p, LENGTH, 1);
	self->gpu = gpu_open(1);
	ASSERT_LE(0, self->gpu);
}

FIXTURE_TEARDOWN(plug)
{
	const char *leak;

	munmap(self->p, LENGTH);
	leak = gpu_leak(1, self->gpu);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->gpu);
	close(fail_file);
}

static bool is_bound(void)
{
	return !access("/dev/hmm_dummy1", F_OK);
}

/* Bind the device if it is not bound, and open it. */
static int bind_and_open(FIXTURE_DATA(plug) *self)
{
	if (!is_bound() && gpu_driver("bind", self->address))
		return -1;
	self->gpu = gpu_open(1);
	return self->gpu < 0 ? -1 : 0;
}

/* Whatever fails, the driver unbinds and no data that was on the device is lost. */
TEST_F_TIMEOUT(plug, unbind, 600)
{
	unsigned int n, failures = 0;
	bool failed;

	for (n = 1; n < TOO_MANY; n++) {
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, LENGTH));
		close(self->gpu);
		arm(n);
		gpu_driver("unbind", self->address);
		failed = disarm();
		if (is_bound())
			ASSERT_EQ(0, gpu_driver("unbind", self->address))
				TH_LOG("failure %u", n);
		ASSERT_EQ(-1, check_pattern(self->p, LENGTH, 1))
			TH_LOG("failure %u", n);
		ASSERT_EQ(0, bind_and_open(self)) TH_LOG("failure %u", n);
		if (!failed)
			break;
		failures++;
	}
	ASSERT_GT(TOO_MANY, n);
	EXPECT_LT(0, failures);
	TH_LOG("%u failures", failures);
}

TEST_F_TIMEOUT(plug, bind, 600)
{
	unsigned int n, refused = 0;
	unsigned long start, end;
	bool failed;

	/* Memory hotplug warns when its own allocations fail, and a warning fails the test. */
	ASSERT_EQ(0, find_function("add_pages", &start, &end));
	ASSERT_EQ(0, spare_function(start, end));
	for (n = 1; n < TOO_MANY; n++) {
		close(self->gpu);
		ASSERT_EQ(0, gpu_driver("unbind", self->address));
		arm(n);
		gpu_driver("bind", self->address);
		failed = disarm();
		refused += !is_bound();
		ASSERT_EQ(0, bind_and_open(self)) TH_LOG("failure %u", n);
		if (!failed)
			break;
	}
	ASSERT_GT(TOO_MANY, n);
	ASSERT_EQ(0, attrs_init());
	EXPECT_LT(0, refused);
	TH_LOG("%u failures, %u of them refused it", n - 1, refused);
}

/*
 * Reset the device while the @n-th operation fails.  PCI resets it whatever fails.  If the driver
 * cannot keep a peer away from the memory meanwhile, the device is dead, and the peer has lost
 * the memory.
 */
static void reset_with_failure(struct __test_metadata *_metadata, FIXTURE_DATA(plug) *self,
			       unsigned int n, bool *failed, bool *dead)
{
	int peer = gpu_open(0), ret;
	unsigned int crc;
	char path[128];

	ASSERT_LE(0, peer);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", self->address);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, LENGTH)) TH_LOG("failure %u", n);
	ASSERT_EQ(0, gpu_crc32c(peer, self->p, LENGTH, &crc));
	ASSERT_EQ(LENGTH / PAGE, gpu_counter(1, "mapped_now"));
	arm(n);
	ret = write_file(path, "1");
	*failed = disarm();
	/* If not, the device was not reset. */
	if (!ret) {
		ASSERT_EQ(0, gpu_counter(1, "mapped_now")) TH_LOG("failure %u", n);
	}
	*dead = gpu_state_is(1, "dead");
	if (*dead) {
		ASSERT_EQ(0, pages_on_device(0, self->p, LENGTH));
		close(self->gpu);
		ASSERT_EQ(0, gpu_driver("unbind", self->address));
		ASSERT_EQ(0, bind_and_open(self));
		/* The data is lost with the device. */
		ASSERT_EQ(0, madvise(self->p, LENGTH, MADV_DONTNEED));
		fill_pattern(self->p, LENGTH, 1);
	}
	ASSERT_EQ(-1, check_pattern(self->p, LENGTH, 1)) TH_LOG("failure %u", n);
	close(peer);
}

TEST_F_TIMEOUT(plug, reset, 600)
{
	unsigned int n, failures = 0, deaths = 0;
	bool failed, dead;

	for (n = 1; n < TOO_MANY; n++) {
		reset_with_failure(_metadata, self, n, &failed, &dead);
		if (!failed)
			break;
		failures++;
		deaths += dead;
	}
	ASSERT_GT(TOO_MANY, n);
	EXPECT_LT(0, failures);
	TH_LOG("%u failures, %u of them fatal", failures, deaths);
}

/*
 * The core has no memory to begin the reset.  The test above may miss that: the slab allocator
 * allocates a page only now and then, which shifts the number of all later failures.
 */
TEST_F_TIMEOUT(plug, reset_refused, 60)
{
	unsigned long start, end;
	bool failed, dead;

	ASSERT_EQ(0, find_function("hmm_p2p_reset_begin", &start, &end));
	ASSERT_EQ(0, only_function(start, end));
	reset_with_failure(_metadata, self, 1, &failed, &dead);
	ASSERT_EQ(0, attrs_init());
	EXPECT_TRUE(failed);
	EXPECT_TRUE(dead);
}

TEST_HARNESS_MAIN
