/* SPDX-License-Identifier: GPL-2.0 */
/* fio as load beside a measurement. */
#ifndef HMM_BENCH_FIO_H
#define HMM_BENCH_FIO_H

#include <stdbool.h>
#include <sys/types.h>

/* Run a job file until fio_stop().  Returns a negative number if that failed. */
pid_t fio_start(const char *job);

/* Whether fio runs. */
bool fio_runs(pid_t pid);

/* End fio.  Returns whether it ran until then. */
bool fio_stop(pid_t pid);

#endif
