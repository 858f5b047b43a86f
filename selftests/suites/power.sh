# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sleep, errors on the bus, and restart.

suite_power() {
	race_module && echo > /sys/kernel/debug/hmm_p2p_race/sleep && "$bin/power"
}

# Only a new scan of the bus finds a device that could not recover from an error.
scan_again() { # ADDRESS
	local device
	echo 1 > "/sys/bus/pci/devices/$1/remove"
	rmmod hmm_dummy && insmod "$ko/hmm_dummy.ko" "${exact[@]}"
	echo 1 > /sys/bus/pci/rescan
	for device in /sys/bus/pci/devices/*; do
		[ "$(cat "$device/vendor" "$device/device" | tr '\n' ' ')" != "0x1af4 0x1110 " ] ||
			bind_gpu "${device##*/}"
	done
}

suite_aer() {
	local device
	device=$(basename "$(readlink -f /sys/class/misc/hmm_dummy0/device)")
	race_module && insmod "$ko/aer_inject.ko" aer_mask_override=1 && "$bin/aer"
	scan_again "$device"
}

# The machine restarts under load on all sides.  guest-init restarts it when guest.sh ends.  A
# fault is in the kernel log, or the machine never goes down.  This is a machine's last suite.
suite_reboot() {
	plan 2
	# The load runs until the machine goes down.
	sleep 3600 | "$bin/load" reboot > /run/load 2>&1 &
	check under_load wait_for grep -q ready /run/load
	check restart touch /run/hmm_p2p/restart
}
