// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Commands
 *
 * What the compute engines of the dummy can do.  A command goes through its memory in pieces.
 * Where the device page table has no entry, it faults.
 *
 * A command never blocks on one range lock while it holds another: two commands could take
 * them in opposite order.  A copy or comparison that cannot have both pieces of memory
 * without waiting goes through a buffer.
 *
 * job->progress counts bytes that the command has worked on.  The pattern tells where they are.
 */
#include <linux/crc32.h>
#include <linux/kcsan-checks.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "hmm_dummy.h"

#define BUFFER_SIZE	SZ_16K
/* HMM_DUMMY_QUANTUM for commands that migrate. */
#define MIGRATE_QUANTUM	SZ_32M
#define MAX_UNIT	4096

/* Bytes that the command works on in all. */
static u64 command_total(const struct hmm_dummy_command *arg)
{
	if (arg->pattern != HMM_DUMMY_STRIDED)
		return arg->length;
	if (arg->length < arg->unit)
		return 0;
	return ((arg->length - arg->unit) / arg->stride + 1) * arg->unit;
}

/*
 * The @i'th of @count numbers, in an order that follows from @seed.  The loop applies a bijection
 * of the next power of two until the result is below @count.
 */
static u64 command_permute(u64 i, u64 count, u64 seed)
{
	u64 mask = roundup_pow_of_two(count) - 1;

	do {
		i = (i + seed) & mask;
		i = (i * 0x9e3779b97f4a7c15ULL) & mask;
		i ^= i >> (fls64(mask) / 2 + 1);
		i = (i * 0xd1342543de82ef95ULL) & mask;
	} while (i >= count);
	return i;
}

/* The offset of the next piece.  Sets *bytes to the bytes that follow it without a gap. */
static u64 command_offset(struct hmm_dummy_job *job, unsigned long *bytes)
{
	const struct hmm_dummy_command *arg = &job->arg;
	u64 i, in_unit;

	if (arg->pattern == HMM_DUMMY_LINEAR) {
		*bytes = min(arg->length - job->progress, HMM_DUMMY_QUANTUM);
		return job->progress;
	}
	i = job->progress / arg->unit;
	in_unit = job->progress % arg->unit;
	*bytes = arg->unit - in_unit;
	if (arg->pattern == HMM_DUMMY_STRIDED)
		return i * arg->stride + in_unit;
	return command_permute(i, arg->length / arg->unit, arg->seed) * arg->unit + in_unit;
}

/**
 * hmm_dummy_job_access - access memory, or note the fault if there is no entry
 * @job: a command
 * @addr: any address
 * @bytes: bytes from @addr on that the command wants
 * @write: the access is a write
 * @access: set on success; see hmm_dummy_access_get()
 *
 * Return: as hmm_dummy_access_get().
 */
int hmm_dummy_job_access(struct hmm_dummy_job *job, unsigned long addr,
			 unsigned long bytes, bool write,
			 struct hmm_dummy_access *access)
{
	int ret = hmm_dummy_access_get(job->queue->ctx, addr, bytes, write, access);

	if (ret != HMM_DUMMY_FAULT)
		return ret;
	job->fault = (struct hmm_dummy_fault) {
		.kind = HMM_DUMMY_NO_ENTRY,
		.addr = addr,
		.write = write,
		/* A linear command needs the memory behind it soon. */
		.length = job->arg.pattern == HMM_DUMMY_LINEAR ?
			  job->arg.length - job->progress : bytes,
	};
	return ret;
}

/* Copy a contiguous piece of the source into the buffer. */
static int command_load_source(struct hmm_dummy_job *job, u64 offset, unsigned long *bytes)
{
	unsigned long wanted = min(*bytes, BUFFER_SIZE);
	struct hmm_dummy_access access;
	int ret = hmm_dummy_job_access(job, job->arg.src + offset, wanted, false,
				       &access);

	if (ret)
		return ret;
	*bytes = access.bytes;
	hmm_dummy_copy_bytes(job->buffer, access.kva, *bytes);
	hmm_dummy_access_put(&access);
	return 0;
}

static void command_add(void *p, unsigned long bytes, u64 value)
{
	u64 *q = p;

	for (; bytes; bytes -= sizeof(*q))
		*q++ += value;
}

/*
 * The offset of the first byte that differs, or @bytes: other tasks may write there, and bytes
 * that differed may be the same now.  noinline, so that a test can set a kprobe.
 */
static noinline __noclone unsigned long
hmm_dummy_first_difference(const u8 *a, const u8 *b, unsigned long bytes)
{
	unsigned long i = 0;

	while (i < bytes && a[i] == b[i])
		i++;
	return i;
}

static unsigned long command_compare(const u8 *a, const u8 *b, unsigned long bytes)
{
	return memcmp(a, b, bytes) ? hmm_dummy_first_difference(a, b, bytes) : bytes;
}

static void command_work_on(struct hmm_dummy_job *job, void *p, const void *src, u64 offset,
			    unsigned long bytes)
{
	struct hmm_dummy_command *arg = &job->arg;
	unsigned long same;

	/* The process may use the memory at the same time, as with any device. */
	kcsan_disable_current();
	switch (arg->op) {
	case HMM_DUMMY_OP_FILL:
		memset(p, arg->value, bytes);
		break;
	case HMM_DUMMY_OP_COPY:
		hmm_dummy_copy_bytes(p, src, bytes);
		break;
	case HMM_DUMMY_OP_CRC32C:
		job->crc = crc32c(job->crc, p, bytes);
		break;
	case HMM_DUMMY_OP_COMPARE:
		same = command_compare(p, src, bytes);
		arg->value = arg->length;
		if (same == bytes)
			break;
		arg->value = offset + same;
		/* The command ends here. */
		job->progress = job->total - bytes;
		break;
	case HMM_DUMMY_OP_ADD:
		command_add(p, bytes, arg->value);
		break;
	}
	kcsan_enable_current();
}

/* One piece of a command on scratch memory. */
static int command_scratch_piece(struct hmm_dummy_job *job, u64 offset, unsigned long *bytes)
{
	struct hmm_dummy_dev *dev = job->queue->ctx->dev;
	u64 pos = job->arg.addr + offset;
	void *p = hmm_dummy_scratch_get(dev, job->pinned, pos);

	if (!p)
		return -ENODEV;
	*bytes = min(*bytes, VRAM_CHUNK - pos % VRAM_CHUNK);
	command_work_on(job, p, NULL, offset, *bytes);
	hmm_dummy_scratch_put(dev, job->pinned);
	return 0;
}

/* One piece of a command; sets *bytes to its length. */
static int command_piece(struct hmm_dummy_job *job, unsigned long *bytes)
{
	struct hmm_dummy_command *arg = &job->arg;
	bool write = arg->op != HMM_DUMMY_OP_CRC32C && arg->op != HMM_DUMMY_OP_COMPARE;
	u64 offset = command_offset(job, bytes);
	struct hmm_dummy_ctx *ctx = job->queue->ctx;
	struct hmm_dummy_access from, access;
	bool two;
	int ret;

	if (hmm_dummy_test_has_engine(ctx->dev))
		return hmm_dummy_test_engine_piece(job, offset, bytes);
	if (arg->flags & HMM_DUMMY_IN_SCRATCH)
		return command_scratch_piece(job, offset, bytes);
	if (arg->op == HMM_DUMMY_OP_ATOMIC_ADD) {
		*bytes = min(*bytes, PAGE_SIZE - offset_in_page(arg->addr + offset));
		job->fault = (struct hmm_dummy_fault) {
			.addr = arg->addr + offset,
			.length = *bytes,
			.write = true,
			.value = arg->value,
		};
		return hmm_dummy_atomic_add(ctx, &job->fault);
	}
	two = job->buffer && hmm_dummy_access_two(ctx, arg->src + offset, arg->addr + offset,
						  *bytes, write, &from, &access);
	if (!two) {
		ret = job->buffer ? command_load_source(job, offset, bytes) : 0;
		if (!ret)
			ret = hmm_dummy_job_access(job, arg->addr + offset, *bytes, write,
						   &access);
		if (ret)
			return ret;
	}
	*bytes = access.bytes;
	command_work_on(job, access.kva, two ? from.kva : job->buffer, offset, *bytes);
	hmm_dummy_access_put(&access);
	if (two)
		hmm_dummy_access_put(&from);
	return 0;
}

/* A migration waits for much, so a fault handler makes it. */
static int command_migrate(struct hmm_dummy_job *job)
{
	struct hmm_dummy_command *arg = &job->arg;

	if (!job->progress)
		arg->value = 0;
	job->fault = (struct hmm_dummy_fault) {
		.kind = HMM_DUMMY_TO_MOVE,
		.addr = arg->addr + job->progress,
		.length = min(job->total - job->progress, MIGRATE_QUANTUM),
		.write = arg->op == HMM_DUMMY_OP_TO_DEVICE,
	};
	return HMM_DUMMY_FAULT;
}

static int command_step(struct hmm_dummy_job *job)
{
	int ret = hmm_dummy_job_pieces(job, command_piece);

	if (!ret && job->arg.op == HMM_DUMMY_OP_CRC32C)
		job->arg.value = ~job->crc;
	return ret;
}

static int command_check_pattern(const struct hmm_dummy_command *arg)
{
	if (arg->pattern == HMM_DUMMY_LINEAR)
		return arg->unit || arg->stride || arg->seed ? -EOPNOTSUPP : 0;
	if (arg->pattern > HMM_DUMMY_RANDOM ||
	    (arg->pattern == HMM_DUMMY_STRIDED ? arg->seed : arg->stride))
		return -EOPNOTSUPP;
	if (arg->pattern == HMM_DUMMY_RANDOM && (arg->op == HMM_DUMMY_OP_CRC32C ||
						 arg->op == HMM_DUMMY_OP_COMPARE))
		return -EOPNOTSUPP;
	if (!arg->unit || arg->unit > MAX_UNIT)
		return -EINVAL;
	if (arg->pattern == HMM_DUMMY_STRIDED)
		return arg->stride < arg->unit || arg->length < arg->unit ? -EINVAL : 0;
	return arg->length % arg->unit ? -EINVAL : 0;
}

static bool command_migrates(const struct hmm_dummy_command *arg)
{
	return arg->op == HMM_DUMMY_OP_TO_DEVICE || arg->op == HMM_DUMMY_OP_TO_RAM;
}

static int command_check_op(const struct hmm_dummy_command *arg)
{
	if (arg->op == HMM_DUMMY_OP_ADD || arg->op == HMM_DUMMY_OP_ATOMIC_ADD)
		return (arg->addr | arg->length | arg->unit | arg->stride) & 7 ?
		       -EINVAL : 0;
	if (!command_migrates(arg))
		return 0;
	if (arg->pattern != HMM_DUMMY_LINEAR)
		return -EOPNOTSUPP;
	return PAGE_ALIGNED(arg->addr | arg->length) ? 0 : -EINVAL;
}

static bool command_has_source(const struct hmm_dummy_command *arg)
{
	return arg->op == HMM_DUMMY_OP_COPY || arg->op == HMM_DUMMY_OP_COMPARE;
}

static int command_check(const struct hmm_dummy_command *arg)
{
	u64 end, src_end;
	int ret;

	if (arg->flags & ~HMM_DUMMY_IN_SCRATCH || arg->queue >= HMM_DUMMY_QUEUES ||
	    arg->op > HMM_DUMMY_OP_TO_RAM || (!command_has_source(arg) && arg->src) ||
	    (arg->op == HMM_DUMMY_OP_COPY && arg->value))
		return -EOPNOTSUPP;
	ret = command_check_pattern(arg) ?: command_check_op(arg);
	if (ret)
		return ret;
	if (!arg->length || check_add_overflow(arg->addr, arg->length, &end) ||
	    check_add_overflow(arg->src, arg->length, &src_end))
		return -EINVAL;
	if (end > TASK_SIZE_MAX || src_end > TASK_SIZE_MAX)
		return -EFAULT;
	return 0;
}

static int command_check_scratch(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned,
				 const struct hmm_dummy_command *arg)
{
	if (arg->op != HMM_DUMMY_OP_FILL && arg->op != HMM_DUMMY_OP_CRC32C &&
	    arg->op != HMM_DUMMY_OP_ADD)
		return -EOPNOTSUPP;
	/* command_check() has refused a range that wraps. */
	return arg->addr + arg->length > hmm_dummy_scratch_size(dev, pinned) ? -EFAULT : 0;
}

/**
 * hmm_dummy_command_init - make a job of a command
 * @job: the job; zeroed.  The caller calls hmm_dummy_command_exit() after its end
 * @ctx: the context; the command works on its memory
 * @arg: the command, from user space; checked here
 *
 * Return: 0 or an errno of HMM_DUMMY_COMMAND.
 */
int hmm_dummy_command_init(struct hmm_dummy_job *job, struct hmm_dummy_ctx *ctx,
			   const struct hmm_dummy_command *arg)
{
	int ret = command_check(arg);

	if (ret)
		return ret;
	if ((command_migrates(arg) && !ctx->dev->exporter) || hmm_dummy_test_refuses(ctx->dev, arg))
		return -EOPNOTSUPP;
	if (arg->flags & HMM_DUMMY_IN_SCRATCH) {
		job->pinned = hmm_dummy_file_pinned(ctx->file);
		ret = command_check_scratch(ctx->dev, job->pinned, arg);
		if (ret)
			return ret;
	}
	hmm_dummy_job_init(job, ctx, arg->queue);
	job->arg = *arg;
	job->total = command_total(arg);
	job->tagged = true;
	job->crc = ~0;
	job->step = command_migrates(arg) ? command_migrate : command_step;
	if (command_has_source(arg)) {
		job->buffer = kmalloc(BUFFER_SIZE, GFP_KERNEL_ACCOUNT);
		if (!job->buffer)
			return -ENOMEM;
	}
	return 0;
}

void hmm_dummy_command_exit(struct hmm_dummy_job *job)
{
	kfree(job->buffer);
}

/* HMM_DUMMY_COMMAND */
int hmm_dummy_command(struct hmm_dummy_ctx *ctx, void *data)
{
	struct hmm_dummy_command *arg = data;
	struct hmm_dummy_job *job = kzalloc_obj(*job, GFP_KERNEL_ACCOUNT);
	int ret;

	if (!job)
		return -ENOMEM;
	ret = hmm_dummy_command_init(job, ctx, arg);
	if (!ret) {
		ret = hmm_dummy_job_run(job);
		arg->value = job->arg.value;
		hmm_dummy_command_exit(job);
	}
	kfree(job);
	return ret;
}
