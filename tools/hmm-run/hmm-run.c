// SPDX-License-Identifier: GPL-2.0
/*
 * hmm-run: the same RDMA transfers on memory in three places.
 *
 * ram   in RAM: the cost of RDMA on this machine
 * peer  on the GPU, reached in place
 * off   on the GPU with peer access off, as in stock Linux: the control
 *
 * Both ends of each transfer are malloc'd memory of this process.  For "peer" and
 * "off" both are on the GPU, so that each READ and each WRITE reads and writes GPU
 * memory.  The output is one JSON object a line for each transfer shape and place.
 * The places take turns, so that a slow moment of the machine affects all of them.
 *
 * usage: hmm-run [--rounds N] [SIZE_MIB...]
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "gpu.h"
#include "rdma.h"

#define PAGE		4096UL
#define MAX_ROUNDS	15

enum place { RAM, PEER, OFF, NR_PLACES };

static const char *const place_names[] = { "ram", "peer", "off" };

struct shape {
	size_t size;
	bool read;
	bool unaligned;
};

struct sample {
	double first, second;
	long before, after, touched;
	bool equal;
};

static struct rdma_pair pair;
static int gpu;

static void die(const char *what)
{
	fprintf(stderr, "hmm-run: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Fill memory with a pattern that depends on the page and the seed and is cheap to make. */
static void fill(unsigned char *p, size_t n, unsigned int seed)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = (i + 1) * 0x9e3779b97f4a7c15ULL ^ seed;

		memcpy(p + i, &v, n - i < 8 ? n - i : 8);
	}
}

static bool equal(const unsigned char *p, size_t n, unsigned int seed)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = (i + 1) * 0x9e3779b97f4a7c15ULL ^ seed;

		if (memcmp(p + i, &v, n - i < 8 ? n - i : 8))
			return false;
	}
	return true;
}

static bool untouched(const unsigned char *p, size_t n)
{
	while (n--)
		if (*p++ != 0xee)
			return false;
	return true;
}

struct end {
	unsigned char *mem, *data;	/* data: first byte of the transfer */
	struct rdma_buf buf;
};

static struct end make_end(size_t mapped, size_t offset)
{
	struct end e;

	e.mem = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (e.mem == MAP_FAILED)
		die("mmap");
	e.data = e.mem + offset;
	/* Programs register memory before they use it. */
	e.buf.mr = ibv_reg_mr(pair.pd, e.mem, mapped, RDMA_ODP);
	if (!e.buf.mr)
		die("ibv_reg_mr");
	e.buf.addr = e.data;
	return e;
}

static void free_end(struct end *e, size_t mapped)
{
	ibv_dereg_mr(e->buf.mr);
	munmap(e->mem, mapped);
}

static long touched_pages(const struct end *e, size_t size)
{
	uintptr_t first = (uintptr_t)e->data / PAGE;

	return ((uintptr_t)e->data + size - 1) / PAGE - first + 1;
}

static long resident(const struct end *e, size_t size)
{
	uintptr_t first = (uintptr_t)e->data & -PAGE;
	long n = pages_on_device(0, (void *)first,
				 touched_pages(e, size) * PAGE);

	if (n < 0)
		die("pagemap");
	return n;
}

static double transfer(const struct shape *s, struct end *local,
		       struct end *remote)
{
	double start = now_seconds();
	int status;

	if (s->read)
		status = rdma_read(&pair, local->buf, remote->buf, s->size);
	else
		status = rdma_write(&pair, local->buf, remote->buf, s->size);
	if (status) {
		fprintf(stderr, "hmm-run: %s: %s\n", s->read ? "READ" : "WRITE",
			status > 0 ? ibv_wc_status_str(status) : rdma_error());
		exit(1);
	}
	return now_seconds() - start;
}

static struct sample run_once(const struct shape *s, enum place place,
			      unsigned int seed)
{
	size_t mapped = s->size + 4 * PAGE;
	struct end local = make_end(mapped, s->unaligned ? PAGE + 123 : PAGE);
	struct end remote = make_end(mapped, s->unaligned ? PAGE + 2049 : PAGE);
	struct end *src = s->read ? &remote : &local;
	struct end *dst = s->read ? &local : &remote;
	struct sample r;

	memset(dst->mem, 0xee, mapped);
	fill(src->data, s->size, seed);
	if (place != RAM && (gpu_to_device(gpu, local.mem, mapped) ||
			     gpu_to_device(gpu, remote.mem, mapped)))
		die("cannot move memory to the GPU");
	if (peer_access_set(place != OFF) < 0)
		die("cannot switch peer access");

	r.touched = touched_pages(&local, s->size) +
		    touched_pages(&remote, s->size);
	r.before = resident(&local, s->size) + resident(&remote, s->size);
	r.first = transfer(s, &local, &remote);
	r.second = transfer(s, &local, &remote);
	r.after = resident(&local, s->size) + resident(&remote, s->size);

	/* The CPU compares last, because that moves everything to RAM. */
	r.equal = equal(dst->data, s->size, seed) &&
		  untouched(dst->mem, dst->data - dst->mem) &&
		  untouched(dst->data + s->size,
			    dst->mem + mapped - dst->data - s->size);
	peer_access_set(true);
	free_end(&local, mapped);
	free_end(&remote, mapped);
	return r;
}

static int by_value(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;

	return d < 0 ? -1 : d > 0;
}

static double median(double *v, int n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void run_shape(const struct shape *s, int rounds)
{
	static struct sample samples[NR_PLACES][MAX_ROUNDS];

	for (int round = 0; round < rounds; round++)
		for (int place = 0; place < NR_PLACES; place++)
			samples[place][round] = run_once(s, place, round + 1);

	for (int place = 0; place < NR_PLACES; place++) {
		double first[MAX_ROUNDS], second[MAX_ROUNDS];
		struct sample *v = samples[place];
		long before = 0, after = 0, touched = 0;
		bool all_equal = true;

		for (int i = 0; i < rounds; i++) {
			first[i] = v[i].first;
			second[i] = v[i].second;
			before += v[i].before;
			after += v[i].after;
			touched += v[i].touched;
			all_equal &= v[i].equal;
		}
		printf("{\"work\": \"client\", \"op\": \"%s\", \"size\": %zu, "
		       "\"unaligned\": %s, \"place\": \"%s\", \"rounds\": %d, "
		       "\"touched\": %ld, \"before\": %ld, \"after\": %ld, "
		       "\"bounced\": %ld, \"first_s\": %.6f, \"second_s\": %.6f, "
		       "\"equal\": %s}\n",
		       s->read ? "read" : "write", s->size,
		       s->unaligned ? "true" : "false", place_names[place],
		       rounds, touched, before, after, before - after,
		       median(first, rounds), median(second, rounds),
		       all_equal ? "true" : "false");
	}
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "rounds", required_argument, NULL, 'r' },
		{ }
	};
	int opt, rounds = 3;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'r')
			rounds = atoi(optarg);
		if (opt != 'r' || rounds < 1 || rounds > MAX_ROUNDS) {
			fprintf(stderr, "usage: hmm-run [--rounds 1..%d] SIZE_MIB...\n",
				MAX_ROUNDS);
			return 2;
		}
	}
	gpu = gpu_open(0);
	if (gpu < 0)
		die("/dev/hmm_dummy0");
	if (rdma_pair_open(&pair)) {
		fprintf(stderr, "hmm-run: %s\n", rdma_error());
		return 1;
	}
	for (; optind < argc; optind++) {
		struct shape s = { .size = strtoul(argv[optind], NULL, 10) << 20 };

		if (!s.size) {
			fprintf(stderr, "hmm-run: not a size in MiB: %s\n",
				argv[optind]);
			return 2;
		}
		for (int i = 0; i < 4; i++) {
			s.read = i & 1;
			s.unaligned = i & 2;
			fprintf(stderr, "hmm-run: %zu MiB %s, %saligned\n",
				s.size >> 20, s.read ? "READ" : "WRITE",
				s.unaligned ? "un" : "");
			run_shape(&s, rounds);
		}
	}
	rdma_pair_close(&pair);
	return 0;
}
