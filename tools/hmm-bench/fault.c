// SPDX-License-Identifier: GPL-2.0
/*
 * Faults: of a device on memory that it has no entry for, and of the CPU on memory that is
 * on a device.  A latency for each page, alone or from several threads at once.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "gpu.h"
#include "memory.h"

struct faults {
	struct memory m;
	int gpu[2];
};

struct part {
	struct faults *w;
	int gpu;		/* that reads, or -1: the CPU */
	char *p;
	size_t length, step;
	struct histogram latency;
	int error;
};

/* A byte of each page, or of each piece of @step. */
static void *touch_part(void *arg)
{
	struct part *part = arg;

	for (size_t i = 0; i < part->length && !part->error; i += part->step) {
		uint64_t begin = bench_now();
		unsigned int crc;

		if (part->gpu < 0)
			(void)*(volatile char *)(part->p + i);
		else if (gpu_crc32c(part->gpu, part->p + i, 8, &crc))
			part->error = errno;
		histogram_add(&part->latency, bench_now() - begin);
	}
	return NULL;
}

/* Microseconds for each touch; below 0 if one failed. */
static double touch(struct faults *w, int gpu, size_t step, struct histogram *latency)
{
	size_t each = w->m.length / options.threads / HUGE * HUGE;
	struct part *parts = calloc(options.threads, sizeof(*parts));
	pthread_t threads[256];
	uint64_t begin = bench_now();
	int error = 0;

	if (!parts)
		abort();
	for (unsigned int i = 0; i < options.threads; i++) {
		parts[i] = (struct part) { .w = w, .gpu = gpu, .p = w->m.p + i * each,
					   .length = each, .step = step };
		if (i == options.threads - 1)
			parts[i].length = w->m.length - i * each;
		if (i && pthread_create(&threads[i], NULL, touch_part, &parts[i]))
			abort();
	}
	touch_part(&parts[0]);
	for (unsigned int i = 0; i < options.threads; i++) {
		if (i)
			pthread_join(threads[i], NULL);
		error = error ?: parts[i].error;
		if (latency)
			histogram_merge(latency, &parts[i].latency);
	}
	free(parts);
	if (!error)
		return (bench_now() - begin) / 1e3 / (w->m.length / step);
	bench_fail(STATUS_FAILED, "a device's access: %s", strerror(error));
	return -1;
}

/* Every device lets go of it, and nothing moves. */
static int forget(struct faults *w)
{
	return mprotect(w->m.p, w->m.length, PROT_READ) ||
	       mprotect(w->m.p, w->m.length, PROT_READ | PROT_WRITE);
}

enum { RAM, OWN, PEER, BOUNCE };

static double sample_device(void *arg, unsigned int variant, struct histogram *latency)
{
	struct faults *w = arg;
	double us;

	/* From RAM to where it is to be, whatever it was before. */
	if (gpu_to_ram(w->gpu[0], w->m.p, w->m.length) ||
	    gpu_to_ram(w->gpu[1], w->m.p, w->m.length) ||
	    (variant == OWN && gpu_to_device(w->gpu[1], w->m.p, w->m.length)) ||
	    (variant >= PEER && gpu_to_device(w->gpu[0], w->m.p, w->m.length)) ||
	    forget(w)) {
		bench_fail(STATUS_FAILED, "memory cannot be placed: %s", strerror(errno));
		return -1;
	}
	if (variant == BOUNCE && peer_access(false)) {
		bench_fail(STATUS_MISSING, "peer access cannot be switched: %s", strerror(errno));
		return -1;
	}
	us = touch(w, w->gpu[1], PAGE, latency);
	if (variant == BOUNCE)
		peer_access(true);
	if (us < 0 || !(variant == RAM || variant == BOUNCE ? memory_is_in_ram(&w->m) :
							       memory_is_on_device(&w->m)))
		return -1;
	return memory_is_right(&w->m) ? us : -1;
}

static double sample_cpu(void *arg, unsigned int variant, struct histogram *latency)
{
	struct faults *w = arg;
	double us;

	if (gpu_to_device(w->gpu[0], w->m.p, w->m.length)) {
		bench_fail(STATUS_FAILED, "to the device: %s", strerror(errno));
		return -1;
	}
	if (!memory_is_on_device(&w->m))
		return -1;
	us = touch(w, -1, PAGE, latency);
	return us >= 0 && memory_is_in_ram(&w->m) && memory_is_right(&w->m) ? us : -1;
}

enum status bench_fault(int argc, char **argv)
{
	struct figure f[2] = {
		{
			.what = "a device reads a byte of each page, without an entry for it",
			.variants = { "RAM", "own", "peer", "bounce" },
			.compare = { { PEER, RAM }, { BOUNCE, PEER } },
			.sample = sample_device,
		}, {
			.what = "the CPU reads a byte of each page on a device",
			.variants = { "CPU" },
			.sample = sample_cpu,
		},
	};
	enum status status = STATUS_OK;

	if (argc > 1)
		return bench_fail(STATUS_USAGE, "fault takes no \"%s\"", argv[1]);
	for (int huge = 0; huge < 2 && !status; huge++) {
		struct faults w = {};

		f[0].name = huge ? "fault.device.huge" : "fault.device.4k";
		f[1].name = huge ? "fault.cpu.huge" : "fault.cpu.4k";
		status = devices_open(w.gpu) ?: memory_get(&w.m, options.length, huge);
		for (int i = 0; i < 2 && !status; i++) {
			f[i].unit = "us/page";
			f[i].arg = &w;
			f[i].latencies = true;
			status = bench_measure(&f[i]);
		}
		memory_put(&w.m);
	}
	return status;
}
