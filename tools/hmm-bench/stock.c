// SPDX-License-Identifier: GPL-2.0
/*
 * "stock": what this project costs a process that uses no peer.  It measures hmm_range_fault() and
 * invalidation of memory in RAM, by lib/test_hmm, and on-demand paging of an RDMA device.  It needs
 * nothing of this project, so that kernels with and without it can be compared.  It counts
 * instructions, because the difference is smaller than noise.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "test_hmm_uapi.h"
#include "trace.h"
#include "verbs.h"

static const char *const functions[] = { "hmm_range_fault", NULL };

/* What regions are of, and how many come and go in a round. */
#define REGION	(16 * PAGE)
#define REGIONS	8192

struct stock {
	struct memory m;
	struct rdma_pair pair;
	int dmirror;
	char *buffer;
};

/* test_hmm's device reads all of the memory, and has it mapped afterwards. */
static int device_reads(struct stock *w)
{
	return dmirror(w->dmirror, HMM_DMIRROR_READ, w->m.p, w->m.length, w->buffer,
		       PAGE);
}

static double sample_fault(void *arg, unsigned int variant, struct histogram *latency)
{
	struct stock *w = arg;
	double us;

	if (memory_forget(&w->m) || trace_clear())
		return bench_errno("mprotect");
	if (device_reads(w))
		return bench_errno("test_hmm's read");
	us = trace_inside(functions[0]);
	if (us <= 0 || memcmp(w->m.p, w->buffer, w->m.length)) {
		bench_fail(STATUS_FAILED, "%s", us <= 0 ? trace_why("fault") : "wrong data");
		return -1;
	}
	return us / (w->m.length / PAGE);
}

static double sample_invalidate(void *arg, unsigned int variant, struct histogram *latency)
{
	struct stock *w = arg;
	uint64_t begin;

	memory_fill(&w->m);
	if (device_reads(w))
		return bench_errno("test_hmm's read");
	begin = bench_now();
	for (size_t i = 0; i < w->m.length; i += PAGE)
		if (madvise(w->m.p + i, PAGE, MADV_DONTNEED))
			return bench_errno("MADV_DONTNEED");
	return (bench_now() - begin) / 1e3 / (w->m.length / PAGE);
}

static double sample_register(void *arg, unsigned int variant, struct histogram *latency)
{
	struct stock *w = arg;
	uint64_t begin;

	memory_fill(&w->m);
	begin = bench_now();
	for (int i = 0; i < REGIONS; i++) {
		struct ibv_mr *mr = ibv_reg_mr(w->pair.pd, w->m.p, REGION, RDMA_ODP);

		if (!mr || ibv_dereg_mr(mr))
			return bench_errno("a memory region");
	}
	return (bench_now() - begin) / 1e3 / REGIONS;
}

enum status bench_stock(int argc, char **argv)
{
	struct figure f[3] = {
		{ .name = "stock.range_fault", .unit = "us/page", .variants = { "RAM" },
		  .what = "hmm_range_fault() by test_hmm", .sample = sample_fault },
		{ .name = "stock.invalidate", .unit = "us/page", .variants = { "RAM" },
		  .what = "take away a page that test_hmm has mapped",
		  .sample = sample_invalidate },
		{ .name = "stock.register", .unit = "us/region", .variants = { "RAM" },
		  .what = "register a region of 64 KiB for on-demand paging, and drop it",
		  .sample = sample_register },
	};
	struct stock w = {};
	enum status status;

	w.dmirror = dmirror_open();
	if (w.dmirror < 0)
		return bench_failed();
	status = memory_get(&w.m, options.length, false) ?: trace_start(functions);
	w.buffer = status ? NULL : malloc(options.length);
	if (!status && !w.buffer)
		status = bench_fail(STATUS_MISSING, "%zu MiB of memory: %s",
				    options.length >> 20, strerror(errno));
	if (!status && rdma_pair_open(&w.pair))
		status = bench_fail(STATUS_MISSING, "RDMA: %s", rdma_error());
	for (int i = 0; i < 3 && !status; i++) {
		f[i].arg = &w;
		status = bench_measure(&f[i]);
	}
	trace_stop();
	rdma_pair_close(&w.pair);
	memory_put(&w.m);
	free(w.buffer);
	close(w.dmirror);
	return status;
}
