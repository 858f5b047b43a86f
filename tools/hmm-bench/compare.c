// SPDX-License-Identifier: GPL-2.0
/*
 * "compare": two result files side by side, and the figures that changed by more than their
 * samples differ.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "result_read.h"

/* Properties of the machine and options that make two results hard to compare if they differ. */
static const char *const same[] = {
	"kernel", "config", "processor", "processors", "memory", "hardware", "hypervisor",
	"transparent_hugepage", "hmm_p2p", "hmm_dummy", NULL
};
static const char *const same_options[] = { "length", "threads", NULL };

static void print_differences(json_t *a, json_t *b, const char *const *keys)
{
	for (size_t i = 0; keys[i]; i++) {
		json_t *ja = json_object_get(a, keys[i]), *jb = json_object_get(b, keys[i]);
		char *ta, *tb;

		/* json_equal() does not take two missing values for equal. */
		if (json_equal(ja, jb) || (!ja && !jb))
			continue;
		ta = json_dumps(ja, JSON_ENCODE_ANY);
		tb = json_dumps(jb, JSON_ENCODE_ANY);
		printf("differs: %s: %s, %s\n", keys[i], ta ?: "none", tb ?: "none");
		free(ta);
		free(tb);
	}
}

static const char *text_of(json_t *figure, const char *key)
{
	return json_string_value(json_object_get(figure, key)) ?: "none";
}

static double change_of(double a, double b)
{
	return a > 0 ? 100 * (b / a - 1) : 0;
}

/*
 * The medians of the lower and of the upper half of a variant's samples.  If the samples have
 * two modes, the median and its interval may show only one of them.
 */
static struct estimate halves_of(json_t *variant)
{
	json_t *samples = json_object_get(variant, "samples"), *sample;
	size_t n = json_array_size(samples), i;
	double *values = calloc(n + 1, sizeof(*values));
	struct estimate e = {};

	if (!values)
		abort();
	json_array_foreach(samples, i, sample)
		values[i] = json_number_value(sample);
	if (n)
		e = quartiles(values, n);
	free(values);
	return e;
}

static bool is_change(double change, double percent)
{
	return change >= percent || change <= -percent;
}

/* What changed of a variant or an exponent, and by how much; @what is NULL if nothing did. */
struct change {
	const char *what;
	double by;
};

/*
 * A change needs medians that differ by @percent, and intervals that do not overlap.  @counted
 * samples repeat so well that half of them do not differ by chance, so for them a change of
 * either half counts as well.
 */
static struct change change_between(struct estimate a, struct estimate b, json_t *va, json_t *vb,
				    double percent, bool counted)
{
	bool apart = a.high < b.low || b.high < a.low;
	double change = change_of(a.value, b.value), low, high;

	if (apart && is_change(change, percent))
		return (struct change) { "", change };
	if (!counted || percent <= 0)
		return (struct change) {};
	a = halves_of(va);
	b = halves_of(vb);
	low = change_of(a.low, b.low);
	high = change_of(a.high, b.high);
	if (is_change(high, percent))
		return (struct change) { is_change(low, percent) ? "" : " (upper half)", high };
	return is_change(low, percent) ? (struct change) { " (lower half)", low } :
					 (struct change) {};
}

/*
 * Print a change.  Returns whether the value rose by @percent.  @va and @vb are the variants,
 * or NULL.
 */
static bool print_change(const char *name, const char *variant, struct estimate a,
			 struct estimate b, json_t *va, json_t *vb, double percent, bool counted)
{
	struct change change = change_between(a, b, va, vb, percent, counted);

	printf("%-26s %-12s %12.3f %12.3f %+7.1f%%", name, variant, a.value, b.value,
	       change_of(a.value, b.value));
	if (change.what)
		printf("  %s%s", change.by > 0 ? "more" : "less", change.what);
	printf("\n");
	return change.what && change.by > 0;
}

static unsigned int compare_figures(json_t *a, json_t *b, double percent)
{
	unsigned int both = 0, more = 0, gone = 0;
	json_t *fa, *va;
	size_t i, k;

	printf("%-26s %-12s %12s %12s\n", "", "", "first", "second");
	json_array_foreach(json_object_get(a, "figures"), i, fa) {
		const char *name = json_string_value(json_object_get(fa, "name"));
		json_t *fb = result_figure(b, name);

		/* Times and instructions cannot be compared. */
		if (fb && !json_equal(json_object_get(fa, "unit"), json_object_get(fb, "unit"))) {
			printf("%-26s differs: unit: %s, %s\n", name, text_of(fa, "unit"),
			       text_of(fb, "unit"));
			gone++;
			continue;
		}
		if (json_object_get(fa, "exponent") && json_object_get(fb, "exponent")) {
			both++;
			more += print_change(name, "exponent", estimate_read(fa, "exponent"),
					     estimate_read(fb, "exponent"), NULL, NULL, percent,
					     false);
		} else if (json_object_get(fa, "exponent")) {
			printf("%-26s %-12s only in the first\n", name, "exponent");
			gone++;
		}
		json_array_foreach(json_object_get(fa, "variants"), k, va) {
			const char *variant = json_string_value(json_object_get(va, "name"));
			json_t *vb = figure_variant(fb, variant);

			if (!vb) {
				printf("%-26s %-12s only in the first\n", name, variant);
				gone++;
				continue;
			}
			both++;
			more += print_change(name, variant, estimate_read(va, "median"),
					     estimate_read(vb, "median"), va, vb, percent,
					     strstr(text_of(fa, "unit"), "instructions"));
		}
	}
	if (!both)
		bench_fail(STATUS_USAGE, "the two files have no figure with the same unit");
	else if (percent && gone)
		bench_fail(STATUS_FAILED, "%u rows of the first file are not in the second",
			   gone);
	return more;
}

/* compare FIRST SECOND [PERCENT]: with PERCENT, a rise by at least that is a failure. */
enum status bench_compare(int argc, char **argv)
{
	unsigned int more = 0;
	double percent = 0;
	json_t *a, *b;
	char *end;

	if (argc < 3 || argc > 4)
		return bench_fail(STATUS_USAGE, "compare takes two result files, and a percentage");
	if (argc == 4) {
		percent = strtod(argv[3], &end);
		if (*end || end == argv[3] || !(percent > 0) || percent > 1000)
			return bench_fail(STATUS_USAGE, "not a percentage: \"%s\"", argv[3]);
	}
	a = result_read(argv[1]);
	b = a ? result_read(argv[2]) : NULL;
	if (b) {
		if (!json_is_true(json_object_get(a, "complete")) ||
		    !json_is_true(json_object_get(b, "complete")))
			printf("not complete: %s\n", json_is_true(json_object_get(a, "complete")) ?
			       argv[2] : argv[1]);
		print_differences(json_object_get(a, "machine"), json_object_get(b, "machine"),
				  same);
		print_differences(a, b, same_options);
		more = compare_figures(a, b, percent);
	}
	json_decref(a);
	json_decref(b);
	if (bench_failed())
		return bench_failed();
	if (percent && more)
		return bench_fail(STATUS_FAILED, "%u rose by %g%% or more", more,
				  percent);
	return STATUS_OK;
}
