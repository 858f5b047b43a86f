/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HMM_BENCH_MACHINE_H
#define HMM_BENCH_MACHINE_H

#include <jansson.h>

/* What the figures depend on: kernel, options, processors, devices and who reaches whom. */
json_t *machine_describe(void);

#endif
