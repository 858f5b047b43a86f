// SPDX-License-Identifier: GPL-2.0
/* Kprobes in a trace instance of this process, and what the trace says; see trace.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace.h"

#define TRACEFS		"/sys/kernel/tracing/"
#define INSTANCES	TRACEFS "instances/"
#define PREFIX		"hmm_bench_"
#define TASKS		256	/* tasks that are in a watched function at the same time */

/*
 * The trace instance and the group of its probes have the same name, with the number of the
 * process.  While the process lives, it has a file of the instance open, and the kernel does
 * not remove the instance.  An instance that can be removed is therefore abandoned.
 */
static char group[32];
static int held = -1;

static const char *trace_file(const char *file)
{
	static char path[512];

	snprintf(path, sizeof(path), INSTANCES "%s/%s", group, file);
	return path;
}

static int write_text(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC | (*text ? O_APPEND : O_TRUNC));
	ssize_t n = 0, length = strlen(text);

	if (fd < 0)
		return -1;
	if (length)
		n = write(fd, text, length);
	close(fd);
	return n == length ? 0 : -1;
}

/* Remove the probes of @name, which no instance uses. */
static void remove_probes(const char *name)
{
	char line[256], text[160], probe[96], ours[64];
	FILE *f = fopen(TRACEFS "kprobe_events", "r");

	snprintf(ours, sizeof(ours), ":%.48s/", name);
	while (f && fgets(line, sizeof(line), f)) {
		char *found = strstr(line, ours);

		if (!found || sscanf(found + 1, "%95s", probe) != 1)
			continue;
		snprintf(text, sizeof(text), "-:%s\n", probe);
		write_text(TRACEFS "kprobe_events", text);
	}
	if (f)
		fclose(f);
}

/* Remove an instance that no process uses.  That disables its events as well. */
static void remove_instance(const char *name)
{
	char path[320];

	snprintf(path, sizeof(path), INSTANCES "%.255s", name);
	if (!rmdir(path))
		remove_probes(name);
}

/* Remove the instances of processes that are gone. */
static void remove_abandoned(void)
{
	DIR *all = opendir(INSTANCES);
	struct dirent *entry;

	while (all && (entry = readdir(all)))
		if (!strncmp(entry->d_name, PREFIX, strlen(PREFIX)))
			remove_instance(entry->d_name);
	if (all)
		closedir(all);
}

static int make_instance(void)
{
	remove_abandoned();
	snprintf(group, sizeof(group), PREFIX "%d", getpid());
	/* Another process may remove the new instance before its file is open. */
	for (int i = 0; i < 10 && held < 0; i++)
		if (!mkdir(trace_file(""), 0700) || errno == EEXIST)
			held = open(trace_file("tracing_on"), O_RDONLY | O_CLOEXEC);
	return held < 0 ? -1 : 0;
}

enum status trace_start(const char *const *functions)
{
	char text[320];

	trace_stop();
	if (make_instance() || write_text(trace_file("trace_clock"), "mono") ||
	    write_text(trace_file("buffer_size_kb"), "8192"))
		return bench_fail(STATUS_MISSING, "no tracefs at " TRACEFS ": %s",
				  strerror(errno));
	for (; *functions; functions++) {
		snprintf(text, sizeof(text), "p:%s/in_%s %s\nr%d:%s/out_%s %s\n", group,
			 *functions, *functions, TASKS, group, *functions, *functions);
		if (write_text(TRACEFS "kprobe_events", text))
			return bench_fail(STATUS_MISSING, "no kprobe on %s: %s", *functions,
					  strerror(errno));
	}
	snprintf(text, sizeof(text), "events/%s/enable", group);
	if (write_text(trace_file(text), "1"))
		return bench_fail(STATUS_MISSING, "no kprobes: %s", strerror(errno));
	return STATUS_OK;
}

void trace_stop(void)
{
	if (held < 0)
		return;
	close(held);
	held = -1;
	remove_instance(group);
}

int trace_clear(void)
{
	return write_text(trace_file("trace"), "");
}

/* Parse a line of the trace: process, time and event. */
static bool parse_line(char *line, int *pid, double *us, const char **event)
{
	char *colon = strstr(line, ": in_"), *at, *dash;

	if (!colon)
		colon = strstr(line, ": out_");
	if (!colon)
		return false;
	*colon = 0;
	*event = colon + 2;
	colon[2 + strcspn(colon + 2, ":")] = 0;
	at = strrchr(line, ' ');
	if (!at)
		return false;
	*us = atof(at) * 1e6;
	/* "name-pid [cpu] ...": the name may contain dashes and blanks. */
	at = strchr(line, '[');
	if (!at)
		return false;
	*at = 0;
	dash = strrchr(line, '-');
	*pid = dash ? atoi(dash + 1) : 0;
	return true;
}

/* Whether the kernel lost events.  The rest of the trace is useless then. */
static bool is_overrun(void)
{
	unsigned long lost = 0;

	for (int cpu = 0; ; cpu++) {
		char file[64], line[64];
		unsigned long n;
		FILE *f;

		snprintf(file, sizeof(file), "per_cpu/cpu%d/stats", cpu);
		f = fopen(trace_file(file), "r");
		if (!f)
			return lost;
		while (fgets(line, sizeof(line), f))
			if (sscanf(line, "overrun: %lu", &n) == 1 ||
			    sscanf(line, "dropped events: %lu", &n) == 1)
				lost += n;
		fclose(f);
	}
}

const char *trace_why(const char *what)
{
	static char why[96];

	if (is_overrun())
		return "the trace has lost events; reduce --length";
	snprintf(why, sizeof(why), "no %s was seen", what);
	return why;
}

static void each_event(void (*fn)(void *arg, int pid, double us, const char *event), void *arg)
{
	FILE *f = is_overrun() ? NULL : fopen(trace_file("trace"), "r");
	const char *event;
	char line[512];
	double us;
	int pid;

	while (f && fgets(line, sizeof(line), f))
		if (line[0] != '#' && parse_line(line, &pid, &us, &event))
			fn(arg, pid, us, event);
	if (f)
		fclose(f);
}

struct span {
	const char *from, *to;
	double first, last;
};

static void add_to_span(void *arg, int pid, double us, const char *event)
{
	struct span *s = arg;

	if (!s->first && !strncmp(event, "in_", 3) && !strcmp(event + 3, s->from))
		s->first = us;
	if (!strncmp(event, "out_", 4) && !strcmp(event + 4, s->to))
		s->last = us;
}

double trace_span(const char *from, const char *to)
{
	struct span s = { .from = from, .to = to };

	each_event(add_to_span, &s);
	return s.first && s.last > s.first ? s.last - s.first : 0;
}

/* The time from one event to another, by thread. */
struct stretches {
	char from[64], to[64];
	double us;
	struct {
		int pid;
		double since;
	} tasks[TASKS];
};

static void add_to_stretches(void *arg, int pid, double us, const char *event)
{
	struct stretches *s = arg;
	bool begins = !strcmp(event, s->from), ends = !strcmp(event, s->to);

	for (int i = 0; i < TASKS && (begins || ends); i++) {
		if (begins && !s->tasks[i].pid) {
			s->tasks[i].pid = pid;
			s->tasks[i].since = us;
			return;
		}
		if (ends && s->tasks[i].pid == pid) {
			s->us += us - s->tasks[i].since;
			s->tasks[i].pid = 0;
			return;
		}
	}
}

static double stretches_of(const char *from, const char *from_function, const char *to,
			   const char *to_function)
{
	struct stretches s = {};

	snprintf(s.from, sizeof(s.from), "%s_%s", from, from_function);
	snprintf(s.to, sizeof(s.to), "%s_%s", to, to_function);
	each_event(add_to_stretches, &s);
	return s.us;
}

double trace_inside(const char *function)
{
	return stretches_of("in", function, "out", function);
}

double trace_between(const char *from, const char *to)
{
	return stretches_of("out", from, "in", to);
}
