// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU's edu makes the copies for migrations of GPU 0.  So a bus master that this project did not
 * make uses the DMA addresses of the migration engine, those of RAM and those of another GPU's
 * memory.  Needs two GPUs and edu, in any topology.  Needs race.ko (mm/hmm_p2p/tests/race.c).
 */
#include "race.h"
#include "uffd.h"

#define NR	3			/* a page takes edu 400 ms, in pieces of half a page */
#define LEN	(NR * PAGE)
#define HUGE	(2 * MiB)
#define EDU_COPIES "/sys/module/hmm_dummy/parameters/edu_copies"

FIXTURE(dma_copy) {
	int gpu[2];
	char *p;			/* NR pages with a pattern, and one that is a hole */
	char address[32];		/* of GPU 0 */
};

static int rebind(const char *address)
{
	return gpu_driver("unbind", address) ?: gpu_driver("bind", address);
}

static long long copy_file(const char *name)
{
	long long value = -1;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/hmm_dummy0/%s", name);
	f = fopen(path, "r");
	if (f && fscanf(f, "%lld", &value) != 1)
		value = -1;
	if (f)
		fclose(f);
	return value;
}

static int copies_fail_at(const char *piece)
{
	return write_file("/sys/kernel/debug/hmm_dummy0/copy_fails", piece);
}

/* Pages that are mapped for a copy now. */
static long long mapped_now(void)
{
	return gpu_counter(0, "dma_mapped") - gpu_counter(0, "dma_unmapped");
}

FIXTURE_SETUP(dma_copy)
{
	ASSERT_EQ(0, gpu_bus_address(0, self->address, sizeof(self->address)));
	ASSERT_EQ(0, write_file(EDU_COPIES, "Y"));
	ASSERT_EQ(0, rebind(self->address));
	ASSERT_EQ(0, write_file(EDU_COPIES, "N"));
	for (int i = 0; i < 2; i++) {
		self->gpu[i] = gpu_open(i);
		ASSERT_LE(0, self->gpu[i]);
	}
	ASSERT_EQ(0, copy_file("copied"));
	ASSERT_EQ(0, gpu_counter(0, "dma_mapped"));
	/* All of it goes in one batch. */
	self->p = anon_huge(HUGE, MADV_NOHUGEPAGE);
	fill_pattern(self->p, LEN, 1);
}

FIXTURE_TEARDOWN(dma_copy)
{
	munmap(self->p, HUGE);
	for (int i = 0; i < 2; i++) {
		const char *leak = gpu_leak(i, self->gpu[i]);

		EXPECT_EQ(NULL, leak) TH_LOG("GPU %d: %s", i, leak);
		close(self->gpu[i]);
	}
	EXPECT_EQ(0, mapped_now());
	/* It copies by itself again. */
	EXPECT_EQ(0, rebind(self->address));
	EXPECT_EQ(-1, copy_file("copied"));
}

/* What GPU 0 reads in its own memory, and all of it is there. */
static bool is_right_on_gpu(int gpu, char *p)
{
	unsigned int crc, right;
	char *q = anon(LEN);

	fill_pattern(q, LEN, 1);
	right = crc32c(q, LEN);
	munmap(q, LEN);
	return pages_on_gpu(0, p, LEN) == NR && !gpu_crc32c(gpu, p, LEN, &crc) && crc == right;
}

TEST_F_TIMEOUT(dma_copy, to_device_and_to_ram, 120)
{
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN + PAGE));
	EXPECT_EQ(NR + 1, pages_on_gpu(0, self->p, LEN + PAGE));
	EXPECT_EQ(LEN, copy_file("copied"));
	/* A hole has nothing to map. */
	EXPECT_EQ(NR, gpu_counter(0, "dma_mapped"));
	EXPECT_EQ(0, mapped_now());
	EXPECT_TRUE(is_right_on_gpu(self->gpu[0], self->p));

	/* By request, and by faults. */
	ASSERT_EQ(0, gpu_to_ram(self->gpu[0], self->p, PAGE));
	EXPECT_EQ(NR, pages_on_gpu(0, self->p, LEN + PAGE));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
	EXPECT_EQ(0, self->p[LEN]);
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN + PAGE));
	EXPECT_EQ(2 * LEN + PAGE, copy_file("copied"));
	EXPECT_EQ(2 * NR + 1, gpu_counter(0, "dma_mapped"));
	EXPECT_EQ(0, mapped_now());
}

/* From the other GPU's memory over the bus, and not by way of RAM. */
TEST_F_TIMEOUT(dma_copy, from_peer, 120)
{
	long long direct = gpu_counter(0, "from_peer"), to_ram = gpu_counter(1, "to_ram");
	unsigned int crc;

	ASSERT_EQ(0, gpu_to_device(self->gpu[1], self->p, LEN));
	EXPECT_EQ(0, copy_file("copied"));
	/* No window is opened for a copy: a small BAR shows what peers have asked for. */
	ASSERT_EQ(0, gpu_crc32c(self->gpu[0], self->p, LEN, &crc));
	ASSERT_EQ(NR, pages_on_gpu(1, self->p, LEN));
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	EXPECT_EQ(direct + NR, gpu_counter(0, "from_peer"));
	EXPECT_EQ(to_ram, gpu_counter(1, "to_ram"));
	EXPECT_EQ(LEN, copy_file("copied"));
	EXPECT_EQ(NR, gpu_counter(0, "dma_mapped"));
	EXPECT_EQ(0, mapped_now());
	EXPECT_TRUE(is_right_on_gpu(self->gpu[0], self->p));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
}

/* A copy fails in the middle, in each direction: the pages stay where they are, unharmed. */
TEST_F_TIMEOUT(dma_copy, fails, 120)
{
	long long copied;

	ASSERT_EQ(0, copies_fail_at("3"));
	EXPECT_EQ(-1, gpu_to_device(self->gpu[0], self->p, LEN));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(PAGE, copy_file("copied"));
	EXPECT_EQ(NR, gpu_counter(0, "dma_mapped"));
	EXPECT_EQ(0, mapped_now());
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));

	ASSERT_EQ(0, copies_fail_at("0"));
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	copied = copy_file("copied");
	ASSERT_EQ(0, copies_fail_at("2"));
	EXPECT_EQ(-1, gpu_to_ram(self->gpu[0], self->p, LEN));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(copied + PAGE / 2, copy_file("copied"));
	EXPECT_EQ(0, mapped_now());
	ASSERT_EQ(0, copies_fail_at("0"));
	EXPECT_TRUE(is_right_on_gpu(self->gpu[0], self->p));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
}

struct mover {
	pthread_t thread;
	int gpu;
	char *p;
	size_t length;
	int error;
};

static void *moves(void *arg)
{
	struct mover *m = arg;

	m->error = gpu_to_device(m->gpu, m->p, m->length) ? errno : 0;
	return NULL;
}

/* Whether a copy of what @m moves is under way: one piece is done, and others are not. */
static bool move_is_under_way(struct mover *m)
{
	for (int i = 0; i < 60000 && copy_file("copied") <= 0; i++)
		usleep(1000);
	return copy_file("copied") < m->length && mapped_now() == m->length / PAGE;
}

/* edu works on commands of its own meanwhile: what is in its buffer for them stays theirs. */
TEST_F_TIMEOUT(dma_copy, beside_commands, 240)
{
	struct mover m = { .gpu = self->gpu[0], .p = self->p, .length = 2 * LEN };
	char *q = anon(2 * PAGE);
	int edu = edu_open(NULL);
	unsigned int met = 0;

	ASSERT_LE(0, edu);
	fill_pattern(q, PAGE, 2);
	fill_pattern(self->p, m.length, 1);
	/* What edu needs to begin with waits for mmap_lock, which a migration holds. */
	ASSERT_EQ(0, gpu_copy(edu, q + PAGE, q, 512));
	ASSERT_EQ(0, pthread_create(&m.thread, NULL, moves, &m));
	ASSERT_TRUE(move_is_under_way(&m));
	do {
		memset(q + PAGE, 0, 512);
		ASSERT_EQ(0, gpu_copy(edu, q + PAGE, q, 512));
		EXPECT_EQ(0, memcmp(q, q + PAGE, 512));
		met += copy_file("copied") < m.length;
	} while (copy_file("copied") < m.length);
	pthread_join(m.thread, NULL);
	TH_LOG("%u commands in the middle of a copy", met);
	EXPECT_EQ(0, m.error);
	EXPECT_LT(0, met);
	EXPECT_EQ(m.length / PAGE, pages_on_gpu(0, self->p, m.length));
	EXPECT_EQ(-1, check_pattern(self->p, m.length, 1));
	munmap(q, 2 * PAGE);
	close(edu);
}

/* The GPU goes in the middle of a copy: that ends, and edu brings the pages back to RAM. */
TEST_F_TIMEOUT(dma_copy, gpu_goes, 240)
{
	struct mover m = { .gpu = self->gpu[0], .p = self->p, .length = LEN };
	struct unbinding unbinding;

	ASSERT_EQ(0, pthread_create(&m.thread, NULL, moves, &m));
	ASSERT_TRUE(move_is_under_way(&m));
	ASSERT_EQ(0, unbinding_begin(&unbinding, "hmm_dummy", 0));
	/* The device stays for as long as its file is open, and its name with it. */
	pthread_join(m.thread, NULL);
	close(self->gpu[0]);
	EXPECT_TRUE(unbinding_ended(&unbinding));
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
	EXPECT_EQ(0, m.error) TH_LOG("it had begun: error %d", m.error);
	EXPECT_EQ(0, unbinding_undo(&unbinding));
	self->gpu[0] = gpu_open(0);
	ASSERT_LE(0, self->gpu[0]);
}

/* The device dies in the middle of a copy. */
TEST_F_TIMEOUT(dma_copy, gpu_dies, 240)
{
	struct mover m = { .gpu = self->gpu[0], .p = self->p, .length = LEN };

	ASSERT_EQ(0, pthread_create(&m.thread, NULL, moves, &m));
	ASSERT_TRUE(move_is_under_way(&m));
	ASSERT_EQ(0, gpu_control(0, "dead"));
	pthread_join(m.thread, NULL);
	EXPECT_EQ(EIO, m.error);
	EXPECT_GT(LEN, copy_file("copied"));
	EXPECT_EQ(0, mapped_now());
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
	close(self->gpu[0]);
	EXPECT_EQ(0, rebind(self->address));
	self->gpu[0] = gpu_open(0);
	ASSERT_LE(0, self->gpu[0]);
}

/* The PCI address of edu, which is bound.  0, or -1. */
static int edu_bus_address(char *edu, size_t size)
{
	char path[128], driver[256] = "";

	for (unsigned int n = 2; n < 8; n++) {
		if (gpu_bus_address(n, edu, size))
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", edu);
		if (readlink(path, driver, sizeof(driver) - 1) > 0 && strstr(driver, "_edu"))
			return 0;
	}
	return -1;
}

#define EDU_DRIVER	"/sys/bus/pci/drivers/hmm_dummy_edu/"
#define GPU_DRIVER	"/sys/bus/pci/drivers/hmm_dummy/"
#define LINGER_US	20000
#define MEETINGS	5

/* Return: NULL if the GPU was bound, also if it is not any more. */
static void *binds_gpu(void *address)
{
	return gpu_driver("bind", address) ? address : NULL;
}

static long long max_us(long long a, long long b)
{
	return a > b ? a : b;
}

static long long min_us(long long a, long long b)
{
	return a < b ? a : b;
}

/* How long it takes from a "bind" until the GPU looks for edu, in microseconds; or -1. */
static long long measure_bind(char *address)
{
	long long us = -1;
	pthread_t thread;
	double begin;

	if (write_file(PAIR, "hmm_dummy_test_engine_desc 1 hmm_dummy_edu_remove"))
		return -1;
	begin = now_seconds();
	if (pthread_create(&thread, NULL, binds_gpu, address))
		return -1;
	for (int i = 0; i < 60000 && us < 0; i++) {
		usleep(500);
		if (pair_lingered())
			us = (now_seconds() - begin) * 1e6;
	}
	pthread_join(thread, NULL);
	return gpu_driver("unbind", address) ? -1 : us;
}

/*
 * The bus master goes while the GPU comes.  race.ko makes edu linger when the driver core has
 * unbound its consumers.  A GPU that is there at the end has a copier only if edu is there.  Each
 * round that misses says in which direction, since no two binds take the same time.  The step grows
 * while the direction stays, because other load on the machine changes that time for long.
 */
TEST_F_TIMEOUT(dma_copy, bind_beside_unbind, 480)
{
	unsigned long lingered, met = 0;
	char edu[32], edu_bound[128], gpu_bound[128];
	bool late, was_late = false;
	double limit = now_seconds() + 360;
	long long usual, us, step;
	pthread_t thread;
	void *refused;

	ASSERT_EQ(0, edu_bus_address(edu, sizeof(edu)));
	snprintf(edu_bound, sizeof(edu_bound), EDU_DRIVER "%s", edu);
	snprintf(gpu_bound, sizeof(gpu_bound), GPU_DRIVER "%s", self->address);
	close(self->gpu[0]);
	ASSERT_EQ(0, gpu_driver("unbind", self->address));
	ASSERT_EQ(0, write_file(EDU_COPIES, "Y"));
	usual = measure_bind(self->address);
	ASSERT_LE(0, usual);
	ASSERT_EQ(0, write_file(PAIR, "hmm_dummy_edu_remove 20 hmm_dummy_test_engine_desc"));
	us = usual;
	step = usual / 4;
	while (met < MEETINGS && now_seconds() < limit) {
		ASSERT_EQ(0, pthread_create(&thread, NULL, binds_gpu, self->address));
		usleep(us);
		ASSERT_EQ(0, write_file(EDU_DRIVER "unbind", edu));
		pthread_join(thread, &refused);
		ASSERT_NE(0, access(edu_bound, F_OK));
		ASSERT_EQ(-1, copy_file("copied"));
		/* If the GPU was bound and has gone with edu, edu came too late, else too early. */
		late = access(gpu_bound, F_OK);
		if (!refused) {
			step = late == was_late ? min_us(2 * step, usual / 4) :
						  max_us(step / 2, LINGER_US / 4);
			us = max_us(us + (late ? -step : step), 0);
			was_late = late;
		}
		gpu_driver("unbind", self->address);
		ASSERT_EQ(0, write_file(EDU_DRIVER "bind", edu));
		ASSERT_EQ(0, pair_read(&lingered, &met));
	}
	EXPECT_EQ(0, write_file(PAIR, "off"));
	TH_LOG("%lld us from bind to edu, they met %lu times", usual, met);
	EXPECT_LE(MEETINGS, met);
	/* Each gets the name again that it had. */
	ASSERT_EQ(0, write_file(EDU_DRIVER "unbind", edu));
	ASSERT_EQ(0, write_file(EDU_COPIES, "N"));
	ASSERT_EQ(0, gpu_driver("bind", self->address));
	ASSERT_EQ(0, write_file(EDU_DRIVER "bind", edu));
	self->gpu[0] = gpu_open(0);
	ASSERT_LE(0, self->gpu[0]);
}

/* The bus master goes: the GPU that it copies for has to go first, and takes nothing along. */
TEST_F_TIMEOUT(dma_copy, edu_goes, 240)
{
	char edu[32];

	ASSERT_EQ(0, edu_bus_address(edu, sizeof(edu)));
	ASSERT_EQ(0, gpu_to_device(self->gpu[0], self->p, LEN));
	close(self->gpu[0]);
	ASSERT_EQ(0, write_file(EDU_DRIVER "unbind", edu));
	EXPECT_EQ(0, pages_on_device(0, self->p, LEN));
	EXPECT_EQ(-1, check_pattern(self->p, LEN, 1));
	EXPECT_EQ(-1, gpu_open(0));
	/* Each gets the name again that it had. */
	ASSERT_EQ(0, gpu_driver("bind", self->address));
	self->gpu[0] = gpu_open(0);
	ASSERT_LE(0, self->gpu[0]);
	EXPECT_EQ(-1, copy_file("copied"));
	ASSERT_EQ(0, write_file(EDU_DRIVER "bind", edu));
}

TEST_HARNESS_MAIN
