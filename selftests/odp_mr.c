// SPDX-License-Identifier: GPL-2.0
/*
 * Ordinary memory regions of a device that makes them on demand, and what a program notices of
 * it.  Needs an rxe0 on any interface, and a GPU that it reaches.
 */
#include <sys/resource.h>

#include "common.h"
#include "rdma.h"
#include "rdma_nl.h"

#define LEN	(16 * PAGE)
#define FLUSH_GLOBAL		(1 << 8)
#define FLUSH_PERSISTENT	(1 << 9)

FIXTURE(odp_mr) {
	int gpu;
	uint32_t dev;
	struct rdma_pair pair;
	char *mem[2];
	struct rdma_buf buf[2];
};

/* How much of the caller's memory is pinned by regions. */
static size_t pinned(void)
{
	return proc_bytes("/proc/self/status", NULL, "VmPin");
}

static struct ibv_mr *reg(FIXTURE_DATA(odp_mr) *self, void *p, size_t length, int access)
{
	return ibv_reg_mr(self->pair.pd, p, length, access);
}

/* Register mem[0] and mem[1] as any program does. */
static bool reg_both(FIXTURE_DATA(odp_mr) *self)
{
	for (int i = 0; i < 2; i++)
		self->buf[i] = (struct rdma_buf) { reg(self, self->mem[i], LEN, RDMA_ACCESS),
						   self->mem[i] };
	return self->buf[0].mr && self->buf[1].mr;
}

FIXTURE_SETUP(odp_mr)
{
	struct rdma_nl_dev dev;

	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	ASSERT_EQ(0, rdma_nl_dev("rxe0", &dev)) TH_LOG("%s", strerror(errno));
	self->dev = dev.index;
	ASSERT_EQ(0, rdma_nl_set_odp_mr(self->dev, RDMA_NL_ODP_MR))
		TH_LOG("%s: %s", strerror(errno), rdma_nl_error());
	for (int i = 0; i < 2; i++) {
		self->mem[i] = anon(LEN);
		ASSERT_NE(MAP_FAILED, self->mem[i]);
	}
	fill_pattern(self->mem[0], LEN, 1);
	memset(self->mem[1], 0, LEN);
}

FIXTURE_TEARDOWN(odp_mr)
{
	const char *leak;

	EXPECT_EQ(0, rdma_nl_set_odp_mr(self->dev, 0));
	for (int i = 0; i < 2; i++) {
		if (self->buf[i].mr) {
			EXPECT_EQ(0, ibv_dereg_mr(self->buf[i].mr));
		}
		munmap(self->mem[i], LEN);
	}
	rdma_pair_close(&self->pair);
	EXPECT_EQ(0, pinned());
	leak = gpu_leak(0, self->gpu);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->gpu);
}

struct kinds {
	unsigned int nr[RDMA_NL_NR_KINDS];
};

static int count_mine(const struct rdma_nl_mr *mr, void *arg)
{
	struct kinds *k = arg;

	if (mr->pid == getpid() && mr->kind >= 0 && mr->kind < RDMA_NL_NR_KINDS)
		k->nr[mr->kind]++;
	return 0;
}

static struct kinds my_regions(FIXTURE_DATA(odp_mr) *self)
{
	struct kinds k = {};

	rdma_nl_mrs(self->dev, count_mine, &k);
	return k;
}

static int odp_mr_of(const char *name)
{
	struct rdma_nl_dev dev;

	return rdma_nl_dev(name, &dev) ? -2 : dev.odp_mr;
}

/* Off, a region is pinned; on, it is not, and can be on a GPU while the NIC uses it. */
TEST_F_TIMEOUT(odp_mr, in_place, 120)
{
	struct ibv_mr *mr;

	ASSERT_EQ(0, rdma_nl_set_odp_mr(self->dev, 0));
	mr = reg(self, self->mem[1], LEN, RDMA_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(LEN, pinned());
	EXPECT_EQ(1, my_regions(self).nr[RDMA_NL_PINNED]);
	/* No page of it moves. */
	gpu_to_device(self->gpu, self->mem[1], LEN);
	EXPECT_EQ(0, pages_on_device(0, self->mem[1], LEN));
	EXPECT_EQ(0, ibv_dereg_mr(mr));

	ASSERT_EQ(0, rdma_nl_set_odp_mr(self->dev, RDMA_NL_ODP_MR));
	ASSERT_TRUE(reg_both(self));
	EXPECT_EQ(0, pinned());
	EXPECT_EQ(2, my_regions(self).nr[RDMA_NL_ODP_BY_DEVICE]);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[i], LEN));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->mem[i], LEN));
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 1));
}

/* The same for a region that comes by the newer ioctl. */
TEST_F_TIMEOUT(odp_mr, ioctl, 120)
{
	struct ibv_mr mr = {};
	struct rdma_buf to = { &mr, self->mem[1] };

	ASSERT_TRUE(reg_both(self));
	ASSERT_EQ(0, rdma_ioctl_reg_mr(&self->pair, self->mem[1], LEN, (uintptr_t)self->mem[1],
				       RDMA_ACCESS, &mr));
	EXPECT_EQ(3, my_regions(self).nr[RDMA_NL_ODP_BY_DEVICE]);
	EXPECT_EQ(0, pinned());
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[1], LEN));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], to, LEN));
	EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->mem[1], LEN));
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 1));
	EXPECT_EQ(0, rdma_ioctl_dereg_mr(&self->pair, &mr));
}

/* What asks for something else gets it. */
TEST_F(odp_mr, kinds)
{
	struct ibv_mr *odp = reg(self, self->mem[0], LEN, RDMA_ODP);
	struct ibv_mr *persistent = reg(self, self->mem[0], LEN, RDMA_ACCESS | FLUSH_PERSISTENT);
	struct ibv_mr *global = reg(self, self->mem[0], LEN, RDMA_ACCESS | FLUSH_GLOBAL);
	struct ibv_mr *huge;

	ASSERT_NE(NULL, odp);
	ASSERT_NE(NULL, global);
	/* Refused since this is no persistent memory: a region on demand does not look. */
	EXPECT_EQ(NULL, persistent);
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(1, my_regions(self).nr[RDMA_NL_ODP]);
	EXPECT_EQ(1, my_regions(self).nr[RDMA_NL_ODP_BY_DEVICE]);
	/* rxe has no such regions, pinned or not. */
	huge = reg(self, self->mem[0], LEN, RDMA_ACCESS | IBV_ACCESS_HUGETLB);
	EXPECT_EQ(NULL, huge);
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(0, ibv_dereg_mr(odp));
	EXPECT_EQ(0, ibv_dereg_mr(global));
}

/* Memory in pages of hugetlbfs is on demand, page by page. */
TEST_F_TIMEOUT(odp_mr, hugetlb, 120)
{
	struct rdma_buf to;
	char *p;

	ASSERT_EQ(0, write_file("/proc/sys/vm/nr_hugepages", "1"));
	p = mmap(NULL, 2 * MiB, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_TRUE(reg_both(self));
	to = (struct rdma_buf) { reg(self, p, 2 * MiB, RDMA_ACCESS), p + MiB + 7 };
	ASSERT_NE(NULL, to.mr);
	EXPECT_EQ(3, my_regions(self).nr[RDMA_NL_ODP_BY_DEVICE]);
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], to, LEN));
	EXPECT_EQ(-1, check_pattern(to.addr, LEN, 1));
	EXPECT_EQ(0, ibv_dereg_mr(to.mr));
	munmap(p, 2 * MiB);
	write_file("/proc/sys/vm/nr_hugepages", "0");
}

/* Open a loop device on a file in tmpfs.  Returns a file descriptor, or -1. */
static int disk_open(void)
{
	return system("truncate -s 1M /run/odp_mr && losetup /dev/loop7 /run/odp_mr") ? -1 :
	       open("/dev/loop7", O_RDWR | O_CLOEXEC);
}

static void disk_close(void)
{
	if (system("losetup -d /dev/loop7; rm /run/odp_mr"))
		perror("losetup");
}

/* What cannot be registered off cannot be registered on, for the same reason. */
TEST_F_TIMEOUT(odp_mr, same_errors, 120)
{
	char *p = anon(16 * PAGE), *shared, *vram;
	char path[128] = "/sys/bus/pci/devices/", name[32];
	int bar, file = memfd_create("odp_mr", MFD_CLOEXEC);
	int failed = 0, done = 0, disk = disk_open();
	char *block = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, disk, 0);

	ASSERT_NE(MAP_FAILED, block) TH_LOG("no block device: %s", strerror(errno));
	ASSERT_EQ(0, gpu_bus_address(0, name, sizeof(name)));
	strcat(strcat(path, name), "/resource2");
	bar = open(path, O_RDWR | O_CLOEXEC);
	vram = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
	ASSERT_NE(MAP_FAILED, vram) TH_LOG("%s: %s", path, strerror(errno));
	ASSERT_EQ(0, ftruncate(file, PAGE));
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, shared);
	munmap(p + 4 * PAGE, PAGE);
	ASSERT_EQ(0, mprotect(p + 8 * PAGE, PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(p + 10 * PAGE, PAGE, PROT_NONE));

	struct {
		char *p;
		size_t length;
		int access;
	} tries[] = {
		{ p, 4 * PAGE, RDMA_ACCESS },
		{ p, 5 * PAGE, RDMA_ACCESS },		/* a hole at its end */
		{ p + 4 * PAGE, 2 * PAGE, RDMA_ACCESS },	/* and where it begins */
		{ p + 3 * PAGE, 3 * PAGE, RDMA_ACCESS },
		{ p + 4 * PAGE - 1, 1, RDMA_ACCESS },
		{ p + 4 * PAGE - 1, 2, RDMA_ACCESS },
		{ p + 7 * PAGE, 3 * PAGE, RDMA_ACCESS },	/* read-only memory */
		{ p + 7 * PAGE, 3 * PAGE, IBV_ACCESS_REMOTE_READ },
		{ p + 9 * PAGE, 3 * PAGE, IBV_ACCESS_REMOTE_READ },	/* memory of nobody */
		{ p, 0, RDMA_ACCESS },
		{ (char *)-PAGE, PAGE, RDMA_ACCESS },
		{ (char *)-PAGE, 2 * PAGE, RDMA_ACCESS },
		{ p, -(size_t)p, RDMA_ACCESS },
		{ NULL, PAGE, RDMA_ACCESS },
		{ NULL, SIZE_MAX, RDMA_ACCESS },	/* implicit, if on demand */
		{ p, LEN, IBV_ACCESS_REMOTE_WRITE },	/* needs local write, too */
		{ vram, PAGE, RDMA_ACCESS },
		{ shared, PAGE, RDMA_ACCESS },
		/* Whoever pins it for long writes behind the back of its file system. */
		{ block, PAGE, RDMA_ACCESS },
		{ block, PAGE, IBV_ACCESS_REMOTE_READ },
	};

	for (size_t i = 0; i < sizeof(tries) / sizeof(*tries); i++) {
		int error[2], made[2];

		for (int on = 0; on < 2; on++) {
			struct ibv_mr *mr;

			ASSERT_EQ(0, rdma_nl_set_odp_mr(self->dev, on ? RDMA_NL_ODP_MR : 0));
			errno = 0;
			mr = reg(self, tries[i].p, tries[i].length, tries[i].access);
			error[on] = mr ? 0 : errno;
			made[on] = my_regions(self).nr[on ? RDMA_NL_ODP_BY_DEVICE : RDMA_NL_PINNED];
			if (mr) {
				EXPECT_EQ(0, ibv_dereg_mr(mr));
			}
		}
		EXPECT_EQ(error[0], error[1]) TH_LOG("%zu: %s", i, strerror(error[1]));
		EXPECT_EQ(!error[0], made[0]);
		EXPECT_EQ(!error[1], made[1]) TH_LOG("%zu", i);
		failed += !!error[1];
		done += !error[1];
	}
	EXPECT_LE(10, failed);
	EXPECT_LE(4, done);
	munmap(p, 16 * PAGE);
	munmap(shared, PAGE);
	munmap(vram, PAGE);
	munmap(block, PAGE);
	close(file);
	close(bar);
	close(disk);
	disk_close();
}

/* Memory that goes away is an error for the NIC.  With a pinned region it would go on. */
TEST_F_TIMEOUT(odp_mr, unmapped, 120)
{
	ASSERT_TRUE(reg_both(self));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	ASSERT_EQ(0, munmap(self->mem[1] + 8 * PAGE, PAGE));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], 8 * PAGE));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
}

/* The device goes on with the parent's pages. */
TEST_F_TIMEOUT(odp_mr, forked, 120)
{
	volatile char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child;

	ASSERT_TRUE(reg_both(self));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	fill_pattern(self->mem[0], LEN, 2);
	child = fork();
	if (!child) {
		while (!shared[0])
			usleep(1000);
		_exit(check_pattern(self->mem[1], LEN, 1) == -1 ? 0 : 1);
	}
	ASSERT_LT(0, child);
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 2));
	shared[0] = 1;
	EXPECT_EQ(0, wait_child(child));
	munmap((void *)shared, PAGE);
}

/*
 * A user who may lock one page registers more.  Returns 0 if that works, 3 for ENOMEM, or another
 * status.
 */
static int register_as_user(FIXTURE_DATA(odp_mr) *self)
{
	struct rlimit limit = { PAGE, PAGE };
	pid_t child = fork();

	if (!child) {
		/* A region belongs to the process that opened the device. */
		rdma_pair_close(&self->pair);
		if (rdma_pair_open(&self->pair) || setrlimit(RLIMIT_MEMLOCK, &limit) ||
		    setresuid(65534, 65534, 65534))
			_exit(2);
		_exit(reg(self, self->mem[0], LEN, RDMA_ACCESS) ? 0 : errno == ENOMEM ? 3 : 4);
	}
	return wait_child(child);
}

/* Nothing is counted against RLIMIT_MEMLOCK, which is small for users. */
TEST_F_TIMEOUT(odp_mr, memlock, 120)
{
	EXPECT_EQ(0, register_as_user(self));
	ASSERT_EQ(0, rdma_nl_set_odp_mr(self->dev, 0));
	EXPECT_EQ(3, register_as_user(self));
}

/* mlock() keeps its promise: the pages stay in RAM, and the NIC gets to them. */
TEST_F_TIMEOUT(odp_mr, mlocked, 120)
{
	ASSERT_EQ(0, mlock(self->mem[1], LEN));
	ASSERT_TRUE(reg_both(self));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 1));
	EXPECT_EQ(LEN, proc_bytes("/proc/self/status", NULL, "VmLck"));
	EXPECT_EQ(0, munlock(self->mem[1], LEN));
}

/* A program that changes the rights of its region knows nothing of IBV_ACCESS_ON_DEMAND. */
TEST_F_TIMEOUT(odp_mr, rereg, 120)
{
	ASSERT_TRUE(reg_both(self));
	EXPECT_EQ(0, rdma_rereg(&self->pair, self->buf[1].mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, 0,
				IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE));
	EXPECT_EQ(2, my_regions(self).nr[RDMA_NL_ODP_BY_DEVICE]);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[1], LEN));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->mem[1], LEN));
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 1));
	/* The new rights hold. */
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  rdma_read(&self->pair, self->buf[0], self->buf[1], LEN));
}

/* Other memory for a region of each kind: it has new keys, and the old ones are of nothing. */
TEST_F_TIMEOUT(odp_mr, other_memory, 120)
{
	static const struct {
		uint8_t odp_mr;
		int access, kind;
	} tries[] = {
		{ 0, RDMA_ACCESS, RDMA_NL_PINNED },
		{ 0, RDMA_ODP, RDMA_NL_ODP },
		{ RDMA_NL_ODP_MR, RDMA_ACCESS, RDMA_NL_ODP_BY_DEVICE },
	};

	ASSERT_TRUE(reg_both(self));
	for (int i = 0; i < 3; i++) {
		char *p = anon(2 * LEN), *hole = anon(LEN);
		struct kinds before = my_regions(self);
		struct rdma_buf to = { .addr = p + LEN + 5 };
		struct ibv_mr stale;

		munmap(hole, LEN);
		ASSERT_EQ(0, rdma_nl_set_odp_mr(self->dev, tries[i].odp_mr));
		to.mr = reg(self, p, LEN, tries[i].access);
		ASSERT_NE(NULL, to.mr);
		stale = *to.mr;
		/* What cannot be had changes nothing; who asks for on-demand paging can have it. */
		if (tries[i].access == RDMA_ACCESS) {
			EXPECT_EQ(-1, rdma_rereg(&self->pair, to.mr,
						 IBV_REREG_MR_CHANGE_TRANSLATION,
						 hole, LEN, 0));
			EXPECT_EQ(EFAULT, errno);
		}
		EXPECT_EQ(stale.rkey, to.mr->rkey);
		EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0],
					(struct rdma_buf) { to.mr, p + 9 }, PAGE));
		EXPECT_EQ(-1, check_pattern(p + 9, PAGE, 1));
		EXPECT_EQ(0, rdma_rereg(&self->pair, to.mr, IBV_REREG_MR_CHANGE_TRANSLATION |
					(i == 2 ? IBV_REREG_MR_CHANGE_ACCESS : 0), p + LEN, LEN,
					RDMA_ACCESS));
		EXPECT_NE(stale.rkey, to.mr->rkey);
		EXPECT_EQ(before.nr[tries[i].kind] + 1, my_regions(self).nr[tries[i].kind]);
		EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], to, 3 * PAGE));
		EXPECT_EQ(-1, check_pattern(to.addr, 3 * PAGE, 1));
		if (i == 2) {
			EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
				  rdma_write(&self->pair, self->buf[0],
					     (struct rdma_buf) { &stale, p }, PAGE));
		}
		EXPECT_EQ(0, ibv_dereg_mr(to.mr));
		munmap(p, 2 * LEN);
	}
}

/* A region becomes what a pinned one becomes by the same call, with the same errors. */
TEST_F_TIMEOUT(odp_mr, rereg_decides_anew, 120)
{
	const int trans = IBV_REREG_MR_CHANGE_TRANSLATION, rights = IBV_REREG_MR_CHANGE_ACCESS;
	const struct {
		const char *name;
		int access, flags, new_access;
		bool read_only;		/* the other memory is */
		bool stricter;		/* rxe does not look at the pages of a pinned region then */
		uint8_t odp_mr;		/* the switch, later */
		int kind;		/* if it was on */
	} tries[] = {
		{ "a window", RDMA_ACCESS, rights, RDMA_ACCESS | IBV_ACCESS_MW_BIND,
		  .odp_mr = RDMA_NL_ODP_MR, .kind = RDMA_NL_ODP_BY_DEVICE },
		{ "huge pages", RDMA_ACCESS, rights, RDMA_ACCESS | IBV_ACCESS_HUGETLB,
		  .odp_mr = RDMA_NL_ODP_MR, .kind = RDMA_NL_ODP_BY_DEVICE },
		{ "persistence", RDMA_ACCESS, rights, RDMA_ACCESS | FLUSH_PERSISTENT,
		  .stricter = true, .odp_mr = RDMA_NL_ODP_MR, .kind = RDMA_NL_ODP_BY_DEVICE },
		{ "persistence elsewhere", RDMA_ACCESS, trans | rights,
		  RDMA_ACCESS | FLUSH_PERSISTENT,
		  .odp_mr = RDMA_NL_ODP_MR, .kind = RDMA_NL_ODP_BY_DEVICE },
		{ "writing where nobody may", RDMA_ACCESS, trans, .read_only = true,
		  .odp_mr = RDMA_NL_ODP_MR, .kind = RDMA_NL_ODP_BY_DEVICE },
		{ "reading there", 0, trans, .read_only = true,
		  .odp_mr = RDMA_NL_ODP_MR, .kind = RDMA_NL_ODP_BY_DEVICE },
		{ "switched off", RDMA_ACCESS, trans, .kind = RDMA_NL_PINNED },
		{ "switched off, and new rights", RDMA_ACCESS, trans | rights, RDMA_ACCESS,
		  .kind = RDMA_NL_PINNED },
		{ "asked for", RDMA_ACCESS, trans | rights, RDMA_ODP,
		  .odp_mr = RDMA_NL_ODP_MR, .kind = RDMA_NL_ODP },
	};

	for (size_t i = 0; i < sizeof(tries) / sizeof(*tries); i++) {
		char *p = anon(LEN), *other = anon(LEN);
		int error[2];

		memset(other, 7, LEN);
		memset(p, 6, LEN);
		if (tries[i].read_only) {
			ASSERT_EQ(0, mprotect(other, LEN, PROT_READ));
		}
		for (int on = 0; on < 2; on++) {
			struct kinds k;
			struct ibv_mr *mr;
			struct rdma_buf from = { .addr = p };

			ASSERT_EQ(0, rdma_nl_set_odp_mr(self->dev, on ? RDMA_NL_ODP_MR : 0));
			mr = reg(self, p, LEN, tries[i].access);
			ASSERT_NE(NULL, mr);
			self->buf[0].mr = reg(self, self->mem[0], LEN, RDMA_ACCESS);
			self->buf[0].addr = self->mem[0];
			if (on) {
				ASSERT_EQ(0, rdma_nl_set_odp_mr(self->dev, tries[i].odp_mr));
			}
			error[on] = rdma_rereg(&self->pair, mr, tries[i].flags, other, LEN,
					       tries[i].new_access) ? errno : 0;
			k = my_regions(self);
			if (on) {
				EXPECT_EQ(1 + (tries[i].kind == RDMA_NL_ODP_BY_DEVICE),
					  k.nr[RDMA_NL_ODP_BY_DEVICE]) TH_LOG("%s", tries[i].name);
				EXPECT_LE(1, k.nr[tries[i].kind]) TH_LOG("%s", tries[i].name);
			}
			/* It is of the new memory, or still of the old. */
			from.mr = mr;
			if (!error[on] && tries[i].flags & trans)
				from.addr = other;
			ASSERT_EQ(0, rdma_send(&self->pair, from, self->buf[0], LEN))
				TH_LOG("%s: %s", tries[i].name, rdma_error());
			EXPECT_EQ(from.addr == other ? 7 : 6, self->mem[0][LEN - 1]);
			EXPECT_EQ(0, ibv_dereg_mr(mr));
			EXPECT_EQ(0, ibv_dereg_mr(self->buf[0].mr));
			self->buf[0].mr = NULL;
		}
		EXPECT_EQ(tries[i].stricter ? EINVAL : error[0], error[1])
			TH_LOG("%s", tries[i].name);
		TH_LOG("%s: %s", tries[i].name, error[1] ? strerror(error[1]) : "done");
		munmap(p, LEN);
		munmap(other, LEN);
	}
}

/* In a child the address is other memory, which a change of rights alone does not take. */
TEST_F_TIMEOUT(odp_mr, rereg_in_a_child, 120)
{
	const int window = RDMA_ACCESS | IBV_ACCESS_MW_BIND;
	pid_t child;

	ASSERT_TRUE(reg_both(self));
	child = fork();
	if (!child) {
		if (!rdma_rereg(&self->pair, self->buf[1].mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, 0,
				window))
			_exit(0);
		_exit(errno);
	}
	EXPECT_EQ(EOPNOTSUPP, wait_child(child));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], LEN));
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 1));
	EXPECT_EQ(0, rdma_rereg(&self->pair, self->buf[1].mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, 0,
				window));
}

/* With prefetch, the NIC knows of a page as soon as it is registered. */
TEST_F_TIMEOUT(odp_mr, prefetch, 120)
{
	static const uint8_t flags[] = { RDMA_NL_ODP_MR, RDMA_NL_ODP_MR | RDMA_NL_ODP_MR_PREFETCH };

	for (int i = 0; i < 2; i++) {
		struct ibv_mr *mr;

		ASSERT_EQ(0, rdma_nl_set_odp_mr(self->dev, flags[i]));
		EXPECT_EQ(flags[i], odp_mr_of("rxe0"));
		ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[1], LEN));
		mr = reg(self, self->mem[1], LEN, RDMA_ACCESS);
		ASSERT_NE(NULL, mr);
		EXPECT_EQ(i ? LEN / PAGE : 0, gpu_counter(0, "mapped_now"));
		EXPECT_EQ(0, ibv_dereg_mr(mr));
	}
}

/* 64 GiB that are reserved are registered, and a page of it works; 1 TiB is too much. */
/* Register with the switch off and on, in turns.  Returns the ratio of the medians, or -1. */
static double registration(FIXTURE_DATA(odp_mr) *self, char *p, size_t length, int rounds)
{
	double time[2][rounds];

	for (int i = 0; i < 2 * rounds; i++) {
		double start;
		struct ibv_mr *mr;

		if (rdma_nl_set_odp_mr(self->dev, i % 2 ? RDMA_NL_ODP_MR : 0))
			return -1;
		start = now_seconds();
		mr = reg(self, p, length, RDMA_ACCESS);
		time[i % 2][i / 2] = now_seconds() - start;
		if (!mr || ibv_dereg_mr(mr))
			return -1;
	}
	for (int i = 0; i < 2; i++)
		qsort(time[i], rounds, sizeof(double), compare_doubles);
	return time[1][rounds / 2] / time[0][rounds / 2];
}

/*
 * Registration does not look at the pages.  It costs little for a large region, and for a small
 * one not more than pinning.
 */
TEST_F_TIMEOUT(odp_mr, registration_cost, 240)
{
	const size_t large = 512 * MiB;
	char *p = anon(large);
	double small_ratio, large_ratio;

	ASSERT_NE(MAP_FAILED, p);
	for (size_t i = 0; i < large; i += PAGE)
		p[i] = 1;
	small_ratio = registration(self, p, MiB, 101);
	large_ratio = registration(self, p, large, 5);
	TH_LOG("of a pinned one: %.3f for 1 MiB, %.3f for 512 MiB", small_ratio, large_ratio);
	EXPECT_LT(0, small_ratio);
	EXPECT_GE(1.1, small_ratio);
	EXPECT_LT(0, large_ratio);
	EXPECT_GE(0.25, large_ratio);
	munmap(p, large);
}

TEST_F_TIMEOUT(odp_mr, reserved, 120)
{
	static const size_t length = 64UL << 30, too_long = 1UL << 40;
	char *p = reserve(length), *q = reserve(too_long);
	struct rdma_buf to;

	ASSERT_NE(MAP_FAILED, q);
	ASSERT_TRUE(reg_both(self));
	to = (struct rdma_buf) { reg(self, p, length, RDMA_ACCESS), p + length / 2 + 5 };
	ASSERT_NE(NULL, to.mr);
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], to, LEN));
	EXPECT_EQ(-1, check_pattern(to.addr, LEN, 1));
	EXPECT_EQ(NULL, reg(self, q, too_long, RDMA_ACCESS));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(0, ibv_dereg_mr(to.mr));
	munmap(p, length);
	munmap(q, too_long);
}

/* Ten thousand regions of the same pages. */
TEST_F_TIMEOUT(odp_mr, many, 240)
{
	enum { NR = 10000 };
	struct ibv_mr **mr = calloc(NR, sizeof(*mr));
	int nr = 0;

	ASSERT_TRUE(reg_both(self));
	for (nr = 0; nr < NR; nr++) {
		mr[nr] = reg(self, self->mem[1], LEN, RDMA_ACCESS);
		if (!mr[nr])
			break;
	}
	EXPECT_EQ(NR, nr) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(NR + 2, my_regions(self).nr[RDMA_NL_ODP_BY_DEVICE]);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[1], LEN));
	for (int i = 0; i < nr; i += nr / 10 - 1) {
		struct rdma_buf to = { mr[i], self->mem[1] };

		EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], to, LEN));
	}
	EXPECT_EQ(LEN / PAGE, pages_on_device(0, self->mem[1], LEN));
	EXPECT_EQ(-1, check_pattern(self->mem[1], LEN, 1));
	while (nr--)
		EXPECT_EQ(0, ibv_dereg_mr(mr[nr]));
	free(mr);
}

/* The switch takes only what it knows, of whom may set it. */
TEST_F(odp_mr, bad_settings)
{
	pid_t child;

	ASSERT_EQ(0, rdma_nl_set_odp_mr(self->dev, RDMA_NL_ODP_MR | RDMA_NL_ODP_MR_PARTIAL));
	EXPECT_EQ(-1, rdma_nl_set_odp_mr(self->dev, RDMA_NL_ODP_MR_PREFETCH));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_STREQ("Unknown combination of flags", rdma_nl_error());
	EXPECT_EQ(-1, rdma_nl_set_odp_mr(self->dev, 0xf));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, rdma_nl_set_odp_mr(12345, RDMA_NL_ODP_MR));
	EXPECT_EQ(EINVAL, errno);
	child = fork();
	if (!child) {
		if (setresuid(65534, 65534, 65534))
			_exit(2);
		_exit(rdma_nl_set_odp_mr(self->dev, 0) == -1 && errno == EPERM ? 0 : 1);
	}
	EXPECT_EQ(0, wait_child(child));
	EXPECT_EQ(RDMA_NL_ODP_MR | RDMA_NL_ODP_MR_PARTIAL, odp_mr_of("rxe0"));
}

TEST_HARNESS_MAIN
