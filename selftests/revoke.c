// SPDX-License-Identifier: GPL-2.0
/*
 * Revoked aliases, resets of a device, and broken pages, while a NIC has the memory mapped and
 * transfers data.
 */
#include <pthread.h>
#include <signal.h>

#include "odp.h"
#include "parked.h"

#define NPAGES	256
#define LEN	(NPAGES * PAGE)

FIXTURE(revoke) {
	struct odp o;
};

FIXTURE_SETUP(revoke)
{
	const char *error = odp_open(&self->o, LEN);

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_TRUE(odp_place(&self->o, 1));
	ASSERT_EQ(NPAGES, gpu_counter(0, "mapped_now"));
}

FIXTURE_TEARDOWN(revoke)
{
	const char *error = odp_close(&self->o);

	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

static long on_gpu(FIXTURE_DATA(revoke) *self)
{
	return pages_on_device(0, self->o.mem, LEN);
}

/*
 * Aliases are revoked by range, by exporter and by importer.  Nothing stays mapped, nothing
 * moves.
 */
TEST_F_TIMEOUT(revoke, without_migrating, 120)
{
	struct hmm_dummy_info info;
	char name[64];

	ASSERT_EQ(0, gpu_info(self->o.gpu, &info));
	snprintf(name, sizeof(name), "revoke-importer %s",
		 ibv_get_device_name(self->o.pair.context->device));
	for (int how = 0; how < 3; how++) {
		/* The pages may have any order on the device. */
		for (size_t i = 0; i < LEN && how == 0; i += PAGE) {
			ASSERT_EQ(0, gpu_control(0, "revoke %lld 1",
						 gpu_offset(self->o.mem + i, NULL)));
		}
		if (how == 1) {
			ASSERT_EQ(0, gpu_control(0, "revoke 0 %llu",
						 (unsigned long long)info.vram_bytes));
		} else if (how == 2) {
			ASSERT_EQ(0, gpu_control(0, "%s", name));
		}
		EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
		EXPECT_EQ(NPAGES, on_gpu(self));
		EXPECT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, 2 + how));
		EXPECT_EQ(NPAGES, gpu_counter(0, "mapped_now"));
		EXPECT_EQ(NPAGES, on_gpu(self));
		EXPECT_EQ(-1, odp_check(&self->o, 2 + how));
	}
}

TEST_F(revoke, control_refuses)
{
	struct hmm_dummy_info info;

	ASSERT_EQ(0, gpu_info(self->o.gpu, &info));
	EXPECT_EQ(-1, gpu_control(0, "revoke 0 0"));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, gpu_control(0, "revoke 0 %llu",
				  (unsigned long long)info.vram_bytes + 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, gpu_control(0, "revoke"));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, gpu_control(0, "sing"));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, gpu_control(0, "reset 1 2"));
	EXPECT_EQ(EINVAL, errno);
	/* Tasks would wait for longer than a minute. */
	EXPECT_EQ(-1, gpu_control(0, "reset 60001"));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, gpu_control(0, "reset 4294967295"));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, gpu_control(0, "revoke-importer nobody"));
	EXPECT_EQ(NPAGES, gpu_counter(0, "mapped_now"));
}

struct worker {
	volatile bool stop;
	unsigned long done;
	int failed;
	const char *command;
};

static void *control_thread(void *arg)
{
	struct worker *w = arg;

	while (!w->stop) {
		double begin = now_seconds();

		if (gpu_control(0, "%s", w->command))
			w->failed = errno;
		w->done++;
		/* A slow machine needs as much time for the traffic in between. */
		usleep(1000 + (now_seconds() - begin) * 1e6);
	}
	return NULL;
}

/* A NIC transfers data while @command is repeated.  All data is right, and no page moves. */
static void under_traffic(struct __test_metadata *_metadata,
			  FIXTURE_DATA(revoke) *self, const char *command)
{
	struct worker w = { .command = command };
	long long to_ram = gpu_counter(0, "to_ram");
	double end = now_seconds() + 8, limit = end + 100;
	unsigned int round = 1;
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, control_thread, &w));
	while (now_seconds() < end || (round < 4 && now_seconds() < limit)) {
		round++;
		ASSERT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, round));
		ASSERT_EQ(-1, odp_check(&self->o, round));
	}
	w.stop = true;
	pthread_join(thread, NULL);
	TH_LOG("%u rounds, %lu times \"%s\"", round, w.done, command);
	EXPECT_EQ(0, w.failed);
	EXPECT_LT(2, w.done);
	EXPECT_LT(2, round);
	EXPECT_EQ(NPAGES, on_gpu(self));
	EXPECT_EQ(to_ram, gpu_counter(0, "to_ram"));
}

TEST_F_TIMEOUT(revoke, revoke_under_traffic, 240)
{
	struct hmm_dummy_info info;
	char command[64];

	ASSERT_EQ(0, gpu_info(self->o.gpu, &info));
	snprintf(command, sizeof(command), "revoke 0 %llu",
		 (unsigned long long)info.vram_bytes);
	under_traffic(_metadata, self, command);
}

TEST_F_TIMEOUT(revoke, reset_under_traffic, 240)
{
	under_traffic(_metadata, self, "reset 20");
}

/* PCI's own reset takes the whole device off the bus for a while. */
TEST_F_TIMEOUT(revoke, pci_reset, 120)
{
	char address[64], path[128];

	ASSERT_EQ(0, gpu_bus_address(0, address, sizeof(address)));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", address);
	ASSERT_EQ(0, write_file(path, "1"));
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(NPAGES, on_gpu(self));
	EXPECT_EQ(-1, odp_check(&self->o, 1));
	EXPECT_EQ(IBV_WC_SUCCESS, odp_write(&self->o, 2));
	EXPECT_EQ(NPAGES, on_gpu(self));
	EXPECT_EQ(-1, check_pattern(self->o.mem, LEN, 2));
}

/*
 * PCI detects an error on the bus during a reset, and recovers the device from it before or after
 * the end of the reset.  The memory is out of reach until both are over, and nothing is lost.
 */
TEST_F_TIMEOUT(revoke, error_in_reset, 120)
{
	struct reset reset;

	for (int i = 0; i < 2; i++) {
		ASSERT_TRUE(reset_begin(&reset, 0, self->o.mem, LEN));
		EXPECT_EQ(-1, gpu_control(0, "reset 0"));
		EXPECT_EQ(EBUSY, errno);
		ASSERT_EQ(0, gpu_control(0, "error"));
		EXPECT_EQ(0, i ? reset_end(&reset) : gpu_control(0, "recover"));
		EXPECT_TRUE(reset_is_on());
		EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
		EXPECT_EQ(0, on_gpu(self));
		EXPECT_EQ(0, i ? gpu_control(0, "recover") : reset_end(&reset));
		EXPECT_FALSE(reset_is_on());
		EXPECT_EQ(NPAGES, on_gpu(self));
		EXPECT_EQ(-1, odp_check(&self->o, 1));
		EXPECT_EQ(NPAGES, on_gpu(self));
	}
}

struct reader {
	const char *p;
	atomic_int tid;
	long wrong;
};

static void *reads_page(void *arg)
{
	struct reader *r = arg;

	atomic_store(&r->tid, gettid());
	r->wrong = check_pattern(r->p, PAGE, 1);
	return NULL;
}

/* The CPU waits for the end of a reset.  It then takes the page, with the data it had. */
TEST_F_TIMEOUT(revoke, cpu_waits_for_reset, 120)
{
	struct reader reader = { .p = self->o.mem };
	bool waits = false;
	struct reset reset;
	pthread_t thread;
	char task[64];

	ASSERT_TRUE(reset_begin(&reset, 0, self->o.mem, LEN));
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	ASSERT_EQ(0, pthread_create(&thread, NULL, reads_page, &reader));
	while (!waits && !atomic_load(&reset.over)) {
		snprintf(task, sizeof(task), "self/task/%d", atomic_load(&reader.tid));
		waits = waits_for_page(task);
		usleep(1000);
	}
	EXPECT_TRUE(waits);
	EXPECT_TRUE(reset_is_on());
	EXPECT_EQ(0, reset_end(&reset));
	EXPECT_FALSE(reset_is_on());
	pthread_join(thread, NULL);
	EXPECT_EQ(-1, reader.wrong);
	EXPECT_EQ(NPAGES - 1, on_gpu(self));
}

/* Page @i is broken.  An access to it fails, and the other pages work. */
static void broken_page(struct __test_metadata *_metadata,
			FIXTURE_DATA(revoke) *self, size_t i)
{
	struct rdma_buf bad = self->o.to, good = self->o.to;

	good.addr = self->o.mem + (i + 1) * PAGE;
	bad.addr = self->o.mem + i * PAGE;
	EXPECT_EQ(NPAGES - 1, on_gpu(self));
	EXPECT_EQ(NPAGES - 1, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(0, rdma_read(&self->o.pair, self->o.from, good, PAGE));
	EXPECT_EQ(0, memcmp(self->o.stage, self->o.mem + (i + 1) * PAGE, PAGE));
	EXPECT_EQ(-SIGBUS, touch_in_child(self->o.mem + i * PAGE));
	EXPECT_EQ(0, touch_in_child(self->o.mem + (i - 1) * PAGE));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  rdma_read(&self->o.pair, self->o.from, bad, PAGE));
	/* The address range can be used again. */
	ASSERT_EQ(0, madvise(self->o.mem + i * PAGE, PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, touch_in_child(self->o.mem + i * PAGE));
}

TEST_F_TIMEOUT(revoke, poison, 120)
{
	ASSERT_EQ(0, gpu_control(0, "poison %lld 1",
				 gpu_offset(self->o.mem + 7 * PAGE, NULL)));
	broken_page(_metadata, self, 7);
}

/* The sum of the exporter's histogram. */
static long long invalidations(void)
{
	long long sum = 0;
	char name[64];

	for (int i = 0; i < 16; i++) {
		snprintf(name, sizeof(name), "invalidations_below_%lu_us",
			 i < 15 ? 1UL << i : ~0UL);
		sum += gpu_counter(0, name);
	}
	return sum;
}

/* The counters of a pair count the process and the NIC of this test alone. */
TEST_F_TIMEOUT(revoke, pairs, 120)
{
	const char *nic = ibv_get_device_name(self->o.pair.context->device);
	long long before = invalidations(), mine;

	mine = gpu_pairs(0, nic, "invalidations");
	EXPECT_EQ(NPAGES, gpu_pairs(0, nic, "mapped_now"));
	EXPECT_EQ(NPAGES, gpu_pairs(0, nic, "mapped"));
	EXPECT_LE(NPAGES, gpu_pairs(0, nic, "faults"));
	EXPECT_EQ(0, gpu_pairs(0, nic, "fallback_read-only"));
	EXPECT_EQ(-1, gpu_pairs(0, "nobody", "mapped"));
	EXPECT_EQ(-1, gpu_pairs(1, nic, "mapped"));
	ASSERT_EQ(0, gpu_to_ram(self->o.gpu, self->o.mem, LEN));
	EXPECT_EQ(0, gpu_pairs(0, nic, "mapped_now"));
	EXPECT_LT(mine, gpu_pairs(0, nic, "invalidations"));
	EXPECT_EQ(gpu_pairs(0, nic, "invalidations") - mine,
		  invalidations() - before);
}

TEST_HARNESS_MAIN
