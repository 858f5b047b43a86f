// SPDX-License-Identifier: GPL-2.0
/*
 * "load": many commands at once by io_uring.  Each command reads a page, of the GPU's own
 * memory or of a peer's.  A latency is the time from the submission of a command until its
 * completion is seen.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <liburing.h>

#include "crc32c.h"
#include "gpu.h"
#include "memory.h"

#define COMMANDS	2048
#define MOST_DEPTH	64
#define LOOKED_AT	64	/* check the result of the last commands */

static const unsigned int depths[] = { 1, 8, MOST_DEPTH };

struct load {
	struct memory m;
	int gpu[2];
	struct io_uring ring;
	uint64_t random;
	struct {
		struct hmm_dummy_command c;
		uint64_t since;
	} slots[MOST_DEPTH];
	struct hmm_dummy_command last[LOOKED_AT];
};

static void submit(struct load *w, unsigned int slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&w->ring);
	struct hmm_dummy_uring *u;

	/* The number of concurrent commands never exceeds the size of the ring. */
	if (!sqe)
		abort();
	w->slots[slot].c = (struct hmm_dummy_command) {
		.size = sizeof(w->slots[slot].c), .op = HMM_DUMMY_OP_CRC32C,
		.queue = slot % HMM_DUMMY_QUEUES, .length = PAGE,
		.addr = (uintptr_t)w->m.p + bench_random(&w->random) % (w->m.length / PAGE) * PAGE,
	};
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = w->gpu[0];
	sqe->off = HMM_DUMMY_COMMAND;
	sqe->user_data = slot;
	/* sqe->cmd, which liburing 2.3 does not have */
	u = (struct hmm_dummy_uring *)((char *)sqe + 48);
	u->ptr = (uintptr_t)&w->slots[slot].c;
	w->slots[slot].since = bench_now();
}

/* Keep @depth commands under way.  Returns microseconds for each command. */
static double run(struct load *w, unsigned int depth, struct histogram *latency)
{
	unsigned int begun = 0, done = 0, slot;
	uint64_t begin = bench_now();
	struct io_uring_cqe *cqe;
	int error = 0;

	for (; begun < depth; begun++)
		submit(w, begun);
	while (done < begun) {
		int ret = io_uring_submit_and_wait(&w->ring, 1);

		if (ret < 0 && ret != -EINTR) {
			errno = -ret;
			return bench_errno("io_uring");
		}
		while (!io_uring_peek_cqe(&w->ring, &cqe)) {
			slot = cqe->user_data;
			error = error ?: -cqe->res;
			io_uring_cqe_seen(&w->ring, cqe);
			w->last[done++ % LOOKED_AT] = w->slots[slot].c;
			if (latency)
				histogram_add(latency, bench_now() - w->slots[slot].since);
			if (begun < COMMANDS && !error) {
				submit(w, slot);
				begun++;
			}
		}
	}
	errno = error;
	return error ? bench_errno("a command") : (bench_now() - begin) / 1e3 / done;
}

static bool has_read_right(struct load *w)
{
	for (size_t i = 0; i < LOOKED_AT; i++) {
		if (crc32c((char *)(uintptr_t)w->last[i].addr, PAGE) == w->last[i].value)
			continue;
		bench_fail(STATUS_FAILED, "a GPU read wrong data");
		return false;
	}
	return true;
}

static double sample(void *arg, unsigned int variant, struct histogram *latency)
{
	int place = variant % 2;
	struct load *w = arg;
	double us;

	memory_fill(&w->m);
	if (gpu_to_device(w->gpu[place], w->m.p, w->m.length))
		return bench_errno("migration to the device");
	us = run(w, depths[variant / 2], latency);
	return us >= 0 && memory_is_on(&w->m, place) && memory_is_right(&w->m) &&
	       has_read_right(w) ? us : -1;
}

enum status bench_load(int argc, char **argv)
{
	enum { OWN_1, PEER_1, OWN_8, PEER_8, OWN_64, PEER_64 };
	struct figure f = {
		.name = "load", .what = "a GPU reads pages, N commands at once", .unit = "us",
		.variants = { "own, 1", "peer, 1", "own, 8", "peer, 8", "own, 64", "peer, 64" },
		.compare = { { PEER_1, OWN_1 }, { PEER_8, OWN_8 }, { PEER_64, OWN_64 },
			     { OWN_1, OWN_64 }, { PEER_1, PEER_64 } },
		.sample = sample, .latencies = true,
	};
	struct load w = { .random = options.seed | 1 };
	enum status status;
	int ret;

	ret = io_uring_queue_init(MOST_DEPTH, &w.ring, 0);
	if (ret)
		return bench_fail(STATUS_MISSING, "no io_uring: %s", strerror(-ret));
	f.arg = &w;
	status = devices_open(w.gpu) ?: memory_get(&w.m, options.length, false) ?:
		 bench_measure(&f);
	io_uring_queue_exit(&w.ring);
	memory_put(&w.m);
	return status;
}
