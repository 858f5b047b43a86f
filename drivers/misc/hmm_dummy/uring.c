// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Commands by io_uring
 *
 * A command is accepted when it is submitted, and completes when an engine has worked on it.
 * No thread waits for it.  io_uring calls hmm_dummy_uring_cmd() with the ring's lock held, or
 * from a worker without it.
 *
 * A command ends by an engine, by HMM_DUMMY_CANCEL, or because the ring goes.  In each case
 * uring_done() is called once, and then uring_complete() in the submitter's task.  Only that
 * task may write to its memory.  It frees the job under the ring's lock.  io_uring asks for a
 * cancellation under the same lock, so the job exists then.
 *
 * If a queue is full, the completion says -EAGAIN.  Returning it here would make io_uring issue
 * the command once more, from a worker.
 */
#include <linux/io_uring/cmd.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "hmm_dummy.h"

struct uring_pdu {
	struct hmm_dummy_job *job;
};

static struct uring_pdu *uring_pdu_of(struct io_uring_cmd *ioucmd)
{
	return io_uring_cmd_to_pdu(ioucmd, struct uring_pdu);
}

static void uring_job_free(struct hmm_dummy_job *job)
{
	hmm_dummy_command_exit(job);
	kfree(job);
}

/* In the submitter's task, or in a worker if that task has exited. */
static void uring_complete(struct io_tw_req tw_req, io_tw_token_t tw)
{
	struct io_uring_cmd *ioucmd = io_uring_cmd_from_tw(tw_req);
	struct hmm_dummy_job *job = uring_pdu_of(ioucmd)->job;
	int result = job->result;

	if (job->user && !tw.cancel &&
	    put_user(job->arg.value, &job->user->value) && !result)
		result = -EFAULT;
	if (job->cqe32)
		io_uring_cmd_done32(ioucmd, result, job->arg.value,
				    IO_URING_CMD_TASK_WORK_ISSUE_FLAGS);
	else
		io_uring_cmd_done(ioucmd, result, IO_URING_CMD_TASK_WORK_ISSUE_FLAGS);
	uring_job_free(job);
}

static void uring_done(struct hmm_dummy_job *job)
{
	io_uring_cmd_complete_in_task(job->ioucmd, uring_complete);
}

/*
 * The pointer in the SQE, in *@user.  An ERR_PTR() would not do: user space may choose any number,
 * -EIOCBQUEUED as well, and would choose what io_uring is told.
 */
static int uring_ptr(struct io_uring_cmd *ioucmd, void __user **user)
{
	const struct hmm_dummy_uring *sqe =
		io_uring_sqe_cmd(ioucmd->sqe, struct hmm_dummy_uring);

	*user = u64_to_user_ptr(READ_ONCE(sqe->ptr));
	return READ_ONCE(sqe->reserved) ? -EOPNOTSUPP : 0;
}

static int uring_read_command(struct io_uring_cmd *ioucmd, unsigned int issue_flags,
			      struct hmm_dummy_command *arg,
			      struct hmm_dummy_command __user **user)
{
	struct hmm_dummy_inline in;
	void __user *ptr = NULL;
	int ret;

	if (ioucmd->cmd_op == HMM_DUMMY_COMMAND) {
		ret = uring_ptr(ioucmd, &ptr);
		*user = ptr;
		return ret ?: hmm_dummy_copy_arg(arg, sizeof(*arg),
						 offsetofend(struct hmm_dummy_command, tag),
						 ptr);
	}
	*user = NULL;
	if (!(issue_flags & IO_URING_F_SQE128))
		return -EINVAL;
	/* User space may write to the SQE at any time, so check and use a copy. */
	memcpy(&in, io_uring_sqe128_cmd(ioucmd->sqe, struct hmm_dummy_inline),
	       sizeof(in));
	barrier();
	*arg = (struct hmm_dummy_command) {
		.size = sizeof(*arg), .op = in.op, .queue = in.queue,
		.addr = in.addr, .src = in.src, .length = in.length,
		.value = in.value, .pattern = in.pattern, .unit = in.unit,
		.stride = in.stride, .seed = in.seed, .tag = in.tag,
	};
	return 0;
}

static int uring_submit(struct hmm_dummy_ctx *ctx, struct io_uring_cmd *ioucmd,
			unsigned int issue_flags, const struct hmm_dummy_command *arg,
		  struct hmm_dummy_command __user *user)
{
	struct hmm_dummy_job *job;
	int ret;

	job = kzalloc_obj(*job, GFP_KERNEL_ACCOUNT);
	if (!job)
		return -ENOMEM;
	ret = hmm_dummy_command_init(job, ctx, arg);
	if (ret) {
		kfree(job);
		return ret;
	}
	job->done = uring_done;
	job->ioucmd = ioucmd;
	job->user = user;
	job->cqe32 = issue_flags & IO_URING_F_CQE32;
	uring_pdu_of(ioucmd)->job = job;

	/* After hmm_dummy_job_submit() the job may end and be freed at any time. */
	io_uring_cmd_mark_cancelable(ioucmd, issue_flags);
	ret = hmm_dummy_job_submit(job);
	if (ret) {
		/* This is also the only way to take the mark back. */
		io_uring_cmd_done(ioucmd, ret, issue_flags);
		uring_job_free(job);
	}
	return -EIOCBQUEUED;
}

/*
 * The context of the caller, after hmm_dummy_dev_enter(), or an ERR_PTR().  Only a worker waits
 * for a removal that is under way.
 */
static struct hmm_dummy_ctx *uring_ctx_enter(struct io_uring_cmd *ioucmd, unsigned int issue_flags)
{
	struct hmm_dummy_file *file = ioucmd->file->private_data;
	struct hmm_dummy_ctx *ctx;
	int ret;

	ret = hmm_dummy_dev_enter(file->dev, !(issue_flags & IO_URING_F_NONBLOCK));
	if (ret)
		return ERR_PTR(ret);
	ctx = hmm_dummy_ctx_get(file);
	if (IS_ERR(ctx))
		hmm_dummy_dev_exit(file->dev);
	return ctx;
}

/* Memory of user space is read before hmm_dummy_dev_enter(), since that may take any time. */
static int uring_command(struct io_uring_cmd *ioucmd, unsigned int issue_flags)
{
	struct hmm_dummy_command __user *user;
	struct hmm_dummy_command arg = {};
	struct hmm_dummy_ctx *ctx;
	struct hmm_dummy_dev *dev;
	int ret;

	ret = uring_read_command(ioucmd, issue_flags, &arg, &user);
	if (ret)
		return ret;
	ctx = uring_ctx_enter(ioucmd, issue_flags);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	/* The command may end at once, and its file with it, but the device stays. */
	dev = ctx->dev;
	ret = uring_submit(ctx, ioucmd, issue_flags, &arg, user);
	hmm_dummy_dev_exit(dev);
	return ret;
}

static int uring_cancel(struct io_uring_cmd *ioucmd, unsigned int issue_flags)
{
	struct hmm_dummy_cancel __user *user;
	struct hmm_dummy_cancel arg = {};
	struct hmm_dummy_ctx *ctx;
	void __user *ptr;
	int ret;

	ret = uring_ptr(ioucmd, &ptr) ?:
	      hmm_dummy_copy_arg(&arg, sizeof(arg),
				 offsetofend(struct hmm_dummy_cancel, cancelled), ptr);
	if (ret)
		return ret;
	user = ptr;
	ctx = uring_ctx_enter(ioucmd, issue_flags);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	ret = hmm_dummy_cancel(ctx, &arg);
	hmm_dummy_dev_exit(ctx->dev);
	if (put_user(arg.cancelled, &user->cancelled) && !ret)
		ret = -EFAULT;
	return ret;
}

/* file_operations.uring_cmd */
int hmm_dummy_uring_cmd(struct io_uring_cmd *ioucmd, unsigned int issue_flags)
{
	if (issue_flags & IO_URING_F_CANCEL) {
		hmm_dummy_job_cancel(uring_pdu_of(ioucmd)->job);
		return 0;
	}
	switch (ioucmd->cmd_op) {
	case HMM_DUMMY_COMMAND:
	case HMM_DUMMY_COMMAND_INLINE:
		return uring_command(ioucmd, issue_flags);
	case HMM_DUMMY_CANCEL:
		return uring_cancel(ioucmd, issue_flags);
	}
	return -ENOTTY;
}
