// SPDX-License-Identifier: GPL-2.0
/*
 * The machine goes to sleep and wakes up, with pages on a GPU that a NIC, the other GPU and the
 * CPU use.  It goes through all phases that devices see (/sys/power/pm_test).
 */
#include "parked.h"
#include "peers.h"
#include "uring.h"

#define STATE	"events/hmm_p2p/hmm_p2p_state/enable"
#define COMMANDS	1000

FIXTURE(power) {
	struct peers p;
};

FIXTURE_SETUP(power)
{
	const char *error;

	ASSERT_EQ(0, write_file("/sys/power/pm_test", "platform"));
	ASSERT_EQ(0, write_file("/sys/module/suspend/parameters/pm_test_delay", "1"));
	ASSERT_EQ(0, write_file("/sys/power/mem_sleep", "deep"));
	error = peers_open(&self->p);
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_EQ(0, write_file(TRACE STATE, "1"));
	ASSERT_EQ(0, trace_clear());
}

FIXTURE_TEARDOWN(power)
{
	const char *error;

	write_file(TRACE STATE, "0");
	error = peers_close(&self->p);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

/* 0, or an errno. */
static int machine_sleeps(const char *state)
{
	return write_file("/sys/power/state", state) ? errno : 0;
}

/* How often GPU 0 has been out of reach, and has come back. */
static void was_out_of_reach(struct __test_metadata *_metadata, long times)
{
	EXPECT_EQ(times, trace_lines("exporter=hmm_dummy0 state=resetting"));
	EXPECT_EQ(times, trace_lines("exporter=hmm_dummy0 state=live"));
	EXPECT_EQ(times, trace_lines("exporter=hmm_dummy1 state=resetting"));
	EXPECT_EQ(times, trace_lines("exporter=hmm_dummy1 state=live"));
}

/* The memory has power in suspend-to-idle: no page moves, and no peer has one mapped. */
TEST_F_TIMEOUT(power, memory_stays, 300)
{
	const char *error;

	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, machine_sleeps("freeze"));
		was_out_of_reach(_metadata, i);
		EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
		EXPECT_EQ(2 * NPAGES, peers_on_gpu(&self->p));
		error = peers_check(&self->p, i);
		EXPECT_EQ(NULL, error) TH_LOG("%s", error);
		EXPECT_EQ(2 * NPAGES, peers_on_gpu(&self->p));
	}
	error = peers_check_by_cpu(&self->p, 4);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

/* It has none in suspend-to-RAM: all pages are in RAM before. */
TEST_F_TIMEOUT(power, memory_moves, 300)
{
	struct hmm_dummy_info info;
	const char *error;

	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, machine_sleeps("mem"));
		was_out_of_reach(_metadata, i);
		EXPECT_EQ(0, pages_on_device(0, self->p.o.mem, LEN));
		ASSERT_EQ(0, gpu_info(self->p.o.gpu, &info));
		EXPECT_EQ(info.vram_bytes, info.vram_free);
		error = peers_check(&self->p, i);
		EXPECT_EQ(NULL, error) TH_LOG("%s", error);
		/* And back. */
		ASSERT_EQ(0, gpu_to_device(self->p.o.gpu, self->p.o.mem, LEN));
		ASSERT_EQ(0, gpu_to_device(self->p.o.gpu, self->p.read, LEN));
		EXPECT_EQ(2 * NPAGES, peers_on_gpu(&self->p));
	}
	error = peers_check(&self->p, 4);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

/* Whether @first is in the trace, and @then behind it. */
static bool trace_has_then(const char *first, const char *then)
{
	FILE *f = fopen(TRACE "trace", "r");
	const char *next = first;
	char line[512];

	while (f && next && fgets(line, sizeof(line), f)) {
		if (line[0] == '#' || !strstr(line, next))
			continue;
		next = next == first ? then : NULL;
	}
	if (f)
		fclose(f);
	return !next;
}

/* PCI recovers a device from an error while the machine sleeps.  It sleeps on. */
TEST_F_TIMEOUT(power, error_asleep, 300)
{
	const char *error;

	ASSERT_EQ(0, kprobes_on("p:" TRACE_PROBES "/wakes hmm_dummy_resume_early"));
	ASSERT_EQ(0, gpu_control(0, "recover-asleep"));
	ASSERT_EQ(0, machine_sleeps("freeze"));
	was_out_of_reach(_metadata, 1);
	EXPECT_TRUE(trace_has_then("wakes:", "exporter=hmm_dummy0 state=live"));
	/* This also empties the trace. */
	kprobes_off();
	EXPECT_EQ(2 * NPAGES, peers_on_gpu(&self->p));
	error = peers_check(&self->p, 1);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
	EXPECT_EQ(2 * NPAGES, peers_on_gpu(&self->p));
}

/* The machine wakes up before PCI has recovered the device. */
TEST_F_TIMEOUT(power, error_outlasts_sleep, 300)
{
	const char *error;

	ASSERT_EQ(0, gpu_control(0, "error-asleep"));
	ASSERT_EQ(0, machine_sleeps("freeze"));
	EXPECT_TRUE(reset_is_on());
	EXPECT_EQ(0, trace_lines("exporter=hmm_dummy0 state=live"));
	EXPECT_EQ(0, peers_on_gpu(&self->p));
	ASSERT_EQ(0, gpu_control(0, "recover"));
	was_out_of_reach(_metadata, 1);
	EXPECT_EQ(2 * NPAGES, peers_on_gpu(&self->p));
	error = peers_check(&self->p, 1);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

static void under_traffic(struct __test_metadata *_metadata, FIXTURE_DATA(power) *self,
			  const char *state)
{
	const char *error;

	peers_start(&self->p);
	for (int i = 1; i <= 4; i++) {
		EXPECT_TRUE(peers_go_on(&self->p, 2));
		EXPECT_EQ(0, machine_sleeps(state));
		was_out_of_reach(_metadata, i);
	}
	EXPECT_TRUE(peers_go_on(&self->p, 2));
	error = peers_stop(&self->p);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
	TH_LOG("%lu, %lu and %lu steps", self->p.steps[0], self->p.steps[1], self->p.steps[2]);
}

TEST_F_TIMEOUT(power, traffic_goes_on, 480)
{
	under_traffic(_metadata, self, "freeze");
}

TEST_F_TIMEOUT(power, traffic_moves, 480)
{
	under_traffic(_metadata, self, "mem");
}

/* Lines of the trace with @what: before @begin, until @end, and after it. */
struct phases {
	const char *what, *begin, *end;
	unsigned long lines[3];
};

static void count_in_phases(struct phases *p)
{
	FILE *f = fopen(TRACE "trace", "r");
	unsigned int phase = 0;
	char line[512];

	memset(p->lines, 0, sizeof(p->lines));
	while (f && fgets(line, sizeof(line), f)) {
		if (line[0] == '#')
			continue;
		if (strstr(line, p->begin))
			phase = 1;
		else if (strstr(line, p->end) && phase)
			phase = 2;
		else if (strstr(line, p->what))
			p->lines[phase]++;
	}
	if (f)
		fclose(f);
}

/*
 * As the machine sleeps, @gpu has @commands to do, without a task that waits for one.  Each reads
 * @length bytes of the 2 MiB at @mem.
 */
static void sleeps_with_commands(struct __test_metadata *_metadata, int gpu, int commands,
				 size_t length, char *mem, struct phases *p)
{
	static struct hmm_dummy_command c[COMMANDS];
	unsigned long right = 0, cancelled = 0;
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	unsigned int crc;

	fill_pattern(mem, 2 * MiB, 3);
	crc = crc32c(mem, length);
	memset(c, 0, sizeof(c));
	ASSERT_EQ(0, io_uring_queue_init(1024, &ring, 0));
	for (int i = 0; i < commands; i++) {
		c[i] = (struct hmm_dummy_command) {
			.op = HMM_DUMMY_OP_CRC32C, .tag = 7, .queue = i % HMM_DUMMY_QUEUES,
			.length = length, .addr = (uintptr_t)mem,
		};
		uring_command(&ring, gpu, &c[i]);
	}
	ASSERT_TRUE(uring_submit(&ring, commands));
	EXPECT_EQ(0, machine_sleeps("freeze"));
	do {
		usleep(1000);
		count_in_phases(p);
	} while (!p->lines[2] && io_uring_cq_ready(&ring) < commands);
	gpu_cancel(gpu, 7);
	for (int i = 0; i < commands; i++) {
		ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
		cancelled += cqe->res == -ECANCELED;
		right += !cqe->res;
		io_uring_cqe_seen(&ring, cqe);
	}
	kprobes_off();
	EXPECT_EQ(commands, cancelled + right);
	for (int i = 0; i < commands; i++)
		EXPECT_TRUE(!c[i].value || c[i].value == crc);
	TH_LOG("%s: %lu, %lu, and %lu; %lu commands", p->what, p->lines[0], p->lines[1],
	       p->lines[2], right);
	EXPECT_LT(0, p->lines[0]);
	EXPECT_EQ(0, p->lines[1]);
	EXPECT_LT(0, p->lines[2]);
	io_uring_queue_exit(&ring);
}

/* Commands rest as the machine sleeps, and go on after that. */
TEST_F_TIMEOUT(power, engines_rest, 480)
{
	char *mem = anon_huge(2 * MiB, MADV_HUGEPAGE);
	struct phases p = {
		.what = "hmm_dummy_job_must_end", .begin = "state=resetting", .end = "state=live",
	};

	ASSERT_EQ(0, kprobes_on("p:" TRACE_PROBES "/step hmm_dummy_job_must_end"));
	sleeps_with_commands(_metadata, self->p.gpu1, COMMANDS, 2 * MiB, mem, &p);
	munmap(mem, 2 * MiB);
}

/* The same of QEMU's edu, a device without memory, which is slow. */
TEST_F_TIMEOUT(power, edu_rests, 480)
{
	char *mem = anon_huge(2 * MiB, MADV_HUGEPAGE);
	struct phases p = {
		.what = " step:", .begin = "state=resetting", .end = "state=live",
	};
	int edu = edu_open(NULL);

	ASSERT_LE(0, edu);
	ASSERT_EQ(0, kprobes_on("p:" TRACE_PROBES "/step hmm_dummy_test_engine_piece"));
	sleeps_with_commands(_metadata, edu, 100, 2000, mem, &p);
	ASSERT_EQ(0, gpu_fill(edu, mem, 100, 0x55));
	EXPECT_EQ(0x55, mem[99]);
	munmap(mem, 2 * MiB);
	close(edu);
}

static int rebind(const char *address, const char *edu_copies)
{
	return write_file("/sys/module/hmm_dummy/parameters/edu_copies", edu_copies) ?:
	       gpu_driver("unbind", address) ?: gpu_driver("bind", address);
}

/* edu copies for GPU 1: what moves before sleep, and again after it. */
TEST_F_TIMEOUT(power, copier_sleeps, 300)
{
	static const size_t length = 3 * PAGE;
	char *mem = anon_huge(2 * MiB, MADV_NOHUGEPAGE), address[32];

	fill_pattern(mem, length, 3);
	ASSERT_EQ(0, gpu_bus_address(1, address, sizeof(address)));
	close(self->p.gpu1);
	ASSERT_EQ(0, rebind(address, "Y"));
	self->p.gpu1 = gpu_open(1);
	ASSERT_EQ(0, gpu_to_device(self->p.gpu1, mem, length));
	ASSERT_EQ(3, pages_on_gpu(1, mem, length));
	ASSERT_EQ(0, machine_sleeps("mem"));
	EXPECT_EQ(0, pages_on_device(0, mem, length));
	EXPECT_EQ(-1, check_pattern(mem, length, 3));
	ASSERT_EQ(0, gpu_to_device(self->p.gpu1, mem, length));
	EXPECT_EQ(3, pages_on_gpu(1, mem, length));
	EXPECT_EQ(-1, check_pattern(mem, length, 3));
	EXPECT_EQ(4 * length, number_in("/sys/kernel/debug/hmm_dummy1/copied"));
	close(self->p.gpu1);
	ASSERT_EQ(0, rebind(address, "N"));
	self->p.gpu1 = gpu_open(1);
	ASSERT_LE(0, self->p.gpu1);
	munmap(mem, 2 * MiB);
}

/* Whether a process waits in the kernel and no signal but a fatal one ends that. */
static bool waits_in_kernel(pid_t pid)
{
	char path[64], text[128] = "", *state;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	state = strrchr(text, ')');
	return state && state[2] == 'D';
}

/* A task that waits for a command that takes longer does not keep the machine awake. */
TEST_F_TIMEOUT(power, waits_asleep, 300)
{
	unsigned int crc;
	pid_t child;

	ASSERT_EQ(0, gpu_control(1, "pause"));
	child = fork();
	if (!child)
		_exit(gpu_crc32c(self->p.gpu1, self->p.cpu, LEN, &crc) ||
		      crc != crc32c(self->p.cpu, LEN));
	while (!waits_in_kernel(child))
		usleep(1000);
	EXPECT_EQ(0, machine_sleeps("freeze"));
	was_out_of_reach(_metadata, 1);
	EXPECT_EQ(0, gpu_control(1, "resume"));
	EXPECT_EQ(0, wait_child(child));
}

TEST_HARNESS_MAIN
