# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# RDMA programs as Debian has them, on memory that moves to a GPU while they run.  None of them says
# IBV_ACCESS_ON_DEMAND: the device does that for them.

# Where the server runs: on this host, or on the other one of a machine of two.
address=192.0.2.1
[ -z "${HMM_P2P_PEER:-}" ] || address=192.0.2.2

there() { # COMMAND LINE
	if [ -n "${HMM_P2P_PEER:-}" ]; then
		"$HMM_P2P_ON_PEER" "$HMM_P2P_PEER" "$1"
	else
		bash -c "$1"
	fi
}

# Sums over the GPUs of both: faults of peers that a page answered in place, and that were answered in
# RAM; faults of CPUs that brought pages back.
gpu_files() { # FILE
	cat "/sys/kernel/debug/hmm_p2p/hmm_dummy0/$1"
	[ -z "${HMM_P2P_PEER:-}" ] || there "cat /sys/kernel/debug/hmm_p2p/hmm_dummy0/$1"
}
answered() { gpu_files counters | awk '$1 == "aliases" { n += $2 } END { print n + 0 }'; }
fell_back() { gpu_files counters | awk '/^fallback_/ { n += $2 } END { print n + 0 }'; }
brought_back() { gpu_files migrations | awk '$1 == "cpu_faults" { n += $2 } END { print n + 0 }'; }

peer_access() { # Y|N
	echo "$1" > /sys/module/hmm_p2p/parameters/enable
	there "echo $1 > /sys/module/hmm_p2p/parameters/enable"
}

on_demand() { # on|off
	rdma_odp set rxe0 "$1" && there "$HMM_P2P_TOP/build/bin/rdma-odp set rxe0 $1"
}

# Ends with the processes of that name.  The server and the client have the same.
follow_here() { hmm_place follow "$1" -m 64K -e 50 2> /dev/null; }
follow_there() { there "exec $HMM_P2P_TOP/build/bin/hmm-place follow $1 -m 64K -e 50" 2> /dev/null; }

# A server listens: on perftest's port, or with rdma_cm.
ready() {
	there "grep -q ' 00000000:4853 .* 0A ' /proc/net/tcp || rdma resource show cm_id | grep -q LISTEN"
}

# Run a server and its client.  All the time their memory moves to the GPU, without a stop.
both() { # SERVER CLIENT: command lines
	local server client name=${1%% *} status=0
	there "exec timeout 100 $1" > /run/server 2>&1 &
	server=$!
	wait_for ready || echo "# no server"
	# On one host, this follows the client, too.
	follow_there "$name" &
	timeout 100 bash -c "exec $2" > /run/client 2>&1 &
	client=$!
	if [ -n "${HMM_P2P_PEER:-}" ]; then
		wait_for pgrep -f "^$name " > /run/pids
		follow_here "$name" &
	fi
	wait $client || status=$?
	if [ $status != 0 ]; then
		kill $server 2> /dev/null
		sed 's/^/# client: /' /run/client | tail -5
	fi
	wait $server || status=$?
	[ $status = 0 ] || sed 's/^/# server: /' /run/server | tail -5
	wait
	return $status
}

# A command line with @N, the number of its messages, that many times.
longer() { # TIMES COMMAND-LINE
	local before=${2%%@*} n=${2#*@}
	if [ "$before" = "$2" ]; then echo "$2"; else echo "$before$((${n%% *} * $1)) ${n#"${n%% *}"}"; fi
}

# The NIC reached memory on the GPU, and no page went to RAM for it.  A program that has ended
# before that sends more.
in_place() { # SERVER CLIENT
	local aliases fallbacks times
	for times in 1 4 16; do
		aliases=$(answered) fallbacks=$(fell_back)
		both "$(longer $times "$1")" "$(longer $times "$2")" || return
		aliases=$(($(answered) - aliases)) fallbacks=$(($(fell_back) - fallbacks))
		echo "# aliases: $aliases, bounced: $fallbacks"
		[ $aliases -gt 0 ] && break
	done
	[ $aliases -gt 0 ] && [ $fallbacks -eq 0 ]
}

# Without peer access the same program is right, and the NIC reaches nothing there.
bounces() { # SERVER CLIENT
	local aliases back status=0
	aliases=$(answered) back=$(brought_back)
	peer_access N
	both "$(longer 1 "$1")" "$(longer 1 "$2")" || status=$?
	peer_access Y
	aliases=$(($(answered) - aliases)) back=$(($(brought_back) - back))
	echo "# aliases: $aliases, brought back: $back"
	[ $status = 0 ] && [ $aliases -eq 0 ] && [ $back -gt 0 ]
}

# The server and the client of a program that take the same options.
program() { # NAME PROGRAM [OPTION...]
	local name=$1
	shift
	check "$name" in_place "$*" "$* $address"
}

suite_perftest() {
	local common=(-F -s 65536 -n @1000) lat=(-F -s 65536 -n @300)
	plan 19
	check switch on_demand on
	program send_bw ib_send_bw "${common[@]}"
	program write_bw ib_write_bw "${common[@]}"
	program read_bw ib_read_bw "${common[@]}"
	program send_lat ib_send_lat "${lat[@]}"
	program write_lat ib_write_lat "${lat[@]}"
	program read_lat ib_read_lat "${lat[@]}"
	program atomic_bw ib_atomic_bw -F -n @5000 -A FETCH_AND_ADD
	program atomic_lat ib_atomic_lat -F -n @300 -A CMP_AND_SWAP
	program send_uc ib_send_bw "${common[@]}" -c UC
	program write_uc ib_write_bw "${common[@]}" -c UC
	program send_ud ib_send_bw -F -s 1024 -n @10000 -c UD
	program events ib_send_bw "${common[@]}" -e
	program inline ib_write_bw -F -s 64 -n @20000 -I 64
	program srq ib_send_bw "${common[@]}" --use-srq
	program bidirectional ib_write_bw "${common[@]}" -b
	program eight_qps ib_write_bw "${common[@]}" -q 8
	program cm ib_write_bw "${common[@]}" -R
	check control bounces "ib_write_bw ${common[*]}" "ib_write_bw ${common[*]} $address"
}

suite_verbs_examples() {
	plan 9
	check switch on_demand on
	program rc_pingpong ibv_rc_pingpong -g 1 -s 65536 -n @300
	program uc_pingpong ibv_uc_pingpong -g 1 -s 65536 -n @300
	program ud_pingpong ibv_ud_pingpong -g 1 -s 1024 -n @300
	program srq_pingpong ibv_srq_pingpong -g 1 -s 65536 -n @300
	program implicit ibv_rc_pingpong -g 1 -s 65536 -n @300 -O
	check rping in_place "rping -s -a $address -C @100 -S 65000 -v" "rping -c -a $address -C @100 -S 65000 -v"
	check ucmatose in_place "ucmatose -C @100 -S 65536 -c 2" "ucmatose -s $address -C @100 -S 65536 -c 2"
	check control bounces "ibv_rc_pingpong -g 1 -s 65536 -n @300" "ibv_rc_pingpong -g 1 -s 65536 -n @300 $address"
}

# What the other suites do on one host, on two.
suite_two_hosts() {
	local common=(-F -s 65536 -n @500)
	plan 7
	check switch on_demand on
	program write_bw ib_write_bw "${common[@]}"
	program read_bw ib_read_bw "${common[@]}"
	program send_bw ib_send_bw "${common[@]}"
	program cm ib_write_bw "${common[@]}" -R
	check rping in_place "rping -s -a $address -C @100 -S 65000 -v" "rping -c -a $address -C @100 -S 65000 -v"
	check control bounces "ib_write_bw ${common[*]}" "ib_write_bw ${common[*]} $address"
}
