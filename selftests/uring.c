// SPDX-License-Identifier: GPL-2.0
/* Commands by io_uring: many at once, in order, cancelled, refused, and left behind. */
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "uring.h"

#define LEN	(MiB)
#define DEPTH	1024

FIXTURE(uring) {
	int gpu;
	char *p;
	struct io_uring ring;
};

FIXTURE_VARIANT(uring) {
	unsigned int flags;
};
FIXTURE_VARIANT_ADD(uring, plain) { .flags = 0 };
FIXTURE_VARIANT_ADD(uring, sqpoll) { .flags = IORING_SETUP_SQPOLL };
FIXTURE_VARIANT_ADD(uring, big) { .flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32 };

FIXTURE_SETUP(uring)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	self->p = anon(LEN);
	fill_pattern(self->p, LEN, 1);
	ASSERT_EQ(0, io_uring_queue_init(2 * DEPTH, &self->ring, variant->flags));
	ASSERT_EQ(0, gpu_control(0, "resume"));
}

FIXTURE_TEARDOWN(uring)
{
	const char *leak;

	EXPECT_EQ(0, gpu_control(0, "resume"));
	io_uring_queue_exit(&self->ring);
	munmap(self->p, LEN);
	leak = gpu_leak(0, self->gpu);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->gpu);
}

/* Prepare command @c, by address or, in a ring with large entries, by value. */
static void prepare(struct io_uring *ring, int gpu, struct hmm_dummy_command *c,
		    unsigned long user_data)
{
	struct io_uring_sqe *sqe;

	c->size = sizeof(*c);
	if (ring->flags & IORING_SETUP_SQE128) {
		struct hmm_dummy_inline *in;

		sqe = uring_sqe(ring, gpu, HMM_DUMMY_COMMAND_INLINE);
		in = uring_payload(sqe);
		*in = (struct hmm_dummy_inline) {
			.op = c->op, .queue = c->queue, .addr = c->addr, .src = c->src,
			.length = c->length, .value = c->value, .pattern = c->pattern,
			.unit = c->unit, .stride = c->stride, .seed = c->seed,
			.tag = c->tag,
		};
	} else {
		sqe = uring_command(ring, gpu, c);
	}
	sqe->user_data = user_data;
}

struct completion {
	unsigned long user_data;
	int result;
	unsigned long long value;	/* CQE32 */
};

static int next(struct io_uring *ring, struct completion *c)
{
	struct __kernel_timespec limit = { .tv_sec = 60 };
	struct io_uring_cqe *cqe;
	int ret = io_uring_wait_cqe_timeout(ring, &cqe, &limit);

	if (ret)
		return ret;
	c->user_data = cqe->user_data;
	c->result = cqe->res;
	c->value = ring->flags & IORING_SETUP_CQE32 ? cqe->big_cqe[0] : 0;
	io_uring_cqe_seen(ring, cqe);
	return 0;
}

static unsigned int threads(void)
{
	DIR *d = opendir("/proc/self/task");
	unsigned int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

/*
 * A thousand commands at once, without as many threads.  Each queue runs its commands in order.
 */
TEST_F_TIMEOUT(uring, thousand, 120)
{
	static struct hmm_dummy_command c[DEPTH];
	unsigned long last[HMM_DUMMY_QUEUES] = {};
	unsigned int before = threads(), during;
	struct completion done;
	unsigned int i;

	ASSERT_EQ(0, gpu_control(0, "pause"));
	for (i = 0; i < DEPTH; i++) {
		c[i] = (struct hmm_dummy_command) {
			.op = HMM_DUMMY_OP_ADD, .queue = i % 5, .value = i,
			.addr = (uintptr_t)self->p + i / 64 * PAGE, .length = 8,
		};
		prepare(&self->ring, self->gpu, &c[i], i + 1);
	}
	for (i = 0; i < DEPTH / 64; i++)
		*(uint64_t *)(self->p + i * PAGE) = 0;
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, LEN / 2));
	ASSERT_TRUE(uring_submit(&self->ring, DEPTH));
	usleep(200000);
	during = threads();
	EXPECT_GE(before + 2, during) TH_LOG("%u threads, then %u", before, during);
	EXPECT_EQ(0, io_uring_cq_ready(&self->ring));
	ASSERT_EQ(0, gpu_control(0, "resume"));
	for (i = 0; i < DEPTH; i++) {
		unsigned long queue;

		ASSERT_EQ(0, next(&self->ring, &done));
		EXPECT_EQ(0, done.result);
		queue = (done.user_data - 1) % 5;
		EXPECT_LT(last[queue], done.user_data);
		last[queue] = done.user_data;
	}
	for (i = 0; i < DEPTH / 64; i++) {
		uint64_t first = i * 64;

		EXPECT_EQ(64 * first + 63 * 64 / 2, *(uint64_t *)(self->p + i * PAGE));
	}
}

/* The value of a command returns in memory, or in a large completion. */
TEST_F(uring, value)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_CRC32C, .addr = (uintptr_t)self->p, .length = LEN,
	};
	struct completion done;
	unsigned int crc;

	ASSERT_EQ(0, gpu_crc32c(self->gpu, self->p, LEN, &crc));
	prepare(&self->ring, self->gpu, &c, 7);
	ASSERT_TRUE(uring_submit(&self->ring, 1));
	ASSERT_EQ(0, next(&self->ring, &done));
	EXPECT_EQ(0, done.result);
	EXPECT_EQ(crc, variant->flags & IORING_SETUP_CQE32 ? done.value : c.value);
}

/* A command that exceeds the limit is refused, twice.  The others are not affected. */
TEST_F_TIMEOUT(uring, full, 120)
{
	static struct hmm_dummy_command c[DEPTH + 8];
	unsigned int i, ok = 0, full = 0;
	struct completion done;

	ASSERT_EQ(0, gpu_control(0, "pause"));
	for (i = 0; i < DEPTH + 8; i++) {
		c[i] = (struct hmm_dummy_command) {
			.op = HMM_DUMMY_OP_FILL, .value = 9,
			.addr = (uintptr_t)self->p + i * 64, .length = 64,
		};
		prepare(&self->ring, self->gpu, &c[i], i);
	}
	ASSERT_TRUE(uring_submit(&self->ring, DEPTH + 8));
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, next(&self->ring, &done));
		EXPECT_EQ(-EAGAIN, done.result);
		EXPECT_LE(DEPTH, done.user_data);
	}
	/* The same for a task that must not wait. */
	EXPECT_EQ(-1, gpu_fill(self->gpu, self->p, 64, 1));
	EXPECT_EQ(EAGAIN, errno);
	ASSERT_EQ(0, gpu_control(0, "resume"));
	for (i = 0; i < DEPTH; i++) {
		ASSERT_EQ(0, next(&self->ring, &done));
		ok += done.result == 0;
		full += done.result == -EAGAIN;
	}
	EXPECT_EQ(DEPTH, ok);
	EXPECT_EQ(0, full);
	for (i = 0; i < DEPTH * 64; i++) {
		ASSERT_EQ(9, self->p[i]);
	}
	EXPECT_EQ(pattern(DEPTH * 64, 1), (unsigned char)self->p[DEPTH * 64]);
}

/* A cancel by tag ends the commands with that tag, and no others. */
TEST_F(uring, cancel)
{
	struct hmm_dummy_command c[6];
	struct hmm_dummy_cancel cancel = { .size = sizeof(cancel), .tag = 5 };
	struct io_uring_sqe *sqe;
	struct completion done;
	int i, cancelled = 0;

	ASSERT_EQ(0, gpu_control(0, "pause"));
	for (i = 0; i < 6; i++) {
		c[i] = (struct hmm_dummy_command) {
			.op = HMM_DUMMY_OP_FILL, .value = 9, .tag = 5 + i % 2,
			.addr = (uintptr_t)self->p + i * PAGE, .length = PAGE,
		};
		prepare(&self->ring, self->gpu, &c[i], i);
	}
	ASSERT_TRUE(uring_submit(&self->ring, 6));
	while (variant->flags & IORING_SETUP_SQPOLL && io_uring_sq_ready(&self->ring))
		usleep(1000);
	usleep(50000);
	sqe = uring_sqe(&self->ring, self->gpu, HMM_DUMMY_CANCEL);
	((struct hmm_dummy_uring *)uring_payload(sqe))->ptr = (uintptr_t)&cancel;
	sqe->user_data = 100;
	ASSERT_TRUE(uring_submit(&self->ring, 1));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, next(&self->ring, &done));
		if (done.user_data == 100) {
			EXPECT_EQ(0, done.result);
			continue;
		}
		EXPECT_EQ(-ECANCELED, done.result);
		EXPECT_EQ(0, done.user_data % 2);
		cancelled++;
	}
	EXPECT_EQ(3, cancelled);
	EXPECT_EQ(3, cancel.cancelled);
	ASSERT_EQ(0, gpu_control(0, "resume"));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, next(&self->ring, &done));
		EXPECT_EQ(0, done.result);
		EXPECT_EQ(1, done.user_data % 2);
	}
	EXPECT_EQ(pattern(0, 1), (unsigned char)self->p[0]);
	EXPECT_EQ(9, self->p[PAGE]);
}

/*
 * A ring that closes cancels its commands, whether they run or wait.  A worker of the kernel
 * does that.  The test waits for it; then no command can write to the memory any more.
 */
TEST_F_TIMEOUT(uring, ring_exit, 120)
{
	struct hmm_dummy_command c[64];
	struct io_uring ring;

	for (int paused = 0; paused < 2; paused++) {
		ASSERT_EQ(0, gpu_control(0, paused ? "pause" : "resume"));
		ASSERT_EQ(0, io_uring_queue_init(64, &ring, variant->flags));
		for (int i = 0; i < 64; i++) {
			c[i] = (struct hmm_dummy_command) {
				.op = HMM_DUMMY_OP_FILL, .value = 3, .queue = i % 8,
				.addr = (uintptr_t)self->p, .length = LEN,
			};
			prepare(&ring, self->gpu, &c[i], i);
		}
		fill_pattern(self->p, LEN, 1);
		ASSERT_TRUE(uring_submit(&ring, 64));
		io_uring_queue_exit(&ring);
		sleep(1);
		ASSERT_EQ(0, gpu_control(0, "resume"));
		/* Commands that were left behind would run before these. */
		for (int i = 0; i < HMM_DUMMY_QUEUES; i++) {
			struct hmm_dummy_command crc = {
				.op = HMM_DUMMY_OP_CRC32C, .queue = i,
				.addr = (uintptr_t)self->p, .length = PAGE,
			};

			ASSERT_EQ(0, gpu_command(self->gpu, &crc));
		}
	}
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
}

/* The same for a process that is killed. */
TEST_F_TIMEOUT(uring, killed, 120)
{
	for (int round = 0; round < 4; round++) {
		pid_t child;

		ASSERT_EQ(0, gpu_control(0, round % 2 ? "pause" : "resume"));
		child = fork();
		if (!child) {
			static struct hmm_dummy_command c[256];
			struct io_uring ring;
			int gpu = gpu_open(0);

			if (io_uring_queue_init(256, &ring, variant->flags))
				_exit(1);
			gpu_to_device(gpu, self->p, LEN / 2);
			for (int i = 0; i < 256; i++) {
				c[i] = (struct hmm_dummy_command) {
					.op = HMM_DUMMY_OP_FILL, .value = 3,
					.queue = i % 8, .addr = (uintptr_t)self->p,
					.length = LEN,
				};
				prepare(&ring, gpu, &c[i], i);
			}
			/* Workers submit half of the commands; they are killed as well. */
			for (unsigned int i = 0; i < 256; i += 2)
				ring.sq.sqes[ring.flags & IORING_SETUP_SQE128 ?
					     2 * i : i].flags |= IOSQE_ASYNC;
			io_uring_submit(&ring);
			if (round > 1)
				raise(SIGKILL);
			for (;;)
				pause();
		}
		usleep(300000);
		kill(child, SIGKILL);
		EXPECT_EQ(-SIGKILL, wait_child(child));
	}
	ASSERT_EQ(0, gpu_control(0, "resume"));
	ASSERT_EQ(0, gpu_fill(self->gpu, self->p, 1, 1));
}

static void *cancels(void *arg)
{
	int gpu = (intptr_t)arg;

	for (;;)
		gpu_cancel(gpu, 3);
	return NULL;
}

static void *commands(void *arg)
{
	struct hmm_dummy_command c = *(struct hmm_dummy_command *)arg;
	int gpu = c.size;

	for (;;) {
		c.size = sizeof(c);
		ioctl(gpu, HMM_DUMMY_COMMAND, &c);
	}
	return NULL;
}

/* Commands are cancelled by tag while their waiting task is killed.  Each command ends once. */
TEST_F_TIMEOUT(uring, cancel_and_kill, 120)
{
	for (int round = 0; round < 10; round++) {
		pid_t child = fork();

		if (!child) {
			int gpu = gpu_open(0);
			struct hmm_dummy_command c = {
				/* the threads take the file descriptor from here */
				.size = gpu,
				.op = HMM_DUMMY_OP_FILL, .tag = 3, .length = PAGE,
				.addr = (uintptr_t)self->p,
			};
			pthread_t t;

			for (int i = 0; i < 3; i++)
				pthread_create(&t, NULL, commands, &c);
			pthread_create(&t, NULL, cancels, (void *)(intptr_t)gpu);
			cancels((void *)(intptr_t)gpu);
		}
		usleep(150000);
		kill(child, SIGKILL);
		EXPECT_EQ(-SIGKILL, wait_child(child));
	}
	ASSERT_EQ(0, gpu_fill(self->gpu, self->p, 1, 1));
}

/* The completion reports what is wrong with a command. */
TEST_F(uring, refused)
{
	struct hmm_dummy_command good = {
		.size = sizeof(good), .op = HMM_DUMMY_OP_FILL,
		.addr = (uintptr_t)self->p, .length = 8,
	};
	struct {
		unsigned int op;
		unsigned long long ptr, reserved;
		int result;
	} t[] = {
		{ HMM_DUMMY_COMMAND, 0, 0, -EFAULT },
		{ HMM_DUMMY_COMMAND, 8, 0, -EFAULT },
		{ HMM_DUMMY_COMMAND, (uintptr_t)&good, 1, -EOPNOTSUPP },
		{ HMM_DUMMY_COMMAND, (uintptr_t)self->p, 0, -EINVAL },	/* size 0 */
		{ HMM_DUMMY_CANCEL, 8, 0, -EFAULT },
		/* The kernel could mistake this address for an error of its own. */
		{ HMM_DUMMY_COMMAND, -ENOEXEC, 0, -EFAULT },
		{ HMM_DUMMY_CANCEL, -ENOEXEC, 0, -EFAULT },
		{ HMM_DUMMY_INFO, (uintptr_t)&good, 0, -ENOTTY },
		{ 0, (uintptr_t)&good, 0, -ENOTTY },
		{ 0xffffffff, (uintptr_t)&good, 0, -ENOTTY },
	};
	struct completion done;

	memset(self->p, 0, 64);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct io_uring_sqe *sqe = uring_sqe(&self->ring, self->gpu, t[i].op);
		struct hmm_dummy_uring *u = uring_payload(sqe);

		u->ptr = t[i].ptr;
		u->reserved = t[i].reserved;
		ASSERT_TRUE(uring_submit(&self->ring, 1));
		ASSERT_EQ(0, next(&self->ring, &done));
		EXPECT_EQ(t[i].result, done.result) TH_LOG("case %zu", i);
	}
	if (variant->flags & IORING_SETUP_SQE128) {
		good.op = 99;
		prepare(&self->ring, self->gpu, &good, 0);
		ASSERT_TRUE(uring_submit(&self->ring, 1));
		ASSERT_EQ(0, next(&self->ring, &done));
		EXPECT_EQ(-EOPNOTSUPP, done.result);
	} else {
		/* The ring's entries are too small for this command. */
		uring_sqe(&self->ring, self->gpu, HMM_DUMMY_COMMAND_INLINE);
		ASSERT_TRUE(uring_submit(&self->ring, 1));
		ASSERT_EQ(0, next(&self->ring, &done));
		EXPECT_EQ(-EINVAL, done.result);
	}
}

TEST_HARNESS_MAIN
