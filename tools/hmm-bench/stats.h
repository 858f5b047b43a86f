/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Statistics of samples: medians with intervals, ratios of variants that took turns, latencies,
 * and the growth of cost.
 */
#ifndef HMM_BENCH_STATS_H
#define HMM_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A value that is between @low and @high with a confidence of 95%.  The interval of a median
 * follows from the ranks of the samples alone, whatever their distribution is: on a shared
 * machine some samples are very long, and none very short.
 */
struct estimate {
	double value, low, high;
};

/* With fewer samples there is no interval of the median. */
#define LEAST_SAMPLES	8

/*
 * @n is at least 1.  Below LEAST_SAMPLES the interval is all samples.  The caller may look at
 * the interval after each sample and stop when it likes the result: all intervals together
 * include the true median with 95%.  Each is therefore a little wider than an interval that is
 * looked at once.
 */
struct estimate median(const double *values, size_t n);

/* The median and the quartiles of the samples. */
struct estimate quartiles(const double *values, size_t n);

/*
 * The median of @a[i] / @b[i].  Both samples of a pair are from the same round, so that changes
 * between rounds do not show.  All are above 0.  @spread, if it is not NULL, gets the quartiles
 * of the ratios: more rounds make the interval narrower, but not the spread.
 */
struct estimate ratio_of(const double *a, const double *b, size_t n, struct estimate *spread);

/*
 * The exponent of @cost in @size: 1 if twice the size costs twice as much.  It is the slope of
 * a line through the logarithms, by least squares, with the interval of that slope.  @n is at
 * least 3, all values are above 0, and the sizes differ.
 */
struct estimate exponent(const double *size, const double *cost, size_t n);

/*
 * Latencies in ns, in buckets of constant relative width, as HdrHistogram has them.  Results
 * are at most 1/128 too high, up to the maximum, which is exact.
 */
#define HISTOGRAM_BITS	7
#define HISTOGRAM_SLOTS	((64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS)

struct histogram {
	uint64_t count, max;
	double sum;
	uint32_t slots[HISTOGRAM_SLOTS];
};

void histogram_add(struct histogram *h, uint64_t ns);
/* Add the same latency @n times. */
void histogram_add_many(struct histogram *h, uint64_t ns, uint64_t n);
void histogram_merge(struct histogram *to, const struct histogram *from);

/* The highest latency in a slot. */
uint64_t histogram_slot_end(size_t slot);

/* The highest latency of the lowest part @q (0 to 1) of all.  0 if there are none. */
uint64_t histogram_at(const struct histogram *h, double q);

#endif
