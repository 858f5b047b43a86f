// SPDX-License-Identifier: GPL-2.0
/* Memory for samples, switches of the driver, and devices; see memory.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crc32c.h"
#include "gpu.h"
#include "memory.h"
#include "test_hmm_uapi.h"

#define SPARE	(64UL << 20)	/* bytes of RAM to leave for other programs */

enum status memory_get(struct memory *m, size_t length, bool huge)
{
	*m = (struct memory) { .length = length, .huge = huge };
	if (proc_bytes("/proc/meminfo", NULL, "MemAvailable") < length + SPARE)
		return bench_fail(STATUS_MISSING, "less than %zu MiB of memory", length >> 20);
	m->mapped = mmap(NULL, length + 2 * HUGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->mapped == MAP_FAILED) {
		m->mapped = NULL;
		return bench_fail(STATUS_MISSING, "%zu MiB of memory: %s", length >> 20,
				  strerror(errno));
	}
	m->p = (char *)(((uintptr_t)m->mapped + HUGE) & -HUGE);
	/* The mapping has a start of its own, by which huge_bytes() finds it. */
	if (madvise(m->p, length, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		return bench_fail(STATUS_MISSING, "huge pages: %s", strerror(errno));
	memory_fill(m);
	if (huge && huge_bytes(m->p) < length)
		return bench_fail(STATUS_MISSING, "less than %zu MiB of huge pages",
				  length >> 20);
	return STATUS_OK;
}

void memory_put(struct memory *m)
{
	if (m->mapped)
		munmap(m->mapped, m->length + 2 * HUGE);
	m->mapped = NULL;
}

/* The @i-th word: it differs from page to page, and is cheap to make. */
static uint64_t word(size_t i, unsigned int seed)
{
	return (i + 1) * 0x9e3779b97f4a7c15ULL ^ seed;
}

uint64_t memory_word(const struct memory *m, size_t i)
{
	return word(i, m->seed);
}

uint32_t memory_crc32c(const struct memory *m, size_t at, size_t n, size_t stride)
{
	uint64_t *words = malloc(n * WORD);
	uint32_t crc;

	if (!words)
		abort();
	for (size_t i = 0; i < n; i++)
		words[i] = word((at + i * stride) / WORD, m->seed);
	crc = crc32c((char *)words, n * WORD);
	free(words);
	return crc;
}

void memory_fill(struct memory *m)
{
	static unsigned int seed;
	uint64_t *p = (uint64_t *)m->p;

	/* Drop the memory, because a migration may have left small pages. */
	if (m->huge)
		madvise(m->p, m->length, MADV_DONTNEED);
	m->seed = ++seed;
	for (size_t i = 0; i < m->length / 8; i++)
		p[i] = word(i, m->seed);
}

bool memory_is_right(const struct memory *m)
{
	const uint64_t *p = (const uint64_t *)m->p;

	for (size_t i = 0; i < m->length / 8; i++) {
		if (p[i] == word(i, m->seed))
			continue;
		bench_fail(STATUS_FAILED, "wrong data at byte %#zx of %#zx", i * 8, m->length);
		return false;
	}
	return true;
}

bool memory_is_same(const struct memory *a, const struct memory *b, size_t length)
{
	if (!memcmp(a->p, b->p, length))
		return true;
	bench_fail(STATUS_FAILED, "the transferred data is wrong");
	return false;
}

static bool is_there(const struct memory *m, long found, size_t wanted, const char *where)
{
	if (found == (long)wanted)
		return true;
	if (found < 0)
		bench_fail(STATUS_MISSING, "/proc/self/pagemap: %s", strerror(errno));
	else
		bench_fail(STATUS_FAILED, "%ld of %zu pages are on %s instead of %zu", found,
			   m->length / PAGE, where, wanted);
	return false;
}

bool memory_is_huge(const struct memory *m)
{
	size_t huge = m->huge ? huge_bytes(m->p) : 0;

	if (!m->huge || huge >= m->length)
		return true;
	bench_fail(STATUS_FAILED, "%zu of %zu MiB are huge pages", huge >> 20,
		   m->length >> 20);
	return false;
}

bool memory_is_on(const struct memory *m, int gpu)
{
	if (gpu == IN_RAM)
		return memory_is_in_ram(m);
	return is_there(m, pages_on_gpu(gpu, m->p, m->length), m->length / PAGE,
			gpu ? "GPU 1" : "GPU 0");
}

bool memory_is_in_ram(const struct memory *m)
{
	return is_there(m, pages_on_device(0, m->p, m->length), 0, "a device");
}

int memory_forget(const struct memory *m)
{
	return mprotect(m->p, m->length, PROT_READ) ||
	       mprotect(m->p, m->length, PROT_READ | PROT_WRITE) ? -1 : 0;
}

#define PARAMS	"/sys/module/hmm_dummy/parameters/"

/* Each switch that was set, with its old value. */
static struct {
	char path[96];
	char before;
} params[4];

static int write_param(const char *path, char value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), n;

	if (fd < 0)
		return -1;
	n = write(fd, &value, 1);
	close(fd);
	return n == 1 ? 0 : -1;
}

void driver_params_restore(void)
{
	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++)
		if (params[i].before)
			write_param(params[i].path, params[i].before);
}

int driver_param(const char *name, bool on)
{
	char path[96], before = 0;
	size_t i = 0;
	int fd;

	snprintf(path, sizeof(path), PARAMS "%.48s", name);
	while (params[i].before && strcmp(params[i].path, path))
		i++;
	if (!params[i].before) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -1;
		if (read(fd, &before, 1) != 1)
			before = 0;
		close(fd);
		if (!i)
			atexit(driver_params_restore);
		memcpy(params[i].path, path, sizeof(path));
		params[i].before = before;
	}
	return write_param(path, on ? 'Y' : 'N');
}

size_t driver_fault_around(void)
{
	FILE *f = fopen(PARAMS "fault_around_kb", "r");
	size_t kb = 0;

	if (f && fscanf(f, "%zu", &kb) != 1)
		kb = 0;
	if (f)
		fclose(f);
	return kb << 10 > PAGE ? kb << 10 : PAGE;
}

static bool peers_at_first;

static void restore_peer_access(void)
{
	peer_access_set(peers_at_first);
}

int peer_access(bool on)
{
	static bool known;

	if (!known) {
		int before = peer_access_set(false);

		if (before < 0)
			return -1;
		known = true;
		peers_at_first = before;
		atexit(restore_peer_access);
	}
	return peer_access_set(on && peers_at_first) < 0 ? -1 : 0;
}

enum status devices_open(int gpu[2])
{
	static int open_devices[2] = { -1, -1 };

	for (unsigned int n = 0; n < 2; n++) {
		struct hmm_dummy_info info;

		if (open_devices[n] < 0)
			open_devices[n] = gpu_open(n);
		if (open_devices[n] < 0 || gpu_info(open_devices[n], &info))
			return bench_fail(STATUS_MISSING, "/dev/hmm_dummy%u: %s", n,
					  strerror(errno));
		if (info.vram_free < options.length)
			return bench_fail(STATUS_MISSING,
					  "/dev/hmm_dummy%u has %llu MiB free, and --length is %zu",
					  n, (unsigned long long)info.vram_free >> 20,
					  options.length >> 20);
		gpu[n] = open_devices[n];
	}
	return STATUS_OK;
}

int dmirror_open(void)
{
	int fd = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		bench_fail(STATUS_MISSING, "test_hmm, /dev/hmm_dmirror0: %s", strerror(errno));
	return fd;
}

int dmirror(int fd, unsigned long request, void *p, size_t length, void *data, size_t piece)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)p, .ptr = (uintptr_t)data, .npages = length / PAGE,
	};

	if (ioctl(fd, request, &cmd))
		return -1;
	if (cmd.cpages == length / piece)
		return 0;
	/* test_hmm has done only a part of the request. */
	errno = EBUSY;
	return -1;
}
