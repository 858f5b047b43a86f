/* SPDX-License-Identifier: GPL-2.0 */
/* A description of the machine, for the result file. */
#ifndef HMM_BENCH_MACHINE_H
#define HMM_BENCH_MACHINE_H

#include <jansson.h>

/*
 * All that the figures depend on: kernel, options, processors, devices, and which device
 * reaches which.
 */
json_t *machine_describe(void);

#endif
