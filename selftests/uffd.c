// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that user space fetches by itself (userfaultfd): the device waits for it as a CPU
 * would, for who waits for the device, and keeps nobody who is killed.
 */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <signal.h>

#include "uring.h"

#define LEN	(4 * PAGE)

/* Watches memory that nobody has touched. */
static int watch(void *p)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, LEN }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		return -1;
	return fd;
}

static void *fetches(void *arg)
{
	int fd = (intptr_t)arg;
	static char page[PAGE];
	struct uffd_msg msg;

	memset(page, 0xab, PAGE);
	for (int i = 0; i < 4; i++) {
		struct uffdio_copy copy = { .src = (uintptr_t)page, .len = PAGE };

		if (read(fd, &msg, sizeof(msg)) != sizeof(msg))
			break;
		copy.dst = msg.arg.pagefault.address & -PAGE;
		ioctl(fd, UFFDIO_COPY, &copy);
	}
	return NULL;
}

TEST(waits_for_user_space)
{
	int gpu = gpu_open(0);
	char *p = anon(LEN);
	unsigned int crc, again;
	pthread_t t;
	int fd = watch(p);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pthread_create(&t, NULL, fetches, (void *)(intptr_t)fd));
	ASSERT_EQ(0, gpu_crc32c(gpu, p, LEN, &crc));
	pthread_join(t, NULL);
	for (size_t i = 0; i < LEN; i++) {
		ASSERT_EQ(0xab, (unsigned char)p[i]);
	}
	ASSERT_EQ(0, gpu_crc32c(gpu, p, LEN, &again));
	EXPECT_EQ(crc, again);
	munmap(p, LEN);
	close(fd);
	close(gpu);
}

/* Nobody fetches it, and then the process is killed: it ends, and the device goes on. */
TEST_LONG(killed, 60)
{
	int gpu = gpu_open(0);
	char *q = anon(PAGE);

	for (int i = 0; i < 3; i++) {
		double begin;
		pid_t child = fork();

		if (!child) {
			char *p = anon(LEN);
			int own = gpu_open(0);

			if (watch(p) < 0)
				_exit(1);
			gpu_fill(own, p, LEN, 1);
			_exit(2);
		}
		usleep(500000);
		begin = now_seconds();
		kill(child, SIGKILL);
		EXPECT_EQ(-SIGKILL, wait_child(child));
		EXPECT_GT(20, now_seconds() - begin);
		EXPECT_EQ(0, gpu_fill(gpu, q, PAGE, i));
		EXPECT_EQ(i, q[7]);
	}
	munmap(q, PAGE);
	close(gpu);
}

struct fill {
	int gpu;
	struct hmm_dummy_command c;
	int error;
	atomic_bool done;
};

static void *fills(void *arg)
{
	struct fill *fill = arg;

	fill->error = gpu_command(fill->gpu, &fill->c) ? errno : 0;
	fill->done = true;
	return NULL;
}

/* A command that has its page, but is cancelled, does not wait for engines that rest. */
TEST_LONG(cancelled_at_rest, 120)
{
	char *p = anon(LEN), page[PAGE] = {};
	struct fill fill = {
		.gpu = gpu_open(0),
		.c = { .op = HMM_DUMMY_OP_FILL, .addr = (uintptr_t)p, .length = PAGE, .tag = 9 },
	};
	struct uffdio_copy copy = { .dst = (uintptr_t)p, .src = (uintptr_t)page, .len = PAGE };
	struct uffd_msg msg;
	pthread_t t;
	int fd = watch(p);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pthread_create(&t, NULL, fills, &fill));
	ASSERT_EQ(sizeof(msg), read(fd, &msg, sizeof(msg)));
	ASSERT_EQ(0, gpu_control(0, "pause"));
	EXPECT_EQ(0, gpu_cancel(fill.gpu, 9));
	EXPECT_EQ(0, ioctl(fd, UFFDIO_COPY, &copy));
	for (int i = 0; i < 300 && !fill.done; i++)
		usleep(100000);
	EXPECT_TRUE(fill.done);
	EXPECT_EQ(0, gpu_control(0, "resume"));
	pthread_join(t, NULL);
	EXPECT_EQ(ECANCELED, fill.error);
	munmap(p, LEN);
	close(fd);
	close(fill.gpu);
}

static void *migrates(void *arg)
{
	int gpu = gpu_open(1), ret = ioctl(gpu, HMM_DUMMY_MIGRATE, arg);

	close(gpu);
	return (void *)(intptr_t)ret;
}

/* An answer that user space does not take does not keep the driver. */
TEST_LONG(answer_not_taken, 60)
{
	struct hmm_dummy_migrate m = { .size = sizeof(m), .pidfd = -1, .length = 4 * PAGE };
	char *p = anon(LEN), *vec = anon(LEN), address[32];
	int fd = watch(vec), gpu;
	void *status;
	pthread_t t;

	ASSERT_LE(0, fd);
	memset(p, 7, LEN);
	m.addr = (uintptr_t)p;
	m.vec = (uintptr_t)vec;
	ASSERT_EQ(0, gpu_bus_address(1, address, sizeof(address)));
	ASSERT_EQ(0, pthread_create(&t, NULL, migrates, &m));
	/* It has been moved, and waits for where to say so. */
	while (pages_on_device(0, p, LEN) < 4)
		usleep(1000);
	usleep(200000);
	ASSERT_EQ(0, gpu_driver("unbind", address));
	EXPECT_EQ(0, pages_on_device(0, p, LEN));
	close(fd);
	pthread_join(t, &status);
	/* With no file of the one that went, the new one has its name. */
	ASSERT_EQ(0, gpu_driver("bind", address));
	EXPECT_EQ(0, (intptr_t)status);
	EXPECT_EQ(4, m.migrated);
	for (size_t i = 0; i < 4; i++) {
		EXPECT_EQ(HMM_DUMMY_MOVED, vec[i]);
	}
	EXPECT_EQ(7, p[LEN - 1]);
	gpu = gpu_open(1);
	EXPECT_LE(0, gpu);
	close(gpu);
	munmap(p, LEN);
	munmap(vec, LEN);
}

/* Where nobody waits in a system call it is refused, and its queue goes on. */
TEST(not_in_the_background)
{
	struct hmm_dummy_command c[2] = {};
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int gpu = gpu_open(0);
	char *p = anon(LEN), *q = anon(LEN);
	int fd = watch(p);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
	for (int i = 0; i < 2; i++) {
		c[i] = (struct hmm_dummy_command) {
			.op = HMM_DUMMY_OP_FILL, .value = 5,
			.addr = (uintptr_t)(i ? q : p), .length = LEN,
		};
		uring_command(&ring, gpu, &c[i])->user_data = i;
	}
	ASSERT_EQ(2, io_uring_submit(&ring));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
		EXPECT_EQ(i, cqe->user_data);
		EXPECT_EQ(i ? 0 : -EOPNOTSUPP, cqe->res);
		io_uring_cqe_seen(&ring, cqe);
	}
	EXPECT_EQ(5, q[LEN - 1]);
	io_uring_queue_exit(&ring);
	munmap(p, LEN);
	munmap(q, LEN);
	close(fd);
	close(gpu);
}

TEST_HARNESS_MAIN
