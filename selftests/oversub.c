// SPDX-License-Identifier: GPL-2.0
/*
 * The CPU, the GPU and the NIC use four times more data than the GPU has memory, at the same
 * time.  Each gets the pages that it needs, none waits too long, and no write is lost: each
 * page has a counter for each of the three, and the test compares them at the end.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "odp.h"

#define SECONDS		10
#define MOST_SECONDS	200
#define PIECE		(2 * MiB)
#define LINE		64		/* bytes between the counters of a page */

enum { CPU, GPU, NIC, SIDES };
static const char *const names[] = { "CPU", "GPU", "NIC" };

struct shared {
	struct odp o;			/* provides the queue pair and the staging buffer */
	struct rdma_buf buf;
	char *mem;
	size_t pages;
	atomic_bool stop;
	atomic_ulong steps[SIDES];
};

struct side {
	struct shared *s;
	int id;
	unsigned int seed;
	unsigned int *counts;		/* expected counter of each page */
	double longest;
	const char *error;
};

static uint64_t *counter(struct shared *s, size_t page, int side)
{
	return (uint64_t *)(s->mem + page * PAGE + side * LINE);
}

/*
 * The CPU makes no more steps than the GPU.  Otherwise it takes pages back before any gather
 * there.
 */
static const char *cpu_step(struct side *side, size_t page)
{
	struct shared *s = side->s;

	while (s->steps[CPU] > s->steps[GPU] && !s->stop)
		usleep(500);
	*counter(side->s, page, CPU) += 1;
	side->counts[page]++;
	return NULL;
}

/* The GPU moves a piece of memory to itself and adds to all of its counters. */
static const char *gpu_step(struct side *side, size_t page)
{
	struct shared *s = side->s;
	size_t first = page * PAGE / PIECE * PIECE / PAGE;
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_ADD, .value = 1, .length = PIECE - GPU * LINE,
		.addr = (uintptr_t)counter(s, first, GPU),
		.pattern = HMM_DUMMY_STRIDED, .unit = 8, .stride = PAGE,
	};
	struct hmm_dummy_migrate m;

	/* Pages that are pinned or on the move may stay. */
	if (gpu_migrate(s->o.gpu, GPU_SELF, s->mem + first * PAGE, PIECE, 0, &m))
		return "migrate";
	if (gpu_command(s->o.gpu, &c))
		return errno == EBUSY ? "command: busy" : "command";
	for (size_t i = 0; i < PIECE / PAGE; i++)
		side->counts[first + i]++;
	return NULL;
}

/* The NIC adds to a counter wherever the page is, and compares the old value. */
static const char *nic_step(struct side *side, size_t page)
{
	struct shared *s = side->s;
	struct rdma_buf remote = s->buf;

	remote.addr = counter(s, page, NIC);
	if (rdma_fetch_add(&s->o.pair, s->o.from, remote, 1))
		return "fetch and add";
	if (*(uint64_t *)s->o.stage != side->counts[page])
		return "fetched a wrong value";
	side->counts[page]++;
	return NULL;
}

static void *run(void *arg)
{
	static const char *(*const steps[])(struct side *side, size_t page) = {
		cpu_step, gpu_step, nic_step,
	};
	struct side *side = arg;

	while (!atomic_load(&side->s->stop) && !side->error) {
		double begin = now_seconds(), took;

		side->error = steps[side->id](side, rand_r(&side->seed) % side->s->pages);
		took = now_seconds() - begin;
		if (took > side->longest)
			side->longest = took;
		side->s->steps[side->id]++;
	}
	return NULL;
}

TEST_LONG(four_times, 300)
{
	struct shared s = {};
	struct side sides[SIDES] = {};
	struct hmm_dummy_info info;
	pthread_t t[SIDES];
	const char *error;
	size_t length;

	error = odp_open(&s.o, PAGE);
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_EQ(0, gpu_info(s.o.gpu, &info));
	length = 4 * info.vram_bytes / PIECE * PIECE;
	s.pages = length / PAGE;
	s.mem = anon_huge(length, MADV_HUGEPAGE);
	memset(s.mem, 0, length);
	s.buf.addr = s.mem;
	s.buf.mr = ibv_reg_mr(s.o.pair.pd, s.mem, length, RDMA_ODP);
	ASSERT_NE(NULL, s.buf.mr);
	for (int i = 0; i < SIDES; i++) {
		sides[i] = (struct side) {
			.s = &s, .id = i, .seed = i + 1,
			.counts = calloc(s.pages, sizeof(unsigned int)),
		};
		pthread_create(&t[i], NULL, run, &sides[i]);
	}
	/* Run until as many pages were evicted as the device holds. */
	for (int i = 0; i < MOST_SECONDS; i++) {
		ASSERT_EQ(0, gpu_info(s.o.gpu, &info));
		if (i >= SECONDS && info.evicted > info.vram_bytes / PAGE)
			break;
		sleep(1);
		if (i % 5 == 4)
			TH_LOG("%d s: CPU %lu, GPU %lu, NIC %lu", i + 1, s.steps[CPU],
			       s.steps[GPU], s.steps[NIC]);
	}
	atomic_store(&s.stop, true);
	for (int i = 0; i < SIDES; i++) {
		pthread_join(t[i], NULL);
		EXPECT_EQ(NULL, sides[i].error) TH_LOG("%s: %s", names[i], sides[i].error);
		EXPECT_LT(20, s.steps[i]) TH_LOG("%s", names[i]);
		TH_LOG("%s: %lu steps, the longest %.2f s", names[i], s.steps[i],
		       sides[i].longest);
	}
	ASSERT_EQ(0, gpu_info(s.o.gpu, &info));
	TH_LOG("%lld pages went to the device, %llu were evicted, %ld are there",
	       gpu_counter(0, "to_device"), (unsigned long long)info.evicted,
	       pages_on_device(0, s.mem, length));
	EXPECT_LT(info.vram_bytes / PAGE, info.evicted);
	for (size_t page = 0; page < s.pages; page++) {
		for (int i = 0; i < SIDES; i++) {
			ASSERT_EQ(sides[i].counts[page], *counter(&s, page, i)) {
				TH_LOG("%s, page %zu", names[i], page);
			}
		}
	}
	ibv_dereg_mr(s.buf.mr);
	munmap(s.mem, length);
	error = odp_close(&s.o);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

TEST_HARNESS_MAIN
