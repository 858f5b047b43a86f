# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# fio, as Debian has it.

# What fio did: total I/Os of a JSON result, or nothing if a job failed.
fio_ios() {
	python3 -c 'import json, sys
jobs = json.load(open(sys.argv[1]))["jobs"]
print("" if any(j["error"] for j in jobs)
      else sum(j["read"]["total_ios"] + j["write"]["total_ios"] for j in jobs))' "$1"
}

counter() { # NAME
	cat /sys/kernel/debug/hmm_p2p/hmm_dummy0/{counters,migrations} | sed -n "s/^$1 //p"
}

# fio, as it comes: the data is right, and buffers that live on the device stay there.
suite_fio() {
	local jobs=$HMM_P2P_TOP/tools/hmm-bench/jobs ios moved faults
	plan 4
	check verify fio --aux-path=/run --output=/run/verify.json --output-format=json "$jobs/verify.fio"
	ios=$(fio_ios /run/verify.json)
	check verified_all test "${ios:-0}" -ge $((3 * 2 * 128))
	# The first access of the device brings the buffers to it.  The CPU touches none after that.
	echo Y > /sys/module/hmm_dummy/parameters/migrate_on_fault
	moved=$(counter to_device) faults=$(counter cpu_faults)
	check resident fio --aux-path=/run --output=/run/resident.json --output-format=json "$jobs/resident.fio"
	moved=$(($(counter to_device) - moved)) faults=$(($(counter cpu_faults) - faults))
	echo N > /sys/module/hmm_dummy/parameters/migrate_on_fault
	ios=$(fio_ios /run/resident.json)
	echo "# $ios I/Os of 16 pages: $moved pages came to the device, $faults were taken back"
	# psync has one buffer and io_uring eight.  All of them have come.
	check buffers_stay test "${ios:-0}" -ge 1000 -a "$moved" -ge $((9 * 16)) -a "$moved" -lt 1000 -a "$faults" -lt 1000
}
