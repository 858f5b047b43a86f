// SPDX-License-Identifier: GPL-2.0
/*
 * What a memory region makes the kernel allocate, and which process pays for it: the region and
 * its list, and what mm/hmm_p2p keeps from the first page on that the region has on a device.
 *
 * Needs cgroup v2 at /sys/fs/cgroup.
 */
#include <pthread.h>
#include <sys/stat.h>

#include "common.h"
#include "rdma.h"

#define LEN	(16 * PAGE)

FIXTURE(mr_cost) {
	struct rdma_pair pair;
};

FIXTURE_SETUP(mr_cost)
{
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
}

FIXTURE_TEARDOWN(mr_cost)
{
	rdma_pair_close(&self->pair);
}

#define CGROUP	"/sys/fs/cgroup/hmm_p2p_mr_cost"

/*
 * The list of 64 GiB takes 128 MiB, and to remember which entries are aliases another 2,
 * from the first page on that is on a device: both are the process's.  Each processor has
 * up to 256 KiB in advance.
 */
TEST_F_TIMEOUT(mr_cost, paid_for, 300)
{
	static const size_t length = 64 * GiB;
	char *p = reserve(length);
	long long before, with, strange, met, after;
	int gpu = gpu_open(0);
	struct ibv_mr *mr;

	ASSERT_LE(0, gpu);
	ASSERT_TRUE(!mkdir(CGROUP, 0755) || errno == EEXIST);
	ASSERT_EQ(0, write_file(CGROUP "/cgroup.procs", "0"));
	before = number_in(CGROUP "/memory.current");
	mr = ibv_reg_mr(self->pair.pd, p, length, RDMA_ODP);
	ASSERT_NE(NULL, mr);
	with = number_in(CGROUP "/memory.current");
	fill_pattern(p, PAGE, 1);
	ASSERT_EQ(0, gpu_to_device(gpu, p, PAGE));
	strange = number_in(CGROUP "/memory.current");
	EXPECT_EQ(0, rdma_advise(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, mr, p,
				 PAGE));
	EXPECT_EQ(1, gpu_counter(0, "mapped_now"));
	met = number_in(CGROUP "/memory.current");
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	after = number_in(CGROUP "/memory.current");
	TH_LOG("%lld KiB before, %lld with the region, %lld and %lld with an alias, %lld after",
	       before >> 10, with >> 10, strange >> 10, met >> 10, after >> 10);
	EXPECT_LT(before + 127 * (long long)MiB, with);
	EXPECT_LT(strange + (long long)MiB, met);
	EXPECT_LT(after + 129 * (long long)MiB, met);
	munmap(p, length);
	close(gpu);
}

/* The traced allocations of functions with one of two prefixes. */
struct allocations {
	unsigned int charged, free_of_charge;
	unsigned long largest;
};

static struct allocations allocations_of(const char *one, const char *other)
{
	struct allocations a = {};
	FILE *f = fopen(TRACE "trace", "r");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		const char *site = strstr(line, "call_site="), *bytes = strstr(line, "bytes_req=");
		unsigned long n;

		if (!site || (strncmp(site + 10, one, strlen(one)) &&
			      strncmp(site + 10, other, strlen(other))))
			continue;
		if (strstr(line, "ACCOUNT"))
			a.charged++;
		else
			a.free_of_charge++;
		n = bytes ? strtoul(bytes + 10, NULL, 10) : 0;
		if (n > a.largest)
			a.largest = n;
	}
	if (f)
		fclose(f);
	return a;
}

static const char *const alloc_events[] = {
	"kmem/kmalloc", "percpu/percpu_alloc_percpu",
};

static int trace_allocations(bool on)
{
	char path[96], filter[48];
	int ret = 0;

	snprintf(filter, sizeof(filter), "common_pid == %d", (int)syscall(SYS_gettid));
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), TRACE "events/%s/filter", alloc_events[i]);
		ret |= write_file(path, on ? filter : "0");
		snprintf(path, sizeof(path), TRACE "events/%s/enable", alloc_events[i]);
		ret |= write_file(path, on ? "1" : "0");
	}
	return ret;
}

/*
 * A region in which there is no memory of a GPU has nothing to do with GPUs: to register it,
 * to fault its pages and to drop it takes no memory for that.
 */
TEST_F_TIMEOUT(mr_cost, nothing_without_a_gpu, 120)
{
	char *p = anon(LEN);
	struct allocations a;
	struct ibv_mr *mr;

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, trace_clear());
	ASSERT_EQ(0, trace_allocations(true));
	mr = ibv_reg_mr(self->pair.pd, p, LEN, RDMA_ODP);
	EXPECT_NE(NULL, mr);
	EXPECT_EQ(0, rdma_advise(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, mr,
				 p, LEN));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, trace_allocations(false));
	/* The region is seen. */
	a = allocations_of("ib_umem_odp_", "ib_init_umem_odp");
	EXPECT_LT(0, a.charged);
	a = allocations_of("hmm_p2p_", "pair_");
	EXPECT_EQ(0, a.charged);
	EXPECT_EQ(0, a.free_of_charge);
	munmap(p, LEN);
}

/*
 * What a process makes the kernel take in small pieces, when its NIC meets a GPU: the
 * region, its map, the array of a fault and the pair of NIC and GPU.  None of them
 * grows with what the fault is of.
 */
TEST_F_TIMEOUT(mr_cost, small_change, 120)
{
	int gpu = gpu_open(0);
	char *p = anon(4 * MiB);
	struct ibv_mr *mr, *second;
	struct allocations a;

	ASSERT_LE(0, gpu);
	fill_pattern(p, 4 * MiB, 3);
	ASSERT_EQ(0, gpu_to_device(gpu, p, 4 * MiB));
	ASSERT_EQ(0, trace_clear());
	ASSERT_EQ(0, trace_allocations(true));
	mr = ibv_reg_mr(self->pair.pd, p, 4 * MiB, RDMA_ODP);
	EXPECT_NE(NULL, mr);
	EXPECT_EQ(0, rdma_advise(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, mr, p,
				 4 * MiB));
	EXPECT_EQ(0, trace_allocations(false));
	EXPECT_EQ((long long)(4 * MiB / PAGE), gpu_counter(0, "mapped_now"));

	/* One array for the registration and one for the advice. */
	a = allocations_of("ib_umem_odp_map_dma_and_lock", "-");
	EXPECT_EQ(2, a.charged);
	EXPECT_GE(PAGE, a.largest);
	/* The region and its list as well. */
	a = allocations_of("ib_umem_odp_", "ib_init_umem_odp");
	EXPECT_EQ(4, a.charged);
	EXPECT_EQ(0, a.free_of_charge);
	/* The map, the pair, and the region's note of the pair.  No process pays for the NIC. */
	a = allocations_of("hmm_p2p_", "pair_");
	EXPECT_EQ(3, a.charged);
	EXPECT_EQ(1, a.free_of_charge);
	EXPECT_GE(PAGE, a.largest);

	/* A second region finds the pair and the NIC. */
	ASSERT_EQ(0, trace_clear());
	ASSERT_EQ(0, trace_allocations(true));
	second = ibv_reg_mr(self->pair.pd, p, 4 * MiB, RDMA_ODP);
	EXPECT_NE(NULL, second);
	EXPECT_EQ(0, rdma_advise(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, second,
				 p, 4 * MiB));
	EXPECT_EQ(0, trace_allocations(false));
	EXPECT_EQ(2 * (long long)(4 * MiB / PAGE), gpu_counter(0, "mapped_now"));
	a = allocations_of("hmm_p2p_", "pair_");
	EXPECT_EQ(2, a.charged);
	EXPECT_EQ(0, a.free_of_charge);

	EXPECT_EQ(0, ibv_dereg_mr(second));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	munmap(p, 4 * MiB);
	EXPECT_EQ(NULL, gpu_leak(0, gpu));
	close(gpu);
}

struct regions {
	struct rdma_pair *pair;
	char *p;
	size_t length;
	int failed;		/* the first step that did, or 0 */
};

#define ROUNDS	50

static void *regions_come_and_go(void *arg)
{
	struct regions *r = arg;

	for (int i = 0; i < ROUNDS && !r->failed; i++) {
		struct ibv_mr *mr = ibv_reg_mr(r->pair->pd, r->p, r->length, RDMA_ODP);

		if (!mr)
			r->failed = 1;
		else if (rdma_advise(r->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, mr, r->p,
				     r->length))
			r->failed = 2;
		if (mr && ibv_dereg_mr(mr))
			r->failed = 3;
	}
	return NULL;
}

/*
 * Regions of one process meet a GPU and go, at the same time: pairs begin, are joined and end.
 * Each entry that was mapped counts, once.
 */
TEST_F_TIMEOUT(mr_cost, regions_join_and_end, 300)
{
	static const size_t length = 4 * PAGE;
	long long mapped = gpu_counter(0, "mapped"), unmapped = gpu_counter(0, "unmapped");
	struct regions regions[4];
	pthread_t thread[4];
	int gpu = gpu_open(0);
	char line[256] = "";
	FILE *f;

	ASSERT_LE(0, gpu);
	for (int i = 0; i < 4; i++) {
		regions[i] = (struct regions) { &self->pair, anon(length), length, 0 };
		fill_pattern(regions[i].p, length, i);
		ASSERT_EQ(0, gpu_to_device(gpu, regions[i].p, length));
	}
	for (int i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, regions_come_and_go, &regions[i]));
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(0, regions[i].failed);
	EXPECT_EQ(4L * ROUNDS * (long)(length / PAGE), gpu_counter(0, "mapped") - mapped);
	EXPECT_EQ(4L * ROUNDS * (long)(length / PAGE), gpu_counter(0, "unmapped") - unmapped);
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	/* The last one ended. */
	f = fopen("/sys/kernel/debug/hmm_p2p/hmm_dummy0/pairs", "r");
	ASSERT_NE(NULL, f);
	EXPECT_EQ(NULL, fgets(line, sizeof(line), f)) TH_LOG("%s", line);
	fclose(f);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(-1, check_pattern(regions[i].p, length, i));
		munmap(regions[i].p, length);
	}
	EXPECT_EQ(NULL, gpu_leak(0, gpu));
	close(gpu);
}

TEST_HARNESS_MAIN
