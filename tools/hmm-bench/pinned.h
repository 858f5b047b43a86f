/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory of GPU 0 that GPU 1 has pinned: what a device does that has no way to be told when
 * memory moves.  It is the driver's, exported as a dma-buf, and in the same BAR as what
 * processes have there.
 */
#ifndef HMM_BENCH_PINNED_H
#define HMM_BENCH_PINNED_H

#include "bench.h"

struct pinned {
	int owner;		/* GPU 0; not closed by us */
	int dmabuf;		/* below 0: there is none */
	int peer;		/* GPU 1, with that memory; below 0: not now */
	size_t length;
};

#define PINNED_NONE	{ .dmabuf = -1, .peer = -1 }

/*
 * Have @gpu, which is GPU 0, export its memory, of which @least bytes are needed.  Where that
 * cannot be there is none, which is said; STATUS_MISSING for what else goes wrong.
 */
enum status pinned_export(struct pinned *p, int gpu, size_t least);
void pinned_close(struct pinned *p);

/* Map it for GPU 1, and let go of it.  0, or -1 with errno. */
int pinned_import(struct pinned *p);
void pinned_release(struct pinned *p);

#endif
