// SPDX-License-Identifier: GPL-2.0
/* Export and import of a device's memory; see pinned.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gpu.h"
#include "pinned.h"

enum status pinned_export(struct pinned *p, int gpu, size_t least)
{
	struct hmm_dummy_info info;

	*p = (struct pinned) PINNED_NONE;
	p->owner = gpu;
	if (gpu_info(gpu, &info))
		return bench_fail(STATUS_MISSING, "/dev/hmm_dummy0: %s", strerror(errno));
	p->length = info.scratch_bytes;
	if (p->length < least) {
		fprintf(stderr, "# no pinned memory: GPU 0 can export %zu KiB, not %zu\n",
			p->length >> 10, least >> 10);
		return STATUS_OK;
	}
	p->dmabuf = gpu_export(gpu);
	if (p->dmabuf >= 0)
		return STATUS_OK;
	if (errno != EOPNOTSUPP)
		return bench_fail(STATUS_MISSING, "a dma-buf: %s", strerror(errno));
	fprintf(stderr, "# no pinned memory: the BAR of GPU 0 is smaller than its memory\n");
	return STATUS_OK;
}

void pinned_release(struct pinned *p)
{
	if (p->peer >= 0)
		close(p->peer);
	p->peer = -1;
}

void pinned_close(struct pinned *p)
{
	pinned_release(p);
	if (p->dmabuf >= 0)
		close(p->dmabuf);
	p->dmabuf = -1;
}

int pinned_import(struct pinned *p)
{
	int error;

	p->peer = gpu_open(1);
	if (p->peer < 0)
		return -1;
	if (!gpu_import(p->peer, p->dmabuf))
		return 0;
	error = errno;
	pinned_release(p);
	errno = error;
	return -1;
}
