/* SPDX-License-Identifier: GPL-2.0 */
/* Memory to work on, and the certainty that it is where, and what, it should be. */
#ifndef HMM_BENCH_MEMORY_H
#define HMM_BENCH_MEMORY_H

#include "bench.h"

#define PAGE		4096UL
#define HUGE		(2UL << 20)

struct memory {
	char *p;		/* aligned to a huge page */
	size_t length;
	bool huge;
	unsigned int seed;	/* of what is in it */
	char *mapped;
};

/* Anonymous memory of this process, filled.  STATUS_MISSING if there is too little. */
enum status memory_get(struct memory *m, size_t length, bool huge);
void memory_put(struct memory *m);

/* Fill it anew, by the CPU. */
void memory_fill(struct memory *m, unsigned int seed);

/* Whether each byte is what memory_fill() wrote.  Reads by the CPU, so it ends in RAM. */
bool memory_is_right(const struct memory *m);

/* Whether all of it, or none, is in the memory of a device. */
bool memory_is_on_device(const struct memory *m);
bool memory_is_in_ram(const struct memory *m);

/*
 * Switch peer access for all of the system.  Where it was off when we began it stays so:
 * samples then find memory in the wrong place, which is what they are for.  0, or -1 with
 * errno.
 */
int peer_access(bool on);

/*
 * The two GPUs of most figures, opened; STATUS_MISSING if one is not there, or has less than
 * options.length free.  They stay open.
 */
enum status devices_open(int gpu[2]);

#endif
