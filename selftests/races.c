// SPDX-License-Identifier: GPL-2.0
/*
 * Races, each between two named functions.  race.ko (mm/hmm_p2p/tests/race.c) makes a task
 * linger in the first function for some milliseconds, and counts how often another task begins the
 * second one meanwhile.  Each test runs two sides against each other until they have met often
 * enough, and compares the memory with what both have written.  The number of meetings is
 * printed; a race that did not happen fails.
 *
 * A stale access shows in the data, or in the pattern of free device memory, which no task may
 * change (gpu_leak()).
 */
#include <pthread.h>
#include <stdatomic.h>

#include "odp.h"
#include "race.h"
#include "uring.h"

#define LEN	(8 * PAGE)
#define MANY	(12 * MiB)	/* more windows than a small BAR has room for */
#define ENOUGH	10	/* meetings */
#define STEPS	10
#define FORKS	3
#define SECONDS	150

FIXTURE(race) {
	int gpu[2];
	char *p;		/* the memory that both sides use */
	char *q;		/* the expected content of p, in RAM */
	char *other;		/* takes the device memory that p has left */
	char *many;
	char address[64];	/* of GPU 0 */
	long long offset;	/* of p on GPU 0 */
	struct odp o;
	atomic_ulong steps[2];
	char residency[16];
	atomic_bool stop;
	const char *_Atomic error;
};

/* One step of a side.  Returns NULL, or what is wrong. */
typedef const char *(*side)(FIXTURE_DATA(race) *r, unsigned long n);

FIXTURE_SETUP(race)
{
	int fd = open(RESIDENCY, O_RDONLY);

	for (int i = 0; i < 2; i++) {
		self->gpu[i] = gpu_open(i);
		ASSERT_LE(0, self->gpu[i]);
	}
	ASSERT_LT(0, read(fd, self->residency, sizeof(self->residency) - 1));
	close(fd);
	ASSERT_EQ(0, gpu_bus_address(0, self->address, sizeof(self->address)));
	self->p = anon_huge(2 * MiB, MADV_NOHUGEPAGE);
	self->q = anon_huge(2 * MiB, MADV_NOHUGEPAGE);
	self->many = anon_huge(MANY, MADV_NOHUGEPAGE);
	self->other = anon_huge(2 * MiB, MADV_NOHUGEPAGE);
	ASSERT_TRUE(self->p && self->q && self->many && self->other);
	fill_pattern(self->p, LEN, 1);
	fill_pattern(self->q, LEN, 1);
}

FIXTURE_TEARDOWN(race)
{
	EXPECT_EQ(0, write_file(PAIR, "off"));
	EXPECT_EQ(0, write_file(RESIDENCY, self->residency));
	munmap(self->other, 2 * MiB);
	munmap(self->p, 2 * MiB);
	munmap(self->q, 2 * MiB);
	munmap(self->many, MANY);
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, self->gpu[i]);

		EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
		close(self->gpu[i]);
	}
}

struct runner {
	FIXTURE_DATA(race) *r;
	side side;
	unsigned int nr;
};

static void *run_side(void *arg)
{
	struct runner *runner = arg;
	FIXTURE_DATA(race) *r = runner->r;

	while (!r->stop && !r->error) {
		const char *error = runner->side(r, r->steps[runner->nr]);

		if (error)
			r->error = error;
		r->steps[runner->nr]++;
	}
	return NULL;
}

/* Run @a and @b side by side until the functions that @pair names have met often enough. */
static void meet(struct __test_metadata *_metadata, FIXTURE_DATA(race) *self,
		 const char *pair, side a, side b)
{
	struct runner runners[2] = { { self, a, 0 }, { self, b, 1 } };
	double begin = now_seconds();
	unsigned long lingered = 0, met = 0;
	pthread_t threads[2];
	int ret = 0;

	ASSERT_EQ(0, write_file(PAIR, pair)) TH_LOG("%s: %s", pair, strerror(errno));
	for (int i = 0; i < 2 && runners[i].side; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, run_side, &runners[i]));
	while ((met < ENOUGH || self->steps[0] < STEPS || (b && self->steps[1] < STEPS)) &&
	       now_seconds() - begin < SECONDS && !self->error && !ret) {
		usleep(20000);
		ret = pair_read(&lingered, &met);
	}
	self->stop = true;
	for (int i = 0; i < 2 && runners[i].side; i++)
		pthread_join(threads[i], NULL);
	ASSERT_EQ(0, pair_read(&lingered, &met));
	TH_LOG("%s: met %lu times of %lu; %lu and %lu steps", pair, met, lingered,
	       self->steps[0], self->steps[1]);
	EXPECT_EQ(NULL, self->error) TH_LOG("%s", self->error);
	EXPECT_LE(ENOUGH, met);
	EXPECT_LT(0, self->steps[0]);
	if (b) {
		EXPECT_LT(0, self->steps[1]);
	}
	EXPECT_EQ(0, write_file(PAIR, "off"));
}

/* Compare p and q on GPU @n.  The command is repeated while the memory keeps moving. */
static const char *compare(int gpu, const char *p, const char *q, size_t length)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_COMPARE, .addr = (uintptr_t)p, .src = (uintptr_t)q,
		.length = length,
	};
	int ret;

	do {
		ret = gpu_command(gpu, &c);
	} while (ret && errno == EBUSY);
	if (ret)
		return strerror(errno);
	return c.value == length ? NULL : "the data that was written is missing";
}

static int fill(int gpu, char *p, size_t length, unsigned char byte)
{
	int ret;

	do {
		ret = gpu_fill(gpu, p, length, byte);
	} while (ret && errno == EBUSY);
	return ret;
}

/* The peer writes, and finds what it wrote, wherever the memory has moved. */
static const char *peer_writes(FIXTURE_DATA(race) *r, unsigned long n)
{
	if (fill(r->gpu[1], r->p, LEN, n))
		return strerror(errno);
	memset(r->q, n, LEN);
	return compare(r->gpu[1], r->p, r->q, LEN);
}

/* Give the other side time to make progress. */
static void breathe(unsigned long n)
{
	if (n % 8 == 7)
		usleep(15000);
}

static const char *to_and_fro(FIXTURE_DATA(race) *r, unsigned long n)
{
	int ret = n % 2 ? gpu_to_ram(r->gpu[0], r->p, LEN) :
			  gpu_to_device(r->gpu[0], r->p, LEN);

	breathe(n);
	return ret ? strerror(errno) : NULL;
}

/* The peer lingers between reading the page table and asking whether it has changed. */
#define FAULT		"hmm_range_fault_unlocked_timeout:success 3 "
#define LONG_FAULT	"hmm_range_fault_unlocked_timeout:success 10 "

TEST_F_TIMEOUT(race, map_migrate, 240)
{
	meet(_metadata, self, FAULT "range_invalidate", peer_writes, to_and_fro);
}

static const char *revokes(FIXTURE_DATA(race) *r, unsigned long n)
{
	breathe(n);
	return gpu_control(0, "revoke %lld %lu", r->offset, PAGE) ? strerror(errno) : NULL;
}

TEST_F_TIMEOUT(race, map_revoke, 240)
{
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	self->offset = gpu_offset(self->p, NULL);
	ASSERT_LE(0, self->offset);
	meet(_metadata, self, FAULT "hmm_p2p_revoke_window", peer_writes, revokes);
	EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->p, LEN));
}

/*
 * The peer writes to memory that may not be mapped at the moment, so -EFAULT is accepted.  The
 * data says nothing, because the memory may be unmapped the next moment.  unmaps() checks that
 * the write does not land in other memory.
 */
static const char *peer_writes_perhaps(FIXTURE_DATA(race) *r, unsigned long n)
{
	return fill(r->gpu[1], r->p, LEN, n) && errno != EFAULT ? strerror(errno) : NULL;
}

/*
 * Unmap the memory and fill @other, which takes its device pages: it takes more pages than are
 * free before them.  A late write of the peer would show in @other.
 */
static const char *unmaps(FIXTURE_DATA(race) *r, unsigned long n)
{
	long wrong;

	fill_pattern(r->other, 4 * LEN, n);
	if (munmap(r->p, LEN))
		return "munmap";
	if (gpu_to_device(r->gpu[0], r->other, 4 * LEN))
		return strerror(errno);
	usleep(5000);
	wrong = check_pattern(r->other, 4 * LEN, n);
	if (wrong >= 0)
		return "a late write to unmapped memory";
	if (mmap(r->p, LEN, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != r->p)
		return "mmap";
	return gpu_to_device(r->gpu[0], r->p, LEN) ? strerror(errno) : NULL;
}

TEST_F_TIMEOUT(race, fault_munmap, 240)
{
	meet(_metadata, self, FAULT "unmap_vmas", peer_writes_perhaps, unmaps);
}

#define WORDS	(LEN / sizeof(uint64_t))

static const char *peer_adds(FIXTURE_DATA(race) *r, unsigned long n)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_ADD, .addr = (uintptr_t)r->p, .length = LEN, .value = 1,
	};

	return gpu_command(r->gpu[1], &c) ? strerror(errno) : NULL;
}

/* After fork(), a child's memory does not change although its parent's device works on. */
static const char *forks(FIXTURE_DATA(race) *r, unsigned long n)
{
	volatile uint64_t *p = (uint64_t *)r->p;
	const char *error = NULL;
	uint64_t before[WORDS];
	pid_t children[FORKS];

	if (gpu_to_device(r->gpu[0], r->p, LEN))
		return strerror(errno);
	/* The device faults after the first fork(); the next ones race with the fault. */
	for (int k = 0; k < FORKS; k++) {
		children[k] = fork();
		if (children[k])
			continue;
		for (size_t i = 0; i < WORDS; i++)
			before[i] = p[i];
		usleep(20000);
		for (size_t i = 0; i < WORDS; i++)
			if (p[i] != before[i])
				_exit(1);
		_exit(0);
	}
	for (int k = 0; k < FORKS; k++)
		if (wait_child(children[k]))
			error = "a child's memory was written to";
	return error;
}

TEST_F_TIMEOUT(race, fault_fork, 240)
{
	volatile uint64_t *p = (uint64_t *)self->p;

	memset(self->p, 0, LEN);
	meet(_metadata, self, LONG_FAULT "copy_page_range", peer_adds, forks);
	for (size_t i = 0; i < WORDS; i++) {
		ASSERT_EQ(self->steps[0], p[i])
			TH_LOG("word %zu", i);
	}
}

/* Go from window to window.  There are more windows than the BAR has room for. */
static const char *window_first_use(FIXTURE_DATA(race) *r, unsigned long n)
{
	char *p = r->many + n * 5 % 6 * 2 * MiB + n % 512 * PAGE;

	if (fill(r->gpu[1], p, PAGE, n))
		return strerror(errno);
	memset(r->q, n, PAGE);
	return compare(r->gpu[1], p, r->q, PAGE);
}

/*
 * The other side has a file of its own, so that the two do not wait for each other.  Pages that
 * found no window go to RAM, and are moved back now and then.
 */
static const char *window_other_use(FIXTURE_DATA(race) *r, unsigned long n)
{
	unsigned int crc;

	if (n % 32 == 31 && gpu_to_device(r->gpu[0], r->many, MANY))
		return strerror(errno);
	return gpu_crc32c(r->o.gpu, r->many + n % 6 * 2 * MiB, PAGE, &crc) && errno != EBUSY ?
	       strerror(errno) : NULL;
}

TEST_F_TIMEOUT(race, reclaim_first_use, 240)
{
	long long reclaimed = gpu_counter(0, "windows_reclaimed");

	ASSERT_EQ(0, write_file(RESIDENCY, "0"));
	self->o.gpu = gpu_open(1);
	ASSERT_LE(0, self->o.gpu);
	memset(self->many, 0, MANY);
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->many, MANY));
	meet(_metadata, self, "hmm_p2p_window_open:return 3 hmm_p2p_revoke_window",
	     window_first_use, window_other_use);
	EXPECT_LT(reclaimed, gpu_counter(0, "windows_reclaimed"));
	close(self->o.gpu);
}

static const char *peer_reads(FIXTURE_DATA(race) *r, unsigned long n)
{
	return compare(r->gpu[1], r->p, r->q, LEN);
}

/*
 * GPU 0 is unbound with all that is on it, is bound again, and takes the memory again.  While
 * the other side has a file of the old device open, the new device has another name, and the
 * step is repeated.
 */
static const char *goes_and_comes(FIXTURE_DATA(race) *r, unsigned long n)
{
	close(r->gpu[0]);
	for (int i = 0; i < 100; i++) {
		if (gpu_driver("unbind", r->address))
			return "unbind";
		if (gpu_driver("bind", r->address))
			return "bind";
		r->gpu[0] = gpu_open(0);
		if (r->gpu[0] >= 0)
			return gpu_to_device(r->gpu[0], r->p, LEN) ? strerror(errno) : NULL;
		usleep(1000);
	}
	return "open";
}

/* Each file has a mirror of its own, and so each step has faults. */
static const char *new_peer_writes(FIXTURE_DATA(race) *r, unsigned long n)
{
	close(r->gpu[1]);
	r->gpu[1] = gpu_open(1);
	return r->gpu[1] < 0 ? strerror(errno) : peer_writes(r, n);
}

TEST_F_TIMEOUT(race, unplug_fault, 240)
{
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	/* At the end of an unbind the driver checks its free memory for late writes. */
	meet(_metadata, self, LONG_FAULT "hmm_p2p_engine_unregister", new_peer_writes,
	     goes_and_comes);
	EXPECT_EQ(0, memcmp(self->p, self->q, LEN));
}

/* A long command on the device that is unbound.  The unbind ends the command at any point. */
static const char *long_command(FIXTURE_DATA(race) *r, unsigned long n)
{
	int gpu = gpu_open(0), ret, error;

	if (gpu < 0) {
		usleep(500);
		return NULL;
	}
	ret = gpu_fill(gpu, r->many, MANY, n);
	error = errno;
	close(gpu);
	if (ret)
		return error != ENODEV && error != EBUSY ? strerror(error) : NULL;
	for (size_t i = 0; i < MANY; i += PAGE / 2)
		if (r->many[i] != (char)n)
			return "the data that was written is missing";
	return NULL;
}

/* Unbind when the other side's command has begun, or after a second without a command. */
static const char *goes_when_busy(FIXTURE_DATA(race) *r, unsigned long n)
{
	unsigned long before, lingered, met;

	if (pair_read(&before, &met))
		return "pair";
	for (int i = 0; i < 2000; i++) {
		if (pair_read(&lingered, &met))
			return "pair";
		if (lingered != before)
			break;
		usleep(500);
	}
	return goes_and_comes(r, n);
}

TEST_F_TIMEOUT(race, unplug_command, 240)
{
	meet(_metadata, self, "hmm_dummy_job_pieces 10 hmm_dummy_remove", long_command,
	     goes_when_busy);
}

/* Revoke by the importer's name.  A control file of the exporter would keep the exporter busy. */
static const char *revokes_importer(FIXTURE_DATA(race) *r, unsigned long n)
{
	const char *error = peer_reads(r, n);

	if (gpu_control(1, "revoke-importer hmm_dummy1"))
		return strerror(errno);
	return error;
}

TEST_F_TIMEOUT(race, unplug_revoke, 240)
{
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	meet(_metadata, self, "hmm_p2p_revoke_window 5 hmm_p2p_engine_unregister", revokes_importer,
	     goes_and_comes);
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
}

/* A ring and a file are closed while their commands complete. */
static const char *submits_and_closes(FIXTURE_DATA(race) *r, unsigned long n)
{
	struct hmm_dummy_command c[8];
	int gpu = gpu_open(1);
	struct io_uring ring;

	if (gpu < 0 || io_uring_queue_init(8, &ring, 0))
		return strerror(errno);
	for (int i = 0; i < 8; i++) {
		c[i] = (struct hmm_dummy_command) {
			.op = HMM_DUMMY_OP_CRC32C, .queue = i, .addr = (uintptr_t)r->p,
			.length = LEN,
		};
		uring_command(&ring, gpu, &c[i]);
	}
	if (io_uring_submit(&ring) != 8)
		return "io_uring_submit";
	if (n % 3)
		usleep(n % 7 * 500);
	if (n % 2)
		close(gpu);
	io_uring_queue_exit(&ring);
	/* A worker dismantles the ring, but its commands are cancelled by now. */
	if (n % 2 == 0)
		close(gpu);
	return compare(r->gpu[1], r->p, r->q, LEN);
}

TEST_F_TIMEOUT(race, close_completion, 240)
{
	meet(_metadata, self, "uring_done 3 io_uring_release", submits_and_closes, NULL);
}

static const char *takes(FIXTURE_DATA(race) *r, int gpu)
{
	if (gpu_to_device(gpu, r->p, LEN))
		return strerror(errno);
	return compare(gpu, r->p, r->q, LEN);
}

static const char *first_takes(FIXTURE_DATA(race) *r, unsigned long n)
{
	return takes(r, r->gpu[0]);
}

static const char *second_takes(FIXTURE_DATA(race) *r, unsigned long n)
{
	return takes(r, r->gpu[1]);
}

TEST_F_TIMEOUT(race, two_exporters, 240)
{
	long long from[2];

	for (int i = 0; i < 2; i++)
		from[i] = gpu_counter(i, "from_peer");
	meet(_metadata, self, "hmm_p2p_scan:return 3 hmm_p2p_batch_collect", first_takes,
	     second_takes);
	for (int i = 0; i < 2; i++)
		EXPECT_LT(from[i], gpu_counter(i, "from_peer"));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
}

/* A process exits while a worker registers notifiers for the memory of its commands. */
static const char *exits(FIXTURE_DATA(race) *r, unsigned long n)
{
	struct hmm_dummy_command c[8];
	struct io_uring ring;
	pid_t child = fork();

	if (!child) {
		int gpu = gpu_open(1);

		if (gpu < 0 || io_uring_queue_init(8, &ring, 0))
			_exit(1);
		for (int i = 0; i < 8; i++) {
			c[i] = (struct hmm_dummy_command) {
				.op = HMM_DUMMY_OP_FILL, .queue = i,
				.addr = (uintptr_t)r->many + (n + i) % 6 * 2 * MiB,
				.length = PAGE,
			};
			uring_command(&ring, gpu, &c[i]);
		}
		if (io_uring_submit(&ring) != 8)
			_exit(2);
		usleep(n % 5 * 1000);
		_exit(0);
	}
	return wait_child(child) ? "the child failed" : NULL;
}

TEST_F_TIMEOUT(race, register_exit, 240)
{
	meet(_metadata, self, "mmu_interval_notifier_insert 3 do_exit", exits, NULL);
}

/* A memory region is destroyed while its memory moves. */
static const char *registers(FIXTURE_DATA(race) *r, unsigned long n)
{
	struct rdma_buf to = { .addr = r->p };
	int status;

	to.mr = ibv_reg_mr(r->o.pair.pd, r->p, LEN, RDMA_ODP);
	if (!to.mr)
		return "ibv_reg_mr";
	memset(r->o.stage, n, LEN);
	status = rdma_write(&r->o.pair, r->o.from, to, LEN);
	if (status)
		return "RDMA WRITE";
	if (ibv_dereg_mr(to.mr))
		return "ibv_dereg_mr";
	memset(r->q, n, LEN);
	return compare(r->gpu[1], r->p, r->q, LEN);
}

TEST_F_TIMEOUT(race, dereg_invalidate, 240)
{
	const char *error = odp_open(&self->o, LEN);

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	meet(_metadata, self, "rxe_ib_invalidate_range 3 rxe_dereg_mr", registers, to_and_fro);
	EXPECT_EQ(0, odp_free(&self->o));
	close(self->o.gpu);
}

/*
 * A fault that is overtaken for longer than ib_umem_odp waits (HMM_RANGE_DEFAULT_TIMEOUT) is no
 * error as long as a requester would still wait.
 */
TEST_F_TIMEOUT(race, overtaken_for_long, 120)
{
	const char *error = odp_open(&self->o, LEN);
	unsigned long lingered, met;
	double begin;

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	fill_pattern(self->o.stage, LEN, 2);
	/* Map the source in advance, so that only the destination faults. */
	ASSERT_EQ(0, rdma_advise(&self->o.pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH,
				 self->o.from.mr, self->o.stage, LEN));
	begin = now_seconds();
	ASSERT_EQ(0, write_file(PAIR, "hmm_range_fault_locked:busy 1500"));
	EXPECT_EQ(IBV_WC_SUCCESS, rdma_write(&self->o.pair, self->o.from, self->o.to, LEN));
	EXPECT_LT(1, now_seconds() - begin);
	ASSERT_EQ(0, pair_read(&lingered, &met));
	TH_LOG("overtaken %lu times, %.1f s", lingered, now_seconds() - begin);
	EXPECT_LT(1, lingered);
	ASSERT_EQ(0, write_file(PAIR, "off"));
	EXPECT_EQ(-1, check_pattern(self->o.mem, LEN, 2));
	EXPECT_EQ(0, odp_free(&self->o));
	close(self->o.gpu);
}

/* The CPU faults in a huge page of the device, page by page, that is mapped by small entries. */
static const char *touches(FIXTURE_DATA(race) *r, unsigned long n)
{
	char *p = r->many;

	/* Make the page huge again. */
	if (madvise(p, 2 * MiB, MADV_DONTNEED))
		return strerror(errno);
	fill_pattern(p, 2 * MiB, n);
	if (gpu_to_device(r->gpu[0], p, 2 * MiB) || mprotect(p, PAGE, PROT_READ) ||
	    mprotect(p, PAGE, PROT_READ | PROT_WRITE))
		return strerror(errno);
	return check_pattern(p, 2 * MiB, n) < 0 ? NULL : "the data that was written is missing";
}

static const char *brings_back(FIXTURE_DATA(race) *r, unsigned long n)
{
	usleep(n % 8 * 1000);
	return gpu_to_ram(r->gpu[0], r->many + n % 2 * MiB, MiB) ? strerror(errno) : NULL;
}

/* Both sides split the same huge page.  The second one must not make the first one fail. */
TEST_F_TIMEOUT(race, two_split, 240)
{
	ASSERT_EQ(0, madvise(self->many, 2 * MiB, MADV_HUGEPAGE));
	meet(_metadata, self, "hmm_p2p_migrate_fault 10 hmm_p2p_batch_collect", touches,
	     brings_back);
}

/* Pages with equal content, which KSM merges while the other side moves them. */
static const char *are_alike(FIXTURE_DATA(race) *r, unsigned long n)
{
	memset(r->p, n | 1, LEN);
	usleep(50000);
	for (size_t i = 0; i < LEN; i++)
		if (r->p[i] != (char)(n | 1))
			return "the data that was written is missing";
	return NULL;
}

/* End each round in RAM.  KSM must see twice that the pages do not change. */
static const char *there_and_back(FIXTURE_DATA(race) *r, unsigned long n)
{
	if (gpu_to_device(r->gpu[0], r->p, LEN) || gpu_to_ram(r->gpu[0], r->p, LEN))
		return strerror(errno);
	usleep(n % 16 * 1000);
	return NULL;
}

#define KSM	"/sys/kernel/mm/ksm/"

/*
 * Another task migrates a page between the moment in which KSM maps the merged page and the
 * moment in which KSM adds it to its reverse map.  The migration would not find the entry
 * again.
 */
TEST_F_TIMEOUT(race, ksm_migrate, 240)
{
	ASSERT_EQ(0, write_file(KSM "pages_to_scan", "1000"));
	ASSERT_EQ(0, write_file(KSM "sleep_millisecs", "1"));
	ASSERT_EQ(0, write_file(KSM "smart_scan", "0"));
	ASSERT_EQ(0, madvise(self->p, LEN, MADV_MERGEABLE));
	ASSERT_EQ(0, write_file(KSM "run", "1"));
	meet(_metadata, self, "try_to_merge_with_ksm_page:return 3 hmm_p2p_batch_collect",
	     there_and_back, are_alike);
	EXPECT_EQ(0, write_file(KSM "run", "0"));
	EXPECT_EQ(0, write_file(KSM "smart_scan", "1"));
}

/* Two tasks that meet are counted, and other pairs are not.  All other tests depend on that. */
TEST_F_TIMEOUT(race, is_counted, 120)
{
	unsigned long lingered, met;

	EXPECT_EQ(-1, write_file(PAIR, "range_invalidate 1 no_such_function"));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, write_file(PAIR, "hmm_p2p_revoke 1"));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write_file(PAIR, "hmm_p2p_revoke:busy 1 hmm_p2p_batch_collect"));
	EXPECT_EQ(EINVAL, errno);
	/* One thread calls both functions, one after the other: they do not meet. */
	ASSERT_EQ(0, write_file(PAIR, "hmm_p2p_revoke 1 hmm_p2p_batch_collect"));
	ASSERT_EQ(0, gpu_control(0, "revoke 0 4096"));
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	ASSERT_EQ(0, pair_read(&lingered, &met));
	EXPECT_EQ(1, lingered);
	EXPECT_EQ(0, met);
	/* Two threads do meet. */
	meet(_metadata, self, "hmm_p2p_revoke 10 hmm_p2p_batch_collect", revokes, to_and_fro);
}

TEST_HARNESS_MAIN
