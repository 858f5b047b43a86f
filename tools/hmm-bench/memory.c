// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "gpu.h"
#include "memory.h"

enum status memory_get(struct memory *m, size_t length, bool huge)
{
	*m = (struct memory) { .length = length, .huge = huge };
	m->mapped = mmap(NULL, length + HUGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->mapped == MAP_FAILED) {
		m->mapped = NULL;
		return bench_fail(STATUS_MISSING, "%zu MiB of memory: %s", length >> 20,
				  strerror(errno));
	}
	m->p = (char *)(((uintptr_t)m->mapped + HUGE - 1) & -HUGE);
	if (madvise(m->p, length, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		return bench_fail(STATUS_MISSING, "huge pages: %s", strerror(errno));
	memory_fill(m, 1);
	return STATUS_OK;
}

void memory_put(struct memory *m)
{
	if (m->mapped)
		munmap(m->mapped, m->length + HUGE);
	m->mapped = NULL;
}

/* Differs from page to page, and is cheap to make. */
static uint64_t word(size_t i, unsigned int seed)
{
	return (i + 1) * 0x9e3779b97f4a7c15ULL ^ seed;
}

void memory_fill(struct memory *m, unsigned int seed)
{
	uint64_t *p = (uint64_t *)m->p;

	m->seed = seed;
	for (size_t i = 0; i < m->length / 8; i++)
		p[i] = word(i, seed);
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

static bool on_device(const struct memory *m, size_t pages)
{
	long found = pages_on_device(0, m->p, m->length);

	if (found == (long)pages)
		return true;
	if (found < 0)
		bench_fail(STATUS_MISSING, "/proc/self/pagemap: %s", strerror(errno));
	else
		bench_fail(STATUS_FAILED, "%ld of %zu pages are on a device, not %zu", found,
			   m->length / PAGE, pages);
	return false;
}

bool memory_is_on_device(const struct memory *m)
{
	return on_device(m, m->length / PAGE);
}

bool memory_is_in_ram(const struct memory *m)
{
	return on_device(m, 0);
}

int peer_access(bool on)
{
	static int at_first = -1;
	int before = peer_access_set(at_first ? on : false);

	if (before < 0)
		return -1;
	if (at_first < 0) {
		at_first = before;
		/* And this one was too much. */
		if (!before)
			return peer_access_set(false) < 0 ? -1 : 0;
	}
	return 0;
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
