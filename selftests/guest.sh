#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest's part of "make check": runs suites and marks where each begins.
#
# usage: guest.sh SUITE...

set -u
bin=$HMM_P2P_TOP/build/bin/selftests
ko=$HMM_P2P_KERNEL_DIR

# Load hmm_dummy again, with PARAMETERS.
reload() {
	rmmod hmm_dummy && insmod "$ko/hmm_dummy.ko" "$@"
}

# Unloading while pages are on the device and a NIC has them mapped: everything
# comes back to RAM, and nothing of the device is in use any more.
unload() {
	local holder status
	echo "TAP version 13"
	echo "1..4"
	coproc HOLD { "$bin/hold"; }
	holder=$HOLD_PID
	read -r line <&"${HOLD[0]}"
	[ "$line" = ready ] && echo "ok 1 unload.pages_on_device" || echo "not ok 1 unload.pages_on_device: $line"
	# The file that the holder has open keeps the module, not the devices.
	rmmod hmm_dummy 2> /dev/null && echo "not ok 2 unload.refused" || echo "ok 2 unload.refused"
	status=0
	for dev in /sys/bus/pci/drivers/hmm_dummy/0*; do
		echo "${dev##*/}" > /sys/bus/pci/drivers/hmm_dummy/unbind || status=1
	done
	[ $status = 0 ] && ! ls /dev/hmm_dummy* > /dev/null 2>&1 && ! grep -q "hmm_dummy[0-9]" /proc/iomem &&
		echo "ok 3 unload.unbind" || echo "not ok 3 unload.unbind"
	echo go >&"${HOLD[1]}"
	wait "$holder" && echo "ok 4 unload.data_intact" || echo "not ok 4 unload.data_intact"
	rmmod hmm_dummy && insmod "$ko/hmm_dummy.ko" canary=1
}

# Swap, which the machine has none of, and the control groups of memory.
swap_and_cgroups() {
	truncate -s 256M /run/swap && loop=$(losetup --show -f /run/swap) &&
		mkswap "$loop" > /dev/null && swapon "$loop" &&
		{ mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup; } &&
		echo +memory > /sys/fs/cgroup/cgroup.subtree_control
}

# What root is told about who reaches whom, before anybody has tried: each GPU
# about the other.
reach() { # EXPECTED
	local dev n=0 address line
	echo "TAP version 13"
	echo "1..2"
	for dev in 0 1; do
		n=$((n + 1))
		address=$(readlink -f /sys/class/misc/hmm_dummy$((1 - dev))/device)
		line=$(grep "^${address##*/} " /sys/kernel/debug/hmm_p2p/hmm_dummy$dev/reach)
		[ "${line#* }" = "$1" ] && echo "ok $n reach.$dev $line" || echo "not ok $n reach.$dev: $line"
	done
}

tracefs() {
	mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing
}

# Every step that these tests take is seen.
tracepoints() {
	local n=0 event
	local events=(reach alias map unmap invalidate revoke state poison migrate unregister register)
	echo "TAP version 13"
	echo "1..${#events[@]}"
	tracefs && echo > /sys/kernel/tracing/trace && echo 1 > /sys/kernel/tracing/events/hmm_p2p/enable
	"$bin/revoke" -t without_migrating -t cpu_waits_for_reset -t poison > /dev/null
	reload canary=1
	echo 0 > /sys/kernel/tracing/events/hmm_p2p/enable
	for event in "${events[@]}"; do
		n=$((n + 1))
		grep -q " hmm_p2p_$event: exporter=hmm_dummy" /sys/kernel/tracing/trace &&
			echo "ok $n tracepoints.$event" || echo "not ok $n tracepoints.$event"
	done
}

# Where there are nodes its scans take mappings away at any time, and tests count
# those.  The one that wants it switches it on.
echo 0 > /proc/sys/kernel/numa_balancing

for suite; do
	echo "# suite $suite"
	case $suite in
	kunit)
		insmod "$ko/hmm_p2p_kunit.ko"
		cat /sys/kernel/debug/kunit/hmm_p2p_*/results
		rmmod hmm_p2p_kunit
		;;
	cost | iotlb) tracefs && "$bin/$suite" ;;
	tracepoints) tracepoints ;;
	uapi | migrate | odp_stale | progress | numa) "$bin/$suite" ;;
	svm | rdma | revoke) HMM_P2P_EXPECT=reach "$bin/$suite" ;;
	svm_root) HMM_P2P_EXPECT=reach "$bin/svm" ;;
	vma_life) swap_and_cgroups && "$bin/vma_life" ;;
	memory_failure)
		insmod "$ko/hwpoison-inject.ko" && "$bin/memory_failure"
		reload canary=1
		;;
	dead)
		"$bin/dead"
		reload canary=1
		;;
	windows) "$bin/windows" ;;
	mix)
		# Coherent memory in what the command line keeps from the kernel.
		swap_and_cgroups && echo 8 > /proc/sys/vm/nr_hugepages &&
			insmod "$ko/test_hmm.ko" spm_addr_dev0=0x40000000 spm_addr_dev1=0x50000000 &&
			"$bin/mix"
		;;
	reach_switch) reach "reachable bus-address" ;;
	reach_root) reach "reachable host-bridge" ;;
	reach_iommu) reach "reachable iova" ;;
	reach_none) reach "topology" ;;
	svm_iommu)
		# The IOMMU translates for the GPUs, or this would not be that case.
		for dev in /sys/bus/pci/drivers/hmm_dummy/0*; do
			grep -q ^DMA "$dev/iommu_group/type" || continue 2
		done
		HMM_P2P_EXPECT=reach "$bin/svm"
		;;
	svm_unreachable) HMM_P2P_EXPECT=fallback "$bin/svm" ;;
	unload) unload ;;
	rdma_no_kmap)
		reload canary=1 kmap=0 || continue
		HMM_P2P_EXPECT=fallback "$bin/rdma"
		;;
	svm_reserved)
		# Devices without PCI: software that reaches software.
		reload canary=1 reserved=2 reserved_mb=64 || continue
		HMM_P2P_EXPECT=reach HMM_P2P_NO_PCI=1 "$bin/svm"
		;;
	*) echo "no such suite: $suite" ;;
	esac
	echo "# exit $?"
done
