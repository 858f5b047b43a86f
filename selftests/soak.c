// SPDX-License-Identifier: GPL-2.0
/*
 * The soak test: everything at once, for a long time.  Processes run random operations on their
 * memory and know its content (soak.h).  Meanwhile this supervisor unbinds and binds a GPU,
 * revokes windows and importers, resets a GPU, reclaims and compacts memory, and switches peer
 * access off and on.
 *
 * HMM_P2P_SECONDS sets the duration, HMM_P2P_SEED the random sequence.  Each operation and each
 * event must have happened at the end: a run without an eviction has not tested eviction.
 */
#define HMM_P2P_NO_HARNESS
#include <sys/klog.h>
#include <sys/stat.h>
#include <time.h>

#include "soak.h"

#define CGROUP		"/sys/fs/cgroup/soak/"
#define PROGRESS	5.0
#define NAMES		48
#define LOG_SIZE	(2 << 20)

static struct soak_stats *stats;
static pid_t workers[SOAK_WORKERS];
static uint64_t randomness;
static int checks, failed;

static void check(bool ok, const char *what)
{
	printf("%s %d soak.%s\n", ok ? "ok" : "not ok", ++checks, what);
	failed += !ok;
}

static unsigned int draw(unsigned int n)
{
	return random_next(&randomness) % n;
}

/* Whether a counter does not count events. */
static bool is_state(const char *name)
{
	return !strcmp(name, "pages") || !strcmp(name, "windows") ||
	       !strcmp(name, "mapped_now") || !strcmp(name, "slowest_revoke_us") ||
	       !strncmp(name, "invalidations_below", 19);
}

/* Counters of all GPUs.  @gone is the share of devices that are gone. */
static struct counter {
	char name[64];
	long long value, gone;
} counters[NAMES];

static struct counter *counter(const char *name)
{
	struct counter *c = counters;

	while (c->name[0] && strcmp(c->name, name))
		if (++c == counters + NAMES)
			abort();
	snprintf(c->name, sizeof(c->name), "%s", name);
	return c;
}

/*
 * The value of a counter that must exist.  Without this check, a misspelt name would always be
 * 0.
 */
static long long counted(const char *name)
{
	for (struct counter *c = counters; c < counters + NAMES && c->name[0]; c++)
		if (!strcmp(c->name, name))
			return c->value;
	printf("Bail out! there is no counter %s\n", name);
	exit(1);
}

static void add_file(unsigned int gpu, const char *file)
{
	char path[80], key[64];
	long long value;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/hmm_p2p/hmm_dummy%u/%s", gpu, file);
	f = fopen(path, "r");
	while (f && fscanf(f, "%63s %lld", key, &value) == 2)
		if (!is_state(key))
			counter(key)->value += value;
	if (f)
		fclose(f);
}

/* Add the counters of an exporter and of its engine. */
static void add_counters(unsigned int gpu)
{
	add_file(gpu, "counters");
	add_file(gpu, "migrations");
}

static void add_info(unsigned int gpu)
{
	struct hmm_dummy_info info;
	int fd = gpu_open(gpu);

	if (fd < 0)
		return;
	if (!gpu_info(fd, &info)) {
		counter("evicted")->value += info.evicted;
		counter("damped")->value += info.damped;
		counter("stale_writes")->value += info.stale_writes;
	}
	close(fd);
}

/* Add counters of the kernel. */
static void add_vmstat(void)
{
	static const char *const names[] = {
		"pswpin", "pswpout", "pgsteal_proactive", "compact_migrate_scanned", "cow_ksm",
	};
	FILE *f = fopen("/proc/vmstat", "r");
	long long value;
	char key[64];

	while (f && fscanf(f, "%63s %lld", key, &value) == 2)
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (!strcmp(key, names[i]))
				counter(key)->value = value;
	if (f)
		fclose(f);
}

/* Read all counters.  A GPU that comes back gets another number while its old one is in use. */
static void read_counters(void)
{
	for (struct counter *c = counters; c->name[0]; c++)
		c->value = c->gone;
	for (unsigned int i = 0; i < 16; i++) {
		add_counters(i);
		add_info(i);
	}
	add_vmstat();
}

/* The GPU that is unbound and bound, by its PCI address. */
static char victim[64];
static size_t vram;

static bool go_and_come(void)
{
	for (unsigned int i = 0; i < 16; i++) {
		char path[64];

		/* hmm_dummy0 is not unbound. */
		snprintf(path, sizeof(path), "/sys/kernel/debug/hmm_p2p/hmm_dummy%u", i);
		if (!i || access(path, F_OK))
			continue;
		for (struct counter *c = counters; c->name[0]; c++)
			c->value = 0;
		add_counters(i);
		add_info(i);
		for (struct counter *c = counters; c->name[0]; c++)
			c->gone += c->value;
	}
	if (gpu_driver("unbind", victim))
		return false;
	usleep(draw(500000));
	return !gpu_driver("bind", victim);
}

static bool revoke_range(void)
{
	return !gpu_control(0, "revoke %lu %lu", draw(vram / (2 * MiB) - 1) * 2 * MiB, 4 * MiB);
}

static bool revoke_importer(void)
{
	return !gpu_control(0, "revoke-importer %s", draw(2) ? "hmm_dummy0" : "rxe0");
}

static bool reset(void)
{
	return !gpu_control(0, "reset %u", 20 + draw(100));
}

/* Reclaim may find nothing, so an error does not count. */
static bool reclaim(void)
{
	write_file(CGROUP "memory.reclaim", "16M");
	return true;
}

static bool compact(void)
{
	return !write_file("/proc/sys/vm/compact_memory", "1");
}

static bool switch_off(void)
{
	int old = peer_access_set(false);

	usleep(draw(300000));
	return old == 1 && peer_access_set(true) == 0;
}

static bool migrate_on_fault(void)
{
	return !write_file("/sys/module/hmm_dummy/parameters/migrate_on_fault",
			   draw(2) ? "Y" : "N");
}

static struct event {
	const char *name;
	bool (*happen)(void);
	unsigned long done;
} events[] = {
	{ .name = "unplug_plug", .happen = go_and_come },
	{ .name = "revoke_range", .happen = revoke_range },
	{ .name = "revoke_importer", .happen = revoke_importer },
	{ .name = "reset", .happen = reset },
	{ .name = "reclaim_memory", .happen = reclaim },
	{ .name = "compact", .happen = compact },
	{ .name = "peer_access_off", .happen = switch_off },
	{ .name = "migrate_on_fault", .happen = migrate_on_fault },
};
#define EVENTS	(sizeof(events) / sizeof(events[0]))

/* Counters that must not be 0 at the end. */
static const char *const wanted[] = {
	"aliases", "mapped", "unmapped", "invalidations", "upgrades", "to_device", "to_ram",
	"from_peer", "cpu_faults", "windows_opened", "windows_reclaimed", "windows_revoked",
	"evicted", "fallback_read-only", "fallback_no-window",
	"pswpin", "pswpout", "pgsteal_proactive", "compact_migrate_scanned", "cow_ksm",
};
/* Counters that must be 0 at the end. */
static const char *const unwanted[] = {
	"quarantines", "poisoned", "stale_writes", "fallback_quarantined", "fallback_dead",
	"late_invalidations",
};

static unsigned long operations(int worker)
{
	unsigned long n = 0;

	for (int op = 0; op < SOAK_OPS; op++)
		n += stats[worker].done[op];
	return n;
}

/* Whether all workers make progress.  A worker that has ended has printed an error. */
static bool all_at_work(void)
{
	static unsigned long seen[SOAK_WORKERS];
	static double since[SOAK_WORKERS];

	for (int i = 0; i < SOAK_WORKERS; i++) {
		unsigned long n = operations(i);

		if (n != seen[i] || !since[i]) {
			seen[i] = n;
			since[i] = now_seconds();
		}
		if (now_seconds() - since[i] < 2 * SOAK_PATIENCE)
			continue;
		printf("# worker %d hangs after %lu operations\n", i, n);
		return false;
	}
	return waitpid(-1, NULL, WNOHANG) == 0;
}

static bool happen(void)
{
	struct event *e = &events[draw(EVENTS)];

	if (e->happen()) {
		e->done++;
		return true;
	}
	printf("# %s failed: %s\n", e->name, strerror(errno));
	return false;
}

static bool run(double seconds)
{
	double begin = now_seconds(), said = begin;

	while (now_seconds() - begin < seconds) {
		if (!all_at_work() || !happen())
			return false;
		usleep(200000 + draw(800000));
		if (now_seconds() - said < PROGRESS)
			continue;
		said = now_seconds();
		read_counters();
		printf("# %.0f s of %.0f: %lu operations, %lld pages mapped by peers, %lld evicted, GPU 1 went %lu times\n",
		       said - begin, seconds, operations(0) + operations(1) + operations(2),
		       counted("mapped"), counted("evicted"), events[0].done);
	}
	return true;
}

static bool start(uint64_t seed)
{
	struct hmm_dummy_info info;
	int gpu = gpu_open(0);
	char pid[16];

	if (gpu < 0 || gpu_info(gpu, &info) || gpu_bus_address(1, victim, sizeof(victim)))
		return false;
	close(gpu);
	vram = info.vram_bytes;
	if (mkdir(CGROUP, 0755) && errno != EEXIST)
		return false;
	stats = mmap(NULL, sizeof(*stats) * SOAK_WORKERS, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (stats == MAP_FAILED)
		return false;
	fflush(stdout);
	for (int i = 0; i < SOAK_WORKERS; i++) {
		workers[i] = fork();
		if (!workers[i]) {
			snprintf(pid, sizeof(pid), "%d", getpid());
			write_file(CGROUP "cgroup.procs", pid);
			_exit(soak_work(i, seed, &stats[i]));
		}
		if (workers[i] < 0)
			return false;
	}
	return true;
}

/* Stop all workers.  Returns whether all of them found the right data. */
static bool stop(void)
{
	bool right = true;

	for (int i = 0; i < SOAK_WORKERS; i++)
		stats[i].stop = true;
	for (int i = 0; i < SOAK_WORKERS; i++) {
		int status = wait_child(workers[i]);

		/* -1000: the worker ended before, with an error */
		if (status)
			printf("# worker %d: status %d\n", i, status);
		right &= !status;
	}
	return right;
}

static bool report(void)
{
	unsigned long done, retried = 0, at_once = 0;
	bool all = true;

	for (int op = 0; op < SOAK_OPS; op++) {
		done = 0;
		for (int i = 0; i < SOAK_WORKERS; i++)
			done += stats[i].done[op];
		printf("# operation %-12s %8lu\n", soak_names[op], done);
		all &= !!done;
	}
	for (int i = 0; i < SOAK_WORKERS; i++) {
		retried += stats[i].retried;
		at_once += stats[i].at_once;
	}
	printf("# tried again      %8lu\n", retried);
	printf("# io_uring at once %8lu\n", at_once);
	all &= !!at_once;
	for (size_t i = 0; i < EVENTS; i++) {
		printf("# event %-16s %8lu\n", events[i].name, events[i].done);
		all &= !!events[i].done;
	}
	read_counters();
	for (struct counter *c = counters; c->name[0]; c++)
		printf("# counter %-24s %lld\n", c->name, c->value);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		if (counted(wanted[i]))
			continue;
		printf("# %s: never happened\n", wanted[i]);
		all = false;
	}
	return all;
}

/* The counters of a device disappear with it.  Messages in the kernel's log do not. */
static bool kernel_complained(void)
{
	static char log[LOG_SIZE];
	int n = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, sizeof(log) - 1);

	return n < 0 || strstr(log, ": quarantined") || strstr(log, "has not returned for");
}

static bool nothing_unwanted(void)
{
	bool none = !kernel_complained();

	for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++) {
		if (!counted(unwanted[i]))
			continue;
		printf("# %s: %lld\n", unwanted[i], counted(unwanted[i]));
		none = false;
	}
	return none;
}

int main(void)
{
	uint64_t seed = setting("HMM_P2P_SEED", time(NULL));
	unsigned int seconds = setting("HMM_P2P_SECONDS", 60);
	bool right, went_on;

	setvbuf(stdout, NULL, _IOLBF, 0);
	randomness = random_start(seed, SOAK_WORKERS);
	printf("TAP version 13\n1..4\n# seed %llu, %u s\n", (unsigned long long)seed, seconds);
	if (!start(seed)) {
		printf("Bail out! %s\n", strerror(errno));
		return 1;
	}
	went_on = run(seconds);
	right = stop();
	/* No file of the device is open any more, so it gets its own name back. */
	went_on &= go_and_come();
	check(went_on && right, "data");
	check(report(), "everything_happened");
	check(nothing_unwanted(), "nothing_unwanted");
	right = true;
	for (int i = 0; i < 2; i++) {
		int gpu = gpu_open(i);
		const char *leak = gpu < 0 ? "the device is missing" : gpu_leak(i, gpu);

		if (leak)
			printf("# GPU %d: %s\n", i, leak);
		right &= !leak;
		close(gpu);
	}
	check(right, "nothing_left");
	return failed ? 1 : 0;
}
