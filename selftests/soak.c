// SPDX-License-Identifier: GPL-2.0
/*
 * For a long time, everything at once: processes that do random things to their memory and
 * know what has to be in it (soak.h), while here the machine is made difficult: a GPU goes
 * and comes back, windows and importers are revoked, a GPU is reset, memory is reclaimed
 * and compacted, peer access is switched off and on.
 *
 * HMM_P2P_SECONDS says for how long, HMM_P2P_SEED which random things.  At the end each
 * operation and each event has to have happened: a run that met no eviction has not shown
 * that eviction works.
 */
#define HMM_P2P_NO_HARNESS
#include <signal.h>
#include <time.h>

#include "soak.h"

#define DRIVER		"/sys/bus/pci/drivers/hmm_dummy/"
#define CGROUP		"/sys/fs/cgroup/soak/"
#define PROGRESS	5.0
#define NAMES		40

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
	randomness = randomness * 6364136223846793005ULL + 1442695040888963407ULL;
	return (randomness >> 33) % n;
}

/* What is no count of events. */
static bool is_state(const char *name)
{
	return !strcmp(name, "pages") || !strcmp(name, "windows") ||
	       !strcmp(name, "mapped_now") || !strcmp(name, "slowest_revoke_us") ||
	       !strncmp(name, "invalidations_below", 19);
}

/* Counters of both GPUs, with those of the devices that have gone since. */
static struct counter {
	char name[64];
	long long value, gone;
} counters[NAMES];

static struct counter *counter(const char *name)
{
	struct counter *c = counters;

	while (c->name[0] && strcmp(c->name, name))
		c++;
	snprintf(c->name, sizeof(c->name), "%s", name);
	return c;
}

static void add_counters(unsigned int gpu)
{
	char path[80], key[64];
	long long value;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/hmm_p2p/hmm_dummy%u/counters", gpu);
	f = fopen(path, "r");
	while (f && fscanf(f, "%63s %lld", key, &value) == 2)
		if (!is_state(key))
			counter(key)->value += value;
	if (f)
		fclose(f);
}

static void add_info(unsigned int gpu)
{
	struct hmm_dummy_info info;
	int fd = gpu_open(gpu);

	if (fd < 0 || gpu_info(fd, &info))
		return;
	counter("evicted")->value += info.evicted;
	counter("damped")->value += info.damped;
	counter("stale_writes")->value += info.stale_writes;
	close(fd);
}

/* The names that a GPU which comes back may get, its old one being in use. */
static void read_counters(void)
{
	for (struct counter *c = counters; c->name[0]; c++)
		c->value = c->gone;
	for (unsigned int i = 0; i < 16; i++) {
		add_counters(i);
		add_info(i);
	}
}

/* What happens to the machine, and how often it did. */
static char victim[64];

static bool go_and_come(void)
{
	read_counters();
	for (unsigned int i = 0; i < 16; i++) {
		char path[64];

		/* Of this one nothing is left. */
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
	if (write_file(DRIVER "unbind", victim))
		return false;
	usleep(draw(500000));
	return !write_file(DRIVER "bind", victim);
}

static bool revoke_range(void)
{
	return !gpu_control(0, "revoke %u %u", draw(16) << 21, 4 << 20);
}

static bool revoke_importer(void)
{
	return !gpu_control(0, "revoke-importer %s", draw(2) ? "hmm_dummy0" : "rxe0") ||
	       errno == ENOENT;
}

static bool reset(void)
{
	return !gpu_control(0, "reset %u", 20 + draw(100));
}

/* No error: there may be nothing to reclaim. */
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

/* What else must have been seen: aliases, bounces and why, all that takes them away. */
static const char *const wanted[] = {
	"aliases", "mapped", "unmapped", "invalidations", "upgrades", "to_device", "to_ram",
	"from_peer", "cpu_faults", "windows_opened", "windows_reclaimed", "windows_revoked",
	"evicted", "fallback_read-only", "fallback_no-window",
};
/* And never. */
static const char *const unwanted[] = {
	"quarantines", "poisoned", "stale_writes", "fallback_quarantined", "fallback_dead",
	"late_invalidations",
};

static unsigned long operations(void)
{
	unsigned long n = 0;

	for (int i = 0; i < SOAK_WORKERS; i++)
		for (int op = 0; op < SOAK_OPS; op++)
			n += stats[i].done[op];
	return n;
}

/* A worker that has ended has found something, and said so. */
static bool all_at_work(void)
{
	int status;

	return waitpid(-1, &status, WNOHANG) == 0;
}

static bool happen(void)
{
	struct event *e = &events[draw(EVENTS)];

	e->done++;
	if (e->happen())
		return true;
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
		       said - begin, seconds, operations(), counter("mapped")->value,
		       counter("evicted")->value, events[0].done);
	}
	return true;
}

static bool start(uint64_t seed)
{
	char link[256] = "", pid[16];

	if (readlink("/sys/class/misc/hmm_dummy1/device", link, sizeof(link) - 1) < 0)
		return false;
	snprintf(victim, sizeof(victim), "%s", strrchr(link, '/') + 1);
	if (mkdir(CGROUP, 0755) && errno != EEXIST)
		return false;
	stats = mmap(NULL, sizeof(*stats) * SOAK_WORKERS, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fflush(stdout);
	for (int i = 0; i < SOAK_WORKERS; i++) {
		workers[i] = fork();
		if (!workers[i]) {
			snprintf(pid, sizeof(pid), "%d", getpid());
			write_file(CGROUP "cgroup.procs", pid);
			_exit(soak_work(i, seed, &stats[i]));
		}
	}
	return true;
}

/* All workers, and whether they found everything right. */
static bool stop(void)
{
	bool right = true;

	for (int i = 0; i < SOAK_WORKERS; i++)
		stats[i].stop = true;
	for (int i = 0; i < SOAK_WORKERS; i++) {
		int status = wait_child(workers[i]);

		/* -1000: it ended earlier, with an error. */
		if (status)
			printf("# worker %d: status %d\n", i, status);
		right &= !status;
	}
	return right;
}

static bool report(void)
{
	unsigned long done, retried = 0;
	bool all = true;

	for (int op = 0; op < SOAK_OPS; op++) {
		done = 0;
		for (int i = 0; i < SOAK_WORKERS; i++)
			done += stats[i].done[op];
		printf("# operation %-12s %8lu\n", soak_names[op], done);
		all &= !!done;
	}
	for (int i = 0; i < SOAK_WORKERS; i++)
		retried += stats[i].retried;
	printf("# tried again      %8lu\n", retried);
	for (size_t i = 0; i < EVENTS; i++) {
		printf("# event %-16s %8lu\n", events[i].name, events[i].done);
		all &= !!events[i].done;
	}
	read_counters();
	for (struct counter *c = counters; c->name[0]; c++)
		printf("# counter %-24s %lld\n", c->name, c->value);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		if (counter(wanted[i])->value)
			continue;
		printf("# %s: never happened\n", wanted[i]);
		all = false;
	}
	return all;
}

static bool nothing_unwanted(void)
{
	bool none = true;

	for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++) {
		if (!counter(unwanted[i])->value)
			continue;
		printf("# %s: %lld\n", unwanted[i], counter(unwanted[i])->value);
		none = false;
	}
	return none;
}

static unsigned long long setting(const char *name, unsigned long long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

int main(void)
{
	uint64_t seed = setting("HMM_P2P_SEED", time(NULL));
	unsigned int seconds = setting("HMM_P2P_SECONDS", 60);
	bool right, went_on;

	setvbuf(stdout, NULL, _IOLBF, 0);
	randomness = seed;
	printf("TAP version 13\n1..4\n# seed %llu, %u s\n", (unsigned long long)seed, seconds);
	went_on = start(seed) && run(seconds);
	right = stop();
	/* Nobody has its files open now: it gets its own name back. */
	went_on &= go_and_come();
	check(went_on && right, "data");
	check(report(), "everything_happened");
	check(nothing_unwanted(), "nothing_unwanted");
	for (int i = 0; i < 2; i++) {
		int gpu = gpu_open(i);
		const char *leak = gpu < 0 ? "it is not there" : gpu_leak(i, gpu);

		if (leak)
			printf("# GPU %d: %s\n", i, leak);
		right &= !leak;
		close(gpu);
	}
	check(right, "nothing_left");
	return failed ? 1 : 0;
}
