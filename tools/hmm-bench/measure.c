// SPDX-License-Identifier: GPL-2.0
/* Rounds, in turns, and what they come to. */
#include <errno.h>
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

uint64_t bench_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

bool bench_interrupted(void)
{
	return interrupted;
}

enum status bench_failed(void)
{
	return failed;
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

double bench_errno(const char *what)
{
	bench_fail(STATUS_FAILED, "%s: %s", what, strerror(errno));
	return -1;
}

/* Once is a request, twice is an order. */
static void on_interrupt(int signal)
{
	interrupted = 1;
}

/* Of something that takes longer: a bar, or, where there is no terminal, lines now and then. */
static void progress(const char *name, uint64_t begin, unsigned int done, unsigned int of)
{
	static const char bar[] = "##############################";
	static uint64_t spoke;
	unsigned int full = done * BAR / of;
	uint64_t now = bench_now(), patience = PATIENCE * 1000000000ULL;

	if (now - begin < patience)
		return;
	if (!isatty(STDERR_FILENO)) {
		if (done < of && now - (spoke > begin ? spoke : begin) >= patience) {
			fprintf(stderr, "# %s: %u/%u\n", name, done, of);
			spoke = now;
		}
		return;
	}
	if (done >= of)
		fprintf(stderr, "\r%*s\r", BAR + 60, "");
	else
		fprintf(stderr, "\r%-40s [%.*s%*s] %u/%u", name, full, bar, BAR - full, "",
			done, of);
}

struct rounds {
	unsigned int variants, done;
	double *samples[SIZES];		/* each of options.rounds */
	struct histogram *latency[SIZES];
	struct histogram *latest[SIZES];	/* of a round that is not complete yet */
};

static void rounds_free(struct rounds *r)
{
	for (unsigned int v = 0; v < r->variants; v++) {
		free(r->samples[v]);
		free(r->latency[v]);
		free(r->latest[v]);
	}
}

static void round_done(struct rounds *r)
{
	for (unsigned int v = 0; v < r->variants; v++) {
		if (!r->latest[v])
			continue;
		histogram_merge(r->latency[v], r->latest[v]);
		memset(r->latest[v], 0, sizeof(*r->latest[v]));
	}
	r->done++;
}

/* False if a sample could not be had; r->done says how many rounds are complete. */
static bool run_rounds(const struct figure *f, struct rounds *r)
{
	unsigned int total = (options.warm + options.rounds) * r->variants;
	uint64_t begin = bench_now();

	for (unsigned int i = 0; i < options.warm + options.rounds && !interrupted; i++) {
		bool counts = i >= options.warm;

		if (r->done >= AT_LEAST && bench_now() - begin > options.seconds * 1e9)
			break;
		for (unsigned int v = 0; v < r->variants && !interrupted; v++) {
			double s;

			progress(f->name, begin, i * r->variants + v, total);
			s = f->sample(f->arg, v, counts ? r->latest[v] : NULL);

			if (s < 0) {
				progress(f->name, begin, total, total);
				if (interrupted)
					return true;
				result_failed(f->name, v < VARIANTS && f->variants[v] ?
					      f->variants[v] : "", why);
				return false;
			}
			if (counts)
				r->samples[v][r->done] = s;
		}
		if (counts && !interrupted)
			round_done(r);
	}
	progress(f->name, begin, total, total);
	return true;
}

static void rounds_get(struct rounds *r, unsigned int variants, bool latencies)
{
	*r = (struct rounds) { .variants = variants };
	for (unsigned int v = 0; v < variants; v++) {
		r->samples[v] = calloc(options.rounds, sizeof(double));
		r->latency[v] = latencies ? calloc(1, sizeof(struct histogram)) : NULL;
		r->latest[v] = latencies ? calloc(1, sizeof(struct histogram)) : NULL;
		if (!r->samples[v] || (latencies && (!r->latency[v] || !r->latest[v])))
			abort();
	}
}

static enum status rounds_status(bool complete)
{
	if (!complete)
		return bench_failed() ?: STATUS_FAILED;
	return interrupted ? STATUS_INTERRUPTED : STATUS_OK;
}

/* Whether one of its figures was wanted. */
static bool any_wanted;

static bool is_wanted(const struct figure *f)
{
	bool wanted = !options.figure || strstr(f->name, options.figure);

	any_wanted |= wanted;
	return wanted;
}

enum status bench_measure(const struct figure *f)
{
	unsigned int variants = 0;
	struct rounds r;
	bool complete;

	if (!is_wanted(f))
		return STATUS_OK;
	while (variants < VARIANTS && f->variants[variants])
		variants++;
	rounds_get(&r, variants, f->latencies);
	complete = run_rounds(f, &r);
	if (r.done)
		result_add(f, r.samples, r.latency, r.done, complete);
	rounds_free(&r);
	return rounds_status(complete);
}

enum status bench_scale(const struct figure *f, const double *sizes, unsigned int n,
			double at_most)
{
	struct rounds r;
	bool complete;

	if (!is_wanted(f))
		return STATUS_OK;
	rounds_get(&r, n, false);
	complete = run_rounds(f, &r);
	if (r.done)
		result_scale(f, sizes, r.samples, n, r.done, complete ? at_most : 0);
	rounds_free(&r);
	return rounds_status(complete);
}

enum status bench_begin(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = SA_RESETHAND };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	/* gnuplot may not be there to read. */
	signal(SIGPIPE, SIG_IGN);
	return result_begin(argc, argv);
}

enum status bench_end(enum status status)
{
	enum status wrote;

	if (!status && options.figure && !any_wanted)
		status = bench_fail(STATUS_USAGE, "it has no figure with \"%s\" in its name",
				    options.figure);
	wrote = result_end(status);
	return status ?: wrote;
}
