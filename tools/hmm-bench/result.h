/* SPDX-License-Identifier: GPL-2.0 */
/* Results, as rows for people and as JSON for programs. */
#ifndef HMM_BENCH_RESULT_H
#define HMM_BENCH_RESULT_H

#include "bench.h"

/* Returns STATUS_USAGE if options.output cannot be created, so that this shows before the run. */
enum status result_begin(int argc, char **argv);

/*
 * Write the result if anything was measured or failed; otherwise an existing file stays.
 * Returns STATUS_FAILED if it cannot be written.
 */
enum status result_end(enum status status);

/*
 * Add a figure.  @samples[variant][round]; @cpu likewise, below 0 if unknown; @latency[variant]
 * if the figure has latencies.  If a sample failed after these, the figure is not @complete,
 * and its goals have no verdict.
 */
void result_add(const struct figure *f, double *const *samples, double *const *cpu,
		struct histogram *const *latency, unsigned int rounds, bool complete);

/* Record that a sample of a figure's variant, or size, failed. */
void result_failed(const char *figure, const char *variant, const char *why);

/* Add a figure of bench_scale().  @at_most is 0 if there is no goal. */
void result_scale(const struct figure *f, const double *sizes, double *const *samples,
		  unsigned int n, unsigned int rounds, double at_most);

#endif
