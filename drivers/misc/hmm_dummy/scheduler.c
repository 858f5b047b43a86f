// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: The scheduler: queues, engines and faults
 *
 * Jobs wait in queues.  Two engines take turns at the queues that have jobs, and work on a
 * piece of a job at a time.  If a job faults, its engine goes on with other queues, and the
 * queue of the job waits for the fault handler.  Thousands of jobs can be under way, since no
 * thread waits for a job unless user space asks for that.
 *
 *	         submit
 *	IDLE ------------> READY ------------> RUNNING ---+--> IDLE or READY: it has
 *	                     ^    an engine               |    ended, the next one's turn
 *	                     +----------------------------+    its quantum is over
 *	                     |                            |
 *	                     +-------- FAULTED <----------+    it has faulted
 *	                      handled, or to
 *	                      be tried again
 *
 * The jobs of one queue run and complete in order.  job->done is called before the next job of
 * the queue runs.  A context is freed when its queues are idle.
 *
 * A fault may wait for user space (userfaultfd, a file system in user space).  A worker that
 * waits there could not be killed.  So the task that waits for a job handles the faults of the
 * job, and can be killed.  A worker handles the faults of other jobs, and only on memory that
 * no user space fetches.
 *
 * A fault handler, not an engine, does all that waits for mmap_lock, a page or a reset: a reset
 * waits for the engines.  A signal ends the waits of a task, but for two: that for mmap_lock in the
 * first mmu_interval_notifier_insert() of a process, and that for a page which has moved since the
 * engine looked, in make_device_exclusive().
 *
 * The removal of a device does not wait for user space.  It ends a job while its fault is being
 * handled.  The handler has references on the context and the range, and finds out when it comes
 * back:
 *
 *	fault				removal
 *	  waits for user space
 *					hmm_dummy_ctx_drain(): takes the job out, ends it
 *					closes the ranges, takes the device apart
 *	  comes back
 *	  hmm_dummy_queue_fault_handled(): no job
 *
 * An engine holds a reference on the mm only while it works on a piece.  So jobs in a queue do
 * not keep the memory of a process that has ended.
 *
 * Replace for real hardware: the engines, by rings and doorbells; the fault work, by the
 * handler of the device's fault buffer.
 */
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "hmm_dummy.h"

/* One for all devices: the removal of a device would wait for a workqueue of its own. */
static struct workqueue_struct *hmm_dummy_fault_wq;

/* How often a fault is tried again after -EBUSY: the memory was being migrated. */
#define FAULT_RETRIES	8

/* How long hmm_dummy_quiesce_all() waits for workers.  They rarely take a second. */
#define WORKERS_LIMIT	(10 * HZ)

/* Whether an engine, or a fault handler, has the first job of @queue.  dev->sched.lock. */
bool hmm_dummy_queue_is_active(struct hmm_dummy_queue *queue)
{
	return queue->state == HMM_DUMMY_RUNNING || queue->state == HMM_DUMMY_FAULTED;
}

/* The first job of @queue, or NULL.  dev->sched.lock, unless the caller works on that job. */
struct hmm_dummy_job *hmm_dummy_queue_first(struct hmm_dummy_queue *queue)
{
	return list_first_entry_or_null(&queue->jobs, struct hmm_dummy_job, node);
}

/* Let the engines look for queues with jobs. */
void hmm_dummy_engines_wake(struct hmm_dummy_dev *dev)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(dev->sched.engines); i++)
		queue_work(dev->sched.wq, &dev->sched.engines[i].work);
}

/* Put @queue, which has a job, at the end of the queues that wait for an engine. */
void hmm_dummy_queue_ready(struct hmm_dummy_queue *queue)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;

	lockdep_assert_held(&dev->sched.lock);
	queue->state = HMM_DUMMY_READY;
	list_add_tail(&queue->node, &dev->sched.ready);
	hmm_dummy_engines_wake(dev);
}

/* The queue may be freed as soon as the caller releases dev->sched.lock. */
void hmm_dummy_queue_idle(struct hmm_dummy_queue *queue)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;

	lockdep_assert_held(&dev->sched.lock);
	queue->state = HMM_DUMMY_IDLE;
	wake_up_all(&dev->sched.progress);
}

/* End the first job of @queue, which is active. */
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
	/* Before the next job can begin, so that jobs complete in order. */
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
 * Let the first job of @queue, which is active, go on at its next turn.  A cancelled job ends
 * here: engines that rest would not come to it, and a task waits for its end.
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

/* Call job->step with a reference on the mm of the job's process. */
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
	/* The last mmput() waits for AIO, which may wait for this engine. */
	mmput_async(mm);
	return ret;
}

/*
 * Handle a fault of a job of @ctx: 0, or the errno that the job ends with.  Between
 * hmm_dummy_fault_may_block() and the fault, the memory may become one that user space fetches.
 * Then a worker waits for user space, and other workers go on, since the workqueue is unbound.  A
 * real driver has the same gap: the answer holds under mmap_lock, which hmm_range_fault() drops.
 */
int hmm_dummy_job_fault(struct hmm_dummy_ctx *ctx, struct hmm_dummy_fault *fault,
			bool for_user)
{
	int ret;

	if (fault->kind == HMM_DUMMY_TO_MOVE)
		return hmm_dummy_migrate_for_job(ctx, fault);
	if (fault->kind == HMM_DUMMY_NOT_EXCLUSIVE) {
		ret = hmm_dummy_fault_add(ctx, fault);
		if (ret != HMM_DUMMY_FAULT)
			return ret;
	}
	if (!for_user && hmm_dummy_fault_may_block(ctx, fault->addr, fault->length))
		return -EOPNOTSUPP;
	ret = hmm_dummy_fault(ctx, fault->addr, fault->length, fault->write);
	/* The error may be behind the first page, and then the job goes on up to there. */
	if ((ret == -EFAULT || ret == -EPERM) && fault->length > 1)
		ret = hmm_dummy_fault(ctx, fault->addr, 1, fault->write);
	/*
	 * hmm finds a page, but it could not be made exclusive.  That may be so for ever
	 * (secretmem), so the try counts.
	 */
	return !ret && fault->kind == HMM_DUMMY_NOT_EXCLUSIVE ? -EBUSY : ret;
}

static int job_fault_in_worker(struct hmm_dummy_ctx *ctx, struct hmm_dummy_fault *fault)
{
	int ret;

	if (!mmget_not_zero(ctx->mm))
		return -ESRCH;
	ret = hmm_dummy_job_fault(ctx, fault, false);
	mmput_async(ctx->mm);
	return ret;
}

/*
 * A fault of the first job of @queue has been handled, with @ret.  A removal may have ended the
 * job meanwhile.
 */
void hmm_dummy_queue_fault_handled(struct hmm_dummy_queue *queue,
				   const struct hmm_dummy_fault *fault, int ret)
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
	job->progress += fault->done;
	job->arg.value += fault->moved;
	if (fault->done)
		job->retries = 0;
	else if (ret == -EBUSY && job->retries++ < FAULT_RETRIES)
		ret = 0;
	/* What has been done to its end ends with its own result, also if it is cancelled. */
	if (ret || (fault->done && job->progress == job->total))
		queue_end_first(queue, ret);
	else
		queue_requeue_first(queue);
}

/*
 * Whether a worker handles the fault of the first job of @queue now; sets @fault.  Not if that job
 * is cancelled.  Not while the engines rest: handling a fault moves pages.  The job faults again
 * when the engines go on.
 */
static bool queue_fault_begin(struct hmm_dummy_queue *queue, struct hmm_dummy_fault *fault)
{
	struct hmm_dummy_dev *dev = queue->ctx->dev;
	bool begin;

	spin_lock(&dev->sched.lock);
	begin = queue->state == HMM_DUMMY_FAULTED && !dev->sched.resting &&
		!hmm_dummy_queue_first(queue)->cancelled;
	if (begin) {
		*fault = hmm_dummy_queue_first(queue)->fault;
		WRITE_ONCE(dev->sched.handling, dev->sched.handling + 1);
	}
	spin_unlock(&dev->sched.lock);
	return begin;
}

static void fault_worker_ends(struct hmm_dummy_dev *dev)
{
	spin_lock(&dev->sched.lock);
	WRITE_ONCE(dev->sched.handling, dev->sched.handling - 1);
	spin_unlock(&dev->sched.lock);
	wake_up_all(&dev->sched.progress);
}

static void hmm_dummy_fault_work(struct work_struct *work)
{
	struct hmm_dummy_queue *queue = container_of(work, struct hmm_dummy_queue, fault);
	struct hmm_dummy_ctx *ctx = queue->ctx;
	struct hmm_dummy_fault fault = {};
	int ret = 0;

	if (queue_fault_begin(queue, &fault)) {
		ret = job_fault_in_worker(ctx, &fault);
		fault_worker_ends(ctx->dev);
	}
	/* A cancelled job ends here. */
	hmm_dummy_queue_fault_handled(queue, &fault, ret);
	hmm_dummy_ctx_put(ctx);
	/* hmm_dummy_fault_wq_exit() waits for the end of this function. */
	module_put(THIS_MODULE);
}

/* @job, the first of @queue, has faulted.  The caller holds dev->sched.lock. */
static void queue_fault(struct hmm_dummy_queue *queue, struct hmm_dummy_job *job)
{
	queue->state = HMM_DUMMY_FAULTED;
	if (!job->waited_for) {
		/* The file of the job holds the module, but the fault may outlast the job. */
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

/* Called before there is a device. */
int hmm_dummy_fault_wq_init(void)
{
	hmm_dummy_fault_wq = alloc_workqueue("hmm_dummy-fault", WQ_UNBOUND, 0);
	return hmm_dummy_fault_wq ? 0 : -ENOMEM;
}

/* Called when there is no device any more.  A fault in a worker holds the module. */
void hmm_dummy_fault_wq_exit(void)
{
	destroy_workqueue(hmm_dummy_fault_wq);
}

int hmm_dummy_sched_init(struct hmm_dummy_dev *dev)
{
	unsigned int i;

	spin_lock_init(&dev->sched.lock);
	init_rwsem(&dev->sched.copies);
	INIT_LIST_HEAD(&dev->sched.ready);
	init_waitqueue_head(&dev->sched.progress);
	for (i = 0; i < ARRAY_SIZE(dev->sched.engines); i++) {
		dev->sched.engines[i].dev = dev;
		INIT_WORK(&dev->sched.engines[i].work, hmm_dummy_engine_work);
	}
	dev->sched.wq = alloc_workqueue("%s", WQ_UNBOUND, 0, dev->name);
	if (!dev->sched.wq)
		return -ENOMEM;
	/* Reclaim may wait for a page that is being copied. */
	dev->sched.copy_wq = alloc_workqueue("%s-copy", WQ_UNBOUND | WQ_MEM_RECLAIM, 1,
					     dev->name);
	if (!dev->sched.copy_wq) {
		destroy_workqueue(dev->sched.wq);
		return -ENOMEM;
	}
	return 0;
}

/* Refuse new jobs.  hmm_dummy_file_close() ends the others with -ENODEV. */
void hmm_dummy_sched_stop(struct hmm_dummy_dev *dev)
{
	spin_lock(&dev->sched.lock);
	dev->sched.stopped = true;
	spin_unlock(&dev->sched.lock);
	wake_up_all(&dev->sched.progress);
}

/**
 * hmm_dummy_work_enter - let the calling task work for the device, as an engine does
 * @dev: the device
 *
 * hmm_dummy_quiesce() waits for hmm_dummy_work_exit(), so the caller must not wait before that for
 * mmap_lock, a page or a reset.
 *
 * Context: Any; does not sleep.
 *
 * Return: true, and the caller calls hmm_dummy_work_exit(); false if the device rests, or is coming
 * to rest: hmm_dummy_wait_rest() waits for the end of that.
 */
bool hmm_dummy_work_enter(struct hmm_dummy_dev *dev)
{
	/* Only hmm_dummy_quiesce() has it to write, after it has set resting. */
	if (!down_read_trylock(&dev->sched.copies))
		return false;
	if (!READ_ONCE(dev->sched.resting))
		return true;
	up_read(&dev->sched.copies);
	return false;
}

void hmm_dummy_work_exit(struct hmm_dummy_dev *dev)
{
	up_read(&dev->sched.copies);
}

/**
 * hmm_dummy_quiesce - let the engines rest
 * @dev: the device
 *
 * When this returns, no engine works on a job, no worker begins to handle a fault, and no task
 * copies scratch memory or adds for the device.  That holds until hmm_dummy_unquiesce() has been
 * called as often.  Jobs can be submitted, and wait.
 *
 * A worker or a task may still handle a fault that it has begun with, and may migrate.  It may wait
 * for the reset of a peer, which may be part of the recovery that calls this function, or for
 * another reset of this device.  An engine waits for neither: see enum hmm_dummy_fault_kind.
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
	/* Tasks that called hmm_dummy_work_enter() before. */
	down_write(&dev->sched.copies);
	up_write(&dev->sched.copies);
}

/**
 * hmm_dummy_quiesce_all - let the engines and the fault handler rest
 * @dev: the device
 *
 * Like hmm_dummy_quiesce(), and no worker handles a fault either when this returns 0.  For sleep:
 * tasks, which handle faults as well, are frozen.
 *
 * Context: As for hmm_dummy_quiesce().
 *
 * Return: 0; or, and the engines go on, -EBUSY: a worker waits for a reset, for mmap_lock, or for
 * user space.
 */
int hmm_dummy_quiesce_all(struct hmm_dummy_dev *dev)
{
	hmm_dummy_quiesce(dev);
	if (wait_event_timeout(dev->sched.progress, !READ_ONCE(dev->sched.handling),
			       WORKERS_LIMIT))
		return 0;
	hmm_dummy_unquiesce(dev);
	return -EBUSY;
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
