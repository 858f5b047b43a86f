// SPDX-License-Identifier: GPL-2.0
/* Tests of hmm-bench's statistics on samples with a known answer. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "stats.h"

static int checks, failed;

void check(bool ok, const char *format, ...)
{
	va_list arguments;

	printf("%s %d ", ok ? "ok" : "not ok", ++checks);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	failed += !ok;
}

static bool near(double a, double b)
{
	return fabs(a - b) < 1e-6 * (1 + fabs(b));
}

double uniform(void)
{
	return (random() + 1.0) / (RAND_MAX + 2.0);
}

#define RUNS	4000

/*
 * How often the interval includes the median of the distribution, which is 1: after @n samples
 * or, with @always, after each number of samples up to @n.
 */
static double coverage(size_t n, bool always)
{
	unsigned int hits = 0;
	double values[100];

	for (int round = 0; round < RUNS; round++) {
		bool hit = true;

		for (size_t i = 0; i < n; i++) {
			struct estimate e;

			/* The values are never below a half, and some are very large. */
			values[i] = 0.5 + 0.25 / uniform();
			if (i + 1 < LEAST_SAMPLES || (!always && i + 1 < n))
				continue;
			e = median(values, i + 1);
			hit &= e.low <= 1 && 1 <= e.high;
		}
		hits += hit;
	}
	return hits / (double)RUNS;
}

static void medians(void)
{
	double v[] = { 5, 1, 4, 2, 3 }, even[] = { 4, 1, 3, 2 };
	double fifteen[15];
	static double many[1100];
	struct estimate e = median(v, 5);

	check(e.value == 3 && e.low == 1 && e.high == 5, "median of five, and all of them");
	check(v[0] == 5 && v[4] == 3, "the samples stay as they were");
	check(near(median(even, 4).value, 2.5), "median of four");
	check(median(v, 1).value == 5, "median of one");
	for (int i = 0; i < 15; i++)
		fifteen[i] = i + 1;
	for (int i = 0; i < 1100; i++)
		many[i] = i;
	e = median(many, 1100);
	check(e.low > 480 && e.low < 515 && e.high > 585 && e.high < 620, "median of very many");
	e = median(fifteen, 15);
	check(e.value == 8 && e.low == 3 && e.high == 13, "interval of fifteen: 3rd to 13th");
	e = quartiles(fifteen, 15);
	check(e.value == 8 && near(e.low, 4.5) && near(e.high, 11.5), "quarters of fifteen");
	e = median(fifteen, LEAST_SAMPLES - 1);
	check(e.low == 1 && e.high == LEAST_SAMPLES - 1, "too few for an interval: all of them");
	for (size_t n = LEAST_SAMPLES; n <= 100; n += n)
		check(coverage(n, false) > 0.95,
		      "the interval of %zu samples has the true median in 95%% of cases", n);
	check(coverage(100, true) > 0.95,
	      "in 95%% of cases all intervals up to 100 samples have the true median");
	check(coverage(100, true) < 0.98, "and not in all cases");
}

static void ratios(void)
{
	double a[9], b[9];
	struct estimate e, spread;

	/* A machine becomes slower and slower, and one of two variants takes twice as long. */
	for (int i = 0; i < 9; i++) {
		b[i] = 1 << i;
		a[i] = 2 * b[i];
	}
	e = ratio_of(a, b, 9, &spread);
	check(near(e.value, 2) && near(e.low, 2) && near(e.high, 2), "drift is not seen in a ratio");
	check(near(spread.low, 2) && near(spread.high, 2), "and not in its spread");
	for (int i = 0; i < 9; i++)
		a[i] = b[i] * (i % 2 ? 1 : 3);
	e = ratio_of(a, b, 9, &spread);
	check(near(spread.low, 1) && near(spread.high, 3), "the spread of one that jumps");
}

static void exponents(void)
{
	double size[8], cost[8];
	struct estimate e;

	for (int i = 0; i < 8; i++) {
		size[i] = 1 << i;
		cost[i] = 3 * pow(size[i], 1.5);
	}
	e = exponent(size, cost, 8);
	check(near(e.value, 1.5) && near(e.low, 1.5) && near(e.high, 1.5), "exponent 1.5");
	for (int i = 0; i < 8; i++)
		cost[i] = size[i] * (i % 2 ? 1.1 : 0.9);
	e = exponent(size, cost, 8);
	check(e.low < 1 && 1 < e.high && e.high - e.low < 0.2, "exponent 1, with noise");
}

static void histograms(void)
{
	static struct histogram h, other, many;
	bool close = true;

	check(histogram_at(&h, 0.5) == 0, "nothing");
	for (uint64_t i = 1; i <= 100000; i++)
		histogram_add(&h, i * 1000);
	for (int i = 1; i <= 999; i++) {
		double right = i * 100000.0, found = histogram_at(&h, i / 1000.0);

		close &= found >= right && found <= right * (1 + 1.0 / 128);
	}
	check(close, "each of 999 quantiles is at most 1/128 too high");
	check(histogram_at(&h, 1) == 100000000, "the maximum is exact");
	check(near(h.sum / h.count, 50000500), "and so is the mean");
	histogram_add(&other, UINT64_MAX);
	histogram_add(&other, 0);
	check(histogram_at(&other, 1) == UINT64_MAX && histogram_at(&other, 0.1) == 0,
	      "the lowest and the highest there are");
	histogram_add_many(&many, 7000, 3);
	histogram_add_many(&many, 9000, 0);
	histogram_add(&many, 5000);
	check(many.count == 4 && many.sum == 26000 && many.max == 7000 &&
	      histogram_at(&many, 0.25) / 100 == 50 && histogram_at(&many, 0.5) == 7000,
	      "many of the same");
	histogram_merge(&other, &h);
	check(other.count == 100002 && other.max == UINT64_MAX &&
	      histogram_at(&other, 0.5) / 1000000 == 50, "two of them merged");
}

int main(void)
{
	srandom(1);
	medians();
	ratios();
	exponents();
	histograms();
	judge_test();
	printf("1..%d\n", checks);
	return failed ? 1 : 0;
}
