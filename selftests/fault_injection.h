/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Fault injection (Documentation/fault-injection): the n-th operation that can fail does fail,
 * in the thread that asks for it.
 */
#ifndef HMM_P2P_FAULT_INJECTION_H
#define HMM_P2P_FAULT_INJECTION_H

#include "common.h"

#define DEBUG	"/sys/kernel/debug/"
/* An upper limit for the number of such operations in one call. */
#define TOO_MANY	3000

static const char *const attrs[] = {
	/* memory */ "failslab", "fail_page_alloc",
	/* this project's hardware */ "fail_hmm_dummy", "hmm_p2p/fail_lookup",
};

/* Find the first address of kernel function @name and the first address behind it. */
static inline int find_function(const char *name, unsigned long *start, unsigned long *end)
{
	unsigned long address;
	FILE *f = fopen("/proc/kallsyms", "r");
	char line[256], other[128];

	*start = 0;
	*end = 0;
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx %*c %127s", &address, other) != 2)
			continue;
		if (*start && address > *start && (!*end || address < *end))
			*end = address;
		if (!strcmp(other, name))
			*start = address;
	}
	if (f)
		fclose(f);
	return *end ? 0 : -1;
}

static inline int attr_write(const char *attr, const char *file, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUG "%s/%s", attr, file);
	return write_file(path, value);
}

/* Make failures depend on the functions on the stack: @what is "require" or "reject". */
static inline int attr_range(const char *attr, const char *what, unsigned long start,
			     unsigned long end)
{
	char file[32], text[32];
	int ret;

	snprintf(file, sizeof(file), "%s-start", what);
	snprintf(text, sizeof(text), "0x%lx", start);
	ret = attr_write(attr, file, text);
	snprintf(file, sizeof(file), "%s-end", what);
	snprintf(text, sizeof(text), "0x%lx", end);
	return ret | attr_write(attr, file, text);
}

/* Let no allocation below that function fail. */
static inline int spare_function(unsigned long start, unsigned long end)
{
	int ret = 0;

	for (size_t i = 0; i < 2; i++)
		ret |= attr_range(attrs[i], "reject", start, end);
	return ret;
}

/* Let nothing fail that is not below that function. */
static inline int only_function(unsigned long start, unsigned long end)
{
	int ret = 0;

	for (size_t i = 0; i < 4; i++)
		ret |= attr_range(attrs[i], "require", start, end);
	return ret;
}

/*
 * The function in which the kernel records DMA mappings (kernel/dma/debug.c).  If its
 * allocation fails, the kernel stops checking DMA mappings until it reboots.  A kernel without
 * these checks has no such function.
 */
#define DMA_DEBUG	"add_dma_entry"

/* Set up all attributes.  By default, allocations that may sleep do not fail. */
static inline int attrs_init(void)
{
	static unsigned long start, end;
	int ret = 0;

	if (!end && find_function(DMA_DEBUG, &start, &end))
		end = 1;

	for (size_t i = 0; i < 4; i++) {
		ret |= attr_write(attrs[i], "probability", "0");
		ret |= attr_write(attrs[i], "verbose", "0");
		ret |= attr_write(attrs[i], "times", "-1");
		ret |= attr_write(attrs[i], "task-filter", "N");
	}
	ret |= only_function(0, -1UL);
	ret |= spare_function(start, end);
	ret |= attr_write("failslab", "ignore-gfp-wait", "N");
	ret |= attr_write("fail_page_alloc", "ignore-gfp-wait", "N");
	ret |= attr_write("fail_page_alloc", "ignore-gfp-highmem", "N");
	ret |= attr_write("fail_page_alloc", "min-order", "0");
	return ret;
}

static int fail_file = -1;

static inline int fail_file_open(void)
{
	fail_file = open("/proc/thread-self/fail-nth", O_RDWR);
	return fail_file;
}

/* Let the @n-th operation from now on fail, if this thread runs it. */
static inline void arm(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	if (pwrite(fail_file, text, len, 0) != len)
		perror("fail-nth");
}

/* Whether an operation has failed since arm(). */
static inline bool disarm(void)
{
	char text[16] = "";
	bool failed = pread(fail_file, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;

	arm(0);
	return failed;
}

#endif
