// SPDX-License-Identifier: GPL-2.0
/*
 * Migration: this project's engine, lib/test_hmm's, and the limit, which is the kernel's own
 * copy to the BAR: of a migration that waits for it, that alone.
 *
 * What is timed is the span from the beginning of the first migrate_vma_setup() to the end
 * of the last migrate_vma_finalize(), by kprobes, for both engines alike: that leaves out
 * that test_hmm reads everything back after each migration.  Within it test_hmm fills the
 * page table of its device, between migrate_vma_pages() and migrate_vma_finalize(), or empties
 * it, on the way to RAM, before the copy.  This engine leaves that to the device's faults, and
 * to invalidation.  "bare" is without it: not counted, or emptied before.
 *
 * A sample is two trips.  Pages that are freed in one order are allocated in the other: memory
 * that came back to ascending pages comes back to descending ones the next time.  Only what
 * ascends is copied in one piece, so that trips take turns between two costs.  Both are in each
 * sample.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "gpu.h"
#include "parts.h"
#include "test_hmm_uapi.h"
#include "trace.h"

static const char *const functions[] = {
	"migrate_vma_setup", "migrate_vma_pages", "migrate_vma_finalize", "hmm_dummy_copy",
	"hmm_dummy_copy_work", NULL
};

#define TRIPS	2

struct mover {
	struct memory m;
	int gpu[2];
	int dmirror;		/* -1: there is none */
	char *buffer;		/* test_hmm puts there what it has moved */
};

static int to_gpu0(struct part *part)
{
	return gpu_to_device(((struct mover *)part->arg)->gpu[0], part->p, part->length);
}

static int to_gpu1(struct part *part)
{
	return gpu_to_device(((struct mover *)part->arg)->gpu[1], part->p, part->length);
}

static int gpu_to_memory(struct part *part)
{
	return gpu_to_ram(((struct mover *)part->arg)->gpu[0], part->p, part->length);
}

static int by_dmirror(struct part *part, unsigned long request)
{
	struct mover *w = part->arg;

	/* On the way to RAM it counts a huge page once. */
	return dmirror(w->dmirror, request, part->p, part->length,
		       w->buffer + (part->p - w->m.p),
		       w->m.huge && request == HMM_DMIRROR_MIGRATE_TO_SYS ? HUGE : PAGE);
}

static int to_dmirror(struct part *part)
{
	return by_dmirror(part, HMM_DMIRROR_MIGRATE_TO_DEV);
}

static int dmirror_to_memory(struct part *part)
{
	return by_dmirror(part, HMM_DMIRROR_MIGRATE_TO_SYS);
}

enum { ENGINE, TEST_HMM, BARE, LIMIT };

/* Microseconds of what was seen, as a variant counts them; <= 0: not all of it was. */
static double seen(unsigned int variant)
{
	double span, tables;

	if (variant == LIMIT)
		return trace_inside("hmm_dummy_copy");
	span = trace_span("migrate_vma_setup", "migrate_vma_finalize");
	if (variant != BARE)
		return span;
	tables = trace_between("migrate_vma_pages", "migrate_vma_finalize");
	return tables > 0 ? span - tables : 0;
}

/* What the trips of a sample have taken, in microseconds. */
struct cost {
	double us;
	double cpu;	/* of this process's threads, and of the device's copies */
};

static double process_cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/* Add a migration of all; false: it failed. */
static bool timed(struct mover *w, int (*move)(struct part *part), unsigned int variant,
		  struct cost *cost)
{
	double us, cpu;

	if (trace_clear()) {
		bench_errno("the trace");
		return false;
	}
	cpu = process_cpu();
	if (parts_run(&w->m, move, w, NULL, "migration") < 0)
		return false;
	cost->cpu += process_cpu() - cpu + trace_inside("hmm_dummy_copy_work");
	us = seen(variant);
	cost->us += us;
	if (us > 0)
		return true;
	bench_fail(STATUS_FAILED, "%s", trace_why("migration"));
	return false;
}

/* A sample is so many trips, in microseconds a page; below 0 if one has failed. */
static double sample_trips(struct mover *w, unsigned int variant, bool has_helper,
			   bool (*trip)(struct mover *w, unsigned int variant, struct cost *cost))
{
	size_t pages = TRIPS * w->m.length / PAGE;
	struct cost cost = {};

	for (int i = 0; i < TRIPS; i++)
		if (!trip(w, variant, &cost))
			return -1;
	/* test_hmm copies in the calling thread; its process's time has the read-back in it. */
	if (has_helper)
		bench_cpu(cost.cpu / pages);
	return cost.us / pages;
}

static bool failed(const char *what)
{
	bench_errno(what);
	return false;
}

static bool trip_to_device(struct mover *w, unsigned int variant, struct cost *cost)
{
	bool ours = variant == ENGINE || variant == LIMIT, moved;

	memory_fill(&w->m);
	if (variant == LIMIT && driver_param("async_copy", false))
		return failed("hmm_dummy's parameter async_copy");
	moved = timed(w, ours ? to_gpu0 : to_dmirror, variant, cost);
	if (variant == LIMIT)
		driver_params_restore();
	/* test_hmm's memory is nobody's that /proc/iomem knows by name. */
	if (!moved || (ours && !memory_is_on(&w->m, 0)) || !memory_is_huge(&w->m))
		return false;
	return parts_run(&w->m, ours ? gpu_to_memory : dmirror_to_memory, w, NULL,
			 "back to RAM") >= 0 &&
	       memory_is_in_ram(&w->m) && memory_is_right(&w->m);
}

static double sample_to_device(void *arg, unsigned int variant, struct histogram *latency)
{
	return sample_trips(arg, variant, variant == ENGINE, trip_to_device);
}

static bool trip_to_ram(struct mover *w, unsigned int variant, struct cost *cost)
{
	memory_fill(&w->m);
	if (parts_run(&w->m, variant == ENGINE ? to_gpu0 : to_dmirror, w, NULL,
		      "to the device") < 0 || !memory_is_huge(&w->m))
		return false;
	if (variant == ENGINE && !memory_is_on(&w->m, 0))
		return false;
	if (variant == BARE && memory_forget(&w->m))
		return failed("mprotect");
	return timed(w, variant == ENGINE ? gpu_to_memory : dmirror_to_memory, ENGINE, cost) &&
	       memory_is_in_ram(&w->m) && memory_is_huge(&w->m) && memory_is_right(&w->m);
}

static double sample_to_ram(void *arg, unsigned int variant, struct histogram *latency)
{
	return sample_trips(arg, variant, variant == ENGINE, trip_to_ram);
}

enum { ALIAS, THROUGH_RAM };

static bool trip_between(struct mover *w, unsigned int variant, struct cost *cost)
{
	memory_fill(&w->m);
	if (parts_run(&w->m, to_gpu0, w, NULL, "to the device") < 0 ||
	    !memory_is_on(&w->m, 0))
		return false;
	if (variant == THROUGH_RAM && !timed(w, gpu_to_memory, ENGINE, cost))
		return false;
	return timed(w, to_gpu1, ENGINE, cost) && memory_is_on(&w->m, 1) &&
	       memory_is_huge(&w->m) && memory_is_right(&w->m);
}

static double sample_between(void *arg, unsigned int variant, struct histogram *latency)
{
	return sample_trips(arg, variant, true, trip_between);
}

static enum status measure(struct mover *w)
{
	struct figure f[] = {
		{
			.name = w->m.huge ? "migrate.to_device.huge" : "migrate.to_device.4k",
			.what = "from RAM to a device",
			.variants = { "hmm_p2p", "test_hmm", "bare", "copy" },
			.compare = { { TEST_HMM, ENGINE, w->m.huge ? 1.15 : 1.1 },
				     { BARE, ENGINE }, { ENGINE, LIMIT } },
			.sample = sample_to_device,
		}, {
			.name = w->m.huge ? "migrate.to_ram.huge" : "migrate.to_ram.4k",
			.what = "from a device to RAM",
			.variants = { "hmm_p2p", "test_hmm", "bare" },
			.compare = { { TEST_HMM, ENGINE, w->m.huge ? 1.15 : 1.1 },
				     { BARE, ENGINE } },
			.sample = sample_to_ram,
		}, {
			.name = w->m.huge ? "migrate.between.huge" : "migrate.between.4k",
			.what = "from device to device",
			.variants = { "alias", "through RAM" },
			.compare = { { THROUGH_RAM, ALIAS, 1.8 } },
			.sample = sample_between,
		},
	};
	enum status status = STATUS_OK;

	/* What several threads do at the same time is no part of a span. */
	if (options.threads > 1) {
		f[0].variants[BARE] = NULL;
		f[0].compare[1] = (struct comparison) {};
		/* Ours share the device's one copy engine, test_hmm's copy for themselves. */
		f[0].compare[0].goal = 0;
		f[1].compare[0].goal = 0;
	}
	for (size_t i = 0; i < sizeof(f) / sizeof(f[0]) && !status; i++) {
		f[i].unit = "us/page";
		f[i].arg = w;
		status = bench_measure(&f[i]);
	}
	return status;
}

enum status bench_migrate(int argc, char **argv)
{
	enum status status;

	status = parts_check(options.length) ?: trace_start(functions);
	for (int huge = 0; huge < 2 && !status; huge++) {
		struct mover w = { .dmirror = dmirror_open() };

		w.buffer = malloc(options.length);
		status = w.dmirror < 0 ? bench_failed() : devices_open(w.gpu) ?:
			 memory_get(&w.m, options.length, huge) ?: measure(&w);
		memory_put(&w.m);
		free(w.buffer);
		close(w.dmirror);
	}
	trace_stop();
	return status;
}
