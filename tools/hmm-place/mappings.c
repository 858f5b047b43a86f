// SPDX-License-Identifier: GPL-2.0
/* Mappings of a process from /proc; see mappings.h. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mappings.h"

static bool parse_header(const char *line, struct mapping *m)
{
	unsigned long start, end, inode;
	char perms[8];
	int at = 0;

	if (sscanf(line, "%lx-%lx %7s %*s %*s %lu %n", &start, &end, perms, &inode,
		   &at) != 4 || !at)
		return false;
	*m = (struct mapping) {
		.start = start, .end = end, .readable = perms[0] == 'r',
		.shared = perms[3] == 's', .anonymous = !inode,
	};
	snprintf(m->name, sizeof(m->name), "%s", line + at);
	m->name[strcspn(m->name, "\n")] = 0;
	/* Kernel mappings and devices have no inode either. */
	if (m->name[0] && strcmp(m->name, "[heap]") && strncmp(m->name, "[stack", 6) &&
	    strncmp(m->name, "[anon", 5))
		m->anonymous = false;
	return true;
}

int mappings_read(pid_t pid, struct mappings *m)
{
	char path[64], *line = NULL;
	size_t size = 0, kb;
	int error = 0;
	FILE *f;

	*m = (struct mappings) {};
	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	f = fopen(path, "r");
	if (!f) {
		if (errno == ENOENT)
			errno = ESRCH;
		return -1;
	}
	errno = 0;
	while (getline(&line, &size, f) > 0) {
		struct mapping next, *more;

		if (parse_header(line, &next)) {
			more = realloc(m->mapping, (m->nr + 1) * sizeof(next));
			if (!more) {
				error = ENOMEM;
				break;
			}
			m->mapping = more;
			more[m->nr++] = next;
		} else if (m->nr && sscanf(line, "AnonHugePages: %zu kB", &kb) == 1) {
			m->mapping[m->nr - 1].huge = kb << 10;
		}
	}
	if (!error && ferror(f))
		error = errno;
	if (!error && !m->nr)
		error = ESRCH;
	free(line);
	fclose(f);
	if (error) {
		mappings_free(m);
		errno = error;
		return -1;
	}
	return 0;
}

void mappings_free(struct mappings *m)
{
	free(m->mapping);
	*m = (struct mappings) {};
}

bool choice_next(const struct choice *choice, const struct mapping *m, int *next,
		 struct range *piece)
{
	if (choice->heap && strcmp(m->name, "[heap]"))
		return false;
	if (m->end - m->start < choice->min)
		return false;
	if (!choice->nr_ranges) {
		if ((*next)++ || !m->anonymous || m->shared || !m->readable ||
		    !strncmp(m->name, "[stack", 6))
			return false;
		*piece = (struct range) { m->start, m->end };
		return true;
	}
	while (*next < choice->nr_ranges) {
		const struct range *r = &choice->range[(*next)++];

		piece->start = r->start > m->start ? r->start : m->start;
		piece->end = r->end < m->end ? r->end : m->end;
		if (piece->start < piece->end)
			return true;
	}
	return false;
}

static bool has_name(pid_t pid, const char *who)
{
	char path[64], name[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (!fgets(name, sizeof(name), f))
		name[0] = 0;
	fclose(f);
	name[strcspn(name, "\n")] = 0;
	/* The kernel cuts names after 15 characters. */
	return *name && !strncmp(name, who, 15);
}

int processes_of(const char *who, pid_t *pids, int max)
{
	struct dirent *entry;
	char *end;
	long pid = strtol(who, &end, 10);
	int nr = 0;
	DIR *dir;

	if (*who && !*end) {
		pids[0] = pid;
		return pid > 0 && pid == (pid_t)pid;
	}
	dir = opendir("/proc");
	if (!dir)
		return 0;
	while (nr < max && (entry = readdir(dir))) {
		pid = atol(entry->d_name);
		if (isdigit(entry->d_name[0]) && has_name(pid, who))
			pids[nr++] = pid;
	}
	closedir(dir);
	return nr;
}
