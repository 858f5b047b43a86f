/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the samples of a figure's variants are compared: in which order a round takes them, when
 * there are rounds enough, and whether a goal is met.
 */
#ifndef HMM_BENCH_JUDGE_H
#define HMM_BENCH_JUDGE_H

#include <stdbool.h>
#include <stddef.h>

#include "stats.h"

/* What a figure is compared with: [over] / [under], by the median of the ratios of rounds. */
struct comparison {
	unsigned int over, under;
	double goal;		/* 0: none */
	bool at_most;		/* the goal, or else at least */
};

/* A list of comparisons ends with one that compares a variant with itself. */
static inline bool comparison_is_end(const struct comparison *c)
{
	return c->over == c->under;
}

enum verdict { UNDECIDED, MET, NOT_MET };

/* For people, and for the result file. */
const char *verdict_word(enum verdict verdict);

/*
 * Whether @e, of @n samples, meets @goal: it does if all of its interval does, and does not if
 * nothing of the interval does.  Wrong in at most 5 of 100 cases, however the caller has decided
 * to take no more samples.
 */
enum verdict judge(struct estimate e, size_t n, double goal, bool at_most);

/*
 * Whether more rounds would not change what is said of @compare: goals are met or not, and where
 * there is no goal the interval is no wider than a tenth of the ratio.  @samples[variant][round],
 * @n of each.
 */
bool is_answered(const struct comparison *compare, double *const *samples, size_t n);

/*
 * The variant, of @n, that a round takes at @place.  Rounds begin with another one each time, and
 * each order is followed by its reverse: of any two variants each is the first in half of the
 * rounds, so that a machine that becomes slower favours neither.
 */
unsigned int variant_at(unsigned int round, unsigned int place, unsigned int n);

#endif
