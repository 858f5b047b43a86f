/* SPDX-License-Identifier: GPL-2.0 */
/* The system's fio, beside what is measured. */
#ifndef HMM_BENCH_FIO_H
#define HMM_BENCH_FIO_H

#include <stdbool.h>
#include <sys/types.h>

/* Runs a job file until fio_stop(); below 0 if it cannot. */
pid_t fio_start(const char *job);

/* Whether it is at work. */
bool fio_runs(pid_t pid);

/* Whether it was at work until then. */
bool fio_stop(pid_t pid);

#endif
