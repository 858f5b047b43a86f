// SPDX-License-Identifier: GPL-2.0
/*
 * "fault": faults of a device on memory without an entry, and of the CPU on memory of a device.
 * Each page has a latency, with one thread or with several.  Counters of the driver and the
 * kernel show that there were as many faults as a variant claims.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "crc32c.h"
#include "gpu.h"
#include "threads.h"

struct faults {
	struct memory m;
	int gpu[2];
	size_t step;		/* bytes that one CPU fault moves */
	uint32_t *crcs;		/* checksums that a device has found, by page */
};

/* GPU 1 reads a few bytes of each page.  Each thread has a queue of its own. */
static int device_touches(struct part *part)
{
	struct faults *w = part->arg;

	for (size_t i = 0; i < part->length; i += PAGE) {
		struct hmm_dummy_command c = {
			.op = HMM_DUMMY_OP_CRC32C, .queue = part->nr % HMM_DUMMY_QUEUES,
			.addr = (uintptr_t)part->p + i, .length = 8,
		};
		uint64_t begin = bench_now();

		if (gpu_command(w->gpu[1], &c))
			return -1;
		w->crcs[(part->p - w->m.p + i) / PAGE] = c.value;
		if (part->latency)
			histogram_add(part->latency, bench_now() - begin);
	}
	return 0;
}

/*
 * Read one byte of each page.  Only pages that fault have a latency; the others have come
 * along.
 */
static int cpu_touches(struct part *part)
{
	struct faults *w = part->arg;

	for (size_t i = 0; i < part->length; i += PAGE) {
		uint64_t begin = bench_now();

		(void)*(volatile char *)(part->p + i);
		if (part->latency && !(((uintptr_t)part->p + i) & (w->step - 1)))
			histogram_add(part->latency, bench_now() - begin);
	}
	return 0;
}

static long faults_so_far(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_SELF, &usage) ? -1 : usage.ru_minflt + usage.ru_majflt;
}

static bool has_read_right(struct faults *w)
{
	for (size_t i = 0; i < w->m.length / PAGE; i++) {
		uint64_t there = memory_word(&w->m, i * PAGE / WORD);

		if (w->crcs[i] == crc32c((char *)&there, 8))
			continue;
		bench_fail(STATUS_FAILED, "a device read wrong data from page %zu", i);
		return false;
	}
	return true;
}

enum { MAPPED, RAM, OWN, PEER, BOUNCE };

/* The page faults of GPU 1 so far, or -1. */
static long long device_faults(struct faults *w)
{
	struct hmm_dummy_info info;

	return gpu_info(w->gpu[1], &info) ? bench_errno("/dev/hmm_dummy1") :
					    (long long)info.device_faults;
}

/* GPU 1 reads from each page.  It faults once on each, or on none if it has entries for them. */
static double device_reads(struct faults *w, bool mapped, struct histogram *latency)
{
	long long pages = w->m.length / PAGE, before = device_faults(w), faults;
	double us = before < 0 ? -1 : threads_run(&w->m, device_touches, w, latency,
						  "a device's read");

	if (us < 0)
		return us;
	faults = device_faults(w);
	if (faults < 0)
		return -1;
	faults -= before;
	/* A fault on a page that is migrating is repeated, so there may be more faults. */
	if (mapped ? !faults : faults >= pages)
		return us;
	bench_fail(STATUS_FAILED, "%lld faults of the device instead of %lld", faults,
		   mapped ? 0 : pages);
	return -1;
}

static double sample_device(void *arg, unsigned int variant, struct histogram *latency)
{
	/* The place of the memory before and after. */
	static const int places[][2] = {
		[MAPPED] = { IN_RAM, IN_RAM }, [RAM] = { IN_RAM, IN_RAM }, [OWN] = { 1, 1 },
		[PEER] = { 0, 0 }, [BOUNCE] = { 0, IN_RAM },
	};
	struct faults *w = arg;
	int place = places[variant][0];
	double us;

	memory_fill(&w->m);
	if ((place != IN_RAM && gpu_to_device(w->gpu[place], w->m.p, w->m.length)) ||
	    memory_forget(&w->m))
		return bench_errno("memory cannot be placed");
	if (!memory_is_on(&w->m, place) || !memory_is_huge(&w->m))
		return -1;
	if (peer_access(variant != BOUNCE)) {
		bench_fail(STATUS_MISSING, "peer access cannot be switched");
		return -1;
	}
	us = 0;
	/* The time of a command that finds all entries present. */
	if (variant == MAPPED)
		us = device_reads(w, false, NULL);
	if (us >= 0)
		us = device_reads(w, variant == MAPPED, latency);
	peer_access(true);
	if (us < 0 || !has_read_right(w) || !memory_is_on(&w->m, places[variant][1]) ||
	    !memory_is_right(&w->m))
		return -1;
	return us / (w->m.length / PAGE);
}

/* Whether @brought pages moved by @faults, with @own faults on this program's own memory. */
static bool were_faults(struct faults *w, long faults, long own, long long brought)
{
	long long pages = w->m.length / PAGE;
	long blocks = w->m.length / w->step;

	if (brought != pages) {
		bench_fail(STATUS_FAILED, "faults of the CPU moved %lld pages instead of %lld",
			   brought, pages);
		return false;
	}
	/*
	 * A neighbour that is in use for a moment does not come along, and has a fault of its
	 * own.
	 */
	if (faults >= blocks && faults <= blocks + blocks / 4 + own)
		return true;
	bench_fail(STATUS_FAILED, "%ld faults of the CPU instead of %ld", faults, blocks);
	return false;
}

/* The CPU touches all pages.  Returns microseconds, and the number of faults. */
static double touch_all(struct faults *w, struct histogram *latency, long *faults)
{
	long before = faults_so_far();
	double us = threads_run(&w->m, cpu_touches, w, latency, "the CPU's read");

	*faults = faults_so_far() - before;
	return us;
}

/* Migrate to the device, and back by faults.  Returns microseconds. */
static double fault_trip(struct faults *w, struct histogram *latency)
{
	static struct histogram none;
	long own, faults;
	long long before;
	double us;

	memory_fill(&w->m);
	/* Without pages on the device, all faults are of this program's own memory. */
	if (touch_all(w, &none, &own) < 0)
		return -1;
	if (gpu_to_device(w->gpu[0], w->m.p, w->m.length))
		return bench_errno("migration to the device");
	if (!memory_is_on(&w->m, 0) || !memory_is_huge(&w->m))
		return -1;
	before = gpu_counter(0, "cpu_faults");
	us = touch_all(w, latency, &faults);
	if (us < 0 || !were_faults(w, faults, own, gpu_counter(0, "cpu_faults") - before) ||
	    !memory_is_in_ram(&w->m) || !memory_is_right(&w->m))
		return -1;
	return us;
}

/* Two trips a sample, because trips alternate between two costs (migrate.c). */
#define TRIPS	2

static double sample_cpu(void *arg, unsigned int variant, struct histogram *latency)
{
	struct faults *w = arg;
	double us = 0, trip;

	for (int i = 0; i < TRIPS; i++) {
		trip = fault_trip(w, latency);
		if (trip < 0)
			return -1;
		us += trip;
	}
	return us / (TRIPS * w->m.length / PAGE);
}

enum status bench_fault(int argc, char **argv)
{
	struct figure f[2] = {
		{
			.what = "a device reads from each page, without an entry for it",
			.variants = { "no fault", "RAM", "own", "peer", "bounce" },
			.compare = { { PEER, RAM }, { BOUNCE, PEER } },
			.sample = sample_device,
		}, {
			.what = "the CPU reads from each page on a device",
			.variants = { "CPU" },
			.sample = sample_cpu,
		},
	};
	enum status status = threads_check(options.length);

	for (int huge = 0; huge < 2 && !status; huge++) {
		struct faults w = { .crcs = calloc(options.length / PAGE, sizeof(*w.crcs)) };

		if (!w.crcs)
			abort();
		f[0].name = huge ? "fault.device.huge" : "fault.device.4k";
		f[1].name = huge ? "fault.cpu.huge" : "fault.cpu.4k";
		w.step = huge ? HUGE : driver_fault_around();
		status = devices_open(w.gpu) ?: memory_get(&w.m, options.length, huge);
		for (int i = 0; i < 2 && !status; i++) {
			f[i].unit = "us/page";
			f[i].arg = &w;
			f[i].latencies = true;
			status = bench_measure(&f[i]);
		}
		memory_put(&w.m);
		free(w.crcs);
	}
	return status;
}
