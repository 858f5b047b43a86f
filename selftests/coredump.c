// SPDX-License-Identifier: GPL-2.0
/*
 * Core files, debuggers, process_vm_readv() and /proc/PID/mem show the memory of a process that
 * is on a device.  A NIC has the memory mapped all the while.
 */
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "odp.h"
#include "parked.h"
#include "uffd.h"

#define LEN	(2 * MiB)
#define CORE	"/run/core"
#define DUMPED	"/run/dumped"

/* The parts of a process's memory that a test looks at: small pages and a huge page. */
enum { SMALL, HUGE, NR_PARTS };

struct subject {
	pid_t pid;
	int told, tell;
	unsigned int seed;		/* of the pattern that the NIC has written last */
	char *part[NR_PARTS];
};

/* What a subject does when it is told to. */
#define PLACE	'p'	/* place all on the device; the NIC writes the next pattern */
#define COMPARE	'c'	/* compare memory with the next pattern, by NIC and CPU */
#define ABORT	'a'

static int subject_place(struct odp *o, char *huge, struct rdma_buf buf, unsigned int seed)
{
	if (!odp_place(o, seed) || gpu_to_device(o->gpu, huge, LEN) ||
	    rdma_write(&o->pair, o->from, buf, LEN))
		return -1;
	return pages_on_device(0, huge, LEN) == LEN / PAGE && huge_bytes(huge) == LEN &&
	       gpu_counter(0, "mapped_now") >= 2 * LEN / PAGE ? 0 : -1;
}

static int subject_compare(struct odp *o, char *huge, struct rdma_buf buf, unsigned int seed)
{
	return odp_check(o, seed) != -1 || rdma_read(&o->pair, o->from, buf, LEN) ||
	       check_pattern(o->stage, LEN, seed) != -1 || check_pattern(o->mem, LEN, seed) != -1 ||
	       check_pattern(huge, LEN, seed) != -1 ? -1 : 0;
}

static void subject_run(int told, int tell)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	char *huge = anon_huge(LEN, MADV_HUGEPAGE), *part[NR_PARTS], what, answer;
	struct rdma_buf buf = { .addr = huge };
	unsigned int seed = 0;
	struct odp o;

	if (!huge || setrlimit(RLIMIT_CORE, &limit) || odp_open(&o, LEN))
		_exit(1);
	memset(huge, 0, LEN);
	buf.mr = ibv_reg_mr(o.pair.pd, huge, LEN, RDMA_ODP);
	part[SMALL] = o.mem;
	part[HUGE] = huge;
	if (!buf.mr || write(tell, part, sizeof(part)) != sizeof(part))
		_exit(2);
	while (read(told, &what, 1) == 1) {
		if (what == ABORT)
			abort();
		seed++;
		answer = what == PLACE ? subject_place(&o, huge, buf, seed) :
					 subject_compare(&o, huge, buf, seed);
		if (write(tell, &answer, 1) != 1)
			_exit(3);
	}
	_exit(0);
}

static bool subject_start(struct subject *s)
{
	int told[2], tell[2];

	if (pipe(told) || pipe(tell))
		return false;
	s->pid = fork();
	if (!s->pid) {
		close(told[1]);
		close(tell[0]);
		subject_run(told[0], tell[1]);
	}
	close(told[0]);
	close(tell[1]);
	s->told = told[1];
	s->tell = tell[0];
	s->seed = 0;
	return read(s->tell, s->part, sizeof(s->part)) == sizeof(s->part);
}

static bool subject_does(struct subject *s, char what)
{
	char answer = -1;

	s->seed++;
	return write(s->told, &what, 1) == 1 && read(s->tell, &answer, 1) == 1 && !answer;
}

static int subject_end(struct subject *s)
{
	close(s->told);
	close(s->tell);
	return wait_child(s->pid);
}

/* The offset of [addr, addr + LEN) in a core file, or -1. */
static long long core_offset(int fd, const char *addr)
{
	Elf64_Ehdr head;
	Elf64_Phdr part;

	if (pread(fd, &head, sizeof(head), 0) != sizeof(head))
		return -1;
	for (int i = 0; i < head.e_phnum; i++) {
		Elf64_Off at = (uintptr_t)addr;

		if (pread(fd, &part, sizeof(part), head.e_phoff + i * sizeof(part)) != sizeof(part))
			return -1;
		at -= part.p_vaddr;
		if (part.p_type == PT_LOAD && at < part.p_filesz && part.p_filesz - at >= LEN)
			return part.p_offset + at;
	}
	return -1;
}

/*
 * Compare the memory in a core file with the pattern.  Returns how many pages are wrong, or -1
 * if the file does not contain the memory.
 */
static long wrong_in_file(const char *path, const char *addr, unsigned int seed)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long long offset = addr ? core_offset(fd, addr) : 0;
	char *copy = anon(LEN), expected[PAGE];
	long wrong = 0;

	if (offset < 0 || pread(fd, copy, LEN, offset) != LEN) {
		wrong = -1;
	} else {
		for (size_t i = 0; i < LEN; i += PAGE) {
			for (size_t j = 0; j < PAGE; j++)
				expected[j] = pattern(i + j, seed);
			wrong += !!memcmp(copy + i, expected, PAGE);
		}
	}
	munmap(copy, LEN);
	close(fd);
	return wrong;
}

FIXTURE(outside) {
	struct subject s;
};

FIXTURE_SETUP(outside)
{
	unlink(CORE);
	ASSERT_EQ(0, write_file("/proc/sys/kernel/core_pattern", CORE));
	ASSERT_TRUE(subject_start(&self->s));
	ASSERT_TRUE(subject_does(&self->s, PLACE));
}

FIXTURE_TEARDOWN(outside)
{
	int gpu = gpu_open(0);
	const char *leak = gpu_leak(0, gpu);

	EXPECT_EQ(NULL, leak) TH_LOG("%s", leak);
	close(gpu);
	unlink(CORE);
	unlink(DUMPED);
}

static void subject_aborts(struct subject *s)
{
	char what = ABORT;

	if (write(s->told, &what, 1) != 1)
		kill(s->pid, SIGKILL);
}

/* The core file has every byte of the small pages and of the huge page. */
TEST_F_TIMEOUT(outside, core, 120)
{
	subject_aborts(&self->s);
	EXPECT_EQ(-SIGABRT, subject_end(&self->s));
	EXPECT_EQ(0, wrong_in_file(CORE, self->s.part[SMALL], self->s.seed));
	EXPECT_EQ(0, wrong_in_file(CORE, self->s.part[HUGE], self->s.seed));
}

/* The same if all pages are parked by a reset, as migration entries, when the dump begins. */
TEST_F_TIMEOUT(outside, core_in_reset, 120)
{
	struct subject *s = &self->s;
	struct reset reset;

	ASSERT_TRUE(reset_begin(&reset, s->pid, s->part[HUGE], LEN));
	subject_aborts(s);
	EXPECT_TRUE(process_meets_page(&reset, s->pid));
	EXPECT_EQ(0, reset_end(&reset));
	EXPECT_EQ(-SIGABRT, subject_end(s));
	EXPECT_EQ(0, wrong_in_file(CORE, s->part[SMALL], s->seed));
	EXPECT_EQ(0, wrong_in_file(CORE, s->part[HUGE], s->seed));
}

/* Ways to read another process's memory.  Return 0 or -1. */
static int by_process_vm(struct subject *s, char *to, char *from)
{
	struct iovec local = { to, LEN }, remote = { from, LEN };

	return process_vm_readv(s->pid, &local, 1, &remote, 1, 0) == LEN ? 0 : -1;
}

static int by_proc_mem(struct subject *s, char *to, char *from)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", s->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = pread(fd, to, LEN, (uintptr_t)from);
	close(fd);
	return n == LEN ? 0 : -1;
}

/* Read one word of each page.  The debugger reads the rest by /proc/PID/mem. */
static int by_ptrace(struct subject *s, char *to, char *from)
{
	int ret = by_proc_mem(s, to, from);

	for (size_t i = 0; i < LEN && !ret; i += PAGE) {
		long word;

		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, s->pid, from + i, NULL);
		ret = errno || memcmp(to + i, &word, sizeof(word)) ? -1 : 0;
	}
	return ret;
}

/*
 * Each read returns what the NIC has written last, although an earlier read has seen other
 * data.
 */
static void read_parts(struct __test_metadata *_metadata, struct subject *s,
		       int (*way)(struct subject *s, char *to, char *from))
{
	char *copy = anon(LEN);

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < NR_PARTS; i++) {
			memset(copy, 0xbb, LEN);
			EXPECT_EQ(0, way(s, copy, s->part[i]));
			EXPECT_EQ(-1, check_pattern(copy, LEN, s->seed));
		}
		if (way != by_ptrace && !round) {
			ASSERT_TRUE(subject_does(s, PLACE));
		}
	}
	munmap(copy, LEN);
}

TEST_F_TIMEOUT(outside, process_vm_readv, 120)
{
	read_parts(_metadata, &self->s, by_process_vm);
	EXPECT_EQ(0, subject_end(&self->s));
}

TEST_F_TIMEOUT(outside, proc_mem, 120)
{
	read_parts(_metadata, &self->s, by_proc_mem);
	EXPECT_EQ(0, subject_end(&self->s));
}

TEST_F_TIMEOUT(outside, ptrace, 120)
{
	int status;

	ASSERT_EQ(0, ptrace(PTRACE_ATTACH, self->s.pid, NULL, NULL));
	ASSERT_EQ(self->s.pid, waitpid(self->s.pid, &status, 0));
	EXPECT_TRUE(WIFSTOPPED(status));
	read_parts(_metadata, &self->s, by_ptrace);
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, self->s.pid, NULL, NULL));
	EXPECT_EQ(0, subject_end(&self->s));
}

/* The NIC and the process see what a debugger writes. */
TEST_F_TIMEOUT(outside, proc_mem_writes, 120)
{
	struct subject *s = &self->s;
	char path[64], *bytes = anon(LEN);
	int fd;

	fill_pattern(bytes, LEN, s->seed + 1);
	snprintf(path, sizeof(path), "/proc/%d/mem", s->pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	for (int i = 0; i < NR_PARTS; i++) {
		EXPECT_EQ(LEN, pwrite(fd, bytes, LEN, (uintptr_t)s->part[i]));
	}
	close(fd);
	EXPECT_TRUE(subject_does(s, COMPARE));
	EXPECT_EQ(0, subject_end(s));
	munmap(bytes, LEN);
}

/* gdb's "dump memory" and its "gcore". */
TEST_F_TIMEOUT(outside, gdb, 480)
{
	struct subject *s = &self->s;
	char command[512];

	for (int i = 0; i < NR_PARTS; i++) {
		snprintf(command, sizeof(command),
			 "gdb -nx -batch -p %d -ex 'dump binary memory " DUMPED " %p %p' > /dev/null 2>&1",
			 s->pid, s->part[i], s->part[i] + LEN);
		EXPECT_EQ(0, system(command));
		EXPECT_EQ(0, wrong_in_file(DUMPED, NULL, s->seed));
	}
	ASSERT_TRUE(subject_does(s, PLACE));
	snprintf(command, sizeof(command),
		 "gdb -nx -batch -p %d -ex 'generate-core-file " CORE "' > /dev/null 2>&1", s->pid);
	EXPECT_EQ(0, system(command));
	for (int i = 0; i < NR_PARTS; i++) {
		EXPECT_EQ(0, wrong_in_file(CORE, s->part[i], s->seed));
	}
	EXPECT_EQ(0, subject_end(s));
}

/* Create a huge page in RAM to which userfaultfd tracks accesses (UFFD_FEATURE_RWP_ASYNC). */
static char *watched_page(void)
{
	char *p = anon_huge(LEN, MADV_HUGEPAGE);
	struct uffdio_rwprotect protect = {
		.range = { (uintptr_t)p, LEN }, .mode = UFFDIO_RWPROTECT_MODE_RWP,
	};
	int fd;

	if (!p)
		return NULL;
	fill_pattern(p, LEN, 7);
	fd = uffd_watch(p, LEN, UFFD_FEATURE_RWP | UFFD_FEATURE_RWP_ASYNC,
			UFFDIO_REGISTER_MODE_RWP);
	if (huge_bytes(p) != LEN || fd < 0 || ioctl(fd, UFFDIO_RWPROTECT, &protect))
		return NULL;
	return p;
}

TEST(core_of_watched_page)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	int tell[2];
	pid_t pid;
	char *p;

	unlink(CORE);
	ASSERT_EQ(0, write_file("/proc/sys/kernel/core_pattern", CORE));
	ASSERT_EQ(0, pipe(tell));
	pid = fork();
	if (!pid) {
		p = watched_page();
		if (!p || setrlimit(RLIMIT_CORE, &limit) ||
		    write(tell[1], &p, sizeof(p)) != sizeof(p))
			_exit(1);
		abort();
	}
	close(tell[1]);
	ASSERT_EQ(sizeof(p), read(tell[0], &p, sizeof(p)));
	EXPECT_EQ(-SIGABRT, wait_child(pid));
	EXPECT_EQ(0, wrong_in_file(CORE, p, 7));
	close(tell[0]);
	unlink(CORE);
}

TEST_HARNESS_MAIN
