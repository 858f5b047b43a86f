// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of hmm-bench's verdicts on goals.  The machines are simulated: each has noise of
 * another kind, and the true ratio is known.  With any noise, at most 5 answers of 100 may be
 * wrong, also if the truth is so near to the goal that rounds end by chance.
 */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "judge.h"

#define RUNS		400
#define LEAST_ROUNDS	10	/* as --rounds */
#define MOST_ROUNDS	200	/* then the time of the figure is spent */
#define TRUTH_ROUNDS	40000
#define VARIANTS	3	/* two of them are compared */
#define GOAL		1.1

struct machine {
	const char *what;
	double jitter;		/* each sample differs by up to this part, both ways */
	double drift;		/* each sample is slower than the last by this part */
	double outliers;	/* this part of samples takes up to 10 times as long, or more */
	double spells;		/* this part of samples begins a time of 3 times the cost */
	/* The parts of samples of variant [over], and of the others, that are in a slow mode. */
	double slow_over, slow_others;
	double mode;		/* how many times longer the slow mode takes */
	bool alternates;	/* slow_over applies to every other round */
};

static const struct machine machines[] = {
	{ .what = "jitter", .jitter = 0.05 },
	{ .what = "drift", .jitter = 0.02, .drift = 0.01 },
	{ .what = "drift that is larger than the jitter", .jitter = 0.005, .drift = 0.02 },
	{ .what = "outliers", .jitter = 0.05, .outliers = 0.2 },
	{ .what = "spells of a neighbour's work", .jitter = 0.05, .spells = 0.05 },
	{ .what = "two modes", .jitter = 0.03, .slow_over = 0.5, .slow_others = 0.5, .mode = 1.5 },
	{ .what = "two modes of one variant", .jitter = 0.03, .slow_over = 0.3, .mode = 1.5 },
	{ .what = "two modes in turns", .jitter = 0.03, .slow_over = 0.5, .mode = 1.04,
	  .alternates = true },
	{ .what = "all of it", .jitter = 0.05, .drift = 0.005, .outliers = 0.1, .spells = 0.02,
	  .slow_over = 0.3, .slow_others = 0.3, .mode = 1.3 },
};

struct state {
	double pace;		/* current factor of the drift */
	unsigned int spell;	/* remaining samples of the spell */
};

static double sample(const struct machine *m, struct state *s, bool over, unsigned int round)
{
	double us = exp(m->jitter * (2 * uniform() - 1));
	bool slow = uniform() < (over ? m->slow_over : m->slow_others);

	if (m->alternates && over)
		slow = round % 2;
	s->pace *= 1 + m->drift;
	if (!s->spell && uniform() < m->spells)
		s->spell = 1 + 30 * uniform();
	if (s->spell) {
		s->spell--;
		us *= 3;
	}
	if (uniform() < m->outliers)
		us *= 1 + 1 / uniform();
	return us * s->pace * (slow ? m->mode : 1);
}

/* Take a round as measure.c does.  Without noise, variant [0] takes @ratio times as long. */
static void take_round(const struct machine *m, struct state *s, double ratio, unsigned int round,
		       double *const *samples, size_t to)
{
	for (unsigned int place = 0; place < VARIANTS; place++) {
		unsigned int v = variant_at(round, place, VARIANTS);

		samples[v][to] = sample(m, s, !v, round) * (v ? 1 : ratio);
	}
}

static double *const *rounds_of(size_t n)
{
	static double *samples[VARIANTS];

	for (unsigned int v = 0; v < VARIANTS; v++) {
		samples[v] = realloc(samples[v], n * sizeof(double));
		if (!samples[v])
			abort();
	}
	return samples;
}

/* The true ratio of equal variants: a mode that only one of them has changes it. */
static double true_ratio(const struct machine *m)
{
	double *const *samples = rounds_of(TRUTH_ROUNDS);
	struct state s;

	for (unsigned int i = 0; i < TRUTH_ROUNDS; i++) {
		/* Begin again now and then, because the drift would become too large. */
		if (i % MOST_ROUNDS == 0)
			s = (struct state) { .pace = 1 };
		take_round(m, &s, 1, i, samples, i);
	}
	return ratio_of(samples[0], samples[1], TRUTH_ROUNDS, NULL).value;
}

/* Results of RUNS runs. */
struct tally {
	unsigned int met, not_met, covered, rounds;
};

/* Measure until there is an answer or the time is spent; @truth is the true median. */
static struct tally measure(const struct machine *m, double ratio, double truth)
{
	const struct comparison compare[] = { { .under = 1, .goal = GOAL }, {} };
	double *const *samples = rounds_of(MOST_ROUNDS);
	struct tally t = {};

	for (unsigned int run = 0; run < RUNS; run++) {
		struct state s = { .pace = 1 };
		enum verdict verdict;
		struct estimate e;
		unsigned int n = 0;

		do {
			take_round(m, &s, ratio, run + n, samples, n);
			n++;
		} while (n < MOST_ROUNDS &&
			 (n < LEAST_ROUNDS || !is_answered(compare, samples, n)));
		e = ratio_of(samples[0], samples[1], n, NULL);
		verdict = judge(e, n, GOAL, false);
		t.met += verdict == MET;
		t.not_met += verdict == NOT_MET;
		t.covered += e.low <= truth && truth <= e.high;
		t.rounds += n;
	}
	return t;
}

static bool is_few(unsigned int n)
{
	return n <= RUNS * 5 / 100;
}

/* Whether @n runs are not more than 5%, with three times the spread of chance. */
static bool is_few_by_chance(unsigned int n)
{
	return n <= RUNS * 0.05 + 3 * sqrt(RUNS * 0.05 * 0.95);
}

/* The true ratio is @off times the goal; @noise is the ratio that noise alone makes. */
static void one_truth(const struct machine *m, double noise, double off, bool far)
{
	double truth = GOAL * off, ratio = truth / noise;
	struct tally t = measure(m, ratio, truth);
	unsigned int wrong = off < 1 ? t.met : t.not_met, right = off < 1 ? t.not_met : t.met;

	check(is_few(wrong) && is_few_by_chance(RUNS - t.covered),
	      "%s, truth / goal %.3f: %u of %u wrong, %u undecided, %.0f rounds", m->what, off,
	      wrong, RUNS, RUNS - t.met - t.not_met, (double)t.rounds / RUNS);
	if (far)
		check(is_few(RUNS - right), "%s: the answer is found", m->what);
}

/*
 * How often a fixed interval misses the truth at some time, if it is looked at after each
 * round.  It shows that these machines can tell a wrong method.
 */
static unsigned int plainly_wrong(const struct machine *m)
{
	double truth = true_ratio(m);
	double *const *samples = rounds_of(MOST_ROUNDS);
	unsigned int wrong = 0;

	for (unsigned int run = 0; run < RUNS; run++) {
		struct state s = { .pace = 1 };
		unsigned int below = 0;
		bool missed = false;

		for (unsigned int n = 1; n <= MOST_ROUNDS; n++) {
			take_round(m, &s, 1, run + n, samples, n - 1);
			below += samples[0][n - 1] / samples[1][n - 1] < truth;
			/* The limits of a normal distribution at 5%. */
			if (n >= LEAST_ROUNDS && fabs(below - n / 2.0) > 1.96 * sqrt(n) / 2 + 0.5)
				missed = true;
		}
		wrong += missed;
	}
	return wrong;
}

static void goals(void)
{
	struct estimate e = { 1.2, 1.1, 1.3 };

	check(judge(e, 20, 1.1, false) == MET && judge(e, 20, 1.3, true) == MET,
	      "an interval that begins, or ends, at the goal meets it");
	check(judge(e, 20, 1.31, false) == NOT_MET && judge(e, 20, 1.09, true) == NOT_MET,
	      "one that ends before it does not");
	check(judge(e, 20, 1.2, false) == UNDECIDED && judge(e, 20, 1.2, true) == UNDECIDED,
	      "one that has the goal in it says neither");
	check(judge(e, LEAST_SAMPLES - 1, 1, false) == UNDECIDED, "and too few rounds do not");
}

static void answers(void)
{
	double over[12], under[12], *samples[] = { over, under };
	const struct comparison none[] = { {} }, open[] = { { .under = 1 }, {} };
	const struct comparison both[] = { { .under = 1 }, { .under = 1, .goal = 1.05 }, {} };

	for (int i = 0; i < 12; i++) {
		over[i] = 1 + i * 0.008;
		under[i] = 1;
	}
	check(is_answered(none, samples, 1), "where nothing is compared no round is missing");
	check(is_answered(open, samples, 12), "a narrow interval is an answer");
	check(!is_answered(open, samples, LEAST_SAMPLES - 1), "not of too few rounds");
	check(!is_answered(both, samples, 12), "of two comparisons one is open");
	for (int i = 0; i < 12; i++)
		over[i] = 1 + i * 0.05;
	check(!is_answered(open, samples, 12), "a wide interval is no answer");
}

/* Each variant takes part in each round.  Each begins, and precedes each other one, as often. */
static void turns(void)
{
	for (unsigned int n = 1; n <= 6; n++) {
		unsigned int begins[6] = {}, before[6][6] = {};
		bool all = true, fair = true;

		for (unsigned int round = 0; round < 2 * n; round++) {
			unsigned int seen = 0;

			for (unsigned int place = 0; place < n; place++) {
				unsigned int v = variant_at(round, place, n);

				begins[v] += !place;
				for (unsigned int u = 0; u < n; u++)
					before[u][v] += seen >> u & 1;
				seen |= 1 << v;
			}
			all &= seen == (1U << n) - 1;
		}
		for (unsigned int v = 0; v < n; v++) {
			fair &= begins[v] == 2;
			for (unsigned int u = 0; u < n; u++)
				fair &= u == v || before[u][v] == n;
		}
		check(all && fair, "%u variants take turns", n);
	}
}

void judge_test(void)
{
	static const double near[] = { 0.9995, 1.0005, 0.98, 1.02 };
	unsigned int wrong = plainly_wrong(&machines[0]);

	goals();
	answers();
	turns();
	check(!is_few(wrong), "a plain interval that is looked at each time: %u of %u wrong", wrong,
	      RUNS);
	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
		double noise = true_ratio(&machines[i]);

		for (size_t k = 0; k < sizeof(near) / sizeof(near[0]); k++)
			one_truth(&machines[i], noise, near[k], false);
		one_truth(&machines[i], noise, 0.85, true);
		one_truth(&machines[i], noise, 1.15, true);
	}
}
