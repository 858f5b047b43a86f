// SPDX-License-Identifier: GPL-2.0
/*
 * Scratch memory of GPU 0 that GPU 1 imports as a dma-buf and pins.  It is the reference that
 * peer access to process memory is compared with.  It stays in place until GPU 0 takes it back,
 * which GPU 0 may do at any time.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "uring.h"

#define LEN	(MiB + 3 * PAGE)

FIXTURE(dmabuf) {
	int owner;		/* GPU 0, which exports its scratch memory */
	int peer;		/* GPU 1, which imports it */
	int fd;
	char *p, *q;
	size_t size;
};

/* Open a file of GPU 0 and a file of GPU 1 that has imported its memory.  Returns 0 or -1. */
static int open_both(FIXTURE_DATA(dmabuf) *self)
{
	self->owner = gpu_open(0);
	self->peer = gpu_open(1);
	self->fd = gpu_export(self->owner);
	return self->fd < 0 ? -1 : gpu_import(self->peer, self->fd);
}

static void close_both(FIXTURE_DATA(dmabuf) *self)
{
	close(self->fd);
	close(self->peer);
	close(self->owner);
}

FIXTURE_SETUP(dmabuf)
{
	struct hmm_dummy_info info;

	ASSERT_EQ(0, dmabufs("objects"));
	ASSERT_EQ(0, open_both(self));
	ASSERT_EQ(0, gpu_info(self->owner, &info));
	self->size = info.scratch_bytes;
	ASSERT_LE(LEN, self->size);
	self->p = anon(LEN);
	self->q = anon(LEN);
	fill_pattern(self->p, LEN, 1);
}

FIXTURE_TEARDOWN(dmabuf)
{
	munmap(self->p, LEN);
	munmap(self->q, LEN);
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, i ? self->peer : self->owner);

		EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
	}
	close_both(self);
	EXPECT_EQ(0, dmabufs("objects"));
}

/* Each of the two reads what the other has written, wherever their buffers are. */
TEST_F(dmabuf, there_and_back)
{
	char *end = self->p + PAGE;

	EXPECT_EQ(1, dmabufs("objects"));
	EXPECT_EQ(1, dmabufs("devices"));
	EXPECT_EQ(self->size, lseek(self->peer, 0, SEEK_END));
	EXPECT_EQ(self->size, lseek(self->fd, 0, SEEK_END));
	ASSERT_EQ(LEN - 7, pwrite(self->owner, self->p + 3, LEN - 7, 1001));
	ASSERT_EQ(LEN - 7, pread(self->peer, self->q + 5, LEN - 7, 1001));
	EXPECT_EQ(0, memcmp(self->p + 3, self->q + 5, LEN - 7));

	fill_pattern(self->p, LEN, 2);
	ASSERT_EQ(0, gpu_to_device(self->peer, self->p, LEN));
	ASSERT_EQ(0, gpu_to_device(self->owner, self->q, LEN));
	ASSERT_EQ(LEN, pwrite(self->peer, self->p, LEN, self->size - LEN));
	ASSERT_EQ(LEN, pread(self->owner, self->q, LEN, self->size - LEN));
	EXPECT_EQ(LEN / PAGE, pages_on_gpu(1, self->p, LEN));
	EXPECT_EQ(LEN / PAGE, pages_on_gpu(0, self->q, LEN));
	EXPECT_EQ(-1, check_pattern(self->q, LEN, 2));

	/*
	 * GPU 1 writes to process memory that it reaches by an alias, beside the pinned memory.
	 */
	memset(self->q, 0, LEN);
	ASSERT_EQ(0, gpu_to_device(self->owner, self->q, LEN));
	ASSERT_EQ(LEN, pread(self->peer, self->q, LEN, self->size - LEN));
	EXPECT_EQ(LEN / PAGE, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(LEN / PAGE, pages_on_gpu(0, self->q, LEN));
	EXPECT_EQ(-1, check_pattern(self->q, LEN, 2));

	/* An access stops at the end of the imported memory. */
	ASSERT_EQ(PAGE, pread(self->peer, end, 2 * PAGE, self->size - PAGE));
	EXPECT_EQ(0, pread(self->peer, end, 1, self->size));
	EXPECT_EQ(-1, pwrite(self->peer, end, 1, self->size));
	EXPECT_EQ(ENOSPC, errno);
}

/* GPU 1's own scratch memory is another one.  Other files of GPU 1 use that. */
TEST_F(dmabuf, of_this_file_only)
{
	int own = gpu_open(1);

	ASSERT_LE(0, own);
	/* The import stays when the descriptor is closed. */
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(1, dmabufs("objects"));
	ASSERT_EQ(0, gpu_fill_scratch(own, 0, LEN, 1));
	ASSERT_EQ(0, gpu_fill_scratch(self->peer, 0, LEN, 2));
	ASSERT_EQ(PAGE, pread(own, self->q, PAGE, 0));
	EXPECT_EQ(1, self->q[77]);
	ASSERT_EQ(PAGE, pread(self->owner, self->q, PAGE, MiB));
	EXPECT_EQ(2, self->q[77]);
	close(own);
}

/* Commands on imported memory: each op, each pattern, up to the end of the memory. */
TEST_F(dmabuf, commands)
{
	struct hmm_dummy_command c = {
		.flags = HMM_DUMMY_IN_SCRATCH, .op = HMM_DUMMY_OP_CRC32C, .addr = 3,
		.length = LEN - 3,
	};

	ASSERT_EQ(LEN, pwrite(self->owner, self->p, LEN, 0));
	ASSERT_EQ(0, gpu_command(self->peer, &c));
	EXPECT_EQ(crc32c(self->p + 3, LEN - 3), c.value);

	c = (struct hmm_dummy_command) {
		.flags = HMM_DUMMY_IN_SCRATCH, .op = HMM_DUMMY_OP_ADD, .addr = self->size - 64,
		.length = 64, .pattern = HMM_DUMMY_STRIDED, .unit = 8, .stride = 16,
		.value = 5,
	};
	ASSERT_EQ(0, gpu_fill_scratch(self->owner, self->size - 64, 64, 0));
	ASSERT_EQ(0, gpu_command(self->peer, &c));
	ASSERT_EQ(64, pread(self->owner, self->q, 64, self->size - 64));
	for (int i = 0; i < 64; i += 8)
		EXPECT_EQ(i % 16 ? 0 : 5, *(uint64_t *)(self->q + i));

	c.addr += 8;
	EXPECT_EQ(-1, gpu_command(self->peer, &c));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, gpu_fill_scratch(self->peer, (size_t)self->p, 1, 1));
	EXPECT_EQ(EFAULT, errno);
	for (unsigned int op = 0; op <= HMM_DUMMY_OP_TO_RAM; op++) {
		c = (struct hmm_dummy_command) {
			.flags = HMM_DUMMY_IN_SCRATCH, .op = op, .length = PAGE,
		};
		if (op == HMM_DUMMY_OP_FILL || op == HMM_DUMMY_OP_CRC32C ||
		    op == HMM_DUMMY_OP_ADD)
			continue;
		EXPECT_EQ(-1, gpu_command(self->peer, &c));
		EXPECT_EQ(EOPNOTSUPP, errno) TH_LOG("op %u", op);
	}
}

/* Operations that began before the import work on GPU 1's own scratch memory. */
TEST_F(dmabuf, begun_before)
{
	struct hmm_dummy_command c = {
		.flags = HMM_DUMMY_IN_SCRATCH, .op = HMM_DUMMY_OP_FILL, .addr = PAGE,
		.length = PAGE, .value = 3,
	};
	int late = gpu_open(1);
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	ASSERT_LE(0, late);
	ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
	ASSERT_EQ(0, gpu_fill_scratch(self->owner, 0, 2 * PAGE, 1));
	memset(self->p, 2, PAGE);
	ASSERT_EQ(0, gpu_control(1, "pause"));
	io_uring_prep_write(io_uring_get_sqe(&ring), late, self->p, PAGE, 0);
	EXPECT_NE(NULL, uring_command(&ring, late, &c));
	EXPECT_EQ(2, io_uring_submit(&ring));
	EXPECT_EQ(0, gpu_import(late, self->fd));
	ASSERT_EQ(0, gpu_control(1, "resume"));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
		EXPECT_LE(0, cqe->res);
		io_uring_cqe_seen(&ring, cqe);
	}
	ASSERT_EQ(2 * PAGE, pread(late, self->q, 2 * PAGE, 0));
	EXPECT_EQ(1, self->q[0]);
	EXPECT_EQ(1, self->q[PAGE]);
	close(late);
	/* Their results are in GPU 1's own memory. */
	late = gpu_open(1);
	ASSERT_EQ(2 * PAGE, pread(late, self->q, 2 * PAGE, 0));
	EXPECT_EQ(2, self->q[0]);
	EXPECT_EQ(3, self->q[PAGE]);
	/* From the import on, commands use the memory of GPU 0. */
	ASSERT_EQ(0, gpu_import(late, self->fd));
	c.value = 4;
	EXPECT_NE(NULL, uring_command(&ring, late, &c));
	EXPECT_EQ(1, io_uring_submit(&ring));
	ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
	EXPECT_EQ(0, cqe->res);
	ASSERT_EQ(2 * PAGE, pread(self->owner, self->q, 2 * PAGE, 0));
	EXPECT_EQ(4, self->q[PAGE]);
	io_uring_queue_exit(&ring);
	close(late);
}

/* Read by io_uring into a buffer that the kernel has pinned, so that the CPU copies. */
TEST_F(dmabuf, uring)
{
	struct iovec v = { self->q, MiB };
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	ASSERT_EQ(LEN, pwrite(self->owner, self->p, LEN, 0));
	ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
	ASSERT_EQ(0, io_uring_register_buffers(&ring, &v, 1));
	for (int revoked = 0; revoked < 2; revoked++) {
		io_uring_prep_read_fixed(io_uring_get_sqe(&ring), self->peer, self->q, MiB, 0, 0);
		ASSERT_EQ(1, io_uring_submit(&ring));
		ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
		EXPECT_EQ(revoked ? -ENODEV : (int)MiB, cqe->res);
		io_uring_cqe_seen(&ring, cqe);
		ASSERT_EQ(0, gpu_control(0, "reset 0"));
	}
	EXPECT_EQ(-1, check_pattern(self->q, MiB, 1));
	io_uring_queue_exit(&ring);
}

/*
 * Revoking aliases and switching peer access off do not affect pinned memory, nor cause faults.
 */
TEST_F(dmabuf, stays)
{
	struct hmm_dummy_info info, after;

	ASSERT_EQ(LEN, pwrite(self->owner, self->p, LEN, 0));
	ASSERT_EQ(LEN, pread(self->peer, self->q, LEN, 0));
	ASSERT_EQ(0, gpu_info(self->peer, &info));
	ASSERT_EQ(0, gpu_control(0, "revoke 0 %llu", (unsigned long long)info.vram_bytes));
	ASSERT_EQ(0, gpu_control(0, "revoke-importer hmm_dummy1"));
	ASSERT_EQ(1, peer_access_set(false));
	memset(self->q, 0, LEN);
	EXPECT_EQ(0, gpu_info(self->peer, &info));
	EXPECT_EQ(LEN, pread(self->peer, self->q, LEN, 0));
	EXPECT_EQ(-1, check_pattern(self->q, LEN, 1));
	EXPECT_EQ(0, gpu_info(self->peer, &after));
	peer_access_set(true);
	/* The buffer has been touched, so the device has no fault to handle. */
	EXPECT_EQ(info.device_faults, after.device_faults);
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
}

/* A reset of a device ends this dma-buf for good.  A new export works. */
static void ends(struct __test_metadata *_metadata, FIXTURE_DATA(dmabuf) *self, int reset)
{
	int again = gpu_open(1);

	ASSERT_LE(0, again);
	ASSERT_EQ(0, reset);
	EXPECT_EQ(1, dmabufs("devices"));
	EXPECT_EQ(-1, pread(self->peer, self->q, LEN, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, pwrite(self->peer, self->p, LEN, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, gpu_fill_scratch(self->peer, 0, 1, 1));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, gpu_import(again, self->fd));
	EXPECT_EQ(ENODEV, errno);
	/* The exporter still has its memory. */
	EXPECT_EQ(LEN, pwrite(self->owner, self->p, LEN, 0));
	close(self->fd);
	close(self->peer);
	self->peer = again;
	self->fd = gpu_export(self->owner);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, gpu_import(again, self->fd));
	ASSERT_EQ(LEN, pread(self->peer, self->q, LEN, 0));
	EXPECT_EQ(-1, check_pattern(self->q, LEN, 1));
}

TEST_F(dmabuf, reset)
{
	ends(_metadata, self, gpu_control(0, "reset 0"));
}

TEST_F(dmabuf, pci_reset)
{
	char address[64], path[128];

	ASSERT_EQ(0, gpu_bus_address(0, address, sizeof(address)));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", address);
	ends(_metadata, self, write_file(path, "1"));
}

static void *resets(void *failed)
{
	*(int *)failed = gpu_control(0, "reset 3000");
	return NULL;
}

/* The device exports nothing during a reset. */
TEST_F(dmabuf, during_reset)
{
	int fd, failed = -1;
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, resets, &failed));
	while (pread(self->peer, self->q, PAGE, 0) == PAGE)
		;
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, gpu_export(self->owner));
	EXPECT_EQ(EBUSY, errno);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, failed);
	fd = gpu_export(self->owner);
	EXPECT_LE(0, fd);
	close(fd);
}

struct reader {
	int fd;
	int error;
	atomic_ulong reads;
};

static void *reads(void *arg)
{
	struct reader *r = arg;
	char *q = anon(MiB);

	while (pread(r->fd, q, MiB, 0) > 0)
		r->reads++;
	r->error = errno;
	munmap(q, MiB);
	return NULL;
}

/* GPU @n is unbound while GPU 1 reads all the time.  The unbind waits for no user. */
static void goes(struct __test_metadata *_metadata, FIXTURE_DATA(dmabuf) *self, unsigned int n)
{
	struct reader r = { .fd = self->peer };
	pthread_t thread;
	char address[64];

	ASSERT_EQ(0, gpu_bus_address(n, address, sizeof(address)));
	ASSERT_EQ(0, pthread_create(&thread, NULL, reads, &r));
	while (r.reads < 3)
		usleep(1000);
	ASSERT_EQ(0, gpu_driver("unbind", address));
	pthread_join(thread, NULL);
	EXPECT_EQ(ENODEV, r.error);
	EXPECT_EQ(n ? 0 : 1, dmabufs("devices"));
	EXPECT_EQ(-1, gpu_import(self->peer, self->fd));
	EXPECT_EQ(n ? ENODEV : EBUSY, errno);
	/* As long as the files are open, the device's minor number is in use. */
	close_both(self);
	ASSERT_EQ(0, gpu_driver("bind", address));
	ASSERT_EQ(0, open_both(self));
	ASSERT_EQ(LEN, pwrite(self->owner, self->p, LEN, 0));
	ASSERT_EQ(LEN, pread(self->peer, self->q, LEN, 0));
	EXPECT_EQ(-1, check_pattern(self->q, LEN, 1));
}

TEST_F(dmabuf, owner_goes)
{
	goes(_metadata, self, 0);
}

TEST_F(dmabuf, importer_goes)
{
	goes(_metadata, self, 1);
}

static atomic_bool stop;

struct visitor {
	int failed;
	unsigned long reads, refused;
};

static void *comes_and_goes(void *arg)
{
	struct visitor *v = arg;
	FIXTURE_DATA(dmabuf) d;
	char q[256];

	while (!stop) {
		errno = 0;
		/*
		 * A reset refuses an import that comes too late, and reads of an earlier
		 * import.
		 */
		if (!open_both(&d) && pread(d.peer, q, sizeof(q), 0) == sizeof(q) &&
		    check_pattern(q, sizeof(q), 1) == -1)
			v->reads++;
		else if (errno == ENODEV || errno == EBUSY)
			v->refused++;
		else
			v->failed = errno ?: EILSEQ;
		close_both(&d);
	}
	return NULL;
}

static bool have_raced(const struct visitor *v)
{
	return v->failed || (v->reads && v->refused);
}

/* Imports race with resets. */
TEST_F_TIMEOUT(dmabuf, race_reset, 120)
{
	double end = now_seconds() + 3, limit = end + 60;
	struct visitor v[2] = {};
	pthread_t threads[2];

	ASSERT_EQ(LEN, pwrite(self->owner, self->p, LEN, 0));
	stop = false;
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, comes_and_goes, &v[i]));
	while (now_seconds() < end ||
	       (now_seconds() < limit && !(have_raced(&v[0]) && have_raced(&v[1])))) {
		ASSERT_EQ(0, gpu_control(0, "reset 1"));
		usleep(20000);
	}
	stop = true;
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, v[i].failed) TH_LOG("%s", strerror(v[i].failed));
		EXPECT_LT(0, v[i].reads);
		EXPECT_LT(0, v[i].refused);
	}
}

/* Active objects of @size bytes in all kmalloc caches. */
static long slab_objects(size_t size)
{
	FILE *f = fopen("/proc/slabinfo", "r");
	char line[256], name[64], suffix[16];
	long n, found = 0;

	if (!f)
		return -1;
	snprintf(suffix, sizeof(suffix), "-%zu", size);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "kmalloc%63s %ld", name, &n) == 2 &&
		    !strcmp(strrchr(name, '-') ?: name, suffix))
			found += n;
	fclose(f);
	return found;
}

/* Import again and again.  The stock dma_buf_free_sgt() leaked the scatterlist of each import. */
TEST_F_TIMEOUT(dmabuf, many, 120)
{
	const long times = 4000, scatterlist = 32;
	long before;

	before = slab_objects(scatterlist);
	ASSERT_LT(0, before);
	for (int i = 0; i < times; i++) {
		close(self->peer);
		self->peer = gpu_open(1);
		ASSERT_EQ(0, gpu_import(self->peer, self->fd));
	}
	EXPECT_GT(times / 2, slab_objects(scatterlist) - before);
}

TEST_F(dmabuf, refused)
{
	struct hmm_dummy_export export = { .size = sizeof(export), .flags = 1 };
	struct hmm_dummy_import import = { .size = sizeof(import), .fd = self->fd };
	int other = gpu_open(1);

	ASSERT_LE(0, other);
	EXPECT_EQ(-1, ioctl(other, HMM_DUMMY_EXPORT, &export));
	EXPECT_EQ(EOPNOTSUPP, errno);
	import.flags = 1;
	EXPECT_EQ(-1, ioctl(other, HMM_DUMMY_IMPORT, &import));
	EXPECT_EQ(EOPNOTSUPP, errno);
	import.flags = 0;
	import.reserved = 1;
	EXPECT_EQ(-1, ioctl(other, HMM_DUMMY_IMPORT, &import));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(-1, gpu_import(other, -1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, gpu_import(other, other));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, gpu_import(self->peer, self->fd));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(1, dmabufs("objects"));
	EXPECT_EQ(1, dmabufs("devices"));
	/* None of the refused calls affects a correct one. */
	EXPECT_EQ(0, gpu_import(other, self->fd));
	EXPECT_EQ(2, dmabufs("devices"));
	close(other);
	EXPECT_EQ(1, dmabufs("devices"));
}

/*
 * Export or import is impossible: the BAR, the parameters or the topology do not allow it. The
 * runner says which of the two in HMM_P2P_CANNOT.
 */
TEST(cannot)
{
	const char *what = getenv("HMM_P2P_CANNOT") ?: "";
	int owner, peer, fd;

	if (!*what)
		SKIP(return, "HMM_P2P_CANNOT is not set");
	owner = gpu_open(0);
	peer = gpu_open(1);
	ASSERT_LE(0, owner);
	ASSERT_LE(0, peer);
	errno = 0;
	fd = gpu_export(owner);
	if (!strcmp(what, "export")) {
		EXPECT_EQ(-1, fd);
		EXPECT_EQ(EOPNOTSUPP, errno);
	} else {
		ASSERT_LE(0, fd);
		EXPECT_EQ(-1, gpu_import(peer, fd));
		EXPECT_EQ(EOPNOTSUPP, errno);
		/* The failed import leaves no attachment. */
		EXPECT_EQ(0, dmabufs("devices"));
		close(fd);
	}
	close(owner);
	close(peer);
	EXPECT_EQ(0, dmabufs("objects"));
}

TEST_HARNESS_MAIN
