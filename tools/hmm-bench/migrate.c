// SPDX-License-Identifier: GPL-2.0
/*
 * Migration: this project's engine, lib/test_hmm's, and the limit, which is the kernel's
 * own copy to the BAR.
 *
 * What is timed is the span from the beginning of the first migrate_vma_setup() to the end
 * of the last migrate_vma_finalize(), by kprobes, for both engines alike: that leaves out
 * that test_hmm reads everything back after each migration.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "gpu.h"
#include "memory.h"
#include "test_hmm_uapi.h"
#include "trace.h"

static const char *const functions[] = { "migrate_vma_setup", "migrate_vma_finalize", NULL };

struct mover {
	struct memory m;
	int gpu[2];
	int dmirror;		/* -1: there is none */
	char *buffer;		/* test_hmm puts there what it has moved */
	struct io_uring ring;	/* with the buffer registered, for the limit */
	size_t scratch;
};

/* What each thread does to its part of the memory. */
struct part {
	struct mover *mover;
	int (*move)(struct mover *w, char *p, size_t length);
	char *p;
	size_t length;
	int error;
};

static void *move_part(void *arg)
{
	struct part *part = arg;

	part->error = part->move(part->mover, part->p, part->length) ? errno : 0;
	return NULL;
}

/* The span of a migration of all, in microseconds a page; below 0 if it failed. */
static double timed(struct mover *w, int (*move)(struct mover *w, char *p, size_t length))
{
	pthread_t threads[256];
	struct part parts[256];
	size_t each = w->m.length / options.threads / HUGE * HUGE;
	int error = 0;
	double us;

	trace_clear();
	for (unsigned int i = 0; i < options.threads; i++) {
		parts[i] = (struct part) { w, move, w->m.p + i * each, each, 0 };
		if (i == options.threads - 1)
			parts[i].length = w->m.length - i * each;
		if (i && pthread_create(&threads[i], NULL, move_part, &parts[i]))
			abort();
	}
	move_part(&parts[0]);
	for (unsigned int i = 0; i < options.threads; i++) {
		if (i)
			pthread_join(threads[i], NULL);
		error = error ?: parts[i].error;
	}
	us = trace_span(functions[0], functions[1]);
	if (!error && us > 0)
		return us / (w->m.length / PAGE);
	bench_fail(STATUS_FAILED, "migration: %s", error ? strerror(error) : "not seen");
	return -1;
}

static int to_gpu0(struct mover *w, char *p, size_t length)
{
	return gpu_to_device(w->gpu[0], p, length);
}

static int to_gpu1(struct mover *w, char *p, size_t length)
{
	return gpu_to_device(w->gpu[1], p, length);
}

static int gpu_to_memory(struct mover *w, char *p, size_t length)
{
	return gpu_to_ram(w->gpu[0], p, length);
}

static int dmirror(struct mover *w, unsigned long request, char *p, size_t length)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)p, .ptr = (uintptr_t)w->buffer + (p - w->m.p),
		.npages = length / PAGE,
	};

	return ioctl(w->dmirror, request, &cmd);
}

static int to_dmirror(struct mover *w, char *p, size_t length)
{
	return dmirror(w, HMM_DMIRROR_MIGRATE_TO_DEV, p, length);
}

static int dmirror_to_memory(struct mover *w, char *p, size_t length)
{
	return dmirror(w, HMM_DMIRROR_MIGRATE_TO_SYS, p, length);
}

/* The kernel copies as much to the BAR, from memory that it has pinned. */
static double copy_to_bar(struct mover *w)
{
	uint64_t begin = bench_now();
	struct io_uring_cqe *cqe;

	for (size_t done = 0; done < w->m.length; ) {
		size_t n = w->m.length - done < w->scratch ? w->m.length - done : w->scratch;
		int ret;

		io_uring_prep_write_fixed(io_uring_get_sqe(&w->ring), w->gpu[1],
					  w->buffer + done, n, 0, 0);
		ret = io_uring_submit_and_wait(&w->ring, 1);
		if (ret == 1)
			ret = io_uring_wait_cqe(&w->ring, &cqe);
		if (!ret) {
			ret = cqe->res;
			io_uring_cqe_seen(&w->ring, cqe);
		}
		if (ret <= 0) {
			bench_fail(STATUS_FAILED, "copy to the BAR: %s", strerror(-ret));
			return -1;
		}
		done += ret;
	}
	return (bench_now() - begin) / 1e3 / (w->m.length / PAGE);
}

enum { ENGINE, TEST_HMM, LIMIT };

static double sample_to_device(void *arg, unsigned int variant, struct histogram *latency)
{
	struct mover *w = arg;
	double us;

	if (variant == LIMIT)
		return copy_to_bar(w);
	us = timed(w, variant == ENGINE ? to_gpu0 : to_dmirror);
	/* test_hmm's memory is nobody's that pages_on_device() knows. */
	if (us < 0 || (variant == ENGINE && !memory_is_on_device(&w->m)))
		return -1;
	if (variant == ENGINE ? gpu_to_memory(w, w->m.p, w->m.length) :
				dmirror_to_memory(w, w->m.p, w->m.length)) {
		bench_fail(STATUS_FAILED, "back to RAM: %s", strerror(errno));
		return -1;
	}
	return memory_is_in_ram(&w->m) && memory_is_right(&w->m) ? us : -1;
}

static double sample_to_ram(void *arg, unsigned int variant, struct histogram *latency)
{
	struct mover *w = arg;
	double us;

	if (variant == ENGINE ? to_gpu0(w, w->m.p, w->m.length) :
				to_dmirror(w, w->m.p, w->m.length)) {
		bench_fail(STATUS_FAILED, "to the device: %s", strerror(errno));
		return -1;
	}
	us = timed(w, variant == ENGINE ? gpu_to_memory : dmirror_to_memory);
	return us >= 0 && memory_is_in_ram(&w->m) && memory_is_right(&w->m) ? us : -1;
}

enum { ALIAS, THROUGH_RAM };

static double sample_between(void *arg, unsigned int variant, struct histogram *latency)
{
	struct mover *w = arg;
	double us = 0;

	if (to_gpu0(w, w->m.p, w->m.length)) {
		bench_fail(STATUS_FAILED, "to the device: %s", strerror(errno));
		return -1;
	}
	if (variant == THROUGH_RAM)
		us = timed(w, gpu_to_memory);
	if (us >= 0) {
		double rest = timed(w, to_gpu1);

		us = rest < 0 ? -1 : us + rest;
	}
	if (us < 0 || !memory_is_on_device(&w->m))
		return -1;
	return memory_is_right(&w->m) ? us : -1;
}

static enum status measure(struct mover *w)
{
	struct figure f[] = {
		{
			.name = w->m.huge ? "migrate.to_device.huge" : "migrate.to_device.4k",
			.what = "from RAM to a device",
			.variants = { "hmm_p2p", "test_hmm", "copy" },
			.compare = { { TEST_HMM, ENGINE, w->m.huge ? 1.15 : 1.1 },
				     { ENGINE, LIMIT } },
			.sample = sample_to_device,
		}, {
			.name = w->m.huge ? "migrate.to_ram.huge" : "migrate.to_ram.4k",
			.what = "from a device to RAM",
			.variants = { "hmm_p2p", "test_hmm" },
			.compare = { { TEST_HMM, ENGINE } },
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

	for (size_t i = 0; i < sizeof(f) / sizeof(f[0]) && !status; i++) {
		f[i].unit = "us/page";
		f[i].arg = w;
		status = bench_measure(&f[i]);
	}
	return status;
}

static enum status open_limit(struct mover *w)
{
	struct iovec v = { w->buffer, w->m.length };
	struct hmm_dummy_info info;

	if (gpu_info(w->gpu[1], &info))
		return bench_fail(STATUS_FAILED, "/dev/hmm_dummy1: %s", strerror(errno));
	w->scratch = info.scratch_bytes;
	if (io_uring_queue_init(4, &w->ring, 0))
		return bench_fail(STATUS_MISSING, "no io_uring");
	if (io_uring_register_buffers(&w->ring, &v, 1)) {
		io_uring_queue_exit(&w->ring);
		return bench_fail(STATUS_MISSING, "memory cannot be pinned");
	}
	return STATUS_OK;
}

enum status bench_migrate(int argc, char **argv)
{
	enum status status;

	if (argc > 1)
		return bench_fail(STATUS_USAGE, "migrate takes no \"%s\"", argv[1]);
	status = trace_start(functions);
	for (int huge = 0; huge < 2 && !status; huge++) {
		struct mover w = {};

		status = devices_open(w.gpu);
		w.dmirror = open("/dev/hmm_dmirror0", O_RDWR);
		if (!status && w.dmirror < 0)
			status = bench_fail(STATUS_MISSING, "test_hmm, /dev/hmm_dmirror0: %s",
					    strerror(errno));
		w.buffer = malloc(options.length);
		status = status ?: memory_get(&w.m, options.length, huge) ?: open_limit(&w);
		if (!status) {
			status = measure(&w);
			io_uring_queue_exit(&w.ring);
		}
		memory_put(&w.m);
		free(w.buffer);
		close(w.dmirror);
	}
	trace_stop();
	return status;
}
