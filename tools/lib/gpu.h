/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The dummy GPU from user space, and where pages live as the kernel's own
 * interfaces tell it.
 */
#ifndef HMM_GPU_H
#define HMM_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <linux/hmm_dummy.h>

#define GPU_SELF	(-1)	/* as pidfd: the caller */

/* Open /dev/hmm_dummy<n>.  Returns a file descriptor, or -1 with errno. */
int gpu_open(unsigned int n);

/* HMM_DUMMY_*: 0, or -1 with errno.  @out may be NULL. */
int gpu_to_device(int gpu, const void *addr, size_t length);
int gpu_to_ram(int gpu, const void *addr, size_t length);
int gpu_migrate(int gpu, int pidfd, const void *addr, size_t length,
		unsigned int flags, struct hmm_dummy_migrate *out);
int gpu_info(int gpu, struct hmm_dummy_info *info);
int gpu_fill(int gpu, void *addr, size_t length, unsigned char byte);
int gpu_copy(int gpu, void *dst, const void *src, size_t length);
int gpu_crc32c(int gpu, const void *addr, size_t length, unsigned int *crc);
/* Sets @arg->size; results are in @arg. */
int gpu_command(int gpu, struct hmm_dummy_command *arg);
/* What was submitted on @gpu with that tag: 0, or -1 with errno. */
int gpu_cancel(int gpu, uint64_t tag);

/* A dma-buf of its scratch memory, a file descriptor, or -1 with errno. */
int gpu_export(int gpu);

/* From now on that is what read() and write() on @gpu work on.  0, or -1 with errno. */
int gpu_import(int gpu, int dmabuf);

/* gpu_fill() of what read() and write() work on. */
int gpu_fill_scratch(int gpu, size_t pos, size_t length, unsigned char byte);

/* A counter of an exporter in debugfs, or -1. */
long long gpu_counter(unsigned int n, const char *name);

/* A field of the pair of this process and @importer, or -1. */
long long gpu_pairs(unsigned int n, const char *importer, const char *field);

/* A command to hmm_dummy's control file, as printf(): 0, or -1 with errno. */
int gpu_control(unsigned int n, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Where in device memory a page of the caller is, in bytes, and its PFN as
 * memory_failure() knows it; -1 if it is on no device.
 */
long long gpu_offset(const void *addr, unsigned long *pfn);

/* core-wide switch for peer access: what it was, or -1. */
int peer_access_set(bool on);

/*
 * Pages of [addr, addr + length) of a process that are in device-private memory
 * of some hmm_dummy, from /proc/PID/pagemap and /proc/iomem: the kernel's word,
 * not the driver's.  pid 0 is the caller.  -1 with errno on errors.
 */
long pages_on_device(pid_t pid, const void *addr, size_t length);

/* Of the caller's, in the memory of GPU @n. */
long pages_on_gpu(unsigned int n, const void *addr, size_t length);

/*
 * "NAME:  123 kB" of a file of /proc, the first behind the line that begins with @behind, if
 * that is not NULL; in bytes.  0 if there is none.
 */
size_t proc_bytes(const char *path, const char *behind, const char *name);

/* How much of the mapping that begins at @addr is of huge pages, in RAM or on a device. */
size_t huge_bytes(const void *addr);

double now_seconds(void);

#endif
