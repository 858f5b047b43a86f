/* SPDX-License-Identifier: GPL-2.0 */
/* RDMA for samples. */
#ifndef HMM_BENCH_VERBS_H
#define HMM_BENCH_VERBS_H

#include <errno.h>
#include <string.h>

#include "bench.h"
#include "rdma.h"

/* Whether a transfer that returned @status failed.  Prints the error. */
static inline bool rdma_failed(int status)
{
	if (status < 0)
		bench_fail(STATUS_FAILED, "RDMA: %s", rdma_error());
	else if (status)
		bench_fail(STATUS_FAILED, "RDMA: %s", ibv_wc_status_str(status));
	return status;
}

#endif
