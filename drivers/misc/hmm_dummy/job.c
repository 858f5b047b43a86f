// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Jobs
 *
 * The life of a job: it is submitted to a queue, an engine works on it piece by piece, and
 * it ends, by itself, because it is cancelled, or because its context or the device goes.
 * A task can wait for its job, and then handles the faults of the job.  The scheduler
 * (scheduler.c) says which job is worked on.
 *
 * Replace for real hardware: the pieces, by what the engine writes to its ring.
 */
#include <linux/nospec.h>
#include <linux/sched/signal.h>

#include "hmm_dummy.h"

/*
 * How a task waits for engines: a fatal signal ends the wait, and the freezer does not wait for
 * it (power.c).
 */
#define JOB_WAIT_STATE	(TASK_KILLABLE | TASK_FREEZABLE)

/* The job is over with @result, and is not touched any more: its done may free it. */
void hmm_dummy_job_end(struct hmm_dummy_job *job, int result)
{
	job->result = result;
	job->done(job);
}

/*
 * Whether a job is not to go on.  A device that goes says so, and then cancels all jobs,
 * which end because of the device.
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
 * hmm_dummy_job_init - where a job belongs
 * @job: zeroed
 * @ctx: whose memory it is about
 * @queue: index
 *
 * From here on it may be cancelled, submitted or not.
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
 * @job: after hmm_dummy_job_init(); step and done are set; it is the engine's until
 *	job->done is called
 *
 * Context: Process context; does not sleep.
 *
 * Return: 0, or, with nothing changed, -EAGAIN if there are too many, -ENODEV, or
 * -ECANCELED if it was cancelled before.
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
 * @job: job->total is set
 * @piece: does one, and never more than what is left
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
 * Take a job out that waits.  False if an engine has it, or it has ended: then it may be
 * that its context has gone.
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
	/* There is room for another. */
	wake_up_all(&job->dev->sched.progress);
	return true;
}

/**
 * hmm_dummy_job_cancel - end a job before its time
 * @job: after hmm_dummy_job_init(), and not freed
 *
 * If it waits it ends now, with -ECANCELED; if it runs, when it gets to it; if it has not
 * been submitted, it will not be.  One that has ended may have outlived its context:
 *
 *	who submitted		engine		another process		its ring ends
 *	exits; mm is gone
 *				job ends,
 *				to be freed
 *				by that task
 *						first to come since:
 *						frees the context
 *									cancels
 *	frees the job
 *
 * So what is needed here is the job's own, or the device's, which its file keeps.
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

/* Take out all jobs of @ctx, or those with a tag.  Returns how many there were. */
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
 * Take out the jobs whose faults are handled, for however long.  A task that waits for its
 * job handles the fault itself, and finds the result when it waits again.
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
		/* If it has not begun with the fault, what told it of that wakes it. */
		if (!job->handed_over)
			complete(&job->completion);
		job->handed_over = false;
	}
	spin_unlock(&ctx->dev->sched.lock);
}

/*
 * End all jobs of a context, to which no new ones come.  No engine touches it any more; what
 * handles a fault may be at it, with references.
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
 * Wait for a job of this process, which job_complete() ends.  What it ended with; -EINTR if a
 * fatal signal made us cancel it.
 */
static int job_wait(struct hmm_dummy_job *job)
{
	bool killed = false;

	for (;;) {
		if (!killed && wait_for_completion_state(&job->completion, JOB_WAIT_STATE)) {
			killed = true;
			hmm_dummy_job_cancel(job);
		}
		/* It is over soon: by us, if its fault was on the way to us. */
		if (killed)
			wait_for_completion(&job->completion);
		if (!job_take_over_fault(job))
			break;
		hmm_dummy_queue_fault_handled(job->queue, killed ? -EINTR :
					      hmm_dummy_job_fault(job->queue->ctx,
								  &job->fault));
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
