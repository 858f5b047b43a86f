#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# scripts/vm: what it refuses, what it hands back, what it notices.
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

# Arguments with anything in them arrive as they are.
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

# The command succeeds, but the kernel complains.
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
t "share that is not there" refuses 2 "--share: not a folder" "$vm" --share /nowhere -- true
t "no command and no terminal" refuses 2 "no command" "$vm" < /dev/null
t "stray word" refuses 2 "commands go behind --" "$vm" true
t "output and exit status come back" hands_back
t "arguments arrive as they are" quoting
t "read-only root, writable share" file_system
t "faults in the kernel log fail the run" notices_faults
t "a panic fails the run" notices_panic
t "timeout" times_out
t "edu, IOMMU and GPU together" edu_is_there
done_testing
