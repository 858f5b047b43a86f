/* SPDX-License-Identifier: GPL-2.0 */
/* Memory that is divided among threads, which work on their parts at the same time. */
#ifndef HMM_BENCH_THREADS_H
#define HMM_BENCH_THREADS_H

#include "memory.h"

struct part {
	unsigned int nr;
	char *p;
	size_t length;
	void *arg;
	struct histogram *latency;	/* of this thread, or NULL */
};

/* Returns STATUS_USAGE if --length is less than 2 MiB for each of --threads. */
enum status threads_check(size_t length);

/*
 * Run @fn at the same time for each of @n parts of the first @length bytes of @m.  @fn returns
 * 0, or -1 with errno.  Returns the total time in microseconds, or a negative number if a part
 * failed or could not be started; the error was printed then, with @what.
 */
double threads_run_some(const struct memory *m, size_t length, unsigned int n,
			int (*fn)(struct part *part), void *arg, struct histogram *latency,
			const char *what);

/* The same for all of @m, with --threads parts. */
static inline double threads_run(const struct memory *m, int (*fn)(struct part *part), void *arg,
				 struct histogram *latency, const char *what)
{
	return threads_run_some(m, m->length, options.threads, fn, arg, latency, what);
}

#endif
