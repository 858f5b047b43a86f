/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints of peer access.  A class serves several events, so what its fields mean is said at
 * the class.  The tracepoint of the migration engine is in hmm_p2p_migrate.h.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM hmm_p2p

#if !defined(_TRACE_HMM_P2P_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_HMM_P2P_H

#include <linux/hmm_p2p.h>
#include <linux/tracepoint.h>

#define HMM_P2P_REASONS						\
	EM(HMM_P2P_REACHABLE,	"reachable")			\
	EM(HMM_P2P_NO_EXPORTER,	"no-exporter")			\
	EM(HMM_P2P_NOT_LIVE,	"not-live")			\
	EM(HMM_P2P_NO_KMAP,	"no-kmap")			\
	EM(HMM_P2P_NO_BUS,	"no-bus")			\
	EM(HMM_P2P_TOPOLOGY,	"topology")			\
	EM(HMM_P2P_ADDRESS,	"address")			\
	EM(HMM_P2P_LAZY_IOMMU,	"lazy-iommu")			\
	EM(HMM_P2P_READ_ONLY,	"read-only")			\
	EM(HMM_P2P_WATCHED,	"watched")			\
	EM(HMM_P2P_NO_WAIT,	"no-wait")			\
	EM(HMM_P2P_NO_WINDOW,	"no-window")			\
	EM(HMM_P2P_NO_PAIR,	"no-pair")			\
	EM(HMM_P2P_QUARANTINED,	"quarantined")			\
	EMe(HMM_P2P_DEAD,	"dead")

#undef EM
#undef EMe
#define EM(a, b)	TRACE_DEFINE_ENUM(a);
#define EMe(a, b)	TRACE_DEFINE_ENUM(a);
HMM_P2P_REASONS
#undef EM
#undef EMe
#define EM(a, b)	{ a, b },
#define EMe(a, b)	{ a, b }

/* An exporter comes or goes. */
DECLARE_EVENT_CLASS(hmm_p2p_exporter,
	TP_PROTO(const char *exporter, unsigned long pages),
	TP_ARGS(exporter, pages),
	TP_STRUCT__entry(
		__string(exporter, exporter)
		__field(unsigned long, pages)
	),
	TP_fast_assign(
		__assign_str(exporter);
		__entry->pages = pages;
	),
	TP_printk("exporter=%s pages=%lu", __get_str(exporter), __entry->pages)
);

DEFINE_EVENT(hmm_p2p_exporter, hmm_p2p_register,
	TP_PROTO(const char *exporter, unsigned long pages),
	TP_ARGS(exporter, pages));
DEFINE_EVENT(hmm_p2p_exporter, hmm_p2p_unregister,
	TP_PROTO(const char *exporter, unsigned long pages),
	TP_ARGS(exporter, pages));

/* A pair was asked about (reach), or a page was not given to a peer. */
DECLARE_EVENT_CLASS(hmm_p2p_answer,
	TP_PROTO(const char *exporter, const char *peer, int reason),
	TP_ARGS(exporter, peer, reason),
	TP_STRUCT__entry(
		__string(exporter, exporter)
		__string(peer, peer)
		__field(int, reason)
	),
	TP_fast_assign(
		__assign_str(exporter);
		__assign_str(peer);
		__entry->reason = reason;
	),
	TP_printk("exporter=%s peer=%s reason=%s", __get_str(exporter),
		  __get_str(peer),
		  __print_symbolic(__entry->reason, HMM_P2P_REASONS))
);

DEFINE_EVENT(hmm_p2p_answer, hmm_p2p_reach,
	TP_PROTO(const char *exporter, const char *peer, int reason),
	TP_ARGS(exporter, peer, reason));
DEFINE_EVENT(hmm_p2p_answer, hmm_p2p_fallback,
	TP_PROTO(const char *exporter, const char *peer, int reason),
	TP_ARGS(exporter, peer, reason));

/* A page was given to a peer. */
TRACE_EVENT(hmm_p2p_alias,
	TP_PROTO(const char *exporter, const char *peer, unsigned long pfn),
	TP_ARGS(exporter, peer, pfn),
	TP_STRUCT__entry(
		__string(exporter, exporter)
		__string(peer, peer)
		__field(unsigned long, pfn)
	),
	TP_fast_assign(
		__assign_str(exporter);
		__assign_str(peer);
		__entry->pfn = pfn;
	),
	TP_printk("exporter=%s peer=%s alias_pfn=%#lx", __get_str(exporter),
		  __get_str(peer), __entry->pfn)
);

/* An entry of an importer's map holds an alias, or does not any more. */
DECLARE_EVENT_CLASS(hmm_p2p_entry,
	TP_PROTO(const char *exporter, unsigned long pfn),
	TP_ARGS(exporter, pfn),
	TP_STRUCT__entry(
		__string(exporter, exporter)
		__field(unsigned long, pfn)
	),
	TP_fast_assign(
		__assign_str(exporter);
		__entry->pfn = pfn;
	),
	TP_printk("exporter=%s alias_pfn=%#lx", __get_str(exporter), __entry->pfn)
);

DEFINE_EVENT(hmm_p2p_entry, hmm_p2p_map,
	TP_PROTO(const char *exporter, unsigned long pfn),
	TP_ARGS(exporter, pfn));
DEFINE_EVENT(hmm_p2p_entry, hmm_p2p_unmap,
	TP_PROTO(const char *exporter, unsigned long pfn),
	TP_ARGS(exporter, pfn));

/*
 * An importer's callback has let go (n: entries, of all exporters, value: ns), did not let
 * go (n: window), or has not returned (value: ms; the importer is named by the function).
 */
DECLARE_EVENT_CLASS(hmm_p2p_importer,
	TP_PROTO(const char *exporter, const char *importer, unsigned long n,
		 u64 value),
	TP_ARGS(exporter, importer, n, value),
	TP_STRUCT__entry(
		__string(exporter, exporter)
		__string(importer, importer)
		__field(unsigned long, n)
		__field(u64, value)
	),
	TP_fast_assign(
		__assign_str(exporter);
		__assign_str(importer);
		__entry->n = n;
		__entry->value = value;
	),
	TP_printk("exporter=%s importer=%s entries=%lu ns=%llu",
		  __get_str(exporter), __get_str(importer), __entry->n,
		  __entry->value)
);

DEFINE_EVENT(hmm_p2p_importer, hmm_p2p_invalidate,
	TP_PROTO(const char *exporter, const char *importer, unsigned long n,
		 u64 value),
	TP_ARGS(exporter, importer, n, value));
DEFINE_EVENT_PRINT(hmm_p2p_importer, hmm_p2p_quarantine,
	TP_PROTO(const char *exporter, const char *importer, unsigned long n,
		 u64 value),
	TP_ARGS(exporter, importer, n, value),
	TP_printk("exporter=%s importer=%s window=%lu", __get_str(exporter),
		  __get_str(importer), __entry->n));
DEFINE_EVENT_PRINT(hmm_p2p_importer, hmm_p2p_late,
	TP_PROTO(const char *exporter, const char *importer, unsigned long n,
		 u64 value),
	TP_ARGS(exporter, importer, n, value),
	TP_printk("exporter=%s importer=%s ms=%llu", __get_str(exporter),
		  __get_str(importer), __entry->value));

/* Something was done to a window (n: events fired, errno) or to a page. */
DECLARE_EVENT_CLASS(hmm_p2p_memory,
	TP_PROTO(const char *exporter, unsigned long index, unsigned long n,
		 int value),
	TP_ARGS(exporter, index, n, value),
	TP_STRUCT__entry(
		__string(exporter, exporter)
		__field(unsigned long, index)
		__field(unsigned long, n)
		__field(int, value)
	),
	TP_fast_assign(
		__assign_str(exporter);
		__entry->index = index;
		__entry->n = n;
		__entry->value = value;
	),
	TP_printk("exporter=%s window=%lu invalidations=%lu stuck=%d",
		  __get_str(exporter), __entry->index, __entry->n,
		  __entry->value)
);

DEFINE_EVENT_PRINT(hmm_p2p_memory, hmm_p2p_open_window,
	TP_PROTO(const char *exporter, unsigned long index, unsigned long n,
		 int value),
	TP_ARGS(exporter, index, n, value),
	TP_printk("exporter=%s window=%lu error=%d", __get_str(exporter),
		  __entry->index, __entry->value));
DEFINE_EVENT_PRINT(hmm_p2p_memory, hmm_p2p_close_window,
	TP_PROTO(const char *exporter, unsigned long index, unsigned long n,
		 int value),
	TP_ARGS(exporter, index, n, value),
	TP_printk("exporter=%s window=%lu", __get_str(exporter),
		  __entry->index));
DEFINE_EVENT(hmm_p2p_memory, hmm_p2p_revoke,
	TP_PROTO(const char *exporter, unsigned long index, unsigned long n,
		 int value),
	TP_ARGS(exporter, index, n, value));
DEFINE_EVENT_PRINT(hmm_p2p_memory, hmm_p2p_poison,
	TP_PROTO(const char *exporter, unsigned long index, unsigned long n,
		 int value),
	TP_ARGS(exporter, index, n, value),
	TP_printk("exporter=%s page=%lu entries=%lu", __get_str(exporter),
		  __entry->index, __entry->n));

TRACE_EVENT(hmm_p2p_state,
	TP_PROTO(const char *exporter, const char *state),
	TP_ARGS(exporter, state),
	TP_STRUCT__entry(
		__string(exporter, exporter)
		__string(state, state)
	),
	TP_fast_assign(
		__assign_str(exporter);
		__assign_str(state);
	),
	TP_printk("exporter=%s state=%s", __get_str(exporter),
		  __get_str(state))
);

/* What peers had written is in the memory; number as the core counts flushes. */
TRACE_EVENT(hmm_p2p_flush,
	TP_PROTO(const char *exporter, unsigned int number),
	TP_ARGS(exporter, number),
	TP_STRUCT__entry(
		__string(exporter, exporter)
		__field(unsigned int, number)
	),
	TP_fast_assign(
		__assign_str(exporter);
		__entry->number = number;
	),
	TP_printk("exporter=%s number=%u", __get_str(exporter), __entry->number)
);

#endif /* _TRACE_HMM_P2P_H */

#include <trace/define_trace.h>
