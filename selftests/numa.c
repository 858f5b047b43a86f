// SPDX-License-Identifier: GPL-2.0
/*
 * NUMA: write access that NUMA balancing takes away and the NIC gets back in place, the node to
 * which memory returns from the device, and PAGEMAP_SCAN during the migration of a huge page
 * between nodes.  Needs a machine with two nodes (scripts/vm --numa), and cgroups with the
 * controllers cpuset and memory.
 */
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "odp.h"
#include "pagemap_scan.h"
#include "uffd.h"

#define NPAGES	64
#define DEBUG	"/sys/kernel/debug/sched/numa_balancing/"

TEST_LONG(numa_scan, 240)
{
	long long upgrades, fallbacks;
	double end = now_seconds() + 90;
	unsigned int round = 2;
	const char *error;
	struct odp o;

	ASSERT_EQ(0, access("/sys/devices/system/node/node1", F_OK));
	error = odp_open(&o, NPAGES * PAGE);
	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_TRUE(odp_place(&o, 1));
	upgrades = gpu_counter(0, "upgrades");
	fallbacks = gpu_counter(0, "fallback_read-only");
	ASSERT_EQ(0, write_file("/proc/sys/kernel/numa_balancing", "1"));
	ASSERT_EQ(0, write_file(DEBUG "scan_period_min_ms", "20"));
	ASSERT_EQ(0, write_file(DEBUG "scan_period_max_ms", "50"));
	ASSERT_EQ(0, write_file(DEBUG "scan_delay_ms", "10"));
	while (gpu_counter(0, "upgrades") == upgrades && now_seconds() < end) {
		ASSERT_EQ(IBV_WC_SUCCESS, odp_write(&o, round));
		EXPECT_EQ(NPAGES, pages_on_device(0, o.mem, o.length));
		ASSERT_EQ(-1, odp_check(&o, round));
		round++;
	}
	EXPECT_EQ(0, write_file("/proc/sys/kernel/numa_balancing", "0"));
	TH_LOG("%u rounds until the first scan", round - 2);
	EXPECT_LT(upgrades, gpu_counter(0, "upgrades"));
	EXPECT_EQ(fallbacks, gpu_counter(0, "fallback_read-only"));
	error = odp_close(&o);
	EXPECT_EQ(NULL, error) TH_LOG("%s", error);
}

#define CGROUP	"/sys/fs/cgroup/"
#define NODE	"/sys/devices/system/node/node%d/"
#define OWN	(4 * MiB)

/* The node of a page of the caller's, or -errno. */
static int node_of(void *page)
{
	int node = -EINVAL;

	if (syscall(SYS_move_pages, 0, 1UL, &page, NULL, &node, 0))
		return -errno;
	return node;
}

/* The node that all pages are on, -1 if they are on several nodes, or -errno. */
static int node_of_all(char *p, size_t length)
{
	int node = node_of(p);

	for (size_t i = PAGE; i < length; i += PAGE)
		if (node_of(p + i) != node)
			return -1;
	return node;
}

/* Restrict the caller and its children to the memory of one node. */
static int confine(int node)
{
	char path[64], mems[8];

	snprintf(path, sizeof(path), CGROUP "node%d", node);
	if (mkdir(path, 0755) && errno != EEXIST)
		return -1;
	snprintf(path, sizeof(path), CGROUP "node%d/cpuset.mems", node);
	snprintf(mems, sizeof(mems), "%d", node);
	if (write_file(path, mems))
		return -1;
	snprintf(path, sizeof(path), CGROUP "node%d/cgroup.procs", node);
	return write_file(path, "0");
}

/* Reserve @pages huge pages of a node, or as many as there are. */
static int fill_node(int node, const char *pages)
{
	char path[128];

	snprintf(path, sizeof(path), NODE "hugepages/hugepages-2048kB/nr_hugepages", node);
	return write_file(path, pages);
}

/* Use all of the device's memory, so that all other memory is evicted.  This needs no RAM. */
static int take_all(int gpu)
{
	struct hmm_dummy_info info;
	char *hole;
	int ret;

	if (gpu_info(gpu, &info))
		return -1;
	hole = anon_huge(info.vram_bytes, MADV_NOHUGEPAGE);
	ret = gpu_to_device(gpu, hole, info.vram_bytes);
	munmap(hole, info.vram_bytes);
	return ret;
}

struct owner {
	int gpu;
	char *p;
	int home;	/* the node to which memory leaves the device */
	int other;	/* the other node */
};

/* Returns NULL, or what failed. */
static const char *owner_open(struct owner *o)
{
	o->gpu = gpu_open(0);
	if (o->gpu < 0)
		return "no GPU";
	o->p = anon_huge(OWN, MADV_NOHUGEPAGE);
	fill_pattern(o->p, OWN, 1);
	if (gpu_to_device(o->gpu, o->p, OWN) || take_all(o->gpu))
		return "cannot evict";
	o->home = node_of_all(o->p, OWN);
	if (o->home < 0)
		return "evicted, but not to one node";
	o->other = !o->home;
	return gpu_to_device(o->gpu, o->p, OWN) ? "cannot move" : NULL;
}

/* Release the memory.  Returns whether its data was right. */
static bool owner_close(struct owner *o)
{
	bool right = check_pattern(o->p, OWN, 1) == -1;

	munmap(o->p, OWN);
	close(o->gpu);
	return right;
}

/* Run @what in a process that is restricted to the other node.  Returns 0 or how it ended. */
static int done_elsewhere(struct owner *o, int (*what)(struct owner *o))
{
	pid_t child = fork();

	if (!child)
		_exit(confine(o->other) ? 1 : what(o) ? 2 : 0);
	return wait_child(child);
}

static int takes_all(struct owner *o)
{
	return take_all(o->gpu);
}

static int unbinds(struct owner *o)
{
	char address[32];

	return gpu_bus_address(0, address, sizeof(address)) ?: gpu_driver("unbind", address);
}

/*
 * A process that a cpuset restricts to one node evicts the memory of another process.  That
 * memory goes to its owner's node, even if the evicting process's node is full.
 */
TEST_LONG(evicted_beyond_the_cpuset, 240)
{
	struct owner o;
	const char *error = owner_open(&o);

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	/*
	 * The parent fills the node, because the OOM killer might kill a process that is
	 * restricted to it.
	 */
	ASSERT_EQ(0, fill_node(o.other, "100000"));
	EXPECT_EQ(0, done_elsewhere(&o, takes_all));
	EXPECT_EQ(0, fill_node(o.other, "0"));
	EXPECT_EQ(0, pages_on_device(0, o.p, OWN));
	EXPECT_EQ(o.home, node_of_all(o.p, OWN));
	EXPECT_TRUE(owner_close(&o));
}

/* The same for a process that unbinds the device: it does not own the memory there. */
TEST_LONG(drained_beyond_the_cpuset, 120)
{
	struct owner o;
	const char *error = owner_open(&o);
	char address[32];

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_EQ(0, gpu_bus_address(0, address, sizeof(address)));
	EXPECT_EQ(0, done_elsewhere(&o, unbinds));
	EXPECT_EQ(0, pages_on_device(0, o.p, OWN));
	EXPECT_EQ(o.home, node_of_all(o.p, OWN));
	EXPECT_TRUE(owner_close(&o));
	EXPECT_EQ(0, gpu_driver("bind", address));
}

/* The cpuset of the memory's owner holds, whichever process evicts. */
TEST_LONG(evicted_within_the_owners_cpuset, 120)
{
	struct owner o;
	const char *error = owner_open(&o);
	int go[2], ready[2];
	pid_t child;
	char c = 0;

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(ready));
	child = fork();
	if (!child) {
		char *p = anon_huge(OWN, MADV_NOHUGEPAGE);

		close(go[1]);
		if (confine(o.other))
			_exit(1);
		fill_pattern(p, OWN, 2);
		if (gpu_to_device(o.gpu, p, OWN) || write(ready[1], &c, 1) != 1 ||
		    read(go[0], &c, 1))
			_exit(2);
		if (pages_on_device(0, p, OWN))
			_exit(3);
		if (node_of_all(p, OWN) != o.other)
			_exit(4);
		_exit(check_pattern(p, OWN, 2) == -1 ? 0 : 5);
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_EQ(0, take_all(o.gpu));
	close(go[1]);
	EXPECT_EQ(0, wait_child(child));
	EXPECT_EQ(o.home, node_of_all(o.p, OWN));
	EXPECT_TRUE(owner_close(&o));
}

static int owner_pidfd;

static int brings_back(struct owner *o)
{
	return gpu_migrate(o->gpu, owner_pidfd, o->p, OWN, HMM_DUMMY_MIGRATE_TO_RAM, NULL);
}

/* Another process brings memory back.  The owner's memory policy holds, if there is one. */
TEST_LONG(brought_back_by_policy, 120)
{
	struct owner o;
	const char *error = owner_open(&o);
	unsigned long nodes;

	ASSERT_EQ(NULL, error) TH_LOG("%s", error);
	owner_pidfd = pidfd_open(getpid());
	ASSERT_LE(0, owner_pidfd);
	EXPECT_EQ(0, done_elsewhere(&o, brings_back));
	EXPECT_EQ(o.home, node_of_all(o.p, OWN));
	ASSERT_EQ(0, gpu_to_device(o.gpu, o.p, OWN));
	nodes = 1UL << o.other;
	ASSERT_EQ(0, syscall(SYS_mbind, o.p, OWN / 2, MPOL_BIND, &nodes, 64UL, 0));
	EXPECT_EQ(0, done_elsewhere(&o, brings_back));
	EXPECT_EQ(o.other, node_of_all(o.p, OWN / 2));
	EXPECT_EQ(o.home, node_of_all(o.p + OWN / 2, OWN / 2));
	EXPECT_TRUE(owner_close(&o));
	close(owner_pidfd);
}

/* A thread that moves a huge page of hugetlbfs to the other node whenever it is told. */
struct traveller {
	char *p;
	atomic_uint told, done;
	atomic_bool stop;
	int error;
};

static void *travels(void *arg)
{
	struct traveller *t = arg;

	while (!t->stop) {
		void *page = t->p;
		int to, status = 0;

		if (t->told == t->done)
			continue;
		to = !node_of(page);
		if (syscall(SYS_move_pages, 0, 1UL, &page, &to, &status, MPOL_MF_MOVE) ||
		    status != to)
			t->error++;
		t->done++;
	}
	return NULL;
}

#define MEETINGS	10

/*
 * PAGEMAP_SCAN meets a huge page of hugetlbfs that was written and is migrating to another
 * node.  The scan restarts the watch.  No task writes to the page then, and the next scan does
 * not report it.
 */
TEST_LONG(hugetlb_scanned_on_its_way, 240)
{
	int uffd, pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct traveller t = {};
	unsigned int met = 0, wrong = 0, tries;
	pthread_t thread;

	for (int node = 0; node < 2; node++)
		ASSERT_EQ(0, fill_node(node, "2"));
	t.p = mmap(NULL, 2 * MiB, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	ASSERT_NE(MAP_FAILED, t.p);
	uffd = uffd_watch(t.p, 2 * MiB, UFFD_FEATURE_WP_ASYNC, UFFDIO_REGISTER_MODE_WP);
	ASSERT_LE(0, uffd);
	*t.p = 1;
	ASSERT_EQ(0, pthread_create(&thread, NULL, travels, &t));
	for (tries = 0; tries < 5000 && met < MEETINGS; tries++) {
		bool on_its_way;

		*(volatile char *)t.p = tries;
		t.told++;
		while (t.told != t.done && pages_that_are(PAGE_PRESENT, t.p, PAGE))
			;
		ASSERT_EQ(2 * MiB / PAGE, pages_written(pagemap, t.p, 2 * MiB));
		/* The page migrates once for each time the thread is told. */
		on_its_way = !pages_that_are(PAGE_PRESENT, t.p, PAGE);
		while (t.told != t.done)
			;
		met += on_its_way;
		wrong += pages_written(pagemap, t.p, 2 * MiB) != 0;
	}
	t.stop = true;
	pthread_join(thread, NULL);
	TH_LOG("met %u times in %u tries", met, tries);
	EXPECT_EQ(0, t.error);
	EXPECT_LE(MEETINGS, met);
	EXPECT_EQ(0, wrong);
	munmap(t.p, 2 * MiB);
	close(uffd);
	close(pagemap);
	for (int node = 0; node < 2; node++)
		EXPECT_EQ(0, fill_node(node, "0"));
}

TEST_HARNESS_MAIN
