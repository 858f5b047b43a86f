// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Processes that use the device
 *
 * A context is one process as the device sees it: a page table that mirrors that of the
 * process (svm.c), and queues of commands (scheduler.c).  There is one for each file and
 * address space.  Threads, and workers of io_uring, share the memory of a process and use its
 * context.  A child that inherits the file by fork() gets a context of its own.
 *
 * A context is freed with its file.  If its process ends before, the next new process that uses
 * the file frees it.  A worker that handles a fault holds a reference, since the end of a context
 * does not wait for faults.
 *
 * This file also has the life of an open file.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "hmm_dummy.h"

static struct hmm_dummy_ctx *ctx_create(struct hmm_dummy_file *file)
{
	struct hmm_dummy_ctx *ctx = kzalloc_obj(*ctx, GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!ctx)
		return NULL;
	kref_init(&ctx->kref);
	kref_get(&file->dev->kref);
	ctx->dev = file->dev;
	ctx->file = file;
	ctx->mm = current->mm;
	mmgrab(ctx->mm);
	mutex_init(&ctx->lock);
	xa_init(&ctx->ranges);
	for (i = 0; i < HMM_DUMMY_QUEUES; i++)
		hmm_dummy_queue_init(&ctx->queues[i], ctx);
	return ctx;
}

static void hmm_dummy_ctx_release(struct kref *kref)
{
	struct hmm_dummy_ctx *ctx = container_of(kref, struct hmm_dummy_ctx, kref);
	struct hmm_dummy_dev *dev = ctx->dev;

	xa_destroy(&ctx->ranges);
	mmdrop(ctx->mm);
	kfree(ctx);
	hmm_dummy_put(dev);
}

/* Drop a reference on a context.  Process context, may sleep. */
void hmm_dummy_ctx_put(struct hmm_dummy_ctx *ctx)
{
	kref_put(&ctx->kref, hmm_dummy_ctx_release);
}

static void ctx_destroy(struct hmm_dummy_ctx *ctx)
{
	/* No task waits for a job any more, but a worker may still leave the context. */
	hmm_dummy_ctx_drain(ctx, -ESRCH);
	hmm_dummy_svm_close(ctx);
	hmm_dummy_ctx_put(ctx);
}

/* Free the contexts of processes that have ended.  No task can come with their mm any more. */
static void file_prune_contexts(struct hmm_dummy_file *file)
{
	struct hmm_dummy_ctx *ctx, *next;

	list_for_each_entry_safe(ctx, next, &file->contexts, node) {
		if (atomic_read(&ctx->mm->mm_users))
			continue;
		list_del(&ctx->node);
		ctx_destroy(ctx);
	}
}

/**
 * hmm_dummy_ctx_get - the context of the calling process
 * @file: the file, which the caller has open
 *
 * Context: Process context, between hmm_dummy_dev_enter() and hmm_dummy_dev_exit().
 *
 * Return: the context, which stays while the caller has the file and its address space, or an
 * ERR_PTR(): -ENOMEM, -ENODEV if the device has been removed, -ESRCH for a thread without an
 * address space.
 */
struct hmm_dummy_ctx *hmm_dummy_ctx_get(struct hmm_dummy_file *file)
{
	struct hmm_dummy_ctx *ctx;

	if (!current->mm)
		return ERR_PTR(-ESRCH);
	mutex_lock(&file->lock);
	list_for_each_entry(ctx, &file->contexts, node)
		if (ctx->mm == current->mm)
			goto out;
	file_prune_contexts(file);
	ctx = ERR_PTR(-ENODEV);
	if (file->closed)
		goto out;
	ctx = ctx_create(file);
	if (ctx)
		list_add(&ctx->node, &file->contexts);
	else
		ctx = ERR_PTR(-ENOMEM);
out:
	mutex_unlock(&file->lock);
	return ctx;
}

struct hmm_dummy_file *hmm_dummy_file_open(struct hmm_dummy_dev *dev)
{
	struct hmm_dummy_file *file = kzalloc_obj(*file);

	if (!file)
		return NULL;
	kref_get(&dev->kref);
	file->dev = dev;
	mutex_init(&file->lock);
	INIT_LIST_HEAD(&file->contexts);
	mutex_lock(&dev->files_lock);
	list_add(&file->node, &dev->files);
	mutex_unlock(&dev->files_lock);
	return file;
}

/* End all jobs of the file and free its mappings.  It gets no new ones. */
void hmm_dummy_file_close(struct hmm_dummy_file *file)
{
	struct hmm_dummy_ctx *ctx;

	mutex_lock(&file->lock);
	file->closed = true;
	list_for_each_entry(ctx, &file->contexts, node) {
		hmm_dummy_ctx_drain(ctx, -ENODEV);
		hmm_dummy_svm_close(ctx);
	}
	hmm_dummy_pinned_close(file);
	mutex_unlock(&file->lock);
}

/* The last reference on the file is gone.  Each job has one, so there is no job. */
void hmm_dummy_file_free(struct hmm_dummy_file *file)
{
	struct hmm_dummy_dev *dev = file->dev;
	struct hmm_dummy_ctx *ctx, *next;

	/* hmm_dummy_remove() may have closed it before. */
	mutex_lock(&dev->files_lock);
	list_del(&file->node);
	hmm_dummy_file_close(file);
	mutex_unlock(&dev->files_lock);
	list_for_each_entry_safe(ctx, next, &file->contexts, node)
		ctx_destroy(ctx);
	kfree(file->pinned);
	kfree(file);
	hmm_dummy_put(dev);
}
