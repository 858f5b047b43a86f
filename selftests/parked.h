/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Resets of GPU 0 that last until the test ends them.  A reset parks the pages of the device;
 * helpers tell which tasks wait for a parked page.
 */
#ifndef HMM_P2P_PARKED_H
#define HMM_P2P_PARKED_H

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "common.h"

/* Longer than any test takes.  reset_end() interrupts it. */
#define RESET_COMMAND	"reset 30000"

/* The kernel function, as /proc/PID/wchan shows it, in which a task waits for a parked page. */
#define WAITS_THERE	"softleaf_entry_wait_on_locked"

struct reset {
	pthread_t thread;
	atomic_bool over;
	int error;
};

static inline void reset_wake(int sig)
{
}

static inline void *reset_thread(void *arg)
{
	struct reset *r = arg;

	r->error = gpu_control(0, RESET_COMMAND) ? errno : 0;
	atomic_store(&r->over, true);
	return NULL;
}

/* Whether GPU 0 is in reset. */
static inline bool reset_is_on(void)
{
	return gpu_state_is(0, "resetting");
}

/*
 * Begin a reset.  Returns true when the pages of @pid at @p, which were on the device, are
 * parked: their entries are neither present nor device-private any more.
 */
static inline bool reset_begin(struct reset *r, pid_t pid, const char *p, size_t length)
{
	struct sigaction action = { .sa_handler = reset_wake };

	*r = (struct reset) {};
	sigaction(SIGUSR1, &action, NULL);
	if (pthread_create(&r->thread, NULL, reset_thread, r))
		return false;
	while (!atomic_load(&r->over)) {
		if (reset_is_on() && !pages_on_device(pid, p, length))
			return true;
		usleep(1000);
	}
	return false;
}

/* End the reset.  Returns 0 or the errno of the reset command. */
static inline int reset_end(struct reset *r)
{
	while (!atomic_load(&r->over)) {
		pthread_kill(r->thread, SIGUSR1);
		usleep(1000);
	}
	pthread_join(r->thread, NULL);
	return r->error;
}

/* Whether a task waits for a parked page.  @task is its folder below /proc. */
static inline bool waits_for_page(const char *task)
{
	char path[320], where[64] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/wchan", task);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, where, sizeof(where) - 1) < 0)
		where[0] = 0;
	close(fd);
	return !strcmp(where, WAITS_THERE);
}

/* Whether a kernel thread waits for a page.  Kernel threads have no "exe". */
static inline bool kernel_waits_for_page(void)
{
	DIR *proc = opendir("/proc");
	bool found = false;
	struct dirent *entry;
	char path[320], exe[8];

	while (proc && !found && (entry = readdir(proc))) {
		if (entry->d_name[0] < '0' || entry->d_name[0] > '9' ||
		    !waits_for_page(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/exe", entry->d_name);
		found = readlink(path, exe, sizeof(exe)) < 0;
	}
	if (proc)
		closedir(proc);
	return found;
}

/* Wait until @pid waits for a page.  Returns false if the reset or the process ends before. */
static inline bool process_meets_page(struct reset *r, pid_t pid)
{
	siginfo_t ended = {};
	char task[32];

	snprintf(task, sizeof(task), "%d", pid);
	while (!atomic_load(&r->over) && !ended.si_pid) {
		if (waits_for_page(task))
			return true;
		usleep(1000);
		waitid(P_PID, pid, &ended, WEXITED | WNOHANG | WNOWAIT);
	}
	return false;
}

#endif
