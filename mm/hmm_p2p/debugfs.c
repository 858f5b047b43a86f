// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: debugfs
 *
 * hmm_p2p/<exporter>/counters, read-only: "name value" lines, in pages unless
 * the name says otherwise.  For people and tests; no ABI.
 */
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/seq_file.h>

#include "internal.h"

static struct dentry *hmm_p2p_root;

static const char *const hmm_p2p_counter_names[HMM_P2P_C_FALLBACK] = {
	[HMM_P2P_C_ALIASES]	= "aliases",
	[HMM_P2P_C_MAPPED]	= "mapped",
	[HMM_P2P_C_UNMAPPED]	= "unmapped",
	[HMM_P2P_C_TO_DEVICE]	= "to_device",
	[HMM_P2P_C_TO_RAM]	= "to_ram",
	[HMM_P2P_C_CPU_FAULTS]	= "cpu_faults",
};

static int counters_show(struct seq_file *m, void *v)
{
	struct hmm_p2p_exporter *exp = m->private;
	unsigned int i;

	seq_printf(m, "pages %lu\n", exp->nr_pages);
	seq_printf(m, "windows %lu\n", exp->nr_windows);
	seq_printf(m, "mapped_now %lu\n", hmm_p2p_refs(exp));
	for (i = 0; i < HMM_P2P_C_FALLBACK; i++)
		seq_printf(m, "%s %llu\n", hmm_p2p_counter_names[i],
			   hmm_p2p_counter_read(exp, i));
	for (i = HMM_P2P_NOT_LIVE; i < HMM_P2P_NR_REASONS; i++)
		seq_printf(m, "fallback_%s %llu\n", hmm_p2p_reason_names[i],
			   hmm_p2p_counter_read(exp, HMM_P2P_C_FALLBACK + i));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

void hmm_p2p_debugfs_add(struct hmm_p2p_exporter *exp)
{
	exp->debugfs = debugfs_create_dir(exp->desc.name, hmm_p2p_root);
	debugfs_create_file("counters", 0444, exp->debugfs, exp, &counters_fops);
}

/* Waits for readers, so the exporter outlives them. */
void hmm_p2p_debugfs_remove(struct hmm_p2p_exporter *exp)
{
	debugfs_remove_recursive(exp->debugfs);
}

static int __init hmm_p2p_debugfs_init(void)
{
	hmm_p2p_root = debugfs_create_dir("hmm_p2p", NULL);
	return 0;
}
subsys_initcall(hmm_p2p_debugfs_init);
