// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs a device to find and map the pages of a process: hmm_range_fault() and the
 * DMA mapping, in RAM, on another device, and by the bounce of stock Linux.  The time is
 * that of hmm_dummy_fault(), by kprobes; a command reads all of it.
 */
#include <errno.h>

#include "gpu.h"
#include "memory.h"
#include "trace.h"

static const char *const functions[] = { "hmm_dummy_fault", NULL };

struct mapper {
	struct memory m;
	int gpu[2];
	unsigned int crc;	/* what a device reads: as the one sees it that has it */
};

enum { RAM, PEER, BOUNCE };

/* Filled anew, where the variant wants it, and no device has an entry for it. */
static bool place(struct mapper *w, unsigned int variant)
{
	memory_fill(&w->m);
	/* All have just been moved: none is warmer than the others. */
	if (gpu_to_device(w->gpu[0], w->m.p, w->m.length) ||
	    gpu_crc32c(w->gpu[0], w->m.p, w->m.length, &w->crc) ||
	    (variant == RAM && gpu_to_ram(w->gpu[0], w->m.p, w->m.length)) ||
	    memory_forget(&w->m) || peer_access(variant != BOUNCE) || trace_clear()) {
		bench_errno("memory cannot be placed");
		return false;
	}
	return memory_is_on(&w->m, variant == RAM ? IN_RAM : 0) && memory_is_huge(&w->m);
}

static double sample(void *arg, unsigned int variant, struct histogram *latency)
{
	struct mapper *w = arg;
	unsigned int crc;
	double us;
	int error;

	if (!place(w, variant))
		return -1;
	error = gpu_crc32c(w->gpu[1], w->m.p, w->m.length, &crc) ? errno : 0;
	us = trace_inside(functions[0]);
	peer_access(true);
	errno = error;
	if (error)
		return bench_errno("a device's read");
	if (!memory_is_on(&w->m, variant == PEER ? 0 : IN_RAM))
		return -1;
	if (us <= 0 || crc != w->crc) {
		bench_fail(STATUS_FAILED, "%s", us <= 0 ? trace_why("fault") :
			   "a device reads something else");
		return -1;
	}
	return us / (w->m.length / PAGE);
}

enum status bench_map(int argc, char **argv)
{
	struct figure f = {
		.what = "find and map pages for a device", .unit = "us/page",
		.variants = { "RAM", "peer", "bounce" },
		.compare = { { PEER, RAM, 1.1, true }, { BOUNCE, PEER } },
		.sample = sample,
	};
	enum status status;

	if (argc > 1)
		return bench_fail(STATUS_USAGE, "map takes no \"%s\"", argv[1]);
	status = trace_start(functions);
	for (int huge = 0; huge < 2 && !status; huge++) {
		struct mapper w = {};

		f.name = huge ? "map.huge" : "map.4k";
		f.arg = &w;
		status = devices_open(w.gpu) ?: memory_get(&w.m, options.length, huge) ?:
			 bench_measure(&f);
		memory_put(&w.m);
	}
	trace_stop();
	return status;
}
