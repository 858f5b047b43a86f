// SPDX-License-Identifier: GPL-2.0
/* Rounds, in turns, and what they come to. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "result.h"

#define AT_LEAST	3	/* rounds, whatever the time */
#define PATIENCE	5	/* seconds without a word */
#define BAR		30	/* characters */

struct options options = {
	.rounds = 15, .warm = 2, .seconds = 60, .length = 32UL << 20, .threads = 1,
};

static volatile sig_atomic_t interrupted;
static enum status failed;
static char why[256];

uint64_t bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

bool bench_interrupted(void)
{
	return interrupted;
}

enum status bench_failed(void)
{
	return failed;
}

const char *bench_why(void)
{
	return why;
}

enum status bench_fail(enum status status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why, sizeof(why), format, arguments);
	va_end(arguments);
	fprintf(stderr, "hmm-bench: %s\n", why);
	failed = status;
	return status;
}

/* Once is a request, twice is an order. */
static void on_interrupt(int signal)
{
	interrupted = 1;
}

static void progress(const char *name, uint64_t begin, unsigned int done, unsigned int of)
{
	static const char bar[] = "##############################";
	unsigned int full = done * BAR / of;

	if (!isatty(STDERR_FILENO) || bench_now() - begin < PATIENCE * 1000000000ULL)
		return;
	if (done == of)
		fprintf(stderr, "\r%*s\r", BAR + 60, "");
	else
		fprintf(stderr, "\r%-40s [%.*s%*s] %u/%u", name, full, bar, BAR - full, "",
			done, of);
}

struct rounds {
	unsigned int variants, done;
	double *samples[VARIANTS];	/* each of options.rounds */
	struct histogram *latency[VARIANTS];
};

static void rounds_free(struct rounds *r)
{
	for (unsigned int v = 0; v < r->variants; v++) {
		free(r->samples[v]);
		free(r->latency[v]);
	}
}

/* False if a sample could not be had; r->done says how many rounds are complete. */
static bool run_rounds(const struct figure *f, struct rounds *r)
{
	unsigned int total = options.warm + options.rounds;
	uint64_t begin = bench_now();

	for (unsigned int i = 0; i < total && !interrupted; i++) {
		bool counts = i >= options.warm;

		if (r->done >= AT_LEAST && bench_now() - begin > options.seconds * 1e9)
			break;
		progress(f->name, begin, i, total);
		for (unsigned int v = 0; v < r->variants; v++) {
			double s = f->sample(f->arg, v, counts ? r->latency[v] : NULL);

			if (s < 0) {
				result_failed(f->name, f->variants[v], bench_why());
				return false;
			}
			if (counts)
				r->samples[v][r->done] = s;
		}
		r->done += counts;
	}
	progress(f->name, begin, total, total);
	return true;
}

enum status bench_measure(const struct figure *f)
{
	struct rounds r = {};
	bool complete;

	while (r.variants < VARIANTS && f->variants[r.variants]) {
		r.samples[r.variants] = calloc(options.rounds, sizeof(double));
		r.latency[r.variants] = f->latencies ? calloc(1, sizeof(struct histogram)) :
					NULL;
		if (!r.samples[r.variants] || (f->latencies && !r.latency[r.variants]))
			abort();
		r.variants++;
	}
	complete = run_rounds(f, &r);
	if (r.done)
		result_add(f, r.samples, r.latency, r.done);
	rounds_free(&r);
	if (!complete)
		return bench_failed() ?: STATUS_FAILED;
	return interrupted ? STATUS_INTERRUPTED : STATUS_OK;
}

enum status bench_scale(const struct figure *f, const double *sizes, unsigned int n,
			double at_most)
{
	double cost[16], samples[AT_LEAST];
	char size[32];
	uint64_t begin = bench_now();

	for (unsigned int i = 0; i < n; i++) {
		for (unsigned int k = 0; k < AT_LEAST; k++) {
			progress(f->name, begin, i * AT_LEAST + k, n * AT_LEAST);
			if (interrupted)
				return STATUS_INTERRUPTED;
			samples[k] = f->sample(f->arg, i, NULL);
			if (samples[k] < 0) {
				snprintf(size, sizeof(size), "%.0f", sizes[i]);
				result_failed(f->name, size, bench_why());
				return bench_failed() ?: STATUS_FAILED;
			}
		}
		/* The lowest: what disturbs only adds. */
		cost[i] = samples[0];
		for (unsigned int k = 1; k < AT_LEAST; k++)
			if (samples[k] < cost[i])
				cost[i] = samples[k];
	}
	progress(f->name, begin, n, n);
	result_scale(f, sizes, cost, n, exponent(sizes, cost, n), at_most);
	return STATUS_OK;
}

enum status bench_begin(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = SA_RESETHAND };

	sigaction(SIGINT, &action, NULL);
	return result_begin(argc, argv);
}

enum status bench_end(enum status status)
{
	enum status wrote = result_end(status);

	return status ?: wrote;
}
