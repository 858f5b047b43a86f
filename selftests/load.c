// SPDX-License-Identifier: GPL-2.0
/*
 * A helper, not a test: load on memory of two GPUs that may be unbound and bound at any time.
 * The CPU, both GPUs by command and by io_uring, and a NIC read a pattern that does not
 * change.  The program prints "ready", works until it reads a line from standard input, and
 * exits with 0 if every byte is right.  With the argument "lossy", a GPU may be pulled out with
 * its memory: pages may be lost, but the data of all other pages is right.  With the argument
 * "reboot" the program works until the machine goes down, and its faults are bugs in the kernel
 * log.
 */
#define HMM_P2P_NO_HARNESS
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

#include "odp.h"
#include "uring.h"

#define LEN	(12 * MiB)

static char *mem;
static atomic_bool stop;
static atomic_ulong steps[4];
static uint32_t crcs[LEN / MiB], small_crcs[LEN / MiB];
static bool lossy;
static bool reboot;
static const char *_Atomic error;

/* The first of these errors is the one that is told. */
static void failed_by(const char *what)
{
	const char *none = NULL;
	char text[128];

	if (!atomic_compare_exchange_strong(&error, &none, what) || !reboot)
		return;
	snprintf(text, sizeof(text), "BUG: load: %s\n", what);
	write_file("/dev/kmsg", text);
}

static _Thread_local sigjmp_buf lost;
static _Thread_local bool may_lose;

static void on_sigbus(int sig)
{
	if (lossy && may_lose)
		siglongjmp(lost, 1);
	_exit(99);
}

static long compare(size_t at, size_t length)
{
	for (size_t i = at; i < at + length; i++)
		if ((unsigned char)mem[i] != pattern(i, 1))
			return i;
	return -1;
}

/*
 * Check a piece of memory.  Returns -1 if it is right, the first wrong offset, or -2 if it is
 * lost.
 */
static long check(volatile size_t at, volatile size_t length)
{
	long wrong;

	may_lose = true;
	if (sigsetjmp(lost, 1)) {
		may_lose = false;
		return -2;
	}
	wrong = compare(at, length);
	may_lose = false;
	return wrong;
}

static void *cpu(void *arg)
{
	unsigned int seed = 1;

	while (!stop) {
		if (check(rand_r(&seed) % (LEN / PAGE) * PAGE, PAGE) >= 0)
			failed_by("the CPU read wrong data");
		steps[0]++;
		usleep(300);
	}
	return NULL;
}

/*
 * Judge the end of a command.  ENODEV is possible because the device goes, and EBUSY because
 * the memory keeps moving.  Reads from a device that is pulled out return any data.
 */
static void command_ended(int failed, uint32_t crc, uint32_t expected)
{
	if (failed && failed != ENODEV && failed != EBUSY && !(lossy && failed == EFAULT))
		failed_by(strerror(failed));
	if (!failed && crc != expected && !lossy)
		failed_by("a GPU read wrong data");
}

/* Migrate and compute.  After a failure the thread opens the device again. */
static void *gpus(void *arg)
{
	unsigned int n = (uintptr_t)arg, seed = n + 2;

	while (!stop) {
		int gpu = gpu_open(n);
		unsigned int crc = 0, at = rand_r(&seed) % (LEN / MiB);
		char *p = mem + at * MiB;

		if (gpu < 0) {
			usleep(10000);
			continue;
		}
		for (int i = 0; i < 8 && !stop; i++) {
			int failed;

			gpu_to_device(gpu, p, MiB);
			failed = gpu_crc32c(gpu, p, MiB, &crc) ? errno : 0;
			command_ended(failed, crc, crcs[at]);
			steps[1] += !failed;
		}
		close(gpu);
	}
	return NULL;
}

static void *uring(void *arg)
{
	static struct hmm_dummy_command c[64];
	struct io_uring ring;
	unsigned int seed = 5;

	if (io_uring_queue_init(64, &ring, 0)) {
		failed_by("io_uring_queue_init");
		return NULL;
	}
	while (!stop) {
		int gpu = gpu_open(rand_r(&seed) % 2);

		if (gpu < 0) {
			usleep(10000);
			continue;
		}
		for (int i = 0; i < 64; i++) {
			c[i] = (struct hmm_dummy_command) {
				.op = HMM_DUMMY_OP_CRC32C,
				.queue = i % 8, .length = 64 * 1024,
				.addr = (uintptr_t)mem + rand_r(&seed) % (LEN / MiB) * MiB,
			};
			uring_command(&ring, gpu, &c[i])->user_data = i;
		}
		io_uring_submit(&ring);
		for (int i = 0; i < 64; i++) {
			struct io_uring_cqe *cqe;

			if (io_uring_wait_cqe(&ring, &cqe))
				break;
			command_ended(-cqe->res, c[cqe->user_data].value,
				      small_crcs[((char *)c[cqe->user_data].addr - mem) / MiB]);
			steps[2] += !cqe->res;
			io_uring_cqe_seen(&ring, cqe);
		}
		close(gpu);
	}
	io_uring_queue_exit(&ring);
	return NULL;
}

static void *nic(void *arg)
{
	struct odp o;
	const char *failed = odp_open(&o, 16 * PAGE);
	struct rdma_buf remote = { .addr = mem };
	unsigned int seed = 9;
	int status;

	if (failed) {
		failed_by(failed);
		return NULL;
	}
	remote.mr = ibv_reg_mr(o.pair.pd, mem, LEN, RDMA_ODP);
	while (!stop && remote.mr) {
		size_t at = rand_r(&seed) % (LEN / PAGE - 16) * PAGE + 77;

		remote.addr = mem + at;
		status = rdma_read(&o.pair, o.from, remote, 4 * PAGE);
		if (status) {
			/* The error has ended the queue pair. */
			if (!lossy)
				failed_by(ibv_wc_status_str(status));
			break;
		}
		/*
		 * Reads from a device that is pulled out return any data until its driver
		 * knows.
		 */
		for (size_t i = 0; i < 4 * PAGE && !lossy; i++)
			if ((unsigned char)o.stage[i] != pattern(at + i, 1))
				failed_by("the NIC read wrong data");
		steps[3]++;
	}
	if (remote.mr)
		ibv_dereg_mr(remote.mr);
	odp_free(&o);
	close(o.gpu);
	return NULL;
}

int main(int argc, char **argv)
{
	void *(*const sides[])(void *) = { cpu, gpus, gpus, uring, nic };
	struct sigaction bus = { .sa_handler = on_sigbus };
	pthread_t t[5];
	long lost_pages = 0;
	char line[16];

	lossy = argc > 1 && !strcmp(argv[1], "lossy");
	reboot = argc > 1 && !strcmp(argv[1], "reboot");
	sigaction(SIGBUS, &bus, NULL);
	mem = anon_huge(LEN, MADV_HUGEPAGE);
	fill_pattern(mem, LEN, 1);
	for (size_t i = 0; i < LEN / MiB; i++) {
		crcs[i] = crc32c(mem + i * MiB, MiB);
		small_crcs[i] = crc32c(mem + i * MiB, 64 * 1024);
	}
	for (uintptr_t i = 0; i < 5; i++)
		pthread_create(&t[i], NULL, sides[i], (void *)(i == 1 ? 0 : i - 1));
	while (!error && (!steps[0] || !steps[1] || !steps[2] || !steps[3]))
		usleep(1000);
	printf("ready\n");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		error = "standard input has ended";
	stop = true;
	for (int i = 0; i < 5; i++)
		pthread_join(t[i], NULL);
	for (size_t at = 0; at < LEN; at += PAGE) {
		long wrong = check(at, PAGE);

		lost_pages += wrong == -2;
		if (wrong >= 0)
			error = "memory has changed";
	}
	fprintf(stderr, "# load: %lu reads by the CPU, %lu and %lu commands, %lu by the NIC; %ld pages lost\n",
		steps[0], steps[1], steps[2], steps[3], lost_pages);
	if (error)
		fprintf(stderr, "# load: %s\n", error);
	return error ? 1 : 0;
}
