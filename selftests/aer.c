// SPDX-License-Identifier: GPL-2.0
/*
 * Errors on the bus above a GPU, while a NIC and the other GPU have its memory mapped.  The
 * kernel's aer_inject injects the errors, and the kernel really resets the slot.  The test leaves
 * hmm_dummy0 dead: the runner takes it off the bus and scans again.  Needs race.ko.
 */
#include <linux/pci_regs.h>

#include "peers.h"
#include "race.h"

#define STATE	"events/hmm_p2p/hmm_p2p_state/enable"

/* As in drivers/pci/pcie/aer_inject.c. */
struct aer_error {
	uint8_t bus, dev, fn;
	uint32_t uncor_status, cor_status, header_log[4], domain;
};

FIXTURE(aer) {
	struct peers p;
	char config[64];	/* of GPU 0 */
};

FIXTURE_SETUP(aer)
{
	char address[32];
	const char *error;

	error = peers_open(&self->p);
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_EQ(0, gpu_bus_address(0, address, sizeof(address)));
	snprintf(self->config, sizeof(self->config), "/sys/bus/pci/devices/%s/config", address);
	ASSERT_EQ(0, kprobes_on("p:" TRACE_PROBES "/slot hmm_dummy_slot_reset"));
	ASSERT_EQ(0, write_file(TRACE STATE, "1"));
	ASSERT_EQ(0, trace_clear());
}

FIXTURE_TEARDOWN(aer)
{
	const char *error;

	write_file(TRACE STATE, "0");
	kprobes_off();
	error = peers_close(&self->p);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

/* An error that the port above GPU 0 has detected.  0, or -1. */
static int inject(uint32_t uncor_status)
{
	struct aer_error e = { .uncor_status = uncor_status };
	char path[512], *port;
	unsigned int bus, dev, fn;
	int fd, ret;

	if (!realpath("/sys/class/misc/hmm_dummy0/device", path))
		return -1;
	*strrchr(path, '/') = 0;
	port = strrchr(path, '/') + 1;
	if (sscanf(port, "%x:%x:%x.%x", &e.domain, &bus, &dev, &fn) != 4)
		return -1;
	e.bus = bus;
	e.dev = dev;
	e.fn = fn;
	fd = open("/dev/aer_inject", O_WRONLY | O_CLOEXEC);
	ret = write(fd, &e, sizeof(e)) == sizeof(e) ? 0 : -1;
	close(fd);
	return ret;
}

static unsigned int command_register(FIXTURE_DATA(aer) *self)
{
	uint16_t command = 0;
	int fd = open(self->config, O_RDONLY | O_CLOEXEC);

	if (pread(fd, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
		command = 0xffff;
	close(fd);
	return command;
}

/* Until the kernel has recovered GPU 0 for the @nth time. */
static void recovered(long nth)
{
	while (trace_lines("exporter=hmm_dummy0 state=live") < nth)
		usleep(10000);
}

static void recovers(struct __test_metadata *_metadata, FIXTURE_DATA(aer) *self,
		     uint32_t error, bool slot_reset)
{
	unsigned int command = command_register(self);
	const char *wrong;

	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, inject(error));
		recovered(i);
		EXPECT_EQ(i, trace_lines("exporter=hmm_dummy0 state=resetting"));
		EXPECT_EQ(slot_reset ? i : 0, trace_lines("hmm_dummy_slot_reset"));
		EXPECT_EQ(command, command_register(self));
		EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
		EXPECT_EQ(2 * NPAGES, peers_on_gpu(&self->p));
		wrong = peers_check(&self->p, i);
		EXPECT_EQ(NULL, wrong) TH_LOG("%s", wrong);
		EXPECT_EQ(2 * NPAGES, peers_on_gpu(&self->p));
	}
	wrong = peers_check_by_cpu(&self->p, 4);
	EXPECT_EQ(NULL, wrong) TH_LOG("%s", wrong);
}

/* The link is of no use until the slot is reset. */
TEST_F_TIMEOUT(aer, fatal, 300)
{
	recovers(_metadata, self, PCI_ERR_UNC_DLP, true);
}

TEST_F_TIMEOUT(aer, non_fatal, 300)
{
	recovers(_metadata, self, PCI_ERR_UNC_COMP_TIME, false);
}

TEST_F_TIMEOUT(aer, under_traffic, 480)
{
	const char *error;

	peers_start(&self->p);
	for (int i = 1; i <= 6; i++) {
		EXPECT_TRUE(peers_go_on(&self->p, 2));
		ASSERT_EQ(0, inject(i % 2 ? PCI_ERR_UNC_DLP : PCI_ERR_UNC_COMP_TIME));
		recovered(i);
	}
	EXPECT_TRUE(peers_go_on(&self->p, 2));
	error = peers_stop(&self->p);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
	EXPECT_EQ(3, trace_lines("hmm_dummy_slot_reset"));
}

/* Last: a device that cannot recover is dead, and what others have is not touched. */
TEST_F_TIMEOUT(aer, no_recovery, 300)
{
	struct rdma_buf remote = self->p.o.to;
	unsigned int crc;

	ASSERT_EQ(0, gpu_to_device(self->p.gpu1, self->p.cpu, LEN));
	/* The driver is told that it cannot keep peers away. */
	ASSERT_EQ(0, write_file(PAIR, "hmm_p2p_reset_begin:busy 1000"));
	ASSERT_EQ(0, inject(PCI_ERR_UNC_DLP));
	while (!trace_lines("exporter=hmm_dummy0 state=dead"))
		usleep(10000);
	EXPECT_EQ(1, pair_lingered());
	ASSERT_EQ(0, write_file(PAIR, "off"));
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(0, pages_on_device(0, self->p.o.mem, LEN));
	EXPECT_EQ(-SIGBUS, touch_in_child(self->p.o.mem));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  rdma_read(&self->p.o.pair, self->p.o.from, remote, PAGE));
	EXPECT_EQ(-1, gpu_crc32c(self->p.o.gpu, self->p.cpu, LEN, &crc));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, gpu_crc32c(self->p.gpu1, self->p.read, LEN, &crc));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, check_pattern(self->p.cpu, LEN, 8));
	/* It is of no use for gpu_leak() in the end. */
	self->p.o.gpu = gpu_open(1);
}

TEST_HARNESS_MAIN
