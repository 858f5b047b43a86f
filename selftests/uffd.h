/* SPDX-License-Identifier: GPL-2.0 */
/* Memory that user space fetches by itself, and the removal of a device that waits for it. */
#ifndef HMM_P2P_UFFD_H
#define HMM_P2P_UFFD_H

#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common.h"

/* A userfaultfd that watches nothing yet, or -1. */
static inline int uffd_open(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	return fd < 0 || ioctl(fd, UFFDIO_API, &api) ? -1 : fd;
}

/* From now on @fd is told of faults where there is no page. */
static inline int uffd_register(int fd, void *p, size_t length)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, length }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

/* Watches memory that nobody has touched. */
static inline int uffd_watch(void *p, size_t length)
{
	int fd = uffd_open();

	return fd < 0 || uffd_register(fd, p, length) ? -1 : fd;
}

/* Whether somebody waits for a page within @ms milliseconds. */
static inline bool uffd_is_waited_for(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct uffd_msg msg;

	return poll(&p, 1, ms) == 1 && read(fd, &msg, sizeof(msg)) == sizeof(msg);
}

/* Gives the page at @p, which is all @byte. */
static inline int uffd_give(int fd, void *p, int byte)
{
	char page[PAGE];
	struct uffdio_copy copy = {
		.dst = (uintptr_t)p, .src = (uintptr_t)page, .len = PAGE,
	};

	memset(page, byte, PAGE);
	return ioctl(fd, UFFDIO_COPY, &copy);
}

/* The driver of a device lets go of it, in a thread of its own: that may take too long. */
struct unbinding {
	pthread_t thread;
	char path[64];
	char address[32];
	atomic_int result;		/* 1: under way */
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

/* Whether it has come to its end, for which it has 20 seconds. */
static inline bool unbinding_ended(struct unbinding *u)
{
	for (int i = 0; i < 200 && u->result == 1; i++)
		usleep(100000);
	return u->result != 1;
}

/* Waits for it, however long it takes, and binds the device again. */
static inline int unbinding_undo(struct unbinding *u)
{
	pthread_join(u->thread, NULL);
	memcpy(strrchr(u->path, '/'), "/bind", sizeof("/bind"));
	return u->result ?: write_file(u->path, u->address);
}

#endif
