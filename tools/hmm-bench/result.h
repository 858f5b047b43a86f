/* SPDX-License-Identifier: GPL-2.0 */
/* What was measured, as rows for people and as JSON for everything else. */
#ifndef HMM_BENCH_RESULT_H
#define HMM_BENCH_RESULT_H

#include "bench.h"

/* STATUS_USAGE if there can be no options.output: better now than after an hour. */
enum status result_begin(int argc, char **argv);

/*
 * Writes it, if anything was measured, or failed when it was: else a file that was there
 * stays.  STATUS_FAILED if that cannot be done.
 */
enum status result_end(enum status status);

/*
 * @samples[variant][round], @cpu likewise, which is below 0 where nothing was said of it, and
 * @latency[variant] if the figure has any.  If one failed behind them the figure is not
 * @complete, and says nothing of goals.
 */
void result_add(const struct figure *f, double *const *samples, double *const *cpu,
		struct histogram *const *latency, unsigned int rounds, bool complete);

/* A sample of a figure's variant, or size, could not be had. */
void result_failed(const char *figure, const char *variant, const char *why);

/* As bench_scale(); @at_most is 0 if nothing can be said of it. */
void result_scale(const struct figure *f, const double *sizes, double *const *samples,
		  unsigned int n, unsigned int rounds, double at_most);

#endif
