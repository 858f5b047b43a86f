// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The scheduler: queues, engines and faults
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
 *	  hmm_dummy_queue_fault_handled(): no job
 *
 * The mm of a job's process is only held while a piece is worked on: a process that ends
 * is not kept from it by what it has left in the queue.
 *
 * Replace for real hardware: the engines by doorbells and rings, the fault work by what
 * reads the fault buffer.
 */
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "hmm_dummy.h"

/* Faults of all devices: one that goes would wait for a workqueue of its own. */
static struct workqueue_struct *hmm_dummy_fault_wq;

/* How often a fault is tried again whose handler found memory on the move. */
#define FAULT_RETRIES	8

/* Whether the first job of @queue is an engine's, or its fault is handled.  dev->sched.lock. */
bool hmm_dummy_queue_is_active(struct hmm_dummy_queue *queue)
{
	return queue->state == HMM_DUMMY_RUNNING || queue->state == HMM_DUMMY_FAULTED;
}

/* The first job of @queue, or NULL.  dev->sched.lock, unless the caller works on that job. */
struct hmm_dummy_job *hmm_dummy_queue_first(struct hmm_dummy_queue *queue)
{
	return list_first_entry_or_null(&queue->jobs, struct hmm_dummy_job, node);
}

/* Let the engines look for work. */
void hmm_dummy_engines_wake(struct hmm_dummy_dev *dev)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(dev->sched.engines); i++)
		queue_work(dev->sched.wq, &dev->sched.engines[i].work);
}

/* It is the turn of @queue, which has a job, when those in front of it had theirs. */
void hmm_dummy_queue_ready(struct hmm_dummy_queue *queue)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;

	lockdep_assert_held(&dev->sched.lock);
	queue->state = HMM_DUMMY_READY;
	list_add_tail(&queue->node, &dev->sched.ready);
	hmm_dummy_engines_wake(dev);
}

/* Nothing of the queue may be touched after dev->sched.lock is dropped. */
void hmm_dummy_queue_idle(struct hmm_dummy_queue *queue)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;

	lockdep_assert_held(&dev->sched.lock);
	queue->state = HMM_DUMMY_IDLE;
	wake_up_all(&dev->sched.progress);
}

/* The first job of @queue, which is active, has ended. */
static void queue_end_first(struct hmm_dummy_queue *queue, int result)
{
	struct hmm_dummy_ctx *ctx = queue->ctx;
	struct hmm_dummy_dev *dev = ctx->dev;
	struct hmm_dummy_job *job;

	spin_lock(&dev->sched.lock);
	job = hmm_dummy_queue_first(queue);
	list_del_init(&job->node);
	job->queued = false;
	ctx->nr_jobs--;
	spin_unlock(&dev->sched.lock);
	/* Before the next one can begin, so that they complete in order. */
	hmm_dummy_job_end(job, result);
	spin_lock(&dev->sched.lock);
	if (list_empty(&queue->jobs))
		hmm_dummy_queue_idle(queue);
	else
		hmm_dummy_queue_ready(queue);
	wake_up_all(&dev->sched.progress);
	spin_unlock(&dev->sched.lock);
}

/*
 * The first job of @queue, which is active, goes on when it is its turn.  Not one that is
 * cancelled: engines that rest would never come to it, and whoever cancelled it waits.
 */
static void queue_requeue_first(struct hmm_dummy_queue *queue)
{
	struct hmm_dummy_job *job = hmm_dummy_queue_first(queue);
	bool cancelled;

	spin_lock(&job->dev->sched.lock);
	cancelled = job->cancelled;
	if (!cancelled)
		hmm_dummy_queue_ready(queue);
	spin_unlock(&job->dev->sched.lock);
	if (cancelled)
		queue_end_first(queue, hmm_dummy_job_must_end(job));
}

/* Some of a job, with the memory of its process. */
static int job_step_with_mm(struct hmm_dummy_job *job)
{
	struct hmm_dummy_ctx *ctx = job->queue->ctx;
	struct mm_struct *mm = ctx->mm;
	int ret = hmm_dummy_job_must_end(job);

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

/* Handle a fault of a job on @ctx: 0, or what the job is to end with. */
int hmm_dummy_job_fault(struct hmm_dummy_ctx *ctx, const struct hmm_dummy_fault *fault)
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
static int job_fault_in_worker(struct hmm_dummy_ctx *ctx,
			       const struct hmm_dummy_fault *fault)
{
	int ret = -EOPNOTSUPP;

	if (!mmget_not_zero(ctx->mm))
		return -ESRCH;
	if (!hmm_dummy_fault_may_block(ctx, fault->addr, fault->length))
		ret = hmm_dummy_job_fault(ctx, fault);
	mmput_async(ctx->mm);
	return ret;
}

/*
 * The fault of the queue's first job has been handled, or it cannot be.  The job is the
 * caller's again, unless it was ended meanwhile.
 */
void hmm_dummy_queue_fault_handled(struct hmm_dummy_queue *queue, int ret)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;
	struct hmm_dummy_job *job;
	bool ended;

	spin_lock(&dev->sched.lock);
	ended = queue->state != HMM_DUMMY_FAULTED;
	if (!ended)
		queue->state = HMM_DUMMY_RUNNING;
	spin_unlock(&dev->sched.lock);
	if (ended)
		return;
	job = hmm_dummy_queue_first(queue);
	if (ret == -EBUSY && job->retries++ < FAULT_RETRIES)
		ret = 0;
	if (ret)
		queue_end_first(queue, ret);
	else
		queue_requeue_first(queue);
}

/* Whether the first job of @queue still waits for its fault, and for which. */
static bool queue_fault_copy(struct hmm_dummy_queue *queue, struct hmm_dummy_fault *fault)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;
	bool waits;

	spin_lock(&dev->sched.lock);
	waits = queue->state == HMM_DUMMY_FAULTED && !hmm_dummy_queue_first(queue)->cancelled;
	if (waits)
		*fault = hmm_dummy_queue_first(queue)->fault;
	spin_unlock(&dev->sched.lock);
	return waits;
}

static void hmm_dummy_fault_work(struct work_struct *work)
{
	struct hmm_dummy_queue *queue = container_of(work, struct hmm_dummy_queue, fault);
	struct hmm_dummy_ctx *ctx = queue->ctx;
	struct hmm_dummy_fault fault;

	/* If it is cancelled it ends where it would go on. */
	hmm_dummy_queue_fault_handled(queue, queue_fault_copy(queue, &fault) ?
					     job_fault_in_worker(ctx, &fault) : 0);
	hmm_dummy_ctx_put(ctx);
	/* hmm_dummy_fault_wq_exit() waits for what comes behind this. */
	module_put(THIS_MODULE);
}

/* The first job of the queue, which runs, has faulted.  dev->sched.lock is held. */
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

static void engine_step_queue(struct hmm_dummy_queue *queue)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;
	struct hmm_dummy_job *job = hmm_dummy_queue_first(queue);
	int ret = job_step_with_mm(job);

	switch (ret) {
	case HMM_DUMMY_YIELD:
		job->retries = 0;
		queue_requeue_first(queue);
		break;
	case HMM_DUMMY_FAULT:
		spin_lock(&dev->sched.lock);
		queue_fault(queue, job);
		spin_unlock(&dev->sched.lock);
		break;
	default:
		queue_end_first(queue, ret);
	}
}

static void hmm_dummy_engine_work(struct work_struct *work)
{
	struct hmm_dummy_dev *dev =
		container_of(work, struct hmm_dummy_engine, work)->dev;
	struct hmm_dummy_queue *queue;

	for (;;) {
		spin_lock(&dev->sched.lock);
		queue = NULL;
		if (!dev->sched.resting && !hmm_dummy_test_paused(dev))
			queue = list_first_entry_or_null(&dev->sched.ready,
							 struct hmm_dummy_queue, node);
		if (queue) {
			list_del_init(&queue->node);
			queue->state = HMM_DUMMY_RUNNING;
		}
		spin_unlock(&dev->sched.lock);
		if (!queue)
			return;
		engine_step_queue(queue);
		cond_resched();
	}
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

	spin_lock_init(&dev->sched.lock);
	INIT_LIST_HEAD(&dev->sched.ready);
	init_waitqueue_head(&dev->sched.progress);
	for (i = 0; i < ARRAY_SIZE(dev->sched.engines); i++) {
		dev->sched.engines[i].dev = dev;
		INIT_WORK(&dev->sched.engines[i].work, hmm_dummy_engine_work);
	}
	dev->sched.wq = alloc_workqueue("%s", WQ_UNBOUND, 0, dev->name);
	if (!dev->sched.wq)
		return -ENOMEM;
	/* Faults, and reclaim, may wait for pages that are being copied. */
	dev->sched.copy_wq = alloc_workqueue("%s-copy", WQ_UNBOUND | WQ_MEM_RECLAIM, 1,
					     dev->name);
	if (!dev->sched.copy_wq) {
		destroy_workqueue(dev->sched.wq);
		return -ENOMEM;
	}
	return 0;
}

/* No new jobs.  What there is ends with -ENODEV, by hmm_dummy_file_close(). */
void hmm_dummy_sched_stop(struct hmm_dummy_dev *dev)
{
	spin_lock(&dev->sched.lock);
	dev->sched.stopped = true;
	spin_unlock(&dev->sched.lock);
	wake_up_all(&dev->sched.progress);
}

/**
 * hmm_dummy_quiesce - let the engines rest
 * @dev: the device
 *
 * When this returns, no engine works on a job and no task copies scratch memory, until the
 * last hmm_dummy_unquiesce().  Jobs can be submitted, and wait.
 *
 * Context: Process context, may sleep; not between hmm_dummy_dev_enter() and
 * hmm_dummy_dev_exit().
 */
void hmm_dummy_quiesce(struct hmm_dummy_dev *dev)
{
	unsigned int i;

	spin_lock(&dev->sched.lock);
	WRITE_ONCE(dev->sched.resting, dev->sched.resting + 1);
	spin_unlock(&dev->sched.lock);
	for (i = 0; i < ARRAY_SIZE(dev->sched.engines); i++)
		flush_work(&dev->sched.engines[i].work);
	/* Those that hmm_dummy_wait_rest() has let through. */
	down_write(&dev->life);
	up_write(&dev->life);
}

/**
 * hmm_dummy_unquiesce - undo hmm_dummy_quiesce()
 * @dev: the device
 *
 * Context: Process context; need not be the task that called hmm_dummy_quiesce().
 */
void hmm_dummy_unquiesce(struct hmm_dummy_dev *dev)
{
	spin_lock(&dev->sched.lock);
	WRITE_ONCE(dev->sched.resting, dev->sched.resting - 1);
	spin_unlock(&dev->sched.lock);
	wake_up_all(&dev->sched.progress);
	hmm_dummy_engines_wake(dev);
}

void hmm_dummy_sched_exit(struct hmm_dummy_dev *dev)
{
	destroy_workqueue(dev->sched.copy_wq);
	destroy_workqueue(dev->sched.wq);
}
