/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tracepoint of the migration engine.  It belongs to the trace system hmm_p2p like all others.
 * It has a header of its own, because peer access does not know the engine.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM hmm_p2p

#if !defined(_TRACE_HMM_P2P_MIGRATE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_HMM_P2P_MIGRATE_H

#include <linux/hmm_p2p_migrate.h>
#include <linux/tracepoint.h>

/* One batch of a migration. */
TRACE_EVENT(hmm_p2p_migrate,
	TP_PROTO(const char *exporter, int dir, unsigned long addr,
		 unsigned long migrated, unsigned long failed),
	TP_ARGS(exporter, dir, addr, migrated, failed),
	TP_STRUCT__entry(
		__string(exporter, exporter)
		__field(int, dir)
		__field(unsigned long, addr)
		__field(unsigned long, migrated)
		__field(unsigned long, failed)
	),
	TP_fast_assign(
		__assign_str(exporter);
		__entry->dir = dir;
		__entry->addr = addr;
		__entry->migrated = migrated;
		__entry->failed = failed;
	),
	TP_printk("exporter=%s %s addr=%#lx migrated=%lu failed=%lu",
		  __get_str(exporter),
		  __entry->dir == HMM_P2P_TO_DEVICE ? "to-device" :
		  __entry->dir == HMM_P2P_TO_RAM ? "to-ram" : "from-peer",
		  __entry->addr, __entry->migrated, __entry->failed)
);

#endif /* _TRACE_HMM_P2P_MIGRATE_H */

#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE hmm_p2p_migrate
#include <trace/define_trace.h>
