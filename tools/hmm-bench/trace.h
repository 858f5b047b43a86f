/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Times inside of the kernel, for system calls that do more than the measured part: kprobes on
 * functions, read from the trace.
 */
#ifndef HMM_BENCH_TRACE_H
#define HMM_BENCH_TRACE_H

#include "bench.h"

/*
 * Watch the functions in the list @functions, which ends with NULL.  The trace instance belongs
 * to this process, so that other processes can do the same.  Instances of killed processes are
 * removed.  Returns STATUS_MISSING if the kernel cannot trace them.
 */
enum status trace_start(const char *const *functions);
void trace_stop(void);

/* Empty the trace. */
int trace_clear(void);

/*
 * Microseconds from the first call of @from to the last return of @to; 0 if there is none, or
 * if the trace is not complete.
 */
double trace_span(const char *from, const char *to);

/*
 * Microseconds from each return of @from to the next call of @to in the same thread, in total.
 * 0 as above.
 */
double trace_between(const char *from, const char *to);

/* Say why a time is 0; @what is the missing event. */
const char *trace_why(const char *what);

/* Microseconds in all calls of @function, by all threads, without nesting.  0 as above. */
double trace_inside(const char *function);

#endif
