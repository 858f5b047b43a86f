// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: read() and write()
 *
 * read() and write() on /dev/hmm_dummyN access the scratch memory of the device, or the memory
 * that the file has imported (dmabuf.c).  An engine copies between that memory and the caller's
 * buffer, which it reaches through the device page table as for any command.  So a
 * buffer that lives on a device stays there.  The position selects the queue, and copies in
 * different queues run at the same time.
 *
 * An asynchronous call (AIO, io_uring) does not wait, and no thread waits for it.  A synchronous
 * call with RWF_NOWAIT gets -EAGAIN.  Buffers that the kernel has pinned or owns (registered
 * buffers, splice) have no address to fault on.  The calling task copies them.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "hmm_dummy.h"

/* A device without memory has no file.  Its commands work on imported memory. */
static u64 rw_size(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned)
{
	return dev->mem.size ? hmm_dummy_scratch_size(dev, pinned) : 0;
}

/* The job's position in the scratch memory; limits *bytes to the end of its chunk. */
static u64 scratch_pos(struct hmm_dummy_job *job, unsigned long *bytes)
{
	u64 pos = job->pos + job->progress;

	*bytes = min(*bytes, VRAM_CHUNK - pos % VRAM_CHUNK);
	return pos;
}

/* 0, or -ENODEV if the memory is imported and has been revoked. */
static int scratch_copy(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned,
			void *p, u64 pos, unsigned long bytes, bool to_memory)
{
	void *scratch = hmm_dummy_scratch_get(dev, pinned, pos);

	if (!scratch)
		return -ENODEV;
	if (to_memory)
		hmm_dummy_copy_bytes(p, scratch, bytes);
	else
		hmm_dummy_copy_bytes(scratch, p, bytes);
	hmm_dummy_scratch_put(dev, pinned);
	return 0;
}

/*
 * Where the BAR has slots, the memory of the process and the scratch memory may both need
 * slots.lock, which a task takes once only.  Then the copy goes through a buffer.
 */
static int rw_piece(struct hmm_dummy_job *job, unsigned long *bytes)
{
	unsigned long addr = (unsigned long)iter_iov_addr(&job->iter);
	struct hmm_dummy_dev *dev = job->queue->ctx->dev;
	struct hmm_dummy_access access;
	u64 pos;
	int ret = 0;

	*bytes = min(iter_iov_len(&job->iter), iov_iter_count(&job->iter));
	/* An empty element of the caller's array. */
	if (!*bytes)
		goto out;
	job->fault = (struct hmm_dummy_fault) {
		.addr = addr, .length = *bytes, .write = job->to_memory,
	};
	pos = scratch_pos(job, bytes);
	if (job->buffer) {
		*bytes = min(*bytes, PAGE_SIZE - offset_in_page(addr));
		if (job->to_memory)
			ret = scratch_copy(dev, job->pinned, job->buffer, pos, *bytes, true);
		if (ret)
			return ret;
	}
	ret = hmm_dummy_access_get(job->queue->ctx, addr, *bytes, job->to_memory,
				   &access);
	if (ret)
		return ret;
	*bytes = access.bytes;
	if (!job->buffer)
		ret = scratch_copy(dev, job->pinned, access.kva, pos, *bytes,
				   job->to_memory);
	else if (job->to_memory)
		hmm_dummy_copy_bytes(access.kva, job->buffer, *bytes);
	else
		hmm_dummy_copy_bytes(job->buffer, access.kva, *bytes);
	hmm_dummy_access_put(&access);
	if (!ret && job->buffer && !job->to_memory)
		ret = scratch_copy(dev, job->pinned, job->buffer, pos, *bytes, false);
	if (ret)
		return ret;
out:
	iov_iter_advance(&job->iter, *bytes);
	return 0;
}

static int rw_step(struct hmm_dummy_job *job)
{
	return hmm_dummy_job_pieces(job, rw_piece);
}

static void rw_job_free(struct hmm_dummy_job *job)
{
	kfree(job->iov);
	kfree(job->buffer);
	kfree(job);
}

/* The bytes that were copied, or @ret if there are none. */
static ssize_t rw_result(struct hmm_dummy_job *job, int ret)
{
	return job->progress ?: ret;
}

static void rw_done(struct hmm_dummy_job *job)
{
	struct kiocb *iocb = job->iocb;
	ssize_t ret = rw_result(job, job->result);

	iocb->ki_pos += job->progress;
	rw_job_free(job);
	iocb->ki_complete(iocb, ret);
}

static struct hmm_dummy_job *rw_job_create(struct kiocb *iocb, struct iov_iter *iter,
					   struct hmm_dummy_ctx *ctx,
					struct hmm_dummy_pinned *pinned, bool to_memory)
{
	struct hmm_dummy_job *job = kzalloc_obj(*job, GFP_KERNEL_ACCOUNT);

	if (!job)
		return NULL;
	hmm_dummy_job_init(job, ctx, (iocb->ki_pos >> PAGE_SHIFT) % HMM_DUMMY_QUEUES);
	job->step = rw_step;
	job->pinned = pinned;
	job->pos = iocb->ki_pos;
	job->to_memory = to_memory;
	job->iter = *iter;
	job->total = iov_iter_count(iter);
	if (ctx->dev->slots.nr) {
		job->buffer = kmalloc(PAGE_SIZE, GFP_KERNEL_ACCOUNT);
		if (!job->buffer)
			goto err;
	}
	if (!is_sync_kiocb(iocb)) {
		job->iocb = iocb;
		job->done = rw_done;
		/* The caller frees its array before the job ends. */
		job->iov = dup_iter(&job->iter, iter, GFP_KERNEL_ACCOUNT);
		if (!job->iov && iter_is_iovec(iter))
			goto err;
	}
	return job;
err:
	rw_job_free(job);
	return NULL;
}

static ssize_t rw_user(struct hmm_dummy_ctx *ctx, struct hmm_dummy_pinned *pinned,
		       struct kiocb *iocb, struct iov_iter *iter, bool to_memory)
{
	struct hmm_dummy_job *job;
	ssize_t ret;

	job = rw_job_create(iocb, iter, ctx, pinned, to_memory);
	if (!job)
		return -ENOMEM;
	if (is_sync_kiocb(iocb)) {
		ret = rw_result(job, hmm_dummy_job_run(job));
		iocb->ki_pos += job->progress;
		iov_iter_advance(iter, job->progress);
		rw_job_free(job);
		return ret;
	}
	ret = hmm_dummy_job_submit(job);
	if (!ret)
		return -EIOCBQUEUED;
	rw_job_free(job);
	return ret;
}

/* Copy to or from a buffer that is in no address space of a process. */
static ssize_t rw_kernel(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned,
			 struct kiocb *iocb, struct iov_iter *iter, bool to_memory)
{
	u8 *buffer = kmalloc(PAGE_SIZE, GFP_KERNEL);
	size_t done = 0, n;
	int ret = -EFAULT;

	if (!buffer)
		return -ENOMEM;
	while (iov_iter_count(iter)) {
		n = min(iov_iter_count(iter), PAGE_SIZE - iocb->ki_pos % PAGE_SIZE);
		if (!to_memory && copy_from_iter(buffer, n, iter) != n)
			break;
		ret = scratch_copy(dev, pinned, buffer, iocb->ki_pos, n, to_memory) ?:
		      -EFAULT;
		if (ret != -EFAULT)
			break;
		if (to_memory && copy_to_iter(buffer, n, iter) != n)
			break;
		done += n;
		iocb->ki_pos += n;
	}
	kfree(buffer);
	return done ?: ret;
}

/* -EAGAIN: the engines rest, since the memory is out of reach during a reset. */
static ssize_t rw_kernel_unless_rest(struct hmm_dummy_dev *dev, struct hmm_dummy_pinned *pinned,
				     struct kiocb *iocb, struct iov_iter *iter,
				     bool to_memory)
{
	ssize_t ret;

	if (!hmm_dummy_work_enter(dev))
		return -EAGAIN;
	ret = rw_kernel(dev, pinned, iocb, iter, to_memory);
	hmm_dummy_work_exit(dev);
	return ret;
}

static ssize_t rw_iter(struct kiocb *iocb, struct iov_iter *iter, bool to_memory)
{
	struct hmm_dummy_file *file = iocb->ki_filp->private_data;
	struct hmm_dummy_pinned *pinned = hmm_dummy_file_pinned(file);
	struct hmm_dummy_dev *dev = file->dev;
	u64 size = rw_size(dev, pinned);
	bool wait = !(iocb->ki_flags & IOCB_NOWAIT);
	struct hmm_dummy_ctx *ctx;
	ssize_t ret;

	if (!iov_iter_count(iter))
		return 0;
	if (iocb->ki_pos >= size)
		return to_memory ? 0 : -ENOSPC;
	iov_iter_truncate(iter, size - iocb->ki_pos);
	for (;;) {
		ret = hmm_dummy_dev_enter(dev, wait);
		if (ret)
			return ret;
		/* A synchronous call has to wait for the device. */
		if (!wait && is_sync_kiocb(iocb)) {
			hmm_dummy_dev_exit(dev);
			return -EAGAIN;
		}
		if (!user_backed_iter(iter)) {
			ret = rw_kernel_unless_rest(dev, pinned, iocb, iter, to_memory);
			hmm_dummy_dev_exit(dev);
			if (ret != -EAGAIN || !wait)
				return ret;
			ret = hmm_dummy_wait_rest(dev);
			if (ret)
				return ret;
			continue;
		}
		/* The context stays as long as the file, which the caller has. */
		ctx = hmm_dummy_ctx_get(file);
		hmm_dummy_dev_exit(dev);
		if (IS_ERR(ctx))
			return PTR_ERR(ctx);
		ret = rw_user(ctx, pinned, iocb, iter, to_memory);
		if (ret != -EAGAIN || !wait)
			return ret;
		ret = hmm_dummy_wait_room(ctx);
		if (ret)
			return ret;
	}
}

ssize_t hmm_dummy_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	return rw_iter(iocb, to, true);
}

ssize_t hmm_dummy_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	return rw_iter(iocb, from, false);
}

loff_t hmm_dummy_llseek(struct file *file, loff_t offset, int whence)
{
	struct hmm_dummy_file *f = file->private_data;

	return fixed_size_llseek(file, offset, whence,
				 rw_size(f->dev, hmm_dummy_file_pinned(f)));
}
