/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A process of the soak test.  It runs random operations on its memory and does the same to a
 * copy in plain RAM, the model.  It compares the memory with the model byte by byte.
 *
 * The seed alone determines the operations: no operation draws a random number that depends on
 * a result.  Their timing, and what the machine does meanwhile, differ from run to run.
 */
#ifndef HMM_P2P_SOAK_H
#define HMM_P2P_SOAK_H

#include <sys/mman.h>

#include "odp.h"
#include "uring.h"

#define SOAK_LEN	(14 * MiB)
#define SOAK_STAGE	(256 * 1024UL)
#define SOAK_WORKERS	3
/* The longest time in seconds for which an operation may be repeated. */
#define SOAK_PATIENCE	30.0
#define SOAK_LOG	16

enum soak_op {
	SOAK_CPU_WRITE, SOAK_CPU_READ, SOAK_FILL, SOAK_COPY, SOAK_ADD, SOAK_CRC,
	SOAK_TO_DEVICE, SOAK_TO_RAM, SOAK_NIC_WRITE, SOAK_NIC_READ, SOAK_URING, SOAK_FORK,
	SOAK_MREMAP, SOAK_DONTNEED, SOAK_PAGEOUT, SOAK_HUGE, SOAK_READ_ONLY, SOAK_UNMAP,
	SOAK_SCRATCH, SOAK_REGISTER, SOAK_REOPEN, SOAK_MERGE, SOAK_OPS
};

static const char *const soak_names[SOAK_OPS] = {
	"cpu_write", "cpu_read", "fill", "copy", "add", "crc",
	"to_device", "to_ram", "nic_write", "nic_read", "uring", "fork",
	"mremap", "dontneed", "pageout", "huge", "read_only", "unmap",
	"scratch", "register", "reopen", "merge",
};

/* The weight with which each operation is chosen, and its longest range. */
static const struct {
	unsigned int weight;
	size_t most;
} soak_kinds[SOAK_OPS] = {
	[SOAK_CPU_WRITE]	= { 10, 64 * PAGE },
	[SOAK_CPU_READ]		= { 10, 256 * PAGE },
	[SOAK_FILL]		= { 10, 10 * MiB },
	[SOAK_COPY]		= { 10, 64 * PAGE },
	[SOAK_ADD]		= { 5, 64 * PAGE },
	[SOAK_CRC]		= { 10, 256 * PAGE },
	[SOAK_TO_DEVICE]	= { 12, SOAK_LEN },
	[SOAK_TO_RAM]		= { 4, 2 * MiB },
	[SOAK_NIC_WRITE]	= { 10, SOAK_STAGE },
	[SOAK_NIC_READ]		= { 10, SOAK_STAGE },
	[SOAK_URING]		= { 5, 64 * PAGE },
	[SOAK_FORK]		= { 2, 64 * PAGE },
	[SOAK_MREMAP]		= { 2, 2 * MiB },
	[SOAK_DONTNEED]		= { 3, 64 * PAGE },
	[SOAK_PAGEOUT]		= { 2, 256 * PAGE },
	[SOAK_HUGE]		= { 3, SOAK_LEN },
	[SOAK_READ_ONLY]	= { 2, 16 * PAGE },
	[SOAK_UNMAP]		= { 2, 64 * PAGE },
	[SOAK_SCRATCH]		= { 3, 64 * PAGE },
	[SOAK_REGISTER]		= { 1, PAGE },
	[SOAK_REOPEN]		= { 1, PAGE },
	[SOAK_MERGE]		= { 1, 64 * PAGE },
};

/* What a worker tells the supervisor, in shared memory. */
struct soak_stats {
	volatile unsigned long done[SOAK_OPS];
	volatile unsigned long retried;		/* a GPU was gone, or memory kept moving */
	volatile unsigned long at_once;		/* io_uring commands that succeeded at once */
	volatile bool stop;
};

struct soak_step {
	enum soak_op op;
	size_t at, src, length;
	int gpu;
};

struct soak_worker {
	unsigned int nr;
	uint64_t random;
	struct soak_stats *stats;
	char *mem, *model, *spare;
	int gpu[2];
	struct odp o;
	struct io_uring ring;
	struct soak_step log[SOAK_LOG];
	unsigned long steps;
};

static inline void soak_die(struct soak_worker *w, const char *what, size_t at)
{
	unsigned long first = w->steps < SOAK_LOG ? 0 : w->steps - SOAK_LOG + 1;

	fprintf(stderr, "# worker %u, step %lu: %s (byte %#zx, errno %s)\n", w->nr,
		w->steps, what, at, strerror(errno));
	for (unsigned long i = first; i <= w->steps; i++) {
		struct soak_step *s = &w->log[i % SOAK_LOG];

		fprintf(stderr, "#   step %lu: %s at %#zx src %#zx length %#zx gpu %d\n", i,
			soak_names[s->op], s->at, s->src, s->length, s->gpu);
	}
	_exit(1);
}

static inline void soak_same(struct soak_worker *w, const void *found, size_t at,
			     size_t length)
{
	const char *c = found;

	if (!memcmp(c, w->model + at, length))
		return;
	for (size_t i = 0; i < length; i++)
		if (c[i] != w->model[at + i])
			soak_die(w, "memory is not what the model says", at + i);
}

/* The second GPU may be unbound, or have come back with another number. */
static inline int soak_gpu(struct soak_worker *w, int n)
{
	for (int i = 1; n && w->gpu[1] < 0 && i < 16; i++)
		w->gpu[1] = gpu_open(i);
	return n && w->gpu[1] >= 0 ? w->gpu[1] : w->gpu[0];
}

/*
 * Whether an operation that failed must be repeated.  The worker dies when that takes too long.
 */
static inline bool soak_again(struct soak_worker *w, int n, double begin)
{
	if (now_seconds() - begin > SOAK_PATIENCE)
		soak_die(w, "an operation takes too long", 0);
	w->stats->retried++;
	switch (errno) {
	case ENODEV:
		if (n && w->gpu[1] >= 0)
			close(w->gpu[1]);
		w->gpu[1] = -1;
		return n;
	case EBUSY:
	case EAGAIN:
	case ENOMEM:
		usleep(1000);
		return true;
	}
	return false;
}

/*
 * Run a command on GPU @n, or on GPU 0 if @n is gone.  A command that was done in part is
 * repeated, so its result must not depend on that.
 */
static inline void soak_command(struct soak_worker *w, int n, struct hmm_dummy_command *c)
{
	double begin = now_seconds();

	while (gpu_command(soak_gpu(w, n), c))
		if (!soak_again(w, n, begin))
			soak_die(w, "a command failed", 0);
}

static inline void soak_migrate(struct soak_worker *w, struct soak_step *s)
{
	unsigned int flags = s->op == SOAK_TO_RAM ? HMM_DUMMY_MIGRATE_TO_RAM : 0;
	double begin = now_seconds();

	while (gpu_migrate(soak_gpu(w, s->gpu), GPU_SELF, w->mem + s->at, s->length, flags,
			   NULL)) {
		/* Moving the memory is not required. */
		if (errno == ENOMEM)
			break;
		if (!soak_again(w, s->gpu, begin))
			soak_die(w, "migration failed", s->at);
	}
}

static inline void soak_register(struct soak_worker *w)
{
	w->o.to.addr = w->mem;
	w->o.to.mr = ibv_reg_mr(w->o.pair.pd, w->mem, SOAK_LEN, RDMA_ODP);
	if (!w->o.to.mr)
		soak_die(w, "ibv_reg_mr", 0);
}

/* A child sees the memory as it was.  Its own writes do not change the parent's memory. */
static inline void soak_fork(struct soak_worker *w, struct soak_step *s)
{
	pid_t child = fork();

	if (!child) {
		memset(w->mem + s->at, 0xcc, s->length / 2);
		soak_same(w, w->mem, 0, s->at);
		soak_command(w, s->gpu, &(struct hmm_dummy_command) {
			.op = HMM_DUMMY_OP_FILL, .addr = (uintptr_t)w->mem + s->at,
			.length = s->length, .value = 0xdd,
		});
		for (size_t i = 0; i < s->length; i++)
			if (w->mem[s->at + i] != (char)0xdd)
				soak_die(w, "a child's memory is wrong", s->at + i);
		soak_same(w, w->mem + s->at + s->length, s->at + s->length,
			  SOAK_LEN - s->at - s->length);
		_exit(0);
	}
	if (child < 0 || wait_child(child))
		soak_die(w, "a child failed", s->at);
}

static inline void soak_move(struct soak_worker *w, struct soak_step *s)
{
	char *from = w->mem + s->at;

	if (mremap(from, s->length, s->length, MREMAP_MAYMOVE | MREMAP_FIXED, w->spare) !=
	    w->spare)
		soak_die(w, "mremap", s->at);
	soak_command(w, s->gpu, &(struct hmm_dummy_command) {
		.op = HMM_DUMMY_OP_FILL, .addr = (uintptr_t)w->spare, .length = PAGE,
		.value = s->src & 0xff,
	});
	memset(w->model + s->at, s->src & 0xff, PAGE);
	soak_same(w, w->spare, s->at, s->length);
	if (mremap(w->spare, s->length, s->length, MREMAP_MAYMOVE | MREMAP_FIXED, from) != from)
		soak_die(w, "mremap", s->at);
	/* Reserve the address range again. */
	if (mmap(w->spare, 2 * MiB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != w->spare)
		soak_die(w, "mmap", s->at);
}

static inline void soak_read_only(struct soak_worker *w, struct soak_step *s)
{
	double begin = now_seconds();
	char *p = w->mem + s->at;

	if (mprotect(p, s->length, PROT_READ))
		soak_die(w, "mprotect", s->at);
	for (;;) {
		if (!gpu_fill(soak_gpu(w, s->gpu), p, s->length, 0xee))
			soak_die(w, "a write to read-only memory", s->at);
		if (errno == EPERM)
			break;
		if (!soak_again(w, s->gpu, begin))
			soak_die(w, "another error than EPERM", s->at);
	}
	soak_same(w, p, s->at, s->length);
	if (mprotect(p, s->length, PROT_READ | PROT_WRITE))
		soak_die(w, "mprotect", s->at);
}

/* Fill eight pieces with a command for each.  Commands that may fail are repeated. */
static inline void soak_uring(struct soak_worker *w, struct soak_step *s)
{
	double begin = now_seconds();
	size_t piece = s->length / 8;
	struct hmm_dummy_command c[8];
	struct io_uring_cqe *cqe;
	int result[8];

	for (int i = 0; i < 8; i++) {
		c[i] = (struct hmm_dummy_command) {
			.op = HMM_DUMMY_OP_FILL, .queue = i, .value = s->src + i,
			.addr = (uintptr_t)w->mem + s->at + i * piece, .length = piece,
		};
		uring_command(&w->ring, soak_gpu(w, s->gpu), &c[i])->user_data = i;
		memset(w->model + s->at + i * piece, s->src + i, piece);
	}
	if (io_uring_submit(&w->ring) != 8)
		soak_die(w, "io_uring_submit", s->at);
	for (int i = 0; i < 8; i++) {
		if (io_uring_wait_cqe(&w->ring, &cqe))
			soak_die(w, "io_uring_wait_cqe", s->at);
		result[cqe->user_data] = cqe->res;
		io_uring_cqe_seen(&w->ring, cqe);
	}
	for (int i = 0; i < 8; i++) {
		if (!result[i]) {
			w->stats->at_once++;
			continue;
		}
		errno = -result[i];
		if (!soak_again(w, s->gpu, begin))
			soak_die(w, "a command by io_uring failed", s->at + i * piece);
		soak_command(w, s->gpu, &c[i]);
	}
}

/* Each worker uses its own part of GPU 0's scratch memory. */
static inline void soak_scratch(struct soak_worker *w, struct soak_step *s)
{
	off_t pos = w->nr * MiB + 123;

	if (pwrite(w->gpu[0], w->mem + s->at, s->length, pos) != (ssize_t)s->length ||
	    pread(w->gpu[0], w->mem + s->src, s->length, pos) != (ssize_t)s->length)
		soak_die(w, "scratch memory", s->at);
	memcpy(w->model + s->src, w->model + s->at, s->length);
}

static inline void soak_nic(struct soak_worker *w, struct soak_step *s)
{
	struct rdma_buf to = w->o.to;

	to.addr = w->mem + s->at;
	if (s->op == SOAK_NIC_READ) {
		if (rdma_read(&w->o.pair, w->o.from, to, s->length))
			soak_die(w, "RDMA READ", s->at);
		soak_same(w, w->o.stage, s->at, s->length);
		return;
	}
	for (size_t i = 0; i < s->length; i++)
		w->o.stage[i] = s->src + i * 13;
	if (rdma_write(&w->o.pair, w->o.from, to, s->length))
		soak_die(w, "RDMA WRITE", s->at);
	memcpy(w->model + s->at, w->o.stage, s->length);
}

static inline void soak_advise(struct soak_worker *w, struct soak_step *s)
{
	char *p = w->mem + s->at;

	switch (s->op) {
	case SOAK_DONTNEED:
		if (madvise(p, s->length, MADV_DONTNEED))
			soak_die(w, "MADV_DONTNEED", s->at);
		memset(w->model + s->at, 0, s->length);
		break;
	case SOAK_PAGEOUT:
		if (madvise(p, s->length, MADV_PAGEOUT))
			soak_die(w, "MADV_PAGEOUT", s->at);
		break;
	case SOAK_MERGE:
		if (madvise(p, s->length, s->src & PAGE ? MADV_MERGEABLE : MADV_UNMERGEABLE))
			soak_die(w, "MADV_(UN)MERGEABLE", s->at);
		break;
	case SOAK_HUGE:
		if (madvise(p, s->length, s->src & PAGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
			soak_die(w, "MADV_(NO)HUGEPAGE", s->at);
		break;
	default:	/* SOAK_UNMAP */
		if (munmap(p, s->length) ||
		    mmap(p, s->length, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != p)
			soak_die(w, "munmap", s->at);
		memset(w->model + s->at, 0, s->length);
	}
}

static inline void soak_add(struct soak_worker *w, struct soak_step *s)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_ADD, .addr = (uintptr_t)w->mem + s->at,
		.length = s->length, .value = s->src,
	};
	uint64_t value;

	/* An addition that was done in part cannot be repeated. */
	if (gpu_command(w->gpu[0], &c))
		soak_die(w, "add failed", s->at);
	for (size_t i = 0; i < s->length; i += 8) {
		memcpy(&value, w->model + s->at + i, 8);
		value += s->src;
		memcpy(w->model + s->at + i, &value, 8);
	}
}

static inline void soak_crc_check(struct soak_worker *w, struct soak_step *s)
{
	struct hmm_dummy_command c = {
		.op = HMM_DUMMY_OP_CRC32C, .addr = (uintptr_t)w->mem + s->at,
		.length = s->length,
	};

	soak_command(w, s->gpu, &c);
	if (c.value != crc32c(w->model + s->at, s->length))
		soak_die(w, "the checksum of the GPU is wrong", s->at);
}

static inline bool soak_wants_pages(enum soak_op op)
{
	return op == SOAK_TO_DEVICE || op == SOAK_TO_RAM || op >= SOAK_MREMAP;
}

/* Choose the operation, its range and its GPU. */
static inline void soak_choose(struct soak_worker *w, struct soak_step *s)
{
	unsigned int total = 0, at;
	uint64_t r = random_next(&w->random);
	size_t unit;

	for (int i = 0; i < SOAK_OPS; i++)
		total += soak_kinds[i].weight;
	at = r % total;
	for (s->op = 0; at >= soak_kinds[s->op].weight; s->op++)
		at -= soak_kinds[s->op].weight;
	s->gpu = r >> 40 & 1;
	unit = soak_wants_pages(s->op) ? PAGE :
	       s->op == SOAK_ADD || s->op == SOAK_URING ? 8 : 1;
	/* Half of the large ranges are multiples of a huge page. */
	if (soak_kinds[s->op].most >= 2 * MiB && r >> 41 & 1)
		unit = 2 * MiB;
	s->length = (random_next(&w->random) % (soak_kinds[s->op].most / unit) + 1) * unit;
	s->at = random_next(&w->random) % ((SOAK_LEN - s->length) / unit + 1) * unit;
	/*
	 * The source of a copy is in the first half of the memory, its destination in the
	 * second half.
	 */
	s->src = random_next(&w->random);
	if (s->op == SOAK_COPY || s->op == SOAK_SCRATCH) {
		s->at %= SOAK_LEN / 2 - s->length;
		s->src = SOAK_LEN / 2 + s->src % (SOAK_LEN / 2 - s->length);
	}
}

static inline void soak_do(struct soak_worker *w, struct soak_step *s)
{
	char *p = w->mem + s->at;

	switch (s->op) {
	case SOAK_CPU_WRITE:
		for (size_t i = 0; i < s->length; i++)
			w->model[s->at + i] = s->src + i * 7;
		memcpy(p, w->model + s->at, s->length);
		break;
	case SOAK_CPU_READ:
		soak_same(w, p, s->at, s->length);
		break;
	case SOAK_FILL:
		soak_command(w, s->gpu, &(struct hmm_dummy_command) {
			.op = HMM_DUMMY_OP_FILL, .addr = (uintptr_t)p,
			.length = s->length, .value = s->src & 0xff,
		});
		memset(w->model + s->at, s->src, s->length);
		break;
	case SOAK_COPY:
		soak_command(w, s->gpu, &(struct hmm_dummy_command) {
			.op = HMM_DUMMY_OP_COPY, .addr = (uintptr_t)w->mem + s->src,
			.src = (uintptr_t)p, .length = s->length,
		});
		memcpy(w->model + s->src, w->model + s->at, s->length);
		break;
	case SOAK_ADD:
		soak_add(w, s);
		break;
	case SOAK_CRC:
		soak_crc_check(w, s);
		break;
	case SOAK_TO_DEVICE:
	case SOAK_TO_RAM:
		soak_migrate(w, s);
		break;
	case SOAK_NIC_WRITE:
	case SOAK_NIC_READ:
		soak_nic(w, s);
		break;
	case SOAK_URING:
		soak_uring(w, s);
		break;
	case SOAK_FORK:
		soak_fork(w, s);
		break;
	case SOAK_MREMAP:
		soak_move(w, s);
		break;
	case SOAK_READ_ONLY:
		soak_read_only(w, s);
		break;
	case SOAK_SCRATCH:
		soak_scratch(w, s);
		break;
	case SOAK_REGISTER:
		if (ibv_dereg_mr(w->o.to.mr))
			soak_die(w, "ibv_dereg_mr", 0);
		soak_register(w);
		break;
	case SOAK_REOPEN:
		close(w->gpu[0]);
		w->gpu[0] = gpu_open(0);
		break;
	default:
		soak_advise(w, s);
	}
}

static inline void soak_open(struct soak_worker *w)
{
	const char *error = odp_open(&w->o, SOAK_STAGE);

	w->mem = anon_huge(SOAK_LEN, MADV_NOHUGEPAGE);
	w->model = anon(SOAK_LEN);
	w->spare = anon_huge(2 * MiB, MADV_NOHUGEPAGE);
	w->gpu[0] = gpu_open(0);
	w->gpu[1] = -1;
	if (error || !w->mem || w->model == MAP_FAILED || !w->spare || w->gpu[0] < 0 ||
	    io_uring_queue_init(8, &w->ring, 0))
		soak_die(w, error ?: "setup", 0);
	/* Replace the region that odp_open() has registered. */
	ibv_dereg_mr(w->o.to.mr);
	soak_register(w);
}

/* The worker's main function.  Returns 0 if all data was right. */
static inline int soak_work(unsigned int nr, uint64_t seed, struct soak_stats *stats)
{
	struct soak_worker w = { .nr = nr, .stats = stats, .random = random_start(seed, nr) };

	soak_open(&w);
	for (; !stats->stop; w.steps++) {
		struct soak_step *s = &w.log[w.steps % SOAK_LOG];

		soak_choose(&w, s);
		soak_do(&w, s);
		stats->done[s->op]++;
	}
	soak_same(&w, w.mem, 0, SOAK_LEN);
	return 0;
}

#endif
