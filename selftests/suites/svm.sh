# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Suites of reachability and of devices that use each other's memory, in each topology.

# debugfs tells root whether each GPU reaches the other, before either has tried.
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

suite_reach_switch() { reach "reachable bus-address"; }
suite_reach_root() { reach "reachable host-bridge"; }
suite_reach_iommu() { reach "reachable iova"; }
suite_reach_none() { reach "topology"; }

suite_svm() { HMM_P2P_EXPECT=reach "$bin/svm"; }
suite_svm_root() { suite_svm; }
suite_svm_unreachable() { HMM_P2P_EXPECT=fallback "$bin/svm"; }

suite_svm_iommu() {
	local dev
	# The IOMMU translates for the GPUs, or this would not be that case.
	for dev in /sys/bus/pci/drivers/hmm_dummy/0*; do
		grep -q ^DMA "$dev/iommu_group/type" || return 1
	done
	HMM_P2P_EXPECT=reach "$bin/svm"
}

suite_svm_address() {
	# Memory that lies beyond what the importer can address.
	reload "${exact[@]}" dma_bits=31 || return 1
	reach "address"
	HMM_P2P_EXPECT=fallback HMM_P2P_FALLBACK=fallback_address "$bin/svm"
	cannot import
	reload "${exact[@]}"
}

suite_svm_reserved() {
	# Devices without PCI: software that reaches software.
	reload "${exact[@]}" reserved=2 reserved_mb=64 || return 1
	HMM_P2P_EXPECT=reach HMM_P2P_NO_PCI=1 "$bin/svm"
	reload "${exact[@]}"
}

suite_iotlb() { insmod "$ko/hmm_p2p_umem.ko" && "$bin/iotlb" && rmmod hmm_p2p_umem; }

with_parameters() { # PARAMETERS PROGRAM ARGUMENT...
	local status
	# shellcheck disable=SC2086
	reload "${exact[@]}" $1 || return
	HMM_P2P_EXPECT=reach "$bin/$2" "${@:3}"
	status=$?
	reload "${exact[@]}" && return $status
}

# Memory that begins within a window of the BAR, so that huge pages lie in two.
at_an_offset() { # PROGRAM ARGUMENT...
	with_parameters bar_offset_kb=64 "$@"
}
suite_engine_offset() { at_an_offset engine "${between[@]}"; }
suite_svm_offset() { at_an_offset svm; }
suite_rdma_offset() { at_an_offset rdma; }
suite_revoke_offset() { at_an_offset revoke; }

# A BAR that ends before the memory does: at the end of a huge page, and within one.
suite_border() { with_parameters bar_end_kb=12288 border; }
suite_border_offset() { with_parameters "bar_end_kb=12288 bar_offset_kb=64" border; }
