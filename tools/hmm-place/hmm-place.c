// SPDX-License-Identifier: GPL-2.0
/*
 * hmm-place: where the memory of a process is, and to put it somewhere else.
 *
 * It works on any process that the caller may trace, from outside; see hmm-place.1.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <jansson.h>

#include "gpu.h"
#include "mappings.h"

#define PAGE		4096UL
#define MAX_PROCESSES	64
#define FOLLOW_MS	100
#define QUERY_PAGES	512

static const char usage[] =
"usage: hmm-place [-j] show WHO [WHAT]            where its memory is\n"
"       hmm-place [-j] place WHO [WHAT] [-g GPU]   move it to a GPU\n"
"       hmm-place [-j] back WHO [WHAT]             move it to RAM\n"
"       hmm-place follow WHO [WHAT] [-g GPU]       move it, and what comes, until WHO ends\n"
"WHO: a process id, or the name of processes\n"
"WHAT: private anonymous memory but the stack, or of all mappings\n"
"  -h, --heap             the heap\n"
"  -r, --range START-END  these addresses (hexadecimal); may be repeated\n"
"  -m, --min SIZE         mappings of at least SIZE bytes (with K, M or G)\n"
"  -g, --gpu N            GPU N (0)\n"
"  -e, --every MS         again every MS milliseconds (follow: 100)\n"
"  -j, --json             JSON\n";

static struct {
	struct choice choice;
	bool json;
	int gpu;		/* -1: not chosen */
	unsigned int every;
} opt = { .gpu = -1 };

/* Of one process. */
struct outcome {
	size_t moved, stayed, failed;
};

static int usage_error(const char *what)
{
	if (what)
		fprintf(stderr, "hmm-place: %s\n", what);
	fputs(usage, stderr);
	return 2;
}

static int complain(pid_t pid, int error)
{
	fprintf(stderr, "hmm-place: process %d: %s\n", pid,
		error == ESRCH ? "there is none, or it has no memory" : strerror(error));
	return 1;
}

/* ---- show */

/*
 * Without privilege, pagemap does not tell swap from devices.  Each device tells what it has.
 */
static void ask_devices(int pidfd, const struct mapping *m, struct gpu_places *p)
{
	unsigned char where[QUERY_PAGES];

	for (int n = 0; n < GPU_MAX && p->hidden; n++) {
		int gpu = gpu_open(n);

		for (uintptr_t at = m->start; gpu >= 0 && at < m->end; at += QUERY_PAGES * PAGE) {
			size_t length = m->end - at < QUERY_PAGES * PAGE ? m->end - at :
									   QUERY_PAGES * PAGE;
			struct hmm_dummy_query q = {
				.size = sizeof(q), .pidfd = pidfd, .addr = at, .length = length,
				.vec = (uintptr_t)where,
			};

			if (ioctl(gpu, HMM_DUMMY_QUERY, &q))
				continue;
			for (size_t i = 0; i < length / PAGE; i++)
				p->gpu[n] += where[i] == HMM_DUMMY_AT_DEVICE;
		}
		if (gpu >= 0)
			close(gpu);
		p->hidden -= p->gpu[n] < p->hidden ? p->gpu[n] : p->hidden;
	}
	p->swap += p->hidden;
}

static json_t *places_json(const struct mapping *m, const struct gpu_places *p)
{
	json_t *o = json_pack("{s:o, s:o, s:s, s:I, s:I, s:I, s:I}",
			      "start", json_sprintf("%lx", m->start),
			      "end", json_sprintf("%lx", m->end), "name", m->name,
			      "pages", (json_int_t)p->pages, "ram", (json_int_t)p->ram,
			      "swap", (json_int_t)p->swap, "huge_kb", (json_int_t)(m->huge >> 10));
	json_t *gpus = json_object();

	for (int n = 0; n < GPU_MAX; n++)
		if (p->gpu[n])
			json_object_set_new(gpus, (char[]) { '0' + n, 0 }, json_integer(p->gpu[n]));
	json_object_set_new(o, "gpu", gpus);
	return o;
}

static void print_places(const struct mapping *m, const struct gpu_places *p)
{
	printf("%012lx-%012lx pages=%zu ram=%zu", m->start, m->end, p->pages, p->ram);
	for (int n = 0; n < GPU_MAX; n++)
		if (p->gpu[n])
			printf(" gpu%d=%zu", n, p->gpu[n]);
	if (p->swap)
		printf(" swap=%zu", p->swap);
	if (m->huge)
		printf(" huge_kb=%zu", m->huge >> 10);
	printf("%s%s\n", *m->name ? " " : "", m->name);
}

static int show_process(pid_t pid, int pidfd, const struct mappings *m, json_t *json)
{
	for (size_t i = 0; i < m->nr; i++) {
		struct mapping part = m->mapping[i];
		struct gpu_places p;
		struct range piece;
		int next = 0;

		while (choice_next(&opt.choice, &m->mapping[i], &next, &piece)) {
			part.start = piece.start & -PAGE;
			part.end = (piece.end + PAGE - 1) & -PAGE;
			if (gpu_places(pid, (void *)part.start, part.end - part.start, &p))
				return -1;
			ask_devices(pidfd, &part, &p);
			if (json)
				json_array_append_new(json, places_json(&part, &p));
			else
				print_places(&part, &p);
		}
	}
	return 0;
}

/* ---- place, back, follow */

static int move_process(int gpu, int pidfd, const struct mappings *m, unsigned int flags,
			struct outcome *out)
{
	for (size_t i = 0; i < m->nr; i++) {
		struct hmm_dummy_migrate done = {};
		struct range piece;
		int next = 0;

		while (choice_next(&opt.choice, &m->mapping[i], &next, &piece)) {
			uintptr_t start = piece.start & -PAGE, end = (piece.end + PAGE - 1) & -PAGE;

			if (gpu_migrate(gpu, pidfd, (void *)start, end - start, flags, &done)) {
				/* A mapping may have gone since, or be of a kind that stays. */
				if ((errno != EFAULT && errno != EOPNOTSUPP) ||
				    opt.choice.nr_ranges)
					return -1;
				out->stayed += (end - start) / PAGE;
				continue;
			}
			out->moved += done.migrated;
			out->stayed += done.skipped;
			out->failed += done.failed;
		}
	}
	return 0;
}

static void report(pid_t pid, const struct outcome *out, json_t *json)
{
	if (json)
		json_array_append_new(json, json_pack("{s:i, s:I, s:I, s:I}", "pid", pid,
						      "moved", (json_int_t)out->moved,
						      "stayed", (json_int_t)out->stayed,
						      "failed", (json_int_t)out->failed));
	else
		printf("%d: %zu pages moved, %zu stayed, %zu failed\n", pid, out->moved,
		       out->stayed, out->failed);
}

/* ---- all */

enum command { SHOW, PLACE, BACK, FOLLOW };

static bool any_chosen(const struct mappings *m)
{
	struct range piece;

	for (size_t i = 0; i < m->nr; i++)
		if (choice_next(&opt.choice, &m->mapping[i], &(int) { 0 }, &piece))
			return true;
	return false;
}

/* Which GPUs are to work: one, or for the way back all that there are. */
struct gpus {
	int fd[GPU_MAX], nr;
};

static int open_gpus(enum command command, struct gpus *gpus)
{
	int first = opt.gpu < 0 ? 0 : opt.gpu;
	int last = command == BACK && opt.gpu < 0 ? GPU_MAX - 1 : first;

	gpus->nr = 0;
	for (int n = first; command != SHOW && n <= last; n++) {
		int fd = gpu_open(n);

		if (fd >= 0)
			gpus->fd[gpus->nr++] = fd;
		else if (n == first)
			return fprintf(stderr, "hmm-place: GPU %d: %s\n", n, strerror(errno)), -1;
	}
	return 0;
}

/* Returns 0, 1 after an error that was printed, or -1 if the process has ended. */
static int once(enum command command, const struct gpus *gpus, pid_t pid, int pidfd, json_t *json)
{
	struct outcome out = {};
	struct mappings m;
	json_t *list = NULL;
	int ret = 0;

	if (mappings_read(pid, &m))
		return errno == ESRCH ? -1 : complain(pid, errno);
	if (opt.choice.nr_ranges && !any_chosen(&m)) {
		fprintf(stderr, "hmm-place: process %d: nothing is mapped there\n", pid);
		mappings_free(&m);
		return 1;
	}
	if (command == SHOW) {
		if (json) {
			list = json_array();
			json_array_append_new(json, json_pack("{s:i, s:o}", "pid", pid,
							      "mappings", list));
		}
		ret = show_process(pid, pidfd, &m, list);
	} else {
		for (int i = 0; !ret && i < gpus->nr; i++)
			ret = move_process(gpus->fd[i], pidfd, &m,
					   command == BACK ? HMM_DUMMY_MIGRATE_TO_RAM : 0, &out);
		if (!ret && command != FOLLOW)
			report(pid, &out, json);
	}
	if (ret)
		ret = errno == ESRCH ? -1 : complain(pid, errno);
	mappings_free(&m);
	return ret;
}

static int run_on_processes(enum command command, const char *who)
{
	pid_t pids[MAX_PROCESSES];
	int pidfds[MAX_PROCESSES], nr = processes_of(who, pids, MAX_PROCESSES);
	json_t *json = opt.json ? json_array() : NULL;
	int left = nr, rounds = 0;
	struct gpus gpus;

	if (!nr) {
		fprintf(stderr, "hmm-place: there is no process %s\n", who);
		return 1;
	}
	if (open_gpus(command, &gpus))
		return 1;
	for (int i = 0; i < nr; i++) {
		pidfds[i] = syscall(SYS_pidfd_open, pids[i], 0);
		if (pidfds[i] < 0)
			return complain(pids[i], errno);
	}
	do {
		if (rounds++)
			usleep(opt.every * 1000);
		for (int i = 0; i < nr; i++) {
			int ret = pidfds[i] < 0 ? 0 : once(command, &gpus, pids[i], pidfds[i],
							json);

			if (ret > 0)
				return ret;
			if (ret < 0) {
				/* That is how a repetition ends, and an error otherwise. */
				if (rounds == 1)
					return complain(pids[i], ESRCH);
				close(pidfds[i]);
				pidfds[i] = -1;
				left--;
			}
		}
		if (json) {
			json_dumpf(json, stdout, JSON_COMPACT);
			putchar('\n');
			json_array_clear(json);
		}
		fflush(stdout);
	} while (opt.every && left);
	return 0;
}

static bool parse_size(const char *text, size_t *size)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end;

	errno = 0;
	*size = strtoull(text, &end, 10);
	if (end == text || errno || *text == '-')
		return false;
	unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		*size <<= 10 * (unit - units + 1);
		end++;
	}
	return !*end;
}

static bool parse_range(const char *text)
{
	struct range *r = &opt.choice.range[opt.choice.nr_ranges];
	char *end;

	if (opt.choice.nr_ranges == MAX_RANGES)
		return false;
	errno = 0;
	r->start = strtoul(text, &end, 16);
	if (end == text || *end++ != '-')
		return false;
	text = end;
	r->end = strtoul(text, &end, 16);
	opt.choice.nr_ranges++;
	return end != text && !*end && !errno && r->start < r->end;
}

static bool parse_number(const char *text, unsigned long max, unsigned long *n)
{
	char *end;

	errno = 0;
	*n = strtoul(text, &end, 10);
	return end != text && !*end && !errno && *text != '-' && *n <= max;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "heap", no_argument, NULL, 'h' }, { "range", required_argument, NULL, 'r' },
		{ "min", required_argument, NULL, 'm' }, { "gpu", required_argument, NULL, 'g' },
		{ "every", required_argument, NULL, 'e' }, { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, '?' }, { }
	};
	static const char *const commands[] = { "show", "place", "back", "follow" };
	unsigned long n;
	int o;

	opterr = 0;
	while ((o = getopt_long(argc, argv, "hr:m:g:e:j", options, NULL)) != -1) {
		switch (o) {
		case 'h':
			opt.choice.heap = true;
			break;
		case 'r':
			if (!parse_range(optarg))
				return usage_error("not a range of addresses");
			break;
		case 'm':
			if (!parse_size(optarg, &opt.choice.min))
				return usage_error("not a size");
			break;
		case 'g':
			if (!parse_number(optarg, GPU_MAX - 1, &n))
				return usage_error("not the number of a GPU");
			opt.gpu = n;
			break;
		case 'e':
			if (!parse_number(optarg, 1000000, &n) || !n)
				return usage_error("not a number of milliseconds");
			opt.every = n;
			break;
		case 'j':
			opt.json = true;
			break;
		default:
			return usage_error(NULL);
		}
	}
	if (argc - optind != 2)
		return usage_error(NULL);
	for (enum command c = SHOW; c <= FOLLOW; c++) {
		if (strcmp(argv[optind], commands[c]))
			continue;
		if (c == FOLLOW && !opt.every)
			opt.every = FOLLOW_MS;
		return run_on_processes(c, argv[optind + 1]);
	}
	return usage_error("no such command");
}
