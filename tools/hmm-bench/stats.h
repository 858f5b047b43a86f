/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What samples say: medians with an interval, ratios of what was measured in turns,
 * latencies, and how a cost grows.
 */
#ifndef HMM_BENCH_STATS_H
#define HMM_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A value between @low and @high with a confidence of 95%.  The interval of a median follows
 * from the ranks of the samples alone, whatever their distribution is: a machine that is
 * shared makes some samples very long, and none very short.
 */
struct estimate {
	double value, low, high;
};

/* With fewer samples there is no interval of the median. */
#define LEAST_SAMPLES	8

/*
 * @n is at least 1; below LEAST_SAMPLES the interval is all of them.  The caller may look at
 * the interval after each sample and stop when it likes what it sees: the intervals of all @n
 * together have the true median in them with 95%.  That makes each a little wider than one
 * that is looked at once.
 */
struct estimate median(const double *values, size_t n);

/* The median, and the values that a quarter of the samples is below, and above. */
struct estimate quartiles(const double *values, size_t n);

/*
 * The median of @a[i] / @b[i]; the two of each pair were measured in the same round, so that
 * what changes between rounds does not show in it.  All are above 0.  @spread, if it is not
 * NULL, becomes the quartiles of the ratios: more rounds make the interval narrower, and not
 * the spread.
 */
struct estimate ratio_of(const double *a, const double *b, size_t n, struct estimate *spread);

/*
 * The exponent of @cost in @size: 1 if twice the size costs twice as much.  A line through
 * the logarithms, by least squares; the interval is that of its slope.  @n is at least 3,
 * all are above 0, and the sizes are not all the same.
 */
struct estimate exponent(const double *size, const double *cost, size_t n);

/*
 * Latencies in ns, by buckets of the same relative width as in HdrHistogram: what comes
 * out is at most 1/128 too high, up to the maximum, which is exact.
 */
#define HISTOGRAM_BITS	7
#define HISTOGRAM_SLOTS	((64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS)

struct histogram {
	uint64_t count, max;
	double sum;
	uint32_t slots[HISTOGRAM_SLOTS];
};

void histogram_add(struct histogram *h, uint64_t ns);
/* @n of the same. */
void histogram_add_many(struct histogram *h, uint64_t ns, uint64_t n);
void histogram_merge(struct histogram *to, const struct histogram *from);

/* The highest latency that a slot stands for. */
uint64_t histogram_slot_end(size_t slot);

/* The highest latency of the lowest @q of all, 0 to 1.  0 if there are none. */
uint64_t histogram_at(const struct histogram *h, double q);

#endif
