/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Times inside of the kernel, where a system call does more than what is to be measured:
 * kprobes on functions, read back from the trace.
 */
#ifndef HMM_BENCH_TRACE_H
#define HMM_BENCH_TRACE_H

#include "bench.h"

/*
 * Watch @functions, up to NULL, in an instance of this process's own; others may watch theirs at
 * the same time.  What a process that was killed has left behind is removed.  STATUS_MISSING if
 * that is not to be had.
 */
enum status trace_start(const char *const *functions);
void trace_stop(void);

/* Forget what was seen. */
int trace_clear(void);

/*
 * Microseconds from the first call of @from to the last return of @to; 0 if there is none, or
 * if not all of the trace is there.
 */
double trace_span(const char *from, const char *to);

/*
 * Microseconds from returns of @from to the call of @to that follows in the same thread, all of
 * them.  0 if there is none, or not all of the trace.
 */
double trace_between(const char *from, const char *to);

/* Why there is none, of what was to be seen. */
const char *trace_why(const char *what);

/* Microseconds in all calls of @function, by whomever; nothing nested.  0 as above. */
double trace_inside(const char *function);

#endif
