// SPDX-License-Identifier: GPL-2.0
/*
 * Pages migrate that are in a batch of munlock() of another CPU, which is idle: they have a
 * reference until that CPU is drained.  Each test counts the pages that were there when the
 * migration came.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include "common.h"

#define LEN	MiB

/*
 * Probes tell what gets into a batch, who has the batches of all CPUs drained, and what was in
 * a batch that is emptied.
 */
#define BATCH_MAX	31
#define BATCH_PROBES	"p:" TRACE_PROBES "/batch_in munlock_folio folio=%di:x64\n" \
			"p:" TRACE_PROBES "/drain_all lru_add_drain_all\n" \
			"p:" TRACE_PROBES "/batch_out mlock_folio_batch " \
				"nr=+0(%di):u8 folios=+8(%di):x64[31]\n"

/* It drains all CPUs when it looks round, which it does every ten seconds. */
#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs"

/* Another task may drain that CPU before the migration comes: then once more. */
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
 * A child that lets go of [p, p + length), which it shares, on another CPU, as if it were
 * locked: that CPU has it in a batch of munlock(), with references, until it is drained.
 * @write: by writing to it, for memory in RAM; zapping that drains the CPU at the end.
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
		/* The CPU is idle now. */
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
 * Ends the child, and drains its CPU, as mlock() does: then the memory may be looked at where a
 * migration has failed, too.
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

/* How many of them the batch that is emptied had in it.  They are not kept any more. */
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
 * How many pages were in a batch since @child put them there until a task of this program had
 * all CPUs drained, and are not any more.  To be asked before let_go().
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

/* A batch of another CPU is no reason for SIGBUS. */
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
		/* This CPU has put it on its LRU list: else all are drained for that. */
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
 * A device that is dead has nobody left to wait for, but a batch of an idle CPU.  @p: memory for
 * that.  Returns how many pages were in a batch.
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
	/* If it waits: that is its end. */
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
