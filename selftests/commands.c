// SPDX-License-Identifier: GPL-2.0
/*
 * Every command, on memory in RAM, on the device, on another device, and on a mix of them. The
 * CPU computes what each command should do.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "race.h"

#define LEN	(2 * MiB + MiB / 4)

FIXTURE(commands) {
	int gpu[2];
	char *p, *q, *want;
};

FIXTURE_VARIANT(commands) {
	int place;		/* bit 0: some pages are on GPU 0; bit 1: some are on GPU 1 */
	bool huge;
};
FIXTURE_VARIANT_ADD(commands, ram) { .place = 0 };
FIXTURE_VARIANT_ADD(commands, ram_huge) { .place = 0, .huge = true };
FIXTURE_VARIANT_ADD(commands, own) { .place = 1 };
FIXTURE_VARIANT_ADD(commands, own_huge) { .place = 1, .huge = true };
FIXTURE_VARIANT_ADD(commands, peer) { .place = 2 };
FIXTURE_VARIANT_ADD(commands, peer_huge) { .place = 2, .huge = true };
FIXTURE_VARIANT_ADD(commands, mix) { .place = 3 };

/*
 * Fill memory with a pattern and place it.  Neighbouring pieces of a mix are in different
 * places.
 */
static void place(struct __test_metadata *_metadata, FIXTURE_DATA(commands) *self,
		  int where, char *p, unsigned int seed)
{
	size_t piece = where == 3 ? 21 * PAGE : LEN;
	size_t n = 0;

	fill_pattern(p, LEN, seed);
	for (size_t at = 0; at < LEN; at += piece, n++) {
		size_t length = LEN - at < piece ? LEN - at : piece;

		if (where == 3 && n % 3 == 2)
			continue;
		if (where & 1 && (where != 3 || n % 3 == 0)) {
			ASSERT_EQ(0, gpu_to_device(self->gpu[0], p + at, length));
		} else if (where & 2) {
			ASSERT_EQ(0, gpu_to_device(self->gpu[1], p + at, length));
		}
	}
}

FIXTURE_SETUP(commands)
{
	int advice = variant->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;

	for (int i = 0; i < 2; i++) {
		self->gpu[i] = gpu_open(i);
		ASSERT_LE(0, self->gpu[i]);
	}
	self->p = anon_huge(LEN, advice);
	self->q = anon_huge(LEN, advice);
	self->want = malloc(LEN);
	place(_metadata, self, variant->place, self->p, 1);
	place(_metadata, self, variant->place, self->q, 2);
	fill_pattern(self->want, LEN, 1);
}

FIXTURE_TEARDOWN(commands)
{
	munmap(self->p, LEN);
	munmap(self->q, LEN);
	free(self->want);
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, self->gpu[i]);

		EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
		close(self->gpu[i]);
	}
}

#define COMMAND(name, ...) \
	struct hmm_dummy_command name = { .addr = (uintptr_t)self->p, ##__VA_ARGS__ }

TEST_F(commands, fill)
{
	COMMAND(c, .op = HMM_DUMMY_OP_FILL, .length = LEN - 2000, .value = 0x5a);

	c.addr += 1001;
	ASSERT_EQ(0, gpu_command(self->gpu[0], &c));
	memset(self->want + 1001, 0x5a, LEN - 2000);
	EXPECT_EQ(0, memcmp(self->p, self->want, LEN));
}

TEST_F(commands, copy)
{
	COMMAND(c, .op = HMM_DUMMY_OP_COPY, .length = LEN - 9000,
		.src = (uintptr_t)self->q + 4097);

	c.addr += 13;
	ASSERT_EQ(0, gpu_command(self->gpu[0], &c));
	for (size_t i = 0; i < LEN - 9000; i++)
		self->want[i + 13] = pattern(i + 4097, 2);
	EXPECT_EQ(0, memcmp(self->p, self->want, LEN));
}

/* The copy's source and destination are in one buffer, one behind the other. */
TEST_F(commands, copy_within)
{
	COMMAND(c, .op = HMM_DUMMY_OP_COPY, .length = 300000,
		.src = (uintptr_t)self->p + 4097);

	c.addr += MiB + 13;
	ASSERT_EQ(0, gpu_command(self->gpu[0], &c));
	for (size_t i = 0; i < 300000; i++)
		self->want[i + MiB + 13] = pattern(i + 4097, 1);
	EXPECT_EQ(0, memcmp(self->p, self->want, LEN));
}

#define COPIES	20

/* A thread that gives a device the same command a number of times. */
struct repeater {
	int gpu;
	int rounds;
	struct hmm_dummy_command c;
	int error;
};

static void *repeats(void *arg)
{
	struct repeater *r = arg;

	for (int n = 0; n < r->rounds && !r->error; n++)
		r->error = gpu_command(r->gpu, &r->c);
	return NULL;
}

/* Two queues of one device copy two buffers in opposite directions.  Neither waits for ever. */
TEST_F(commands, copy_crosswise)
{
	struct repeater two[2];
	pthread_t t[2];

	ASSERT_EQ(0, gpu_copy(self->gpu[0], self->q, self->p, LEN));
	for (int i = 0; i < 2; i++) {
		two[i] = (struct repeater) {
			.gpu = self->gpu[0], .rounds = COPIES,
			.c = {
				.op = HMM_DUMMY_OP_COPY, .length = LEN, .queue = i,
				.addr = (uintptr_t)(i ? self->p : self->q),
				.src = (uintptr_t)(i ? self->q : self->p),
			},
		};
		pthread_create(&t[i], NULL, repeats, &two[i]);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], NULL);
		EXPECT_EQ(0, two[i].error);
	}
	EXPECT_EQ(0, memcmp(self->p, self->want, LEN));
	EXPECT_EQ(0, memcmp(self->q, self->want, LEN));
}

TEST_F(commands, compare)
{
	COMMAND(c, .op = HMM_DUMMY_OP_COMPARE, .length = LEN,
		.src = (uintptr_t)self->q);
	size_t first = 2 * MiB + 12345;

	ASSERT_EQ(0, gpu_copy(self->gpu[0], self->q, self->p, LEN));
	ASSERT_EQ(0, gpu_command(self->gpu[0], &c));
	EXPECT_EQ(LEN, c.value);
	self->q[first] ^= 1;
	self->q[first + 5000] ^= 1;
	ASSERT_EQ(0, gpu_command(self->gpu[0], &c));
	EXPECT_EQ(first, c.value);
	c.value = 0;
	c.addr++;
	c.length--;
	ASSERT_EQ(0, gpu_command(self->gpu[0], &c));
	EXPECT_GT(4, c.value);
}

TEST_F(commands, add)
{
	COMMAND(c, .op = HMM_DUMMY_OP_ADD, .length = LEN - 16, .value = 0x100000001ULL);
	uint64_t *w = (uint64_t *)self->want;

	c.addr += 8;
	ASSERT_EQ(0, gpu_command(self->gpu[0], &c));
	for (size_t i = 1; i < LEN / 8 - 1; i++)
		w[i] += 0x100000001ULL;
	EXPECT_EQ(0, memcmp(self->p, self->want, LEN));
}

/* Units at a stride; the bytes between them stay as they are. */
TEST_F(commands, strided)
{
	COMMAND(c, .op = HMM_DUMMY_OP_FILL, .length = LEN - 5, .value = 0xa5,
		.pattern = HMM_DUMMY_STRIDED, .unit = 100, .stride = 4999);

	c.addr += 3;
	ASSERT_EQ(0, gpu_command(self->gpu[0], &c));
	for (size_t at = 0; at + 100 <= LEN - 5; at += 4999)
		memset(self->want + 3 + at, 0xa5, 100);
	EXPECT_EQ(0, memcmp(self->p, self->want, LEN));
}

/* Each unit is visited once, in any order.  A second visit would show in the result. */
TEST_F(commands, random)
{
	COMMAND(c, .op = HMM_DUMMY_OP_ADD, .length = 40000 * 24, .value = 7,
		.pattern = HMM_DUMMY_RANDOM, .unit = 24, .seed = 42);
	uint64_t *w = (uint64_t *)self->want;

	ASSERT_EQ(0, gpu_command(self->gpu[0], &c));
	for (size_t i = 0; i < 40000 * 3; i++)
		w[i] += 7;
	EXPECT_EQ(0, memcmp(self->p, self->want, LEN));
}

#define ADDS		20	/* by each device, to each counter */
#define CPU_ADDS	100	/* by the CPU, to all counters together */
#define COUNTERS	16
/* one counter a page */
#define COUNTER(p, i)	((uint64_t *)((p) + (i) * PAGE))

/* Two devices and the CPU add to the same counters, and no addition is lost. */
TEST_F_TIMEOUT(commands, atomic_add, 120)
{
	struct repeater a[2];
	pthread_t t[2];

	for (int i = 0; i < COUNTERS; i++)
		*COUNTER(self->p, i) = 0;
	place(_metadata, self, variant->place, self->p, 0);
	for (int i = 0; i < COUNTERS; i++)
		*COUNTER(self->p, i) = 0;
	if (variant->place & 1) {
		ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	}
	for (int i = 0; i < 2; i++) {
		a[i] = (struct repeater) {
			.gpu = self->gpu[i], .rounds = ADDS,
			.c = {
				.op = HMM_DUMMY_OP_ATOMIC_ADD, .addr = (uintptr_t)self->p,
				.length = COUNTERS * PAGE, .value = 1,
				.pattern = HMM_DUMMY_STRIDED, .unit = 8, .stride = PAGE,
			},
		};
		pthread_create(&t[i], NULL, repeats, &a[i]);
	}
	for (int r = 0; r < CPU_ADDS; r++) {
		__atomic_fetch_add(COUNTER(self->p, r % COUNTERS), 1, __ATOMIC_SEQ_CST);
		usleep(1000);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], NULL);
		EXPECT_EQ(0, a[i].error);
	}
	for (int i = 0; i < COUNTERS; i++) {
		EXPECT_EQ(2 * ADDS + CPU_ADDS / COUNTERS + (i < CPU_ADDS % COUNTERS),
			  *COUNTER(self->p, i));
	}
}

/* Migration, as a command among others. */
TEST_F(commands, migrate)
{
	COMMAND(to, .op = HMM_DUMMY_OP_TO_DEVICE, .length = LEN);
	COMMAND(back, .op = HMM_DUMMY_OP_TO_RAM, .length = LEN);

	ASSERT_EQ(0, gpu_command(self->gpu[0], &to));
	EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->p, LEN));
	ASSERT_EQ(0, gpu_command(self->gpu[0], &back));
	EXPECT_EQ(LEN / PAGE, back.value);
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(0, memcmp(self->p, self->want, LEN));
}

#define ENOUGH	10	/* meetings */

/* A thread that changes a byte for a moment, again and again. */
struct flicker {
	volatile char *p;
	atomic_bool stop;
};

static void *flickers(void *arg)
{
	struct flicker *f = arg;

	while (!f->stop) {
		*f->p ^= 1;
		usleep(200);
		*f->p ^= 1;
		usleep(200);
	}
	return NULL;
}

FIXTURE(compare_ends) { int unused; };
FIXTURE_SETUP(compare_ends) { }

/* Release a task that lingers, also if the test has ended early. */
FIXTURE_TEARDOWN(compare_ends)
{
	EXPECT_EQ(0, write_file(PAIR, "off"));
}

/*
 * A comparison sees a difference that is gone when the driver searches for its position.  The
 * search ends where the comparison ends, and not behind it.
 */
TEST_F_TIMEOUT(compare_ends, run, 240)
{
	size_t length = 4 * PAGE - 100;
	/* In two ranges of the device page table: otherwise the driver compares with a copy. */
	char *p = anon_huge(2 * MiB, MADV_NOHUGEPAGE), *q = anon_huge(2 * MiB, MADV_NOHUGEPAGE);
	struct flicker f = { .p = p + length - 1 };
	double begin = now_seconds();
	int gpu = gpu_open(0);
	bool wrong = false;
	long met = 0;
	pthread_t t;

	ASSERT_LE(0, gpu);
	fill_pattern(p, 5 * PAGE, 1);
	fill_pattern(q, 5 * PAGE, 1);
	/* A search beyond the end would find this difference. */
	for (size_t i = length + 50; i < 5 * PAGE; i++)
		p[i] ^= 0xff;
	ASSERT_EQ(0, write_file(PAIR, "hmm_dummy_first_difference 5 hmm_dummy_command"));
	ASSERT_EQ(0, pthread_create(&t, NULL, flickers, &f));
	while (met < ENOUGH && !wrong && now_seconds() - begin < 180) {
		struct hmm_dummy_command c = {
			.op = HMM_DUMMY_OP_COMPARE, .addr = (uintptr_t)p,
			.src = (uintptr_t)q, .length = length,
		};
		unsigned long before = pair_lingered();

		ASSERT_EQ(0, gpu_command(gpu, &c));
		wrong = c.value != length - 1 && c.value != length;
		EXPECT_FALSE(wrong) TH_LOG("found at %llu of %zu", c.value, length);
		/* The comparison saw a difference, and the search found none. */
		met += pair_lingered() != before && c.value == length;
	}
	f.stop = true;
	pthread_join(t, NULL);
	TH_LOG("a difference was gone %ld times", met);
	EXPECT_LE(ENOUGH, met);
	munmap(p, 2 * MiB);
	munmap(q, 2 * MiB);
	close(gpu);
}

TEST_HARNESS_MAIN
