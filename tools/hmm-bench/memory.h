/* SPDX-License-Identifier: GPL-2.0 */
/* Memory to work on, and checks of its place and its content. */
#ifndef HMM_BENCH_MEMORY_H
#define HMM_BENCH_MEMORY_H

#include "bench.h"

#define PAGE		4096UL
#define WORD		8UL
#define HUGE		(2UL << 20)
/* A place of memory, beside the numbers of GPUs. */
#define IN_RAM		(-1)

struct memory {
	char *p;		/* aligned to a huge page */
	size_t length;
	bool huge;
	unsigned int seed;	/* of the content */
	char *mapped;
};

/*
 * Get filled anonymous memory.  Returns STATUS_MISSING if there is too little, or no huge pages
 * although @huge says so.
 */
enum status memory_get(struct memory *m, size_t length, bool huge);
void memory_put(struct memory *m);

/* Fill the memory by the CPU, each time with other data.  Huge memory gets new huge pages. */
void memory_fill(struct memory *m);

/* Whether all pages of huge memory are huge, in any place. */
bool memory_is_huge(const struct memory *m);

/* The @i-th word that memory_fill() has written. */
uint64_t memory_word(const struct memory *m, size_t i);

/*
 * The CRC-32C of @n words that memory_fill() has written, beginning with the byte @at, @stride
 * bytes apart.  The current content does not matter.  All are multiples of 8.
 */
uint32_t memory_crc32c(const struct memory *m, size_t at, size_t n, size_t stride);

/* Whether each byte is what memory_fill() has written.  The CPU reads it, so it ends in RAM. */
bool memory_is_right(const struct memory *m);

/* Whether the first @length bytes are equal in both. */
bool memory_is_same(const struct memory *a, const struct memory *b, size_t length);

/* Whether all of the memory is on that GPU, or none of it on any GPU. */
bool memory_is_on(const struct memory *m, int gpu);
bool memory_is_in_ram(const struct memory *m);

/* Remove all mappings of devices; nothing moves.  Returns 0, or -1 with errno. */
int memory_forget(const struct memory *m);

/*
 * Set a switch of the module hmm_dummy.  Its old value is restored at the end.  Returns 0, or
 * -1 with errno.
 */
int driver_param(const char *name, bool on);

/* Restore all switches, before the end. */
void driver_params_restore(void);

/* How many bytes a CPU fault on memory of GPU 0 moves. */
size_t driver_fault_around(void);

/*
 * Switch peer access for the whole system.  The old value is restored at the end.  If it was
 * off at the beginning, it stays off: samples then find memory in the wrong place and fail.
 * Returns 0, or -1 with errno.
 */
int peer_access(bool on);

/*
 * Open the two GPUs of most figures.  They stay open.  Returns STATUS_MISSING if one does not
 * exist, or has less than options.length free.
 */
enum status devices_open(int gpu[2]);

/*
 * Give lib/test_hmm's device a @request for @length bytes at @p, with its own buffer at @data.
 * test_hmm counts pieces of @piece bytes.
 */
int dmirror_open(void);
int dmirror(int fd, unsigned long request, void *p, size_t length, void *data, size_t piece);

#endif
