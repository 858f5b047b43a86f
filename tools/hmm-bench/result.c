// SPDX-License-Identifier: GPL-2.0
/*
 * The result file, described in Documentation/hmm-bench.rst.  Its schema has a number, and
 * readers refuse other numbers.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "machine.h"
#include "result_read.h"
#include "result.h"

static json_t *root, *figures;
/* The temporary file, which is renamed to the result file. */
static char *beside;

static const double points[] = { 0.5, 0.9, 0.99, 0.999 };
static const char *const point_names[] = { "p50", "p90", "p99", "p99.9" };
#define POINTS	(sizeof(points) / sizeof(points[0]))

enum status result_begin(int argc, char **argv)
{
	json_t *arguments;

	if (options.output) {
		FILE *f;

		if (asprintf(&beside, "%s.new", options.output) < 0)
			abort();
		f = fopen(beside, "w");
		if (!f)
			return bench_fail(STATUS_USAGE, "%s: %s", beside, strerror(errno));
		fclose(f);
	}
	arguments = json_array();
	for (int i = 1; i < argc; i++)
		json_array_append_new(arguments, json_string(argv[i]));
	figures = json_array();
	root = json_pack("{s:i, s:s, s:o, s:I, s:I, s:i, s:o, s:b, s:o}", "schema", SCHEMA, "tool",
			 "hmm-bench", "arguments", arguments, "length", (json_int_t)options.length,
			 "seed", (json_int_t)options.seed, "threads", (int)options.threads,
			 "machine", machine_describe(), "complete", 0, "figures", figures);
	return STATUS_OK;
}

/*
 * Write what has been measured so far, in case the run ends here.  Errors are reported at the
 * end.
 */
static bool write_result(void)
{
	FILE *f = beside ? fopen(beside, "w") : NULL;
	bool written;

	if (!f)
		return !beside;
	written = !json_dumpf(root, f, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	written &= !fclose(f);
	return written && !rename(beside, options.output);
}

enum status result_end(enum status status)
{
	bool any = json_array_size(figures) || json_object_get(root, "failed"), written;

	json_object_set_new(root, "complete", json_boolean(status == STATUS_OK));
	written = !any || write_result();
	if (beside)
		remove(beside);
	free(beside);
	json_decref(root);
	if (written)
		return STATUS_OK;
	return bench_fail(STATUS_FAILED, "%s cannot be written", options.output);
}

static json_t *estimate_json(struct estimate e)
{
	return json_pack("{s:f, s:f, s:f}", "value", e.value, "low", e.low, "high", e.high);
}

static json_t *bucket_json(const struct histogram *h, size_t slot)
{
	return json_pack("[I, i]", (json_int_t)histogram_slot_end(slot), h->slots[slot]);
}

static json_t *latency_json(const struct histogram *h)
{
	json_t *buckets = json_array();
	json_t *j = json_pack("{s:I, s:f, s:I}", "count", (json_int_t)h->count, "mean",
			      h->count ? h->sum / h->count : 0.0, "max", (json_int_t)h->max);

	for (size_t i = 0; i < POINTS; i++)
		json_object_set_new(j, point_names[i],
				    json_integer(histogram_at(h, points[i])));
	for (size_t i = 0; i < HISTOGRAM_SLOTS; i++)
		if (h->slots[i])
			json_array_append_new(buckets, bucket_json(h, i));
	json_object_set_new(j, "buckets", buckets);
	return j;
}

static void print_latency(const struct histogram *h)
{
	printf("%-38s us:", "");
	for (size_t i = 0; i < POINTS; i++)
		printf(" %s %.1f", point_names[i], histogram_at(h, points[i]) / 1e3);
	printf(" max %.1f (%llu)\n", h->max / 1e3, (unsigned long long)h->count);
}

/* The quartiles of the rounds. */
static json_t *spread_json(struct estimate spread)
{
	return json_pack("{s:f, s:f}", "low", spread.low, "high", spread.high);
}

static void append_ratio(json_t *ratios, const struct figure *f, const struct comparison *c,
			 double *const *samples, unsigned int rounds, bool complete)
{
	struct estimate spread;
	struct estimate e = ratio_of(samples[c->over], samples[c->under], rounds, &spread);
	json_t *j = json_pack("{s:s, s:s, s:o, s:o}", "over", f->variants[c->over], "under",
			      f->variants[c->under], "ratio", estimate_json(e), "spread",
			      spread_json(spread));

	printf("  %s / %s: %.2f (%.2f to %.2f; half of the rounds %.2f to %.2f)",
	       f->variants[c->over], f->variants[c->under], e.value, e.low, e.high, spread.low,
	       spread.high);
	if (c->goal && complete) {
		const char *word = verdict_word(judge(e, rounds, c->goal, c->at_most));

		printf(", goal at %s %.2f: %s", c->at_most ? "most" : "least", c->goal, word);
		json_object_set_new(j, "goal", json_real(c->goal));
		json_object_set_new(j, "goal_is", json_string(c->at_most ? "at most" :
							      "at least"));
		json_object_set_new(j, "verdict", json_string(word));
	}
	printf("\n");
	json_array_append_new(ratios, j);
}

static json_t *raw_json(const double *samples, unsigned int rounds)
{
	json_t *raw = json_array();

	for (unsigned int i = 0; i < rounds; i++)
		json_array_append_new(raw, json_real(samples[i]));
	return raw;
}

/* The time of all processors, if each round has recorded it. */
static void append_cpu(json_t *variant, const double *cpu, unsigned int rounds)
{
	struct estimate e;

	for (unsigned int i = 0; i < rounds; i++)
		if (cpu[i] < 0)
			return;
	e = median(cpu, rounds);
	printf(", %.2f of processors", e.value);
	json_object_set_new(variant, "cpu", json_pack("{s:o, s:o}", "median", estimate_json(e),
						      "samples", raw_json(cpu, rounds)));
}

void result_add(const struct figure *f, double *const *samples, double *const *cpu,
		struct histogram *const *latency, unsigned int rounds, bool complete)
{
	json_t *variants = json_array(), *ratios = json_array();

	for (unsigned int v = 0; v < VARIANTS && f->variants[v]; v++) {
		struct estimate e = median(samples[v], rounds);
		json_t *j = json_pack("{s:s, s:o, s:o}", "name", f->variants[v], "median",
				      estimate_json(e), "samples", raw_json(samples[v], rounds));

		printf("%-26s %-12s %10.2f  (%.2f to %.2f) %s", v ? "" : f->name,
		       f->variants[v], e.value, e.low, e.high, f->unit);
		append_cpu(j, cpu[v], rounds);
		if (rounds < LEAST_SAMPLES)
			printf(", %u round%s only", rounds, rounds > 1 ? "s" : "");
		printf("\n");
		if (f->latencies) {
			print_latency(latency[v]);
			json_object_set_new(j, "latency_ns", latency_json(latency[v]));
		}
		json_array_append_new(variants, j);
	}
	for (const struct comparison *c = f->compare; !comparison_is_end(c); c++)
		append_ratio(ratios, f, c, samples, rounds, complete);
	json_array_append_new(figures, json_pack("{s:s, s:s, s:s, s:o, s:o}", "name", f->name,
						 "what", f->what, "unit", f->unit, "variants",
						 variants, "ratios", ratios));
	fflush(stdout);
	write_result();
}

void result_failed(const char *figure, const char *variant, const char *why)
{
	printf("%-26s %-12s failed: %s\n", figure, variant, why);
	json_object_set_new(root, "failed", json_pack("{s:s, s:s, s:s}", "figure", figure,
						      "variant", variant, "why", why));
	fflush(stdout);
	write_result();
}

void result_scale(const struct figure *f, const double *sizes, double *const *samples,
		  unsigned int n, unsigned int rounds, double at_most)
{
	unsigned int half = n / 2 > LEAST_SIZES ? n / 2 : LEAST_SIZES;
	struct estimate all, largest;
	json_t *points = json_array(), *j;
	double cost[SIZES];

	for (unsigned int i = 0; i < n; i++) {
		cost[i] = samples[i][0];
		for (unsigned int k = 1; k < rounds; k++)
			if (samples[i][k] < cost[i])
				cost[i] = samples[i][k];
		printf("%-26s %12.0f %12.1f %s, %.4f each\n", i ? "" : f->name, sizes[i],
		       cost[i], f->unit, cost[i] / sizes[i]);
		json_array_append_new(points,
				      json_pack("{s:f, s:f, s:o}", "size", sizes[i], "cost",
						cost[i], "samples", raw_json(samples[i], rounds)));
	}
	all = exponent(sizes, cost, n);
	largest = exponent(sizes, cost, half);
	j = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "name", f->name, "what", f->what, "unit",
		      f->unit, "points", points, "exponent", estimate_json(all), "largest",
		      estimate_json(largest));
	printf("  exponent %.3f (%.3f to %.3f), of the %u largest %.3f (%.3f to %.3f)", all.value,
	       all.low, all.high, half, largest.value, largest.low, largest.high);
	if (at_most > 0) {
		/* Few sizes may prove growth, but not that there is none. */
		const char *word = verdict_word(largest.low > at_most ? NOT_MET :
						judge(all, LEAST_SAMPLES, at_most, true));

		printf(", goal at most %.2f: %s", at_most, word);
		json_object_set_new(j, "goal", json_real(at_most));
		json_object_set_new(j, "verdict", json_string(word));
	}
	printf("\n");
	json_array_append_new(figures, j);
	fflush(stdout);
	write_result();
}
