// SPDX-License-Identifier: GPL-2.0
/* Threads that work on parts of memory at the same time; see threads.h. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"

struct runner {
	struct part part;
	int (*fn)(struct part *part);
	struct histogram latency;
	pthread_t thread;
	int error;
};

enum status threads_check(size_t length)
{
	if (options.threads <= length / HUGE)
		return STATUS_OK;
	return bench_fail(STATUS_USAGE, "--threads %u: each needs 2 MiB of --length",
			  options.threads);
}

static void *run(void *arg)
{
	struct runner *r = arg;

	r->error = r->fn(&r->part) ? errno : 0;
	return NULL;
}

double threads_run_some(const struct memory *m, size_t length, unsigned int n,
			int (*fn)(struct part *part), void *arg, struct histogram *latency,
			const char *what)
{
	struct runner *all = calloc(n, sizeof(*all));
	size_t each = length / n / HUGE * HUGE;
	uint64_t begin = bench_now();
	unsigned int started;
	int error = 0;
	double us;

	if (!all)
		abort();
	for (unsigned int i = 0; i < n; i++) {
		all[i].fn = fn;
		all[i].part = (struct part) {
			.nr = i, .p = m->p + i * each, .arg = arg,
			.length = i == n - 1 ? length - i * each : each,
			.latency = latency ? &all[i].latency : NULL,
		};
	}
	for (started = 1; started < n && !error; started++)
		error = pthread_create(&all[started].thread, NULL, run, &all[started]);
	if (error)
		started--;
	else
		run(&all[0]);
	for (unsigned int i = 1; i < started; i++)
		pthread_join(all[i].thread, NULL);
	us = (bench_now() - begin) / 1e3;
	for (unsigned int i = 0; i < started; i++) {
		error = error ?: all[i].error;
		if (latency)
			histogram_merge(latency, &all[i].latency);
	}
	free(all);
	errno = error;
	return error ? bench_errno(what) : us;
}
