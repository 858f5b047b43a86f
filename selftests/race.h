/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The control file of race.ko (mm/hmm_p2p/tests/race.c).  The module makes a task linger in the
 * first of two functions, and counts how often another task begins the second one meanwhile.
 */
#ifndef HMM_P2P_RACE_H
#define HMM_P2P_RACE_H

#include "common.h"

#define PAIR	"/sys/kernel/debug/hmm_p2p_race/pair"

/* Read how often tasks lingered and met since the pair was set.  Returns 0, or -1. */
static inline int pair_read(unsigned long *lingered, unsigned long *met)
{
	FILE *f = fopen(PAIR, "r");
	int n;

	if (!f)
		return -1;
	n = fscanf(f, "lingered %lu met %lu", lingered, met);
	fclose(f);
	return n == 2 ? 0 : -1;
}

/* How often tasks lingered since the pair was set; 0 also if the module is not there. */
static inline unsigned long pair_lingered(void)
{
	unsigned long lingered, met;

	return pair_read(&lingered, &met) ? 0 : lingered;
}

#endif
