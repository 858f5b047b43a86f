/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The dummy GPU from user space, and the places of pages as the kernel's own interfaces show
 * them.
 */
#ifndef HMM_GPU_H
#define HMM_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <linux/hmm_dummy.h>

#define GPU_SELF	(-1)	/* as a pidfd: the caller */
#define GPU_MAX		8	/* hmm_dummy0 to hmm_dummy7 */

/* Open /dev/hmm_dummy<n>.  Returns a file descriptor, or -1 with errno. */
int gpu_open(unsigned int n);

/* The ioctls HMM_DUMMY_*.  Return 0, or -1 with errno.  @out may be NULL. */
int gpu_to_device(int gpu, const void *addr, size_t length);
int gpu_to_ram(int gpu, const void *addr, size_t length);
int gpu_migrate(int gpu, int pidfd, const void *addr, size_t length,
		unsigned int flags, struct hmm_dummy_migrate *out);
int gpu_info(int gpu, struct hmm_dummy_info *info);
int gpu_fill(int gpu, void *addr, size_t length, unsigned char byte);
int gpu_copy(int gpu, void *dst, const void *src, size_t length);
int gpu_crc32c(int gpu, const void *addr, size_t length, unsigned int *crc);
/* Run a command.  Sets @arg->size; the results are in @arg. */
int gpu_command(int gpu, struct hmm_dummy_command *arg);
/* Cancel the commands with that tag on file @gpu.  Returns 0, or -1 with errno. */
int gpu_cancel(int gpu, uint64_t tag);

/* Export the scratch memory of @gpu.  Returns a dma-buf, or -1 with errno. */
int gpu_export(int gpu);

/* Let read() and write() on @gpu work on @dmabuf.  Returns 0, or -1 with errno. */
int gpu_import(int gpu, int dmabuf);

/* gpu_fill() for the memory that read() and write() work on. */
int gpu_fill_scratch(int gpu, size_t pos, size_t length, unsigned char byte);

/* A counter of an exporter, or of its engine, in debugfs; or -1. */
long long exporter_counter(const char *exporter, const char *name);

/* The same of hmm_dummy @n. */
long long gpu_counter(unsigned int n, const char *name);

/* A field of the pair of this process and @importer, or -1. */
long long gpu_pairs(unsigned int n, const char *importer, const char *field);

/* Write to hmm_dummy's control file, as printf().  Returns 0, or -1 with errno. */
int gpu_control(unsigned int n, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The offset of a page of the caller's in device memory, in bytes, and its PFN as
 * memory_failure() takes it.  Returns -1 if the page is on no device.
 */
long long gpu_offset(const void *addr, unsigned long *pfn);

/* Switch peer access for all devices.  Returns the old value, or -1. */
int peer_access_set(bool on);

/*
 * Count the pages of [addr, addr + length) of a process that are in device-private
 * memory of any hmm_dummy.  The source is the kernel (/proc/PID/pagemap and
 * /proc/iomem), not the driver.  @pid 0 is the caller.  Returns -1 with errno on errors.
 */
long pages_on_device(pid_t pid, const void *addr, size_t length);

/* Where the pages of a range of a process are, by the same source. */
struct gpu_places {
	size_t pages;		/* of the range; the rest of them are nowhere, or on their way */
	size_t ram, swap;
	size_t gpu[GPU_MAX];	/* hmm_dummyN */
	size_t hidden;		/* in swap or on a device: the caller may not see which */
};

/* @pid 0 is the caller.  Returns 0, or -1 with errno. */
int gpu_places(pid_t pid, const void *addr, size_t length, struct gpu_places *places);

/* Count the pages of the caller that are in the memory of GPU @n. */
long pages_on_gpu(unsigned int n, const void *addr, size_t length);

/*
 * Read "@name:  123 kB" from a file of /proc, in bytes.  If @behind is not NULL, the line
 * must follow a line that begins with @behind.  Returns 0 if there is none.
 */
size_t proc_bytes(const char *path, const char *behind, const char *name);

/* How many bytes of the mapping that begins at @addr are huge pages, in RAM or on a device. */
size_t huge_bytes(const void *addr);

double now_seconds(void);

#endif
