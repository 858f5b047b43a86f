// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Jobs
 *
 * A job is submitted to a queue, and an engine works on it piece by piece.  It ends when its
 * work is done, when it is cancelled, or when its context or the device goes.  A task that waits
 * for its job handles the faults of the job.  The scheduler (scheduler.c) chooses the job that
 * an engine works on.
 *
 * Replace for real hardware: the pieces, by packets in a ring.
 */
#include <linux/nospec.h>
#include <linux/sched/signal.h>

#include "hmm_dummy.h"

/*
 * How a task waits for engines: a fatal signal ends the wait, and the freezer does not wait for
 * it (power.c).
 */
#define JOB_WAIT_STATE	(TASK_KILLABLE | TASK_FREEZABLE)

/* End the job with @result.  The caller does not use it after that: job->done may free it. */
void hmm_dummy_job_end(struct hmm_dummy_job *job, int result)
{
	job->result = result;
	job->done(job);
}

/*
 * The errno that a job ends with if it must not go on, or 0.  A removal sets dev->gone before it
 * cancels all jobs, so that they end with -ENODEV.
 */
int hmm_dummy_job_must_end(struct hmm_dummy_job *job)
{
	/* Pairs with ctx_take_jobs(). */
	bool cancelled = smp_load_acquire(&job->cancelled);

	if (READ_ONCE(job->queue->ctx->dev->gone))
		return -ENODEV;
	return cancelled ? -ECANCELED : 0;
}

static bool ctx_has_room(struct hmm_dummy_ctx *ctx)
{
	return READ_ONCE(ctx->nr_jobs) < hmm_dummy_test_queue_depth(HMM_DUMMY_QUEUE_DEPTH);
}

/**
 * hmm_dummy_job_init - prepare a job
 * @job: the job; zeroed
 * @ctx: the context; the job works on its memory
 * @queue: index of its queue
 *
 * From here on the job may be cancelled, before it is submitted as well.
 */
void hmm_dummy_job_init(struct hmm_dummy_job *job, struct hmm_dummy_ctx *ctx,
			unsigned int queue)
{
	INIT_LIST_HEAD(&job->node);
	job->dev = ctx->dev;
	job->queue = &ctx->queues[array_index_nospec(queue, HMM_DUMMY_QUEUES)];
	init_completion(&job->completion);
}

/**
 * hmm_dummy_job_submit - let an engine work on a job
 * @job: the job, after hmm_dummy_job_init(), with step and done set; the caller does not use
 *	it until job->done is called
 *
 * Context: Process context; does not sleep.
 *
 * Return: 0; or, and the job is the caller's, -EAGAIN if the context has too many jobs, -ENODEV
 * if the device goes, -ECANCELED if the job has been cancelled.
 */
int hmm_dummy_job_submit(struct hmm_dummy_job *job)
{
	struct hmm_dummy_queue *queue = job->queue;
	struct hmm_dummy_ctx *ctx = queue->ctx;
	struct hmm_dummy_dev *dev = ctx->dev;
	int ret = 0;

	spin_lock(&dev->sched.lock);
	if (dev->sched.stopped) {
		ret = -ENODEV;
	} else if (job->cancelled) {
		ret = -ECANCELED;
	} else if (!ctx_has_room(ctx)) {
		ret = -EAGAIN;
	} else {
		ctx->nr_jobs++;
		job->queued = true;
		list_add_tail(&job->node, &queue->jobs);
		if (queue->state == HMM_DUMMY_IDLE)
			hmm_dummy_queue_ready(queue);
	}
	spin_unlock(&dev->sched.lock);
	return ret;
}

/**
 * hmm_dummy_job_pieces - a step that works on one piece after another
 * @job: the job, with job->total set
 * @piece: works on one piece, and not beyond job->total
 *
 * Context: Process context, from an engine.  May sleep.
 *
 * Return: 0 at the end, %HMM_DUMMY_YIELD when it is another queue's turn, -ECANCELED,
 * -ENODEV if the device goes, or what @piece returned.
 */
int hmm_dummy_job_pieces(struct hmm_dummy_job *job, hmm_dummy_piece piece)
{
	unsigned long bytes, done = 0;
	int ret;

	while (job->progress < job->total) {
		ret = hmm_dummy_job_must_end(job);
		if (ret)
			return ret;
		if (done >= HMM_DUMMY_QUANTUM)
			return HMM_DUMMY_YIELD;
		ret = piece(job, &bytes);
		if (ret)
			return ret;
		job->progress += bytes;
		done += bytes;
		cond_resched();
	}
	return 0;
}

/* Wait until @ctx may submit a job, without locks.  0, or -EINTR for a fatal signal. */
int hmm_dummy_wait_room(struct hmm_dummy_ctx *ctx)
{
	struct hmm_dummy_dev *dev = ctx->dev;

	return wait_event_state(dev->sched.progress, ctx_has_room(ctx) ||
				READ_ONCE(dev->sched.stopped),
				JOB_WAIT_STATE) ? -EINTR : 0;
}

/* Wait until engines that rest go on, without locks.  0, or -EINTR for a fatal signal. */
int hmm_dummy_wait_rest(struct hmm_dummy_dev *dev)
{
	return wait_event_state(dev->sched.progress, !READ_ONCE(dev->sched.resting) ||
				READ_ONCE(dev->sched.stopped),
				JOB_WAIT_STATE) ? -EINTR : 0;
}

/*
 * Take a job out of its queue.  False if an engine has it, or if it has ended: then its context
 * may have gone.
 */
static bool job_take_out(struct hmm_dummy_job *job)
{
	struct hmm_dummy_queue *queue = job->queue;

	lockdep_assert_held(&job->dev->sched.lock);
	if (!job->queued ||
	    (hmm_dummy_queue_is_active(queue) && hmm_dummy_queue_first(queue) == job))
		return false;
	list_del_init(&job->node);
	job->queued = false;
	queue->ctx->nr_jobs--;
	if (list_empty(&queue->jobs) && queue->state == HMM_DUMMY_READY) {
		list_del_init(&queue->node);
		hmm_dummy_queue_idle(queue);
	}
	/* The context may submit another job. */
	wake_up_all(&job->dev->sched.progress);
	return true;
}

/**
 * hmm_dummy_job_cancel - cancel a job
 * @job: the job, after hmm_dummy_job_init()
 *
 * A job that waits ends now, with -ECANCELED.  A job that runs ends after its piece.  A job that
 * has not been submitted is refused.  A job that has ended may have outlived its context:
 *
 *	submitter		engine		another process		its ring ends
 *	exits; mm is gone
 *				job ends,
 *				to be freed
 *				by that task
 *						uses the file:
 *						frees the context
 *									cancels
 *	frees the job
 *
 * So this function uses the job and the device only.  The file of the job holds the device.
 */
void hmm_dummy_job_cancel(struct hmm_dummy_job *job)
{
	struct hmm_dummy_dev *dev = job->dev;
	bool taken;

	spin_lock(&dev->sched.lock);
	WRITE_ONCE(job->cancelled, true);
	taken = job_take_out(job);
	spin_unlock(&dev->sched.lock);
	if (taken)
		hmm_dummy_job_end(job, -ECANCELED);
}

/*
 * Cancel all jobs of @ctx, or those with a tag, and move those that wait to @taken.  Returns how
 * many were cancelled.
 */
static unsigned int ctx_take_jobs(struct hmm_dummy_ctx *ctx, const u64 *tag,
				  struct list_head *taken)
{
	struct hmm_dummy_job *job, *next;
	unsigned int i, n = 0;

	spin_lock(&ctx->dev->sched.lock);
	for (i = 0; i < HMM_DUMMY_QUEUES; i++) {
		list_for_each_entry_safe(job, next, &ctx->queues[i].jobs, node) {
			if (tag && (!job->tagged || job->arg.tag != *tag))
				continue;
			n++;
			/* Pairs with hmm_dummy_job_must_end(). */
			smp_store_release(&job->cancelled, true);
			if (job_take_out(job))
				list_add_tail(&job->node, taken);
		}
	}
	spin_unlock(&ctx->dev->sched.lock);
	return n;
}

static void job_end_taken(struct list_head *taken, int result)
{
	struct hmm_dummy_job *job, *next;

	list_for_each_entry_safe(job, next, taken, node) {
		list_del_init(&job->node);
		hmm_dummy_job_end(job, result);
	}
}

/* HMM_DUMMY_CANCEL */
int hmm_dummy_cancel(struct hmm_dummy_ctx *ctx, void *data)
{
	struct hmm_dummy_cancel *arg = data;
	LIST_HEAD(taken);

	if (arg->flags)
		return -EOPNOTSUPP;
	arg->cancelled = ctx_take_jobs(ctx, &arg->tag, &taken);
	job_end_taken(&taken, -ECANCELED);
	return arg->cancelled ? 0 : -ENOENT;
}

static bool ctx_is_idle(struct hmm_dummy_ctx *ctx)
{
	unsigned int i;
	bool idle = true;

	spin_lock(&ctx->dev->sched.lock);
	for (i = 0; i < HMM_DUMMY_QUEUES; i++)
		idle &= ctx->queues[i].state == HMM_DUMMY_IDLE;
	spin_unlock(&ctx->dev->sched.lock);
	return idle;
}

/*
 * Take out the jobs that wait for a fault.  To handle that may take any time.  A task that waits
 * for its job handles the fault itself, and finds the result when it waits again.
 */
static void ctx_take_faulted(struct hmm_dummy_ctx *ctx, int error, struct list_head *taken)
{
	struct hmm_dummy_queue *queue;
	struct hmm_dummy_job *job;

	spin_lock(&ctx->dev->sched.lock);
	for (queue = ctx->queues; queue < ctx->queues + HMM_DUMMY_QUEUES; queue++) {
		if (queue->state != HMM_DUMMY_FAULTED)
			continue;
		job = hmm_dummy_queue_first(queue);
		list_del_init(&job->node);
		job->queued = false;
		ctx->nr_jobs--;
		hmm_dummy_queue_idle(queue);
		if (!job->waited_for) {
			list_add_tail(&job->node, taken);
			continue;
		}
		job->result = error;
		/* If the task has not begun with the fault, it is about to wake up. */
		if (!job->handed_over)
			complete(&job->completion);
		job->handed_over = false;
	}
	spin_unlock(&ctx->dev->sched.lock);
}

/*
 * End all jobs of a context, which gets no new ones.  When this returns, no engine uses the
 * context.  A fault handler may use it, and holds references.
 */
void hmm_dummy_ctx_drain(struct hmm_dummy_ctx *ctx, int error)
{
	LIST_HEAD(taken);

	ctx_take_jobs(ctx, NULL, &taken);
	job_end_taken(&taken, error);
	ctx_take_faulted(ctx, error, &taken);
	job_end_taken(&taken, error);
	wait_event(ctx->dev->sched.progress, ctx_is_idle(ctx));
}

static bool job_take_over_fault(struct hmm_dummy_job *job)
{
	struct hmm_dummy_dev *dev = job->dev;
	bool ours;

	spin_lock(&dev->sched.lock);
	ours = job->handed_over;
	job->handed_over = false;
	spin_unlock(&dev->sched.lock);
	return ours;
}

/*
 * Wait for a job of the calling process, and handle its faults.  Returns the result of the job,
 * or -EINTR if a fatal signal has cancelled it.
 */
static int job_wait(struct hmm_dummy_job *job)
{
	bool killed = false;
	int ret;

	for (;;) {
		if (!killed && wait_for_completion_state(&job->completion, JOB_WAIT_STATE)) {
			killed = true;
			hmm_dummy_job_cancel(job);
		}
		/* The job ends soon.  If its fault was handed to this task, it ends here. */
		if (killed)
			wait_for_completion(&job->completion);
		if (!job_take_over_fault(job))
			break;
		/* The memory may be out of reach.  A task that has not seen it goes on. */
		ret = killed ? -EINTR : 0;
		if (!ret && !READ_ONCE(job->dev->sched.resting))
			ret = hmm_dummy_job_fault(job->queue->ctx, &job->fault, true);
		hmm_dummy_queue_fault_handled(job->queue, &job->fault, ret);
	}
	return killed && job->result == -ECANCELED ? -EINTR : job->result;
}

static void job_complete(struct hmm_dummy_job *job)
{
	complete(&job->completion);
}

/* Submit a job and wait for it. */
int hmm_dummy_job_run(struct hmm_dummy_job *job)
{
	int ret;

	job->waited_for = true;
	job->done = job_complete;
	ret = hmm_dummy_job_submit(job);
	return ret ?: job_wait(job);
}
