/* SPDX-License-Identifier: GPL-2.0 */
/* Memory in parts, for as many threads, worked on side by side. */
#ifndef HMM_BENCH_PARTS_H
#define HMM_BENCH_PARTS_H

#include "memory.h"

struct part {
	unsigned int nr;
	char *p;
	size_t length;
	void *arg;
	struct histogram *latency;	/* of its own, or NULL */
};

/* STATUS_USAGE if there are not 2 MiB for each thread of --threads. */
enum status parts_check(size_t length);

/*
 * @fn for each of @n parts of the first @length bytes of @m at the same time; it returns 0, or
 * -1 with errno.  Returns the time that all of it took in microseconds; below 0 if one failed,
 * or could not be started, and then that was said, as of @what.
 */
double parts_run_some(const struct memory *m, size_t length, unsigned int n,
		      int (*fn)(struct part *part), void *arg, struct histogram *latency,
		      const char *what);

/* All of @m, by --threads. */
static inline double parts_run(const struct memory *m, int (*fn)(struct part *part), void *arg,
			       struct histogram *latency, const char *what)
{
	return parts_run_some(m, m->length, options.threads, fn, arg, latency, what);
}

#endif
