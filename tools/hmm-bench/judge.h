/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the samples of variants are compared: in which order a round takes them, when there are
 * enough rounds, and whether a goal is met.
 */
#ifndef HMM_BENCH_JUDGE_H
#define HMM_BENCH_JUDGE_H

#include <stdbool.h>
#include <stddef.h>

#include "stats.h"

/* A comparison of two variants: the median of the rounds' ratios [over] / [under]. */
struct comparison {
	unsigned int over, under;
	double goal;		/* 0: no goal */
	bool at_most;		/* the ratio must be at most the goal; otherwise at least */
};

/* A list of comparisons ends with one that compares a variant with itself. */
static inline bool comparison_is_end(const struct comparison *c)
{
	return c->over == c->under;
}

enum verdict { UNDECIDED, MET, NOT_MET };

/* A word for people and for the result file. */
const char *verdict_word(enum verdict verdict);

/*
 * Whether the estimate @e of @n samples meets @goal.  It does if all of the interval does, and
 * does not if none of the interval does.  At most 5 of 100 answers are wrong, whatever rule the
 * caller has for taking no more samples.
 */
enum verdict judge(struct estimate e, size_t n, double goal, bool at_most);

/*
 * Whether more rounds would not change the answer to @compare: each goal is met or not met, and
 * each ratio without a goal has an interval that is no wider than a tenth of it.
 * @samples[variant][round] has @n rounds.
 */
bool is_answered(const struct comparison *compare, double *const *samples, size_t n);

/*
 * The variant, out of @n, that a round takes at @place.  Each round begins with another
 * variant, and each order is followed by its reverse.  Each of two variants is the first one in
 * half of the rounds, so that a machine that becomes slower favours neither.
 */
unsigned int variant_at(unsigned int round, unsigned int place, unsigned int n);

#endif
