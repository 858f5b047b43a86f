// SPDX-License-Identifier: GPL-2.0
/*
 * What a device does to come to rest waits for no reset: not for one of its own that has begun
 * before, nor for that of another device.  The PCI core resets devices together: the first one's
 * reset ends when the last one's has begun.
 *
 *	GPU 0		a process				GPU 1
 *	  reset begins
 *			reads /proc/self/mem: has mmap_lock,
 *			waits for a page of GPU 0
 *			mmap(): waits for mmap_lock
 *			work for GPU 1: waits for mmap_lock
 *								  error: its engines rest
 *
 * Nothing is measured against a clock: what GPU 1 does has not waited if GPU 0 is still in reset.
 */
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "parked.h"
#include "uring.h"

#define LEN	(2 * MiB)
#define ADDED	7
#define TAG	1
#define QUERIED	(1UL << 30)

enum way { SYSTEM_CALL, RING, CANCEL, QUERY, MIGRATE };

/* What tasks wait for. */
enum wait { PARKED_PAGE, LOCK_TO_WRITE, DUMMY, JOB, LIVE };

/*
 * Whether a task with this stack in the kernel waits for @what.  The first line is the function
 * that waits: the stack does not show those of the scheduler and of locks.
 */
static bool stack_waits(const char *text, enum wait what)
{
	char first[128];

	snprintf(first, sizeof(first), "%.*s", (int)strcspn(text, "\n"), text);
	switch (what) {
	case PARKED_PAGE:
		return strstr(first, WAITS_THERE) && strstr(text, "access_remote_vm");
	case LOCK_TO_WRITE:
		return strstr(first, "mmap");
	case DUMMY:
		return strstr(text, "[hmm_dummy]") && !strstr(first, "job_");
	case JOB:
		return strstr(first, "job_");
	case LIVE:
		return strstr(first, "hmm_p2p_live_get");
	}
	return false;
}

/* Whether one of the tasks in @folder, which is /proc or a task folder in it, waits for @what. */
static bool some_task_waits(const char *folder, enum wait what)
{
	char path[320], text[8192];
	struct dirent *entry;
	DIR *dir = opendir(folder);
	bool found = false;
	ssize_t n;
	int fd;

	while (dir && !found && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s/stack", folder, entry->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
		text[n < 0 ? 0 : n] = 0;
		found = stack_waits(text, what);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* The same for the tasks of @pid, or 0 for the caller's, and for kernel threads. */
static bool waits_for(pid_t pid, enum wait what)
{
	char folder[64] = "/proc/self/task";

	if (pid)
		snprintf(folder, sizeof(folder), "/proc/%d/task", pid);
	return some_task_waits(folder, what) || some_task_waits("/proc", what);
}

FIXTURE(two_resets) {
	int told[2];
	int tell[2];
	pid_t pid;
	char *p, *work;
};

FIXTURE_VARIANT(two_resets) {
	enum way way;
	unsigned int op;
};

FIXTURE_VARIANT_ADD(two_resets, fill) { SYSTEM_CALL, HMM_DUMMY_OP_FILL };
FIXTURE_VARIANT_ADD(two_resets, fill_by_ring) { RING, HMM_DUMMY_OP_FILL };
FIXTURE_VARIANT_ADD(two_resets, add) { SYSTEM_CALL, HMM_DUMMY_OP_ATOMIC_ADD };
FIXTURE_VARIANT_ADD(two_resets, add_by_ring) { RING, HMM_DUMMY_OP_ATOMIC_ADD };
FIXTURE_VARIANT_ADD(two_resets, add_and_cancel) { CANCEL, HMM_DUMMY_OP_ATOMIC_ADD };
FIXTURE_VARIANT_ADD(two_resets, to_device) { SYSTEM_CALL, HMM_DUMMY_OP_TO_DEVICE };
FIXTURE_VARIANT_ADD(two_resets, to_device_by_ring) { RING, HMM_DUMMY_OP_TO_DEVICE };
FIXTURE_VARIANT_ADD(two_resets, to_ram) { SYSTEM_CALL, HMM_DUMMY_OP_TO_RAM };
FIXTURE_VARIANT_ADD(two_resets, query) { QUERY, HMM_DUMMY_OP_FILL };

/* What the threads of the process do, one after the other. */
static atomic_int stage, nr_ready;
static char *parked, *work;
static int gpu_at_work, work_result = -1;
static enum way work_way;
static struct hmm_dummy_command work_command;

/* After this a thread calls nothing that takes mmap_lock before its stage. */
static void wait_for_stage(int n)
{
	atomic_fetch_add(&nr_ready, 1);
	while (atomic_load(&stage) < n)
		usleep(1000);
}

static void *reader_thread(void *arg)
{
	int fd = open("/proc/self/mem", O_RDONLY);
	char byte;

	wait_for_stage(1);
	return pread(fd, &byte, 1, (uintptr_t)parked) == 1 && byte == (char)pattern(0, 1) ?
	       NULL : arg;
}

static void *writer_thread(void *arg)
{
	wait_for_stage(2);
	return anon(PAGE) == MAP_FAILED ? arg : NULL;
}

static int command_by_ring(void)
{
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int ret;

	if (io_uring_queue_init(4, &ring, 0))
		return -1;
	uring_command(&ring, gpu_at_work, &work_command);
	wait_for_stage(3);
	if (!uring_submit(&ring, 1) || io_uring_wait_cqe(&ring, &cqe))
		return -1;
	ret = cqe->res;
	io_uring_queue_exit(&ring);
	return ret;
}

/* 0 if the first page of @length bytes is in RAM. */
static int query(int gpu, char *p, size_t length)
{
	static uint8_t where[QUERIED / PAGE];
	struct hmm_dummy_query q = {
		.size = sizeof(q), .addr = (uintptr_t)p, .length = length, .pidfd = -1,
		.vec = (uintptr_t)where,
	};

	memset(where, 0xff, length / PAGE);
	return ioctl(gpu, HMM_DUMMY_QUERY, &q) || where[0] != HMM_DUMMY_AT_RAM;
}

/*
 * A query that has begun takes mmap_lock for each 2 MiB.  All but a few meet the writer there, and
 * those wait before they begin.
 */
static int query_again_and_again(void)
{
	int ret = 0;

	wait_for_stage(1);
	while (!ret && atomic_load(&stage) < 3) {
		errno = 0;
		ret = query(gpu_at_work, work, QUERIED);
		/* It has waited for mmap_lock for longer than a second. */
		if (errno == EBUSY)
			ret = 0;
	}
	return ret;
}

static void *work_thread(void *arg)
{
	switch (work_way) {
	case RING:
	case CANCEL:
		work_result = command_by_ring();
		break;
	case QUERY:
		work_result = query_again_and_again();
		break;
	case MIGRATE:
		wait_for_stage(3);
		work_result = gpu_to_device(gpu_at_work, work, PAGE);
		break;
	case SYSTEM_CALL:
		wait_for_stage(3);
		work_result = gpu_command(gpu_at_work, &work_command);
		break;
	}
	return NULL;
}

/* Whether the work has had its effect. */
static bool work_is_done(void)
{
	long there = pages_on_gpu(1, work, PAGE);

	switch (work_command.op) {
	case HMM_DUMMY_OP_ATOMIC_ADD:
		return *(uint64_t *)work == 2 * ADDED;
	case HMM_DUMMY_OP_TO_DEVICE:
		return there == 1;
	case HMM_DUMMY_OP_TO_RAM:
		/* A page that the error has parked stays, and the command says so. */
		return there + work_command.value == 1;
	}
	return work_way == QUERY || *work == (char)work_command.value;
}

static bool work_prepare(enum way way, unsigned int op)
{
	work_way = way;
	work_command = (struct hmm_dummy_command) {
		.op = op, .addr = (uintptr_t)work, .length = op < HMM_DUMMY_OP_TO_DEVICE ? 8 : PAGE,
		.value = op < HMM_DUMMY_OP_TO_DEVICE ? ADDED : 0, .tag = TAG,
	};
	*work = 1;
	/* The first one waits to write for mmap_lock, before it asks for the devices. */
	if (way == QUERY)
		return !query(gpu_at_work, work, QUERIED);
	*work = 0;
	if (op == HMM_DUMMY_OP_TO_RAM)
		return !gpu_to_device(gpu_at_work, work, PAGE);
	/* The device has an entry, and the page is in RAM. */
	return op != HMM_DUMMY_OP_ATOMIC_ADD || !gpu_command(gpu_at_work, &work_command);
}

/* The process.  Each byte that it reads begins a stage. */
static int process(enum way way, unsigned int op, int told, int tell)
{
	pthread_t threads[3];
	void *failed, *all = NULL;
	int gpu0 = gpu_open(0), i;
	char byte;

	gpu_at_work = gpu_open(1);
	parked = anon_huge(LEN, MADV_NOHUGEPAGE);
	work = way == QUERY ? reserve(QUERIED) : anon_huge(LEN, MADV_NOHUGEPAGE);
	fill_pattern(parked, LEN, 1);
	if (!work_prepare(way, op) || gpu_to_device(gpu0, parked, LEN) ||
	    pthread_create(&threads[0], NULL, reader_thread, &stage) ||
	    pthread_create(&threads[1], NULL, writer_thread, &stage) ||
	    pthread_create(&threads[2], NULL, work_thread, &stage))
		return 1;
	while (atomic_load(&nr_ready) < 3)
		usleep(1000);
	if (write(tell, &parked, sizeof(parked)) != sizeof(parked) ||
	    write(tell, &work, sizeof(work)) != sizeof(work))
		return 2;
	for (i = 0; i < 3; i++) {
		if (read(told, &byte, 1) != 1)
			return 3;
		atomic_fetch_add(&stage, 1);
	}
	if (way == CANCEL && (read(told, &byte, 1) != 1 || gpu_cancel(gpu_at_work, TAG) ||
			      write(tell, &byte, 1) != 1))
		return 4;
	for (i = 0; i < 3; i++) {
		pthread_join(threads[i], &failed);
		all = all ?: failed;
	}
	if (all || work_result)
		return 5;
	/* The device has recovered, and no page is parked. */
	if (read(told, &byte, 1) != 1)
		return 6;
	return work_is_done() ? 0 : 7;
}

FIXTURE_SETUP(two_resets)
{
	ASSERT_EQ(0, pipe(self->told));
	ASSERT_EQ(0, pipe(self->tell));
	self->pid = fork();
	if (!self->pid) {
		close(self->told[1]);
		_exit(process(variant->way, variant->op, self->told[0], self->tell[1]));
	}
	close(self->tell[1]);
	ASSERT_EQ(sizeof(self->p), read(self->tell[0], &self->p, sizeof(self->p)));
	ASSERT_EQ(sizeof(self->p), read(self->tell[0], &self->work, sizeof(self->work)));
}

FIXTURE_TEARDOWN(two_resets)
{
	close(self->told[0]);
	close(self->told[1]);
	close(self->tell[0]);
}

/*
 * Begin the next stage, and wait until a task of the process or a kernel thread waits for @what.
 * It is seen ten times, since a task may wait for a moment on its way there.
 */
static bool next_stage(int told, struct reset *reset, pid_t pid, enum wait what)
{
	int seen = 0;

	if (write(told, "x", 1) != 1)
		return false;
	while (!atomic_load(&reset->over) && seen < 10) {
		seen = waits_for(pid, what) ? seen + 1 : 0;
		usleep(1000);
	}
	return seen == 10;
}

/* The number at @p in the memory of @pid. */
static uint64_t number_of(pid_t pid, char *p)
{
	uint64_t value = 0;
	struct iovec to = { &value, sizeof(value) }, from = { p, sizeof(value) };

	return process_vm_readv(pid, &to, 1, &from, 1, 0) == sizeof(value) ? value : 0;
}

/* False if the thread that has the job ends and has never waited for it. */
static bool process_waits_for_job(pid_t pid)
{
	struct stat tasks = {};
	char folder[64];

	snprintf(folder, sizeof(folder), "/proc/%d/task", pid);
	/* A folder has two links, and one for each folder in it. */
	while (!stat(folder, &tasks) && tasks.st_nlink > 3) {
		if (waits_for(pid, JOB))
			return true;
		usleep(1000);
	}
	return false;
}

TEST_F_TIMEOUT(two_resets, do_not_wait, 120)
{
	int gpu = gpu_open(1);
	char *own = anon(PAGE), byte;
	struct reset reset;

	*own = 1;
	ASSERT_TRUE(reset_begin(&reset, self->pid, self->p, LEN));
	EXPECT_TRUE(next_stage(self->told[1], &reset, self->pid, PARKED_PAGE));
	EXPECT_TRUE(next_stage(self->told[1], &reset, self->pid, LOCK_TO_WRITE));
	EXPECT_TRUE(next_stage(self->told[1], &reset, self->pid, DUMMY));
	/* Of another process, which need not wait for the first one. */
	EXPECT_EQ(0, query(gpu, own, PAGE));
	if (variant->way == CANCEL) {
		/* The command has begun with its last piece, and so ends with its own result. */
		EXPECT_EQ(1, write(self->told[1], "x", 1));
		EXPECT_EQ(1, read(self->tell[0], &byte, 1));
		EXPECT_TRUE(reset_is_on());
		EXPECT_EQ(0, reset_end(&reset));
	} else {
		EXPECT_EQ(0, gpu_control(1, "error"));
		EXPECT_TRUE(reset_is_on());
		EXPECT_EQ(0, reset_end(&reset));
		if (variant->op == HMM_DUMMY_OP_ATOMIC_ADD && variant->way == SYSTEM_CALL) {
			EXPECT_TRUE(process_waits_for_job(self->pid));
			/* The task has seen that the device rests, and waits for its engines. */
			EXPECT_EQ(ADDED, number_of(self->pid, self->work));
		}
		EXPECT_EQ(0, gpu_control(1, "recover"));
	}
	EXPECT_EQ(1, write(self->told[1], "x", 1));
	EXPECT_EQ(0, wait_child(self->pid));
	close(gpu);
}

FIXTURE(own_reset) {
	pthread_t thread;
};

FIXTURE_VARIANT(own_reset) {
	enum way way;
};

FIXTURE_VARIANT_ADD(own_reset, migrate) { MIGRATE };
FIXTURE_VARIANT_ADD(own_reset, command) { SYSTEM_CALL };
FIXTURE_VARIANT_ADD(own_reset, command_by_ring) { RING };

FIXTURE_SETUP(own_reset)
{
	parked = anon_huge(LEN, MADV_NOHUGEPAGE);
	work = anon_huge(LEN, MADV_NOHUGEPAGE);
	gpu_at_work = gpu_open(0);
	fill_pattern(parked, LEN, 1);
	ASSERT_EQ(0, gpu_to_device(gpu_at_work, parked, LEN));
	ASSERT_TRUE(work_prepare(variant->way, HMM_DUMMY_OP_TO_DEVICE));
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, work_thread, NULL));
}

FIXTURE_TEARDOWN(own_reset)
{
	munmap(work, LEN);
	munmap(parked, LEN);
	close(gpu_at_work);
}

/*
 * A migration waits for the reset of its device.  What the device does when its bus has an error
 * does not wait for the migration, and other tasks find the device there.
 */
TEST_F_TIMEOUT(own_reset, error, 120)
{
	struct reset reset;

	ASSERT_TRUE(reset_begin(&reset, 0, parked, LEN));
	atomic_store(&stage, 3);
	while (!atomic_load(&reset.over) && !waits_for(0, LIVE))
		usleep(1000);
	EXPECT_EQ(0, gpu_control(0, "error"));
	/* The error is a reset, too, and lasts. */
	EXPECT_FALSE(atomic_load(&reset.over));
	EXPECT_EQ(0, reset_end(&reset));
	EXPECT_EQ(0, gpu_control(0, "recover"));
	pthread_join(self->thread, NULL);
	EXPECT_EQ(0, work_result);
	EXPECT_TRUE(pages_on_gpu(0, work, PAGE));
	EXPECT_EQ(-1, check_pattern(parked, LEN, 1));
}

TEST_HARNESS_MAIN
