# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What suites of several files use.  selftests/guest.sh reads this file first.

bin=$HMM_P2P_TOP/build/bin/selftests
ko=$HMM_P2P_KERNEL_DIR

# Tests that count pages want those, and no others, that they touch.
exact=(canary=1 fault_around_kb=0)

# Load hmm_dummy again, with PARAMETERS.
reload() {
	rmmod hmm_dummy && insmod "$ko/hmm_dummy.ko" "$@"
}

# A suite of checks in the shell: plan N; then check NAME COMMAND...
plan() {
	checks=0
	echo "TAP version 13"
	echo "1..$1"
}

check() {
	local name=$1
	shift
	checks=$((checks + 1))
	if "$@"; then echo "ok $checks $suite.$name"; else echo "not ok $checks $suite.$name: $*"; fi
}

quietly() { "$@" > /run/quietly 2>&1; }

# For up to a minute.
wait_for() {
	local i
	for ((i = 0; i < 600; i++)); do
		"$@" && return
		sleep 0.1
	done
	return 1
}

# The control groups of memory.
cgroups() {
	{ mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup; } &&
		echo +memory > /sys/fs/cgroup/cgroup.subtree_control
}

# And swap, which the machine has none of.
swap_and_cgroups() {
	truncate -s 256M /run/swap && loop=$(losetup --show -f /run/swap) &&
		mkswap "$loop" > /dev/null && swapon "$loop" && cgroups
}

# For tests that keep processes on some memory nodes, and fill one.  Swap is a file in memory here
# (see above): when memory runs short that would be swapped out to itself.
cpusets() {
	swapoff -a && { mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup; } &&
		echo "+cpuset +memory" > /sys/fs/cgroup/cgroup.subtree_control
}

# mm/hmm_p2p/tests/race.c: it makes a function linger where another would overtake it.
race_module() {
	[ -e /sys/kernel/debug/hmm_p2p_race ] || insmod "$ko/hmm_p2p_race.ko"
}

# Where GPU 1 is on the bus, or was.
victim() { basename "$(readlink -f /sys/class/misc/hmm_dummy1/device)"; }

bind_gpu() { # ADDRESS
	echo hmm_dummy > "/sys/bus/pci/devices/$1/driver_override"
	echo "$1" > /sys/bus/pci/drivers_probe
	[ -e "/sys/bus/pci/devices/$1/driver" ]
}

# What a device that cannot do it says to export, or to import.
cannot() { # export|import
	HMM_P2P_CANNOT=$1 "$bin/dmabuf" -t cannot
}
