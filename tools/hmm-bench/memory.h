/* SPDX-License-Identifier: GPL-2.0 */
/* Memory to work on, and the certainty that it is where, and what, it should be. */
#ifndef HMM_BENCH_MEMORY_H
#define HMM_BENCH_MEMORY_H

#include "bench.h"

#define PAGE		4096UL
#define WORD		8UL
#define HUGE		(2UL << 20)
/* Where memory may be, other than on the GPU of that number. */
#define IN_RAM		(-1)

struct memory {
	char *p;		/* aligned to a huge page */
	size_t length;
	bool huge;
	unsigned int seed;	/* of what is in it */
	char *mapped;
};

/*
 * Anonymous memory of this process, filled.  STATUS_MISSING if there is too little, or if it
 * is not made of huge pages although it should.
 */
enum status memory_get(struct memory *m, size_t length, bool huge);
void memory_put(struct memory *m);

/* Fill it by the CPU, each time with something else; if it is huge, in huge pages that are new. */
void memory_fill(struct memory *m);

/* If it is huge, whether all of its pages are, wherever they are. */
bool memory_is_huge(const struct memory *m);

/* The @i'th word that memory_fill() wrote. */
uint64_t memory_word(const struct memory *m, size_t i);

/*
 * The CRC-32C of @n words that memory_fill() wrote, from the byte @at on, @stride bytes from each
 * to the next; whatever is there now.  All are multiples of 8.
 */
uint32_t memory_crc32c(const struct memory *m, size_t at, size_t n, size_t stride);

/* Whether each byte is what memory_fill() wrote.  Reads by the CPU, so it ends in RAM. */
bool memory_is_right(const struct memory *m);

/* Whether the first @length bytes are the same in both. */
bool memory_is_same(const struct memory *a, const struct memory *b, size_t length);

/* Whether all of it is on that GPU, or none of it on any. */
bool memory_is_on(const struct memory *m, int gpu);
bool memory_is_in_ram(const struct memory *m);

/* No device has any of it mapped, and nothing moves.  0, or -1 with errno. */
int memory_forget(const struct memory *m);

/*
 * A switch of the module hmm_dummy: what it was is restored at the end.  0, or -1 with
 * errno.
 */
int driver_param(const char *name, bool on);

/* All that were set, before the end. */
void driver_params_restore(void);

/* Around which so many bytes come along when the CPU faults on memory of GPU 0. */
size_t driver_fault_around(void);

/*
 * Switch peer access for all of the system; what it was is restored at the end.  Where it
 * was off when we began it stays so: samples then find memory in the wrong place, which is
 * what they are for.  0, or -1 with errno.
 */
int peer_access(bool on);

/*
 * The two GPUs of most figures, opened; STATUS_MISSING if one is not there, or has less than
 * options.length free.  They stay open.
 */
enum status devices_open(int gpu[2]);

/*
 * lib/test_hmm's device does @request with @length bytes at @p, and has @data for itself.  It
 * counts pieces of @piece bytes.
 */
int dmirror_open(void);
int dmirror(int fd, unsigned long request, void *p, size_t length, void *data, size_t piece);

#endif
