// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs a device to find and map the pages of a process: hmm_range_fault() and the
 * DMA mapping, in RAM, on another device, and by the bounce of stock Linux; and to pin what
 * another device has exported.  The time is that of hmm_dummy_fault() and
 * hmm_dummy_import(), by kprobes; a command reads all of it.
 */
#include <errno.h>
#include <unistd.h>

#include "gpu.h"
#include "memory.h"
#include "pinned.h"
#include "trace.h"

static const char *const functions[] = { "hmm_dummy_fault", "hmm_dummy_import", NULL };

struct mapper {
	struct memory m;
	int gpu[2];
	unsigned int crc;	/* what a device reads: as the one sees it that has it */
	struct pinned pinned;
};

enum { RAM, PEER, BOUNCE, PINNED };

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

/*
 * All that is exported, whatever of it is read.  The data is what the sample before has made,
 * anew in each round: to fill it once more would take rounds from the others.
 */
static double sample_pinned(struct mapper *w)
{
	size_t length = w->m.length < w->pinned.length ? w->m.length : w->pinned.length;
	struct hmm_dummy_command c = {
		.flags = HMM_DUMMY_IN_SCRATCH, .op = HMM_DUMMY_OP_CRC32C, .length = length,
	};
	double us = 0;

	/* Of less than all. */
	errno = EIO;
	if (pwrite(w->pinned.owner, w->m.p, length, 0) != (ssize_t)length ||
	    gpu_crc32c(w->gpu[0], w->m.p, length, &w->crc) || trace_clear())
		return bench_errno("memory cannot be placed");
	if (pinned_import(&w->pinned))
		return bench_errno("a dma-buf cannot be imported");
	if (gpu_command(w->pinned.peer, &c))
		us = bench_errno("a device's read");
	pinned_release(&w->pinned);
	if (us < 0)
		return us;
	us = trace_inside(functions[1]);
	if (us <= 0 || c.value != w->crc) {
		bench_fail(STATUS_FAILED, "%s", us <= 0 ? trace_why("import") :
			   "a device reads something else");
		return -1;
	}
	return us / (w->pinned.length / PAGE);
}

static double sample(void *arg, unsigned int variant, struct histogram *latency)
{
	struct mapper *w = arg;
	unsigned int crc;
	double us;
	int error;

	if (variant == PINNED)
		return sample_pinned(w);
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
	struct pinned pinned = PINNED_NONE;
	int gpu[2];
	enum status status;

	status = trace_start(functions) ?: devices_open(gpu) ?:
		 pinned_export(&pinned, gpu[0], PAGE);
	if (pinned.dmabuf >= 0) {
		f.variants[PINNED] = "pinned";
		f.compare[2] = (struct comparison) { .over = PEER, .under = PINNED };
	}
	for (int huge = 0; huge < 2 && !status; huge++) {
		struct mapper w = { .gpu = { gpu[0], gpu[1] }, .pinned = pinned };

		f.name = huge ? "map.huge" : "map.4k";
		f.arg = &w;
		status = memory_get(&w.m, options.length, huge) ?: bench_measure(&f);
		memory_put(&w.m);
	}
	pinned_close(&pinned);
	trace_stop();
	return status;
}
