// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that user space fetches by itself (userfaultfd).  A device waits for such a page as a
 * CPU would, on behalf of the task that waits for the device.  It does not delay the death of
 * that task and does not fill the memory itself.  Removing a device does not wait for user
 * space.
 */
#include <signal.h>
#include <sys/uio.h>

#include "race.h"
#include "uffd.h"
#include "uring.h"

#define LEN	(4 * PAGE)

static void *fetches(void *arg)
{
	int fd = (intptr_t)arg;
	static char page[PAGE];
	struct uffd_msg msg;

	memset(page, 0xab, PAGE);
	for (int i = 0; i < 4; i++) {
		struct uffdio_copy copy = { .src = (uintptr_t)page, .len = PAGE };

		if (!uffd_next(fd, 60000, &msg))
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
	int fd = uffd_watch_missing(p, LEN);

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

/* A process is killed while no task fetches its page.  It ends, and the device goes on. */
TEST_LONG(killed, 60)
{
	int gpu = gpu_open(0);
	char *q = anon(PAGE);

	for (int i = 0; i < 3; i++) {
		int ready[2];
		pid_t child;
		char byte;

		ASSERT_EQ(0, pipe(ready));
		child = fork();
		if (!child) {
			char *p = anon(LEN);
			struct fill fill = {
				.gpu = gpu_open(0),
				.c = {
					.op = HMM_DUMMY_OP_FILL, .addr = (uintptr_t)p,
					.length = LEN,
				},
			};
			int fd = uffd_watch_missing(p, LEN);
			pthread_t t;

			if (fd < 0 || pthread_create(&t, NULL, fills, &fill) ||
			    !uffd_is_waited_for(fd, 60000) || write(ready[1], "w", 1) != 1)
				_exit(1);
			pthread_join(t, NULL);
			_exit(2);
		}
		close(ready[1]);
		ASSERT_EQ(1, read(ready[0], &byte, 1));
		close(ready[0]);
		kill(child, SIGKILL);
		EXPECT_EQ(-SIGKILL, wait_child(child));
		EXPECT_EQ(0, gpu_fill(gpu, q, PAGE, i));
		EXPECT_EQ(i, q[7]);
	}
	munmap(q, PAGE);
	close(gpu);
}

/* A command that has its page, but is cancelled, does not wait for paused engines. */
TEST_LONG(cancelled_at_rest, 120)
{
	char *p = anon(LEN);
	struct fill fill = {
		.gpu = gpu_open(0),
		.c = { .op = HMM_DUMMY_OP_FILL, .addr = (uintptr_t)p, .length = PAGE, .tag = 9 },
	};
	pthread_t t;
	int fd = uffd_watch_missing(p, LEN);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pthread_create(&t, NULL, fills, &fill));
	ASSERT_TRUE(uffd_is_waited_for(fd, 60000));
	ASSERT_EQ(0, gpu_control(0, "pause"));
	EXPECT_EQ(0, gpu_cancel(fill.gpu, 9));
	EXPECT_EQ(0, uffd_give(fd, p, 0));
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

/* A process that does not fetch the page for its result does not delay the unbind. */
TEST_LONG(answer_not_taken, 60)
{
	struct hmm_dummy_migrate m = { .size = sizeof(m), .pidfd = -1, .length = 4 * PAGE };
	char *p = anon(LEN), *vec = anon(LEN), address[32];
	int fd = uffd_watch_missing(vec, LEN), gpu;
	void *status;
	pthread_t t;

	ASSERT_LE(0, fd);
	memset(p, 7, LEN);
	m.addr = (uintptr_t)p;
	m.vec = (uintptr_t)vec;
	ASSERT_EQ(0, gpu_bus_address(1, address, sizeof(address)));
	ASSERT_EQ(0, pthread_create(&t, NULL, migrates, &m));
	/* Wait until the memory has moved and the driver writes its result. */
	ASSERT_TRUE(uffd_is_waited_for(fd, 60000));
	EXPECT_EQ(4, pages_on_device(0, p, LEN));
	ASSERT_EQ(0, gpu_driver("unbind", address));
	EXPECT_EQ(0, pages_on_device(0, p, LEN));
	close(fd);
	pthread_join(t, &status);
	/* No file of the old device is open, so the new one gets the same name. */
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

/* A command by io_uring has no task that waits for it, so it is refused.  The queue goes on. */
TEST(not_in_the_background)
{
	struct hmm_dummy_command c[2] = {};
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int gpu = gpu_open(0);
	char *p = anon(LEN), *q = anon(LEN);
	int fd = uffd_watch_missing(p, LEN);

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

/* Operations of a device on two pages.  No task fetches the second page. */
enum what { COMMAND, READ, WRITE };

FIXTURE(unbind) {
	int gpu;
	int fd;			/* the userfaultfd */
	char *p;
	char *q;		/* not watched by userfaultfd */
	struct unbinding unbinding;
	pthread_t thread;
	atomic_bool done;
	int result;		/* of the operation */
	int error;
};

FIXTURE_VARIANT(unbind) {
	enum what what;
	unsigned int op;
	bool source;		/* the operation reads the watched memory */
};
FIXTURE_VARIANT_ADD(unbind, fill) { .op = HMM_DUMMY_OP_FILL };
FIXTURE_VARIANT_ADD(unbind, copy_from) { .op = HMM_DUMMY_OP_COPY, .source = true };
FIXTURE_VARIANT_ADD(unbind, compare) { .op = HMM_DUMMY_OP_COMPARE };
FIXTURE_VARIANT_ADD(unbind, atomic_add) { .op = HMM_DUMMY_OP_ATOMIC_ADD };
FIXTURE_VARIANT_ADD(unbind, read) { .what = READ };
FIXTURE_VARIANT_ADD(unbind, write) { .what = WRITE };

FIXTURE_SETUP(unbind)
{
	self->gpu = gpu_open(1);
	ASSERT_LE(0, self->gpu);
	self->p = anon(2 * PAGE);
	self->q = anon(2 * PAGE);
	fill_pattern(self->p, PAGE, 1);
	fill_pattern(self->q, 2 * PAGE, 2);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, PAGE));
	self->fd = uffd_watch_missing(self->p + PAGE, PAGE);
	ASSERT_LE(0, self->fd);
}

/* The device is bound again and works, and other memory has kept its data. */
FIXTURE_TEARDOWN(unbind)
{
	char byte = 0;

	EXPECT_EQ(0, unbinding_undo(&self->unbinding));
	self->gpu = gpu_open(1);
	EXPECT_LE(0, self->gpu);
	EXPECT_EQ(0, gpu_fill(self->gpu, &byte, 1, 5));
	EXPECT_EQ(5, byte);
	EXPECT_EQ(0, gpu_to_device(self->gpu, self->q, 2 * PAGE));
	EXPECT_EQ(-1, check_pattern(self->q, 2 * PAGE, 2));
	munmap(self->p, 2 * PAGE);
	munmap(self->q, 2 * PAGE);
	close(self->gpu);
}

struct waiter {
	FIXTURE_DATA(unbind) *self;
	const FIXTURE_VARIANT(unbind) *variant;
};

/* The device faults on both pages at once.  An addition of 0 does not change the first page. */
static void *wait_for_page(void *arg)
{
	struct waiter *w = arg;
	FIXTURE_DATA(unbind) *self = w->self;
	struct hmm_dummy_command c = {
		.op = w->variant->op, .addr = (uintptr_t)self->p, .length = 2 * PAGE,
	};

	if (c.op == HMM_DUMMY_OP_COPY || c.op == HMM_DUMMY_OP_COMPARE)
		c.src = (uintptr_t)self->q;
	if (w->variant->source) {
		c.addr = (uintptr_t)self->q;
		c.src = (uintptr_t)self->p;
	}
	if (w->variant->what == READ)
		self->result = pread(self->gpu, self->p + PAGE, PAGE, 0);
	else if (w->variant->what == WRITE)
		self->result = pwrite(self->gpu, self->p + PAGE, PAGE, 0);
	else
		self->result = gpu_command(self->gpu, &c);
	self->error = errno;
	self->done = true;
	return NULL;
}

/*
 * The driver is unbound while the device waits for a page.  If the unbind hangs, the page is
 * given to it, so that the test can end.
 */
static void goes_while_waited_for(struct __test_metadata *_metadata,
				  FIXTURE_DATA(unbind) *self,
				  const FIXTURE_VARIANT(unbind) *variant)
{
	static struct waiter waiter;
	bool ended;

	waiter = (struct waiter) { self, variant };
	ASSERT_EQ(1, pages_on_gpu(1, self->p, PAGE));
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, wait_for_page, &waiter));
	ASSERT_TRUE(uffd_is_waited_for(self->fd, 60000));
	ASSERT_EQ(0, unbinding_begin(&self->unbinding, "hmm_dummy", 1));
	ended = unbinding_ended(&self->unbinding);
	EXPECT_TRUE(ended);
	/* The operation must still be waiting. */
	EXPECT_FALSE(self->done);
	if (!ended)
		uffd_give(self->fd, self->p + PAGE, 0x77);
	EXPECT_EQ(0, pages_on_device(0, self->p, PAGE));
}

/* The operation fails with ENODEV and has changed nothing. */
TEST_F_TIMEOUT(unbind, while_waiting, 300)
{
	goes_while_waited_for(_metadata, self, variant);
	EXPECT_EQ(0, uffd_give(self->fd, self->p + PAGE, 0x77));
	pthread_join(self->thread, NULL);
	EXPECT_EQ(-1, self->result);
	EXPECT_EQ(ENODEV, self->error);
	EXPECT_EQ(-1, check_pattern(self->p, PAGE, 1));
	for (size_t i = PAGE; i < 2 * PAGE; i++) {
		ASSERT_EQ(0x77, self->p[i]);
	}
	EXPECT_EQ(-1, check_pattern(self->q, 2 * PAGE, 2));
	/* No file of the old device is open, so the new one gets the same name. */
	close(self->gpu);
	close(self->fd);
}

/* The device is bound again, and a new mirror of the same memory works. */
TEST_F_TIMEOUT(unbind, and_bind, 300)
{
	unsigned int crc;
	int again;

	goes_while_waited_for(_metadata, self, variant);
	ASSERT_EQ(0, unbinding_undo(&self->unbinding));
	/* The device has another name, because a file of the old one is open. */
	again = gpu_open(2);
	ASSERT_LE(0, again);
	EXPECT_EQ(0, gpu_crc32c(again, self->p, PAGE, &crc));
	EXPECT_EQ(crc32c(self->p, PAGE), crc);
	EXPECT_EQ(0, gpu_to_device(again, self->p, PAGE));
	EXPECT_FALSE(self->done);
	EXPECT_EQ(0, uffd_give(self->fd, self->p + PAGE, 0x77));
	pthread_join(self->thread, NULL);
	EXPECT_EQ(ENODEV, self->error);
	EXPECT_EQ(-1, check_pattern(self->p, PAGE, 1));
	close(again);
	close(self->gpu);
	close(self->fd);
	ASSERT_EQ(0, unbinding_begin(&self->unbinding, "hmm_dummy", 2));
}

/* Whether a ring with one command under way has its completion. */
static bool ring_has(struct io_uring *ring, int *result)
{
	struct io_uring_cqe *cqe;

	if (io_uring_peek_cqe(ring, &cqe))
		return false;
	*result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return true;
}

/*
 * A worker handles the faults of commands by io_uring, and refuses memory that userfaultfd
 * watches.  Here the watch begins between the worker's check and its fault.  Returns whether
 * the worker waits for the page.
 */
static bool worker_waits(struct __test_metadata *_metadata, struct io_uring *ring, int gpu,
			 int fd, struct hmm_dummy_command *c)
{
	bool waits = false, ended = false;
	int result = 0;

	/* The worker lingers with interrupts disabled, for a short time only. */
	ASSERT_EQ(0, write_file(PAIR, "hmm_range_fault_unlocked_timeout 20 userfaultfd_register"));
	uring_command(ring, gpu, c);
	ASSERT_EQ(1, io_uring_submit(ring));
	while (!pair_lingered() && !ended)
		ended = ring_has(ring, &result);
	ASSERT_EQ(0, uffd_register(fd, (void *)c->addr, PAGE, UFFDIO_REGISTER_MODE_MISSING));
	while (!waits && !ended) {
		waits = uffd_is_waited_for(fd, 10);
		ended = !waits && ring_has(ring, &result);
	}
	/* The worker waits, or refuses, or was done before the watch began. */
	EXPECT_TRUE(waits || !result || result == -EOPNOTSUPP);
	EXPECT_EQ(0, write_file(PAIR, "off"));
	return waits;
}

FIXTURE(unbind_with_worker) { int unused; };
FIXTURE_SETUP(unbind_with_worker) { }

/* Release a task that lingers, also if the test has ended early. */
FIXTURE_TEARDOWN(unbind_with_worker)
{
	EXPECT_EQ(0, write_file(PAIR, "off"));
}

TEST_F_TIMEOUT(unbind_with_worker, run, 300)
{
	struct unbinding unbinding;
	struct io_uring ring;
	bool waits = false;
	int tries, result = 0;

	for (tries = 0; tries < 100 && !waits; tries++) {
		struct hmm_dummy_command c = { .op = HMM_DUMMY_OP_FILL, .length = PAGE };
		char *p = anon(PAGE);
		int gpu = gpu_open(1), fd = uffd_open(0);

		ASSERT_LE(0, gpu);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
		c.addr = (uintptr_t)p;
		waits = worker_waits(_metadata, &ring, gpu, fd, &c);
		if (waits) {
			ASSERT_EQ(0, unbinding_begin(&unbinding, "hmm_dummy", 1));
			EXPECT_TRUE(unbinding_ended(&unbinding));
			/* The file is closed before the worker returns. */
			for (int i = 0; i < 600 && !ring_has(&ring, &result); i++)
				usleep(100000);
			EXPECT_EQ(-ENODEV, result);
			/* The file is closed before the worker returns. */
			io_uring_queue_exit(&ring);
			close(gpu);
			sleep(1);
			EXPECT_EQ(0, uffd_give(fd, p, 0x77));
			usleep(200000);
			EXPECT_EQ(0x77, *p);
			ASSERT_EQ(0, unbinding_undo(&unbinding));
		} else {
			io_uring_queue_exit(&ring);
			close(gpu);
		}
		close(fd);
		munmap(p, PAGE);
	}
	TH_LOG("a worker waited at try %d", tries);
	EXPECT_TRUE(waits);
}

/* A process exits while its command waits and the device is being unbound. */
TEST_LONG(unbind_and_exit, 300)
{
	char address[32];
	pid_t child;

	ASSERT_EQ(0, gpu_bus_address(1, address, sizeof(address)));
	child = fork();
	if (!child) {
		char *p = anon(LEN);
		int fd = uffd_watch_missing(p, LEN);
		struct fill fill = {
			.gpu = gpu_open(1),
			.c = { .op = HMM_DUMMY_OP_FILL, .addr = (uintptr_t)p, .length = LEN },
		};
		struct unbinding unbinding;
		pthread_t t;

		if (fd < 0 || pthread_create(&t, NULL, fills, &fill) ||
		    !uffd_is_waited_for(fd, 60000) ||
		    unbinding_begin(&unbinding, "hmm_dummy", 1))
			_exit(1);
		_exit(!unbinding_ended(&unbinding) ? 2 : fill.done ? 3 : 0);
	}
	EXPECT_EQ(0, wait_child(child));
	ASSERT_EQ(0, gpu_driver("bind", address));
}

static struct hmm_dummy_migrate told_of(char *p, size_t length, unsigned char *vec)
{
	memset(vec, 0xee, length / PAGE);
	return (struct hmm_dummy_migrate) {
		.size = sizeof(struct hmm_dummy_migrate), .pidfd = -1,
		.addr = (uintptr_t)p, .length = length, .vec = (uintptr_t)vec,
	};
}

#define CHUNKS	(4 * MiB)

/* The device does not allocate memory for pages that user space fetches. */
TEST_LONG(device_fills_no_hole, 120)
{
	static unsigned char vec[CHUNKS / PAGE];
	char *p = anon_huge(CHUNKS, MADV_HUGEPAGE), page[PAGE];
	struct hmm_dummy_info before, after;
	struct hmm_dummy_migrate m;
	struct uffdio_zeropage zero = { .range = { (uintptr_t)p + 5 * PAGE, PAGE } };
	int fd = uffd_watch_missing(p, CHUNKS), gpu = gpu_open(0);

	ASSERT_LE(0, fd);
	memset(page, 7, PAGE);
	for (int i = 3; i <= 600; i += 597) {
		struct uffdio_copy copy = {
			.dst = (uintptr_t)p + i * PAGE, .src = (uintptr_t)page, .len = PAGE,
		};

		ASSERT_EQ(0, ioctl(fd, UFFDIO_COPY, &copy));
	}
	ASSERT_EQ(0, ioctl(fd, UFFDIO_ZEROPAGE, &zero));
	/* The second round begins with a check for pages that exist. */
	for (int round = 0; round < 2; round++) {
		ASSERT_EQ(0, gpu_info(gpu, &before));
		m = told_of(p, CHUNKS, vec);
		EXPECT_EQ(0, ioctl(gpu, HMM_DUMMY_MIGRATE, &m));
		ASSERT_EQ(0, gpu_info(gpu, &after));
		EXPECT_EQ(0, m.failed);
		EXPECT_EQ(round ? 0 : 2, m.migrated);
		EXPECT_EQ(round ? 0 : 2 * PAGE, before.vram_free - after.vram_free);
		for (size_t i = 0; i < CHUNKS / PAGE; i++) {
			unsigned char want = i != 3 && i != 600 ? HMM_DUMMY_ABSENT :
					     round ? HMM_DUMMY_THERE : HMM_DUMMY_MOVED;

			ASSERT_EQ(want, vec[i]) TH_LOG("page %zu, round %d", i, round);
		}
	}
	/* The memory becomes ordinary when the watch ends. */
	close(fd);
	m = told_of(p, CHUNKS, vec);
	EXPECT_EQ(0, ioctl(gpu, HMM_DUMMY_MIGRATE, &m));
	EXPECT_EQ(CHUNKS / PAGE - 2, m.migrated);
	for (size_t i = 0; i < CHUNKS; i += PAGE) {
		ASSERT_EQ(i == 3 * PAGE || i == 600 * PAGE ? 7 : 0, p[i]);
	}
	munmap(p, CHUNKS);
	close(gpu);
}

/*
 * The device does not evict other memory for pages that user space fetches: first when it is
 * full, and then when it has room for the one existing page of each chunk, but not for the
 * holes beside it.
 */
TEST_LONG(evicts_nobody_for_holes, 120)
{
	static unsigned char vec[CHUNKS / PAGE];
	struct hmm_dummy_info before, after;
	int gpu = gpu_open(0), fd;
	char *p = anon_huge(CHUNKS, MADV_NOHUGEPAGE), *all;
	struct hmm_dummy_migrate m;
	size_t length;

	ASSERT_EQ(0, gpu_info(gpu, &before));
	length = before.vram_free;
	all = anon_huge(length, MADV_HUGEPAGE);
	ASSERT_EQ(0, gpu_to_device(gpu, all, length));
	fd = uffd_watch_missing(p, CHUNKS);
	ASSERT_LE(0, fd);
	for (int there = 0; there <= 2; there += 2) {
		if (there) {
			ASSERT_EQ(0, uffd_give(fd, p + 3 * PAGE, 7));
			ASSERT_EQ(0, uffd_give(fd, p + 600 * PAGE, 7));
			length -= 2 * MiB;
			ASSERT_EQ(0, munmap(all + length, 2 * MiB));
		}
		ASSERT_EQ(0, gpu_info(gpu, &before));
		ASSERT_EQ(there ? 2 * MiB : 0, before.vram_free);
		m = told_of(p, CHUNKS, vec);
		EXPECT_EQ(0, ioctl(gpu, HMM_DUMMY_MIGRATE, &m));
		ASSERT_EQ(0, gpu_info(gpu, &after));
		EXPECT_EQ(there, m.migrated);
		EXPECT_EQ(0, m.failed);
		EXPECT_EQ(before.evicted, after.evicted);
		EXPECT_EQ(there * PAGE, before.vram_free - after.vram_free);
	}
	munmap(all, length);
	munmap(p, CHUNKS);
	close(fd);
	close(gpu);
}

TEST_HARNESS_MAIN
