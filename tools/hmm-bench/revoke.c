// SPDX-License-Identifier: GPL-2.0
/*
 * "revoke": what it costs to revoke a window, and to use more windows than the BAR has room
 * for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"
#include "gpu.h"
#include "memory.h"

#define READS	512
#define READ	64UL	/* bytes of each page */

struct thrash {
	struct memory m;
	int gpu[2];
	size_t bar, most;	/* bytes: GPU 0's BAR, and its free memory */
	uint64_t random;
	uint64_t round;		/* of write_heads() */
};

/* The size of the device's largest BAR, from the kernel's list of its resources. */
static size_t bar_size(void)
{
	FILE *f = fopen("/sys/class/misc/hmm_dummy0/device/resource", "r");
	unsigned long long start, end;
	size_t most = 0;

	while (f && fscanf(f, "%llx %llx %*x", &start, &end) == 2)
		if (end > start && end - start + 1 > most)
			most = end - start + 1;
	if (f)
		fclose(f);
	return most;
}

/* Revoke the window of the first 2 MiB, which GPU 1 has mapped completely or not at all. */
static double sample_revoke(void *arg, unsigned int variant, struct histogram *latency)
{
	struct thrash *w = arg;
	unsigned int crc;
	long long offset;
	uint64_t begin;
	double us;

	if (gpu_to_device(w->gpu[0], w->m.p, HUGE) || gpu_crc32c(w->gpu[1], w->m.p, HUGE, &crc))
		return bench_errno("a peer's read");
	if (gpu_counter(0, "mapped_now") != HUGE / PAGE) {
		bench_fail(STATUS_FAILED, "%lld entries are mapped instead of %lu",
			   gpu_counter(0, "mapped_now"), HUGE / PAGE);
		return -1;
	}
	offset = gpu_offset(w->m.p, NULL);
	/* The second revoke has nothing to take away. */
	if (offset < 0 || (!variant && gpu_control(0, "revoke %lld %lu", offset, HUGE)))
		return bench_errno("revoke");
	begin = bench_now();
	if (gpu_control(0, "revoke %lld %lu", offset, HUGE))
		return bench_errno("revoke");
	us = (bench_now() - begin) / 1e3;
	if (gpu_counter(0, "mapped_now")) {
		bench_fail(STATUS_FAILED, "entries are mapped after a revoke");
		return -1;
	}
	/* Nothing has moved. */
	return memory_is_on(&w->m, 0) ? us : -1;
}

/* The first words of the page at @at, which differ in each sample. */
static void head_of(const struct thrash *w, size_t at, uint64_t *words)
{
	for (size_t i = 0; i < READ / WORD; i++)
		words[i] = (w->round << 40) + at + i;
}

/* The CPU writes the data for the peer. */
static void write_heads(struct thrash *w, size_t length)
{
	w->round++;
	for (size_t at = 0; at < length; at += PAGE)
		head_of(w, at, (uint64_t *)(w->m.p + at));
}

static bool is_head(const struct thrash *w, const char *p, unsigned int crc)
{
	uint64_t words[READ / WORD];

	head_of(w, p - w->m.p, words);
	if (crc == crc32c((char *)words, READ))
		return true;
	bench_fail(STATUS_FAILED, "a peer read wrong data");
	return false;
}

/*
 * Place the memory anew from RAM.  Otherwise it stays where other samples have put it, in
 * pieces.
 */
static bool place_heads(struct thrash *w, size_t length)
{
	if (gpu_to_ram(w->gpu[0], w->m.p, w->m.length)) {
		bench_errno("to RAM");
		return false;
	}
	write_heads(w, length);
	if (!gpu_to_device(w->gpu[0], w->m.p, length))
		return true;
	bench_errno("migration to the device");
	return false;
}

/* Windows that were used more recently than this stay open. */
#define RESIDENCY_US	150000

/*
 * Read random pages of memory that is a multiple of the BAR, by a new importer.  Pages that
 * find no window go to RAM.
 */
static double sample_thrash(void *arg, unsigned int variant, struct histogram *latency)
{
	struct thrash *w = arg;
	size_t length = w->bar / 2 << variant;
	unsigned int crc;
	int file = gpu_open(1);
	uint64_t ns = 0;

	if (file < 0)
		return bench_errno("another importer");
	if (!place_heads(w, length)) {
		close(file);
		return -1;
	}
	usleep(RESIDENCY_US);
	for (unsigned int i = 0; i < READS; i++) {
		char *p = w->m.p + bench_random(&w->random) % (length / PAGE) * PAGE;
		uint64_t begin = bench_now();
		int ret;

		do {
			ret = gpu_crc32c(file, p, READ, &crc);
		} while (ret && errno == EBUSY && !bench_interrupted());
		ns += bench_now() - begin;
		if (latency)
			histogram_add(latency, bench_now() - begin);
		if (ret)
			bench_errno("a peer's read");
		if (!ret && is_head(w, p, crc))
			continue;
		close(file);
		return -1;
	}
	close(file);
	/* Memory of the BAR's size may lie in one window more than the BAR has. */
	if (length >= w->bar || pages_on_gpu(0, w->m.p, length) == (long)(length / PAGE))
		return ns / 1e3 / READS;
	bench_fail(STATUS_FAILED, "pages left the device although there is room for all");
	return -1;
}

static enum status measure(struct thrash *w)
{
	static const char *const times[] = { "0.5 x BAR", "1 x BAR", "2 x BAR", "4 x BAR",
					     "8 x BAR", "16 x BAR" };
	struct figure revoke = {
		.name = "revoke.window", .what = "revoke a window", .unit = "us",
		.variants = { "unused", "512 pages" }, .compare = { { 1, 0 } },
		.sample = sample_revoke, .arg = w,
	};
	struct figure thrash = {
		.name = "revoke.thrash", .unit = "us", .latencies = true,
		.what = "a peer reads random pages of N times the BAR",
		.sample = sample_thrash, .arg = w,
	};
	enum status status = memory_get(&w->m, HUGE, false) ?: bench_measure(&revoke);
	unsigned int n;

	memory_put(&w->m);
	for (n = 0; n < VARIANTS && w->bar / 2 << n <= w->most; n++) {
		thrash.variants[n] = times[n];
		if (n)
			thrash.compare[n - 1] = (struct comparison) { .over = n };
	}
	if (!n)
		return status ?: bench_fail(STATUS_MISSING, "the BAR is larger than the free memory");
	status = status ?: memory_get(&w->m, w->bar / 2 << (n - 1), false) ?:
		 bench_measure(&thrash);
	memory_put(&w->m);
	return status;
}

enum status bench_revoke(int argc, char **argv)
{
	struct thrash w = { .bar = bar_size(), .random = options.seed | 1 };
	struct hmm_dummy_info info;
	enum status status;

	status = devices_open(w.gpu);
	if (status)
		return status;
	if (!w.bar)
		return bench_fail(STATUS_MISSING, "/dev/hmm_dummy0 is not a PCI device");
	if (gpu_info(w.gpu[0], &info))
		return bench_fail(STATUS_FAILED, "/dev/hmm_dummy0: %s", strerror(errno));
	w.most = info.vram_free;
	/* Some of the memory belongs to the device itself. */
	if (w.bar > w.most && w.bar < 2 * w.most)
		w.bar = w.most / HUGE * HUGE;
	return measure(&w);
}
