/* SPDX-License-Identifier: GPL-2.0 */
/* Result files, read back. */
#ifndef HMM_BENCH_READ_H
#define HMM_BENCH_READ_H

#include <jansson.h>

#include "bench.h"

/* The number of what is in a result file; others are refused. */
#define SCHEMA	2

/* The whole file, to be dropped with json_decref(); NULL if it is none, and then that was said. */
json_t *result_read(const char *path);

/* Its figure of that name, or NULL. */
json_t *result_figure(json_t *result, const char *name);

/* A figure's variant of that name, or NULL. */
json_t *figure_variant(json_t *figure, const char *name);

/* A number below "median", "ratio" or "exponent": value, low, high. */
struct estimate estimate_read(json_t *parent, const char *key);

#endif
