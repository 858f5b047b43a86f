// SPDX-License-Identifier: GPL-2.0
/* The ioctls and files of the dummy GPU, and the places of pages; see gpu.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "gpu.h"

int gpu_open(unsigned int n)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/hmm_dummy%u", n);
	return open(path, O_RDWR | O_CLOEXEC);
}

int gpu_migrate(int gpu, int pidfd, const void *addr, size_t length,
		unsigned int flags, struct hmm_dummy_migrate *out)
{
	struct hmm_dummy_migrate arg = {
		.size = sizeof(arg),
		.flags = flags,
		.pidfd = pidfd,
		.addr = (uintptr_t)addr,
		.length = length,
	};
	int ret = ioctl(gpu, HMM_DUMMY_MIGRATE, &arg);

	if (out)
		*out = arg;
	return ret;
}

int gpu_to_device(int gpu, const void *addr, size_t length)
{
	return gpu_migrate(gpu, GPU_SELF, addr, length, 0, NULL);
}

int gpu_to_ram(int gpu, const void *addr, size_t length)
{
	return gpu_migrate(gpu, GPU_SELF, addr, length,
			   HMM_DUMMY_MIGRATE_TO_RAM, NULL);
}

int gpu_info(int gpu, struct hmm_dummy_info *info)
{
	*info = (struct hmm_dummy_info) { .size = sizeof(*info) };
	return ioctl(gpu, HMM_DUMMY_INFO, info);
}

int gpu_command(int gpu, struct hmm_dummy_command *arg)
{
	arg->size = sizeof(*arg);
	return ioctl(gpu, HMM_DUMMY_COMMAND, arg);
}

int gpu_cancel(int gpu, uint64_t tag)
{
	struct hmm_dummy_cancel arg = { .size = sizeof(arg), .tag = tag };

	return ioctl(gpu, HMM_DUMMY_CANCEL, &arg);
}

int gpu_fill(int gpu, void *addr, size_t length, unsigned char byte)
{
	struct hmm_dummy_command arg = {
		.op = HMM_DUMMY_OP_FILL,
		.addr = (uintptr_t)addr,
		.length = length,
		.value = byte,
	};

	return gpu_command(gpu, &arg);
}

int gpu_copy(int gpu, void *dst, const void *src, size_t length)
{
	struct hmm_dummy_command arg = {
		.op = HMM_DUMMY_OP_COPY,
		.addr = (uintptr_t)dst,
		.src = (uintptr_t)src,
		.length = length,
	};

	return gpu_command(gpu, &arg);
}

int gpu_crc32c(int gpu, const void *addr, size_t length, unsigned int *crc)
{
	struct hmm_dummy_command arg = {
		.op = HMM_DUMMY_OP_CRC32C,
		.addr = (uintptr_t)addr,
		.length = length,
	};
	int ret = gpu_command(gpu, &arg);

	*crc = arg.value;
	return ret;
}

int gpu_export(int gpu)
{
	struct hmm_dummy_export arg = { .size = sizeof(arg) };

	return ioctl(gpu, HMM_DUMMY_EXPORT, &arg);
}

int gpu_import(int gpu, int dmabuf)
{
	struct hmm_dummy_import arg = { .size = sizeof(arg), .fd = dmabuf };

	return ioctl(gpu, HMM_DUMMY_IMPORT, &arg);
}

int gpu_fill_scratch(int gpu, size_t pos, size_t length, unsigned char byte)
{
	struct hmm_dummy_command arg = {
		.flags = HMM_DUMMY_IN_SCRATCH, .op = HMM_DUMMY_OP_FILL,
		.addr = pos, .length = length, .value = byte,
	};

	return gpu_command(gpu, &arg);
}

long long exporter_counter(const char *exporter, const char *name)
{
	static const char *const files[] = { "counters", "migrations" };
	char path[80], key[64];
	long long value, found = -1;

	for (unsigned int i = 0; i < 2; i++) {
		FILE *f;

		snprintf(path, sizeof(path), "/sys/kernel/debug/hmm_p2p/%s/%s", exporter, files[i]);
		f = fopen(path, "r");
		if (!f)
			return -1;
		while (fscanf(f, "%63s %lld", key, &value) == 2)
			if (!strcmp(key, name))
				found = value;
		fclose(f);
	}
	return found;
}

long long gpu_counter(unsigned int n, const char *name)
{
	char exporter[32];

	snprintf(exporter, sizeof(exporter), "hmm_dummy%u", n);
	return exporter_counter(exporter, name);
}

int peer_access_set(bool on)
{
	int fd = open("/sys/module/hmm_p2p/parameters/enable", O_RDWR | O_CLOEXEC);
	char old = 0;
	int ret = -1;

	if (fd < 0)
		return -1;
	if (read(fd, &old, 1) == 1 && pwrite(fd, on ? "Y" : "N", 1, 0) == 1)
		ret = old == 'Y';
	close(fd);
	return ret;
}

long long gpu_pairs(unsigned int n, const char *importer, const char *field)
{
	char path[96], line[512], who[96], key[64], *p;
	long long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/hmm_p2p/hmm_dummy%u/pairs", n);
	snprintf(who, sizeof(who), "importer=%s pid=%d ", importer, getpid());
	snprintf(key, sizeof(key), " %s=", field);
	f = fopen(path, "r");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, who, strlen(who)))
			continue;
		p = strstr(line, key);
		value = p ? atoll(p + strlen(key)) : 0;
	}
	fclose(f);
	return value;
}

int gpu_control(unsigned int n, const char *format, ...)
{
	char path[64], command[128];
	va_list args;
	int fd, length;
	ssize_t done;

	va_start(args, format);
	length = vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	snprintf(path, sizeof(path), "/sys/kernel/debug/hmm_dummy%u/control", n);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	done = write(fd, command, length);
	close(fd);
	return done == length ? 0 : -1;
}

/* From Documentation/admin-guide/mm/pagemap.rst */
#define PM_SWAP		(1ULL << 62)
#define PM_PRESENT	(1ULL << 63)
#define PM_SWAP_TYPE	0x1fULL
#define PM_SWAP_OFFSETS	(((1ULL << 50) - 1) << 5)
#define PM_SWAP_OFFSET(e) (((e) & PM_SWAP_OFFSETS) >> 5)

#define ANY_DEVICE	(-1)

struct pfn_range {
	unsigned long long first, last;
	int id;
};

/* Read the ranges of physical addresses that stand for device memory. */
static int device_pfns(struct pfn_range *ranges)
{
	FILE *f = fopen("/proc/iomem", "r");
	char line[256];
	int n = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f) && n < GPU_MAX) {
		unsigned long long start, end;
		unsigned int id;

		/* The driver's name alone is the BAR; with a number it is device memory. */
		if (sscanf(line, " %llx-%llx : hmm_dummy%u", &start, &end,
			   &id) == 3)
			ranges[n++] = (struct pfn_range) { start >> 12, end >> 12, id };
	}
	fclose(f);
	return n;
}

/* The number of the device that has the page of a pagemap entry, or -1. */
static int device_of(uint64_t entry, const struct pfn_range *ranges, int n)
{
	uint64_t type = entry & PM_SWAP_TYPE;

	/* Device-private entries are swap entries of types above those of swap devices. */
	if (entry & PM_PRESENT || !(entry & PM_SWAP) || type < 28 || type > 29)
		return -1;
	for (int i = 0; i < n; i++)
		if (PM_SWAP_OFFSET(entry) >= ranges[i].first &&
		    PM_SWAP_OFFSET(entry) <= ranges[i].last)
			return ranges[i].id;
	return -1;
}

static void count_entry(uint64_t entry, const struct pfn_range *ranges, int n,
			struct gpu_places *places)
{
	int id = device_of(entry, ranges, n);

	if (id >= 0 && id < GPU_MAX)
		places->gpu[id]++;
	else if (entry & PM_PRESENT)
		places->ram++;
	else if (entry & PM_SWAP && !(entry & (PM_SWAP_TYPE | PM_SWAP_OFFSETS)))
		places->hidden++;
	/* Types in between are those of poison and of pages that are being moved. */
	else if (entry & PM_SWAP && (entry & PM_SWAP_TYPE) < 24)
		places->swap++;
}

int gpu_places(pid_t pid, const void *addr, size_t length, struct gpu_places *places)
{
	struct pfn_range ranges[GPU_MAX];
	uintptr_t first = (uintptr_t)addr >> 12;
	uintptr_t end = ((uintptr_t)addr + length + 4095) >> 12;
	uint64_t entries[512];
	char path[64];
	int fd, n, ret = 0;

	*places = (struct gpu_places) { .pages = end - first };
	n = device_pfns(ranges);
	if (n < 0)
		return -1;
	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	else
		snprintf(path, sizeof(path), "/proc/self/pagemap");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while (first < end && !ret) {
		size_t want = end - first < 512 ? end - first : 512;
		ssize_t got = pread(fd, entries, want * 8, first * 8);

		if (got <= 0)
			ret = -1;
		for (ssize_t i = 0; i < got / 8; i++)
			count_entry(entries[i], ranges, n, places);
		first += got / 8;
	}
	close(fd);
	return ret;
}

static long count_pages(pid_t pid, int id, const void *addr, size_t length)
{
	struct gpu_places places;
	long pages = 0;

	if (gpu_places(pid, addr, length, &places))
		return -1;
	for (int i = 0; i < GPU_MAX; i++)
		if (id == ANY_DEVICE || id == i)
			pages += places.gpu[i];
	return pages;
}

long pages_on_device(pid_t pid, const void *addr, size_t length)
{
	return count_pages(pid, ANY_DEVICE, addr, length);
}

long pages_on_gpu(unsigned int n, const void *addr, size_t length)
{
	return count_pages(0, n, addr, length);
}

long long gpu_offset(const void *addr, unsigned long *pfn)
{
	struct pfn_range ranges[GPU_MAX];
	int n = device_pfns(ranges);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;
	ssize_t got;

	if (fd < 0)
		return -1;
	got = pread(fd, &entry, 8, ((uintptr_t)addr >> 12) * 8);
	close(fd);
	if (got != 8 || device_of(entry, ranges, n) < 0)
		return -1;
	for (int i = 0; i < n; i++) {
		unsigned long long p = PM_SWAP_OFFSET(entry);

		if (p < ranges[i].first || p > ranges[i].last)
			continue;
		if (pfn)
			*pfn = p;
		return (p - ranges[i].first) << 12;
	}
	return -1;
}

size_t proc_bytes(const char *path, const char *behind, const char *name)
{
	FILE *f = fopen(path, "r");
	bool there = !behind;
	char line[512];
	size_t kb = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (!there) {
			there = !strncmp(line, behind, strlen(behind));
		} else if (!strncmp(line, name, strlen(name))) {
			if (sscanf(line + strlen(name), ": %zu", &kb) != 1)
				kb = 0;
			break;
		}
	}
	if (f)
		fclose(f);
	return kb << 10;
}

size_t huge_bytes(const void *addr)
{
	char start[32];

	snprintf(start, sizeof(start), "%lx-", (unsigned long)addr);
	return proc_bytes("/proc/self/smaps", start, "AnonHugePages");
}

double now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}
