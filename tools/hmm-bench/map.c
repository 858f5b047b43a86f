// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs a device to find and map the pages of a process: hmm_range_fault() and the
 * DMA mapping, in RAM, on another device, and by the bounce of stock Linux.  The time is
 * that of hmm_dummy_fault(), by kprobes; a command reads all of it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "gpu.h"
#include "memory.h"
#include "trace.h"

static const char *const functions[] = { "hmm_dummy_fault", NULL };

struct mapper {
	struct memory m;
	int gpu[2];
};

enum { RAM, PEER, BOUNCE };

/* On the device or not, and no device has an entry for it. */
static int place(struct mapper *w, unsigned int variant)
{
	return (variant == RAM ? gpu_to_ram(w->gpu[0], w->m.p, w->m.length) :
				 gpu_to_device(w->gpu[0], w->m.p, w->m.length)) ||
	       mprotect(w->m.p, w->m.length, PROT_READ) ||
	       mprotect(w->m.p, w->m.length, PROT_READ | PROT_WRITE) ||
	       peer_access(variant != BOUNCE);
}

static double sample(void *arg, unsigned int variant, struct histogram *latency)
{
	struct mapper *w = arg;
	unsigned int crc;
	double us;
	int error;

	error = place(w, variant);
	if (!error) {
		trace_clear();
		error = gpu_crc32c(w->gpu[1], w->m.p, w->m.length, &crc);
	}
	us = trace_inside(functions[0]);
	if (peer_access(true) || error) {
		bench_fail(STATUS_FAILED, "a device's read: %s", strerror(errno));
		return -1;
	}
	if (!(variant == PEER ? memory_is_on_device(&w->m) : memory_is_in_ram(&w->m)))
		return -1;
	if (us <= 0) {
		bench_fail(STATUS_FAILED, "no fault was seen");
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
