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
#include "rdma.h"

#define GOAL		1.05
#define POINTS		12
#define CHUNK		(4UL << 20)	/* of RDMA: a work request each */
#define MOST_RDMA	(256UL << 20)
#define MOST_MRS	1000
#define MOST_FILES	64

struct scale {
	struct memory m;
	int gpu[2];
	double sizes[POINTS];
	struct rdma_pair pair;
};

static double failed(const char *what)
{
	bench_fail(STATUS_FAILED, "%s: %s", what, strerror(errno));
	return -1;
}

static double since(uint64_t begin)
{
	return (bench_now() - begin) / 1e3;
}

static size_t bytes_of(struct scale *s, unsigned int point)
{
	return (size_t)s->sizes[point] * PAGE;
}

static double sample_migrate(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	size_t length = bytes_of(s, point);
	uint64_t begin = bench_now();
	double us;

	if (gpu_to_device(s->gpu[0], s->m.p, length))
		return failed("to the device");
	us = since(begin);
	if (pages_on_device(0, s->m.p, length) != (long)(length / PAGE)) {
		bench_fail(STATUS_FAILED, "not all of it came to the device");
		return -1;
	}
	return gpu_to_ram(s->gpu[0], s->m.p, length) ? failed("to RAM") : us;
}

/* A GPU that has it not mapped reads a few bytes of each page. */
static double map(struct scale *s, unsigned int point)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_CRC32C, .addr = (uintptr_t)s->m.p,
		.length = bytes_of(s, point), .pattern = HMM_DUMMY_STRIDED, .unit = 8,
		.stride = PAGE,
	};
	int file = gpu_open(1);
	uint64_t begin;
	double us;

	if (file < 0)
		return failed("another importer");
	begin = bench_now();
	us = gpu_command(file, &c) ? failed("a peer's read") : since(begin);
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
		return failed("to the device");
	us = map(s, point);
	if (us >= 0 && pages_on_device(0, s->m.p, length) != (long)(length / PAGE)) {
		bench_fail(STATUS_FAILED, "it did not stay on the device");
		return -1;
	}
	return us;
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
		return failed("to the device");
	begin = bench_now();
	to = (struct rdma_buf) { ibv_reg_mr(s->pair.pd, s->m.p, length, RDMA_ODP), s->m.p };
	from = (struct rdma_buf) { .addr = malloc(CHUNK) };
	from.mr = ibv_reg_mr(s->pair.pd, from.addr, CHUNK, RDMA_ODP);
	if (!to.mr || !from.mr)
		return failed("ibv_reg_mr");
	for (size_t at = 0; at < length && us >= 0; at += CHUNK) {
		size_t n = length - at < CHUNK ? length - at : CHUNK;

		to.addr = s->m.p + at;
		if (rdma_read(&s->pair, from, to, n))
			us = failed("RDMA READ");
	}
	if (us >= 0)
		us = since(begin);
	ibv_dereg_mr(to.mr);
	ibv_dereg_mr(from.mr);
	free(from.addr);
	return us;
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
		return failed("to the device");
	begin = bench_now();
	from.mr = ibv_reg_mr(s->pair.pd, from.addr, PAGE, RDMA_ODP);
	if (!from.mr)
		return failed("ibv_reg_mr");
	for (made = 0; made < n && us >= 0; made++) {
		struct rdma_buf to = { .addr = s->m.p + made * PAGE };

		to.mr = mrs[made] = ibv_reg_mr(s->pair.pd, to.addr, PAGE, RDMA_ODP);
		if (!to.mr)
			us = failed("ibv_reg_mr");
		else if (rdma_read(&s->pair, from, to, PAGE))
			us = failed("RDMA READ");
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
		return failed("to the device");
	begin = bench_now();
	for (opened = 0; opened < n && us >= 0; opened++) {
		files[opened] = gpu_open(1);
		if (files[opened] < 0 || gpu_crc32c(files[opened], s->m.p, length, &crc))
			us = failed("an importer's read");
	}
	if (us >= 0 && gpu_to_ram(s->gpu[0], s->m.p, length))
		us = failed("to RAM");
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

	for (unsigned int i = 0; i < n; i++) {
		workers[i] = (struct worker) { .s = s, .p = s->m.p + i * HUGE };
		if (pthread_create(&threads[i], NULL, work, &workers[i]))
			abort();
	}
	for (unsigned int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int i = 0; i < n; i++) {
		errno = workers[i].error;
		if (errno)
			return failed("a thread's migration");
	}
	return since(begin);
}

struct row {
	const char *name, *what, *unit;
	double (*sample)(void *arg, unsigned int point, struct histogram *latency);
	size_t first, most;	/* in what is counted; twice as much each time */
};

static enum status measure(struct scale *s)
{
	size_t pages = options.length / PAGE;
	size_t rdma = (options.length < MOST_RDMA ? options.length : MOST_RDMA) / PAGE;
	size_t mrs = pages - 1 < MOST_MRS ? pages - 1 : MOST_MRS;
	size_t threads = options.length / HUGE < 16 ? options.length / HUGE : 16;
	const struct row rows[] = {
		{ "scale.migrate", "pages that go to a device", "us", sample_migrate, 0, pages },
		{ "scale.map.ram", "pages in RAM that a GPU reads", "us", sample_map_ram, 0,
		  pages },
		{ "scale.map.peer", "pages on a device that another reads", "us",
		  sample_map_peer, 0, pages },
		{ "scale.rdma", "pages on a device that a NIC reads", "us", sample_rdma, 0, rdma },
		{ "scale.mrs", "memory regions of a page on a device", "us", sample_mrs, 0, mrs },
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

		/* From the largest on, down to what is too little to be told. */
		while (n < POINTS && size >= 1 && (row->first || n < 3 || size >= 128)) {
			s->sizes[n++] = size;
			size /= 2;
		}
		if (n < 3)
			continue;
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
	status = status ?: measure(&s);
	if (s.pair.context)
		rdma_pair_close(&s.pair);
	memory_put(&s.m);
	return status;
}
