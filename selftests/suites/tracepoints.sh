# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Each step that the core takes is seen in the trace.

revoke_and_reload() {
	"$bin/revoke" -t without_migrating -t cpu_waits_for_reset -t poison > /dev/null
	reload "${exact[@]}"
}

thrash_windows() {
	"$bin/windows" -t thrash > /dev/null
}

# Every step that WORK takes is seen: EVENTs.
tracepoints() { # WORK EVENT...
	local event work=$1
	shift
	plan $#
	echo > /sys/kernel/tracing/trace
	# No others: there is room for the last ones only.
	for event in "$@"; do
		echo 1 > "/sys/kernel/tracing/events/hmm_p2p/hmm_p2p_$event/enable"
	done
	"$work"
	echo 0 > /sys/kernel/tracing/events/hmm_p2p/enable
	for event in "$@"; do
		check "$event" grep -q " hmm_p2p_$event: exporter=hmm_dummy" /sys/kernel/tracing/trace
	done
}

suite_tracepoints() {
	tracepoints revoke_and_reload reach alias map unmap invalidate revoke flush state \
		poison migrate unregister register
}

suite_tracepoints_small_bar() {
	tracepoints thrash_windows open_window close_window fallback
}
