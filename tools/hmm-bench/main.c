// SPDX-License-Identifier: GPL-2.0
/*
 * hmm-bench: how fast memory moves between RAM and devices, and what access to it costs. See
 * hmm-bench(1) and Documentation/hmm-bench.rst.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

#define ANY	INT_MAX

static const struct {
	const char *name;
	enum status (*run)(int argc, char **argv);
	const char *what;
	/* MOST: measures; THREADS: measures and takes --threads; READS: reads results. */
	enum { MOST, THREADS, READS } kind;
	int arguments;	/* maximum; ANY: the command checks them itself */
} commands[] = {
	{ "migrate", bench_migrate, "pages to a device, to RAM, and between devices", THREADS, 0 },
	{ "fault", bench_fault, "faults of a device, and of the CPU on memory of one", THREADS, 0 },
	{ "map", bench_map, "what a device does to reach a page", MOST, 0 },
	{ "invalidate", bench_invalidate, "take a page away from its importers", MOST, 0 },
	{ "revoke", bench_revoke, "revoke a window; use more windows than fit", MOST, 0 },
	{ "load", bench_load, "many commands at once, by io_uring", MOST, 0 },
	{ "rdma", bench_rdma, "RDMA on memory in RAM and on a device", MOST, 1 },
	{ "oversub", bench_oversub, "a GPU works on more than its memory", MOST, 0 },
	{ "scale", bench_scaling, "how cost grows with pages, MRs, importers, threads", MOST, 0 },
	{ "stock", bench_stock, "costs without any peer; needs test_hmm and a NIC", MOST, 0 },
	{ "fio", bench_fio, "fio JOBFILE...: on a device's read() and write()", MOST, ANY },
	{ "compare", bench_compare, "compare A B [PERCENT]: two result files", READS, ANY },
	{ "plot", bench_plot, "plot RESULT FOLDER: pictures, by gnuplot", READS, ANY },
};
#define COMMANDS	(sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *to)
{
	fprintf(to, "usage: hmm-bench [OPTION...] COMMAND [ARGUMENT...]\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].what);
	fprintf(to, "\n"
		"  -r, --rounds N       samples of each variant; more until all goals are decided (%u)\n"
		"  -w, --warm N         rounds before them, which do not count (%u)\n"
		"  -t, --time SECONDS   limit for each figure, after three rounds (%.0f)\n"
		"  -l, --length MIB     memory to work on (%zu)\n"
		"  -j, --threads N      threads at the same time (%u)\n"
		"  -s, --seed N         seed of random orders\n"
		"  -f, --figure TEXT    only figures with TEXT in their name\n"
		"  -o, --output FILE    write the result as JSON\n"
		"  -h, --help\n", options.rounds, options.warm, options.seconds,
		options.length >> 20, options.threads);
}

/* Parse all of @text as a number from @least to @most. */
static unsigned long long number(const char *option, const char *text,
				 unsigned long long least, unsigned long long most)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-' || n < least || n > most) {
		bench_fail(STATUS_USAGE, "--%s needs a number from %llu to %llu, not \"%s\"",
			   option, least, most, text);
		exit(STATUS_USAGE);
	}
	return n;
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "rounds", required_argument, NULL, 'r' },
		{ "warm", required_argument, NULL, 'w' },
		{ "time", required_argument, NULL, 't' },
		{ "length", required_argument, NULL, 'l' },
		{ "threads", required_argument, NULL, 'j' },
		{ "seed", required_argument, NULL, 's' },
		{ "figure", required_argument, NULL, 'f' },
		{ "output", required_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int c;

	/* "+": options behind the command belong to the command. */
	while ((c = getopt_long(argc, argv, "+r:w:t:l:j:s:f:o:h", longs, NULL)) != -1) {
		switch (c) {
		case 'r':
			options.rounds = number("rounds", optarg, 1, 100000);
			break;
		case 'w':
			options.warm = number("warm", optarg, 0, 100000);
			break;
		case 't':
			options.seconds = number("time", optarg, 1, 86400);
			break;
		case 'l':
			options.length = number("length", optarg, 2, 1 << 20) << 20;
			break;
		case 'j':
			options.threads = number("threads", optarg, 1, 256);
			break;
		case 's':
			options.seed = number("seed", optarg, 0, ~0ULL);
			break;
		case 'f':
			options.figure = optarg;
			break;
		case 'o':
			options.output = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(STATUS_OK);
		default:	/* getopt_long() has printed an error */
			exit(STATUS_USAGE);
		}
	}
}

int main(int argc, char **argv)
{
	enum status status;
	size_t i;

	options.seed = time(NULL);
	parse(argc, argv);
	if (optind == argc) {
		usage(stderr);
		return STATUS_USAGE;
	}
	for (i = 0; i < COMMANDS; i++)
		if (!strcmp(argv[optind], commands[i].name))
			break;
	if (i == COMMANDS)
		return bench_fail(STATUS_USAGE, "there is no command \"%s\"; see --help",
				  argv[optind]);
	if (commands[i].kind == READS && (options.output || options.figure))
		return bench_fail(STATUS_USAGE, "%s measures nothing and writes no result",
				  commands[i].name);
	if (commands[i].kind != THREADS && options.threads > 1)
		return bench_fail(STATUS_USAGE, "%s takes no --threads", commands[i].name);
	if (argc - optind - 1 > commands[i].arguments)
		return bench_fail(STATUS_USAGE, "%s takes no \"%s\"", commands[i].name,
				  argv[optind + 1 + commands[i].arguments]);
	status = bench_begin(argc, argv);
	if (status)
		return status;
	argc -= optind;
	argv += optind;
	status = commands[i].run(argc, argv);
	return bench_end(status);
}
