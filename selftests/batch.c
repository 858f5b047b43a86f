// SPDX-License-Identifier: GPL-2.0
/*
 * Migration of pages that are in another CPU's batch of munlock().  An idle CPU keeps such
 * pages, each with a reference, until another task drains the batch.  Each test counts the
 * pages that were in a batch when the migration came.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include "common.h"

#define LEN	MiB

/*
 * The probes record pages that enter a batch, calls that drain the batches of all CPUs, and the
 * content of each batch that is emptied.
 */
#define BATCH_MAX	31
#define BATCH_PROBES	"p:" TRACE_PROBES "/batch_in munlock_folio folio=%di:x64\n" \
			"p:" TRACE_PROBES "/drain_all lru_add_drain_all\n" \
			"p:" TRACE_PROBES "/batch_out mlock_folio_batch " \
				"nr=+0(%di):u8 folios=+8(%di):x64[31]\n"

/* khugepaged drains the batches of all CPUs on each scan, every ten seconds by default. */
#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs"

/* Another task may drain the CPU before the migration comes.  The test then tries again. */
#define BATCH_ROUNDS	8

static bool run_on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

FIXTURE(batch) {
	int gpu;
	char *p;
	struct hmm_dummy_info before;
	char khugepaged[16];
};

FIXTURE_SETUP(batch)
{
	FILE *f = fopen(KHUGEPAGED, "r");

	ASSERT_NE(NULL, f);
	ASSERT_EQ(1, fscanf(f, "%15s", self->khugepaged));
	fclose(f);
	ASSERT_EQ(0, write_file(KHUGEPAGED, "3600000"));
	ASSERT_EQ(0, write_file(TRACE "trace_clock", "mono"));
	ASSERT_EQ(0, kprobes_on(BATCH_PROBES));
	ASSERT_TRUE(run_on_cpu(0));
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	ASSERT_EQ(0, gpu_info(self->gpu, &self->before));
	self->p = anon(LEN);
	ASSERT_NE(MAP_FAILED, self->p);
}

FIXTURE_TEARDOWN(batch)
{
	struct hmm_dummy_info after;

	kprobes_off();
	EXPECT_EQ(0, write_file(KHUGEPAGED, self->khugepaged));
	munmap(self->p, LEN);
	EXPECT_EQ(0, gpu_info(self->gpu, &after));
	EXPECT_EQ(self->before.vram_free, after.vram_free);
	EXPECT_EQ(0, after.stale_writes);
	close(self->gpu);
}

/*
 * Create a child that shares [p, p + length) and drops it on CPU 1 with MADV_DONTNEED_LOCKED.
 * The pages stay in CPU 1's batch of munlock(), with references, until it is drained.  With
 * @write, for memory in RAM, the child drops its share by writing instead: zapping would drain
 * the CPU.
 */
static pid_t keep_in_batch(char *p, size_t length, bool write)
{
	int ready[2], status = -1;
	pid_t child;
	char c = 0;

	if (pipe(ready) || trace_clear())
		return -1;
	child = fork();
	if (!child) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) || !run_on_cpu(1) ||
		    mlock2(p, length, MLOCK_ONFAULT))
			_exit(1);
		for (size_t i = 0; i < length && write; i += PAGE)
			p[i] = 'w';
		if (!write && madvise(p, length, MADV_DONTNEED_LOCKED))
			_exit(2);
		if (!syscall(SYS_write, ready[1], &c, 1))
			_exit(3);
		/* CPU 1 is idle from here on. */
		pause();
		_exit(0);
	}
	close(ready[1]);
	if (child > 0)
		status = read(ready[0], &c, 1);
	close(ready[0]);
	return status == 1 ? child : -1;
}

/*
 * Kill the child and drain its CPU as mlock() does.  The data can then be compared even if the
 * migration has failed.
 */
static int let_go(pid_t child)
{
	static char other[PAGE];
	int ret;

	kill(child, SIGKILL);
	wait_child(child);
	if (!run_on_cpu(1))
		return -1;
	ret = mlock(other, PAGE) | munlock(other, PAGE);
	return run_on_cpu(0) ? ret : -1;
}

struct kept {
	uint64_t folio[BATCH_MAX];
	unsigned int nr;
};

/* Count the pages of *@kept in the batch that @event empties, and remove them from *@kept. */
static unsigned int kept_in(struct kept *kept, const char *event)
{
	const char *nr = strstr(event, " nr="), *text = strchr(event, '{');
	unsigned int found = 0;
	char *end;

	for (int n = nr ? atoi(nr + 4) : 0; n && text; n--) {
		uint64_t folio = strtoull(text + 1, &end, 16);

		text = *end == ',' ? end : NULL;
		for (unsigned int i = 0; i < kept->nr; i++) {
			if (kept->folio[i] != folio)
				continue;
			kept->folio[i] = kept->folio[--kept->nr];
			found++;
			break;
		}
	}
	return found;
}

/*
 * How many pages were in a batch until a task of this program drained all CPUs, since @child
 * put them there.  Called before let_go().
 */
static unsigned int drained_from_batch(pid_t child)
{
	FILE *f = fopen(TRACE "trace", "r");
	char line[1024], comm[32], *event;
	struct kept kept = { .nr = 0 };
	unsigned int met = 0;
	bool drained = false;
	int pid;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, " %31[^-]-%d", comm, &pid) != 2)
			continue;
		if (strstr(line, ": drain_all: ") && !strcmp(comm, program_invocation_short_name))
			drained = true;
		event = strstr(line, ": batch_in: ");
		if (event && pid == child && kept.nr < BATCH_MAX) {
			event = strstr(event, " folio=");
			kept.folio[kept.nr++] = event ? strtoull(event + 7, NULL, 16) : 0;
		}
		event = strstr(line, ": batch_out: ");
		if (event)
			met += kept_in(&kept, event) * drained;
	}
	if (f)
		fclose(f);
	return met;
}

/* A page in the batch of another CPU does not cause SIGBUS. */
TEST_F_TIMEOUT(batch, cpu_fault, 120)
{
	unsigned int met = 0;

	for (int i = 0; i < BATCH_ROUNDS && !met; i++) {
		char *p = self->p + i * 4 * PAGE;
		pid_t child;

		fill_pattern(p, 4 * PAGE, i);
		ASSERT_EQ(0, gpu_to_device(self->gpu, p, 4 * PAGE));
		child = keep_in_batch(p, 4 * PAGE, false);
		ASSERT_LT(0, child);
		EXPECT_EQ(0, touch_in_child(p));
		met += drained_from_batch(child);
		EXPECT_EQ(3, pages_on_device(0, p, 4 * PAGE));
		EXPECT_EQ(0, let_go(child));
		EXPECT_EQ(-1, check_pattern(p, 4 * PAGE, i));
	}
	EXPECT_LT(0, met);
}

TEST_F_TIMEOUT(batch, to_ram, 120)
{
	unsigned int met = 0;

	for (int i = 0; i < BATCH_ROUNDS && !met; i++) {
		struct hmm_dummy_migrate m;
		pid_t child;

		fill_pattern(self->p, 4 * PAGE, i);
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, 4 * PAGE));
		child = keep_in_batch(self->p, 4 * PAGE, false);
		ASSERT_LT(0, child);
		ASSERT_EQ(0, gpu_migrate(self->gpu, GPU_SELF, self->p, 4 * PAGE,
					 HMM_DUMMY_MIGRATE_TO_RAM, &m));
		met += drained_from_batch(child);
		EXPECT_EQ(0, let_go(child));
		EXPECT_EQ(4, m.migrated);
		EXPECT_EQ(-1, check_pattern(self->p, 4 * PAGE, i));
	}
	EXPECT_LT(0, met);
}

TEST_F_TIMEOUT(batch, to_device, 120)
{
	unsigned int met = 0;

	for (int i = 0; i < BATCH_ROUNDS && !met; i++) {
		char *p = self->p + i * 4 * PAGE;
		struct hmm_dummy_migrate m;
		pid_t child;

		fill_pattern(p, 4 * PAGE, i);
		/*
		 * Move the pages to this CPU's LRU list.  Otherwise the migration drains all
		 * CPUs for them.
		 */
		ASSERT_EQ(0, mlock(p, 4 * PAGE) | munlock(p, 4 * PAGE));
		child = keep_in_batch(p, 4 * PAGE, true);
		ASSERT_LT(0, child);
		ASSERT_EQ(0, gpu_migrate(self->gpu, GPU_SELF, p, 4 * PAGE, 0, &m));
		met += drained_from_batch(child);
		EXPECT_EQ(0, let_go(child));
		EXPECT_EQ(4, m.migrated);
		EXPECT_EQ(-1, check_pattern(p, 4 * PAGE, i));
	}
	EXPECT_LT(0, met);
}

TEST_F_TIMEOUT(batch, evict, 240)
{
	size_t all = self->before.vram_bytes;
	unsigned int met = 0;

	for (int i = 0; i < BATCH_ROUNDS && !met; i++) {
		char *hole = anon_huge(all, MADV_NOHUGEPAGE);
		pid_t child;

		fill_pattern(self->p, 4 * PAGE, i);
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->p, 4 * PAGE));
		child = keep_in_batch(self->p, 4 * PAGE, false);
		ASSERT_LT(0, child);
		EXPECT_EQ(0, gpu_to_device(self->gpu, hole, all));
		met += drained_from_batch(child);
		EXPECT_EQ(0, pages_on_device(0, self->p, 4 * PAGE));
		EXPECT_EQ(0, let_go(child));
		EXPECT_EQ(-1, check_pattern(self->p, 4 * PAGE, i));
		munmap(hole, all);
	}
	EXPECT_LT(0, met);
}

static void *unbinds(void *arg)
{
	return (void *)(intptr_t)gpu_driver("unbind", arg);
}

/*
 * A dead device waits for no user of its pages, but for the batch of an idle CPU.  @p is memory
 * for the test.  Returns how many pages were in a batch.
 */
static unsigned int dies_with_batch(struct __test_metadata *_metadata, char *p)
{
	int gpu = gpu_open(1);
	struct timespec end;
	char address[32];
	void *status = (void *)-1;
	unsigned int met;
	pthread_t t;
	pid_t child;

	memset(p, 5, 4 * PAGE);
	ASSERT_EQ(0, gpu_to_device(gpu, p, 4 * PAGE));
	close(gpu);
	ASSERT_EQ(0, gpu_bus_address(1, address, sizeof(address)));
	child = keep_in_batch(p, 4 * PAGE, false);
	ASSERT_LT(0, child);
	ASSERT_EQ(0, gpu_control(1, "dead"));
	ASSERT_EQ(0, pthread_create(&t, NULL, unbinds, address));
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 60;
	EXPECT_EQ(0, pthread_timedjoin_np(t, &status, &end));
	met = drained_from_batch(child);
	/* If the unbind waits for the batch, this ends the wait. */
	EXPECT_EQ(0, let_go(child));
	if (status)
		pthread_join(t, &status);
	EXPECT_EQ(0, (intptr_t)status);
	EXPECT_EQ(0, gpu_driver("bind", address));
	return met;
}

TEST_F_TIMEOUT(batch, dead, 240)
{
	unsigned int met = 0;

	for (int i = 0; i < BATCH_ROUNDS && !met && !_metadata->exit_code; i++)
		met += dies_with_batch(_metadata, self->p + i * 4 * PAGE);
	EXPECT_LT(0, met);
}

TEST_HARNESS_MAIN
