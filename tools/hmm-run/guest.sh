#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The part of "make run" inside of the VM.  scripts/run calls it with the name of a
# file, to which it writes one JSON object a line.

set -euo pipefail
results=$1
bin=$HMM_P2P_TOP/build/bin
enable=/sys/module/hmm_p2p/parameters/enable
SIZE=1048576
SECONDS_OF_TRAFFIC=3

say() { echo "run: $*" >&2; }

# Wait until COMMAND succeeds, 15 s at most.
until_true() {
	local left=150
	while [ $((left--)) -gt 0 ]; do
		"$@" > /dev/null 2>&1 && return
		sleep 0.1
	done
	say "gave up waiting: $*"
	return 1
}

listening() { grep -q ' 00000000:4853 .* 0A ' /proc/net/tcp; }	# port 18515

# Run a perftest program as server and client, with the buffers in PLACE.
perftest() { # PROGRAM PLACE
	local program=$1 place=$2 log server client
	local args=(--odp -F -x 1 -s "$SIZE" -t 4 -D "$SECONDS_OF_TRAFFIC")
	local touched=0 before=0 after=0 n t bw
	log=$(mktemp -d)

	say "$program, buffers: $place"
	[ "$place" != off ] || echo N > $enable
	"$program" "${args[@]}" > "$log/server" 2>&1 &
	server=$!
	until_true listening
	"$program" "${args[@]}" 127.0.0.1 > "$log/client" 2>&1 &
	client=$!
	if [ "$place" != ram ]; then
		until_true "$bin/hmm-place" count $client $SIZE local
		until_true "$bin/hmm-place" count $server $SIZE remote
		# Let transfers under way finish, so that "before" is right.
		kill -STOP $client
		sleep 0.4
		read -r t n < <("$bin/hmm-place" place $server $SIZE remote)
		touched=$((touched + t)) before=$((before + n))
		read -r t n < <("$bin/hmm-place" place $client $SIZE local)
		touched=$((touched + t)) before=$((before + n))
		kill -CONT $client
	fi
	# Count while the programs still transfer data.
	sleep 1.5
	read -r t n < <("$bin/hmm-place" count $server $SIZE remote)
	after=$((after + n))
	read -r t n < <("$bin/hmm-place" count $client $SIZE local)
	after=$((after + n)) touched=$((2 * t))
	wait $client || { cat "$log/client" >&2; return 1; }
	wait $server || { cat "$log/server" >&2; return 1; }
	echo Y > $enable
	bw=$(awk -v s=$SIZE '$1 == s { print $4 }' "$log/client")
	[ -n "$bw" ] || { cat "$log/client" >&2; return 1; }
	printf '{"work": "%s", "size": %d, "place": "%s", "touched": %d, "before": %d, "after": %d, "bounced": %d, "bw_mb_s": %s}\n' \
		"$program" $SIZE "$place" $touched $before $after $((before - after)) "$bw" >> "$results"
	rm -r "$log"
}

: > "$results"
"$bin/hmm-run" --rounds 3 1 >> "$results"
"$bin/hmm-run" --rounds 1 64 >> "$results"
for program in ib_read_bw ib_write_bw; do
	for place in ram peer off; do
		perftest $program $place
	done
done
cat /sys/kernel/debug/hmm_p2p/hmm_dummy0/{counters,migrations} > "$(dirname "$results")/counters"
