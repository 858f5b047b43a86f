/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The mappings of a process, and which of them a user has chosen.
 */
#ifndef HMM_PLACE_MAPPINGS_H
#define HMM_PLACE_MAPPINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mapping {
	uintptr_t start, end;
	bool readable, shared, anonymous;
	size_t huge;		/* bytes in huge pages, in RAM or on a device */
	char name[128];		/* of the file, or "[heap]", or "" */
};

struct mappings {
	struct mapping *mapping;
	size_t nr;
};

struct range {
	uintptr_t start, end;
};

#define MAX_RANGES	64

struct choice {
	bool heap;		/* only that */
	size_t min;		/* mappings of at least so many bytes */
	struct range range[MAX_RANGES];	/* only what is in one of these */
	int nr_ranges;
};

/*
 * Read /proc/PID/smaps.  Returns 0, or -1 with errno: ESRCH if the process is gone, or has no
 * memory because it is a kernel thread or a zombie.
 */
int mappings_read(pid_t pid, struct mappings *m);
void mappings_free(struct mappings *m);

/*
 * What of a mapping is chosen, in pieces: call it with *@next 0 at first, and until it returns
 * false.  Without any range that is private anonymous memory but the stack, as a whole.
 */
bool choice_next(const struct choice *choice, const struct mapping *m, int *next,
		 struct range *piece);

/*
 * Find processes.  @who is the id of one, or a name, which several can have.  Returns how many were
 * found, at most @max.
 */
int processes_of(const char *who, pid_t *pids, int max);

#endif
