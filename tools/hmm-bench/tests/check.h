/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of hmm-bench's arithmetic share. */
#ifndef HMM_BENCH_CHECK_H
#define HMM_BENCH_CHECK_H

#include <stdbool.h>

/* Print a result, as TAP. */
void check(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A random number between 0 and 1, exclusive. */
double uniform(void);

/* Tests, each in the file with its name. */
void judge_test(void);

#endif
