/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory that user space fetches by itself (userfaultfd), and the removal of a device that
 * waits for such memory.
 */
#ifndef HMM_P2P_UFFD_H
#define HMM_P2P_UFFD_H

#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common.h"

/* Definitions that the distribution's headers do not have yet. */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC		(1 << 15)
#endif
#ifndef UFFDIO_MOVE
#define UFFD_FEATURE_MOVE		(1 << 16)

struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};

#define UFFDIO_MOVE			_IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef UFFDIO_RWPROTECT
#define UFFD_FEATURE_RWP		(1 << 17)
#define UFFD_FEATURE_RWP_ASYNC		(1 << 18)
#define UFFDIO_REGISTER_MODE_RWP	((__u64)1 << 3)
#define UFFD_PAGEFAULT_FLAG_RWP		(1 << 3)
#define UFFDIO_RWPROTECT_MODE_RWP	((__u64)1 << 0)

struct uffdio_rwprotect {
	struct uffdio_range range;
	__u64 mode;
};

#define UFFDIO_RWPROTECT		_IOWR(UFFDIO, 0x09, struct uffdio_rwprotect)
#endif

/* Open a userfaultfd that watches nothing yet.  Returns the file descriptor, or -1. */
static inline int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	/* poll() on a userfaultfd without O_NONBLOCK returns POLLERR at once. */
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Make @fd watch @length bytes at @p; @mode is UFFDIO_REGISTER_MODE_*. */
static inline int uffd_register(int fd, const void *p, size_t length, uint64_t mode)
{
	struct uffdio_register reg = { .range = { (uintptr_t)p, length }, .mode = mode };

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

/* Open a userfaultfd that watches @length bytes at @p.  Returns the file descriptor, or -1. */
static inline int uffd_watch(const void *p, size_t length, uint64_t features, uint64_t mode)
{
	int fd = uffd_open(features);

	if (fd >= 0 && uffd_register(fd, p, length, mode)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The same for accesses to pages that do not exist.  User space fetches each of them. */
static inline int uffd_watch_missing(const void *p, size_t length)
{
	return uffd_watch(p, length, 0, UFFDIO_REGISTER_MODE_MISSING);
}

/* Read the next event into *@msg.  Returns false if none comes within @ms milliseconds. */
static inline bool uffd_next(int fd, int ms, struct uffd_msg *msg)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1 && read(fd, msg, sizeof(*msg)) == sizeof(*msg);
}

/* Whether a task waits for a page within @ms milliseconds. */
static inline bool uffd_is_waited_for(int fd, int ms)
{
	struct uffd_msg msg;

	return uffd_next(fd, ms, &msg);
}

/* Give the page at @p to the tasks that wait for it, filled with @byte. */
static inline int uffd_give(int fd, void *p, int byte)
{
	char page[PAGE];
	struct uffdio_copy copy = {
		.dst = (uintptr_t)p, .src = (uintptr_t)page, .len = PAGE,
	};

	memset(page, byte, PAGE);
	return ioctl(fd, UFFDIO_COPY, &copy);
}

/* A thread that unbinds a device from its driver, which may take too long. */
struct unbinding {
	pthread_t thread;
	char path[64];
	char address[32];
	atomic_int result;		/* 1: not finished */
};

static inline void *unbinding_run(void *arg)
{
	struct unbinding *u = arg;

	u->result = write_file(u->path, u->address);
	return NULL;
}

static inline int unbinding_begin(struct unbinding *u, const char *driver, unsigned int n)
{
	if (gpu_bus_address(n, u->address, sizeof(u->address)))
		return -1;
	snprintf(u->path, sizeof(u->path), "/sys/bus/pci/drivers/%s/unbind", driver);
	u->result = 1;
	return pthread_create(&u->thread, NULL, unbinding_run, u);
}

/* Whether the driver has released the device within a minute. */
static inline bool unbinding_ended(struct unbinding *u)
{
	for (int i = 0; i < 600 && u->result == 1; i++)
		usleep(100000);
	return u->result != 1;
}

/* Wait until the driver has released the device, however long that takes, and bind it again. */
static inline int unbinding_undo(struct unbinding *u)
{
	pthread_join(u->thread, NULL);
	memcpy(strrchr(u->path, '/'), "/bind", sizeof("/bind"));
	return u->result ?: write_file(u->path, u->address);
}

#endif
