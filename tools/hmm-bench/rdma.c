// SPDX-License-Identifier: GPL-2.0
/*
 * "rdma": RDMA on memory in RAM, on a device in place (peer), on a device with peer access off
 * as in stock Linux (bounce), and on pinned RAM, as a NIC without on-demand paging needs it.
 * Also a loop: a GPU computes on a buffer, and a NIC or another GPU reads the result, again and
 * again.  The other GPU also reads memory of the first one that it has pinned.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fio.h"
#include "gpu.h"
#include "memory.h"
#include "pinned.h"
#include "verbs.h"

/* rxe transfers about 20 MB/s here. */
#define MOST	(4UL << 20)

#define SCARCE_MS	120000

enum { RAM, PEER, BOUNCE, PINNED_RAM };

struct rdma {
	struct rdma_pair pair;
	struct memory m, other;		/* the memory that is placed, and memory in RAM */
	struct memory pinned_ram;
	struct pinned exported;
	struct rdma_buf to, from, fixed;
	unsigned long long scanned;	/* pages that reclaim scanned during the last transfer */
	const char *job;		/* fio's job file for load on memory, or NULL */
	int gpu[2];
	int (*transfer)(struct rdma_pair *pair, struct rdma_buf local, struct rdma_buf remote,
			size_t length);
};

/* How many pages reclaim has scanned since boot. */
static unsigned long long pages_scanned(void)
{
	FILE *f = fopen("/proc/vmstat", "r");
	unsigned long long all = 0, n;
	char name[64];

	while (f && fscanf(f, "%63s %llu", name, &n) == 2)
		if (!strcmp(name, "pgscan_kswapd") || !strcmp(name, "pgscan_direct"))
			all += n;
	if (f)
		fclose(f);
	return all;
}

static double transfer_to(struct rdma *r, struct rdma_buf to)
{
	uint64_t begin = bench_now();

	if (rdma_failed(r->transfer(&r->pair, r->from, to, r->m.length)))
		return -1;
	return (bench_now() - begin) / 1e3 / (r->m.length / PAGE);
}

/*
 * Move all of the memory to the device.  While memory is compacted, pages cannot move for a
 * moment.
 */
static int bring(struct rdma *r)
{
	int ret = 0;

	for (int i = 0; i < 100 && !ret; i++) {
		ret = gpu_to_device(r->gpu[0], r->m.p, r->m.length);
		if (pages_on_gpu(0, r->m.p, r->m.length) == (long)(r->m.length / PAGE))
			break;
		usleep(1000);
	}
	return ret;
}

/* Fill the memory, and place it where the variant needs it.  The NIC has no entry for it. */
static bool place(struct rdma *r, unsigned int variant)
{
	struct hmm_dummy_info info;

	memory_fill(&r->m);
	memory_fill(&r->other);
	if (variant == PINNED_RAM) {
		memory_fill(&r->pinned_ram);
		return true;
	}
	/*
	 * memory_forget() calls mprotect(), which would take the device's write access away,
	 * and the device would get it back in RAM only.
	 */
	if (variant == RAM ? memory_forget(&r->m) : bring(r) || gpu_info(r->gpu[0], &info) ||
	    gpu_control(0, "revoke 0 %llu", (unsigned long long)info.vram_bytes) ||
	    peer_access(variant == PEER)) {
		bench_errno("memory cannot be placed");
		return false;
	}
	return memory_is_on(&r->m, variant == RAM ? IN_RAM : 0);
}

static bool is_where(struct rdma *r, unsigned int variant)
{
	return variant == PINNED_RAM || memory_is_on(&r->m, variant == PEER ? 0 : IN_RAM);
}

/* Make @times transfers.  The last one counts, because the first one has the faults. */
static double sample(struct rdma *r, unsigned int variant, int times)
{
	double us = -1;

	if (!place(r, variant))
		return -1;
	while (times--) {
		unsigned long long scanned;

		/* Use other data, because data of an earlier transfer would be right as well. */
		if (!times)
			memory_fill(&r->other);
		scanned = pages_scanned();
		us = transfer_to(r, variant == PINNED_RAM ? r->fixed : r->to);
		r->scanned = pages_scanned() - scanned;
		if (us < 0 || !is_where(r, variant))
			break;
	}
	peer_access(true);
	if (times >= 0 ||
	    !memory_is_same(variant == PINNED_RAM ? &r->pinned_ram : &r->m, &r->other, r->m.length))
		return -1;
	return us;
}

static double sample_first(void *arg, unsigned int variant, struct histogram *latency)
{
	return sample(arg, variant, 1);
}

static const unsigned int steady[] = { RAM, PEER, PINNED_RAM };

static double sample_steady(void *arg, unsigned int variant, struct histogram *latency)
{
	return sample(arg, steady[variant], 2);
}

/* Add to a number in each page.  Returns a negative number if that failed. */
static double add_each(struct rdma *r, struct rdma_buf to, struct histogram *latency)
{
	size_t pages = r->m.length / PAGE;
	char *base = to.addr;
	uint64_t ns = 0;

	for (size_t i = 0; i < pages; i++) {
		uint64_t begin = bench_now();

		to.addr = base + i * PAGE;
		if (rdma_failed(rdma_fetch_add(&r->pair, r->from, to, 1)))
			return -1;
		ns += bench_now() - begin;
		if (latency)
			histogram_add(latency, bench_now() - begin);
	}
	return ns / 1e3 / pages;
}

/* Measure the second pass, when all pages are mapped. */
static double sample_atomic(void *arg, unsigned int variant, struct histogram *latency)
{
	struct rdma *r = arg;
	unsigned int where = steady[variant];
	struct rdma_buf to = where == PINNED_RAM ? r->fixed : r->to;
	double us = -1;

	if (!place(r, where))
		return -1;
	for (size_t i = 0; i < r->m.length; i += PAGE)
		if (where == PINNED_RAM)
			*(uint64_t *)(r->pinned_ram.p + i) = 0;
	if (add_each(r, to, NULL) >= 0)
		us = add_each(r, to, latency);
	peer_access(true);
	if (us < 0 || !is_where(r, where))
		return -1;
	/* Both hold the same numbers, but for the additions. */
	for (size_t i = 0; i < r->m.length; i += PAGE) {
		uint64_t is = *(uint64_t *)((where == PINNED_RAM ? r->pinned_ram.p : r->m.p) + i);
		uint64_t was = where == PINNED_RAM ? 0 : memory_word(&r->m, i / 8);

		if (is == was + 2)
			continue;
		bench_fail(STATUS_FAILED, "a sum is wrong at byte %#zx", i);
		return -1;
	}
	return us;
}

enum { ALONE, BESIDE };

/* Wait until fio has made memory so scarce that the kernel reclaims. */
static bool becomes_scarce(pid_t fio)
{
	unsigned long long before = pages_scanned();

	for (int ms = 0; ms < SCARCE_MS && fio_runs(fio) && !bench_interrupted(); ms += 20) {
		if (pages_scanned() > before)
			return true;
		usleep(20000);
	}
	if (!bench_interrupted())
		bench_fail(STATUS_FAILED, fio_runs(fio) ? "fio does not make memory scarce" :
			   "fio ended before memory was scarce");
	return false;
}

#define PRESSED_TRIES	100

/*
 * Take a sample during which the kernel has reclaimed memory.  A sample between two scans is
 * repeated.
 */
static double sample_beside(struct rdma *r, pid_t fio)
{
	for (int i = 0; i < PRESSED_TRIES; i++) {
		double us = -1;

		r->scanned = 0;
		if (becomes_scarce(fio))
			us = sample(r, PEER, 2);
		if (us < 0 || r->scanned)
			return us;
	}
	bench_fail(STATUS_FAILED, "memory was not scarce in any of %d transfers", PRESSED_TRIES);
	return -1;
}

/* Measure with fio's load on memory, or without it. */
static double sample_pressure(void *arg, unsigned int variant, struct histogram *latency)
{
	struct rdma *r = arg;
	pid_t fio = variant == BESIDE ? fio_start(r->job) : 0;
	double us;

	if (fio < 0)
		return -1;
	us = fio ? sample_beside(r, fio) : sample(r, PEER, 2);
	if (fio && !fio_stop(fio) && us >= 0) {
		bench_fail(STATUS_FAILED, "fio did not run");
		return -1;
	}
	return us;
}

/* The GPU writes all of the memory, in its own memory if it is there. */
static int compute(struct rdma *r, unsigned char byte)
{
	return gpu_to_device(r->gpu[0], r->m.p, r->m.length) ||
	       gpu_fill(r->gpu[0], r->m.p, r->m.length, byte);
}

#define LOOPS	4

/*
 * PINNED: the GPU computes in exported memory.  STAGED: it computes in the process's memory and
 * copies the result to exported memory.
 */
enum { LOOP_PEER, LOOP_BOUNCE, LOOP_PINNED, LOOP_STAGED };

/*
 * One turn of the loop: the GPU writes @byte everywhere, and the other device reads it. Returns
 * a negative number after bench_fail().
 */
static double loop(struct rdma *r, unsigned int where,
		   double (*turn)(struct rdma *r, unsigned char byte))
{
	uint64_t begin;
	double us = 0;

	/* Place the memory anew, because an entry of the reader would still be valid. */
	if (!place(r, where))
		return -1;
	begin = bench_now();
	for (int i = 0; i < LOOPS && us >= 0; i++)
		us = turn(r, i);
	if (us >= 0)
		us = (bench_now() - begin) / 1e3 / LOOPS / (r->m.length / PAGE);
	peer_access(true);
	if (us < 0 || !is_where(r, where))
		return -1;
	/* Check what the other device has read. */
	for (size_t i = 0; i < r->m.length; i++) {
		if (r->other.p[i] == LOOPS - 1)
			continue;
		bench_fail(STATUS_FAILED, "the loop read %d instead of %d", r->other.p[i],
			   LOOPS - 1);
		return -1;
	}
	return us;
}

static double nic_turn(struct rdma *r, unsigned char byte)
{
	return compute(r, byte) ? bench_errno("the GPU's work") : transfer_to(r, r->to);
}

static double peer_turn(struct rdma *r, unsigned char byte)
{
	return compute(r, byte) || gpu_copy(r->gpu[1], r->other.p, r->m.p, r->m.length) ?
	       bench_errno("the GPUs' work") : 0;
}

static double read_exported(struct rdma *r)
{
	ssize_t length = r->m.length;

	/* errno for a write that was done in part. */
	errno = EIO;
	return pread(r->exported.peer, r->other.p, length, 0) == length ?
	       0 : bench_errno("the peer's read");
}

static double pinned_turn(struct rdma *r, unsigned char byte)
{
	return gpu_fill_scratch(r->gpu[0], 0, r->m.length, byte) ?
	       bench_errno("the GPU's work") : read_exported(r);
}

static double staged_turn(struct rdma *r, unsigned char byte)
{
	ssize_t length = r->m.length;

	errno = EIO;
	return compute(r, byte) || pwrite(r->gpu[0], r->m.p, length, 0) != length ?
	       bench_errno("the GPU's work") : read_exported(r);
}

static double sample_nic_loop(void *arg, unsigned int variant, struct histogram *latency)
{
	return loop(arg, variant == LOOP_PEER ? PEER : BOUNCE, nic_turn);
}

static double sample_peer_loop(void *arg, unsigned int variant, struct histogram *latency)
{
	struct rdma *r = arg;

	if (variant < LOOP_PINNED)
		return loop(r, variant == LOOP_PEER ? PEER : BOUNCE, peer_turn);
	/*
	 * Pin the memory once for all samples.  GPU 1 keeps its entries of the destination as
	 * well.
	 */
	if (r->exported.peer < 0 && pinned_import(&r->exported))
		return bench_errno("a dma-buf cannot be imported");
	/* Overwrite the result of the last sample, which would be right as well. */
	if (gpu_fill_scratch(r->gpu[0], 0, r->m.length, LOOPS))
		return bench_errno("the GPU's work");
	return loop(r, PEER, variant == LOOP_PINNED ? pinned_turn : staged_turn);
}

static enum status measure(struct rdma *r)
{
	static const struct {
		const char *name, *first, *what;
		int (*transfer)(struct rdma_pair *pair, struct rdma_buf local,
				struct rdma_buf remote, size_t length);
	} ops[] = {
		{ "rdma.write", "rdma.write.first", "RDMA WRITE", rdma_write },
		{ "rdma.read", "rdma.read.first", "RDMA READ", rdma_read },
		{ "rdma.send", "rdma.send.first", "SEND", rdma_send },
	};
	struct figure first = {
		.unit = "us/page", .arg = r, .sample = sample_first,
		.variants = { "RAM", "peer", "bounce", "pinned RAM" },
		.compare = { { RAM, PEER }, { BOUNCE, PEER }, { PINNED_RAM, PEER } },
	};
	/* For these operations a bounce happens in RAM. */
	struct figure second = {
		.unit = "us/page", .arg = r, .sample = sample_steady,
		.variants = { "RAM", "peer", "pinned RAM" },
		.compare = { { 0, 1, 0.95 }, { 2, 1 } },
	};
	struct figure atomic = {
		.name = "rdma.atomic", .what = "FETCH_ADD, a page each", .unit = "us", .arg = r,
		.variants = { "RAM", "peer", "pinned RAM" },
		.compare = { { 0, 1, 0.95 }, { 2, 1 } },
		.sample = sample_atomic, .latencies = true,
	};
	struct figure pressure = {
		.name = "rdma.pressure", .what = "RDMA READ on a device, beside fio",
		.unit = "us/page", .arg = r, .variants = { "alone", "beside fio" },
		.compare = { { BESIDE, ALONE } }, .sample = sample_pressure,
	};
	struct figure loops[] = {
		{ .name = "rdma.loop", .what = "a GPU computes, a NIC reads it",
		  .compare = { { LOOP_BOUNCE, LOOP_PEER, 2 } }, .sample = sample_nic_loop },
		{ .name = "peer.loop", .what = "a GPU computes, another GPU reads it",
		  .compare = { { LOOP_BOUNCE, LOOP_PEER, 5 } }, .sample = sample_peer_loop },
	};
	enum status status = STATUS_OK;

	if (r->exported.dmabuf >= 0) {
		loops[1].variants[LOOP_PINNED] = "pinned";
		loops[1].variants[LOOP_STAGED] = "staged";
		loops[1].compare[1].over = LOOP_PINNED;
		loops[1].compare[2].over = LOOP_STAGED;
	}
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]) && !status; i++) {
		r->transfer = ops[i].transfer;
		first.what = ops[i].what;
		second.what = ops[i].what;
		first.name = ops[i].first;
		second.name = ops[i].name;
		status = bench_measure(&first) ?: bench_measure(&second);
	}
	status = status ?: bench_measure(&atomic);
	r->transfer = rdma_read;
	for (size_t i = 0; i < sizeof(loops) / sizeof(loops[0]) && !status; i++) {
		loops[i].unit = "us/page";
		loops[i].arg = r;
		loops[i].variants[LOOP_PEER] = "peer";
		loops[i].variants[LOOP_BOUNCE] = "bounce";
		status = bench_measure(&loops[i]);
	}
	/* This figure comes last, because it fills the page cache, and others wait for that. */
	if (r->job)
		status = status ?: bench_measure(&pressure);
	return status;
}

static enum status open_all(struct rdma *r)
{
	size_t length = options.length < MOST ? options.length : MOST;
	enum status status = devices_open(r->gpu) ?: memory_get(&r->m, length, false) ?:
			     memory_get(&r->other, length, false) ?:
			     memory_get(&r->pinned_ram, length, false) ?:
			     pinned_export(&r->exported, r->gpu[0], length);

	if (status)
		return status;
	if (rdma_pair_open(&r->pair))
		return bench_fail(STATUS_MISSING, "no RDMA: %s", rdma_error());
	r->to = (struct rdma_buf) { ibv_reg_mr(r->pair.pd, r->m.p, length, RDMA_ODP), r->m.p };
	r->from = (struct rdma_buf) { ibv_reg_mr(r->pair.pd, r->other.p, length, RDMA_ODP),
				      r->other.p };
	if (!r->to.mr || !r->from.mr)
		return bench_fail(STATUS_MISSING, "no on-demand paging: %s", strerror(errno));
	r->fixed = (struct rdma_buf) { ibv_reg_mr(r->pair.pd, r->pinned_ram.p, length, RDMA_ACCESS),
				       r->pinned_ram.p };
	if (r->fixed.mr)
		return STATUS_OK;
	return bench_fail(STATUS_MISSING, "memory cannot be pinned: %s", strerror(errno));
}

/* rdma [JOBFILE] */
enum status bench_rdma(int argc, char **argv)
{
	struct rdma r = { .exported = PINNED_NONE };
	enum status status;

	r.job = argv[1];
	if (r.job && access(r.job, R_OK))
		return bench_fail(STATUS_USAGE, "%s: %s", r.job, strerror(errno));
	status = open_all(&r) ?: measure(&r);
	if (r.to.mr)
		ibv_dereg_mr(r.to.mr);
	if (r.from.mr)
		ibv_dereg_mr(r.from.mr);
	if (r.fixed.mr)
		ibv_dereg_mr(r.fixed.mr);
	rdma_pair_close(&r.pair);
	memory_put(&r.m);
	memory_put(&r.other);
	memory_put(&r.pinned_ram);
	pinned_close(&r.exported);
	return status;
}
