// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Who uses the device
 *
 * A context is one process as the device sees it: a page table that mirrors the
 * process's (svm.c), and queues of commands (scheduler.c).  It belongs to a file and an
 * address space.  Threads, workers of io_uring and its polling thread act for the process
 * whose memory they share; a file that was inherited over fork() is the child's own
 * business, with the child's memory.
 *
 * Contexts live as long as the file, or until their process has ended and another comes; a
 * worker that handles a fault keeps the memory of one for longer, since nobody waits for it.
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
	/* None is left that somebody waits for, but a worker may be on its way out. */
	hmm_dummy_ctx_drain(ctx, -ESRCH);
	hmm_dummy_svm_close(ctx);
	hmm_dummy_ctx_put(ctx);
}

/* Those of processes that have ended.  Nobody can come with their mm any more. */
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
 * @file: open
 *
 * Context: Process context, under dev->life.
 *
 * Return: the context, which stays as long as the caller runs, or -ENOMEM, -ENODEV if
 * the device has been removed, or -ESRCH for a thread without an address space.
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

/* End all jobs and let go of everything, now and for good. */
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

/* The last reference on the file is gone, and so is every job: each has one. */
void hmm_dummy_file_free(struct hmm_dummy_file *file)
{
	struct hmm_dummy_dev *dev = file->dev;
	struct hmm_dummy_ctx *ctx, *next;

	/* Either we close it, or hmm_dummy_remove() has. */
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
