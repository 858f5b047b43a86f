/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory of GPU 0 that GPU 1 has pinned.  A device without an invalidate callback needs that,
 * because it is not told when memory moves.  GPU 0's driver owns this memory and exports it as a
 * dma-buf.  It is in the same BAR as the memory of processes.
 */
#ifndef HMM_BENCH_PINNED_H
#define HMM_BENCH_PINNED_H

#include "bench.h"

struct pinned {
	int owner;		/* GPU 0; the caller closes it */
	int dmabuf;		/* below 0: no export */
	int peer;		/* GPU 1 with the import; below 0: none */
	size_t length;
};

#define PINNED_NONE	{ .dmabuf = -1, .peer = -1 }

/*
 * Let @gpu, which is GPU 0, export its memory.  @least bytes are needed.  If the device cannot
 * export that much, a note is printed and there is no dma-buf.  Returns STATUS_MISSING for
 * other errors.
 */
enum status pinned_export(struct pinned *p, int gpu, size_t least);
void pinned_close(struct pinned *p);

/* Map the memory for GPU 1, or release it.  pinned_import() returns 0, or -1 with errno. */
int pinned_import(struct pinned *p);
void pinned_release(struct pinned *p);

#endif
