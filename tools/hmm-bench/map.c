// SPDX-License-Identifier: GPL-2.0
/*
 * "map": what it costs a device to find and map the pages of a process, by hmm_range_fault()
 * and DMA mapping, in RAM, on another device, and by the bounce of stock Linux; and to pin
 * memory that another device exports.  Kprobes measure the time in hmm_dummy_fault() and
 * hmm_dummy_import() of a command that reads all of the memory.  Another command reads a word
 * of each page through the entries, and the result is compared with what the CPU has written.
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
	struct pinned pinned;
};

enum { RAM, PEER, BOUNCE, PINNED };

/*
 * GPU 1, by @file, reads a word of each page in the first @length bytes of @m, at @m or in the
 * scratch memory of @file.  Returns whether the checksum is right.
 */
static bool has_read_right(const struct memory *m, int file, size_t length, bool in_scratch)
{
	struct hmm_dummy_command c = {
		.flags = in_scratch ? HMM_DUMMY_IN_SCRATCH : 0, .op = HMM_DUMMY_OP_CRC32C,
		.addr = in_scratch ? 0 : (uintptr_t)m->p, .length = length,
		.pattern = HMM_DUMMY_STRIDED, .unit = WORD, .stride = PAGE,
	};

	if (gpu_command(file, &c)) {
		bench_errno("a device's read");
		return false;
	}
	if (c.value == memory_crc32c(m, 0, length / PAGE, PAGE))
		return true;
	bench_fail(STATUS_FAILED, "a device reads something else");
	return false;
}

/* Fill the memory, and place it where the variant needs it.  No device has an entry for it. */
static bool place(struct mapper *w, unsigned int variant)
{
	memory_fill(&w->m);
	/* Move all pages, so that no variant has warmer ones. */
	if (gpu_to_device(w->gpu[0], w->m.p, w->m.length) ||
	    (variant == RAM && gpu_to_ram(w->gpu[0], w->m.p, w->m.length)) ||
	    memory_forget(&w->m) || peer_access(variant != BOUNCE) || trace_clear()) {
		bench_errno("memory cannot be placed");
		return false;
	}
	return memory_is_on(&w->m, variant == RAM ? IN_RAM : 0) && memory_is_huge(&w->m);
}

/* Pin all exported memory.  The part that is read is filled before. */
static double sample_pinned(struct mapper *w)
{
	struct memory part = w->m;
	double us = 0;

	if (part.length > w->pinned.length)
		part.length = w->pinned.length;
	memory_fill(&part);
	/* errno for a read that was done in part. */
	errno = EIO;
	if (pwrite(w->pinned.owner, part.p, part.length, 0) != (ssize_t)part.length ||
	    trace_clear())
		return bench_errno("memory cannot be placed");
	if (pinned_import(&w->pinned))
		return bench_errno("a dma-buf cannot be imported");
	if (!has_read_right(&part, w->pinned.peer, part.length, true))
		us = -1;
	pinned_release(&w->pinned);
	if (us < 0)
		return us;
	us = trace_inside(functions[1]);
	if (us > 0)
		return us / (w->pinned.length / PAGE);
	bench_fail(STATUS_FAILED, "%s", trace_why("import"));
	return -1;
}

static double sample(void *arg, unsigned int variant, struct histogram *latency)
{
	struct mapper *w = arg;
	unsigned int crc;
	bool right = true;
	double us;

	if (variant == PINNED)
		return sample_pinned(w);
	if (!place(w, variant))
		return -1;
	if (gpu_crc32c(w->gpu[1], w->m.p, w->m.length, &crc)) {
		bench_errno("a device's read");
		right = false;
	}
	us = trace_inside(functions[0]);
	right = right && has_read_right(&w->m, w->gpu[1], w->m.length, false);
	peer_access(true);
	if (!right || !memory_is_on(&w->m, variant == PEER ? 0 : IN_RAM))
		return -1;
	if (us > 0)
		return us / (w->m.length / PAGE);
	bench_fail(STATUS_FAILED, "%s", trace_why("fault"));
	return -1;
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
