// SPDX-License-Identifier: GPL-2.0
/*
 * Every allocation fails once.  Each call is repeated, and each time the next one of its
 * allocations fails, until none is left.  After each failure nothing is leaked, every byte is
 * intact, and the error is a documented one.  Besides allocations, this project's windows,
 * copies, DMA mappings and lookups fail (fail_hmm_dummy and hmm_p2p/fail_lookup in debugfs).
 *
 * Kernel threads have no fail-nth file.  For the driver's workers, allocations fail at random,
 * and only below functions of the driver.
 */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>

#include "fault_injection.h"
#include "rdma.h"
#include "uring.h"

#define SMALL	(8 * PAGE)

/*
 * The first two of attrs[], or the others.  They are apart because the slab allocator allocates
 * a page only now and then, which would shift the number of all later failures.
 */
enum kind { MEMORY, HARDWARE, KINDS };
static const char *const kinds[KINDS] = { "memory", "hardware" };

/* Enable only the attributes of @kind: for the others, no function matches "require". */
static int attrs_only(enum kind kind)
{
	int ret = attrs_init();

	for (size_t i = 0; i < 4; i++) {
		if (i / 2 == kind)
			continue;
		ret |= attr_range(attrs[i], "require", 1, 2);
	}
	return ret;
}

/* The kernel's checks of DMA mappings have switched themselves off and would find nothing. */
static bool dma_debug_is_off(void)
{
	FILE *f = fopen(DEBUG "dma-api/disabled", "r");
	int c = f ? fgetc(f) : 'N';

	if (f)
		fclose(f);
	return c != 'N';
}

FIXTURE(fail) {
	int gpu[2];
	char *p, *q;
	size_t len;		/* bytes of p that the test uses */
	long long offset;	/* of p in the memory of GPU 0 */
	struct io_uring ring;
	struct rdma_pair pair;
	struct ibv_mr *mr;
	char *others;		/* SLOTS huge pages on GPU 0, which fill its BAR */
	unsigned int failures[KINDS];
	unsigned int refused[KINDS];
	bool memory_only;	/* no hardware takes part in the call */
	bool by_device;		/* the device finds that memory is missing and reports EFAULT */
};

FIXTURE_VARIANT(fail) {
	bool huge;
};

FIXTURE_VARIANT_ADD(fail, small) { .huge = false };
FIXTURE_VARIANT_ADD(fail, huge) { .huge = true };

FIXTURE_SETUP(fail)
{
	int advice = variant->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;

	ASSERT_EQ(0, attrs_init());
	ASSERT_LE(0, fail_file_open());
	for (int i = 0; i < 2; i++) {
		self->gpu[i] = gpu_open(i);
		ASSERT_LE(0, self->gpu[i]);
	}
	self->p = anon_huge(2 * MiB, advice);
	self->q = anon_huge(2 * MiB, advice);
	ASSERT_NE(NULL, self->p);
	ASSERT_NE(NULL, self->q);
	self->len = variant->huge ? 2 * MiB : SMALL;
	ASSERT_EQ(0, io_uring_queue_init(4, &self->ring, 0));
}

FIXTURE_TEARDOWN(fail)
{
	io_uring_queue_exit(&self->ring);
	munmap(self->p, 2 * MiB);
	munmap(self->q, 2 * MiB);
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, self->gpu[i]);

		EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
		close(self->gpu[i]);
	}
	close(fail_file);
	for (int kind = 0; kind < KINDS; kind++)
		TH_LOG("%s: %u failures, %u of them refused the call", kinds[kind],
		       self->failures[kind], self->refused[kind]);
	EXPECT_FALSE(dma_debug_is_off());
	EXPECT_LT(0, self->failures[MEMORY]);
	EXPECT_EQ(self->memory_only, !self->failures[HARDWARE]);
}

/* Whether <linux/hmm_dummy.h> documents this error for a failure of @kind. */
static bool is_documented(FIXTURE_DATA(fail) *self, enum kind kind, int error)
{
	if (self->by_device && error == EFAULT)
		return true;
	return error == (kind == MEMORY ? ENOMEM : EIO);
}

/* Wrong data is an error whatever has failed. */
static int wrong_data(void)
{
	errno = EILSEQ;
	return -1;
}

#define SLOTS	4

/* Fill each slot with a window that is not in use, and not with the window that @op needs. */
static int fill_slots(FIXTURE_DATA(fail) *self)
{
	for (char *p = self->others; p < self->others + SLOTS * 2 * MiB; p += 2 * MiB) {
		unsigned int crc;

		if (gpu_crc32c(self->gpu[1], p, 8, &crc) ||
		    gpu_control(0, "revoke %lld 4096", (long long)gpu_offset(p, NULL)))
			return -1;
	}
	return 0;
}

/*
 * Run @op until each operation of @kind has failed once.  Each run has new memory, which is in
 * RAM (@place -1) or on the device @place, as a huge page if the variant says so.  After each
 * run the data must be intact.
 */
static void sweep_kind(struct __test_metadata *_metadata, FIXTURE_DATA(fail) *self,
		       enum kind kind, int place, int (*op)(FIXTURE_DATA(fail) *self))
{
	int ret, error;
	unsigned int n;

	ASSERT_EQ(0, attrs_only(kind));
	for (n = 1; n < TOO_MANY; n++) {
		bool failed;

		madvise(self->p, 2 * MiB, MADV_DONTNEED);
		madvise(self->q, 2 * MiB, MADV_DONTNEED);
		fill_pattern(self->p, self->len, 1);
		memset(self->q, 0, PAGE);
		if (place >= 0)
			ASSERT_EQ(0, gpu_to_device(self->gpu[place], self->p, self->len));
		if (self->others)
			ASSERT_EQ(0, fill_slots(self));
		arm(n);
		ret = op(self);
		error = errno;
		failed = disarm();
		ASSERT_EQ(-1, check_pattern(self->p, self->len, 1))
			TH_LOG("%s, failure %u", kinds[kind], n);
		for (int i = 0; i < 2; i++) {
			ASSERT_EQ(0, gpu_to_ram(self->gpu[i], self->p, self->len));
			ASSERT_EQ(0, gpu_to_ram(self->gpu[i], self->q, self->len));
			ASSERT_EQ(0, gpu_counter(i, "mapped_now"))
				TH_LOG("%s, failure %u", kinds[kind], n);
		}
		if (!failed)
			break;
		self->failures[kind]++;
		if (!ret)
			continue;
		self->refused[kind]++;
		ASSERT_TRUE(is_documented(self, kind, error))
			TH_LOG("%s, failure %u: %s", kinds[kind], n, strerror(error));
	}
	ASSERT_GT(TOO_MANY, n);
	ASSERT_EQ(0, ret) TH_LOG("without a failure: %s", strerror(error));
	ASSERT_EQ(0, attrs_init());
}

static void sweep(struct __test_metadata *_metadata, FIXTURE_DATA(fail) *self, int place,
		  int (*op)(FIXTURE_DATA(fail) *self))
{
	for (int kind = 0; kind < KINDS; kind++)
		sweep_kind(_metadata, self, kind, place, op);
}

/* An allocation that may sleep does fail.  All other tests depend on that. */
TEST_F(fail, really_fails)
{
	int fd;

	arm(1);
	fd = open("/dev/hmm_dummy0", O_RDWR);
	ASSERT_TRUE(disarm());
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(ENOMEM, errno);
	self->failures[MEMORY] = 1;
	self->memory_only = true;
}

static int open_close(FIXTURE_DATA(fail) *self)
{
	int fd = gpu_open(0);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

TEST_F_TIMEOUT(fail, open, 300)
{
	self->memory_only = true;
	sweep(_metadata, self, -1, open_close);
}

static int to_device(FIXTURE_DATA(fail) *self)
{
	return gpu_to_device(self->gpu[0], self->p, self->len);
}

TEST_F_TIMEOUT(fail, to_device, 300)
{
	sweep(_metadata, self, -1, to_device);
}

/* The copy takes the alias or, if that fails, the way through RAM. */
TEST_F_TIMEOUT(fail, device_to_device, 300)
{
	sweep(_metadata, self, 1, to_device);
}

static int to_ram(FIXTURE_DATA(fail) *self)
{
	return gpu_to_ram(self->gpu[0], self->p, self->len);
}

TEST_F_TIMEOUT(fail, to_ram, 300)
{
	sweep(_metadata, self, 0, to_ram);
}

static sigjmp_buf on_sigbus;

static void sigbus(int signal)
{
	siglongjmp(on_sigbus, 1);
}

/* Touch a page.  A fault that finds no memory is repeated.  Only a failed copy causes SIGBUS. */
static int touch(FIXTURE_DATA(fail) *self)
{
	volatile unsigned char *p = (unsigned char *)self->p + PAGE + 5;

	if (sigsetjmp(on_sigbus, 1)) {
		errno = EIO;
		return -1;
	}
	return *p == pattern(PAGE + 5, 1) ? 0 : wrong_data();
}

TEST_F_TIMEOUT(fail, cpu_fault, 300)
{
	signal(SIGBUS, sigbus);
	sweep(_metadata, self, 0, touch);
	EXPECT_EQ(0, self->refused[MEMORY]);
	EXPECT_EQ(1, self->refused[HARDWARE]);
}

static int device_reads(FIXTURE_DATA(fail) *self, int gpu)
{
	unsigned int crc;

	self->by_device = true;
	return gpu_crc32c(self->gpu[gpu], self->p, self->len, &crc);
}

static int own_reads(FIXTURE_DATA(fail) *self)
{
	return device_reads(self, 0);
}

static int peer_reads(FIXTURE_DATA(fail) *self)
{
	return device_reads(self, 1);
}

TEST_F_TIMEOUT(fail, device_fault_ram, 300)
{
	sweep(_metadata, self, -1, own_reads);
}

TEST_F_TIMEOUT(fail, device_fault_own, 300)
{
	self->memory_only = true;
	sweep(_metadata, self, 0, own_reads);
}

/*
 * The peer opens a file, and with it a mirror, for each run, so that exporter and importer meet
 * anew.
 */
static int new_peer_reads(FIXTURE_DATA(fail) *self)
{
	int old = self->gpu[1], ret;

	self->gpu[1] = gpu_open(1);
	ret = self->gpu[1] < 0 ? -1 : device_reads(self, 1);
	if (self->gpu[1] >= 0) {
		int error = errno;

		close(self->gpu[1]);
		errno = error;
	}
	self->gpu[1] = old;
	return ret;
}

TEST_F_TIMEOUT(fail, peer_map, 300)
{
	sweep(_metadata, self, 0, new_peer_reads);
}

TEST_F_TIMEOUT(fail, peer_map_again, 300)
{
	sweep(_metadata, self, 0, peer_reads);
}

/* The BAR is smaller than the memory: one window closes so that another one can open. */
TEST_F_TIMEOUT(fail, window_open, 300)
{
	ASSERT_EQ(0, write_file(RESIDENCY, "0"));
	self->others = anon_huge(SLOTS * 2 * MiB, MADV_HUGEPAGE);
	ASSERT_NE(NULL, self->others);
	memset(self->others, 1, SLOTS * 2 * MiB);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->others, SLOTS * 2 * MiB));
	sweep(_metadata, self, 0, peer_reads);
	/* More than lookups and DMA mappings must have failed: windows have failed to open. */
	EXPECT_LT(2, self->failures[HARDWARE]);
	munmap(self->others, SLOTS * 2 * MiB);
	ASSERT_EQ(0, write_file(RESIDENCY, "100"));
}

static int revoke_window(FIXTURE_DATA(fail) *self)
{
	if (peer_reads(self))
		return -1;
	/* Revoke where the page was before, because the read may have moved it to RAM. */
	return gpu_control(0, "revoke %lld 4096", self->offset);
}

TEST_F_TIMEOUT(fail, revoke, 300)
{
	fill_pattern(self->p, self->len, 1);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, self->len));
	/* The device allocates free memory in the same order each time. */
	self->offset = gpu_offset(self->p, NULL);
	ASSERT_LE(0, self->offset);
	ASSERT_EQ(0, gpu_to_ram(self->gpu[0], self->p, self->len));
	sweep(_metadata, self, 0, revoke_window);
}

static int copy(FIXTURE_DATA(fail) *self)
{
	if (gpu_copy(self->gpu[1], self->q, self->p, self->len))
		return -1;
	return check_pattern(self->q, self->len, 1) == -1 ? 0 : wrong_data();
}

TEST_F_TIMEOUT(fail, copy, 300)
{
	sweep(_metadata, self, 0, copy);
}

static int atomic_add(FIXTURE_DATA(fail) *self)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_ATOMIC_ADD, .addr = (uintptr_t)self->q,
		.length = 8, .value = 1,
	};

	if (gpu_command(self->gpu[0], &c))
		return -1;
	return *(volatile uint64_t *)self->q == 1 ? 0 : wrong_data();
}

TEST_F_TIMEOUT(fail, atomic_add, 300)
{
	sweep(_metadata, self, -1, atomic_add);
}

static int scratch(FIXTURE_DATA(fail) *self)
{
	if (pwrite(self->gpu[0], self->p, self->len, 0) != (ssize_t)self->len ||
	    pread(self->gpu[0], self->q, self->len, 0) != (ssize_t)self->len)
		return -1;
	return check_pattern(self->q, self->len, 1) == -1 ? 0 : wrong_data();
}

/* A read or write in part is success and does not set errno. */
static int scratch_or_less(FIXTURE_DATA(fail) *self)
{
	errno = ENOMEM;
	return scratch(self);
}

TEST_F_TIMEOUT(fail, read_write, 300)
{
	sweep(_metadata, self, 0, scratch_or_less);
}

static int pinned(FIXTURE_DATA(fail) *self)
{
	int gpu = gpu_open(1), fd = -1, ret = -1, error;

	if (gpu >= 0)
		fd = gpu_export(self->gpu[0]);
	if (fd >= 0 && !gpu_import(gpu, fd))
		ret = gpu_fill_scratch(gpu, 0, SMALL, 1);
	error = errno;
	close(fd);
	close(gpu);
	errno = error;
	return ret;
}

TEST_F_TIMEOUT(fail, pinned, 300)
{
	sweep(_metadata, self, 0, pinned);
	EXPECT_EQ(0, dmabufs("objects"));
}

static int uring(FIXTURE_DATA(fail) *self)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_CRC32C, .addr = (uintptr_t)self->p, .length = self->len,
	};
	struct io_uring_cqe *cqe;
	int ret;

	if (!uring_command(&self->ring, self->gpu[1], &c))
		return -1;
	/* An allocation of the ring itself may fail.  Nothing is queued then. */
	do {
		ret = io_uring_submit(&self->ring);
	} while (ret == -EAGAIN || ret == -ENOMEM || ret == 0);
	ret = io_uring_wait_cqe(&self->ring, &cqe);
	if (!ret) {
		ret = cqe->res;
		io_uring_cqe_seen(&self->ring, cqe);
	}
	errno = -ret;
	return ret < 0 ? -1 : 0;
}

TEST_F_TIMEOUT(fail, uring, 300)
{
	self->memory_only = true;
	sweep(_metadata, self, 0, uring);
}

static int reg_mr(FIXTURE_DATA(fail) *self)
{
	struct ibv_mr *mr = ibv_reg_mr(self->pair.pd, self->p, self->len, RDMA_ODP);

	if (!mr)
		return -1;
	/* The system call itself may fail for lack of memory.  The MR still exists then. */
	do {
		errno = ibv_dereg_mr(mr);
	} while (errno == ENOMEM);
	return errno ? -1 : 0;
}

TEST_F_TIMEOUT(fail, reg_mr, 300)
{
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	sweep(_metadata, self, 0, reg_mr);
	rdma_pair_close(&self->pair);
}

/* A fault of the NIC that runs in the calling process. */
static int prefetch(FIXTURE_DATA(fail) *self)
{
	return rdma_advise(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, self->mr,
			   self->p, self->len);
}

TEST_F_TIMEOUT(fail, nic_fault, 300)
{
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	self->mr = ibv_reg_mr(self->pair.pd, self->p, self->len, RDMA_ODP);
	ASSERT_NE(NULL, self->mr);
	self->by_device = true;
	sweep(_metadata, self, 0, prefetch);
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	rdma_pair_close(&self->pair);
}

/* Write to a /proc file of each existing worker.  Returns how many there were. */
static int each_worker(const char *file, const char *value)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int workers = 0;

	while (proc && (entry = readdir(proc))) {
		char path[320], name[32] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f) && !strncmp(name, "kworker/u", 9)) {
			snprintf(path, sizeof(path), "/proc/%s/%s", entry->d_name, file);
			workers += !write_file(path, value);
		}
		fclose(f);
	}
	if (proc)
		closedir(proc);
	return workers;
}

/*
 * Let only allocations below the driver's functions fail, and not those of other workers' work.
 */
static int only_hmm_dummy(void)
{
	char line[256];
	unsigned long address = 0, size = 0;
	FILE *f = fopen("/proc/modules", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "hmm_dummy %lu %*d %*s %*s 0x%lx", &size, &address) == 2)
			break;
	if (f)
		fclose(f);
	return attr_range("failslab", "require", address, address + size) || !address;
}

#define WORKER_ROUNDS	80

/* A worker handles the faults of commands while its allocations fail. */
TEST_F_TIMEOUT(fail, workers, 300)
{
	unsigned int done = 0;

	self->memory_only = true;
	fill_pattern(self->p, self->len, 1);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, self->len));
	ASSERT_EQ(0, only_hmm_dummy());
	ASSERT_EQ(0, attr_write("failslab", "task-filter", "Y"));
	ASSERT_EQ(0, attr_write("failslab", "probability", "20"));
	for (unsigned int i = 0; i < WORKER_ROUNDS; i++) {
		int old = self->gpu[1], ret;

		ASSERT_LT(0, each_worker("make-it-fail", "1"));
		/* Use a new file, so that the worker has everything to allocate. */
		self->gpu[1] = gpu_open(1);
		ASSERT_LE(0, self->gpu[1]);
		ret = uring(self);
		if (ret)
			ASSERT_EQ(ENOMEM, errno);
		self->failures[MEMORY] += !!ret;
		done += !ret;
		close(self->gpu[1]);
		self->gpu[1] = old;
	}
	self->refused[MEMORY] = self->failures[MEMORY];
	ASSERT_EQ(0, attrs_init());
	each_worker("make-it-fail", "0");
	EXPECT_LT(0, done);
	EXPECT_EQ(-1, check_pattern(self->p, self->len, 1));
}

TEST_HARNESS_MAIN
