// SPDX-License-Identifier: GPL-2.0
/*
 * "invalidate": what it costs a process to take a page away from importers: GPUs, each by a
 * file, and memory regions of a NIC.  Importers of other memory should cost nothing.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gpu.h"
#include "memory.h"
#include "rdma.h"

#define PAGES	64
#define MOST	64

struct crowd {
	struct memory m, elsewhere;
	int gpu[2];
	int files[MOST];
	struct ibv_mr *mrs[MOST];
	unsigned int nr_files, nr_mrs;
	struct rdma_pair pair;
};

static const unsigned int sizes[] = { 0, 1, 8, 64 };

static bool failed(const char *what)
{
	bench_errno(what);
	return false;
}

/* Place @m on GPU 0 or in RAM, with no importer. */
static bool place(struct crowd *w, struct memory *m, bool on_device)
{
	memory_fill(m);
	if (on_device && gpu_to_device(w->gpu[0], m->p, m->length))
		return failed("migration to the device");
	return memory_is_on(m, on_device ? 0 : IN_RAM);
}

/* Let @files GPU files and @mrs MRs map all of the memory. */
static bool gather(struct crowd *w, unsigned int files, unsigned int mrs, bool on_device)
{
	uint32_t expected = memory_crc32c(&w->m, 0, w->m.length / WORD, WORD);
	unsigned int crc;

	while (w->nr_files < files) {
		int file = gpu_open(1);

		if (file < 0)
			return failed("another importer");
		w->files[w->nr_files++] = file;
		if (gpu_crc32c(file, w->m.p, w->m.length, &crc))
			return failed("an importer's read");
		if (crc == expected)
			continue;
		bench_fail(STATUS_FAILED, "an importer read wrong data");
		return false;
	}
	while (w->nr_mrs < mrs) {
		struct ibv_mr *mr = ibv_reg_mr(w->pair.pd, w->m.p, w->m.length, RDMA_ODP);

		if (!mr)
			return failed("ibv_reg_mr");
		w->mrs[w->nr_mrs++] = mr;
		if (rdma_advise(&w->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, mr, w->m.p,
				w->m.length))
			return failed("prefetch");
	}
	if (!on_device || gpu_counter(0, "mapped_now") == (files + mrs) * PAGES)
		return true;
	bench_fail(STATUS_FAILED, "%lld entries are mapped instead of %u",
		   gpu_counter(0, "mapped_now"), (files + mrs) * PAGES);
	return false;
}

static void disperse(struct crowd *w)
{
	while (w->nr_files)
		close(w->files[--w->nr_files]);
	while (w->nr_mrs)
		ibv_dereg_mr(w->mrs[--w->nr_mrs]);
}

/* Invalidate page by page.  Returns microseconds for each. */
static double invalidate(struct memory *m, struct histogram *latency)
{
	uint64_t begin = bench_now(), last = begin;

	for (size_t i = 0; i < m->length; i += PAGE) {
		uint64_t now;

		if (madvise(m->p + i, PAGE, MADV_DONTNEED))
			return bench_errno("MADV_DONTNEED");
		now = bench_now();
		if (latency)
			histogram_add(latency, now - last);
		last = now;
	}
	return (last - begin) / 1e3 / PAGES;
}

static double sample(struct crowd *w, unsigned int files, unsigned int mrs, bool on_device,
		     struct memory *of, struct histogram *latency)
{
	double us = -1;

	if (place(w, &w->m, on_device) && (of == &w->m || place(w, of, on_device)) &&
	    gather(w, files, mrs, on_device))
		us = invalidate(of, latency);
	/* The importers have no entries left or, if they have other memory, all of them. */
	if (us >= 0 && on_device &&
	    gpu_counter(0, "mapped_now") != (of == &w->m ? 0 : (files + mrs) * PAGES)) {
		bench_fail(STATUS_FAILED, "%lld entries are mapped after the invalidation",
			   gpu_counter(0, "mapped_now"));
		us = -1;
	}
	disperse(w);
	return us;
}

static double sample_importers(void *arg, unsigned int variant, struct histogram *latency)
{
	struct crowd *w = arg;

	return sample(w, sizes[variant], 0, true, &w->m, latency);
}

static double sample_mrs(void *arg, unsigned int variant, struct histogram *latency)
{
	struct crowd *w = arg;

	return sample(w, 0, sizes[variant], true, &w->m, latency);
}

static double sample_place(void *arg, unsigned int variant, struct histogram *latency)
{
	struct crowd *w = arg;

	return sample(w, 8, 8, variant, &w->m, latency);
}

static double sample_elsewhere(void *arg, unsigned int variant, struct histogram *latency)
{
	struct crowd *w = arg;
	unsigned int n = variant ? MOST : 0;

	return sample(w, n, n, true, &w->elsewhere, latency);
}

static enum status measure(struct crowd *w)
{
	struct figure f[] = {
		{
			.name = "invalidate.importers",
			.what = "take away a page of a device that N GPU files have mapped",
			.variants = { "none", "1", "8", "64" },
			.compare = { { 1, 0 }, { 3, 1 } },
			.sample = sample_importers,
		}, {
			.name = "invalidate.mrs",
			.what = "take away a page of a device that N MRs have mapped",
			.variants = { "none", "1", "8", "64" },
			.compare = { { 1, 0 }, { 3, 1 } },
			.sample = sample_mrs,
		}, {
			.name = "invalidate.place",
			.what = "take away a page that 8 GPU files and 8 MRs have mapped",
			.variants = { "RAM", "peer" },
			.compare = { { 1, 0 } },
			.sample = sample_place,
		}, {
			.name = "invalidate.elsewhere",
			.what = "take away an unmapped page; 64 files and MRs map other memory",
			.variants = { "none", "64 + 64" },
			.compare = { { 1, 0 } },
			.sample = sample_elsewhere,
		},
	};
	enum status status = STATUS_OK;

	for (size_t i = 0; i < sizeof(f) / sizeof(f[0]) && !status; i++) {
		f[i].unit = "us";
		f[i].arg = w;
		f[i].latencies = true;
		status = bench_measure(&f[i]);
	}
	return status;
}

enum status bench_invalidate(int argc, char **argv)
{
	struct crowd w = {};
	enum status status;

	status = devices_open(w.gpu) ?: memory_get(&w.m, PAGES * PAGE, false) ?:
		 memory_get(&w.elsewhere, PAGES * PAGE, false);
	if (!status && rdma_pair_open(&w.pair))
		status = bench_fail(STATUS_MISSING, "no RDMA: %s", rdma_error());
	status = status ?: measure(&w);
	rdma_pair_close(&w.pair);
	memory_put(&w.m);
	memory_put(&w.elsewhere);
	return status;
}
