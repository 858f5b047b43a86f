// SPDX-License-Identifier: GPL-2.0
/* Reads the description of the machine from the kernel; see machine.h. */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "crc32c.h"
#include "gpu.h"
#include "machine.h"

#define DEBUGFS	"/sys/kernel/debug/hmm_p2p/"
#define DEVICES	16

/* The rest of the first line in a file that begins with @key, or NULL. */
static const char *line_of(const char *path, const char *key)
{
	static char line[512];
	FILE *f = fopen(path, "r");
	char *found = NULL;

	while (f && !found && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			found = line + strlen(key);
	if (f)
		fclose(f);
	if (!found)
		return NULL;
	found += strspn(found, "\t :");
	found[strcspn(found, "\n")] = 0;
	return found;
}

static void set_text(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, text ? json_string(text) : json_null());
}

/*
 * The name of the emulator or hypervisor as CPUID tells it: "TCGTCGTCGTCG", "KVMKVMKVM", or
 * none.
 */
static void set_hypervisor(json_t *machine)
{
	char name[13] = "";

#ifdef __x86_64__
	unsigned int eax, ebx, ecx, edx;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx >> 31) {
		__cpuid(0x40000000, eax, ebx, ecx, edx);
		memcpy(name, (unsigned int[]) { ebx, ecx, edx }, 12);
	}
#endif
	set_text(machine, "hypervisor", *name ? name : NULL);
}

/* Options that change the speed of a kernel, or what it does. */
static const char *const config_names[] = {
	"DEBUG_KMEMLEAK", "DEBUG_VM", "DEVICE_PRIVATE", "GCOV_KERNEL", "HMM_DUMMY", "HMM_P2P",
	"HZ", "INTEL_IOMMU", "KASAN", "KCSAN", "MEMCG", "NR_CPUS", "NUMA_BALANCING",
	"PCI_P2PDMA", "PREEMPT", "PREEMPT_LAZY", "PREEMPT_NONE", "PREEMPT_RT",
	"PREEMPT_VOLUNTARY", "PROVE_LOCKING", "TRANSPARENT_HUGEPAGE",
};

#define MOST_CONFIG	(1UL << 20)

/*
 * The configuration of the kernel (CONFIG_IKCONFIG_PROC): the options above that are set, and a
 * checksum of all options, which tells whether two kernels have the same.
 */
static json_t *kernel_config(void)
{
	FILE *f = access("/proc/config.gz", R_OK) ? NULL : popen("gzip -dc /proc/config.gz 2> /dev/null",
							      "r");
	char *text = calloc(1, MOST_CONFIG), *line, *rest, sum[16];
	json_t *config;
	size_t length;

	if (!text)
		abort();
	length = f ? fread(text, 1, MOST_CONFIG - 1, f) : 0;
	if (f)
		pclose(f);
	config = length ? json_object() : json_null();
	snprintf(sum, sizeof(sum), "%08x", crc32c(text, length));
	if (length)
		set_text(config, "crc32c", sum);
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *value = strchr(line, '=');

		if (strncmp(line, "CONFIG_", 7) || !value)
			continue;
		*value++ = 0;
		for (size_t i = 0; i < sizeof(config_names) / sizeof(*config_names); i++)
			if (!strcmp(line + 7, config_names[i]))
				set_text(config, line + 7, value);
	}
	free(text);
	return config;
}

/* The parameters of a module. */
static json_t *parameters_of(const char *module)
{
	json_t *all = json_object();
	char path[320];
	struct dirent *entry;
	DIR *folder;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters", module);
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/module/%s/parameters/%.200s", module,
			 entry->d_name);
		set_text(all, entry->d_name, line_of(path, ""));
	}
	if (folder)
		closedir(folder);
	return all;
}

/* The exporter's reach: "0000:02:00.0 reachable bus-address", ... */
static json_t *reach_of(int n)
{
	json_t *all = json_array();
	char path[128], line[256];
	FILE *f;

	snprintf(path, sizeof(path), DEBUGFS "hmm_dummy%d/reach", n);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		json_array_append_new(all, json_string(line));
	}
	if (f)
		fclose(f);
	return all;
}

static json_t *devices(void)
{
	json_t *all = json_array();

	for (int i = 0; i < DEVICES; i++) {
		struct hmm_dummy_info info;
		char path[64], link[256] = "";
		int gpu = gpu_open(i);
		json_t *j;

		if (gpu < 0)
			continue;
		if (!gpu_info(gpu, &info)) {
			snprintf(path, sizeof(path), "/sys/class/misc/hmm_dummy%d/device", i);
			j = json_pack("{s:i, s:I, s:o}", "number", i, "vram_bytes",
				      (json_int_t)info.vram_bytes, "reach", reach_of(i));
			set_text(j, "pci", readlink(path, link, sizeof(link) - 1) > 0 ?
				 strrchr(link, '/') + 1 : NULL);
			json_array_append_new(all, j);
		}
		close(gpu);
	}
	return all;
}

json_t *machine_describe(void)
{
	json_t *machine = json_object();
	struct utsname name;

	uname(&name);
	set_text(machine, "kernel", name.release);
	set_text(machine, "version", name.version);
	set_text(machine, "architecture", name.machine);
	json_object_set_new(machine, "config", kernel_config());
	set_text(machine, "command_line", line_of("/proc/cmdline", ""));
	set_text(machine, "processor", line_of("/proc/cpuinfo", "model name"));
	set_text(machine, "hardware", line_of("/sys/class/dmi/id/product_name", ""));
	set_text(machine, "transparent_hugepage",
		 line_of("/sys/kernel/mm/transparent_hugepage/enabled", ""));
	set_hypervisor(machine);
	json_object_set_new(machine, "hmm_p2p", parameters_of("hmm_p2p"));
	json_object_set_new(machine, "hmm_dummy", parameters_of("hmm_dummy"));
	set_text(machine, "memory", line_of("/proc/meminfo", "MemTotal"));
	json_object_set_new(machine, "processors", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
	json_object_set_new(machine, "devices", devices());
	return machine;
}
