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

/* GPU @n, opened; a complaint and -1 if it is not there.  Closed at exit. */
int device_open(unsigned int n);

#endif
