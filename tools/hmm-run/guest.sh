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
PAGES=$((SIZE / 4096))
SECONDS_OF_TRAFFIC=6

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

# The pages of a process that are on the GPU, in mappings that are as large as its buffer.
on_gpu() { # PID
	"$bin/hmm-place" show "$1" --min $SIZE |
		awk '{ for (i = 1; i <= NF; i++) if (sub(/^gpu0=/, "", $i)) n += $i } END { print n + 0 }'
}

# Until a program has a buffer, there is nothing to move.
has_buffer() { # PID
	"$bin/hmm-place" show "$1" --min $SIZE | grep -q .
}

place() { # PID
	"$bin/hmm-place" place "$1" --min $SIZE > /dev/null
}

# Run a perftest program as server and client, with the buffers in PLACE.
perftest() { # PROGRAM PLACE
	local program=$1 place=$2 log server client
	local args=(-F -s "$SIZE" -t 4 -D "$SECONDS_OF_TRAFFIC")
	local before=0 after=0 bw
	log=$(mktemp -d)

	say "$program, buffers: $place"
	[ "$place" != off ] || echo N > $enable
	"$program" "${args[@]}" > "$log/server" 2>&1 &
	server=$!
	until_true listening
	"$program" "${args[@]}" 192.0.2.1 > "$log/client" 2>&1 &
	client=$!
	if [ "$place" != ram ]; then
		until_true has_buffer $client
		until_true has_buffer $server
		# Let transfers under way finish, so that "before" is right.
		kill -STOP $client
		sleep 0.4
		place $server
		place $client
		before=$(($(on_gpu $server) + $(on_gpu $client)))
		kill -CONT $client
	fi
	# Count while the programs still transfer data.
	sleep 1.5
	after=$(($(on_gpu $server) + $(on_gpu $client)))
	wait $client || { cat "$log/client" >&2; return 1; }
	wait $server || { cat "$log/server" >&2; return 1; }
	echo Y > $enable
	bw=$(awk -v s=$SIZE '$1 == s { print $4 }' "$log/client")
	[ -n "$bw" ] || { cat "$log/client" >&2; return 1; }
	printf '{"work": "%s", "size": %d, "place": "%s", "touched": %d, "before": %d, "after": %d, "bounced": %d, "bw_mb_s": %s}\n' \
		"$program" $SIZE "$place" $((2 * PAGES)) $before $after $((before - after)) "$bw" >> "$results"
	rm -r "$log"
}

: > "$results"
# perftest says nothing of on-demand paging.
"$bin/rdma-odp" set rxe0 on
"$bin/hmm-run" --rounds 3 1 >> "$results"
"$bin/hmm-run" --rounds 1 64 >> "$results"
for program in ib_read_bw ib_write_bw; do
	for place in ram peer off; do
		perftest $program $place
	done
done
cat /sys/kernel/debug/hmm_p2p/hmm_dummy0/{counters,migrations} > "$(dirname "$results")/counters"
