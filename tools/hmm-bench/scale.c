// SPDX-License-Identifier: GPL-2.0
/*
 * How cost grows with size: pages, memory regions, importers, threads.  Twice as much is to
 * cost twice as much, and no more: an exponent of 1.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu.h"
#include "memory.h"
#include "verbs.h"

#define GOAL		1.05
#define LEAST_SIZES	4	/* of which something can be said */
#define CHUNK		(4UL << 20)	/* of RDMA: a work request each */
#define MOST_RDMA	(256UL << 20)
#define MOST_MRS	1000
#define MOST_FILES	64

struct scale {
	struct memory m;
	int gpu[2];
	double sizes[SIZES];
	struct rdma_pair pair;
	char *chunk;
};

static double since(uint64_t begin)
{
	return (bench_now() - begin) / 1e3;
}

static size_t bytes_of(struct scale *s, unsigned int point)
{
	return (size_t)s->sizes[point] * PAGE;
}

static bool is_on_device(struct scale *s, size_t length, const char *otherwise)
{
	if (pages_on_gpu(0, s->m.p, length) == (long)(length / PAGE))
		return true;
	bench_fail(STATUS_FAILED, "%s", otherwise);
	return false;
}

static double sample_migrate(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	size_t length = bytes_of(s, point);
	uint64_t begin = bench_now();
	double us;

	if (gpu_to_device(s->gpu[0], s->m.p, length))
		return bench_errno("to the device");
	us = since(begin);
	if (!is_on_device(s, length, "not all of it came to the device"))
		return -1;
	return gpu_to_ram(s->gpu[0], s->m.p, length) ? bench_errno("to RAM") : us;
}

/* A GPU that has it not mapped fills it, and finds as much at once as a fault brings. */
static double map(struct scale *s, unsigned int point)
{
	int file = gpu_open(1);
	uint64_t begin;
	double us;

	if (file < 0)
		return bench_errno("another importer");
	begin = bench_now();
	us = gpu_fill(file, s->m.p, bytes_of(s, point), 0) ? bench_errno("a device's write") :
							     since(begin);
	close(file);
	return us;
}

static double sample_map_ram(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;

	if (!pages_on_device(0, s->m.p, bytes_of(s, point)))
		return map(s, point);
	bench_fail(STATUS_FAILED, "it is not in RAM");
	return -1;
}

static double sample_map_peer(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	size_t length = bytes_of(s, point);
	double us;

	if (gpu_to_device(s->gpu[0], s->m.p, length))
		return bench_errno("to the device");
	us = map(s, point);
	return us >= 0 && is_on_device(s, length, "it did not stay on the device") ? us : -1;
}

/* READ, with its faults, of memory on the device. */
static double sample_rdma(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	size_t length = bytes_of(s, point);
	struct rdma_buf from, to;
	uint64_t begin;
	double us = 0;

	if (gpu_to_device(s->gpu[0], s->m.p, length))
		return bench_errno("to the device");
	to = (struct rdma_buf) { ibv_reg_mr(s->pair.pd, s->m.p, length, RDMA_ODP), s->m.p };
	from = (struct rdma_buf) { .addr = s->chunk };
	from.mr = ibv_reg_mr(s->pair.pd, from.addr, CHUNK, RDMA_ODP);
	if (!to.mr || !from.mr)
		us = bench_errno("ibv_reg_mr");
	begin = bench_now();
	for (size_t at = 0; at < length && us >= 0; at += CHUNK) {
		size_t n = length - at < CHUNK ? length - at : CHUNK;

		to.addr = s->m.p + at;
		if (rdma_failed(rdma_read(&s->pair, from, to, n)))
			us = -1;
	}
	if (us >= 0)
		us = since(begin);
	if (to.mr)
		ibv_dereg_mr(to.mr);
	if (from.mr)
		ibv_dereg_mr(from.mr);
	return us >= 0 && is_on_device(s, length, "it did not stay on the device") ? us : -1;
}

/* So many MRs of a page each: registered, read from, and deregistered. */
static double sample_mrs(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	unsigned int n = s->sizes[point], made;
	struct ibv_mr *mrs[MOST_MRS];
	struct rdma_buf from = { .addr = s->m.p + s->m.length - PAGE };
	uint64_t begin;
	double us = 0;

	if (gpu_to_device(s->gpu[0], s->m.p, n * PAGE))
		return bench_errno("to the device");
	begin = bench_now();
	from.mr = ibv_reg_mr(s->pair.pd, from.addr, PAGE, RDMA_ODP);
	if (!from.mr)
		return bench_errno("ibv_reg_mr");
	for (made = 0; made < n && us >= 0; made++) {
		struct rdma_buf to = { .addr = s->m.p + made * PAGE };

		to.mr = ibv_reg_mr(s->pair.pd, to.addr, PAGE, RDMA_ODP);
		mrs[made] = to.mr;
		if (!to.mr)
			us = bench_errno("ibv_reg_mr");
		else if (rdma_failed(rdma_read(&s->pair, from, to, PAGE)))
			us = -1;
	}
	while (made--)
		if (mrs[made])
			ibv_dereg_mr(mrs[made]);
	ibv_dereg_mr(from.mr);
	return us < 0 ? us : since(begin);
}

/* So many GPU files that have the same 64 pages, until these move. */
static double sample_importers(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	unsigned int n = s->sizes[point], opened, crc;
	size_t length = 64 * PAGE;
	int files[MOST_FILES];
	uint64_t begin;
	double us = 0;

	if (gpu_to_device(s->gpu[0], s->m.p, length))
		return bench_errno("to the device");
	begin = bench_now();
	for (opened = 0; opened < n && us >= 0; opened++) {
		files[opened] = gpu_open(1);
		if (files[opened] < 0 || gpu_crc32c(files[opened], s->m.p, length, &crc))
			us = bench_errno("an importer's read");
	}
	if (us >= 0 && gpu_to_ram(s->gpu[0], s->m.p, length))
		us = bench_errno("to RAM");
	if (us >= 0)
		us = since(begin);
	while (opened--)
		if (files[opened] >= 0)
			close(files[opened]);
	return us;
}

struct worker {
	struct scale *s;
	char *p;
	int error;
};

static void *work(void *arg)
{
	struct worker *w = arg;

	if (gpu_to_device(w->s->gpu[0], w->p, HUGE) || gpu_to_ram(w->s->gpu[0], w->p, HUGE))
		w->error = errno;
	return NULL;
}

/* So many threads, and 2 MiB for each to migrate there and back. */
static double sample_threads(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	unsigned int n = s->sizes[point];
	struct worker workers[64] = {};
	pthread_t threads[64];
	uint64_t begin = bench_now();
	int error = 0;

	for (unsigned int i = 0; i < n; i++) {
		workers[i] = (struct worker) { .s = s, .p = s->m.p + i * HUGE };
		error = pthread_create(&threads[i], NULL, work, &workers[i]);
		if (error)
			n = i;
	}
	for (unsigned int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	errno = error;
	if (error)
		return bench_errno("a thread");
	for (unsigned int i = 0; i < n; i++) {
		errno = workers[i].error;
		if (errno)
			return bench_errno("a thread's migration");
	}
	return since(begin);
}

struct row {
	const char *name, *what, *unit;
	double (*sample)(void *arg, unsigned int point, struct histogram *latency);
	size_t least, most;	/* in what is counted; half as much each time */
};

static enum status measure(struct scale *s)
{
	size_t pages = options.length / PAGE;
	size_t rdma = (options.length < MOST_RDMA ? options.length : MOST_RDMA) / PAGE;
	size_t mrs = pages - 1 < MOST_MRS ? pages - 1 : MOST_MRS;
	size_t threads = options.length / HUGE < 16 ? options.length / HUGE : 16;
	const struct row rows[] = {
		{ "scale.migrate", "pages that go to a device", "us", sample_migrate, 64, pages },
		{ "scale.map.ram", "pages in RAM that a GPU fills", "us", sample_map_ram, 64,
		  pages },
		{ "scale.map.peer", "pages on a device that another fills", "us",
		  sample_map_peer, 64, pages },
		{ "scale.rdma", "pages on a device that a NIC reads", "us", sample_rdma, 64, rdma },
		{ "scale.mrs", "memory regions of a page on a device", "us", sample_mrs, 16, mrs },
		{ "scale.importers", "GPU files that have 64 pages mapped", "us",
		  sample_importers, 1, MOST_FILES },
		{ "scale.threads", "threads that have 2 MiB migrate", "us", sample_threads, 1,
		  threads },
	};
	enum status status = STATUS_OK;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && !status; i++) {
		const struct row *row = &rows[i];
		struct figure f = { .name = row->name, .what = row->what, .unit = row->unit,
				    .sample = row->sample, .arg = s };
		unsigned int n = 0;
		size_t size = row->most;

		for (; n < SIZES && size >= row->least; size /= 2)
			s->sizes[n++] = size;
		if (n < LEAST_SIZES) {
			printf("%-26s %12s there is too little of it\n", row->name, "skipped:");
			continue;
		}
		status = bench_scale(&f, s->sizes, n, GOAL);
	}
	return status;
}

enum status bench_scaling(int argc, char **argv)
{
	struct scale s = {};
	enum status status;

	if (argc > 1)
		return bench_fail(STATUS_USAGE, "scale takes no \"%s\"", argv[1]);
	status = devices_open(s.gpu) ?: memory_get(&s.m, options.length, false);
	if (!status && rdma_pair_open(&s.pair))
		status = bench_fail(STATUS_MISSING, "no RDMA: %s", rdma_error());
	s.chunk = calloc(1, CHUNK);
	status = status ?: measure(&s);
	free(s.chunk);
	if (s.pair.context)
		rdma_pair_close(&s.pair);
	memory_put(&s.m);
	return status;
}
