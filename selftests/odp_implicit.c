// SPDX-License-Identifier: GPL-2.0
/*
 * One memory region that is all of a process: implicit on-demand paging.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "common.h"
#include "rdma.h"

#define CHUNK	(2 * MiB)		/* what rxe has a list of pages for */
#define LEN	(3 * CHUNK)

FIXTURE(implicit) {
	int gpu;
	struct rdma_pair pair;
	struct ibv_mr *mr;
	char *map;
	char *mem[2];			/* each begins at a border */
	struct rdma_buf buf[2];
};

FIXTURE_SETUP(implicit)
{
	self->gpu = gpu_open(0);
	ASSERT_LE(0, self->gpu);
	ASSERT_EQ(0, rdma_pair_open(&self->pair)) TH_LOG("%s", rdma_error());
	self->map = anon(2 * LEN + CHUNK);
	ASSERT_NE(MAP_FAILED, self->map);
	self->mr = ibv_reg_mr(self->pair.pd, NULL, SIZE_MAX, RDMA_ODP);
	ASSERT_NE(NULL, self->mr) TH_LOG("%s", strerror(errno));
	for (int i = 0; i < 2; i++) {
		self->mem[i] = (char *)(((uintptr_t)self->map + CHUNK - 1) & -CHUNK) + i * LEN;
		self->buf[i] = (struct rdma_buf) { self->mr, self->mem[i] };
	}
}

FIXTURE_TEARDOWN(implicit)
{
	const char *leak;

	kprobes_off();
	if (self->mr) {
		EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	}
	munmap(self->map, 2 * LEN + CHUNK);
	rdma_pair_close(&self->pair);
	leak = gpu_leak(0, self->gpu);
	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(self->gpu);
}

/* Count the lists of pages that are made and released from now on. */
static int count_lists(void)
{
	return kprobes_on("p:" TRACE_PROBES "/made ib_umem_odp_alloc_child\n"
			  "p:" TRACE_PROBES "/released ib_umem_odp_release\n");
}

/* How many there are more than then. */
static long lists(void)
{
	FILE *f = fopen(TRACE "kprobe_profile", "r");
	char line[256], name[64];
	long n, found = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, " %63s %ld", name, &n) != 2)
			continue;
		if (!strcmp(name, "made"))
			found += n;
		if (!strcmp(name, "released"))
			found -= n;
	}
	fclose(f);
	return found;
}

static bool lists_become(long n)
{
	double end = now_seconds() + 60;

	while (lists() != n && now_seconds() < end)
		usleep(10000);
	return lists() == n;
}

/* A new pair of queue pairs, after an error of the old one. */
static bool connect_again(FIXTURE_DATA(implicit) *self)
{
	struct rdma_pair *p = &self->pair;
	struct ibv_wc wc;

	/* The region is of the context, so that stays. */
	for (int i = 0; i < 2; i++) {
		ibv_destroy_qp(p->qp[i]);
		while (ibv_poll_cq(p->cq[i], 1, &wc) > 0)
			;
		p->qp[i] = rdma_create_qp(p, i, IBV_QPT_RC, NULL);
		if (!p->qp[i])
			return false;
	}
	for (int i = 0; i < 2; i++)
		if (rdma_connect(p->qp[i], p->qp[!i]->qp_num))
			return false;
	return true;
}

/* Accesses within parts, up to borders, and across one and two of them. */
static void shapes(struct __test_metadata *_metadata, FIXTURE_DATA(implicit) *self, bool on_gpu)
{
	static const struct {
		size_t from, to, length;
	} shape[] = {
		{ 0, 0, PAGE }, { CHUNK - PAGE, 0, PAGE }, { CHUNK - 1, CHUNK - 1, 2 },
		{ CHUNK - 100, 17, 200 }, { 5, CHUNK - 3000, 9000 },
		{ CHUNK - 5, CHUNK - 4096, CHUNK + 10 }, { 123, CHUNK - 1, 2 * CHUNK - 1 },
	};

	for (size_t i = 0; i < sizeof(shape) / sizeof(*shape); i++) {
		size_t from = shape[i].from, to = shape[i].to, n = shape[i].length;

		for (int read = 0; read < 2; read++) {
			unsigned char *src = (void *)self->mem[read];
			unsigned char *dst = (void *)self->mem[!read];

			fill_pattern(src, LEN, 1 + i);
			memset(dst, 0xee, LEN);
			if (on_gpu) {
				ASSERT_EQ(0, gpu_to_device(self->gpu, src, LEN));
				ASSERT_EQ(0, gpu_to_device(self->gpu, dst, LEN));
			}
			ASSERT_EQ(0, read ? rdma_read(&self->pair, rdma_at(self->buf[0], to),
						      rdma_at(self->buf[1], from), n) :
					    rdma_write(&self->pair, rdma_at(self->buf[0], from),
						       rdma_at(self->buf[1], to), n));
			if (on_gpu) {
				ASSERT_EQ(LEN / PAGE, pages_on_device(0, src, LEN));
				ASSERT_EQ(LEN / PAGE, pages_on_device(0, dst, LEN));
			}
			for (size_t k = 0; k < LEN; k++) {
				ASSERT_EQ(k < to || k >= to + n ? 0xee :
					  pattern(from + k - to, 1 + i), dst[k])
					TH_LOG("shape %zu read %d byte %zu", i, read, k);
			}
		}
	}
}

TEST_F_TIMEOUT(implicit, in_ram, 600)
{
	shapes(_metadata, self, false);
}

TEST_F_TIMEOUT(implicit, on_device, 600)
{
	shapes(_metadata, self, true);
}

TEST_F_TIMEOUT(implicit, atomics, 120)
{
	uint64_t *result = (void *)self->mem[0], *remote = (void *)(self->mem[1] + CHUNK);

	*remote = 40;
	ASSERT_EQ(0, gpu_to_device(self->gpu, remote, PAGE));
	ASSERT_EQ(0, rdma_fetch_add(&self->pair, self->buf[0], rdma_at(self->buf[1], CHUNK), 2));
	EXPECT_EQ(40, *result);
	ASSERT_EQ(0, rdma_cmp_swap(&self->pair, self->buf[0], rdma_at(self->buf[1], CHUNK), 42, 7));
	EXPECT_EQ(42, *result);
	EXPECT_EQ(1, pages_on_device(0, remote, PAGE));
	EXPECT_EQ(7, *remote);
	/* Eight bytes across a border are not aligned. */
	EXPECT_NE(0, rdma_fetch_add(&self->pair, self->buf[0],
				    rdma_at(self->buf[1], CHUNK - 4), 2));
}

/* What is not there, or belongs to a device, is an error; the region is as good as before. */
TEST_F_TIMEOUT(implicit, holes, 240)
{
	char path[128] = "/sys/bus/pci/devices/", name[32], *vram, *file, *huge;
	int bar, memfd = memfd_create("implicit", MFD_CLOEXEC);
	struct rdma_buf bad[4];
	long before;

	ASSERT_EQ(0, count_lists());
	ASSERT_EQ(0, gpu_bus_address(0, name, sizeof(name)));
	strcat(strcat(path, name), "/resource2");
	bar = open(path, O_RDWR | O_CLOEXEC);
	vram = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
	ASSERT_NE(MAP_FAILED, vram);
	ASSERT_EQ(0, ftruncate(memfd, PAGE));
	file = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	ASSERT_NE(MAP_FAILED, file);
	huge = reserve(16UL << 40);
	ASSERT_NE(MAP_FAILED, huge);

	fill_pattern(self->mem[0], PAGE, 3);
	ASSERT_EQ(0, munmap(self->mem[1] + CHUNK, CHUNK));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], PAGE));
	before = lists();
	EXPECT_EQ(2, before);
	bad[0] = rdma_at(self->buf[1], CHUNK + 5 * PAGE);
	bad[1] = (struct rdma_buf) { self->mr, vram };
	bad[2] = (struct rdma_buf) { self->mr, (void *)(-CHUNK - PAGE) };
	bad[3] = (struct rdma_buf) { self->mr, (void *)PAGE };
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
			  rdma_write(&self->pair, self->buf[0], bad[i], PAGE)) TH_LOG("%d", i);
		ASSERT_TRUE(connect_again(self));
	}
	/* No list is left of them. */
	EXPECT_TRUE(lists_become(before)) TH_LOG("%ld lists, %ld before", lists(), before);
	/* A file, and the middle of 16 TiB. */
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0],
				(struct rdma_buf) { self->mr, file }, PAGE));
	EXPECT_EQ(-1, check_pattern(file, PAGE, 3));
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0],
				(struct rdma_buf) { self->mr, huge + (8UL << 40) + 5 }, PAGE));
	EXPECT_EQ(-1, check_pattern(huge + (8UL << 40) + 5, PAGE, 3));
	munmap(vram, PAGE);
	munmap(file, PAGE);
	munmap(huge, 16UL << 40);
	close(bar);
	close(memfd);
}

/* A list goes with the last page of its part that is mapped. */
TEST_F_TIMEOUT(implicit, reaped, 240)
{
	enum { PARTS = 64 };
	char *p = reserve((PARTS + 1) * CHUNK), *q = (char *)(((uintptr_t)p + CHUNK - 1) & -CHUNK);
	long before;

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, count_lists());
	EXPECT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], PAGE));
	before = lists();
	for (int i = 0; i < PARTS; i++) {
		struct rdma_buf to = { self->mr, q + i * CHUNK + CHUNK / 2 };

		ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], to, 8));
	}
	EXPECT_EQ(before + PARTS, lists());
	/* One page of the part is taken, and there was no other. */
	ASSERT_EQ(0, madvise(q + CHUNK / 2, PAGE, MADV_DONTNEED));
	EXPECT_TRUE(lists_become(before + PARTS - 1));
	ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0],
				(struct rdma_buf) { self->mr, q + CHUNK / 2 }, 2 * PAGE));
	ASSERT_EQ(0, madvise(q + CHUNK / 2, PAGE, MADV_DONTNEED));
	/* The other one of two is still there. */
	usleep(200000);
	EXPECT_EQ(before + PARTS, lists());
	munmap(p, (PARTS + 1) * CHUNK);
	EXPECT_TRUE(lists_become(before)) TH_LOG("%ld lists, %ld before", lists(), before);
	EXPECT_EQ(2, before);
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	self->mr = NULL;
	/* The region itself is released, too. */
	EXPECT_EQ(-1, lists());
}

struct dropper {
	char *p;
	atomic_bool over;
	unsigned long rounds;
};

static void *drop(void *arg)
{
	struct dropper *d = arg;

	for (; !d->over; d->rounds++)
		madvise(d->p, LEN, MADV_DONTNEED);
	return NULL;
}

/* Lists come and go while the NIC is at them. */
TEST_F_TIMEOUT(implicit, reaped_under_traffic, 240)
{
	struct dropper d = { .p = self->mem[1] };
	const size_t length = CHUNK + PAGE;
	double end = now_seconds() + 5;
	unsigned long rounds = 0;
	pthread_t thread;

	fill_pattern(self->mem[0], LEN, 5);
	ASSERT_EQ(0, pthread_create(&thread, NULL, drop, &d));
	for (; now_seconds() < end || rounds < 3; rounds++)
		ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], length));
	d.over = true;
	pthread_join(thread, NULL);
	TH_LOG("%lu writes, pages dropped %lu times", rounds, d.rounds);
	EXPECT_LT(rounds, d.rounds);
	ASSERT_EQ(0, rdma_write(&self->pair, self->buf[0], self->buf[1], length));
	EXPECT_EQ(-1, check_pattern(self->mem[1], length, 5));
}

/*
 * ibv_dereg_mr() stops the workers that prefetch the region.  It does not wait until they have
 * gone through all of it.
 */
TEST_F_TIMEOUT(implicit, deregistered_while_advised, 240)
{
	const size_t piece = GiB;
	const int pieces = 64;
	char *p = reserve(pieces * piece);
	double start, one;

	ASSERT_NE(MAP_FAILED, p);
	start = now_seconds();
	ASSERT_EQ(0, rdma_advise(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
				 self->mr, p, piece));
	one = now_seconds() - start;
	for (int i = 0; i < pieces; i++)
		ASSERT_EQ(0, rdma_advise_later(&self->pair,
					       IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
					       self->mr, p + i * piece, piece));
	start = now_seconds();
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	self->mr = NULL;
	TH_LOG("%.0f ms for one piece, %.0f ms until %d stopped", one * 1e3,
	       (now_seconds() - start) * 1e3, pieces);
	EXPECT_LT(now_seconds() - start, 3 * one);
	munmap(p, pieces * piece);
}

/* Advice about any part of it; about a part of another region, only what is in it. */
TEST_F_TIMEOUT(implicit, advice, 120)
{
	struct ibv_mr *part = ibv_reg_mr(self->pair.pd, self->mem[0], CHUNK, RDMA_ODP);
	double end;

	ASSERT_NE(NULL, part);
	ASSERT_EQ(0, gpu_to_device(self->gpu, self->mem[1], LEN));
	EXPECT_EQ(0, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(0, rdma_advise(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, self->mr,
				 self->mem[1] + PAGE, LEN - 2 * PAGE));
	EXPECT_EQ(LEN / PAGE - 2, gpu_counter(0, "mapped_now"));
	EXPECT_EQ(0, rdma_advise_later(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
				       self->mr, self->mem[1], LEN));
	end = now_seconds() + 60;
	while (gpu_counter(0, "mapped_now") < LEN / PAGE && now_seconds() < end)
		usleep(10000);
	EXPECT_EQ(LEN / PAGE, gpu_counter(0, "mapped_now"));

	EXPECT_EQ(-1, rdma_advise(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, part,
				  self->mem[0] + PAGE, CHUNK));
	EXPECT_EQ(EFAULT, errno);
	errno = 0;
	EXPECT_EQ(-1, rdma_advise_later(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, part,
					self->mem[0] + PAGE, CHUNK));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, rdma_advise_later(&self->pair, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, part,
				       self->mem[0], CHUNK));
	EXPECT_EQ(0, ibv_dereg_mr(part));
}

/* An address in it is the address of the process. */
TEST_F(implicit, no_offset)
{
	struct ibv_mr mr = {};

	EXPECT_EQ(-1, rdma_ioctl_reg_mr(&self->pair, NULL, SIZE_MAX, PAGE, RDMA_ODP, &mr));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, rdma_ioctl_reg_mr(&self->pair, NULL, SIZE_MAX, 0, RDMA_ODP, &mr));
	EXPECT_EQ(0, rdma_ioctl_dereg_mr(&self->pair, &mr));
}

/* What the owner of a region tells the one who uses it. */
struct offer {
	uint32_t qp, rkey;
	void *addr;
	pid_t holder;
};

/*
 * A process registers all of its memory and ends, while a child of it has the file still.  Then
 * a peer accesses the region by its key.
 */
static void own_and_end(int out, uint32_t peer, char *mem)
{
	struct rdma_pair own;
	struct offer offer = { .addr = mem };
	struct ibv_qp *qp;
	struct ibv_mr *mr;

	if (rdma_pair_open(&own))
		_exit(2);
	/* Its queue pairs are connected to each other; take a new one for the peer. */
	qp = rdma_create_qp(&own, 0, IBV_QPT_RC, NULL);
	mr = ibv_reg_mr(own.pd, NULL, SIZE_MAX, RDMA_ODP);
	if (!qp || !mr || rdma_connect(qp, peer))
		_exit(3);
	offer.qp = qp->qp_num;
	offer.rkey = mr->rkey;
	offer.holder = fork();
	if (!offer.holder) {
		pause();
		_exit(0);
	}
	_exit(write(out, &offer, sizeof(offer)) == sizeof(offer) ? 0 : 4);
}

TEST_F_TIMEOUT(implicit, owner_has_ended, 120)
{
	struct ibv_qp *qp = rdma_create_qp(&self->pair, 0, IBV_QPT_RC, NULL);
	struct ibv_qp *first = self->pair.qp[0];
	struct offer offer = {};
	struct ibv_mr remote = {};
	int pipes[2];
	pid_t owner;

	ASSERT_NE(NULL, qp);
	ASSERT_EQ(0, pipe(pipes));
	owner = fork();
	if (!owner)
		own_and_end(pipes[1], qp->qp_num, self->mem[1]);
	ASSERT_EQ(0, wait_child(owner));
	ASSERT_EQ(sizeof(offer), read(pipes[0], &offer, sizeof(offer)));
	ASSERT_EQ(0, rdma_connect(qp, offer.qp));
	/* Long enough for what the kernel frees late. */
	usleep(500000);
	remote.rkey = offer.rkey;
	self->pair.qp[0] = qp;
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  rdma_write(&self->pair, self->buf[0],
			     (struct rdma_buf) { &remote, offer.addr }, PAGE));
	self->pair.qp[0] = first;
	ibv_destroy_qp(qp);
	EXPECT_EQ(0, kill(offer.holder, SIGKILL));
	close(pipes[0]);
	close(pipes[1]);
}

TEST_HARNESS_MAIN
