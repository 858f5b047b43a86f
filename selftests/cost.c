// SPDX-License-Identifier: GPL-2.0
/*
 * What a device fault on 2 MiB costs, page table walk and mapping included: memory in
 * RAM against memory of another device.  Prints figures; they mean something on the
 * release kernel only.  The time is that of hmm_dummy_fault(), which faults in all that
 * a command needs, as two kprobes see it.
 */
#include "common.h"

#define LEN	(2 * MiB)
#define ROUNDS	31
#define TRACE	"/sys/kernel/tracing/"

static double fault_us(int gpu, void *p)
{
	double at, begun = 0, longest = -1;
	unsigned int crc;
	char line[256];
	FILE *f;

	/* Every mirror lets go; nothing moves. */
	if (mprotect(p, LEN, PROT_READ) || mprotect(p, LEN, PROT_READ | PROT_WRITE) ||
	    close(open(TRACE "trace", O_WRONLY | O_TRUNC)) || gpu_crc32c(gpu, p, LEN, &crc))
		return -1;
	f = fopen(TRACE "trace", "r");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		char *colon = strstr(line, ": svm_");

		if (!colon)
			continue;
		*colon = 0;
		at = atof(strrchr(line, ' ')) * 1e6;
		if (!strncmp(colon + 2, "svm_in", 6))
			begun = at;
		else if (begun && at - begun > longest)
			longest = at - begun;
	}
	fclose(f);
	return longest;
}

static int compare(const void *a, const void *b)
{
	return *(const double *)a < *(const double *)b ? -1 : 1;
}

TEST_LONG(fault_and_map, 240)
{
	double us[2][ROUNDS];
	char *base[2], *p[2];
	int gpu[2];
	int i, k;

	for (k = 0; k < 2; k++) {
		gpu[k] = gpu_open(k);
		ASSERT_LE(0, gpu[k]);
		base[k] = anon(2 * LEN);
		p[k] = (char *)(((uintptr_t)base[k] + LEN - 1) & ~(LEN - 1));
		fill_pattern(p[k], LEN, k);
	}
	ASSERT_EQ(0, gpu_to_device(gpu[0], p[1], LEN));
	ASSERT_EQ(0, write_file(TRACE "trace_clock", "mono"));
	ASSERT_EQ(0, write_file(TRACE "buffer_size_kb", "4096"));
	ASSERT_EQ(0, write_file(TRACE "kprobe_events",
				"p:svm_in hmm_dummy_fault\n"
				"r:svm_out hmm_dummy_fault\n"));
	ASSERT_EQ(0, write_file(TRACE "events/kprobes/enable", "1"));
	for (i = 0; i < ROUNDS; i++) {
		for (k = 0; k < 2; k++) {
			us[k][i] = fault_us(gpu[1], p[k]);
			ASSERT_LT(0, us[k][i]);
		}
	}
	EXPECT_EQ(0, write_file(TRACE "events/kprobes/enable", "0"));
	EXPECT_EQ(0, close(open(TRACE "kprobe_events", O_WRONLY | O_TRUNC)));
	/* They were faulted where they are. */
	EXPECT_EQ(0, pages_on_device(0, p[0], LEN));
	EXPECT_EQ(LEN / PAGE, pages_on_device(0, p[1], LEN));
	for (k = 0; k < 2; k++)
		qsort(us[k], ROUNDS, sizeof(double), compare);
	printf("# fault and map 512 pages, us, median (lowest): RAM %.0f (%.0f), peer %.0f (%.0f), ratio %.2f (%.2f)\n",
	       us[0][ROUNDS / 2], us[0][0], us[1][ROUNDS / 2], us[1][0],
	       us[1][ROUNDS / 2] / us[0][ROUNDS / 2], us[1][0] / us[0][0]);
	for (k = 0; k < 2; k++) {
		munmap(base[k], 2 * LEN);
		close(gpu[k]);
	}
}

TEST_HARNESS_MAIN
