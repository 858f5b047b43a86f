/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What all tests share: memory, patterns, files of the kernel, child processes, GPUs.
 */
#ifndef HMM_P2P_SELFTEST_H
#define HMM_P2P_SELFTEST_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef HMM_P2P_NO_HARNESS	/* the file is a helper of a test, not a test */
#include "kselftest_harness.h"
#endif

#include "crc32c.h"
#include "gpu.h"

#define PAGE	4096UL
#define MiB	(1UL << 20)
#define GiB	(1UL << 30)

/*
 * How many ms a window stays open after its last use, although others wait for room.  Unset:
 * 100.
 */
#define RESIDENCY "/sys/module/hmm_p2p/parameters/window_residency_ms"

/* For qsort(). */
static inline int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Map anonymous memory, as malloc() does for large sizes. */
static inline void *anon(size_t length)
{
	return mmap(NULL, length, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Reserve address space without memory. */
static inline char *reserve(size_t length)
{
	return mmap(NULL, length, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/*
 * Map anonymous memory that is aligned to a huge page; @advice says whether it consists of huge
 * pages.  munmap() leaves 2 MiB of the mapping around it behind.
 */
static inline char *anon_huge(size_t length, int advice)
{
	char *p = anon(length + 2 * MiB);

	if (p == MAP_FAILED)
		return NULL;
	p = (char *)(((uintptr_t)p + 2 * MiB - 1) & -(2 * MiB));
	return madvise(p, length, advice) ? NULL : p;
}

/*
 * Whether peers can reach the devices' memory on this machine.  If not, it moves to RAM. The
 * runner sets HMM_P2P_EXPECT=reach|fallback.
 */
static inline bool expect_reach(void)
{
	const char *e = getenv("HMM_P2P_EXPECT");

	return !e || strcmp(e, "fallback");
}

/* How many pages one CPU fault moves.  The runner sets HMM_P2P_AROUND=KiB. */
static inline size_t around_pages(void)
{
	const char *kb = getenv("HMM_P2P_AROUND");
	size_t pages = kb ? atoi(kb) * 1024 / PAGE : 0;

	return pages ? pages : 1;
}

/* The byte at offset @i of the pattern.  Each offset and each @seed has another one. */
static inline unsigned char pattern(size_t i, unsigned int seed)
{
	return (i * 7 + (i >> 12) * 31 + seed * 101) & 0xff;
}

static inline void fill_pattern(void *p, size_t n, unsigned int seed)
{
	unsigned char *c = p;

	for (size_t i = 0; i < n; i++)
		c[i] = pattern(i, seed);
}

/* Offset of the first byte that is not the pattern, or -1. */
static inline long check_pattern(const void *p, size_t n, unsigned int seed)
{
	const unsigned char *c = p;

	for (size_t i = 0; i < n; i++)
		if (c[i] != pattern(i, seed))
			return i;
	return -1;
}

static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* The number in a file such as those of a control group, or -1. */
static inline long long number_in(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	return n > 0 ? atoll(text) : -1;
}

#define TRACE		"/sys/kernel/tracing/"
#define TRACE_PROBES	"hmm_p2p_test"	/* group of the kprobes of tests */

static inline int trace_clear(void)
{
	return close(open(TRACE "trace", O_WRONLY | O_TRUNC));
}

/* Remove all kprobes, also those of an earlier run. */
static inline void kprobes_off(void)
{
	write_file(TRACE "events/" TRACE_PROBES "/enable", "0");
	close(open(TRACE "kprobe_events", O_WRONLY | O_TRUNC));
}

/* Set up @probes in the group TRACE_PROBES, in the syntax of kprobe_events. */
static inline int kprobes_on(const char *probes)
{
	kprobes_off();
	return write_file(TRACE "kprobe_events", probes) ||
	       write_file(TRACE "events/" TRACE_PROBES "/enable", "1");
}

/* Read a number from the environment. */
static inline unsigned long long setting(const char *name, unsigned long long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* xorshift64*, by S. Vigna; @state is not 0 */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

/* The start value of a random sequence.  Each @part of a run with one @seed has another one. */
static inline uint64_t random_start(uint64_t seed, unsigned int part)
{
	return (seed * 64 + part) * 0x9e3779b97f4a7c15ULL + 1;
}

/* Read the PCI address of GPU @n. */
static inline int gpu_bus_address(unsigned int n, char *address, size_t size)
{
	char path[64], link[256] = "";

	snprintf(path, sizeof(path), "/sys/class/misc/hmm_dummy%u/device", n);
	if (readlink(path, link, sizeof(link) - 1) < 0)
		return -1;
	snprintf(address, size, "%s", strrchr(link, '/') + 1);
	return 0;
}

/* @what: "bind" or "unbind" */
static inline int gpu_driver(const char *what, const char *address)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/hmm_dummy/%s", what);
	return write_file(path, address);
}

/* Whether GPU @n is in this state as an exporter, as debugfs says it. */
static inline bool gpu_state_is(int n, const char *expected)
{
	char path[128], line[32], state[32] = "";
	int fd;

	snprintf(line, sizeof(line), "%s\n", expected);
	snprintf(path, sizeof(path), "/sys/kernel/debug/hmm_p2p/hmm_dummy%d/state", n);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (read(fd, state, sizeof(state) - 1) < 0)
		state[0] = 0;
	close(fd);
	return !strcmp(state, line);
}

/*
 * Open QEMU's edu, a bus master without memory.  Its number is in @number, unless that is NULL.
 * Return: -1 if there is none.
 */
static inline int edu_open(unsigned int *number)
{
	struct hmm_dummy_info info;

	for (unsigned int n = 2; n < 8; n++) {
		int edu = gpu_open(n);

		if (edu >= 0 && !gpu_info(edu, &info) && info.caps & HMM_DUMMY_CAP_EDU) {
			if (number)
				*number = n;
			return edu;
		}
		close(edu);
	}
	return -1;
}

static inline int pidfd_open(pid_t pid)
{
	return syscall(SYS_pidfd_open, pid, 0);
}

/* Wait for a child.  Returns its exit status, -signal, or -1000 if there is no such child. */
static inline int wait_child(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1000;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* A test without fixture that may take longer than the harness's 30 s. */
#define TEST_LONG(name, seconds)				\
	FIXTURE(name) { int unused; };				\
	FIXTURE_SETUP(name) { }					\
	FIXTURE_TEARDOWN(name) { }				\
	TEST_F_TIMEOUT(name, run, seconds)

/* What the test has left behind on an unused GPU.  Returns NULL if nothing. */
static inline const char *gpu_leak(unsigned int n, int gpu)
{
	struct hmm_dummy_info info;

	if (gpu_info(gpu, &info))
		return "gpu_info";
	if (info.stale_writes)
		return "free device memory was written";
	if (gpu_counter(n, "mapped_now"))
		return "entries are still mapped";
	if (info.vram_free != info.vram_bytes)
		return "device memory is still in use";
	return NULL;
}

/* Count all "objects" (dma-bufs) of the machine, or all "devices" attached to them. */
static inline long dmabufs(const char *what)
{
	FILE *f = fopen("/sys/kernel/debug/dma_buf/bufinfo", "r");
	char line[256], word[16];
	long n, found = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Total %ld %7s", &n, word) == 2 && !strcmp(word, what))
			found += n;
	fclose(f);
	return found;
}

/* Read a byte in a child process.  Returns the child's exit status or -signal. */
static inline int touch_in_child(volatile char *p)
{
	pid_t child = fork();

	if (!child) {
		(void)*p;
		_exit(0);
	}
	return wait_child(child);
}

/* Wait until ksmd has merged equal pages. */
static inline bool ksm_pass(void)
{
	char text[32] = "";
	long before = -1, now = 0;

	if (write_file("/sys/kernel/mm/ksm/pages_to_scan", "10000") ||
	    write_file("/sys/kernel/mm/ksm/sleep_millisecs", "10") ||
	    write_file("/sys/kernel/mm/ksm/run", "1"))
		return false;
	/* ksmd merges a page only after it has seen it unchanged, so a few passes are needed. */
	for (int i = 0; i < 600 && (before < 0 || now < before + 4); i++) {
		int fd = open("/sys/kernel/mm/ksm/full_scans", O_RDONLY);

		if (read(fd, text, sizeof(text) - 1) <= 0)
			return false;
		close(fd);
		now = atol(text);
		if (before < 0)
			before = now;
		usleep(20000);
	}
	write_file("/sys/kernel/mm/ksm/run", "0");
	return now >= before + 4;
}

/*
 * Count the caller's pages that are present, swapped out, or device-private of any driver, as
 * pagemap shows them.
 */
enum page_is { PAGE_PRESENT, PAGE_SWAPPED, PAGE_ON_DEVICE };

static inline long pages_that_are(enum page_is what, const void *p, size_t length)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t first = (uintptr_t)p >> 12, pages = (length + PAGE - 1) / PAGE;
	uint64_t entries[512];
	long n = 0;

	for (size_t i = 0; i < pages; i += 512) {
		size_t bytes = (pages - i < 512 ? pages - i : 512) * 8;
		ssize_t got = pread(fd, entries, bytes, (first + i) * 8);

		for (ssize_t k = 0; k < got / 8; k++) {
			unsigned int type = entries[k] & 0x1f;

			if (what == PAGE_PRESENT)
				n += entries[k] >> 63;
			else if (what == PAGE_ON_DEVICE)
				n += entries[k] >> 62 == 1 && (type == 28 || type == 29);
			else	/* types from 24 on are not swap devices */
				n += entries[k] >> 62 == 1 && type < 24;
		}
	}
	close(fd);
	return n;
}

#endif
