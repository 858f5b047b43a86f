// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: debugfs
 *
 * People and tests read these files; they are no ABI.  Only fail_lookup can be written: it
 * makes lookups fail, where the kernel's fault injection is configured.
 *
 *	hmm_p2p/fail_lookup/		settings of the fault injection
 *	hmm_p2p/importers		importers that have met an exporter, and whether they
 *					are quarantined
 *	hmm_p2p/EXPORTER/state		live, resetting, draining or dead
 *	hmm_p2p/EXPORTER/counters	"name value" lines; see the table of them in
 *					Documentation/mm/hmm_p2p.rst
 *	hmm_p2p/EXPORTER/migrations	the same of its engine: see migrate/engine.c
 *	hmm_p2p/EXPORTER/pairs		a line for each (importer, mm)
 *	hmm_p2p/EXPORTER/windows	windows that are neither closed nor invisible
 *	hmm_p2p/EXPORTER/reach		which devices reach the memory, and how,
 *					or why not; asks p2pdma when it is read
 */
#include <linux/debugfs.h>
#include <linux/fault-inject.h>
#include <linux/dma-map-ops.h>
#include <linux/init.h>
#include <linux/iommu-dma.h>
#include <linux/pci.h>
#include <linux/seq_file.h>

#include "internal.h"

static struct dentry *hmm_p2p_root;

static const char *const hmm_p2p_counter_names[HMM_P2P_C_FALLBACK] = {
	[HMM_P2P_C_ALIASES]	= "aliases",
	[HMM_P2P_C_FAULTS]	= "faults",
	[HMM_P2P_C_MAPPED]	= "mapped",
	[HMM_P2P_C_UNMAPPED]	= "unmapped",
	[HMM_P2P_C_INVALIDATIONS] = "invalidations",
	[HMM_P2P_C_UPGRADES]	= "upgrades",
	[HMM_P2P_C_POISONED]	= "poisoned",
	[HMM_P2P_C_OPENED]	= "windows_opened",
	[HMM_P2P_C_RECLAIMED]	= "windows_reclaimed",
	[HMM_P2P_C_REVOKED]	= "windows_revoked",
	[HMM_P2P_C_QUARANTINES]	= "quarantines",
	[HMM_P2P_C_LATE]	= "late_invalidations",
	[HMM_P2P_C_FLUSHES]	= "flushes",
};

static const char *const hmm_p2p_window_names[] = {
	[HMM_P2P_CLOSED]	= "closed",
	[HMM_P2P_OPENING]	= "opening",
	[HMM_P2P_OPEN]		= "open",
	[HMM_P2P_REVOKING]	= "revoking",
	[HMM_P2P_FAILED]	= "failed",
	[HMM_P2P_STUCK]		= "stuck",
	[HMM_P2P_INVISIBLE]	= "invisible",
};

static int counters_show(struct seq_file *m, void *v)
{
	struct hmm_p2p_exporter *exp = m->private;
	unsigned int i;

	seq_printf(m, "pages %lu\n", exp->nr_pages);
	seq_printf(m, "windows %lu\n", exp->nr_windows);
	seq_printf(m, "windows_invisible %lu\n", READ_ONCE(exp->nr_invisible));
	seq_printf(m, "mapped_now %lu\n", hmm_p2p_refs(exp));
	for (i = 0; i < HMM_P2P_C_FALLBACK; i++)
		seq_printf(m, "%s %llu\n", hmm_p2p_counter_names[i],
			   hmm_p2p_total_read(exp, i));
	for (i = HMM_P2P_NOT_LIVE; i < HMM_P2P_NR_REASONS; i++)
		seq_printf(m, "fallback_%s %llu\n", hmm_p2p_reason_names[i],
			   hmm_p2p_total_read(exp, HMM_P2P_C_FALLBACK + i));
	seq_printf(m, "slowest_revoke_us %lld\n",
		   atomic64_read(&exp->slowest_revoke) / NSEC_PER_USEC);
	for (i = 0; i < HMM_P2P_BUCKETS; i++)
		seq_printf(m, "invalidations_below_%lu_us %llu\n",
			   i < HMM_P2P_BUCKETS - 1 ? BIT(i) : ULONG_MAX,
			   hmm_p2p_total_read(exp, HMM_P2P_C_BUCKET + i));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

static int state_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%s\n", hmm_p2p_state_name(m->private));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(state);

static int pairs_show(struct seq_file *m, void *v)
{
	struct hmm_p2p_exporter *exp = m->private;
	struct hmm_p2p_pair *pair;
	unsigned int i;

	mutex_lock(&hmm_p2p_pairs_lock);
	list_for_each_entry(pair, &exp->pairs, node) {
		seq_printf(m, "importer=%s pid=%d mirrors=%u reach=%s mapped_now=%llu",
			   pair->importer->name, pair->pid,
			   refcount_read(&pair->users),
			   hmm_p2p_reason_names[pair->reason],
			   hmm_p2p_pair_held(pair));
		seq_printf(m, " mapped=%llu faults=%llu invalidations=%llu slowest_us=%lld",
			   hmm_p2p_pair_read(pair, HMM_P2P_C_MAPPED),
			   hmm_p2p_pair_read(pair, HMM_P2P_C_FAULTS),
			   hmm_p2p_pair_read(pair, HMM_P2P_C_INVALIDATIONS),
			   atomic64_read(&pair->slowest) / NSEC_PER_USEC);
		for (i = HMM_P2P_NOT_LIVE; i < HMM_P2P_NR_REASONS; i++) {
			u64 n = hmm_p2p_pair_read(pair, HMM_P2P_C_FALLBACK + i);

			if (n)
				seq_printf(m, " fallback_%s=%llu",
					   hmm_p2p_reason_names[i], n);
		}
		seq_putc(m, '\n');
	}
	mutex_unlock(&hmm_p2p_pairs_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(pairs);

static int windows_show(struct seq_file *m, void *v)
{
	struct hmm_p2p_exporter *exp = m->private;
	unsigned long i;

	for (i = 0; i < exp->nr_windows; i++) {
		struct hmm_p2p_window *window = &exp->windows[i];
		u32 state = READ_ONCE(window->state);

		if (state == HMM_P2P_CLOSED || state == HMM_P2P_INVISIBLE)
			continue;
		seq_printf(m, "window=%lu state=%s mapped_now=%d alias_pfn=%#lx\n",
			   i, hmm_p2p_window_names[state],
			   atomic_read(&window->refs),
			   hmm_p2p_window_alias(window));
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(windows);

static const char *reach_how(struct device *dev, enum pci_p2pdma_map_type type)
{
	if (type == PCI_P2PDMA_MAP_BUS_ADDR)
		return "bus-address";
	return use_dma_iommu(dev) ? "iova" : "host-bridge";
}

/* Removing the file waits for its readers, so the exporter is whole here. */
static int reach_show(struct seq_file *m, void *v)
{
	struct hmm_p2p_exporter *exp = m->private;
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		enum pci_p2pdma_map_type type = PCI_P2PDMA_MAP_UNKNOWN;
		struct device *dev = &pdev->dev;
		enum hmm_p2p_reason reason;

		if (pci_is_bridge(pdev))
			continue;
		reason = hmm_p2p_check_reach(exp, dev, &type);
		seq_printf(m, "%s %s", pci_name(pdev),
			   hmm_p2p_reason_names[reason]);
		if (reason == HMM_P2P_REACHABLE)
			seq_printf(m, " %s", reach_how(dev, type));
		seq_putc(m, '\n');
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(reach);

static int importers_show(struct seq_file *m, void *v)
{
	struct hmm_p2p_importer *importer;

	mutex_lock(&hmm_p2p_pairs_lock);
	list_for_each_entry(importer, &hmm_p2p_importers, node)
		seq_printf(m, "importer=%s mirrors=%u quarantined=%d\n",
			   importer->name, atomic_read(&importer->mirrors),
			   importer->quarantined);
	mutex_unlock(&hmm_p2p_pairs_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(importers);

void hmm_p2p_debugfs_add(struct hmm_p2p_exporter *exp)
{
	struct dentry *dir = debugfs_create_dir(exp->desc.name, hmm_p2p_root);

	exp->debugfs = dir;
	debugfs_create_file("counters", 0444, dir, exp, &counters_fops);
	debugfs_create_file("state", 0444, dir, exp, &state_fops);
	debugfs_create_file("pairs", 0444, dir, exp, &pairs_fops);
	debugfs_create_file("windows", 0444, dir, exp, &windows_fops);
	debugfs_create_file("reach", 0400, dir, exp, &reach_fops);
}

/* Waits for readers, so the exporter outlives them. */
void hmm_p2p_debugfs_remove(struct hmm_p2p_exporter *exp)
{
	debugfs_remove_recursive(exp->debugfs);
}

static int __init hmm_p2p_debugfs_init(void)
{
	hmm_p2p_root = debugfs_create_dir("hmm_p2p", NULL);
	debugfs_create_file("importers", 0444, hmm_p2p_root, NULL,
			    &importers_fops);
	fault_create_debugfs_attr("fail_lookup", hmm_p2p_root, &hmm_p2p_fail_lookup);
	return 0;
}
subsys_initcall(hmm_p2p_debugfs_init);
