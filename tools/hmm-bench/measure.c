// SPDX-License-Identifier: GPL-2.0
/* The rounds of a figure, and their results. */
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

#define AT_LEAST	3	/* minimum of rounds, whatever the time */
#define MOST_ROUNDS	1000	/* if --rounds is not more */
#define PATIENCE	5	/* seconds without output */
#define BAR		30	/* characters */

struct options options = {
	.rounds = 15, .warm = 2, .seconds = 60, .length = 32UL << 20, .threads = 1,
};

static volatile sig_atomic_t interrupted;
static enum status failed;
static char why[256];
static double cpu_used;		/* by the last sample; below 0: unknown */

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

void bench_cpu(double used)
{
	cpu_used = used;
}

/* The first signal ends the run after the current sample, the second one at once. */
static void on_interrupt(int signal)
{
	interrupted = 1;
}

/* Show the progress of a long measurement: as a bar on a terminal, otherwise as lines. */
static void progress(const char *name, uint64_t begin, unsigned int rounds, bool ended)
{
	static const char bar[] = "##############################";
	static uint64_t spoke;
	uint64_t now = bench_now(), patience = PATIENCE * 1000000000ULL;
	double seconds = (now - begin) / 1e9;
	unsigned int full = seconds < options.seconds ? seconds / options.seconds * BAR : BAR;

	if (now - begin < patience)
		return;
	if (!isatty(STDERR_FILENO)) {
		if (!ended && now - (spoke > begin ? spoke : begin) >= patience) {
			fprintf(stderr, "# %s: %u rounds, %.0f of %.0f s\n", name, rounds, seconds,
				options.seconds);
			spoke = now;
		}
		return;
	}
	if (ended)
		fprintf(stderr, "\r%*s\r", BAR + 80, "");
	else
		fprintf(stderr, "\r%-40s [%.*s%*s] %u rounds, %.0f of %.0f s", name, full, bar,
			BAR - full, "", rounds, seconds, options.seconds);
}

struct rounds {
	unsigned int variants, done, room;
	double *samples[SIZES];		/* each of @room */
	double *cpu[SIZES];		/* likewise; below 0: unknown */
	struct histogram *latency[SIZES];
	struct histogram *latest[SIZES];	/* of a round that is not complete yet */
};

static void rounds_free(struct rounds *r)
{
	for (unsigned int v = 0; v < r->variants; v++) {
		free(r->samples[v]);
		free(r->cpu[v]);
		free(r->latency[v]);
		free(r->latest[v]);
	}
}

/* Make room for one more round. */
static void rounds_grow(struct rounds *r)
{
	if (r->done < r->room)
		return;
	r->room = 2 * r->room + 16;
	for (unsigned int v = 0; v < r->variants; v++) {
		r->samples[v] = realloc(r->samples[v], r->room * sizeof(double));
		r->cpu[v] = realloc(r->cpu[v], r->room * sizeof(double));
		if (!r->samples[v] || !r->cpu[v])
			abort();
	}
}

static void rounds_get(struct rounds *r, unsigned int variants, bool latencies)
{
	*r = (struct rounds) { .variants = variants };
	for (unsigned int v = 0; v < variants && latencies; v++) {
		r->latency[v] = calloc(1, sizeof(struct histogram));
		r->latest[v] = calloc(1, sizeof(struct histogram));
		if (!r->latency[v] || !r->latest[v])
			abort();
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

/* Take a sample of each variant.  Returns false if one failed without an interrupt. */
static bool run_round(const struct figure *f, struct rounds *r, unsigned int round, uint64_t begin)
{
	bool counts = round >= options.warm;

	rounds_grow(r);
	for (unsigned int place = 0; place < r->variants && !interrupted; place++) {
		unsigned int v = variant_at(round, place, r->variants);
		double s;

		progress(f->name, begin, r->done, false);
		cpu_used = -1;
		s = f->sample(f->arg, v, counts ? r->latest[v] : NULL);
		if (s < 0 && interrupted)
			return true;
		if (s < 0) {
			progress(f->name, begin, r->done, true);
			result_failed(f->name, v < VARIANTS && f->variants[v] ? f->variants[v] : "",
				      why);
			return false;
		}
		r->samples[v][r->done] = s;
		r->cpu[v][r->done] = cpu_used;
	}
	if (counts && !interrupted)
		round_done(r);
	return true;
}

/* Whether the rounds can end: the time is spent, or more rounds would not change the answers. */
static bool is_enough(const struct figure *f, const struct rounds *r, uint64_t begin)
{
	if (r->done >= AT_LEAST && bench_now() - begin > options.seconds * 1e9)
		return true;
	if (r->done < options.rounds)
		return false;
	return r->done >= MOST_ROUNDS || is_answered(f->compare, r->samples, r->done);
}

/* Returns false if a sample failed.  r->done is the number of complete rounds. */
static bool run_rounds(const struct figure *f, struct rounds *r)
{
	uint64_t begin = bench_now();

	for (unsigned int i = 0; !interrupted && !is_enough(f, r, begin); i++)
		if (!run_round(f, r, i, begin))
			return false;
	progress(f->name, begin, r->done, true);
	return true;
}

static enum status rounds_status(bool complete)
{
	if (!complete)
		return bench_failed() ?: STATUS_FAILED;
	return interrupted ? STATUS_INTERRUPTED : STATUS_OK;
}

/* Whether --figure names a figure of this command. */
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
		result_add(f, r.samples, r.cpu, r.latency, r.done, complete);
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
	/* gnuplot may end before it has read everything. */
	signal(SIGPIPE, SIG_IGN);
	return result_begin(argc, argv);
}

enum status bench_end(enum status status)
{
	enum status wrote;

	if (!status && options.figure && !any_wanted)
		status = bench_fail(STATUS_USAGE, "there is no figure with \"%s\" in its name",
				    options.figure);
	wrote = result_end(status);
	return status ?: wrote;
}
