// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Commands
 *
 * What the dummy's compute engine can do.  A command goes through its memory
 * page by page; each page is looked up in the device page table and faulted in
 * if it is not there.
 */
#include <linux/crc32.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "hmm_dummy.h"

/* State of one command. */
struct command {
	struct hmm_dummy_ctx *ctx;
	struct hmm_dummy_command *arg;
	u8 *buffer;		/* a page; OP_COPY */
	u32 crc;
};

/* One piece of a command, at most up to the end of a page of addr and of src. */
static int command_step(struct command *c, u64 done, unsigned int bytes)
{
	struct hmm_dummy_command *arg = c->arg;
	bool write = arg->op != HMM_DUMMY_OP_CRC32C;
	u64 left = arg->length - done;
	struct hmm_dummy_access access;
	void *p;
	int ret;

	if (arg->op == HMM_DUMMY_OP_COPY) {
		/*
		 * Through a buffer: holding two pages would hold two ranges'
		 * locks, in either order.
		 */
		ret = hmm_dummy_svm_get(c->ctx, arg->src + done, left, false,
					&access);
		if (ret)
			return ret;
		memcpy(c->buffer, access.kva + offset_in_page(arg->src + done),
		       bytes);
		hmm_dummy_svm_put(&access);
	}

	ret = hmm_dummy_svm_get(c->ctx, arg->addr + done, left, write, &access);
	if (ret)
		return ret;
	p = access.kva + offset_in_page(arg->addr + done);
	switch (arg->op) {
	case HMM_DUMMY_OP_FILL:
		memset(p, arg->value, bytes);
		break;
	case HMM_DUMMY_OP_COPY:
		memcpy(p, c->buffer, bytes);
		break;
	case HMM_DUMMY_OP_CRC32C:
		c->crc = crc32c(c->crc, p, bytes);
		break;
	}
	hmm_dummy_svm_put(&access);
	return 0;
}

static int command_run(struct command *c)
{
	struct hmm_dummy_command *arg = c->arg;
	u64 done = 0;

	while (done < arg->length) {
		u64 bytes = min(arg->length - done,
				PAGE_SIZE - offset_in_page(arg->addr + done));
		int ret;

		if (arg->op == HMM_DUMMY_OP_COPY)
			bytes = min(bytes, PAGE_SIZE -
				    offset_in_page(arg->src + done));
		ret = command_step(c, done, bytes);
		if (ret)
			return ret;
		done += bytes;
		cond_resched();
	}
	return 0;
}

static int command_check(const struct hmm_dummy_command *arg)
{
	u64 end, src_end;

	if (arg->flags || arg->reserved || arg->op > HMM_DUMMY_OP_CRC32C ||
	    (arg->op != HMM_DUMMY_OP_COPY && arg->src) ||
	    (arg->op == HMM_DUMMY_OP_COPY && arg->value))
		return -EOPNOTSUPP;
	if (!arg->length || check_add_overflow(arg->addr, arg->length, &end) ||
	    check_add_overflow(arg->src, arg->length, &src_end))
		return -EINVAL;
	if (end > TASK_SIZE_MAX || src_end > TASK_SIZE_MAX)
		return -EFAULT;
	return 0;
}

/* HMM_DUMMY_COMMAND */
int hmm_dummy_command(struct hmm_dummy_ctx *ctx, void *arg)
{
	struct command c = { .ctx = ctx, .arg = arg, .crc = ~0 };
	int ret;

	ret = command_check(arg);
	if (ret)
		return ret;
	if (current->mm != ctx->mm)
		return -EPERM;
	c.buffer = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!c.buffer)
		return -ENOMEM;
	/* current->mm: alive as long as we are. */
	ret = command_run(&c);
	kfree(c.buffer);
	if (!ret && c.arg->op == HMM_DUMMY_OP_CRC32C)
		c.arg->value = ~c.crc;
	return ret;
}
