# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The module is unloaded, and a device goes and comes back, under load.

# Unloading while pages are on the device and a NIC has them mapped: everything
# comes back to RAM, and nothing of the device is in use any more.
suite_unload() {
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
	rmmod hmm_dummy && insmod "$ko/hmm_dummy.ko" "${exact[@]}"
}

monitor() { # REQUEST
	local answer
	echo "$1" >&5
	read -r -t 60 answer <&5
	echo "# $1: $answer"
	[ "$answer" = ok ]
}

# Under load on all sides, GPU 1 goes by METHOD and comes back.
go_and_come() { # METHOD DEVICE
	local loader status lossy=()
	[ "$1" = pulled_out ] && lossy=(lossy)
	coproc LOAD { "$bin/load" "${lossy[@]}" 2> /run/load; }
	loader=$LOAD_PID
	read -r -t 120 line <&"${LOAD[0]}"
	check "$1.under_load" test "$line" = ready
	sleep 1
	case $1 in
	unbind) echo "$2" > /sys/bus/pci/drivers/hmm_dummy/unbind ;;
	remove) echo 1 > "/sys/bus/pci/devices/$2/remove" ;;
	monitor) monitor "unplug gpu1" ;;
	pulled_out)
		# It does not answer any more.  A moment later its driver is unbound.
		printf '\x00' | dd of="/sys/bus/pci/devices/$2/config" bs=1 seek=4 conv=notrunc status=none
		sleep 0.2
		echo "$2" > /sys/bus/pci/drivers/hmm_dummy/unbind
		;;
	esac
	status=$?
	check "$1.gone" test $status = 0 -a ! -e /dev/hmm_dummy1 -a ! -e /sys/kernel/debug/hmm_p2p/hmm_dummy1
	sleep 1
	case $1 in
	remove) echo 1 > /sys/bus/pci/rescan ;;
	monitor) monitor "plug gpu1" ;;
	esac
	wait_for test -e "/sys/bus/pci/devices/$2/config"
	check "$1.back" wait_for bind_gpu "$2"
	sleep 1
	echo go >&"${LOAD[1]}"
	wait "$loader"
	status=$?
	cat /run/load
	check "$1.data" test $status = 0
	check "$1.works" quietly "$bin/engine" -t device_to_device -t evicts_the_oldest
}

suite_hotplug() {
	local device method
	exec 5<> "$HMM_P2P_MONITOR"
	device=$(victim)
	plan 20
	for method in unbind remove monitor pulled_out; do
		go_and_come "$method" "$device"
	done
	exec 5>&-
}
