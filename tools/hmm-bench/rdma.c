// SPDX-License-Identifier: GPL-2.0
/*
 * RDMA on memory in RAM, on a device reached in place (peer), and on a device with peer
 * access off, as in stock Linux (bounce).  And the loop that matters: a GPU computes on a
 * buffer, a NIC, or another GPU, reads it, again and again.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "gpu.h"
#include "memory.h"
#include "rdma.h"

/* rxe makes some 20 MB/s here. */
#define MOST	(4UL << 20)

enum { RAM, PEER, BOUNCE };

struct rdma {
	struct rdma_pair pair;
	struct memory m, other;		/* the one that is placed, and one in RAM */
	struct rdma_buf to, from;
	int gpu[2];
	int (*transfer)(struct rdma_pair *pair, struct rdma_buf local, struct rdma_buf remote,
			size_t length);
};

static double failed(const char *what)
{
	bench_fail(STATUS_FAILED, "%s: %s", what, strerror(errno));
	return -1;
}

static double transfer(struct rdma *r)
{
	uint64_t begin = bench_now();
	int status = r->transfer(&r->pair, r->from, r->to, r->m.length);

	if (!status)
		return (bench_now() - begin) / 1e3 / (r->m.length / PAGE);
	if (status < 0)
		return failed(rdma_error());
	bench_fail(STATUS_FAILED, "RDMA: %s", ibv_wc_status_str(status));
	return -1;
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
	       peer_access_set(variant == PEER) < 0;
}

/* The first transfer, with its faults. */
static double sample_first(void *arg, unsigned int variant, struct histogram *latency)
{
	struct rdma *r = arg;
	double us;

	if (place(r, variant))
		return failed("memory cannot be placed");
	us = transfer(r);
	if (peer_access_set(true) < 0)
		return failed("peer access");
	if (us < 0 || !(variant == PEER ? memory_is_on_device(&r->m) : memory_is_in_ram(&r->m)))
		return -1;
	return us;
}

/* The second one: all is mapped, where it is left there. */
static double sample_steady(void *arg, unsigned int variant, struct histogram *latency)
{
	struct rdma *r = arg;

	return sample_first(arg, variant, NULL) < 0 ? -1 : transfer(r);
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
	peer_access_set(true);
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
		.variants = { "RAM", "peer", "bounce" },
		.compare = { { RAM, PEER, 0.95 }, { BOUNCE, PEER } },
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
	r->transfer = rdma_read;
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
	enum status status = STATUS_OK;

	for (int i = 0; i < 2 && !status; i++) {
		r->gpu[i] = device_open(i);
		if (r->gpu[i] < 0)
			status = bench_failed();
	}
	status = status ?: memory_get(&r->m, length, false) ?:
		 memory_get(&r->other, length, false);
	if (status)
		return status;
	if (rdma_pair_open(&r->pair))
		return bench_fail(STATUS_MISSING, "no RDMA: %s", rdma_error());
	r->to = (struct rdma_buf) { ibv_reg_mr(r->pair.pd, r->m.p, length, RDMA_ODP), r->m.p };
	r->from = (struct rdma_buf) { ibv_reg_mr(r->pair.pd, r->other.p, length, RDMA_ODP),
				      r->other.p };
	if (r->to.mr && r->from.mr)
		return STATUS_OK;
	return bench_fail(STATUS_MISSING, "no on-demand paging: %s", strerror(errno));
}

enum status bench_rdma(int argc, char **argv)
{
	struct rdma r = {};
	enum status status;

	if (argc > 1)
		return bench_fail(STATUS_USAGE, "rdma takes no \"%s\"", argv[1]);
	status = open_all(&r) ?: measure(&r);
	if (r.to.mr)
		ibv_dereg_mr(r.to.mr);
	if (r.from.mr)
		ibv_dereg_mr(r.from.mr);
	if (r.pair.context)
		rdma_pair_close(&r.pair);
	memory_put(&r.m);
	memory_put(&r.other);
	return status;
}
