/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A fixture of power.c and aer.c: memory on GPU 0 that a NIC and GPU 1 have mapped, with traffic of
 * both and of the CPU.  Mappings and data must survive a sleep of the machine and the reset of a
 * slot.
 */
#ifndef HMM_P2P_PEERS_H
#define HMM_P2P_PEERS_H

#include <pthread.h>
#include <stdatomic.h>

#include "odp.h"

#define NPAGES	256
#define LEN	(NPAGES * PAGE)

struct peers {
	struct odp o;		/* the NIC's, o.gpu is GPU 0 */
	int gpu1;
	char *cpu;		/* the CPU takes this memory from GPU 0 */
	char *read;		/* GPU 1 reads it on GPU 0 */
	unsigned int crc;	/* of read */
	atomic_bool stop;
	atomic_ulong steps[3];	/* the NIC's, GPU 1's, the CPU's */
	const char *_Atomic error;
	pthread_t threads[3];
};

/* Return: NULL, or what failed. */
static inline const char *peers_open(struct peers *p)
{
	const char *error = odp_open(&p->o, LEN);
	unsigned int crc;

	if (error)
		return error;
	p->gpu1 = gpu_open(1);
	p->cpu = anon(LEN);
	p->read = anon(LEN);
	fill_pattern(p->cpu, LEN, 8);
	fill_pattern(p->read, LEN, 9);
	p->crc = crc32c(p->read, LEN);
	if (p->gpu1 < 0 || !odp_place(&p->o, 1) || gpu_to_device(p->o.gpu, p->read, LEN) ||
	    gpu_crc32c(p->gpu1, p->read, LEN, &crc) || crc != p->crc)
		return "cannot set up";
	return gpu_counter(0, "mapped_now") == 2 * NPAGES ? NULL : "not mapped";
}

/* Return: NULL, or what leaked. */
static inline const char *peers_close(struct peers *p)
{
	munmap(p->cpu, LEN);
	munmap(p->read, LEN);
	close(p->gpu1);
	return odp_close(&p->o);
}

/* Return: how many of the pages that the peers have mapped are on GPU 0. */
static inline long peers_on_gpu(struct peers *p)
{
	return pages_on_gpu(0, p->o.mem, LEN) + pages_on_gpu(0, p->read, LEN);
}

/*
 * The NIC and GPU 1 find the data, and what the NIC writes arrives.  Return: NULL, or what went
 * wrong.
 */
static inline const char *peers_check(struct peers *p, unsigned int seed)
{
	unsigned int crc;

	if (odp_check(&p->o, seed) != -1)
		return "the NIC reads something else";
	if (gpu_crc32c(p->gpu1, p->read, LEN, &crc) || crc != p->crc)
		return "GPU 1 reads something else";
	if (odp_write(&p->o, seed + 1) != IBV_WC_SUCCESS || odp_check(&p->o, seed + 1) != -1)
		return "what the NIC writes does not arrive";
	return NULL;
}

/* Then the CPU takes the pages, and finds the data as well. */
static inline const char *peers_check_by_cpu(struct peers *p, unsigned int seed)
{
	if (check_pattern(p->o.mem, LEN, seed) != -1 || check_pattern(p->read, LEN, 9) != -1)
		return "the CPU reads something else";
	return pages_on_device(0, p->o.mem, LEN) ? "pages stay on the device" : NULL;
}

static inline void *peers_nic(void *arg)
{
	struct peers *p = arg;

	while (!p->stop && !p->error) {
		unsigned int seed = 10 + p->steps[0]++;

		if (odp_write(&p->o, seed) != IBV_WC_SUCCESS || odp_check(&p->o, seed) != -1)
			p->error = "the NIC";
	}
	return NULL;
}

static inline void *peers_gpu(void *arg)
{
	struct peers *p = arg;
	unsigned int crc;

	while (!p->stop && !p->error) {
		if (gpu_crc32c(p->gpu1, p->read, LEN, &crc) || crc != p->crc)
			p->error = "GPU 1";
		p->steps[1]++;
	}
	return NULL;
}

static inline void *peers_cpu(void *arg)
{
	struct peers *p = arg;

	while (!p->stop && !p->error) {
		if (gpu_to_device(p->o.gpu, p->cpu, LEN) || check_pattern(p->cpu, LEN, 8) != -1)
			p->error = "the CPU";
		p->steps[2]++;
	}
	return NULL;
}

static inline void peers_start(struct peers *p)
{
	void *(*const sides[])(void *) = { peers_nic, peers_gpu, peers_cpu };

	for (int i = 0; i < 3; i++)
		pthread_create(&p->threads[i], NULL, sides[i], p);
}

/* Wait until each side has done @more steps.  Return: false if a side has failed. */
static inline bool peers_go_on(struct peers *p, unsigned long more)
{
	unsigned long from[3];

	for (int i = 0; i < 3; i++)
		from[i] = p->steps[i];
	for (int i = 0; i < 3; i++)
		while (!p->error && p->steps[i] < from[i] + more)
			usleep(1000);
	return !p->error;
}

/* Return: NULL, or the side that has failed. */
static inline const char *peers_stop(struct peers *p)
{
	p->stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(p->threads[i], NULL);
	return p->error;
}

/* Return: how many lines of the trace have @what, or -1 if there is no trace. */
static inline long trace_lines(const char *what)
{
	FILE *f = fopen(TRACE "trace", "r");
	char line[512];
	long n = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		n += line[0] != '#' && strstr(line, what);
	fclose(f);
	return n;
}

#endif
