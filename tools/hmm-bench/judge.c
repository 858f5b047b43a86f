// SPDX-License-Identifier: GPL-2.0
/* When a figure has enough rounds, and whether it meets its goals; see judge.h. */
#include "judge.h"

/*
 * Without a goal, a ratio is known well enough if its interval is no wider than this part of
 * it.
 */
#define NARROW	0.1

const char *verdict_word(enum verdict verdict)
{
	return verdict == MET ? "met" : verdict == NOT_MET ? "not met" : "undecided";
}

enum verdict judge(struct estimate e, size_t n, double goal, bool at_most)
{
	if (n < LEAST_SAMPLES)
		return UNDECIDED;
	if (at_most ? e.high <= goal : e.low >= goal)
		return MET;
	if (at_most ? e.low > goal : e.high < goal)
		return NOT_MET;
	return UNDECIDED;
}

bool is_answered(const struct comparison *compare, double *const *samples, size_t n)
{
	for (const struct comparison *c = compare; !comparison_is_end(c); c++) {
		struct estimate e = ratio_of(samples[c->over], samples[c->under], n, NULL);

		if (n < LEAST_SAMPLES)
			return false;
		if (c->goal ? judge(e, n, c->goal, c->at_most) == UNDECIDED :
			      e.high - e.low > NARROW * e.value)
			return false;
	}
	return true;
}

unsigned int variant_at(unsigned int round, unsigned int place, unsigned int n)
{
	unsigned int first = round / 2 % n;

	return (first + (round % 2 ? n - 1 - place : place)) % n;
}
