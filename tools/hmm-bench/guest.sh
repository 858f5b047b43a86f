#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The part of scripts/bench inside of the VM: runs commands of hmm-bench, each with a result file
# of its own in FOLDER.
#
# usage: guest.sh PART FOLDER [OPTION of hmm-bench...]

set -u
part=$1 folder=$2
shift 2
jobs=$HMM_P2P_TOP/tools/hmm-bench/jobs
status=0

[ -e /dev/hmm_dmirror0 ] || insmod "$HMM_P2P_KERNEL_DIR/test_hmm.ko" || exit 1
# NUMA balancing would take mappings away.
echo 0 > /proc/sys/kernel/numa_balancing 2> /dev/null

bench() { # RESULT OPTION... COMMAND [ARGUMENT...]
	local result=$1
	shift
	"$HMM_P2P_TOP/build/bin/hmm-bench" -o "$folder/$result.json" "$@" || status=1
}

under_pressure() { # as bench
	local result=$1
	shift
	"$HMM_P2P_TOP/tools/hmm-bench/pressure-file.sh" \
		"$HMM_P2P_TOP/build/bin/hmm-bench" -o "$folder/$result.json" "$@" || status=1
}

each() { # COMMAND... -- OPTION...
	local commands=()
	while [ "$1" != -- ]; do
		commands+=("$1")
		shift
	done
	shift
	for command in "${commands[@]}"; do
		bench "$command" "$@" "$command"
	done
}

case $part in
main)
	each migrate fault map invalidate -- "$@"
	# With that much memory most commands find a page that no other command has touched.
	bench load "$@" -l 32 load
	under_pressure rdma "$@" rdma "$jobs/pressure.fio"
	bench fio "$@" fio "$jobs/resident.fio" "$jobs/rdma.fio"
	;;
threads) each migrate fault -- "$@" ;;
oversub) each oversub -- "$@" ;;
windows) each revoke -- "$@" ;;
large) each scale -- "$@" ;;
stock | stock-off) bench "$part" "$@" stock ;;
quick)
	each migrate fault map invalidate -- "$@"
	bench rdma "$@" -f loop rdma
	;;
*)
	echo "no such part: $part" >&2
	exit 2
	;;
esac
exit $status
