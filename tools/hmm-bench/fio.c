// SPDX-License-Identifier: GPL-2.0
/*
 * fio, as the system has it, on the device's own read() and write(): each job of a file is
 * a variant, with the buffers in RAM and on the device.
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

struct jobs {
	const char *file;
	char names[VARIANTS][NAMES];
	bool on_device;
};

static pid_t spawn(char *const *argv, const char *output)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	pid_t pid;
	int error;

	/* Ctrl-C is for us, and then we end it. */
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

pid_t fio_start(const char *job)
{
	char *const argv[] = { "fio", "--aux-path=/tmp", (char *)job, NULL };

	return spawn(argv, "/dev/null");
}

bool fio_stop(pid_t pid)
{
	/* It has ended by itself. */
	if (waitpid(pid, NULL, WNOHANG) == pid)
		return false;
	kill(pid, SIGTERM);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return true;
}

/* The jobs of a file, except "global". */
static enum status read_names(struct jobs *jobs)
{
	FILE *f = fopen(jobs->file, "r");
	unsigned int n = 0;
	char line[256];

	if (!f)
		return bench_fail(STATUS_USAGE, "%s: %s", jobs->file, strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		char *end = strchr(line, ']');

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
	if (n)
		return STATUS_OK;
	return bench_fail(STATUS_USAGE, "%s: no jobs, more than %d, or too long a name",
			  jobs->file, VARIANTS);
}

/* Microseconds for each I/O, of fio's own account. */
static double read_result(const char *path)
{
	json_t *result = json_load_file(path, 0, NULL), *job;
	double us = -1, ios;

	job = json_array_get(json_object_get(result, "jobs"), 0);
	ios = json_number_value(json_object_get(json_object_get(job, "read"), "total_ios")) +
	      json_number_value(json_object_get(json_object_get(job, "write"), "total_ios"));
	if (job && !json_integer_value(json_object_get(job, "error")) && ios > 0)
		us = 1e3 * json_number_value(json_object_get(job, "job_runtime")) / ios;
	json_decref(result);
	if (us <= 0)
		bench_fail(STATUS_FAILED, "fio failed, or did nothing");
	return us;
}

static double run(const char *file, const char *name)
{
	char output[] = "/tmp/hmm-bench.XXXXXX", section[NAMES + 16];
	char *const argv[] = { "fio", "--aux-path=/tmp", "--output-format=json", section,
			       (char *)file, NULL };
	int fd = mkstemp(output), status;
	double us = -1;
	pid_t pid;

	if (fd < 0) {
		bench_fail(STATUS_MISSING, "/tmp: %s", strerror(errno));
		return -1;
	}
	close(fd);
	snprintf(section, sizeof(section), "--section=%s", name);
	pid = spawn(argv, output);
	while (pid >= 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		if (bench_interrupted())
			kill(pid, SIGTERM);
	if (pid >= 0 && !bench_interrupted()) {
		if (WIFEXITED(status) && !WEXITSTATUS(status))
			us = read_result(output);
		else
			bench_fail(STATUS_FAILED, "fio ended with status %#x", status);
	}
	unlink(output);
	return us;
}

static double sample(void *arg, unsigned int variant, struct histogram *latency)
{
	struct jobs *jobs = arg;
	long long moved = gpu_counter(0, "to_device");
	double us;

	if (driver_param("migrate_on_fault", jobs->on_device))
		return bench_errno("parameter migrate_on_fault");
	us = run(jobs->file, jobs->names[variant]);
	driver_param("migrate_on_fault", false);
	if (us >= 0 && jobs->on_device != (gpu_counter(0, "to_device") > moved)) {
		bench_fail(STATUS_FAILED, "the buffers were not %s",
			   jobs->on_device ? "on the device" : "in RAM");
		return -1;
	}
	return us;
}

static enum status measure(struct jobs *jobs)
{
	static const char *const places[] = { "ram", "device" };
	char copy[256], name[256];
	enum status status = STATUS_OK;

	snprintf(copy, sizeof(copy), "%s", jobs->file);
	for (int i = 0; i < 2 && !status; i++) {
		struct figure f = {
			.name = name, .what = "fio, with its buffers there", .unit = "us/io",
			.sample = sample, .arg = jobs,
		};
		char *base = basename(copy);

		base[strcspn(base, ".")] = 0;
		snprintf(name, sizeof(name), "fio.%.64s.%s", base, places[i]);
		for (int k = 0; k < VARIANTS && jobs->names[k][0]; k++)
			f.variants[k] = jobs->names[k];
		jobs->on_device = i;
		status = bench_measure(&f);
	}
	return status;
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

		status = read_names(&jobs) ?: measure(&jobs);
	}
	return status;
}
