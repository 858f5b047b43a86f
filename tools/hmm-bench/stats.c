// SPDX-License-Identifier: GPL-2.0
/* Medians, ratios, exponents and latencies; see stats.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stats.h"

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double quantile(const double *sorted, size_t n, double q)
{
	double at = q * (n - 1);
	size_t i = at;

	return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/*
 * The number of samples below the true median is a random walk: each sample adds one or not,
 * like a toss of a coin.  The interval of n samples misses the median if the number is below
 * outer[n] or above n - outer[n].  paths[] has the probabilities of all numbers after @at
 * samples, without the walks that have been outside before.  @spent is the probability that a
 * walk has left at the lower end.  outer[n] is as large as that probability allows: ERROR / 2
 * in total, and ERROR / 2 * (1 - FIRST / n) up to the n-th sample.
 */
#define ERROR	0.05
#define FIRST	6

static struct {
	size_t at, room;
	double *paths, spent;
	size_t *outer;
} walk;

static void walk_extend(size_t n)
{
	if (n < walk.room)
		return;
	walk.room = 2 * n + 64;
	walk.paths = realloc(walk.paths, (walk.room + 1) * sizeof(*walk.paths));
	walk.outer = realloc(walk.outer, walk.room * sizeof(*walk.outer));
	if (!walk.paths || !walk.outer)
		abort();
	walk.paths[0] = walk.at ? walk.paths[0] : 1;
}

/* Add a sample: it is below the median, or not. */
static void walk_step(void)
{
	size_t n = ++walk.at, k = 0;
	double may = ERROR / 2 * (1 - (double)FIRST / n);

	walk.paths[n] = 0;
	for (size_t s = n; s > 0; s--)
		walk.paths[s] = (walk.paths[s] + walk.paths[s - 1]) / 2;
	walk.paths[0] /= 2;
	for (; k < n / 2 && walk.spent + walk.paths[k] <= may; k++) {
		walk.spent += walk.paths[k];
		walk.paths[k] = 0;
		walk.paths[n - k] = 0;
	}
	walk.outer[n] = k;
}

/* How many of the lowest and of the highest of @n samples are outside of the interval. */
static size_t outer_ranks(size_t n)
{
	walk_extend(n);
	while (walk.at < n)
		walk_step();
	return walk.outer[n];
}

static double *sorted_copy(const double *values, size_t n)
{
	double *sorted = malloc(n * sizeof(*sorted));

	if (!sorted)
		abort();
	memcpy(sorted, values, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), compare);
	return sorted;
}

struct estimate median(const double *values, size_t n)
{
	double *sorted = sorted_copy(values, n);
	size_t k = outer_ranks(n);
	struct estimate e;

	/*
	 * The k-th sample has the index k - 1.  If no sample is outside, the interval is all of
	 * them.
	 */
	k = k ? k - 1 : 0;
	e = (struct estimate) { quantile(sorted, n, 0.5), sorted[k], sorted[n - 1 - k] };
	free(sorted);
	return e;
}

struct estimate quartiles(const double *values, size_t n)
{
	double *sorted = sorted_copy(values, n);
	struct estimate e = { quantile(sorted, n, 0.5), quantile(sorted, n, 0.25),
			      quantile(sorted, n, 0.75) };

	free(sorted);
	return e;
}

struct estimate ratio_of(const double *a, const double *b, size_t n, struct estimate *spread)
{
	double *ratios = malloc(n * sizeof(*ratios));
	struct estimate e;

	if (!ratios)
		abort();
	for (size_t i = 0; i < n; i++)
		ratios[i] = a[i] / b[i];
	e = median(ratios, n);
	if (spread)
		*spread = quartiles(ratios, n);
	free(ratios);
	return e;
}

/* Student's t, two-sided 95%, by degrees of freedom. */
static double student(size_t freedom)
{
	static const double t[] = {
		12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23,
	};

	return freedom <= 10 ? t[freedom - 1] : 2.2;
}

struct estimate exponent(const double *size, const double *cost, size_t n)
{
	double x = 0, y = 0, xx = 0, xy = 0, slope, error, rest = 0;

	for (size_t i = 0; i < n; i++) {
		x += log(size[i]) / n;
		y += log(cost[i]) / n;
	}
	for (size_t i = 0; i < n; i++) {
		xx += (log(size[i]) - x) * (log(size[i]) - x);
		xy += (log(size[i]) - x) * (log(cost[i]) - y);
	}
	slope = xy / xx;
	for (size_t i = 0; i < n; i++)
		rest += pow(log(cost[i]) - y - slope * (log(size[i]) - x), 2);
	error = student(n - 2) * sqrt(rest / (n - 2) / xx);
	return (struct estimate) { slope, slope - error, slope + error };
}

/* The first 2^BITS values have a slot each.  Each power of two after that has as many slots. */
static size_t slot_of(uint64_t ns)
{
	unsigned int shift;

	if (ns < 1 << HISTOGRAM_BITS)
		return ns;
	shift = 63 - __builtin_clzll(ns) - HISTOGRAM_BITS;
	return ((size_t)(shift + 1) << HISTOGRAM_BITS) + (ns >> shift) - (1 << HISTOGRAM_BITS);
}

uint64_t histogram_slot_end(size_t slot)
{
	unsigned int shift = slot >> HISTOGRAM_BITS;
	uint64_t in = slot & ((1 << HISTOGRAM_BITS) - 1);

	if (!shift)
		return in;
	shift--;
	return ((in + (1 << HISTOGRAM_BITS) + 1) << shift) - 1;
}

void histogram_add_many(struct histogram *h, uint64_t ns, uint64_t n)
{
	h->slots[slot_of(ns)] += n;
	h->count += n;
	h->sum += (double)ns * n;
	if (n && ns > h->max)
		h->max = ns;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	histogram_add_many(h, ns, 1);
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
	for (size_t i = 0; i < HISTOGRAM_SLOTS; i++)
		to->slots[i] += from->slots[i];
	to->count += from->count;
	to->sum += from->sum;
	if (from->max > to->max)
		to->max = from->max;
}

uint64_t histogram_at(const struct histogram *h, double q)
{
	uint64_t want = ceil(q * h->count), seen = 0;

	for (size_t i = 0; i < HISTOGRAM_SLOTS; i++) {
		seen += h->slots[i];
		if (seen && seen >= want)
			return histogram_slot_end(i) < h->max ? histogram_slot_end(i) : h->max;
	}
	return 0;
}
