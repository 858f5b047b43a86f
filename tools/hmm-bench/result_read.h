/* SPDX-License-Identifier: GPL-2.0 */
/* Reading result files. */
#ifndef HMM_BENCH_RESULT_READ_H
#define HMM_BENCH_RESULT_READ_H

#include <jansson.h>

#include "bench.h"

/* Schema number of the result file.  Files with other numbers are refused. */
#define SCHEMA	2

/* Read a file.  The caller drops it with json_decref().  Returns NULL after an error message. */
json_t *result_read(const char *path);

/* The figure with that name, or NULL. */
json_t *result_figure(json_t *result, const char *name);

/* The figure's variant with that name, or NULL. */
json_t *figure_variant(json_t *figure, const char *name);

/* Read value, low and high of "median", "ratio" or "exponent". */
struct estimate estimate_read(json_t *parent, const char *key);

#endif
