// SPDX-License-Identifier: GPL-2.0
/*
 * read() and write() on a device access its scratch memory.  The device copies by DMA, so that
 * buffers stay where they are.
 */
#include <pthread.h>
#include <sys/uio.h>

#include "uring.h"

#define LEN	(MiB + 3 * PAGE)

FIXTURE(rw) {
	int gpu;
	int direct;
	char *p, *q;
	struct hmm_dummy_info info;
	ssize_t answer;
	pid_t reader;		/* __atomic */
};

FIXTURE_SETUP(rw)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	self->direct = open("/dev/hmm_dummy0", O_RDWR | O_DIRECT);
	ASSERT_LE(0, self->direct);
	ASSERT_EQ(0, gpu_info(self->gpu, &self->info));
	ASSERT_LE(LEN, self->info.scratch_bytes);
	self->p = anon(LEN);
	self->q = anon(LEN);
}

FIXTURE_TEARDOWN(rw)
{
	const char *leak;

	munmap(self->p, LEN);
	munmap(self->q, LEN);
	leak = gpu_leak(0, self->gpu);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->gpu);
	close(self->direct);
}

TEST_F(rw, there_and_back)
{
	fill_pattern(self->p, LEN, 1);
	ASSERT_EQ(LEN - 7, pwrite(self->gpu, self->p + 3, LEN - 7, 1001));
	ASSERT_EQ(LEN - 7, pread(self->direct, self->q + 5, LEN - 7, 1001));
	EXPECT_EQ(0, memcmp(self->p + 3, self->q + 5, LEN - 7));
	EXPECT_EQ(0, self->q[4]);
	EXPECT_EQ(0, self->q[LEN - 2]);
}

/* The buffers are on the device and stay there. */
TEST_F(rw, buffers_stay)
{
	fill_pattern(self->p, LEN, 2);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, LEN));
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->q, LEN));
	ASSERT_EQ(LEN, pwrite(self->gpu, self->p, LEN, 0));
	ASSERT_EQ(LEN, pread(self->gpu, self->q, LEN, 0));
	EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->q, LEN));
	EXPECT_EQ(-1, check_pattern(self->q, LEN, 2));
}

TEST_F(rw, position_and_end)
{
	size_t size = self->info.scratch_bytes;
	struct iovec v[3] = {
		{ self->p, 10 }, { self->p + PAGE + 1, PAGE }, { self->p + 3 * PAGE, 1 },
	};

	EXPECT_EQ(size, lseek(self->gpu, 0, SEEK_END));
	EXPECT_EQ(0, read(self->gpu, self->p, 5));
	EXPECT_EQ(-1, write(self->gpu, self->p, 5));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(size - 3, lseek(self->gpu, -3, SEEK_END));
	EXPECT_EQ(3, write(self->gpu, "abcde", 5));
	EXPECT_EQ(-1, lseek(self->gpu, 1, SEEK_END));
	EXPECT_EQ(3, pread(self->gpu, self->q, 100, size - 3));
	EXPECT_EQ(0, memcmp(self->q, "abc", 4));	/* and no d */
	fill_pattern(self->p, 4 * PAGE, 3);
	EXPECT_EQ(PAGE + 11, pwritev(self->gpu, v, 3, 77));
	EXPECT_EQ(10, pread(self->gpu, self->q, 10, 77));
	EXPECT_EQ(0, memcmp(self->q, self->p, 10));
	EXPECT_EQ(PAGE + 1, pread(self->gpu, self->q, PAGE + 1, 87));
	EXPECT_EQ(0, memcmp(self->q, self->p + PAGE + 1, PAGE));
	EXPECT_EQ(self->p[3 * PAGE], self->q[PAGE]);
	EXPECT_EQ(0, pread(self->gpu, self->p, 0, 0));
	v[0].iov_base = NULL;
	v[0].iov_len = 0;
	EXPECT_EQ(PAGE + 1, preadv(self->gpu, v, 3, 77));
}

/* Commands on scratch memory, also across the end of a chunk. */
TEST_F(rw, commands)
{
	struct hmm_dummy_command c = {
		.flags = HMM_DUMMY_IN_SCRATCH, .op = HMM_DUMMY_OP_CRC32C,
		.addr = 2 * MiB - PAGE + 1, .length = 2 * PAGE,
	};

	ASSERT_LE(2 * MiB + LEN, self->info.scratch_bytes);
	fill_pattern(self->p, LEN, 5);
	ASSERT_EQ(LEN, pwrite(self->gpu, self->p, LEN, 2 * MiB - PAGE));
	ASSERT_EQ(0, gpu_command(self->gpu, &c));
	EXPECT_EQ(crc32c(self->p + 1, 2 * PAGE), c.value);
	ASSERT_EQ(0, gpu_fill_scratch(self->gpu, 2 * MiB - 5, 10, 0x55));
	memset(self->p + PAGE - 5, 0x55, 10);
	ASSERT_EQ(LEN, pread(self->gpu, self->q, LEN, 2 * MiB - PAGE));
	EXPECT_EQ(0, memcmp(self->p, self->q, LEN));
	EXPECT_EQ(-1, gpu_fill_scratch(self->gpu, self->info.scratch_bytes - 5, 6, 1));
	EXPECT_EQ(EFAULT, errno);
}

/* An unreachable buffer fails the call, or ends it with the length that was done. */
TEST_F(rw, bad_buffers)
{
	volatile uintptr_t nowhere = 16;

	mprotect(self->q + PAGE, PAGE, PROT_READ);
	munmap(self->q + 3 * PAGE, PAGE);
	EXPECT_EQ(-1, pread(self->gpu, (void *)nowhere, 100, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, pread(self->gpu, self->q + PAGE, 100, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, pwrite(self->gpu, self->q + 3 * PAGE, 100, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(PAGE, pread(self->gpu, self->q, 2 * PAGE, 0));
	EXPECT_EQ(PAGE - 5, pwrite(self->gpu, self->q + 2 * PAGE + 5, 2 * PAGE, 0));
	EXPECT_EQ(-1, pread(self->gpu, self->q, 8, -8));
	EXPECT_EQ(EINVAL, errno);
}

/*
 * io_uring: many operations at once without workers, and a registered buffer, which the CPU
 * copies.
 */
TEST_F(rw, uring)
{
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	struct iovec v = { self->q, LEN };

	ASSERT_EQ(0, io_uring_queue_init(256, &ring, 0));
	fill_pattern(self->p, LEN, 4);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, LEN));
	for (int i = 0; i < 256; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_write(sqe, i % 2 ? self->gpu : self->direct,
				    self->p + i * PAGE, PAGE, i * PAGE);
	}
	ASSERT_EQ(256, io_uring_submit(&ring));
	for (int i = 0; i < 256; i++) {
		ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
		EXPECT_EQ(PAGE, cqe->res);
		io_uring_cqe_seen(&ring, cqe);
	}
	EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->p, LEN));

	/* Registering pins the buffer, and pinning moves it to RAM. */
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->q, LEN));
	ASSERT_EQ(0, io_uring_register_buffers(&ring, &v, 1));
	EXPECT_EQ(0, pages_on_device(0, self->q, LEN));
	io_uring_prep_read_fixed(io_uring_get_sqe(&ring), self->gpu, self->q, MiB, 0, 0);
	ASSERT_EQ(1, io_uring_submit(&ring));
	ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
	EXPECT_EQ(MiB, cqe->res);
	io_uring_cqe_seen(&ring, cqe);
	EXPECT_EQ(-1, check_pattern(self->q, MiB, 4));
	io_uring_queue_exit(&ring);
}

#define QUEUE_DEPTH	"/sys/module/hmm_dummy/parameters/queue_depth"

static void *read_one_page(void *arg)
{
	FIXTURE_DATA(rw) *self = arg;

	__atomic_store_n(&self->reader, gettid(), __ATOMIC_RELEASE);
	self->answer = pread(self->gpu, self->q, PAGE, 0);
	return NULL;
}

/* Read the kernel function in which read_one_page() sleeps, or "0" if it does not. */
static void reader_wchan(FIXTURE_DATA(rw) *self, char *name, size_t size)
{
	char path[64];
	int fd;

	memset(name, 0, size);
	snprintf(path, sizeof(path), "/proc/self/task/%d/wchan",
		 __atomic_load_n(&self->reader, __ATOMIC_ACQUIRE));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (read(fd, name, size - 1) < 0)
		name[0] = 0;
	close(fd);
}

/* Whether read_one_page() waits for room in the queue. */
static bool reader_waits(FIXTURE_DATA(rw) *self)
{
	char name[64] = "";

	for (int i = 0; i < 2000 && strcmp(name, "hmm_dummy_wait_room"); i++) {
		usleep(10000);
		reader_wchan(self, name, sizeof(name));
	}
	return !strcmp(name, "hmm_dummy_wait_room");
}

/* When a queue is full, a blocking call waits and a non-blocking one returns -EAGAIN. */
TEST_F_TIMEOUT(rw, waits_for_room, 60)
{
	struct iovec v = { self->p, PAGE };
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	pthread_t thread;

	ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
	fill_pattern(self->p, PAGE, 6);
	/* With RWF_NOWAIT the call fails even if there is room, because the device needs time. */
	EXPECT_EQ(-1, pwritev2(self->gpu, &v, 1, 0, RWF_NOWAIT));
	EXPECT_EQ(EAGAIN, errno);
	ASSERT_EQ(0, write_file(QUEUE_DEPTH, "1"));
	EXPECT_EQ(0, gpu_control(0, "pause"));
	io_uring_prep_write(io_uring_get_sqe(&ring), self->gpu, self->p, PAGE, 0);
	EXPECT_EQ(1, io_uring_submit(&ring));
	EXPECT_EQ(-1, pwritev2(self->gpu, &v, 1, 0, RWF_NOWAIT));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(0, pthread_create(&thread, NULL, read_one_page, self));
	EXPECT_TRUE(reader_waits(self));
	EXPECT_EQ(0, self->answer);
	EXPECT_EQ(0, gpu_control(0, "resume"));
	EXPECT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(PAGE, self->answer);
	EXPECT_EQ(-1, check_pattern(self->q, PAGE, 6));
	EXPECT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
	EXPECT_EQ(PAGE, cqe->res);
	EXPECT_EQ(0, write_file(QUEUE_DEPTH, "1024"));
	io_uring_queue_exit(&ring);
}

/* Cancelled commands make room, also behind one that stays. */
TEST_F_TIMEOUT(rw, cancel_makes_room, 60)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_CRC32C, .addr = (uintptr_t)self->p, .length = PAGE,
		.tag = 7,
	};
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	pthread_t thread;
	int result = 0;

	ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
	fill_pattern(self->p, PAGE, 6);
	ASSERT_EQ(0, write_file(QUEUE_DEPTH, "2"));
	EXPECT_EQ(0, gpu_control(0, "pause"));
	io_uring_prep_write(io_uring_get_sqe(&ring), self->gpu, self->p, PAGE, 0);
	uring_command(&ring, self->gpu, &c);
	EXPECT_EQ(2, io_uring_submit(&ring));
	EXPECT_EQ(0, pthread_create(&thread, NULL, read_one_page, self));
	EXPECT_TRUE(reader_waits(self));
	EXPECT_EQ(0, gpu_cancel(self->gpu, 7));
	EXPECT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
	EXPECT_EQ(-ECANCELED, cqe->res);
	io_uring_cqe_seen(&ring, cqe);
	/* The waiting reader gets the room, so there is none for this command. */
	for (int i = 0; i < 50 && result != -EAGAIN; i++) {
		usleep(100000);
		uring_command(&ring, self->gpu, &c);
		EXPECT_EQ(1, io_uring_submit(&ring));
		gpu_cancel(self->gpu, 7);
		EXPECT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
		result = cqe->res;
		io_uring_cqe_seen(&ring, cqe);
	}
	EXPECT_EQ(-EAGAIN, result);
	EXPECT_EQ(0, gpu_control(0, "resume"));
	EXPECT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(PAGE, self->answer);
	EXPECT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
	EXPECT_EQ(PAGE, cqe->res);
	EXPECT_EQ(0, write_file(QUEUE_DEPTH, "1024"));
	io_uring_queue_exit(&ring);
}

/* A file that a child has inherited reads into the child's memory. */
TEST_F(rw, inherited)
{
	pid_t child;

	fill_pattern(self->p, PAGE, 5);
	ASSERT_EQ(PAGE, pwrite(self->gpu, self->p, PAGE, 0));
	child = fork();
	if (!child) {
		if (pread(self->gpu, self->q, PAGE, 0) != PAGE)
			_exit(1);
		_exit(check_pattern(self->q, PAGE, 5) == -1 ? 0 : 2);
	}
	EXPECT_EQ(0, wait_child(child));
	EXPECT_EQ(0, self->q[1]);
}

TEST_HARNESS_MAIN
