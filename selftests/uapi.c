// SPDX-License-Identifier: GPL-2.0
/*
 * Every ioctl at the limits of its arguments.  Each refused call returns its documented errno,
 * moves no memory and uses no device memory.
 */
#include "common.h"

FIXTURE(uapi) {
	int gpu;
	char *p;
	struct hmm_dummy_info before;
};

#define PAGES	16UL

FIXTURE_SETUP(uapi)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	self->p = anon(PAGES * PAGE);
	ASSERT_NE(MAP_FAILED, self->p);
	fill_pattern(self->p, PAGES * PAGE, 1);
	/*
	 * Half of the pages are on the device and half in RAM, so that any unwanted move shows.
	 */
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, PAGES / 2 * PAGE));
	ASSERT_EQ(PAGES / 2, pages_on_device(0, self->p, PAGES * PAGE));
	ASSERT_EQ(0, gpu_info(self->gpu, &self->before));
}

FIXTURE_TEARDOWN(uapi)
{
	struct hmm_dummy_info after;

	EXPECT_EQ(PAGES / 2, pages_on_device(0, self->p, PAGES * PAGE));
	EXPECT_EQ(0, gpu_info(self->gpu, &after));
	EXPECT_EQ(self->before.vram_free, after.vram_free);
	EXPECT_EQ(-1, check_pattern(self->p, PAGES * PAGE, 1));
	munmap(self->p, PAGES * PAGE);
	close(self->gpu);
}

#define EXPECT_ERRNO(err, call)			\
	do {					\
		errno = 0;			\
		EXPECT_EQ(-1, call);		\
		EXPECT_EQ(err, errno);		\
	} while (0)

/* The size of the structure's first version, which ended with field @last. */
#define FIRST(type, last)						\
	(offsetof(struct type, last) + sizeof(((struct type *)0)->last))

TEST_F(uapi, sizes)
{
	struct {
		unsigned int cmd, first, size;
	} t[] = {
		{ HMM_DUMMY_INFO, FIRST(hmm_dummy_info, stale_writes),
		  sizeof(struct hmm_dummy_info) },
		{ HMM_DUMMY_MIGRATE, FIRST(hmm_dummy_migrate, failed),
		  sizeof(struct hmm_dummy_migrate) },
		{ HMM_DUMMY_QUERY, FIRST(hmm_dummy_query, vec),
		  sizeof(struct hmm_dummy_query) },
		{ HMM_DUMMY_COMMAND, FIRST(hmm_dummy_command, value),
		  sizeof(struct hmm_dummy_command) },
		{ HMM_DUMMY_CANCEL, FIRST(hmm_dummy_cancel, cancelled),
		  sizeof(struct hmm_dummy_cancel) },
		{ HMM_DUMMY_EXPORT, FIRST(hmm_dummy_export, flags),
		  sizeof(struct hmm_dummy_export) },
		{ HMM_DUMMY_IMPORT, FIRST(hmm_dummy_import, reserved),
		  sizeof(struct hmm_dummy_import) },
	};
	union {
		__u32 size;
		char bytes[4096];
	} arg;

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		TH_LOG("ioctl %zu", i);
		memset(&arg, 0, sizeof(arg));
		arg.size = t[i].first - 1;
		EXPECT_ERRNO(EINVAL, ioctl(self->gpu, t[i].cmd, &arg));
		arg.size = 0;
		EXPECT_ERRNO(EINVAL, ioctl(self->gpu, t[i].cmd, &arg));
		arg.size = t[i].size + 1;
		arg.bytes[t[i].size] = 1;
		EXPECT_ERRNO(E2BIG, ioctl(self->gpu, t[i].cmd, &arg));
		arg.size = 0xffffffff;
		EXPECT_ERRNO(E2BIG, ioctl(self->gpu, t[i].cmd, &arg));
		EXPECT_ERRNO(EFAULT, ioctl(self->gpu, t[i].cmd, NULL));
		EXPECT_ERRNO(EFAULT, ioctl(self->gpu, t[i].cmd, 8));
	}
	/* A longer structure is valid if its unknown part is zero, also if it is a page long. */
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg);
	EXPECT_EQ(0, ioctl(self->gpu, HMM_DUMMY_INFO, &arg));
	EXPECT_ERRNO(ENOTTY, ioctl(self->gpu, _IO(HMM_DUMMY_TYPE, 0x05), &arg));
	EXPECT_ERRNO(ENOTTY, ioctl(self->gpu, _IO(HMM_DUMMY_TYPE, 0x08), &arg));
	EXPECT_ERRNO(ENOTTY, ioctl(self->gpu, _IO('x', 0), &arg));
	EXPECT_ERRNO(ENOTTY, ioctl(self->gpu,
				   _IOW(HMM_DUMMY_TYPE, 0, __u32), &arg));
}

TEST_F(uapi, unknown)
{
	struct hmm_dummy_info info;
	struct hmm_dummy_migrate mig;
	struct hmm_dummy_query query;
	struct hmm_dummy_command com;
	struct hmm_dummy_cancel cancel;
	char vec[PAGES];

#define TRY(cmd, arg, err, ...)						\
	do {								\
		arg = (typeof(arg)) { .size = sizeof(arg), __VA_ARGS__ }; \
		EXPECT_ERRNO(err, ioctl(self->gpu, cmd, &arg));		\
	} while (0)
#define ALL	.pidfd = -1, .addr = (uintptr_t)self->p, .length = PAGES * PAGE

	TRY(HMM_DUMMY_INFO, info, EOPNOTSUPP, .flags = 1);
	TRY(HMM_DUMMY_INFO, info, EOPNOTSUPP, .reserved = 1);
	TRY(HMM_DUMMY_MIGRATE, mig, EOPNOTSUPP, ALL, .flags = 8);
	TRY(HMM_DUMMY_MIGRATE, mig, EOPNOTSUPP, ALL,
	    .flags = HMM_DUMMY_MIGRATE_TO_RAM | HMM_DUMMY_MIGRATE_NO_EVICT);
	TRY(HMM_DUMMY_MIGRATE, mig, EOPNOTSUPP, ALL, .flags = 1U << 31);
	TRY(HMM_DUMMY_MIGRATE, mig, EOPNOTSUPP, ALL, .reserved = 1);
	TRY(HMM_DUMMY_QUERY, query, EOPNOTSUPP, ALL, .flags = 1,
	    .vec = (uintptr_t)vec);
	TRY(HMM_DUMMY_QUERY, query, EOPNOTSUPP, ALL, .reserved = 1,
	    .vec = (uintptr_t)vec);
#define ONE	.addr = (uintptr_t)self->p, .length = PAGE
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .flags = 2);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .queue = HMM_DUMMY_QUEUES);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .op = HMM_DUMMY_OP_TO_RAM + 1);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .op = HMM_DUMMY_OP_FILL, .src = 1);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .op = HMM_DUMMY_OP_COPY,
	    .value = 1, .src = (uintptr_t)self->p);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .pattern = HMM_DUMMY_RANDOM + 1);
	/* Fields that this pattern or op does not use. */
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .unit = 8);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .stride = 8);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .seed = 8);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .pattern = HMM_DUMMY_STRIDED,
	    .unit = 8, .stride = 16, .seed = 1);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .pattern = HMM_DUMMY_RANDOM,
	    .unit = 8, .stride = 16);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .pattern = HMM_DUMMY_RANDOM,
	    .unit = 8, .op = HMM_DUMMY_OP_CRC32C);
	TRY(HMM_DUMMY_COMMAND, com, EOPNOTSUPP, ONE, .pattern = HMM_DUMMY_STRIDED,
	    .unit = 8, .stride = 8, .op = HMM_DUMMY_OP_TO_RAM);
	/* Sizes and alignments. */
	TRY(HMM_DUMMY_COMMAND, com, EINVAL, ONE, .pattern = HMM_DUMMY_RANDOM);
	TRY(HMM_DUMMY_COMMAND, com, EINVAL, ONE, .pattern = HMM_DUMMY_RANDOM,
	    .unit = 4097);
	TRY(HMM_DUMMY_COMMAND, com, EINVAL, ONE, .pattern = HMM_DUMMY_RANDOM,
	    .unit = 3);
	TRY(HMM_DUMMY_COMMAND, com, EINVAL, ONE, .pattern = HMM_DUMMY_STRIDED,
	    .unit = 8, .stride = 7);
	TRY(HMM_DUMMY_COMMAND, com, EINVAL, .pattern = HMM_DUMMY_STRIDED,
	    .addr = (uintptr_t)self->p, .length = 7, .unit = 8, .stride = 8);
	TRY(HMM_DUMMY_COMMAND, com, EINVAL, .op = HMM_DUMMY_OP_ADD,
	    .addr = (uintptr_t)self->p + 4, .length = 8);
	TRY(HMM_DUMMY_COMMAND, com, EINVAL, .op = HMM_DUMMY_OP_ATOMIC_ADD,
	    .addr = (uintptr_t)self->p, .length = 12);
	TRY(HMM_DUMMY_COMMAND, com, EINVAL, .op = HMM_DUMMY_OP_TO_RAM,
	    .addr = (uintptr_t)self->p + 8, .length = PAGE);
	TRY(HMM_DUMMY_CANCEL, cancel, EOPNOTSUPP, .flags = 1);
	TRY(HMM_DUMMY_CANCEL, cancel, ENOENT, .tag = 1);
	/* A vector that is longer than any valid one, and an unmapped one. */
	TRY(HMM_DUMMY_MIGRATE, mig, EINVAL, .pidfd = -1, .addr = (uintptr_t)self->p,
	    .length = (1UL << 30) + PAGE, .vec = (uintptr_t)vec);
	TRY(HMM_DUMMY_MIGRATE, mig, EFAULT, .pidfd = -1, .vec = 16,
	    .flags = HMM_DUMMY_MIGRATE_TO_RAM,
	    .addr = (uintptr_t)self->p + PAGES / 2 * PAGE, .length = PAGE);
}

TEST_F(uapi, ranges)
{
	const __u64 p = (uintptr_t)self->p;
	struct {
		__u64 addr, length;
		int err;
	} t[] = {
		{ p + 1, PAGE, EINVAL },
		{ p, PAGE + 1, EINVAL },
		{ p, 0, EINVAL },
		{ p, 1, EINVAL },
		{ -PAGE, 2 * PAGE, EINVAL },
		{ p, -PAGE, EINVAL },
		{ 0, PAGE, EFAULT },
		{ -2 * PAGE, PAGE, EFAULT },
		{ 1ULL << 47, PAGE, EFAULT },
		{ p, 1ULL << 46, EFAULT },
	};
	char vec[PAGES];

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct hmm_dummy_migrate mig = {
			.size = sizeof(mig), .pidfd = -1,
			.addr = t[i].addr, .length = t[i].length,
			.migrated = 123, .skipped = 123, .failed = 123,
		};
		struct hmm_dummy_query query = {
			.size = sizeof(query), .pidfd = -1, .addr = t[i].addr,
			.length = t[i].length, .vec = (uintptr_t)vec,
		};

		TH_LOG("range %zu", i);
		EXPECT_ERRNO(t[i].err, ioctl(self->gpu, HMM_DUMMY_MIGRATE, &mig));
		mig.flags = HMM_DUMMY_MIGRATE_TO_RAM;
		EXPECT_ERRNO(t[i].err, ioctl(self->gpu, HMM_DUMMY_MIGRATE, &mig));
		EXPECT_EQ(0, mig.migrated + mig.skipped + mig.failed);
		/* A query has a limit of its own. */
		if (t[i].length <= 1UL << 30) {
			EXPECT_ERRNO(t[i].err, ioctl(self->gpu, HMM_DUMMY_QUERY,
						     &query));
		} else {
			EXPECT_ERRNO(EINVAL, ioctl(self->gpu, HMM_DUMMY_QUERY,
						   &query));
		}
	}
}

/* Memory with a hole in its middle: nothing of it may move. */
TEST_F(uapi, hole)
{
	char *q = anon(3 * PAGE);
	struct hmm_dummy_command com = {
		.size = sizeof(com), .op = HMM_DUMMY_OP_FILL, .value = 9,
		.addr = (uintptr_t)q + PAGE, .length = PAGE,
	};

	memset(q, 5, 3 * PAGE);
	munmap(q + PAGE, PAGE);
	EXPECT_ERRNO(EFAULT, gpu_to_device(self->gpu, q, 3 * PAGE));
	EXPECT_EQ(0, pages_on_device(0, q, 3 * PAGE));
	EXPECT_ERRNO(EFAULT, ioctl(self->gpu, HMM_DUMMY_COMMAND, &com));
	EXPECT_EQ(5, q[0]);
	EXPECT_EQ(5, q[2 * PAGE]);
	munmap(q, 3 * PAGE);
}

/* A device never accesses a VMA that maps a device. */
TEST_F(uapi, device_mapping)
{
	struct hmm_dummy_command com = {
		.size = sizeof(com), .op = HMM_DUMMY_OP_CRC32C, .length = PAGE,
	};
	char path[128];
	char *bar;
	int fd;

	snprintf(path, sizeof(path),
		 "/sys/class/misc/hmm_dummy0/device/resource2");
	fd = open(path, O_RDWR);
	ASSERT_LE(0, fd) TH_LOG("%s: %s", path, strerror(errno));
	bar = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	ASSERT_NE(MAP_FAILED, bar);
	EXPECT_ERRNO(EFAULT, gpu_to_device(self->gpu, bar, PAGE));
	EXPECT_ERRNO(EFAULT, gpu_to_ram(self->gpu, bar, PAGE));
	com.addr = (uintptr_t)bar;
	EXPECT_ERRNO(EFAULT, ioctl(self->gpu, HMM_DUMMY_COMMAND, &com));
	munmap(bar, PAGE);
}

TEST_F(uapi, read_only_and_none)
{
	char *q = anon(2 * PAGE);
	unsigned int crc;

	memset(q, 1, 2 * PAGE);
	mprotect(q, PAGE, PROT_READ);
	mprotect(q + PAGE, PAGE, PROT_NONE);
	EXPECT_ERRNO(EPERM, gpu_fill(self->gpu, q, PAGE, 2));
	EXPECT_EQ(0, gpu_crc32c(self->gpu, q, PAGE, &crc));
	EXPECT_ERRNO(EFAULT, gpu_crc32c(self->gpu, q + PAGE, PAGE, &crc));
	EXPECT_ERRNO(EFAULT, gpu_to_device(self->gpu, q + PAGE, PAGE));
	EXPECT_EQ(1, q[0]);
	munmap(q, 2 * PAGE);
}

TEST_F(uapi, command_ranges)
{
	struct hmm_dummy_command com = { .size = sizeof(com), };

	com.addr = (uintptr_t)self->p;
	EXPECT_ERRNO(EINVAL, ioctl(self->gpu, HMM_DUMMY_COMMAND, &com));
	com.length = -1;
	EXPECT_ERRNO(EINVAL, ioctl(self->gpu, HMM_DUMMY_COMMAND, &com));
	com.op = HMM_DUMMY_OP_COPY;
	com.length = 16;
	com.src = -8;
	EXPECT_ERRNO(EINVAL, ioctl(self->gpu, HMM_DUMMY_COMMAND, &com));
	com.src = 0;
	EXPECT_ERRNO(EFAULT, ioctl(self->gpu, HMM_DUMMY_COMMAND, &com));
	com.op = HMM_DUMMY_OP_CRC32C;
	com.addr = 1ULL << 47;
	EXPECT_ERRNO(EFAULT, ioctl(self->gpu, HMM_DUMMY_COMMAND, &com));
	com.addr = 0;
	com.length = -1;
	EXPECT_ERRNO(EFAULT, ioctl(self->gpu, HMM_DUMMY_COMMAND, &com));
}

TEST_F(uapi, bad_vec)
{
	struct hmm_dummy_query query = {
		.size = sizeof(query), .pidfd = -1,
		.addr = (uintptr_t)self->p, .length = PAGES * PAGE,
		.vec = 16,
	};

	EXPECT_ERRNO(EFAULT, ioctl(self->gpu, HMM_DUMMY_QUERY, &query));
}

TEST_F(uapi, pidfd)
{
	int null = open("/dev/null", O_RDONLY);
	pid_t child;
	int pidfd;

	EXPECT_ERRNO(EBADF, gpu_migrate(self->gpu, 9999, self->p, PAGE, 0, NULL));
	EXPECT_ERRNO(EBADF, gpu_migrate(self->gpu, null, self->p, PAGE, 0, NULL));
	EXPECT_ERRNO(EBADF, gpu_migrate(self->gpu, -2, self->p, PAGE, 0, NULL));
	close(null);

	child = fork();
	if (!child)
		_exit(0);
	pidfd = pidfd_open(child);
	EXPECT_EQ(0, wait_child(child));
	EXPECT_ERRNO(ESRCH, gpu_migrate(self->gpu, pidfd, self->p, PAGE, 0, NULL));
	close(pidfd);
}

/* A process without ptrace rights on another one can neither move its memory nor query it. */
TEST_F(uapi, no_ptrace_rights)
{
	pid_t child;
	char vec[1];

	child = fork();
	if (!child) {
		struct hmm_dummy_query query = {
			.size = sizeof(query), .addr = (uintptr_t)self->p,
			.length = PAGE, .vec = (uintptr_t)vec,
		};
		char *q = anon(PAGE);
		int gpu, pidfd;

		if (setresgid(65534, 65534, 65534) ||
		    setresuid(65534, 65534, 65534))
			_exit(10);
		gpu = gpu_open(0);
		pidfd = pidfd_open(getppid());
		if (gpu < 0 || pidfd < 0)
			_exit(11);
		query.pidfd = pidfd;
		if (gpu_migrate(gpu, pidfd, self->p, PAGE,
				HMM_DUMMY_MIGRATE_TO_RAM, NULL) != -1 ||
		    errno != EPERM)
			_exit(12);
		if (gpu_migrate(gpu, pidfd, self->p + 8 * PAGE, PAGE, 0,
				NULL) != -1 || errno != EPERM)
			_exit(13);
		if (ioctl(gpu, HMM_DUMMY_QUERY, &query) != -1 || errno != EPERM)
			_exit(14);
		/* A process can always query and move its own memory. */
		q[0] = 1;
		if (gpu_to_device(gpu, q, PAGE))
			_exit(15);
		_exit(0);
	}
	EXPECT_EQ(0, wait_child(child));
}

/* A file that another process has inherited works on that process's memory. */
TEST_F(uapi, other_process)
{
	pid_t child = fork();

	if (!child) {
		if (gpu_fill(self->gpu, self->p + PAGES / 2 * PAGE, PAGE, 3))
			_exit(1);
		_exit(self->p[PAGES / 2 * PAGE + 1] == 3 ? 0 : 2);
	}
	EXPECT_EQ(0, wait_child(child));
}

TEST_HARNESS_MAIN
