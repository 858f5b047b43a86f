// SPDX-License-Identifier: GPL-2.0
/*
 * RDMA on memory in RAM, on a device reached in place (peer), and on a device with peer
 * access off, as in stock Linux (bounce); and on RAM that is pinned, which is what a NIC
 * without on-demand paging wants.  And the loop that matters: a GPU computes on a buffer, a
 * NIC, or another GPU, reads it, again and again.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fio.h"
#include "gpu.h"
#include "memory.h"
#include "rdma.h"

/* rxe makes some 20 MB/s here. */
#define MOST	(4UL << 20)

#define ATOMICS	256

enum { RAM, PEER, BOUNCE, PINNED };

struct rdma {
	struct rdma_pair pair;
	struct memory m, other;		/* the one that is placed, and one in RAM */
	struct memory pinned;
	struct rdma_buf to, from, fixed;
	const char *job;		/* fio's, for memory that is busy; or NULL */
	int gpu[2];
	int (*transfer)(struct rdma_pair *pair, struct rdma_buf local, struct rdma_buf remote,
			size_t length);
};

static double failed(const char *what)
{
	bench_fail(STATUS_FAILED, "%s: %s", what, strerror(errno));
	return -1;
}

static double transfer_to(struct rdma *r, struct rdma_buf to)
{
	uint64_t begin = bench_now();
	int status = r->transfer(&r->pair, r->from, to, r->m.length);

	if (!status)
		return (bench_now() - begin) / 1e3 / (r->m.length / PAGE);
	if (status < 0)
		return failed(rdma_error());
	bench_fail(STATUS_FAILED, "RDMA: %s", ibv_wc_status_str(status));
	return -1;
}

static double transfer(struct rdma *r)
{
	return transfer_to(r, r->to);
}

/* Where the variant wants it, unknown to the NIC. */
static int place(struct rdma *r, unsigned int variant)
{
	struct hmm_dummy_info info;

	if (variant == RAM)
		return gpu_to_ram(r->gpu[0], r->m.p, r->m.length) ||
		       mprotect(r->m.p, r->m.length, PROT_READ) ||
		       mprotect(r->m.p, r->m.length, PROT_READ | PROT_WRITE);
	/* mprotect() would take write access from the device, which gets it back in RAM only. */
	return gpu_to_device(r->gpu[0], r->m.p, r->m.length) ||
	       gpu_info(r->gpu[0], &info) ||
	       gpu_control(0, "revoke 0 %llu", (unsigned long long)info.vram_bytes) ||
	       peer_access(variant == PEER);
}

/* The first transfer, with its faults. */
static double sample_first(void *arg, unsigned int variant, struct histogram *latency)
{
	struct rdma *r = arg;
	double us;

	if (variant == PINNED)
		return transfer_to(r, r->fixed);
	if (place(r, variant))
		return failed("memory cannot be placed");
	us = transfer(r);
	if (peer_access(true))
		return failed("peer access");
	if (us < 0 || !(variant == PEER ? memory_is_on_device(&r->m) : memory_is_in_ram(&r->m)))
		return -1;
	return us;
}

/* The second one: all is mapped, where it is left there. */
static double sample_steady(void *arg, unsigned int variant, struct histogram *latency)
{
	struct rdma *r = arg;

	if (sample_first(arg, variant, NULL) < 0)
		return -1;
	return transfer_to(r, variant == PINNED ? r->fixed : r->to);
}

/* Numbers in one page after the other, each added to once. */
static double sample_atomic(void *arg, unsigned int variant, struct histogram *latency)
{
	struct rdma *r = arg;
	struct rdma_buf to = variant == PINNED ? r->fixed : r->to;
	char *base = to.addr;
	size_t pages = r->m.length / PAGE;
	uint64_t begin, last;
	double us;

	if (variant != PINNED && place(r, variant))
		return failed("memory cannot be placed");
	begin = last = bench_now();
	for (unsigned int i = 0; i < ATOMICS; i++) {
		uint64_t now;

		to.addr = base + i % pages * PAGE;
		if (rdma_fetch_add(&r->pair, r->from, to, 1))
			return failed("FETCH_ADD");
		now = bench_now();
		if (latency)
			histogram_add(latency, now - last);
		last = now;
	}
	us = (last - begin) / 1e3 / ATOMICS;
	if (peer_access(true))
		return failed("peer access");
	if (variant == PEER && pages_on_device(0, base, r->m.length) != (long)pages) {
		bench_fail(STATUS_FAILED, "it did not stay on the device");
		return -1;
	}
	return us;
}

enum { ALONE, BESIDE };

/* With fio at work on memory, or without it. */
static double sample_pressure(void *arg, unsigned int variant, struct histogram *latency)
{
	struct rdma *r = arg;
	pid_t fio = variant == BESIDE ? fio_start(r->job) : 0;
	double us;

	if (fio < 0)
		return -1;
	/* Until it is at work. */
	if (fio)
		sleep(1);
	us = sample_steady(arg, PEER, NULL);
	fio_stop(fio);
	return us;
}

/* The GPU writes all of it, for which it wants it in its own memory. */
static int compute(struct rdma *r, unsigned char byte)
{
	return gpu_to_device(r->gpu[0], r->m.p, r->m.length) ||
	       gpu_fill(r->gpu[0], r->m.p, r->m.length, byte);
}

#define LOOPS	4

enum { LOOP_PEER, LOOP_BOUNCE };

static double loop(struct rdma *r, unsigned int variant, double (*read)(struct rdma *r))
{
	uint64_t begin;
	double us = 0;

	/* An entry that a reader has already would still be good. */
	if (place(r, variant == LOOP_PEER ? PEER : BOUNCE))
		return failed("memory cannot be placed");
	begin = bench_now();
	for (int i = 0; i < LOOPS && us >= 0; i++)
		us = compute(r, i) ? failed("the GPU's work") : read(r);
	if (us >= 0)
		us = (bench_now() - begin) / 1e3 / LOOPS / (r->m.length / PAGE);
	peer_access(true);
	if (us >= 0 && !(variant == LOOP_PEER ? memory_is_on_device(&r->m) :
						memory_is_in_ram(&r->m)))
		return -1;
	/* What it was that the other one has read. */
	if (us >= 0 && r->other.p[0] != LOOPS - 1) {
		bench_fail(STATUS_FAILED, "the loop read %d, not %d", r->other.p[0], LOOPS - 1);
		return -1;
	}
	return us;
}

static double nic_reads(struct rdma *r)
{
	return transfer(r);
}

static double peer_reads(struct rdma *r)
{
	return gpu_copy(r->gpu[1], r->other.p, r->m.p, r->m.length) ? failed("the peer's copy") : 0;
}

static double sample_nic_loop(void *arg, unsigned int variant, struct histogram *latency)
{
	return loop(arg, variant, nic_reads);
}

static double sample_peer_loop(void *arg, unsigned int variant, struct histogram *latency)
{
	return loop(arg, variant, peer_reads);
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
	struct figure f = {
		.unit = "us/page", .arg = r,
		.variants = { "RAM", "peer", "bounce", "pinned RAM" },
		.compare = { { RAM, PEER, 0.95 }, { BOUNCE, PEER }, { PINNED, PEER } },
	};
	struct figure atomic = {
		.name = "rdma.atomic", .what = "FETCH_ADD, a page each", .unit = "us", .arg = r,
		.variants = { "RAM", "peer", "bounce", "pinned RAM" },
		.compare = { { RAM, PEER }, { BOUNCE, PEER }, { PINNED, PEER } },
		.sample = sample_atomic, .latencies = true,
	};
	struct figure pressure = {
		.name = "rdma.pressure", .what = "RDMA READ on a device, beside fio on memory",
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

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]) && !status; i++) {
		r->transfer = ops[i].transfer;
		f.what = ops[i].what;
		f.name = ops[i].first;
		f.compare[0].goal = 0;
		f.sample = sample_first;
		status = bench_measure(&f);
		f.name = ops[i].name;
		f.compare[0].goal = 0.95;
		f.sample = sample_steady;
		status = status ?: bench_measure(&f);
	}
	status = status ?: bench_measure(&atomic);
	r->transfer = rdma_read;
	if (r->job)
		status = status ?: bench_measure(&pressure);
	for (size_t i = 0; i < sizeof(loops) / sizeof(loops[0]) && !status; i++) {
		loops[i].unit = "us/page";
		loops[i].arg = r;
		loops[i].variants[LOOP_PEER] = "peer";
		loops[i].variants[LOOP_BOUNCE] = "bounce";
		status = bench_measure(&loops[i]);
	}
	return status;
}

static enum status open_all(struct rdma *r)
{
	size_t length = options.length < MOST ? options.length : MOST;
	enum status status = devices_open(r->gpu) ?: memory_get(&r->m, length, false) ?:
			     memory_get(&r->other, length, false) ?:
			     memory_get(&r->pinned, length, false);

	if (status)
		return status;
	if (rdma_pair_open(&r->pair))
		return bench_fail(STATUS_MISSING, "no RDMA: %s", rdma_error());
	r->to = (struct rdma_buf) { ibv_reg_mr(r->pair.pd, r->m.p, length, RDMA_ODP), r->m.p };
	r->from = (struct rdma_buf) { ibv_reg_mr(r->pair.pd, r->other.p, length, RDMA_ODP),
				      r->other.p };
	if (!r->to.mr || !r->from.mr)
		return bench_fail(STATUS_MISSING, "no on-demand paging: %s", strerror(errno));
	r->fixed = (struct rdma_buf) { ibv_reg_mr(r->pair.pd, r->pinned.p, length, RDMA_ACCESS),
				       r->pinned.p };
	if (r->fixed.mr)
		return STATUS_OK;
	return bench_fail(STATUS_MISSING, "memory cannot be pinned: %s", strerror(errno));
}

/* rdma [JOBFILE] */
enum status bench_rdma(int argc, char **argv)
{
	struct rdma r = {};
	enum status status;

	if (argc > 2)
		return bench_fail(STATUS_USAGE, "rdma takes no \"%s\"", argv[2]);
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
	if (r.pair.context)
		rdma_pair_close(&r.pair);
	memory_put(&r.m);
	memory_put(&r.other);
	memory_put(&r.pinned);
	return status;
}
