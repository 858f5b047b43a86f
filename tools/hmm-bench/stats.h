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
 * A value between @low and @high with a confidence of about 95%.  Of the median that
 * follows from the ranks of the samples alone, whatever their distribution is: a machine
 * that is shared makes some samples very long, and none very short.
 */
struct estimate {
	double value, low, high;
};

/* @n is at least 1; below 6 there is no such interval, and it is all of them. */
struct estimate median(const double *values, size_t n);

/*
 * The median of @a[i] / @b[i], of which each pair was measured one behind the other: what
 * changed between rounds does not show in it.  All are above 0.
 */
struct estimate ratio_of(const double *a, const double *b, size_t n);

/*
 * Whether a ratio says anything: its interval is no wider than a third of it.  What is
 * printed of others is that they do not.
 */
bool is_steady(struct estimate e);

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
