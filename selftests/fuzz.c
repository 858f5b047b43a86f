// SPDX-License-Identifier: GPL-2.0
/*
 * Random calls of several threads to the devices, on memory that another thread maps, unmaps
 * and protects meanwhile: ioctls, io_uring, read, write, and the control file.  Most calls are
 * nearly right, so that they get past the first check.
 *
 * Each answer must be a documented one (linux/hmm_dummy.h), memory that no call names must not
 * change, and nothing may be left on the devices.  The kernel's own checkers find the rest.
 *
 * HMM_P2P_SECONDS sets the duration, HMM_P2P_SEED the sequence of calls.  The test takes up to
 * twice as long if some kind of call has not succeeded by then.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "uring.h"

#define ARENA		MiB
#define PIECE		(64 * 1024UL)
#define SENTINEL	(64 * PAGE)
#define THREADS		3

/* Each kind of call must succeed now and then.  Otherwise only the checks are tested. */
enum {
	INFO = HMM_DUMMY_OP_TO_RAM + 1, MIGRATE, QUERY, CANCEL, URING, URING_CANCEL, READ, WRITE,
	CONTROL, EXPORT, IMPORT, SCRATCH, KINDS
};

static const char *const kind_names[KINDS] = {
	[HMM_DUMMY_OP_FILL] = "fill", [HMM_DUMMY_OP_COPY] = "copy",
	[HMM_DUMMY_OP_CRC32C] = "crc32c", [HMM_DUMMY_OP_COMPARE] = "compare",
	[HMM_DUMMY_OP_ADD] = "add", [HMM_DUMMY_OP_ATOMIC_ADD] = "atomic add",
	[HMM_DUMMY_OP_TO_DEVICE] = "to device", [HMM_DUMMY_OP_TO_RAM] = "to RAM",
	[INFO] = "info", [MIGRATE] = "migrate", [QUERY] = "query", [CANCEL] = "cancel",
	[URING] = "uring command", [URING_CANCEL] = "uring cancel", [READ] = "read",
	[WRITE] = "write", [CONTROL] = "control", [EXPORT] = "export", [IMPORT] = "import",
	[SCRATCH] = "command on scratch memory",
};

struct fuzzer {
	unsigned int nr;
	uint64_t random;
	struct io_uring ring;
	unsigned long calls, refused;
	unsigned long done[KINDS];	/* calls that succeeded */
	const char *error;
	char what[200];
};

static char *arena;
static int gpus[2], memfd;
static atomic_bool stop;

static uint64_t draw(struct fuzzer *f)
{
	return random_next(&f->random);
}

static bool one_in(struct fuzzer *f, unsigned int n)
{
	return draw(f) % n == 0;
}

static uint64_t any_number(struct fuzzer *f)
{
	static const uint64_t odd[] = {
		0, 1, 7, 8, 63, 4095, 4096, 4097, 0x7fffffff, 0x80000000, 0xffffffff,
		1ULL << 32, 1ULL << 47, (1ULL << 47) - 4096, 0x7fffffffffffffff, 1ULL << 63,
		0xffff888000000000, 0xffffffff81000000, -4096ULL, -8ULL, -1ULL,
	};

	switch (draw(f) % 4) {
	case 0:
		return odd[draw(f) % (sizeof(odd) / sizeof(odd[0]))];
	case 1:
		return (uintptr_t)arena + draw(f) % (2 * ARENA);
	case 2:
		return 1ULL << draw(f) % 64;
	}
	return draw(f);
}

/* Choose a range in the arena.  A short range is more likely to be usable as a whole. */
static void any_range(struct fuzzer *f, __u64 *addr, __u64 *length, uint64_t unit)
{
	*length = (draw(f) % ((one_in(f, 2) ? PIECE : PAGE) / unit) + 1) * unit;
	*addr = (uintptr_t)arena + draw(f) % ((ARENA - *length) / unit) * unit;
}

/* Replace some fields of @arg by other numbers. */
static void spoil(struct fuzzer *f, void *arg, size_t size)
{
	unsigned int times = draw(f) % 4;

	while (times-- > 1) {
		uint64_t value = any_number(f);
		size_t width = draw(f) % 2 ? 8 : 4;

		memcpy((char *)arg + draw(f) % (size / width) * width, &value, width);
	}
}

/* Whether a call may return @error. */
static bool is_in(int error, const int *errors)
{
	while (*errors && *errors != error)
		errors++;
	return *errors;
}

static const int of_all[] = { EINVAL, E2BIG, EOPNOTSUPP, EFAULT, ENODEV, 0 };
static const int of_command[] = {
	EINVAL, E2BIG, EOPNOTSUPP, EFAULT, ENODEV, EAGAIN, EPERM, EBUSY, ENOMEM, ECANCELED, 0
};
static const int of_migrate[] = {
	EINVAL, E2BIG, EOPNOTSUPP, EFAULT, ENODEV, EBADF, ESRCH, EPERM, ENOMEM, 0
};
static const int of_query[] = {
	EINVAL, E2BIG, EOPNOTSUPP, EFAULT, ENODEV, EBADF, ESRCH, EPERM, EBUSY, ENOMEM, 0
};
static const int of_cancel[] = { EINVAL, E2BIG, EOPNOTSUPP, EFAULT, ENODEV, ENOENT, 0 };
static const int of_uring_cancel[] = {
	EINVAL, E2BIG, EOPNOTSUPP, EFAULT, ENODEV, ENOENT, ECANCELED, 0
};
static const int of_export[] = { EINVAL, E2BIG, EOPNOTSUPP, EFAULT, ENODEV, EBUSY, ENOMEM, 0 };
static const int of_import[] = {
	EINVAL, E2BIG, EOPNOTSUPP, EFAULT, ENODEV, EBUSY, ENOMEM, EBADF, 0
};
static const int of_unknown[] = { ENOTTY, 0 };
static const int of_uring_unknown[] = { ENOTTY, ECANCELED, 0 };
static const int of_read[] = {
	EINVAL, EFAULT, ENODEV, EAGAIN, EPERM, EBUSY, ENOMEM, ENOSPC, EOPNOTSUPP, 0
};
static const int of_control[] = { EINVAL, EBUSY, ENODEV, ENOMEM, 0 };

static void complain(struct fuzzer *f, int error, const char *what, uint64_t detail)
{
	if (f->error)
		return;
	snprintf(f->what, sizeof(f->what), "call %lu of thread %u: %s (%#llx): %s", f->calls,
		 f->nr, what, (unsigned long long)detail, strerror(error));
	f->error = f->what;
}

/* Record the result of a call that may succeed. */
static void judge(struct fuzzer *f, int error, const int *errors, unsigned int kind)
{
	f->calls++;
	f->refused += !!error;
	if (kind < KINDS)
		f->done[kind] += !error;
	if (error && !is_in(error, errors))
		complain(f, error, kind < KINDS ? kind_names[kind] : "no such op", kind);
}

/* Record the result of a call that must fail. */
static void refuse(struct fuzzer *f, int error, const int *errors, const char *what,
		   uint64_t detail)
{
	f->calls++;
	f->refused++;
	if (!is_in(error, errors))
		complain(f, error, what, detail);
}

static void any_command(struct fuzzer *f, struct hmm_dummy_command *c)
{
	uint64_t unit = 1;
	__u64 unused;

	*c = (struct hmm_dummy_command) {
		.size = sizeof(*c), .op = draw(f) % 9, .queue = draw(f) % 9,
		.tag = draw(f) % 8,
	};
	/* Most of the time, addresses and lengths are aligned as the command needs it. */
	if (!one_in(f, 8))
		unit = c->op >= HMM_DUMMY_OP_TO_DEVICE ? PAGE :
		       c->op >= HMM_DUMMY_OP_ADD ? 8 : 1;
	any_range(f, &c->addr, &c->length, unit);
	if (c->op == HMM_DUMMY_OP_COPY || c->op == HMM_DUMMY_OP_COMPARE)
		any_range(f, &c->src, &unused, 1);
	else
		c->value = c->op == HMM_DUMMY_OP_FILL || c->op >= HMM_DUMMY_OP_ADD ? draw(f) : 0;
	if (c->op < HMM_DUMMY_OP_TO_DEVICE && one_in(f, 4)) {
		c->pattern = HMM_DUMMY_STRIDED + draw(f) % 2;
		c->unit = 64 << draw(f) % 7;
		if (c->pattern == HMM_DUMMY_STRIDED) {
			c->stride = c->unit + draw(f) % 4096 / unit * unit;
		} else {
			c->seed = draw(f);
			c->length = c->length / c->unit * c->unit ?: c->unit;
		}
	}
	if (one_in(f, 2))
		spoil(f, c, sizeof(*c));
}

static void fuzz_ioctl(struct fuzzer *f, int gpu)
{
	union {
		__u32 size;
		struct hmm_dummy_info info;
		struct hmm_dummy_migrate migrate;
		struct hmm_dummy_query query;
		struct hmm_dummy_command command;
		struct hmm_dummy_cancel cancel;
		char bytes[8192];
	} arg = {};
	static const struct {
		unsigned int cmd, kind;
		const int *errors;
		size_t size;
	} calls[] = {
		{ HMM_DUMMY_INFO, INFO, of_all, sizeof(arg.info) },
		{ HMM_DUMMY_MIGRATE, MIGRATE, of_migrate, sizeof(arg.migrate) },
		{ HMM_DUMMY_QUERY, QUERY, of_query, sizeof(arg.query) },
		{ HMM_DUMMY_COMMAND, KINDS, of_command, sizeof(arg.command) },
		{ HMM_DUMMY_CANCEL, CANCEL, of_cancel, sizeof(arg.cancel) },
	};
	unsigned int i = draw(f) % 5, kind = calls[i].kind;
	void *p = &arg;
	int ret;

	switch (calls[i].cmd) {
	case HMM_DUMMY_MIGRATE:
		any_range(f, &arg.migrate.addr, &arg.migrate.length, PAGE);
		arg.migrate.flags = draw(f) % 8;
		arg.migrate.pidfd = -1;
		if (one_in(f, 8))
			arg.migrate.vec = (uintptr_t)arena + draw(f) % ARENA;
		break;
	case HMM_DUMMY_QUERY:
		any_range(f, &arg.query.addr, &arg.query.length, PAGE);
		arg.query.pidfd = -1;
		arg.query.vec = (uintptr_t)arena + draw(f) % ARENA;
		break;
	case HMM_DUMMY_COMMAND:
		any_command(f, &arg.command);
		break;
	case HMM_DUMMY_CANCEL:
		arg.cancel.tag = draw(f) % 8;
	}
	if (calls[i].cmd != HMM_DUMMY_COMMAND || one_in(f, 8))
		arg.size = calls[i].size;
	if (one_in(f, 3))
		spoil(f, &arg, calls[i].size);
	if (calls[i].cmd == HMM_DUMMY_COMMAND)
		kind = arg.command.op < INFO ? arg.command.op : KINDS;
	if (one_in(f, 16))
		p = (void *)any_number(f);
	ret = ioctl(gpu, calls[i].cmd, p);
	judge(f, ret ? errno : 0, calls[i].errors, kind);
	if (one_in(f, 32)) {
		unsigned int cmd = _IOC(draw(f) % 4, draw(f) % 2 ? HMM_DUMMY_TYPE : draw(f) % 256,
					8 + draw(f) % 247, draw(f) % 4096);

		ret = ioctl(gpu, cmd, &arg);
		/* Any file has ioctls of other types. */
		if (_IOC_TYPE(cmd) == HMM_DUMMY_TYPE)
			refuse(f, ret ? errno : 0, of_unknown, "unknown ioctl", cmd);
	}
}

static void inline_payload(void *payload, const struct hmm_dummy_command *c)
{
	struct hmm_dummy_inline in = {
		.op = c->op, .queue = c->queue, .addr = c->addr, .src = c->src,
		.length = c->length, .value = c->value, .pattern = c->pattern,
		.unit = c->unit, .stride = c->stride, .seed = c->seed, .tag = c->tag,
	};

	memcpy(payload, &in, sizeof(in));
}

static void give_up(const char *what)
{
	fprintf(stderr, "# %s\n", what);
	_exit(1);
}

static void fuzz_uring(struct fuzzer *f, int gpu)
{
	static const unsigned int ops[] = {
		HMM_DUMMY_COMMAND, HMM_DUMMY_COMMAND, HMM_DUMMY_COMMAND_INLINE,
		HMM_DUMMY_COMMAND_INLINE, HMM_DUMMY_CANCEL, HMM_DUMMY_INFO,
	};
	struct __kernel_timespec limit = { .tv_sec = 60 };
	/* Commands are passed by address.  They stay until all of them have completed. */
	union {
		struct hmm_dummy_command command;
		struct hmm_dummy_cancel cancel;
	} c[8] = {};
	unsigned int i, n = draw(f) % 8 + 1, used[8];
	struct io_uring_cqe *cqe;

	for (i = 0; i < n; i++) {
		unsigned int op = ops[draw(f) % 6];
		struct io_uring_sqe *sqe = uring_sqe(&f->ring, gpu, op);
		char payload[80] = {};

		if (op == HMM_DUMMY_CANCEL) {
			c[i].cancel.size = sizeof(c[i].cancel);
			c[i].cancel.tag = draw(f) % 8;
		} else {
			any_command(f, &c[i].command);
		}
		if (op == HMM_DUMMY_COMMAND_INLINE)
			inline_payload(payload, &c[i].command);
		else
			memcpy(payload, &(struct hmm_dummy_uring) { .ptr = (uintptr_t)&c[i] },
			       sizeof(struct hmm_dummy_uring));
		if (one_in(f, 8))
			spoil(f, payload, sizeof(payload));
		memcpy(uring_payload(sqe), payload, sizeof(payload));
		used[i] = op;
		sqe->user_data = i;
		if (one_in(f, 4))
			sqe->flags = draw(f) % 2 ? IOSQE_ASYNC : IOSQE_IO_LINK;
	}
	/*
	 * Commands write to this stack frame, so the function cannot return before they
	 * complete.
	 */
	if (io_uring_submit(&f->ring) != (int)n)
		give_up("io_uring_submit");
	/* At this point there may be a command to cancel. */
	i = draw(f) % n;
	if (used[i] != HMM_DUMMY_CANCEL && one_in(f, 2)) {
		struct hmm_dummy_cancel cancel = {
			.size = sizeof(cancel), .tag = c[i].command.tag,
		};
		int ret = ioctl(gpu, HMM_DUMMY_CANCEL, &cancel);

		judge(f, ret ? errno : 0, of_cancel, CANCEL);
	}
	for (i = 0; i < n; i++) {
		int ret = io_uring_wait_cqe_timeout(&f->ring, &cqe, &limit);

		if (ret)
			give_up("io_uring_wait_cqe_timeout");
		ret = -cqe->res;
		if (used[cqe->user_data] == HMM_DUMMY_INFO)
			refuse(f, ret, of_uring_unknown, "unknown uring command", 0);
		else if (used[cqe->user_data] == HMM_DUMMY_CANCEL)
			judge(f, ret, of_uring_cancel, URING_CANCEL);
		else
			judge(f, ret, of_command, URING);
		io_uring_cqe_seen(&f->ring, cqe);
	}
}

static void fuzz_read_write(struct fuzzer *f, int gpu)
{
	static const int flags[] = { 0, 0, 0, RWF_NOWAIT, RWF_HIPRI, RWF_APPEND };
	unsigned int n = draw(f) % 3 + 1;
	off_t pos = draw(f) % (5 * MiB);
	struct iovec v[3];
	bool write = draw(f) % 2;
	ssize_t ret;

	for (unsigned int i = 0; i < n; i++) {
		__u64 addr, length;

		any_range(f, &addr, &length, draw(f) % 2 ? PAGE : 1);
		if (one_in(f, 16))
			addr = any_number(f);
		if (one_in(f, 16))
			length = any_number(f) % (1ULL << 40);
		v[i].iov_base = (void *)addr;
		v[i].iov_len = length;
	}
	if (one_in(f, 16))
		pos = any_number(f);
	if (write)
		ret = pwritev2(gpu, v, n, pos, flags[draw(f) % 6]);
	else
		ret = preadv2(gpu, v, n, pos, flags[draw(f) % 6]);
	judge(f, ret < 0 ? errno : 0, of_read, write ? WRITE : READ);
}

/* Fuzz a dma-buf, or another file in its place, and a file that imports it. */
static void fuzz_dmabuf(struct fuzzer *f, int gpu)
{
	struct hmm_dummy_export export = { .size = sizeof(export) };
	struct hmm_dummy_import import = { .size = sizeof(import) };
	struct hmm_dummy_command c;
	int file = gpu_open(draw(f) % 2), fd;

	if (one_in(f, 4))
		spoil(f, &export, sizeof(export));
	fd = ioctl(gpu, HMM_DUMMY_EXPORT, &export);
	judge(f, fd < 0 ? errno : 0, of_export, EXPORT);
	import.fd = one_in(f, 8) ? (int)any_number(f) : fd;
	if (one_in(f, 4))
		spoil(f, &import, sizeof(import));
	judge(f, ioctl(file, HMM_DUMMY_IMPORT, &import) ? errno : 0, of_import, IMPORT);
	if (draw(f) % 2) {
		close(fd);
		fd = -1;
	}
	fuzz_read_write(f, file);
	any_command(f, &c);
	c.flags |= HMM_DUMMY_IN_SCRATCH;
	if (!one_in(f, 8))
		c.addr %= 4 * MiB;
	judge(f, gpu_command(file, &c) ? errno : 0, of_command, SCRATCH);
	close(file);
	close(fd);
}

static void fuzz_control(struct fuzzer *f, int gpu)
{
	unsigned int n = draw(f) % 2;
	int ret;

	switch (draw(f) % 6) {
	case 0:
		ret = gpu_control(n, "revoke %llu %llu", (unsigned long long)any_number(f),
				  (unsigned long long)any_number(f));
		break;
	case 1:
		ret = gpu_control(n, "revoke %llu %llu", (unsigned long long)draw(f) % (64 * MiB),
				  (unsigned long long)draw(f) % MiB);
		break;
	case 2:
		ret = gpu_control(n, "revoke-importer %s", draw(f) % 2 ? "hmm_dummy1" : "nobody");
		break;
	case 3:
		ret = gpu_control(n, "reset %u", (unsigned int)(draw(f) % 5));
		break;
	case 4:
		ret = gpu_control(n, "pause") || gpu_control(n, "resume");
		break;
	default:
		ret = gpu_control(n, "%.*s", (int)(draw(f) % 9), (char *)&f->random);
	}
	judge(f, ret ? errno : 0, of_control, CONTROL);
}

/* Fuzz operations that a device file must refuse or survive. */
static void fuzz_file(struct fuzzer *f, int gpu)
{
	struct pollfd p = { .fd = gpu, .events = POLLIN };
	void *m = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, gpu, draw(f) % 64 * PAGE);

	if (m != MAP_FAILED)
		complain(f, 0, "the device can be mapped", 0);
	poll(&p, 1, 0);
	lseek(gpu, any_number(f), draw(f) % 5);
	fallocate(gpu, draw(f) % 4, draw(f), draw(f));
	f->calls++;
}

static void *fuzz(void *arg)
{
	static void (*const kinds[])(struct fuzzer *f, int gpu) = {
		fuzz_ioctl, fuzz_ioctl, fuzz_ioctl, fuzz_uring, fuzz_read_write,
		fuzz_control, fuzz_file, fuzz_dmabuf,
	};
	struct fuzzer *f = arg;

	while (!stop && !f->error)
		kinds[draw(f) % 8](f, gpus[draw(f) % 2]);
	return NULL;
}

/* Change some of the memory while the calls use it. */
static void churn(struct fuzzer *f)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	static const int advice[] = {
		MADV_DONTNEED, MADV_FREE, MADV_PAGEOUT, MADV_COLD, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_DONTFORK, MADV_DOFORK,
	};
	size_t length = (draw(f) % 16 + 1) * PAGE;
	char *p = arena + draw(f) % ((ARENA - length) / PAGE) * PAGE;
	int flags = MAP_FIXED | (draw(f) % 2 ? MAP_PRIVATE : MAP_SHARED);
	pid_t child;

	switch (draw(f) % 8) {
	case 0:
		mprotect(p, length, prots[draw(f) % 3]);
		break;
	case 1:
		munmap(p, length);
		break;
	case 2:
		mmap(p, length, PROT_READ | PROT_WRITE, flags, memfd, draw(f) % 16 * PAGE);
		break;
	case 3:
		madvise(p, length, advice[draw(f) % 10]);
		break;
	case 4:
		mlock(p, length);
		munlock(p, length);
		break;
	case 5:
		child = fork();
		if (!child)
			_exit(0);
		wait_child(child);
		break;
	default:	/* more often than the others, so that most of the memory is usable */
		mmap(p, length, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	}
}

/* Whether each kind of call has succeeded.  How long that takes depends on the machine. */
static bool all_succeeded(const struct fuzzer *f)
{
	for (int kind = 0; kind < KINDS; kind++) {
		unsigned long done = 0;

		for (int i = 0; i < THREADS; i++)
			done += __atomic_load_n(&f[i].done[kind], __ATOMIC_RELAXED);
		if (!done)
			return false;
	}
	return true;
}

TEST_LONG(anything, 100000)
{
	uint64_t seed = setting("HMM_P2P_SEED", 1);
	double said = now_seconds(), seconds = setting("HMM_P2P_SECONDS", 60);
	double end = said + seconds;
	unsigned long done[KINDS] = {}, rounds = 0;
	struct io_uring_params params = { .flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32 };
	struct fuzzer f[THREADS + 1] = {};
	unsigned long calls = 0, refused = 0;
	pthread_t threads[THREADS];
	char *sentinel;

	TH_LOG("seed %llu", (unsigned long long)seed);
	for (int i = 0; i < 2; i++) {
		gpus[i] = gpu_open(i);
		ASSERT_LE(0, gpus[i]);
	}
	memfd = memfd_create("fuzz", 0);
	ASSERT_EQ(0, ftruncate(memfd, MiB));
	/* Nothing is mapped behind the arena, so a range that is too long is invalid. */
	arena = mmap(NULL, 2 * ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, arena);
	ASSERT_EQ(0, mprotect(arena, ARENA, PROT_READ | PROT_WRITE));
	sentinel = anon(SENTINEL);
	fill_pattern(sentinel, SENTINEL, 5);
	ASSERT_EQ(0, gpu_to_device(gpus[0], sentinel, SENTINEL / 2));
	for (int i = 0; i <= THREADS; i++) {
		f[i].nr = i;
		f[i].random = random_start(seed, i);
	}
	for (int i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, io_uring_queue_init_params(8, &f[i].ring, &params));
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, fuzz, &f[i]));
	}
	while (now_seconds() < end ||
	       (now_seconds() < end + seconds && !all_succeeded(f))) {
		churn(&f[THREADS]);
		usleep(draw(&f[THREADS]) % 3000);
		if (now_seconds() - said < 10)
			continue;
		said = now_seconds();
		TH_LOG("%lu, %lu, %lu calls; %.0f s left", f[0].calls, f[1].calls, f[2].calls,
		       end - said);
		ASSERT_EQ(-1, check_pattern(sentinel, SENTINEL, 5));
		ASSERT_EQ(0, gpu_to_device(gpus[rounds++ % 2], sentinel, SENTINEL / 2));
	}
	stop = true;
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		io_uring_queue_exit(&f[i].ring);
		EXPECT_EQ(NULL, f[i].error) TH_LOG("%s", f[i].error);
		calls += f[i].calls;
		refused += f[i].refused;
		for (int kind = 0; kind < KINDS; kind++)
			done[kind] += f[i].done[kind];
	}
	TH_LOG("%lu calls, %lu of them refused", calls, refused);
	for (int kind = 0; kind < KINDS; kind++) {
		EXPECT_LT(0, done[kind])
			TH_LOG("%s never succeeded", kind_names[kind]);
	}
	EXPECT_LT(calls / 20, refused);
	EXPECT_EQ(-1, check_pattern(sentinel, SENTINEL, 5));
	munmap(sentinel, SENTINEL);
	munmap(arena, 2 * ARENA);
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, gpus[i]);

		EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
		close(gpus[i]);
	}
}

TEST_HARNESS_MAIN
