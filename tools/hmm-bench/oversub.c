// SPDX-License-Identifier: GPL-2.0
/*
 * "oversub": a GPU works on more memory than it has.  Memory that it touches moves to it, and
 * the memory that it has not touched for longest is evicted.
 */
#include <errno.h>
#include <string.h>

#include "gpu.h"
#include "memory.h"

#define PIECE	HUGE

struct oversub {
	struct memory m;
	int gpu[2];
	size_t vram;
};

static const double times[] = { 0.5, 1, 1.5, 2 };

/* The GPU adds to a number in each page. */
static int work(struct oversub *w, size_t at)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_ADD, .value = 1, .addr = (uintptr_t)w->m.p + at,
		.length = PIECE, .pattern = HMM_DUMMY_STRIDED, .unit = 8, .stride = PAGE,
	};
	int ret;

	do {
		ret = gpu_command(w->gpu[0], &c);
	} while (ret && errno == EBUSY && !bench_interrupted());
	return ret;
}

/* One pass over as much memory as the variant says, after one that does not count. */
static double sample(void *arg, unsigned int variant, struct histogram *latency)
{
	struct oversub *w = arg;
	size_t length = (size_t)(w->vram * times[variant]) / PIECE * PIECE;
	struct hmm_dummy_info before, after;
	uint64_t begin = 0, last = 0, ns;
	unsigned long long evicted;
	bool too_much = length > w->vram;
	/* If there is too much memory, some of the last pages may be migrating. */
	long on_device, least = (too_much ? w->vram / 2 : length) / PAGE;

	/* Begin with no memory on the device. */
	memset(w->m.p, 0, length);
	if (gpu_info(w->gpu[0], &before))
		return bench_errno("/dev/hmm_dummy0");
	for (int pass = 0; pass < 2; pass++) {
		begin = bench_now();
		last = begin;
		for (size_t at = 0; at < length; at += PIECE) {
			uint64_t now;

			if (work(w, at))
				return bench_errno("the GPU's work");
			now = bench_now();
			if (pass && latency)
				histogram_add(latency, now - last);
			last = now;
		}
	}
	ns = last - begin;
	if (gpu_info(w->gpu[0], &after))
		return bench_errno("/dev/hmm_dummy0");
	/* As much memory as fits has come, and other memory was evicted. */
	evicted = after.evicted - before.evicted;
	on_device = pages_on_gpu(0, w->m.p, length);
	if (on_device < least || !evicted == too_much) {
		bench_fail(STATUS_FAILED, "%ld of %zu pages are on the device, %llu were evicted",
			   on_device, length / PAGE, evicted);
		return -1;
	}
	for (size_t at = 0; at < length; at += PAGE) {
		if (*(uint64_t *)(w->m.p + at) == 2)
			continue;
		bench_fail(STATUS_FAILED, "the GPU's result is wrong at byte %#zx", at);
		return -1;
	}
	return ns / 1e3 / (length / PAGE);
}

enum status bench_oversub(int argc, char **argv)
{
	struct figure f = {
		.name = "oversub", .unit = "us/page", .latencies = true,
		.what = "a GPU works on N times its memory (latencies: 2 MiB)",
		.variants = { "0.5", "1", "1.5", "2" },
		.compare = { { 1, 0 }, { 2, 0 }, { 3, 0 } },
		.sample = sample,
	};
	struct oversub w = {};
	struct hmm_dummy_info info;
	enum status status;

	status = devices_open(w.gpu);
	if (status)
		return status;
	if (gpu_info(w.gpu[0], &info))
		return bench_fail(STATUS_FAILED, "/dev/hmm_dummy0: %s", strerror(errno));
	if (driver_param("migrate_on_fault", true))
		return bench_fail(STATUS_MISSING, "parameter migrate_on_fault: %s",
				  strerror(errno));
	w.vram = info.vram_bytes;
	f.arg = &w;
	status = memory_get(&w.m, w.vram * 2, false) ?: bench_measure(&f);
	driver_param("migrate_on_fault", false);
	memory_put(&w.m);
	return status;
}
