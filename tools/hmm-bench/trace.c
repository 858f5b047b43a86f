// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace.h"

#define TRACEFS		"/sys/kernel/tracing/"
/* Where nobody else's trace is touched. */
#define TRACE		TRACEFS "instances/hmm_bench/"
#define GROUP		"hmm_bench"
#define TASKS		256	/* that are in a watched function at the same time */

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

enum status trace_start(const char *const *functions)
{
	char text[256];

	trace_stop();
	if (mkdir(TRACEFS "instances/hmm_bench", 0700) ||
	    write_text(TRACE "trace_clock", "mono") ||
	    write_text(TRACE "buffer_size_kb", "8192"))
		return bench_fail(STATUS_MISSING, "no tracefs at " TRACEFS ": %s",
				  strerror(errno));
	for (; *functions; functions++) {
		snprintf(text, sizeof(text), "p:" GROUP "/in_%s %s\nr%d:" GROUP "/out_%s %s\n",
			 *functions, *functions, TASKS, *functions, *functions);
		if (write_text(TRACEFS "kprobe_events", text))
			return bench_fail(STATUS_MISSING, "no kprobe on %s: %s", *functions,
					  strerror(errno));
	}
	if (write_text(TRACE "events/" GROUP "/enable", "1"))
		return bench_fail(STATUS_MISSING, "no kprobes: %s", strerror(errno));
	return STATUS_OK;
}

void trace_stop(void)
{
	char line[256], text[160], name[64];
	FILE *f;

	write_text(TRACE "events/" GROUP "/enable", "0");
	/* Ours only. */
	f = fopen(TRACEFS "kprobe_events", "r");
	while (f && fgets(line, sizeof(line), f)) {
		char *ours = strstr(line, ":" GROUP "/");

		if (!ours || sscanf(ours + 1, "%63s", name) != 1)
			continue;
		snprintf(text, sizeof(text), "-:%s\n", name);
		write_text(TRACEFS "kprobe_events", text);
	}
	if (f)
		fclose(f);
	rmdir(TRACEFS "instances/hmm_bench");
}

int trace_clear(void)
{
	return write_text(TRACE "trace", "");
}

/* A line of the trace is one of ours: whose, when, and what. */
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
	/* "name-pid [cpu] ...", and the name may have dashes and blanks. */
	at = strchr(line, '[');
	if (!at)
		return false;
	*at = 0;
	dash = strrchr(line, '-');
	*pid = dash ? atoi(dash + 1) : 0;
	return true;
}

/* Whether events were lost: then what is left of a trace says nothing. */
static bool is_overrun(void)
{
	unsigned long lost = 0;

	for (int cpu = 0; ; cpu++) {
		char path[96], line[64];
		unsigned long n;
		FILE *f;

		snprintf(path, sizeof(path), TRACE "per_cpu/cpu%d/stats", cpu);
		f = fopen(path, "r");
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
		return "events of the trace were lost: less --length";
	snprintf(why, sizeof(why), "no %s was seen", what);
	return why;
}

static void each_event(void (*fn)(void *arg, int pid, double us, const char *event), void *arg)
{
	FILE *f = is_overrun() ? NULL : fopen(TRACE "trace", "r");
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

/* From one event to another, of each thread. */
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
