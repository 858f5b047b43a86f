// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Queues, engines and faults
 *
 * Commands wait in queues, and two engines take turns at the queues that have work, a
 * piece of a command at a time.  A command that faults leaves its engine, and its queue
 * waits for the fault handler; others go on.  No thread waits for a command, unless it
 * chose to: thousands can be under way.
 *
 *	         submit
 *	IDLE ------------> READY ------------> RUNNING ---+--> IDLE or READY: it has
 *	                     ^    an engine               |    ended, the next one's turn
 *	                     +----------------------------+    its time is over
 *	                     |                            |
 *	                     +-------- FAULTED <----------+    it has faulted
 *	                      handled, or to
 *	                      be tried again
 *
 * In one queue commands run and complete in order.  A job is told that it is over before
 * its queue goes on, and its queue goes on before anybody can free it: whoever takes a
 * context apart waits for its queues to be idle.
 *
 * A fault may have to wait for user space (userfaultfd, a file system in user space), and then
 * a worker could not be got out when the process is killed.  So who waits for a job handles its
 * faults, and can be killed; a worker does that for the others, and only for memory that the
 * kernel has by itself.
 *
 * A device that goes waits for neither.  It ends the job whose fault is being handled; the
 * handler finds that out when it comes back, and has references on what it needs until then:
 *
 *	fault				removal
 *	  waits for user space
 *					hmm_dummy_ctx_drain(): takes the job out, ends it
 *					closes the ranges, takes the device apart
 *	  comes back
 *	  fault_handled(): no job
 *
 * The mm of a job's process is only held while a piece is worked on: a process that ends
 * is not kept from it by what it has left in the queue.
 *
 * Replace for real hardware: the engines by doorbells and rings, the fault work by what
 * reads the fault buffer.
 */
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "hmm_dummy.h"

static unsigned int queue_depth = 1024;
module_param(queue_depth, uint, 0644);
MODULE_PARM_DESC(queue_depth,
		 "Commands that one process may have under way on one file (1024)");

/* Faults of all devices: one that goes would wait for a workqueue of its own. */
static struct workqueue_struct *hmm_dummy_fault_wq;

/* How often a fault is tried again whose handler found memory on the move. */
#define FAULT_RETRIES	8

static bool is_active(struct hmm_dummy_queue *queue)
{
	return queue->state == HMM_DUMMY_RUNNING || queue->state == HMM_DUMMY_FAULTED;
}

static struct hmm_dummy_job *first_job(struct hmm_dummy_queue *queue)
{
	return list_first_entry_or_null(&queue->jobs, struct hmm_dummy_job, node);
}

static void kick(struct hmm_dummy_dev *dev)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(dev->engines); i++)
		queue_work(dev->wq, &dev->engines[i].work);
}

static void queue_ready(struct hmm_dummy_queue *queue)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;

	lockdep_assert_held(&dev->sched_lock);
	queue->state = HMM_DUMMY_READY;
	list_add_tail(&queue->node, &dev->ready);
	kick(dev);
}

/* Nothing of the queue may be touched after sched_lock is dropped. */
static void queue_idle(struct hmm_dummy_queue *queue)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;

	lockdep_assert_held(&dev->sched_lock);
	queue->state = HMM_DUMMY_IDLE;
	wake_up_all(&dev->progress);
}

static void job_end(struct hmm_dummy_job *job, int result)
{
	job->result = result;
	job->done(job);
}

/* The first job of @queue, which is active, has ended. */
static void queue_next(struct hmm_dummy_queue *queue, int result)
{
	struct hmm_dummy_ctx *ctx = queue->ctx;
	struct hmm_dummy_dev *dev = ctx->dev;
	struct hmm_dummy_job *job;

	spin_lock(&dev->sched_lock);
	job = first_job(queue);
	list_del_init(&job->node);
	job->queued = false;
	ctx->nr_jobs--;
	spin_unlock(&dev->sched_lock);
	/* Before the next one can begin, so that they complete in order. */
	job_end(job, result);
	spin_lock(&dev->sched_lock);
	if (list_empty(&queue->jobs))
		queue_idle(queue);
	else
		queue_ready(queue);
	wake_up_all(&dev->progress);
	spin_unlock(&dev->sched_lock);
}

/*
 * Whether a job is not to go on.  A device that goes says so, and then cancels all jobs,
 * which end because of the device.
 */
static int must_end(struct hmm_dummy_job *job)
{
	/* Pairs with take_all(). */
	bool cancelled = smp_load_acquire(&job->cancelled);

	if (READ_ONCE(job->queue->ctx->dev->gone))
		return -ENODEV;
	return cancelled ? -ECANCELED : 0;
}

/*
 * The first job of @queue, which is active, goes on when it is its turn.  Not one that is
 * cancelled: engines that rest would never come to it, and whoever cancelled it waits.
 */
static void queue_again(struct hmm_dummy_queue *queue)
{
	struct hmm_dummy_job *job = first_job(queue);
	bool cancelled;

	spin_lock(&job->dev->sched_lock);
	cancelled = job->cancelled;
	if (!cancelled)
		queue_ready(queue);
	spin_unlock(&job->dev->sched_lock);
	if (cancelled)
		queue_next(queue, must_end(job));
}

/* Some of a job, with the memory of its process. */
static int step_with_mm(struct hmm_dummy_job *job)
{
	struct hmm_dummy_ctx *ctx = job->queue->ctx;
	struct mm_struct *mm = ctx->mm;
	int ret = must_end(job);

	if (ret)
		return ret;
	if (READ_ONCE(ctx->dev->dead))
		return -ENODEV;
	if (!mmget_not_zero(mm))
		return -ESRCH;
	ret = job->step(job);
	/* The last one to let go waits for AIO, which may wait for us. */
	mmput_async(mm);
	return ret;
}

static int handle_fault(struct hmm_dummy_ctx *ctx, const struct hmm_dummy_fault *fault)
{
	int ret = hmm_dummy_fault(ctx, fault->addr, fault->length, fault->write);

	/* What is wrong may lie behind: up to there the job can go on. */
	if ((ret == -EFAULT || ret == -EPERM) && fault->length > 1)
		ret = hmm_dummy_fault(ctx, fault->addr, 1, fault->write);
	return ret;
}

/*
 * The memory may become one that blocks between the question and the fault: then this worker
 * waits for user space, as long as that takes, and others that it has (the queue is unbound)
 * go on.  A real driver has the same gap: the answer holds under mmap_lock, which
 * hmm_range_fault() drops.
 */
static int handle_fault_in_worker(struct hmm_dummy_ctx *ctx,
				  const struct hmm_dummy_fault *fault)
{
	int ret = -EOPNOTSUPP;

	if (!mmget_not_zero(ctx->mm))
		return -ESRCH;
	if (!hmm_dummy_fault_may_block(ctx, fault->addr, fault->length))
		ret = handle_fault(ctx, fault);
	mmput_async(ctx->mm);
	return ret;
}

/*
 * The fault of the queue's first job has been handled, or it cannot be.  The job is the
 * caller's again, unless it was ended meanwhile.
 */
static void fault_handled(struct hmm_dummy_queue *queue, int ret)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;
	struct hmm_dummy_job *job;
	bool ended;

	spin_lock(&dev->sched_lock);
	ended = queue->state != HMM_DUMMY_FAULTED;
	if (!ended)
		queue->state = HMM_DUMMY_RUNNING;
	spin_unlock(&dev->sched_lock);
	if (ended)
		return;
	job = first_job(queue);
	if (ret == -EBUSY && job->retries++ < FAULT_RETRIES)
		ret = 0;
	if (ret)
		queue_next(queue, ret);
	else
		queue_again(queue);
}

/* Whether the first job of @queue still waits for its fault, and for which. */
static bool fault_copy(struct hmm_dummy_queue *queue, struct hmm_dummy_fault *fault)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;
	bool waits;

	spin_lock(&dev->sched_lock);
	waits = queue->state == HMM_DUMMY_FAULTED && !first_job(queue)->cancelled;
	if (waits)
		*fault = first_job(queue)->fault;
	spin_unlock(&dev->sched_lock);
	return waits;
}

static void hmm_dummy_fault_work(struct work_struct *work)
{
	struct hmm_dummy_queue *queue = container_of(work, struct hmm_dummy_queue, fault);
	struct hmm_dummy_ctx *ctx = queue->ctx;
	struct hmm_dummy_fault fault;

	/* If it is cancelled it ends where it would go on. */
	fault_handled(queue, fault_copy(queue, &fault) ?
			     handle_fault_in_worker(ctx, &fault) : 0);
	hmm_dummy_ctx_put(ctx);
	/* hmm_dummy_fault_wq_exit() waits for what comes behind this. */
	module_put(THIS_MODULE);
}

/* The first job of the queue, which runs, has faulted.  sched_lock is held. */
static void queue_fault(struct hmm_dummy_queue *queue, struct hmm_dummy_job *job)
{
	queue->state = HMM_DUMMY_FAULTED;
	if (!job->waited_for) {
		/* The job has the file, and so the module; its fault may outlast it. */
		__module_get(THIS_MODULE);
		kref_get(&queue->ctx->kref);
		queue_work(hmm_dummy_fault_wq, &queue->fault);
		return;
	}
	job->handed_over = true;
	complete(&job->completion);
}

static void engine_run(struct hmm_dummy_queue *queue)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;
	struct hmm_dummy_job *job = first_job(queue);
	int ret = step_with_mm(job);

	switch (ret) {
	case HMM_DUMMY_YIELD:
		job->retries = 0;
		queue_again(queue);
		break;
	case HMM_DUMMY_FAULT:
		spin_lock(&dev->sched_lock);
		queue_fault(queue, job);
		spin_unlock(&dev->sched_lock);
		break;
	default:
		queue_next(queue, ret);
	}
}

static void hmm_dummy_engine_work(struct work_struct *work)
{
	struct hmm_dummy_dev *dev =
		container_of(work, struct hmm_dummy_engine, work)->dev;
	struct hmm_dummy_queue *queue;

	for (;;) {
		spin_lock(&dev->sched_lock);
		queue = NULL;
		if (!dev->paused)
			queue = list_first_entry_or_null(&dev->ready,
							 struct hmm_dummy_queue, node);
		if (queue) {
			list_del_init(&queue->node);
			queue->state = HMM_DUMMY_RUNNING;
		}
		spin_unlock(&dev->sched_lock);
		if (!queue)
			return;
		engine_run(queue);
		cond_resched();
	}
}

static bool has_room(struct hmm_dummy_ctx *ctx)
{
	return READ_ONCE(ctx->nr_jobs) < READ_ONCE(queue_depth);
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

	spin_lock(&dev->sched_lock);
	if (dev->stopped) {
		ret = -ENODEV;
	} else if (job->cancelled) {
		ret = -ECANCELED;
	} else if (!has_room(ctx)) {
		ret = -EAGAIN;
	} else {
		ctx->nr_jobs++;
		job->queued = true;
		list_add_tail(&job->node, &queue->jobs);
		if (queue->state == HMM_DUMMY_IDLE)
			queue_ready(queue);
	}
	spin_unlock(&dev->sched_lock);
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
		ret = must_end(job);
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

/* For who may wait until there is room: 0, or -EINTR. */
int hmm_dummy_wait_room(struct hmm_dummy_ctx *ctx)
{
	struct hmm_dummy_dev *dev = ctx->dev;

	return wait_event_killable(dev->progress, has_room(ctx) ||
				   READ_ONCE(dev->stopped)) ? -EINTR : 0;
}

/*
 * Take a job out that waits.  False if an engine has it, or it has ended: then it may be
 * that its context has gone.
 */
static bool job_take(struct hmm_dummy_job *job)
{
	struct hmm_dummy_queue *queue = job->queue;

	lockdep_assert_held(&job->dev->sched_lock);
	if (!job->queued || (is_active(queue) && first_job(queue) == job))
		return false;
	list_del_init(&job->node);
	job->queued = false;
	queue->ctx->nr_jobs--;
	if (list_empty(&queue->jobs) && queue->state == HMM_DUMMY_READY) {
		list_del_init(&queue->node);
		queue_idle(queue);
	}
	/* There is room for another. */
	wake_up_all(&job->dev->progress);
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

	spin_lock(&dev->sched_lock);
	WRITE_ONCE(job->cancelled, true);
	taken = job_take(job);
	spin_unlock(&dev->sched_lock);
	if (taken)
		job_end(job, -ECANCELED);
}

/* Take out all jobs of @ctx, or those with a tag.  Returns how many there were. */
static unsigned int take_all(struct hmm_dummy_ctx *ctx, const u64 *tag,
			     struct list_head *taken)
{
	struct hmm_dummy_job *job, *next;
	unsigned int i, n = 0;

	spin_lock(&ctx->dev->sched_lock);
	for (i = 0; i < HMM_DUMMY_QUEUES; i++) {
		list_for_each_entry_safe(job, next, &ctx->queues[i].jobs, node) {
			if (tag && (!job->tagged || job->arg.tag != *tag))
				continue;
			n++;
			/* Pairs with must_end(). */
			smp_store_release(&job->cancelled, true);
			if (job_take(job))
				list_add_tail(&job->node, taken);
		}
	}
	spin_unlock(&ctx->dev->sched_lock);
	return n;
}

static void end_taken(struct list_head *taken, int result)
{
	struct hmm_dummy_job *job, *next;

	list_for_each_entry_safe(job, next, taken, node) {
		list_del_init(&job->node);
		job_end(job, result);
	}
}

/* HMM_DUMMY_CANCEL */
int hmm_dummy_cancel(struct hmm_dummy_ctx *ctx, void *data)
{
	struct hmm_dummy_cancel *arg = data;
	LIST_HEAD(taken);

	if (arg->flags)
		return -EOPNOTSUPP;
	arg->cancelled = take_all(ctx, &arg->tag, &taken);
	end_taken(&taken, -ECANCELED);
	return arg->cancelled ? 0 : -ENOENT;
}

static bool is_idle(struct hmm_dummy_ctx *ctx)
{
	unsigned int i;
	bool idle = true;

	spin_lock(&ctx->dev->sched_lock);
	for (i = 0; i < HMM_DUMMY_QUEUES; i++)
		idle &= ctx->queues[i].state == HMM_DUMMY_IDLE;
	spin_unlock(&ctx->dev->sched_lock);
	return idle;
}

/*
 * Take out the jobs whose faults are handled, for however long.  A task that waits for its
 * job handles the fault itself, and finds the result when it waits again.
 */
static void take_faulted(struct hmm_dummy_ctx *ctx, int error, struct list_head *taken)
{
	struct hmm_dummy_queue *queue;
	struct hmm_dummy_job *job;

	spin_lock(&ctx->dev->sched_lock);
	for (queue = ctx->queues; queue < ctx->queues + HMM_DUMMY_QUEUES; queue++) {
		if (queue->state != HMM_DUMMY_FAULTED)
			continue;
		job = first_job(queue);
		list_del_init(&job->node);
		job->queued = false;
		ctx->nr_jobs--;
		queue_idle(queue);
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
	spin_unlock(&ctx->dev->sched_lock);
}

/*
 * End all jobs of a context, to which no new ones come.  No engine touches it any more; what
 * handles a fault may be at it, with references.
 */
void hmm_dummy_ctx_drain(struct hmm_dummy_ctx *ctx, int error)
{
	LIST_HEAD(taken);

	take_all(ctx, NULL, &taken);
	end_taken(&taken, error);
	take_faulted(ctx, error, &taken);
	end_taken(&taken, error);
	wait_event(ctx->dev->progress, is_idle(ctx));
}

static bool take_over(struct hmm_dummy_job *job)
{
	struct hmm_dummy_dev *dev = job->dev;
	bool ours;

	spin_lock(&dev->sched_lock);
	ours = job->handed_over;
	job->handed_over = false;
	spin_unlock(&dev->sched_lock);
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
		if (!killed && wait_for_completion_killable(&job->completion)) {
			killed = true;
			hmm_dummy_job_cancel(job);
		}
		/* It is over soon: by us, if its fault was on the way to us. */
		if (killed)
			wait_for_completion(&job->completion);
		if (!take_over(job))
			break;
		fault_handled(job->queue, killed ? -EINTR :
					  handle_fault(job->queue->ctx, &job->fault));
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

/* For tests: let commands pile up. */
void hmm_dummy_sched_pause(struct hmm_dummy_dev *dev, bool pause)
{
	spin_lock(&dev->sched_lock);
	dev->paused = pause;
	spin_unlock(&dev->sched_lock);
	kick(dev);
}

void hmm_dummy_queue_init(struct hmm_dummy_queue *queue, struct hmm_dummy_ctx *ctx)
{
	queue->ctx = ctx;
	INIT_LIST_HEAD(&queue->node);
	INIT_LIST_HEAD(&queue->jobs);
	INIT_WORK(&queue->fault, hmm_dummy_fault_work);
}

/* Before there is a device. */
int hmm_dummy_fault_wq_init(void)
{
	hmm_dummy_fault_wq = alloc_workqueue("hmm_dummy-fault", WQ_UNBOUND, 0);
	return hmm_dummy_fault_wq ? 0 : -ENOMEM;
}

/* When there is none any more.  Faults keep the module. */
void hmm_dummy_fault_wq_exit(void)
{
	destroy_workqueue(hmm_dummy_fault_wq);
}

int hmm_dummy_sched_init(struct hmm_dummy_dev *dev)
{
	unsigned int i;

	spin_lock_init(&dev->sched_lock);
	INIT_LIST_HEAD(&dev->ready);
	init_waitqueue_head(&dev->progress);
	for (i = 0; i < ARRAY_SIZE(dev->engines); i++) {
		dev->engines[i].dev = dev;
		INIT_WORK(&dev->engines[i].work, hmm_dummy_engine_work);
	}
	dev->wq = alloc_workqueue("%s", WQ_UNBOUND, 0, dev->name);
	if (!dev->wq)
		return -ENOMEM;
	/* Faults, and reclaim, may wait for pages that are being copied. */
	dev->copy_wq = alloc_workqueue("%s-copy", WQ_UNBOUND | WQ_MEM_RECLAIM, 1,
				       dev->name);
	if (!dev->copy_wq) {
		destroy_workqueue(dev->wq);
		return -ENOMEM;
	}
	return 0;
}

/* No new jobs.  What there is ends with -ENODEV, by hmm_dummy_file_close(). */
void hmm_dummy_sched_stop(struct hmm_dummy_dev *dev)
{
	spin_lock(&dev->sched_lock);
	dev->stopped = true;
	spin_unlock(&dev->sched_lock);
	wake_up_all(&dev->progress);
}

void hmm_dummy_sched_exit(struct hmm_dummy_dev *dev)
{
	destroy_workqueue(dev->copy_wq);
	destroy_workqueue(dev->wq);
}
