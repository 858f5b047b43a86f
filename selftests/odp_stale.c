// SPDX-License-Identifier: GPL-2.0
/*
 * A fault on an ODP MR that an invalidation overtakes must leave nothing behind
 * that another user of the MR takes for valid.
 *
 *  prefetch of all of the MR        MADV_DONTNEED of the same range
 *                                   notifiers clear the entries of one MR
 *                                   after the other, which takes a while
 *  the walk finds the old pages
 *                                   the pages are freed
 *  the walk starts over             RDMA READ of the last page
 *
 * If the walk writes to the MR's live list, the kernel answers that READ from the freed
 * page, instead of with the zeros that any later access has to see.  The other MRs of
 * the range make the notifiers' part long, and so the race likely.  Kprobes count how
 * often a walk has started over; the test fails if none has.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "common.h"
#include "rdma.h"

#define LEN	(8 * MiB)
#define OTHERS	6
#define SECONDS	20

/* A piece of a fault that nothing overtakes is one walk, so both functions are counted. */
#define PROBES	"p:" TRACE_PROBES "/walk hmm_range_fault_locked\n" \
		"p:" TRACE_PROBES "/fault hmm_range_fault_unlocked_timeout"

/* How often a walk has started over, or -1 if nothing was counted. */
static long restarts(void)
{
	FILE *f = fopen(TRACE "kprobe_profile", "r");
	long walks = 0, faults = 0, hits;
	char line[256], name[64];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %ld", name, &hits) != 2)
			continue;
		if (!strcmp(name, "walk"))
			walks = hits;
		else if (!strcmp(name, "fault"))
			faults = hits;
	}
	if (f)
		fclose(f);
	return faults ? walks - faults : -1;
}

struct shared {
	struct rdma_pair pair;
	struct rdma_buf buf;
	atomic_bool stop;
	atomic_uint prefetches;		/* calls that succeeded */
};

static void *prefetch(void *arg)
{
	struct shared *s = arg;

	while (!atomic_load(&s->stop)) {
		if (!rdma_advise(&s->pair,
				 IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
				 s->buf.mr, s->buf.addr, LEN))
			atomic_fetch_add(&s->prefetches, 1);
	}
	return NULL;
}

FIXTURE(odp_stale) {
	struct shared s;
	struct ibv_mr *others[OTHERS];
	struct rdma_buf result;
};

FIXTURE_SETUP(odp_stale)
{
	struct shared *s = &self->s;
	char *mem = anon(LEN), *result = anon(PAGE);

	memset(s, 0, sizeof(*s));
	ASSERT_EQ(0, kprobes_on(PROBES));
	ASSERT_EQ(0, rdma_pair_open(&s->pair)) TH_LOG("%s", rdma_error());
	s->buf = (struct rdma_buf) {
		ibv_reg_mr(s->pair.pd, mem, LEN, RDMA_ODP), mem };
	self->result = (struct rdma_buf) {
		ibv_reg_mr(s->pair.pd, result, PAGE, RDMA_ACCESS), result };
	ASSERT_NE(NULL, s->buf.mr);
	ASSERT_NE(NULL, self->result.mr);
	for (int i = 0; i < OTHERS; i++) {
		self->others[i] = ibv_reg_mr(s->pair.pd, mem, LEN, RDMA_ODP);
		ASSERT_NE(NULL, self->others[i]);
	}
}

FIXTURE_TEARDOWN(odp_stale)
{
	kprobes_off();
	for (int i = 0; i < OTHERS; i++)
		ibv_dereg_mr(self->others[i]);
	ibv_dereg_mr(self->s.buf.mr);
	ibv_dereg_mr(self->result.mr);
	munmap(self->s.buf.addr, LEN);
	rdma_pair_close(&self->s.pair);
}

TEST_F_TIMEOUT(odp_stale, prefetch_against_dontneed, 180)
{
	struct shared *s = &self->s;
	char *mem = s->buf.addr, *result = self->result.addr;
	struct rdma_buf last = { s->buf.mr, mem + LEN - PAGE };
	double end = now_seconds() + SECONDS, limit = end + 100;
	unsigned int rounds = 0;
	pthread_t thread;
	long again;

	ASSERT_EQ(0, pthread_create(&thread, NULL, prefetch, s));
	while (now_seconds() < end ||
	       (now_seconds() < limit && (restarts() <= 0 || !atomic_load(&s->prefetches)))) {
		for (size_t i = 0; i < LEN; i += PAGE)
			*(volatile char *)(mem + i) = 0x5e;
		memset(mem + LEN - PAGE, 0x5e, PAGE);
		ASSERT_EQ(0, madvise(mem, LEN, MADV_DONTNEED));
		memset(result, 0xff, PAGE);
		ASSERT_EQ(0, rdma_read(&s->pair, self->result, last, PAGE));
		for (size_t i = 0; i < PAGE; i++) {
			ASSERT_EQ(0, result[i])
				TH_LOG("round %u: read from a freed page", rounds);
		}
		rounds++;
	}
	atomic_store(&s->stop, true);
	pthread_join(thread, NULL);
	again = restarts();
	TH_LOG("%u rounds, %u prefetches, %ld walks started over", rounds,
	       atomic_load(&s->prefetches), again);
	EXPECT_LT(0, again);
	EXPECT_LT(0, atomic_load(&s->prefetches));
}

TEST_HARNESS_MAIN
