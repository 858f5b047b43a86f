// SPDX-License-Identifier: GPL-2.0
/*
 * A helper of the "unload" suite, not a test.  It maps pages on the device with rxe and with
 * the other GPU, prints "ready", waits for a line, and checks that the data is still there.
 */
#define HMM_P2P_NO_HARNESS
#include <string.h>

#include "common.h"
#include "rdma.h"

#define LEN	(2 * MiB)

int main(void)
{
	struct rdma_pair pair;
	struct rdma_buf buf;
	struct hmm_dummy_info info;
	unsigned int crc, again;
	int gpu[2] = { gpu_open(0), gpu_open(1) };
	char line[16];

	buf.addr = anon(LEN);
	fill_pattern(buf.addr, LEN / 2, 1);
	if (rdma_pair_open(&pair))
		return puts(rdma_error()), 1;
	buf.mr = ibv_reg_mr(pair.pd, buf.addr, LEN, RDMA_ODP);
	if (!buf.mr || gpu_to_device(gpu[0], buf.addr, LEN) ||
	    rdma_write(&pair, buf, (struct rdma_buf) { buf.mr,
		       (char *)buf.addr + LEN / 2 }, LEN / 2) ||
	    gpu_crc32c(gpu[1], buf.addr, LEN, &crc))
		return puts("cannot set up"), 1;
	/* rxe and the other GPU have mapped each page once. */
	if (gpu_counter(0, "mapped_now") != 2 * LEN / PAGE)
		return puts("not mapped"), 1;
	puts("ready");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 2;

	/* The devices are gone and their files are still open: calls return -ENODEV. */
	if (gpu_info(gpu[0], &info) != -1 || errno != ENODEV ||
	    gpu_crc32c(gpu[1], buf.addr, LEN, &again) != -1 || errno != ENODEV)
		return 3;
	/* The NIC goes on with the memory in RAM. */
	if (rdma_write(&pair, buf, (struct rdma_buf) { buf.mr,
		       (char *)buf.addr + LEN / 2 }, LEN / 2))
		return 4;
	if (check_pattern(buf.addr, LEN / 2, 1) != -1 ||
	    check_pattern((char *)buf.addr + LEN / 2, LEN / 2, 1) != -1)
		return 5;
	return 0;
}
