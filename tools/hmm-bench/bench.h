/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What all subcommands of hmm-bench share: how they take measurements, and what becomes of the
 * results.
 *
 * A figure has variants, for example this engine and test_hmm's.  A round takes a sample of
 * each variant, in another order each time (judge.h).  A machine that is slow for a moment, or
 * becomes slower, affects all variants alike, and the ratio of two variants, round by round,
 * does not show it.
 */
#ifndef HMM_BENCH_H
#define HMM_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "judge.h"
#include "stats.h"

#define VARIANTS	6

/* Exit statuses; see the man page. */
enum status {
	STATUS_OK,
	STATUS_FAILED,		/* a measured operation failed */
	STATUS_USAGE,
	STATUS_MISSING,		/* no device, no permission, too little memory, no rxe */
	STATUS_INTERRUPTED = 130,
};

struct figure {
	const char *name;	/* "migrate.to_device.4k": the name in JSON and plots */
	const char *what;	/* description for people */
	const char *unit;	/* unit of the samples; less is better */
	const char *variants[VARIANTS + 1];
	struct comparison compare[VARIANTS + 1];	/* see comparison_is_end() */
	/*
	 * Take one sample of a variant, in the unit.  Returns a negative number if that failed;
	 * the function has called bench_fail() then.  @latency, if the figure has latencies,
	 * gets one for each operation.
	 */
	double (*sample)(void *arg, unsigned int variant, struct histogram *latency);
	void *arg;
	bool latencies;		/* sample() fills in latencies */
};

/* Options of the command line. */
struct options {
	unsigned int rounds;		/* minimum; more until all comparisons are answered */
	unsigned int warm;		/* before them; they do not count */
	double seconds;			/* limit for a figure, after at least 3 rounds */
	size_t length;			/* bytes of memory to work on */
	unsigned int threads;
	uint64_t seed;
	const char *output;		/* name of the JSON file, or NULL */
	const char *figure;		/* part of the names of the wanted figures, or NULL */
};

extern struct options options;

/*
 * Record how much processor time the current sample has used, in the unit of the samples.
 * Variants call this if other threads work for them, because the clock does not count that
 * time.
 */
void bench_cpu(double used);

/* Measure a figure, print a row for each variant and ratio, and add them to the result. */
enum status bench_measure(const struct figure *f);

/*
 * Fit the exponent of cost against size, for all sizes and for the larger half: a constant cost
 * hides growth in the small sizes.  sample() gets an index of @sizes as variant, with the
 * largest size first, and returns the total cost.  Sizes take turns as variants do.  The lowest
 * cost of each size counts, because disturbances only add to it.  The number of rounds is
 * options.rounds, or less if there is no time.  Half of @n must be at least LEAST_SIZES.
 */
#define SIZES		14
#define LEAST_SIZES	4
enum status bench_scale(const struct figure *f, const double *sizes, unsigned int n,
			double at_most);

/* Print one line that says why the run ends, as printf() does.  Returns @status. */
enum status bench_fail(enum status status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The same with errno and STATUS_FAILED.  Returns a negative number, which is no valid sample. */
double bench_errno(const char *what);

/* The status that bench_fail() was told last, or STATUS_OK. */
enum status bench_failed(void);

/* Whether Ctrl-C was pressed.  The results so far are printed then. */
bool bench_interrupted(void);

/* xorshift64; @state is not 0 */
uint64_t bench_random(uint64_t *state);

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t bench_now(void);

/* main() calls them before and after a subcommand. */
enum status bench_begin(int argc, char **argv);
enum status bench_end(enum status status);

/* Subcommands, each in the file with its name. */
enum status bench_migrate(int argc, char **argv);
enum status bench_fault(int argc, char **argv);
enum status bench_map(int argc, char **argv);
enum status bench_invalidate(int argc, char **argv);
enum status bench_revoke(int argc, char **argv);
enum status bench_load(int argc, char **argv);
enum status bench_rdma(int argc, char **argv);
enum status bench_oversub(int argc, char **argv);
enum status bench_scaling(int argc, char **argv);
enum status bench_stock(int argc, char **argv);
enum status bench_fio(int argc, char **argv);
enum status bench_compare(int argc, char **argv);
enum status bench_plot(int argc, char **argv);

#endif
