// SPDX-License-Identifier: GPL-2.0
/*
 * An exporter that takes its memory back again and again, two importers and the CPU work on the
 * same pages at once.  Each of them makes progress, none waits as long as two seconds, and each
 * byte is what its side wrote last.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "odp.h"

#define NPAGES	64
#define LEN	(NPAGES * PAGE)
#define SECONDS	15
#define STARVED	5.0

/* Each side writes to one of the four parts of each page. */
#define PART	1024

#define AGAIN	(-2)		/* a step that must be repeated */

struct side {
	const char *name;
	struct odp *o;
	int gpu;
	unsigned int part;
	atomic_ulong steps;
	int error;
};

static atomic_bool stop;

/* The exporter takes back the pages that have moved to RAM. */
static int exporter_step(struct side *s, unsigned long n)
{
	struct hmm_dummy_migrate out;

	if (gpu_migrate(s->gpu, GPU_SELF, s->o->mem, LEN, 0, &out))
		return -1;
	/* A step must move at least one page. */
	return out.migrated ? 0 : AGAIN;
}

/* The other GPU writes to the memory of the first one. */
static int gpu_step(struct side *s, unsigned long n)
{
	char *p = s->o->mem + n % NPAGES * PAGE + s->part * PART;

	if (!gpu_fill(s->gpu, p, PART, n / NPAGES))
		return 0;
	/*
	 * EBUSY means that the memory keeps moving.  The step is repeated; the wait must stay
	 * below two seconds.
	 */
	return errno == EBUSY ? AGAIN : -1;
}

static int nic_step(struct side *s, unsigned long n)
{
	struct rdma_buf to = s->o->to;

	to.addr = s->o->mem + n % NPAGES * PAGE + s->part * PART;
	memset(s->o->stage, n / NPAGES, PART);
	return rdma_write(&s->o->pair, s->o->from, to, PART);
}

static int cpu_step(struct side *s, unsigned long n)
{
	memset(s->o->mem + n % NPAGES * PAGE + s->part * PART, n / NPAGES, PART);
	/* Pause, so that the other sides find pages on the device. */
	if (n % 16 == 0)
		usleep(2000);
	return 0;
}

static int (*const steps[])(struct side *s, unsigned long n) = {
	cpu_step, gpu_step, nic_step, exporter_step,
};

static void *run(void *arg)
{
	struct side *s = arg;
	unsigned long n = 0;

	while (!atomic_load(&stop) && !s->error) {
		int ret = steps[s->part](s, n);

		if (ret == AGAIN)
			continue;
		s->error = ret;
		atomic_store(&s->steps, ++n);
	}
	return NULL;
}

TEST_LONG(everybody_gets_on, 240)
{
	struct side sides[4] = {
		{ .name = "CPU" }, { .name = "GPU" }, { .name = "NIC" },
		{ .name = "exporter" },
	};
	unsigned long seen[4] = {};
	long long mapped;
	double since[4], worst[4] = {}, stalled, end;
	pthread_t threads[4];
	const char *error;
	struct odp o;
	unsigned int i;

	error = odp_open(&o, LEN);
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	memset(o.mem, 0, LEN);
	mapped = gpu_counter(0, "mapped");
	for (i = 0; i < 4; i++) {
		sides[i].o = &o;
		sides[i].part = i;
		sides[i].gpu = gpu_open(i == 3 ? 0 : 1);
		ASSERT_LE(0, sides[i].gpu);
	}
	for (i = 0; i < 4; i++) {
		since[i] = now_seconds();
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, run, &sides[i]));
	}
	end = now_seconds() + SECONDS;
	while (now_seconds() < end) {
		double now = now_seconds();

		for (i = 0; i < 4; i++) {
			unsigned long n = atomic_load(&sides[i].steps);

			if (n == seen[i]) {
				if (now - since[i] > worst[i])
					worst[i] = now - since[i];
				continue;
			}
			seen[i] = n;
			since[i] = now;
		}
		usleep(10000);
		/* This task got no CPU either, so the sides did not starve at that time. */
		stalled = now_seconds() - now - 0.1;
		for (i = 0; i < 4 && stalled > 0; i++)
			since[i] += stalled;
	}
	atomic_store(&stop, true);
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		TH_LOG("%s: %lu steps, longest wait %.2f s", sides[i].name,
		       sides[i].steps, worst[i]);
		EXPECT_EQ(0, sides[i].error);
		EXPECT_LT(worst[i], STARVED);
		EXPECT_LT(0, sides[i].steps);
	}
	/* The peers have used aliases, and each part is what its side wrote last. */
	EXPECT_LT(mapped, gpu_counter(0, "mapped"));
	for (i = 0; i < 3; i++) {
		unsigned long n = sides[i].steps;

		for (size_t page = 0; page < NPAGES && n; page++) {
			unsigned long last = (n - 1) / NPAGES * NPAGES + page;
			const char *p = o.mem + page * PAGE + i * PART;

			if (last >= n)
				last -= NPAGES;
			if (n <= page)
				continue;
			for (size_t k = 0; k < PART; k++) {
				ASSERT_EQ((char)(last / NPAGES), p[k])
					TH_LOG("%s page %zu byte %zu",
					       sides[i].name, page, k);
			}
		}
	}
	for (i = 0; i < 4; i++)
		close(sides[i].gpu);
	error = odp_close(&o);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

TEST_HARNESS_MAIN
