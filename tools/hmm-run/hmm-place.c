// SPDX-License-Identifier: GPL-2.0
/*
 * hmm-place: move the buffer of a running perftest program to the GPU, from
 * another process, and count its pages there.
 *
 * usage: hmm-place place PID SIZE local|remote    move, then count
 *        hmm-place count PID SIZE local|remote
 *
 * perftest's buffer for messages of SIZE bytes is one anonymous mapping of twice
 * SIZE and two pages.  Behind a page of malloc's, the first half is used by the
 * program that posts the operations ("local"), and the second half is accessed by
 * its peer ("remote").  The output is the number of pages in the half that traffic
 * touches, and how many of them are on the GPU:  TOUCHED ON_DEVICE
 *
 * Exit status: 0; 1 on errors; 3 if the program has no such mapping (yet).
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gpu.h"

#define PAGE	4096UL

static uintptr_t find_buffer(pid_t pid, size_t length)
{
	uintptr_t start, end, found = 0;
	char path[64], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		unsigned long inode = 1;

		if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &start, &end,
			   &inode) == 3 &&
		    !inode && end - start == length)
			found = start;
	}
	fclose(f);
	return found;
}

int main(int argc, char **argv)
{
	bool place = argc == 5 && !strcmp(argv[1], "place");
	size_t size, length;
	uintptr_t buffer;
	char *half;
	pid_t pid;
	long n;

	if (argc != 5 || (!place && strcmp(argv[1], "count"))) {
		fprintf(stderr, "usage: hmm-place place|count PID SIZE local|remote\n");
		return 2;
	}
	pid = atoi(argv[2]);
	size = strtoul(argv[3], NULL, 10);
	length = 2 * size + 2 * PAGE;
	buffer = find_buffer(pid, length);
	if (!buffer)
		return 3;
	half = (char *)buffer + PAGE + (strcmp(argv[4], "remote") ? 0 : size);

	if (place) {
		int gpu = gpu_open(0);
		int pidfd = syscall(SYS_pidfd_open, pid, 0);

		if (gpu < 0 || pidfd < 0 ||
		    gpu_migrate(gpu, pidfd, (void *)buffer, length, 0, NULL)) {
			fprintf(stderr, "hmm-place: %s\n", strerror(errno));
			return 1;
		}
	}
	n = pages_on_device(pid, half, size);
	if (n < 0) {
		fprintf(stderr, "hmm-place: pagemap: %s\n", strerror(errno));
		return 1;
	}
	printf("%lu %ld\n", size / PAGE, n);
	return 0;
}
