// SPDX-License-Identifier: GPL-2.0
/*
 * "migrate": this project's engine, lib/test_hmm's, and the limit, which is the kernel's own
 * copy to the BAR.  For a migration that waits for its copy, the copy alone is the limit.
 *
 * Kprobes measure the time from the beginning of the first migrate_vma_setup() to the end of
 * the last migrate_vma_finalize(), for both engines alike.  That leaves out that test_hmm
 * reads everything back after each migration.  On the way to the device, test_hmm fills its
 * page table between migrate_vma_pages() and migrate_vma_finalize().  On the way to RAM, it
 * empties its page table before the copy.  This engine leaves both to device faults and to
 * invalidation.  The variants "bare" do not count test_hmm's page table.
 *
 * A sample is two trips.  Pages that are freed in one order are allocated in the reverse order:
 * memory that came back to ascending pages comes back to descending pages the next time.
 * Ascending pages are copied in one piece, and others are not, so that trips alternate between
 * two costs.  Each sample includes both.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "gpu.h"
#include "threads.h"
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
	char *buffer;		/* test_hmm copies here what it has moved */
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

	/* On the way to RAM test_hmm counts a huge page once. */
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

/* The microseconds that a variant counts, from the trace; <= 0: the trace is not complete. */
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

/* The cost of a sample's trips, in microseconds. */
struct cost {
	double us;
	double cpu;	/* processor time of this process's threads and of the device's copies */
};

static double process_cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/* Migrate all of the memory and add the cost.  Returns false if that failed. */
static bool timed(struct mover *w, int (*move)(struct part *part), unsigned int variant,
		  struct cost *cost)
{
	double us, cpu;

	if (trace_clear()) {
		bench_errno("the trace");
		return false;
	}
	cpu = process_cpu();
	if (threads_run(&w->m, move, w, NULL, "migration") < 0)
		return false;
	cost->cpu += process_cpu() - cpu + trace_inside("hmm_dummy_copy_work");
	us = seen(variant);
	cost->us += us;
	if (us > 0)
		return true;
	bench_fail(STATUS_FAILED, "%s", trace_why("migration"));
	return false;
}

/* Returns microseconds a page, or a negative number if a trip failed. */
static double sample_trips(struct mover *w, unsigned int variant, bool has_helper,
			   bool (*trip)(struct mover *w, unsigned int variant, struct cost *cost))
{
	size_t pages = TRIPS * w->m.length / PAGE;
	struct cost cost = {};

	for (int i = 0; i < TRIPS; i++)
		if (!trip(w, variant, &cost))
			return -1;
	/* test_hmm copies in the calling thread, and its process time includes the read-back. */
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
	/* /proc/iomem does not name test_hmm's memory, so its place cannot be checked. */
	if (!moved || (ours && !memory_is_on(&w->m, 0)) || !memory_is_huge(&w->m))
		return false;
	return threads_run(&w->m, ours ? gpu_to_memory : dmirror_to_memory, w, NULL,
			   "migration to RAM") >= 0 &&
	       memory_is_in_ram(&w->m) && memory_is_right(&w->m);
}

static double sample_to_device(void *arg, unsigned int variant, struct histogram *latency)
{
	return sample_trips(arg, variant, variant == ENGINE, trip_to_device);
}

static bool trip_to_ram(struct mover *w, unsigned int variant, struct cost *cost)
{
	memory_fill(&w->m);
	if (threads_run(&w->m, variant == ENGINE ? to_gpu0 : to_dmirror, w, NULL,
			"migration to the device") < 0 || !memory_is_huge(&w->m))
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
	if (threads_run(&w->m, to_gpu0, w, NULL, "migration to the device") < 0 ||
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

	/* A span of the trace does not describe several threads. */
	if (options.threads > 1) {
		f[0].variants[BARE] = NULL;
		f[0].compare[1] = (struct comparison) {};
		/*
		 * This device has one copy engine for all threads, and test_hmm copies in each
		 * thread.
		 */
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

	status = threads_check(options.length) ?: trace_start(functions);
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
