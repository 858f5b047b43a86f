// SPDX-License-Identifier: GPL-2.0
/*
 * "fio": the system's fio on the device's read() and write().  Each job of a file is two
 * variants, with its buffers in RAM and on the device.  With an X.server.fio beside X.fio, the
 * jobs are clients of a process that runs that file; their buffers are in RAM only, because the
 * NIC pins them.  A file with a job that verifies runs in RAM only as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <jansson.h>

#include "fio.h"
#include "gpu.h"
#include "memory.h"

extern char **environ;

#define NAMES	32
#define SERVER_MS	60000

/*
 * How long a client takes at most beside its runtime, where it usually takes two seconds, and how
 * often it is tried.  In rare cases fio's RDMA engine never ends: it acknowledges as many events as
 * there were completions.  Two completions make one event if the second one comes before fio asks
 * for the next event.  Then ibv_destroy_cq() waits without end, and fio has not printed the result
 * yet.  Each attempt may take twice as long as the one before: a slow machine ends, too.
 */
#define CLIENT_MS	30000
#define CLIENT_ATTEMPTS	3
#define CLIENT_HANGS	-2.0

struct jobs {
	const char *file;
	char server[256];	/* job file of the server, or "" */
	char names[VARIANTS][NAMES];
	unsigned int nr, places;	/* places: RAM and the device, or RAM alone */
	long long seconds;		/* the longest runtime that a job asks for, or 0 */
};

static pid_t spawn(char *const *argv, const char *output)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	pid_t pid;
	int error;

	/* fio gets no Ctrl-C: this program ends it. */
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output,
					 O_WRONLY | O_CREAT | O_TRUNC, 0600);
	error = posix_spawnp(&pid, argv[0], &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (!error)
		return pid;
	bench_fail(STATUS_MISSING, "fio: %s", strerror(error));
	return -1;
}

/* Create a file for fio's output; @path is a template.  Returns whether that worked. */
static bool make_output(char *path)
{
	int fd = mkstemp(path);

	if (fd < 0) {
		bench_fail(STATUS_MISSING, "/tmp: %s", strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

pid_t fio_start(const char *job)
{
	char *const argv[] = { "fio", "--aux-path=/tmp", (char *)job, NULL };

	return spawn(argv, "/dev/null");
}

/* Whether fio runs.  The caller of fio_start() has not waited for it yet. */
bool fio_runs(pid_t pid)
{
	siginfo_t ended = {};

	return !waitid(P_PID, pid, &ended, WEXITED | WNOHANG | WNOWAIT) && !ended.si_pid;
}

bool fio_stop(pid_t pid)
{
	bool ran = fio_runs(pid);

	kill(pid, SIGTERM);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return ran;
}

/* Whether the server says within a limit of time that clients may connect. */
static bool is_listening(pid_t pid, const char *output)
{
	char text[4096];

	for (int ms = 0; ms < SERVER_MS && !bench_interrupted(); ms += 20) {
		FILE *f = fopen(output, "r");
		size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

		if (f)
			fclose(f);
		text[n] = 0;
		if (strstr(text, "waiting for connection"))
			return true;
		if (!fio_runs(pid))
			break;
		usleep(20000);
	}
	return false;
}

static void server_kill(pid_t pid)
{
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Start a server for one client.  Returns a negative number if that failed. */
static pid_t server_start(const char *job)
{
	/* fio prints line by line to a terminal only. */
	char *const argv[] = { "stdbuf", "-oL", "fio", "--aux-path=/tmp", (char *)job, NULL };
	char output[] = "/tmp/hmm-bench.XXXXXX";
	pid_t pid;

	if (!make_output(output))
		return -1;
	pid = spawn(argv, output);
	if (pid >= 0 && !is_listening(pid, output)) {
		server_kill(pid);
		if (!bench_interrupted())
			bench_fail(STATUS_FAILED, "the fio server does not listen");
		pid = -1;
	}
	unlink(output);
	return pid;
}

/* The server ends after its client.  Before that it reacts to SIGKILL only. */
static void server_stop(pid_t pid)
{
	for (int ms = 0; ms < SERVER_MS && !bench_interrupted(); ms += 20) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return;
		usleep(20000);
	}
	server_kill(pid);
}

/* The seconds that a line of a job file sets @option to; 0 if it does not. */
static long long seconds_of(const char *line, const char *option)
{
	size_t length = strlen(option);
	long long n;
	char *unit;

	line += strspn(line, " \t");
	if (strncmp(line, option, length) || line[length] != '=')
		return 0;
	n = strtoll(line + length + 1, &unit, 10);
	if (!strncmp(unit, "ms", 2) || !strncmp(unit, "us", 2))
		return 1 + n / 1000;
	return *unit == 'm' ? n * 60 : *unit == 'h' ? n * 3600 : *unit == 'd' ? n * 86400 : n;
}

static long long longer(long long a, long long b)
{
	return a > b ? a : b;
}

/* Read the names of the jobs in a file, except "global". */
static enum status read_names(struct jobs *jobs)
{
	FILE *f = fopen(jobs->file, "r");
	long long runtime = 0, ramp = 0;
	unsigned int n = 0, most;
	char line[256];

	if (!f)
		return bench_fail(STATUS_USAGE, "%s: %s", jobs->file, strerror(errno));
	/* Memory that a NIC has pinned does not move. */
	jobs->places = jobs->server[0] ? 1 : 2;
	while (fgets(line, sizeof(line), f)) {
		char *end = strchr(line, ']');

		runtime = longer(runtime, seconds_of(line, "runtime"));
		ramp = longer(ramp, seconds_of(line, "ramp_time"));
		/* Verifying a buffer moves it to RAM. */
		if (!strncmp(line + strspn(line, " \t"), "verify=", 7))
			jobs->places = 1;
		if (line[0] != '[' || !end)
			continue;
		*end = 0;
		if (!strcmp(line + 1, "global"))
			continue;
		if (n == VARIANTS || strlen(line + 1) >= NAMES) {
			n = 0;
			break;
		}
		snprintf(jobs->names[n++], NAMES, "%s", line + 1);
	}
	fclose(f);
	jobs->nr = n;
	jobs->seconds = runtime + ramp;
	most = VARIANTS / jobs->places;
	if (n && n <= most)
		return STATUS_OK;
	return bench_fail(STATUS_USAGE, "%s: no jobs, more than %u jobs, or a name is too long",
			  jobs->file, most);
}

/*
 * Add the latencies that fio has measured.  They are as precise as fio's buckets, and the
 * maximum is exact.
 */
static void add_latencies(json_t *direction, struct histogram *latency)
{
	json_t *taken = json_object_get(direction, "clat_ns"), *n;
	uint64_t max = json_number_value(json_object_get(taken, "max"));
	const char *text;

	json_object_foreach(json_object_get(taken, "bins"), text, n) {
		uint64_t ns = strtoull(text, NULL, 10);

		histogram_add_many(latency, ns < max ? ns : max, json_integer_value(n));
	}
	if (max > latency->max)
		latency->max = max;
}

/* The value of an option of the job, or of its file, with "64k" as 65536; or @otherwise. */
static long long option_of(json_t *result, json_t *job, const char *name, long long otherwise)
{
	json_t *own = json_object_get(json_object_get(job, "job options"), name);
	json_t *of_all = json_object_get(json_object_get(result, "global options"), name);
	const char *text = json_string_value(own ?: of_all);
	long long n = otherwise;
	char *unit = "";

	if (text)
		n = strtoll(text, &unit, 10);
	return *unit == 'k' || *unit == 'K' ? n << 10 : *unit == 'm' || *unit == 'M' ? n << 20 : n;
}

/* The pages of a job's buffers.  There is one buffer for each concurrent I/O. */
static long long buffers_of(json_t *result, json_t *job)
{
	return option_of(result, job, "iodepth", 1) * option_of(result, job, "bs", PAGE) / PAGE;
}

/*
 * Microseconds for each I/O, as fio counts them.  fio's RDMA engine includes half a second of
 * sleep before the first I/O, so for a client the mean latency is taken.
 */
static double read_result(const char *path, bool client, struct histogram *latency,
			  long long *buffers)
{
	json_t *result = json_load_file(path, 0, NULL), *job, *read, *write;
	double us = -1, ios;

	job = json_array_get(json_object_get(result, "jobs"), 0);
	read = json_object_get(job, "read");
	write = json_object_get(job, "write");
	ios = json_number_value(json_object_get(read, "total_ios")) +
	      json_number_value(json_object_get(write, "total_ios"));
	if (job && !json_integer_value(json_object_get(job, "error")) && ios > 0)
		us = client ? json_number_value(json_object_get(json_object_get(write, "lat_ns"),
								"mean")) / 1e3 :
			      1e3 * json_number_value(json_object_get(job, "job_runtime")) / ios;
	if (us > 0 && latency) {
		add_latencies(read, latency);
		add_latencies(write, latency);
	}
	if (buffers)
		*buffers = buffers_of(result, job);
	json_decref(result);
	if (us <= 0)
		bench_fail(STATUS_FAILED, "fio failed or did nothing");
	return us;
}

/* Wait for the end of fio.  False if it does not end in @limit_ms, unless 0: then it is killed. */
static bool wait_for_end(pid_t pid, long long limit_ms, int *status)
{
	for (long long ms = 0; ms < limit_ms && !bench_interrupted(); ms += 20) {
		if (waitpid(pid, status, WNOHANG) == pid)
			return true;
		usleep(20000);
	}
	if (limit_ms)
		kill(-pid, SIGKILL);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		if (bench_interrupted())
			kill(pid, SIGTERM);
	return !limit_ms;
}

/*
 * Run one job of a file.  A client has a limit of time, and @limit_ms is 0 for another job.
 * Returns what read_result() returns, or CLIENT_HANGS.  Sets *@buffers, if @buffers is not NULL,
 * to the pages of its buffers.
 */
static double run(const char *file, const char *name, long long limit_ms,
		  struct histogram *latency, long long *buffers)
{
	char output[] = "/tmp/hmm-bench.XXXXXX", section[NAMES + 16];
	char *const argv[] = { "fio", "--aux-path=/tmp", "--output-format=json+", section,
			       (char *)file, NULL };
	double us = -1;
	int status;
	pid_t pid;

	if (!make_output(output))
		return -1;
	snprintf(section, sizeof(section), "--section=%s", name);
	pid = spawn(argv, output);
	if (pid >= 0 && !wait_for_end(pid, limit_ms, &status)) {
		us = CLIENT_HANGS;
	} else if (pid >= 0 && !bench_interrupted()) {
		if (WIFEXITED(status) && !WEXITSTATUS(status))
			us = read_result(output, limit_ms, latency, buffers);
		else if (WIFEXITED(status))
			bench_fail(STATUS_FAILED, "fio ended with status %d", WEXITSTATUS(status));
		else
			bench_fail(STATUS_FAILED, "fio ended by signal %d", WTERMSIG(status));
	}
	unlink(output);
	return us;
}

static double run_client(const struct jobs *jobs, const char *name, struct histogram *latency)
{
	for (int i = 0; i < CLIENT_ATTEMPTS && !bench_interrupted(); i++) {
		pid_t server = server_start(jobs->server);
		double us;

		if (server < 0)
			return -1;
		us = run(jobs->file, name, 1000 * jobs->seconds + (CLIENT_MS << i), latency, NULL);
		/* A server without a client would wait for ever. */
		if (us < 0)
			server_kill(server);
		else
			server_stop(server);
		if (us != CLIENT_HANGS)
			return us;
	}
	if (!bench_interrupted())
		bench_fail(STATUS_FAILED, "fio's RDMA client does not end");
	return -1;
}

/*
 * Whether the buffers were in the right place.  In RAM, no page has moved.  On the device, all
 * buffers have come and none has gone back; a CPU that touches buffers takes them back.
 */
static bool were_there(bool on_device, long long buffers, long long moved, long long taken_back)
{
	bool there = on_device ? buffers > 0 && moved >= buffers && taken_back < moved / 2 : !moved;

	if (!there)
		bench_fail(STATUS_FAILED, "buffers of %lld pages are not %s: %lld moved there, %lld back",
			   buffers, on_device ? "on the device" : "in RAM", moved, taken_back);
	return there;
}

static double sample(void *arg, unsigned int variant, struct histogram *latency)
{
	long long moved = gpu_counter(0, "to_device");
	long long taken_back = gpu_counter(0, "cpu_faults");
	struct jobs *jobs = arg;
	const char *name = jobs->names[variant / jobs->places];
	bool on_device = variant % jobs->places;
	long long buffers = 0;
	double us;

	if (driver_param("migrate_on_fault", on_device))
		return bench_errno("parameter migrate_on_fault");
	us = jobs->server[0] ? run_client(jobs, name, latency) :
			       run(jobs->file, name, 0, latency, &buffers);
	driver_param("migrate_on_fault", false);
	return us >= 0 && were_there(on_device, buffers, gpu_counter(0, "to_device") - moved,
				     gpu_counter(0, "cpu_faults") - taken_back) ? us : -1;
}

static enum status measure(struct jobs *jobs)
{
	static const char *const places[] = { "RAM", "device" };
	char copy[256], name[256], variants[VARIANTS][NAMES + 16];
	struct figure f = {
		.name = name, .what = "fio, with its buffers there", .unit = "us/io",
		.sample = sample, .arg = jobs, .latencies = true,
	};
	char *base;

	snprintf(copy, sizeof(copy), "%s", jobs->file);
	base = basename(copy);
	base[strcspn(base, ".")] = 0;
	snprintf(name, sizeof(name), "fio.%.64s", base);
	for (unsigned int v = 0; v < jobs->nr * jobs->places; v++) {
		snprintf(variants[v], sizeof(variants[v]), "%s, %s",
			 jobs->names[v / jobs->places], places[v % jobs->places]);
		f.variants[v] = variants[v];
		if (v % jobs->places)
			f.compare[v / jobs->places] = (struct comparison) {
				.over = v, .under = v - 1,
			};
	}
	return bench_measure(&f);
}

/* fio JOBFILE... */
enum status bench_fio(int argc, char **argv)
{
	enum status status = STATUS_OK;
	int gpu[2];

	if (argc < 2)
		return bench_fail(STATUS_USAGE, "fio takes job files");
	status = devices_open(gpu);
	for (int i = 1; i < argc && !status; i++) {
		struct jobs jobs = { .file = argv[i] };
		const char *dot = strrchr(argv[i], '.');

		snprintf(jobs.server, sizeof(jobs.server), "%.*s.server.fio",
			 dot ? (int)(dot - argv[i]) : 0, argv[i]);
		if (access(jobs.server, R_OK))
			jobs.server[0] = 0;
		status = read_names(&jobs) ?: measure(&jobs);
	}
	return status;
}
