// SPDX-License-Identifier: GPL-2.0
/*
 * rdma-odp: memory regions on demand for programs that do not ask for them.
 *
 * It sets and shows RDMA_NLDEV_ATTR_DEV_ODP_MR of RDMA devices, which iproute2's rdma does not
 * know yet, and counts the regions of each process by what keeps their memory.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "rdma_nl.h"

static const char usage[] =
"usage: rdma-odp [-j] [show [DEV]]\n"
"       rdma-odp set DEV off\n"
"       rdma-odp set DEV on [prefetch] [partial]\n"
"\n"
"  on        what programs register from now on is on demand where that is possible\n"
"  prefetch  the device learns at registration of pages that are there\n"
"  partial   although some operations of the device need pinned memory\n"
"  -j        JSON\n"
"\n"
"Regions that exist stay as they are.  set needs CAP_NET_ADMIN.\n";

static const char *const kinds[RDMA_NL_NR_KINDS] = {
	[RDMA_NL_PINNED] = "pinned",
	[RDMA_NL_ODP] = "odp",
	[RDMA_NL_ODP_BY_DEVICE] = "odp_by_device",
	[RDMA_NL_DMABUF] = "dmabuf",
};

struct process {
	pid_t pid;
	char name[32];
	unsigned long regions[RDMA_NL_NR_KINDS];
	uint64_t bytes[RDMA_NL_NR_KINDS];
};

struct list {
	struct process *process;
	size_t nr;
};

static int die(const char *what, const char *why)
{
	fprintf(stderr, "rdma-odp: %s: %s\n", what, why);
	return 1;
}

static void name_of(pid_t pid, char *name, size_t size)
{
	char path[32];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "r");
	if (!f || !fgets(name, size, f))
		snprintf(name, size, "?");
	if (f)
		fclose(f);
	name[strcspn(name, "\n")] = 0;
}

static int count(const struct rdma_nl_mr *mr, void *arg)
{
	struct list *list = arg;
	struct process *p = list->process, *end = p + list->nr;

	if (mr->kind < 0 || mr->kind >= RDMA_NL_NR_KINDS)
		return 0;
	while (p < end && p->pid != mr->pid)
		p++;
	if (p == end) {
		p = realloc(list->process, (list->nr + 1) * sizeof(*p));
		if (!p)
			return -1;
		list->process = p;
		p += list->nr++;
		*p = (struct process) { .pid = mr->pid };
		name_of(mr->pid, p->name, sizeof(p->name));
	}
	p->regions[mr->kind]++;
	p->bytes[mr->kind] += mr->length;
	return 0;
}

static json_t *flags_json(int flags)
{
	return json_pack("{s:b, s:b, s:b}", "on", !!(flags & RDMA_NL_ODP_MR),
			 "prefetch", !!(flags & RDMA_NL_ODP_MR_PREFETCH),
			 "partial", !!(flags & RDMA_NL_ODP_MR_PARTIAL));
}

static json_t *process_json(const struct process *p)
{
	json_t *o = json_pack("{s:i, s:s}", "pid", p->pid, "name", p->name);

	for (int k = 0; k < RDMA_NL_NR_KINDS; k++)
		json_object_set_new(o, kinds[k], json_pack("{s:I, s:I}", "regions",
							   (json_int_t)p->regions[k], "bytes",
							   (json_int_t)p->bytes[k]));
	return o;
}

static void print_process(const struct process *p)
{
	printf("  pid %d %s:", p->pid, p->name);
	for (int k = 0; k < RDMA_NL_NR_KINDS; k++)
		if (p->regions[k])
			printf(" %s %lu (%lu KiB)", kinds[k], p->regions[k],
			       (unsigned long)(p->bytes[k] >> 10));
	putchar('\n');
}

struct show {
	const char *name;	/* NULL: all */
	json_t *json;		/* NULL: as text */
	bool seen;
};

static int show_dev(const struct rdma_nl_dev *dev, void *arg)
{
	struct show *show = arg;
	struct list list = {};
	json_t *processes, *o;

	if (show->name && strcmp(show->name, dev->name))
		return 0;
	show->seen = true;
	if (rdma_nl_mrs(dev->index, count, &list) < 0) {
		free(list.process);
		return -1;
	}
	if (show->json) {
		o = json_pack("{s:s}", "device", dev->name);
		json_object_set_new(o, "regions_on_demand",
				    dev->odp_mr < 0 ? json_null() : flags_json(dev->odp_mr));
		processes = json_array();
		for (size_t i = 0; i < list.nr; i++)
			json_array_append_new(processes, process_json(&list.process[i]));
		json_object_set_new(o, "processes", processes);
		json_array_append_new(show->json, o);
	} else {
		printf("%s: regions on demand: %s%s%s\n", dev->name,
		       dev->odp_mr < 0 ? "not known to this kernel" :
		       dev->odp_mr & RDMA_NL_ODP_MR ? "on" : "off",
		       dev->odp_mr > 0 && dev->odp_mr & RDMA_NL_ODP_MR_PREFETCH ? " prefetch" : "",
		       dev->odp_mr > 0 && dev->odp_mr & RDMA_NL_ODP_MR_PARTIAL ? " partial" : "");
		for (size_t i = 0; i < list.nr; i++)
			print_process(&list.process[i]);
	}
	free(list.process);
	return 0;
}

static int show(const char *name, bool json)
{
	struct show s = { .name = name, .json = json ? json_array() : NULL };

	if (rdma_nl_devs(show_dev, &s))
		return die("rdma netlink", strerror(errno));
	if (name && !s.seen)
		return die(name, "there is no such RDMA device");
	if (json) {
		json_dumpf(s.json, stdout, JSON_INDENT(1));
		putchar('\n');
		json_decref(s.json);
	}
	return 0;
}

static int parse_flags(char **words, int nr)
{
	int flags = 0;

	if (nr == 1 && !strcmp(words[0], "off"))
		return 0;
	if (!nr || strcmp(words[0], "on"))
		return -1;
	for (int i = 0; i < nr; i++) {
		if (!i)
			flags = RDMA_NL_ODP_MR;
		else if (!strcmp(words[i], "prefetch"))
			flags |= RDMA_NL_ODP_MR_PREFETCH;
		else if (!strcmp(words[i], "partial"))
			flags |= RDMA_NL_ODP_MR_PARTIAL;
		else
			return -1;
	}
	return flags;
}

static int set(const char *name, char **words, int nr)
{
	int flags = parse_flags(words, nr);
	struct rdma_nl_dev dev;

	if (flags < 0) {
		fputs(usage, stderr);
		return 2;
	}
	if (rdma_nl_dev(name, &dev))
		return die(name, errno == ENODEV ? "there is no such RDMA device" :
						   strerror(errno));
	/* A kernel that does not know the attribute ignores it. */
	if (dev.odp_mr < 0)
		return die(name, "this kernel cannot make regions on demand by itself");
	if (rdma_nl_set_odp_mr(dev.index, flags))
		return die(name, *rdma_nl_error() ? rdma_nl_error() : strerror(errno));
	return 0;
}

int main(int argc, char **argv)
{
	bool json = false;
	int opt;

	while ((opt = getopt(argc, argv, "+jh")) != -1) {
		if (opt == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		if (opt != 'j') {
			fputs(usage, stderr);
			return 2;
		}
		json = true;
	}
	argc -= optind;
	argv += optind;
	if (!argc || (argc <= 2 && !strcmp(argv[0], "show")))
		return show(argc == 2 ? argv[1] : NULL, json);
	if (argc >= 3 && !strcmp(argv[0], "set") && !json)
		return set(argv[1], argv + 2, argc - 2);
	fputs(usage, stderr);
	return 2;
}
