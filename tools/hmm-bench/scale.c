// SPDX-License-Identifier: GPL-2.0
/*
 * "scale": how cost grows with pages, memory regions, importers and threads.  Twice as many
 * should cost twice as much, which is an exponent of 1.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"
#include "gpu.h"
#include "threads.h"
#include "trace.h"
#include "verbs.h"

#define GOAL		1.05
#define CHUNK		(4UL << 20)	/* bytes of one RDMA work request */
#define MOST_RDMA	(256UL << 20)
#define MOST_MRS	1000
#define MOST_FILES	64

static const char *const functions[] = { "hmm_dummy_fault", NULL };

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

/*
 * A word in each page, which differs in each sample.  Writing and reading 4 GiB would take too
 * long.
 */
static uint64_t numbers;

static uint64_t *number_in(struct scale *s, size_t at)
{
	return (uint64_t *)(s->m.p + at + at / PAGE % (PAGE / sizeof(uint64_t)) * sizeof(uint64_t));
}

static void number(struct scale *s, size_t length)
{
	numbers += length;
	for (size_t at = 0; at < length; at += PAGE)
		*number_in(s, at) = numbers + at;
}

static bool is_numbered(struct scale *s, size_t length)
{
	for (size_t at = 0; at < length; at += PAGE) {
		if (*number_in(s, at) == numbers + at)
			continue;
		bench_fail(STATUS_FAILED, "wrong data at byte %#zx", at);
		return false;
	}
	return true;
}

static double sample_migrate(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	size_t length = bytes_of(s, point);
	uint64_t begin;
	double us;

	number(s, length);
	begin = bench_now();
	if (gpu_to_device(s->gpu[0], s->m.p, length))
		return bench_errno("migration to the device");
	us = since(begin);
	if (!is_on_device(s, length, "not all pages moved to the device"))
		return -1;
	if (gpu_to_ram(s->gpu[0], s->m.p, length))
		return bench_errno("to RAM");
	return is_numbered(s, length) ? us : -1;
}

/* Whether @length bytes are all @byte. */
static bool is_filled(const char *p, size_t length, unsigned char byte)
{
	if ((unsigned char)*p == byte && !memcmp(p, p + 1, length - 1))
		return true;
	bench_fail(STATUS_FAILED, "wrong data");
	return false;
}

/* Place memory on the device, with other data in each sample. */
static double fill_device(struct scale *s, size_t length, unsigned char *byte)
{
	static unsigned char last;

	*byte = ++last;
	if (gpu_to_device(s->gpu[0], s->m.p, length) ||
	    gpu_fill(s->gpu[0], s->m.p, length, *byte))
		return bench_errno("migration to the device");
	return 0;
}

/*
 * A GPU without entries fills the memory, one piece per fault.  The time is that of its faults:
 * writing all of the memory takes longer and grows as well.
 */
static double map(struct scale *s, unsigned int point)
{
	size_t length = bytes_of(s, point), last = length < CHUNK ? length : CHUNK;
	static unsigned char byte;
	int file = gpu_open(1);
	double us;

	if (file < 0)
		return bench_errno("another importer");
	us = trace_clear() ? bench_errno("the trace") :
	     gpu_fill(file, s->m.p, length, ++byte) ? bench_errno("a device's write") :
	     trace_inside(functions[0]);
	close(file);
	if (!us) {
		bench_fail(STATUS_FAILED, "%s", trace_why("fault"));
		us = -1;
	}
	/* Read the memory through the GPU that may have it on itself. */
	if (us >= 0 && gpu_copy(s->gpu[0], s->chunk, s->m.p + length - last, last))
		us = bench_errno("a device's read");
	return us >= 0 && is_filled(s->chunk, last, byte) ? us : -1;
}

static double sample_map_ram(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;

	if (!pages_on_device(0, s->m.p, bytes_of(s, point)))
		return map(s, point);
	bench_fail(STATUS_FAILED, "not all pages are in RAM");
	return -1;
}

static double sample_map_peer(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	size_t length = bytes_of(s, point);
	double us;

	if (gpu_to_device(s->gpu[0], s->m.p, length))
		return bench_errno("migration to the device");
	us = map(s, point);
	return us >= 0 && is_on_device(s, length, "pages left the device") ? us : -1;
}

/* An RDMA READ of memory on the device, with its faults. */
static double sample_rdma(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	size_t length = bytes_of(s, point), n = 0;
	struct rdma_buf from, to;
	unsigned char byte;
	uint64_t begin;
	double us = fill_device(s, length, &byte);

	if (us < 0)
		return us;
	to = (struct rdma_buf) { ibv_reg_mr(s->pair.pd, s->m.p, length, RDMA_ODP), s->m.p };
	from = (struct rdma_buf) { .addr = s->chunk };
	from.mr = ibv_reg_mr(s->pair.pd, from.addr, CHUNK, RDMA_ODP);
	if (!to.mr || !from.mr)
		us = bench_errno("ibv_reg_mr");
	begin = bench_now();
	for (size_t at = 0; at < length && us >= 0; at += CHUNK) {
		n = length - at < CHUNK ? length - at : CHUNK;
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
	return us >= 0 && is_filled(s->chunk, n, byte) &&
	       is_on_device(s, length, "pages left the device") ? us : -1;
}

/* Register many MRs of a page each, read from them, and deregister them. */
static double sample_mrs(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	unsigned int n = s->sizes[point], made;
	struct rdma_buf from = { .addr = s->chunk };
	struct ibv_mr *mrs[MOST_MRS];
	unsigned char byte;
	uint64_t begin;
	double us = fill_device(s, n * PAGE, &byte);

	if (us < 0)
		return us;
	from.mr = ibv_reg_mr(s->pair.pd, from.addr, PAGE, RDMA_ODP);
	if (!from.mr)
		return bench_errno("ibv_reg_mr");
	begin = bench_now();
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
	if (us >= 0)
		us = since(begin);
	ibv_dereg_mr(from.mr);
	return us >= 0 && is_filled(s->chunk, PAGE, byte) &&
	       is_on_device(s, n * PAGE, "pages left the device") ? us : -1;
}

/* Many GPU files have the same 64 pages mapped when these move. */
static double sample_importers(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	unsigned int n = s->sizes[point], opened, crc, expected;
	size_t length = 64 * PAGE;
	int files[MOST_FILES];
	uint64_t begin;
	double us = 0;

	number(s, length);
	expected = crc32c(s->m.p, length);
	if (gpu_to_device(s->gpu[0], s->m.p, length))
		return bench_errno("migration to the device");
	begin = bench_now();
	for (opened = 0; opened < n && us >= 0; opened++) {
		files[opened] = gpu_open(1);
		if (files[opened] < 0 || gpu_crc32c(files[opened], s->m.p, length, &crc)) {
			us = bench_errno("an importer's read");
		} else if (crc != expected) {
			bench_fail(STATUS_FAILED, "an importer read wrong data");
			us = -1;
		}
	}
	if (us >= 0)
		us = since(begin);
	if (us >= 0 && !is_on_device(s, length, "pages left the device"))
		us = -1;
	begin = bench_now();
	if (us >= 0 && gpu_to_ram(s->gpu[0], s->m.p, length))
		us = bench_errno("to RAM");
	if (us >= 0)
		us += since(begin);
	while (opened--)
		if (files[opened] >= 0)
			close(files[opened]);
	return us;
}

static int there_and_back(struct part *part)
{
	struct scale *s = part->arg;

	return gpu_to_device(s->gpu[0], part->p, part->length) ||
	       gpu_to_ram(s->gpu[0], part->p, part->length);
}

/* Many threads, each migrating 2 MiB there and back. */
static double sample_threads(void *arg, unsigned int point, struct histogram *latency)
{
	struct scale *s = arg;
	unsigned int n = s->sizes[point];
	long long before, moved;
	double us;

	if (gpu_to_ram(s->gpu[0], s->m.p, n * HUGE))
		return bench_errno("to RAM");
	number(s, n * HUGE);
	before = gpu_counter(0, "to_device");
	us = threads_run_some(&s->m, n * HUGE, n, there_and_back, s, NULL,
			      "a thread's migration");
	moved = gpu_counter(0, "to_device") - before;
	if (us < 0)
		return us;
	if (moved == (long long)(n * HUGE / PAGE))
		return is_numbered(s, n * HUGE) ? us : -1;
	bench_fail(STATUS_FAILED, "%lld pages moved to the device instead of %lu", moved,
		   n * HUGE / PAGE);
	return -1;
}

struct row {
	const char *name, *what, *unit;
	double (*sample)(void *arg, unsigned int point, struct histogram *latency);
	size_t least, most;	/* of the items that are counted; each size is half of the next */
};

static enum status measure(struct scale *s)
{
	size_t pages = options.length / PAGE;
	size_t rdma = (options.length < MOST_RDMA ? options.length : MOST_RDMA) / PAGE;
	size_t mrs = pages < MOST_MRS ? pages : MOST_MRS;
	size_t threads = options.length / HUGE < 16 ? options.length / HUGE : 16;
	const struct row rows[] = {
		{ "scale.migrate", "pages that move to a device", "us", sample_migrate, 64, pages },
		{ "scale.map.ram", "pages in RAM that a GPU fills", "us", sample_map_ram, 64,
		  pages },
		{ "scale.map.peer", "pages on a device that another fills", "us",
		  sample_map_peer, 64, pages },
		{ "scale.rdma", "pages on a device that a NIC reads", "us", sample_rdma, 64, rdma },
		{ "scale.mrs", "memory regions of a page on a device", "us", sample_mrs, 16, mrs },
		{ "scale.importers", "GPU files that have 64 pages mapped", "us",
		  sample_importers, 1, MOST_FILES },
		{ "scale.threads", "threads that migrate 2 MiB each", "us", sample_threads, 1,
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
			printf("%-26s %12s too few sizes\n", row->name, "skipped:");
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

	status = devices_open(s.gpu) ?: memory_get(&s.m, options.length, false) ?:
		 trace_start(functions);
	if (!status && rdma_pair_open(&s.pair))
		status = bench_fail(STATUS_MISSING, "no RDMA: %s", rdma_error());
	s.chunk = calloc(1, CHUNK);
	status = status ?: measure(&s);
	trace_stop();
	free(s.chunk);
	rdma_pair_close(&s.pair);
	memory_put(&s.m);
	return status;
}
