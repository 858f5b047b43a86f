# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# RDMA programs as Debian has them, and the tool that lets them use memory on a GPU.

rdma_odp() { "$HMM_P2P_TOP/build/bin/rdma-odp" "$@"; }

as_user() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }

says() { # TEXT COMMAND...: it fails, and says so
	local text=$1
	shift
	! "$@" 2> /run/says && grep -qF -- "$text" /run/says
}

shows() { # TEXT
	rdma_odp show rxe0 | grep -qF -- "$1"
}

as_json() { # EXPRESSION: about the first device
	rdma_odp -j | python3 -c 'import json, sys
d = json.load(sys.stdin)[0]
sys.exit(not eval(sys.argv[1]))' "$1"
}

suite_rdma_odp() {
	local pid
	plan 13
	check off_at_first shows "rxe0: regions on demand: off"
	check on rdma_odp set rxe0 on prefetch
	check is_on shows "rxe0: regions on demand: on prefetch"
	check json as_json '(d["device"] == "rxe0" and d["processes"] == [] and
		d["regions_on_demand"] == {"on": True, "prefetch": True, "partial": False})'
	# Debian's own command tells of the regions, too.
	ibv_rc_pingpong -g 1 -s 65536 > /run/pingpong 2>&1 &
	pid=$!
	check region wait_for shows "pid $pid ibv_rc_pingpong: odp_by_device 1 (64 KiB)"
	check region_json as_json 'd["processes"][0]["odp_by_device"] == {"regions": 1, "bytes": 65536}'
	check stock_tool eval "rdma resource show mr | grep -q 'pid $pid comm ibv_rc_pingpong'"
	kill $pid
	wait $pid 2> /dev/null
	check off rdma_odp set rxe0 off
	check is_off shows "rxe0: regions on demand: off"
	check no_device says "no such RDMA device" rdma_odp set rxe1 on
	check no_such_word says "usage: rdma-odp" rdma_odp set rxe0 on now
	check not_alone says "usage: rdma-odp" rdma_odp set rxe0 prefetch
	check unprivileged says "Operation not permitted" \
		as_user "$HMM_P2P_TOP/build/bin/rdma-odp" set rxe0 on
}

hmm_place() { "$HMM_P2P_TOP/build/bin/hmm-place" "$@"; }

# The pages of the mapping of 8 MiB that are somewhere: ram, swap, gpu0, gpu1.
pages_at() { # PLACE
	hmm_place show "$pid" --min 8M | sed -n "s/.* $1=\([0-9]*\).*/\1/p"
}

pages_are() { # PLACE NUMBER
	local n
	n=$(pages_at "$1")
	[ "${n:-0}" -eq "$2" ]
}

no_more() { # PID
	! kill -0 "$1" 2> /dev/null
}

suite_hmm_place() {
	local pid other follower range all=2048
	plan 27
	# It touches nothing of its memory after it has filled it.
	coproc holder { exec python3 -c 'import mmap
m = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.write(b"x" * (8 << 20))
print("ready", flush=True)
input()
print("right" if m[:] == b"x" * (8 << 20) else "wrong", flush=True)
input()'; }
	# shellcheck disable=SC2154
	pid=$holder_PID
	read -r _ <&"${holder[0]}"
	check in_ram pages_are ram $all
	check place eval "hmm_place place $pid --min 8M | grep -q '$pid: $all pages moved, 0 stayed, 0 failed'"
	check on_gpu pages_are gpu0 $all
	check place_again eval "hmm_place place $pid --min 8M | grep -q '$pid: 0 pages moved, $all stayed, 0 failed'"
	check other_gpu eval "hmm_place -j place $pid -m 8192K -g 1 | grep -q '\"moved\":$all'"
	check on_other pages_are gpu1 $all
	check json eval "hmm_place -j show $pid -m 8M | python3 -c '
import json, sys
m = json.load(sys.stdin)[0][\"mappings\"]
sys.exit(len(m) != 1 or m[0][\"gpu\"] != {\"1\": $all} or m[0][\"ram\"] or m[0][\"swap\"])'"
	check back quietly hmm_place back "$pid"
	check is_back pages_are ram $all
	range=$(hmm_place show "$pid" -m 8M | cut -d' ' -f1)
	check range quietly hmm_place place "$pid" -r "${range%-*}-$(printf %x $((0x${range%-*} + 5 * 4096)))"
	check range_only pages_are gpu0 5
	check range_of_nothing says "nothing is mapped there" hmm_place place "$pid" -r "1000-2000"
	check by_name quietly hmm_place place python3 -m 8M
	check named pages_are gpu0 $all
	echo >&"${holder[1]}"
	read -r other <&"${holder[0]}"
	check data test "$other" = right
	# All of it is in RAM now, since the process has read it.  It comes again and again.
	hmm_place follow "$pid" -m 8M -e 20 &
	follower=$!
	check follows wait_for pages_are gpu0 $all
	check not_of_others says "Permission denied" as_user "$HMM_P2P_TOP/build/bin/hmm-place" show "$pid"
	echo >&"${holder[1]}"
	wait "$pid"
	check follow_ends wait "$follower"
	check gone says "there is none, or it has no memory" hmm_place show "$pid"
	check kernel_thread says "there is none, or it has no memory" hmm_place place 2
	check no_name says "there is no process" hmm_place place no-such-program
	check no_gpu says "GPU 7" hmm_place place $$ -g 7
	for other in "show" "show $$ -r 5" "show $$ -m 1X" "place $$ -g -1" "move $$"; do
		# shellcheck disable=SC2086
		says "usage: hmm-place" hmm_place $other || break
	done
	check bad_words test "$other" = "move $$"
	# As a user, of one's own processes, where pagemap does not tell swap from devices.
	chmod 666 /dev/hmm_dummy*
	setpriv --reuid 65534 --regid 65534 --clear-groups python3 -c 'import mmap, time
m = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.write(b"x" * (8 << 20))
time.sleep(10000)' &
	pid=$!
	wait_for pages_are ram $all
	check user_places quietly as_user "$HMM_P2P_TOP/build/bin/hmm-place" place $pid -m 8M
	check user_sees eval "as_user '$HMM_P2P_TOP/build/bin/hmm-place' show $pid -m 8M | grep -q 'ram=0 gpu0=$all'"
	check root_sees pages_are gpu0 $all
	kill $pid
	wait $pid
	check ended no_more $pid
}
