#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of scripts/vm and make soak: bad arguments, exit statuses, faults in the kernel log.
# shellcheck source=scripts/tests/tap.sh
. "$(dirname "$0")/tap.sh"

vm=$TOP/scripts/vm
"$TOP/scripts/tree" build release > /dev/null || exit 1

hands_back() {
	local status=0
	"$vm" -- sh -c 'echo out; echo err >&2; exit 7' > "$TMP/out" 2> "$TMP/err" || status=$?
	cat "$TMP/out" "$TMP/err"
	[ $status = 7 ] && [ "$(cat "$TMP/out")" = out ] && [ "$(cat "$TMP/err")" = err ]
}

# Arguments with special characters arrive unchanged.
quoting() {
	# shellcheck disable=SC2016
	"$vm" -- printf '%s|' "a b" "'" '"$HOME"' '' '\n' > "$TMP/out" || return 1
	cat "$TMP/out"
	[ "$(cat "$TMP/out")" = "a b|'|\"\$HOME\"||\\n|" ]
}

file_system() {
	mkdir "$TMP/share"
	"$vm" --share "$TMP/share" -- sh -c "
		! touch /etc/hmm_p2p_was_here 2> /dev/null && touch /tmp/x /var/tmp/x &&
		echo written > $TMP/share/file && cmp $vm $TOP/scripts/vm" || return 1
	[ "$(cat "$TMP/share/file")" = written ] && [ ! -e /etc/hmm_p2p_was_here ]
}

# The command succeeds, but the kernel log has a fault.
notices_faults() {
	local status=0
	"$vm" -- sh -c 'echo "WARNING: CPU: 0 a fault for the test" > /dev/kmsg' 2> "$TMP/err" || status=$?
	cat "$TMP/err"
	[ $status = 125 ] && grep -q "a fault for the test" "$TMP/err" &&
		grep -q "kernel log: .*build/log/vm-" "$TMP/err"
}

notices_panic() {
	local status=0
	"$vm" -- sh -c 'echo c > /proc/sysrq-trigger; sleep 60' 2> "$TMP/err" || status=$?
	cat "$TMP/err"
	[ $status = 125 ] && grep -q "the guest died" "$TMP/err"
}

# A stale write that no test checks for.  The driver warns of it when it releases its memory.
notices_stale_writes() {
	local status=0
	"$vm" --gpus 1 --module-param canary=1 -- sh -c 'python3 -c "
import glob, mmap
bar = glob.glob(\"/sys/bus/pci/drivers/hmm_dummy/0*/resource2\")[0]
with open(bar, \"r+b\") as f:
    mmap.mmap(f.fileno(), 8192)[4096] = 1" && rmmod hmm_dummy' 2> "$TMP/err" || status=$?
	cat "$TMP/err"
	[ $status = 125 ] && grep -q "WARNING: .* hmm_dummy_test_vram_exit" "$TMP/err"
}

times_out() {
	local status=0
	"$vm" --timeout 10 -- sleep 100 2> "$TMP/err" || status=$?
	cat "$TMP/err"
	[ $status = 124 ] && grep -q "timeout after 10 s" "$TMP/err"
}

edu_is_there() {
	"$vm" --edu --gpus 1 --iommu -- sh -c \
		'grep -l 0x11e8 /sys/bus/pci/devices/*/device && [ -e /dev/hmm_dummy0 ] && [ -d /sys/class/iommu/dmar0 ]'
}

# This function runs in the guest.
hotplug_session() {
	local answer request all left gone dev i

	ask() {
		answer=none
		echo "$1" >&5
		read -r -t 60 answer <&5
		echo "$1: $answer"
	}
	gpus() { grep -lx 0x1110 /sys/bus/pci/devices/*/device; }

	exec 5<> "$HMM_P2P_MONITOR"
	for request in hello "" "unplug gpu" "unplug gpu0 now" "unplug dp0" "unplug gpu2" "plug gpu1"; do
		ask "$request"
	done
	# Write far more than a request can have, then end the line.
	head -c 100000 /dev/zero >&5
	echo >&5
	while read -r -t 2 answer <&5; do :; done
	ask "unplug gpu3"

	all=$(gpus)
	[ -e /dev/hmm_dummy1 ] && echo "a driver is bound"
	ask "unplug gpu1"
	left=$(gpus)
	gone=$(grep -vxF "$left" <<< "$all")
	echo "$(wc -l <<< "$all") GPUs, left: $(wc -l <<< "$left"), gone: $(wc -l <<< "$gone")"
	[ ! -e /dev/hmm_dummy1 ] && echo "its driver is gone as well"
	ask "unplug gpu1"
	ask "plug gpu1"
	for ((i = 0; i < 100; i++)); do
		[ "$(gpus)" = "$all" ] && break
		sleep 0.1
	done
	[ "$(gpus)" = "$all" ] && echo "it is back where it was"
	dev=${gone%/device}
	echo hmm_dummy > "$dev/driver_override"
	echo "${dev##*/}" > /sys/bus/pci/drivers_probe
	[ -e "$dev/driver" ] && echo "and has a driver"
	ask "unplug gpu1"
	# Read at once, without starting a program before.
	[ ! -e "$dev" ] && echo "gone again"
}

# Run all tests of hotplug in one guest.
hotplug() {
	"$vm" --hotplug --gpus 2 -- bash -c "$(declare -f hotplug_session); hotplug_session" > "$TMP/hotplug"
}

# The output has these lines in this order, next to each other.
hotplug_said() {
	local want
	want=$(printf '%s\n' "$@")
	cat "$TMP/hotplug"
	[[ $'\n'$(cat "$TMP/hotplug")$'\n' == *$'\n'"$want"$'\n'* ]]
}

# This function runs in the first of two guests.
two_hosts_session() {
	local status=0 answer
	there() { "$HMM_P2P_ON_PEER" "$HMM_P2P_PEER" "$@"; }

	# shellcheck disable=SC2016
	there 'echo "I am $(cat /proc/sys/kernel/hostname)"; echo aside >&2; exit 7' 2> /tmp/aside || status=$?
	echo "status $status, aside: $(cat /tmp/aside)"
	there ip -o -4 addr show rdma0 | grep -o 'inet [^ ]*'
	# A command ends with the program that asked for it.
	timeout 3 "$HMM_P2P_ON_PEER" "$HMM_P2P_PEER" 'echo $$ > /tmp/pid; exec sleep 1000'
	sleep 1
	# shellcheck disable=SC2016
	there 'kill -0 $(cat /tmp/pid)' 2> /dev/null || echo "ended with its caller"
	# All of a long output comes back.
	there head -c 5000000 /dev/zero | wc -c
	exec 5<> "$HMM_P2P_MONITOR"
	echo "kill host2" >&5
	read -r -t 60 answer <&5
	echo "killed: $answer"
}

two_hosts() {
	"$vm" --hosts 2 -- bash -c "$(declare -f two_hosts_session); two_hosts_session" > "$TMP/two_hosts"
}

two_hosts_said() {
	cat "$TMP/two_hosts"
	grep -qxF -- "$1" "$TMP/two_hosts"
}

# The second guest has a fault, and the first one notices nothing.
notices_faults_there() {
	local status=0
	# shellcheck disable=SC2016
	"$vm" --hosts 2 -- sh -c \
		'$HMM_P2P_ON_PEER host2 "echo WARNING: CPU: 0 a fault for the test > /dev/kmsg"' 2> "$TMP/err" || status=$?
	cat "$TMP/err"
	[ $status = 125 ] && grep -q "a fault for the test" "$TMP/err" &&
		grep -q "kernel log: .*-host2.log" "$TMP/err"
}

# make prints the last line.
soak_for() { # MINUTES SEED
	local status=0
	env -u MAKEFLAGS -u MAKELEVEL make -s -C "$TOP" soak MINUTES="$1" SEED="$2" > "$TMP/err" 2>&1 || status=$?
	cat "$TMP/err"
	[ $status = 2 ] && grep -q "^soak: MINUTES and SEED are numbers, not \"$1\" and \"$2\"" "$TMP/err"
}

t "unknown option" refuses 2 "unknown option: --gpu" "$vm" --gpu 1 -- true
t "option without value" refuses 2 "--gpus needs a value" "$vm" --gpus -- true
t "not a number" refuses 2 "not a number from 0 to 8: x" "$vm" --gpus x -- true
t "too many" refuses 2 "not a number from 0 to 8: 9" "$vm" --gpus 9 -- true
t "not a size" refuses 2 "not a size: 1T" "$vm" --vram 1T -- true
t "odd size" refuses 2 "--vram must be a power of two" "$vm" --vram 48M -- true
t "no such topology" refuses 2 "ring: expected switch, root, none" "$vm" --topology ring -- true
t "no such kernel" refuses 2 "fast: expected release, debug" "$vm" --kernel fast -- true
t "unreachable behind a switch" refuses 2 "--unreachable needs --topology root" \
	"$vm" --unreachable --topology switch -- true
t "both at once" refuses 2 "exclude each other" "$vm" --reachable --unreachable -- true
t "a BAR without PCI" refuses 2 "--bar needs a PCI topology" "$vm" --topology none --bar 64M -- true
t "a BAR larger than the memory" refuses 2 "--bar must be" "$vm" --vram 64M --bar 128M -- true
t "half a CPU for each node" refuses 2 "--numa needs" "$vm" --numa --smp 3 -- true
t "instructions of two CPUs" refuses 2 "--icount is for one CPU" "$vm" --icount --smp 2 -- true
t "GPUs without a driver" refuses 2 "--kernel off has no driver" "$vm" --kernel off --gpus 1 -- true
t "nothing to plug" refuses 2 "--hotplug needs" "$vm" --hotplug -- true
t "hot-plugging without PCI" refuses 2 "--hotplug needs" "$vm" --hotplug --gpus 1 --topology none -- true
t "three hosts" refuses 2 "not a number from 1 to 2: 3" "$vm" --hosts 3 -- true
t "two hosts and a shell" refuses 2 "--hosts 2 needs a command" "$vm" --hosts 2
t "rxe on two interfaces" refuses 2 "exclude each other" "$vm" --rxe --rxe-lo -- true
t "share that is not there" refuses 2 "--share: not a folder" "$vm" --share /nowhere -- true
t "no command and no terminal" refuses 2 "no command" "$vm" < /dev/null
t "stray word" refuses 2 "commands go behind --" "$vm" true
t "a soak for no number of minutes" soak_for many 1
t "a soak from no seed" soak_for 1 1,2
t "output and exit status come back" hands_back
t "arguments arrive as they are" quoting
t "read-only root, writable share" file_system
t "faults in the kernel log fail the run" notices_faults
t "a panic fails the run" notices_panic
t "writes to free device memory fail the run" notices_stale_writes
t "timeout" times_out
t "edu, IOMMU and GPU together" edu_is_there
t "a guest with hot-plugging" hotplug
t "requests that do not exist" hotplug_said "hello: error unknown request" ": error unknown request" \
	"unplug gpu: error unknown request" "unplug gpu0 now: error unknown request" \
	"unplug dp0: error unknown request"
t "GPUs that do not exist" hotplug_said "unplug gpu2: error there is no gpu2"
t "a GPU that is there already" hotplug_said "plug gpu1: error gpu1 is not unplugged"
t "a flood of nonsense" hotplug_said "unplug gpu3: error there is no gpu3"
t "unplugged, a GPU is gone" hotplug_said "a driver is bound" "unplug gpu1: ok" "2 GPUs, left: 1, gone: 1" \
	"its driver is gone as well"
t "unplugged twice" hotplug_said "unplug gpu1: error Device 'gpu1' not found"
t "plugged, it is back and works" hotplug_said "plug gpu1: ok" "it is back where it was" "and has a driver"
t "unplugged again" hotplug_said "unplug gpu1: ok" "gone again"
t "two hosts" two_hosts
t "a command on the other host" two_hosts_said "I am host2"
t "its status and its errors" two_hosts_said "status 7, aside: aside"
t "its address" two_hosts_said "inet 192.0.2.2/24"
t "it ends with its caller" two_hosts_said "ended with its caller"
t "all of its output" two_hosts_said 5000000
t "a host that is killed" two_hosts_said "killed: ok"
t "faults of the other host fail the run" notices_faults_there
done_testing
