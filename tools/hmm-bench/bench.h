/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What all subcommands of hmm-bench share: how something is measured, and what becomes of
 * it.
 *
 * A figure has variants, such as this engine and test_hmm's.  A round takes a sample of each,
 * in another order each time (judge.h).  So a machine that is slow for a moment, or becomes
 * slower, is so for all of them, and the ratio of two, round by round, does not show it.
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
	STATUS_FAILED,		/* what was measured went wrong */
	STATUS_USAGE,
	STATUS_MISSING,		/* no device, no permission, too little memory, no rxe */
	STATUS_INTERRUPTED = 130,
};

struct figure {
	const char *name;	/* "migrate.to_device.4k": what JSON and plots know it by */
	const char *what;	/* for people */
	const char *unit;	/* of samples: less is better */
	const char *variants[VARIANTS + 1];
	struct comparison compare[VARIANTS + 1];	/* see comparison_is_end() */
	/*
	 * One sample of a variant, in the unit; below 0 if it could not be had, and then
	 * bench_fail() was told why.  @latency, if it is used, has one each.
	 */
	double (*sample)(void *arg, unsigned int variant, struct histogram *latency);
	void *arg;
	bool latencies;		/* sample() fills them in */
};

/* Of the command line. */
struct options {
	unsigned int rounds;		/* at least, and more until all comparisons are answered */
	unsigned int warm;		/* before them, which do not count */
	double seconds;			/* per figure; then it ends, with 3 rounds or more */
	size_t length;			/* bytes of memory that are worked on */
	unsigned int threads;
	uint64_t seed;
	const char *output;		/* a file for JSON, or NULL */
	const char *figure;		/* part of the names of those that are wanted, or NULL */
};

extern struct options options;

/*
 * The sample that is being taken has used so much time of processors, in its unit.  For variants
 * that have others work for them, whom the clock does not count.
 */
void bench_cpu(double used);

/* Measure it, print a row for each variant and ratio, and add it to the result. */
enum status bench_measure(const struct figure *f);

/*
 * Fit the exponent of cost against size, of all and of the larger half: what is the same
 * for each sample hides growth in the small ones.  sample() is given an index of @sizes,
 * the largest of which is the first, as variant, and returns the total cost; sizes take
 * turns as variants do, and the lowest cost of each counts, since what disturbs only adds.
 * It takes options.rounds, or those for which there is time.  @n is at least LEAST_SIZES, which
 * also are a half.
 */
#define SIZES		14
#define LEAST_SIZES	4
enum status bench_scale(const struct figure *f, const double *sizes, unsigned int n,
			double at_most);

/* Say in one line why it does not go on, as printf(); returns @status. */
enum status bench_fail(enum status status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The same with errno, STATUS_FAILED, and a value that no sample has: below 0. */
double bench_errno(const char *what);

/* What bench_fail() was told last, or STATUS_OK. */
enum status bench_failed(void);

/* Whether Ctrl-C was pressed: what there is is printed. */
bool bench_interrupted(void);

/* xorshift64; @state is not 0 */
uint64_t bench_random(uint64_t *state);

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t bench_now(void);

/* main() calls them before and after a subcommand. */
enum status bench_begin(int argc, char **argv);
enum status bench_end(enum status status);

/* Subcommands, each in the file of its name. */
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
