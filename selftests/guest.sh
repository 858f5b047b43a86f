#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest's part of "make check": runs suites and marks where each begins.
#
# usage: guest.sh SUITE...

set -u
bin=$HMM_P2P_TOP/build/bin/selftests
ko=$HMM_P2P_KERNEL_DIR

# Tests that count pages want those, and no others, that they touch.
exact=(canary=1 fault_around_kb=0)
# The tests of the engine that depend on how devices reach each other.
between=(-t device_to_device -t device_to_device_huge -t all_sources -t device_to_device_off)

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

# As the machine was made: a BAR that is smaller than the memory.
slots() {
	grep -o 'vram_mb=[0-9]*' <<< "$HMM_P2P_PARAMS"
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
	rmmod hmm_dummy && insmod "$ko/hmm_dummy.ko" "${exact[@]}"
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

revoke_and_reload() {
	"$bin/revoke" -t without_migrating -t cpu_waits_for_reset -t poison > /dev/null
	reload "${exact[@]}"
}

thrash_windows() {
	"$bin/windows" -t thrash > /dev/null
}

# Every step that WORK takes is seen: EVENTs.
tracepoints() { # WORK EVENT...
	local event work=$1
	shift
	plan $#
	echo > /sys/kernel/tracing/trace
	# No others: there is room for the last ones only.
	for event in "$@"; do
		echo 1 > "/sys/kernel/tracing/events/hmm_p2p/hmm_p2p_$event/enable"
	done
	"$work"
	echo 0 > /sys/kernel/tracing/events/hmm_p2p/enable
	for event in "$@"; do
		check "$event" grep -q " hmm_p2p_$event: exporter=hmm_dummy" /sys/kernel/tracing/trace
	done
}

# Why without optimization: see there.
race_module() {
	[ -e /sys/kernel/debug/hmm_p2p_race ] || insmod "$ko/hmm_p2p_race.ko"
}

# Two who race with each other are found.
kcsan_finds() {
	local writer
	plan 1
	race_module
	for writer in 1 2; do echo $writer > /sys/kernel/debug/hmm_p2p_race/plant & done
	wait
	dmesg > /run/dmesg
	check planted grep -q "KCSAN: data-race in plant_write" /run/dmesg
}

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
fio_jobs() {
	local jobs=$HMM_P2P_TOP/tools/hmm-bench/jobs ios moved faults
	plan 4
	check verify fio --aux-path=/run --output=/run/verify.json --output-format=json "$jobs/verify.fio"
	ios=$(fio_ios /run/verify.json)
	check verified_all test "${ios:-0}" -ge $((3 * 2 * 128))
	# The first access of the device has them come, and then nobody else touches them.
	echo Y > /sys/module/hmm_dummy/parameters/migrate_on_fault
	moved=$(counter to_device) faults=$(counter cpu_faults)
	check resident fio --aux-path=/run --output=/run/resident.json --output-format=json "$jobs/resident.fio"
	moved=$(($(counter to_device) - moved)) faults=$(($(counter cpu_faults) - faults))
	echo N > /sys/module/hmm_dummy/parameters/migrate_on_fault
	ios=$(fio_ios /run/resident.json)
	echo "# $ios I/Os of 16 pages: $moved pages came to the device, $faults were taken back"
	# One buffer of psync and eight of io_uring, all of which have come.
	check buffers_stay test "${ios:-0}" -ge 1000 -a "$moved" -ge $((9 * 16)) -a "$moved" -lt 1000 -a "$faults" -lt 1000
}

# Where GPU 1 is on the bus, or was.
victim() { basename "$(readlink -f /sys/class/misc/hmm_dummy1/device)"; }

bind_gpu() { # ADDRESS
	echo hmm_dummy > "/sys/bus/pci/devices/$1/driver_override"
	echo "$1" > /sys/bus/pci/drivers_probe
	[ -e "/sys/bus/pci/devices/$1/driver" ]
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
		# It does not answer any more, and a moment later somebody notices.
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

hotplug() {
	local device method
	exec 5<> "$HMM_P2P_MONITOR"
	device=$(victim)
	plan 20
	for method in unbind remove monitor pulled_out; do
		go_and_come "$method" "$device"
	done
	exec 5>&-
}

# By now kmemleak may have switched itself off, and would find nothing.  In a shell of its own:
# the end of a child of ours is a signal, at which a scan ends without a word.
kmemleak_scan() { (echo scan > /sys/kernel/debug/kmemleak); }

# What the suites before left behind, and something that was lost on purpose: kmemleak
# needs to look twice, and takes nothing into account that is younger than 5 s.
leaks() {
	plan 3
	race_module
	echo > /sys/kernel/debug/hmm_p2p_race/leak
	kmemleak_scan
	sleep 6
	check looks kmemleak_scan
	# Once: for each read all objects there are have to be gone through.
	cat /sys/kernel/debug/kmemleak > /run/kmemleak
	awk -v RS="unreferenced object " '!/leak_write/' /run/kmemleak > /run/leaks
	sed 's/^/# /' /run/leaks
	echo "# of what was lost on purpose: $(grep -c leak_write /run/kmemleak)"
	check finds_lost grep -q leak_write /run/kmemleak
	check none_of_ours eval '! grep -E "hmm_|umem_odp|rxe_odp" /run/leaks'
}

# Three samples and more of each variant and size, the same number of all in a figure, and as many
# latencies in each of them; none of them 0, nothing left out, and nothing said of less than eight.  Of
# those that are so the names, in one go: the interpreter takes two seconds to begin.
bench_good() { # NAME...
	python3 -c 'import json, sys
for name in sys.argv[1:]:
    try:
        result = json.load(open(f"/run/{name}.json"))
    except (OSError, ValueError) as e:
        print("#", e)
        continue
    good = result["complete"] and result["figures"]
    for f in result["figures"]:
        parts = f.get("variants") or f["points"]
        rounds = len(parts[0]["samples"])
        verdicts = [r["verdict"] for r in f.get("ratios", []) if "goal" in r]
        print("#", f["name"], len(parts), "x", rounds, *verdicts)
        good = good and rounds >= 3
        for p in parts:
            latencies = p.get("latency_ns", {"count": rounds})["count"]
            good = (good and len(p["samples"]) == rounds and min(p["samples"]) > 0
                    and latencies >= rounds and not latencies % rounds)
        good = good and (rounds >= 8 or all(v == "undecided" for v in verdicts))
    if good:
        print(name)' "$@"
}

# Each I/O of fio, with its latency: so many in a round.
bench_ios() { # FILE FIGURE IOS...
	python3 -c 'import json, sys
want = dict(zip(sys.argv[2::2], map(int, sys.argv[3::2])))
figures = json.load(open(sys.argv[1]))["figures"]
found = {(f["name"], v["latency_ns"]["count"] // len(v["samples"]), 0 < v["latency_ns"]["p50"])
         for f in figures for v in f["variants"]}
print("#", *sorted(found))
sys.exit(found != {(name, ios, True) for name, ios in want.items()})' "$@"
}

# Of a figure one variant over another, at least.
bench_ratio() { # FILE FIGURE OVER UNDER LEAST
	python3 -c 'import json, sys
path, name, over, under, least = sys.argv[1:]
ratio = [r["ratio"]["value"] for f in json.load(open(path))["figures"] if f["name"] == name
         for r in f["ratios"] if (r["over"], r["under"]) == (over, under)][0]
print("#", name, over, "/", under, round(ratio, 2))
sys.exit(ratio < float(least))' "$@"
}

# The same with one median of it ten times as much.
bench_worse() { # FILE TO
	python3 -c 'import json, sys
result = json.load(open(sys.argv[1]))
median = result["figures"][0]["variants"][0]["median"]
for key in median:
    median[key] *= 10
json.dump(result, open(sys.argv[2], "w"))' "$@"
}

# The same, as if it had been measured in something else.
bench_other_unit() { # FILE TO
	sed 's,"unit": "[^"]*","unit": "parsecs",' "$1" > "$2"
}

# Two results of which the second is 3 % more, and no more than rounds differ; or only the half of
# its samples is that is larger anyway.
bench_little() { # FILE FIRST SECOND UNIT all|half
	python3 -c 'import json, sys
path, first, second, unit, part = sys.argv[1:]
result = json.load(open(path))
figure = result["figures"][0]
figure["unit"] = unit
for name, factor in (first, 1), (second, 1.03):
    low = 1 if part == "half" else factor
    figure["variants"][0]["median"] = {"value": 100 * low, "low": 98 * low, "high": 104 * factor}
    figure["variants"][0]["samples"] = [100 * low, 104 * factor] * 7 + [100 * low]
    json.dump(result, open(name, "w"))' "$@"
}

no_loop_devices() { [ -z "$(losetup --list)" ]; }

# As many of hmm-bench's instances of the trace; another one has its own.
bench_traces() { # NUMBER
	[ "$(find /sys/kernel/tracing/instances -mindepth 1 -maxdepth 1 -name 'hmm_bench*' | wc -l)" = "$1" ] &&
		{ [ "$1" != 0 ] || ! grep -q hmm_bench /sys/kernel/tracing/kprobe_events; }
}

# Two at the same time, of which one ends before the other.
bench_two() {
	local bench=$HMM_P2P_TOP/build/bin/hmm-bench first status=0 code=0
	"$bench" -r 100000 -w 0 -t 600 -l 2 -f range_fault stock > /run/first.log 2>&1 &
	first=$!
	wait_for [ -e "/sys/kernel/tracing/instances/hmm_bench_$first" ]
	"$bench" -r 3 -w 0 -t 1 -l 2 -f range_fault stock > /run/second.log 2>&1 || status=1
	bench_traces 1 || status=1
	kill -TERM "$first"
	wait "$first" || code=$?
	[ $code = 130 ] || status=1
	bench_traces 0 || status=1
	cat /run/first.log /run/second.log
	return $status
}

# It ends by Ctrl-C, says so, and what there is is in the result.
bench_interrupted() { # FILE SECONDS COMMAND...
	local file=$1 seconds=$2
	shift 2
	timeout --foreground --preserve-status -s INT "$seconds" "$HMM_P2P_TOP/build/bin/hmm-bench" \
		-r 100000 -w 1 -l 4 -o "$file" "$@" > /dev/null
	[ $? = 130 ] && grep -q '"complete": false' "$file" && grep -q '"samples": \[$' "$file"
}

# It ends at once, and what there was is in the result.
bench_killed() { # FILE COMMAND...
	local file=$1 pid
	shift
	"$HMM_P2P_TOP/build/bin/hmm-bench" -r 3 -w 0 -t 1 -l 16 -o "$file" "$@" > /dev/null 2>&1 &
	pid=$!
	wait_for [ -e "$file" ]
	kill -9 "$pid"
	wait "$pid"
	grep -q '"complete": false' "$file" && grep -q '"samples": \[$' "$file"
}

plots() { # RESULT FIGURES
	"$HMM_P2P_TOP/build/bin/hmm-bench" plot "$1" /run/plots &&
		[ "$(grep -l "</svg>" /run/plots/*.svg | wc -l)" = "$2" ]
}

exits_with() { # STATUS COMMAND...
	local want=$1
	shift
	"$@" > /dev/null 2> /run/complaint
	# Besides lines that say how far it is.
	[ $? = "$want" ] && [ "$(grep -vc "^#" /run/complaint)" = 1 ]
}

# The engine against test_hmm, and aliases against the way through RAM: as the goals are, with
# room for a run as short as this.
bench_engine() {
	local command bench=$HMM_P2P_TOP/build/bin/hmm-bench
	plan 9
	[ -e /dev/hmm_dmirror0 ] || insmod "$ko/test_hmm.ko"
	# What the other machine cannot have, whose BAR shows windows.
	check map "$bench" -r 3 -w 1 -t 1 -l 2 -o /run/map.json map
	check map.pinned bench_ratio /run/map.json map.4k peer pinned 1.0
	check loop "$bench" -r 3 -w 0 -t 1 -l 2 -f peer.loop -o /run/loop.json rdma
	check loop.pinned grep -q '"over": "staged"' /run/loop.json
	check engine "$bench" -r 9 -t 20 -l 16 -o /run/engine.json migrate
	for command in 4k huge; do
		check "engine.to_device.$command" bench_ratio /run/engine.json \
			"migrate.to_device.$command" test_hmm hmm_p2p 1.0
		check "engine.between.$command" bench_ratio /run/engine.json \
			"migrate.between.$command" "through RAM" alias 1.2
	done
}

# What hmm-bench measures of faults are faults: it counts them.
bench_faults() {
	plan 1
	check counted "$HMM_P2P_TOP/build/bin/hmm-bench" -r 3 -w 0 -t 1 -l 2 fault
}

# Each command of hmm-bench for a moment: it looks itself at the data, and where it is.
bench() {
	local command bench=$HMM_P2P_TOP/build/bin/hmm-bench jobs=$HMM_P2P_TOP/tools/hmm-bench/jobs
	local short=(-r 3 -w 0 -t 1 -l 2) enable=/sys/module/hmm_p2p/parameters/enable
	local alone=(migrate fault map invalidate revoke load oversub stock)
	local results=("${alone[@]}" migrate.threads fault.threads scale rdma fio)
	local thp=/sys/kernel/mm/transparent_hugepage/enabled
	plan 66
	[ -e /dev/hmm_dmirror0 ] || insmod "$ko/test_hmm.ko"
	for command in "${alone[@]}"; do
		check "$command" "$bench" "${short[@]}" -o "/run/$command.json" "$command"
	done
	for command in migrate fault; do
		check "$command.threads" "$bench" "${short[@]}" -l 4 -j 2 \
			-o "/run/$command.threads.json" "$command"
	done
	# As much as makes enough sizes of threads.
	check scale "$bench" "${short[@]}" -l 16 -o /run/scale.json scale
	check rdma "$HMM_P2P_TOP/tools/hmm-bench/pressure-file.sh" \
		"$bench" "${short[@]}" -o /run/rdma.json rdma "$jobs/pressure.fio"
	check rdma.leaves_nothing wait_for no_loop_devices
	check fio "$bench" "${short[@]}" -o /run/fio.json fio "$jobs/resident.fio" \
		"$jobs/verify.fio" "$jobs/rdma.fio"
	check fio.latencies bench_ios /run/fio.json fio.resident 768 fio.verify 256 fio.rdma 32
	check compare quietly "$bench" compare /run/map.json /run/map.json 2
	bench_worse /run/map.json /run/worse.json
	check compare.worse exits_with 1 "$bench" compare /run/map.json /run/worse.json 2
	bench_little /run/map.json /run/first.json /run/second.json us/page all
	check compare.little quietly "$bench" compare /run/first.json /run/second.json 2
	bench_little /run/map.json /run/first.json /run/second.json "instructions/page" half
	check compare.half exits_with 1 "$bench" compare /run/first.json /run/second.json 2
	bench_little /run/map.json /run/first.json /run/second.json "instructions/page" all
	check compare.counted exits_with 1 "$bench" compare /run/first.json /run/second.json 2
	"$bench" compare /run/first.json /run/first.json > /run/same
	check compare.same eval '! grep -E "  (more|less)$" /run/same'
	bench_other_unit /run/map.json /run/parsecs.json
	check compare.units exits_with 2 "$bench" compare /run/map.json /run/parsecs.json
	check plot plots /run/scale.json 7
	check figure "$bench" "${short[@]}" -f map.huge -o /run/huge.json map
	check figure.alone [ "$(grep -c '"ratios"' /run/huge.json)" = 1 ]
	check config grep -q '"HMM_P2P": "y"' /run/map.json
	check interrupted bench_interrupted /run/interrupted.json 6 map
	check interrupted.fio bench_interrupted /run/interrupted.json 15 fio "$jobs/resident.fio"
	check killed bench_killed /run/killed.json scale
	# What it has left behind the next one removes.
	check killed.trace bench_traces 1
	check traces bench_two
	# What is measured is not what it should be: it says so.
	echo N > "$enable"
	check bounces exits_with 1 "$bench" "${short[@]}" -o /run/bounces.json map
	check bounces.shown grep -q '"why": "0 of 512 pages are on GPU 0' /run/bounces.json
	check stays_off grep -q N "$enable"
	echo Y > "$enable"
	check no_command exits_with 2 "$bench" sing
	check no_figure exits_with 2 "$bench" "${short[@]}" -f map.none map
	check no_number exits_with 2 "$bench" -r many migrate
	check no_memory exits_with 3 "$bench" -l 100000 stock
	check no_memory.device exits_with 3 "$bench" -l 100000 migrate
	# The checkout may be where nobody else may look.
	install -m 755 "$bench" /run/hmm-bench
	check no_permission exits_with 3 setpriv --reuid nobody /run/hmm-bench -l 2 map
	rdma link delete rxe0
	check no_rxe exits_with 3 "$bench" -l 2 rdma
	rdma link add rxe0 type rxe netdev lo
	rmmod hmm_dummy
	check no_device exits_with 3 "$bench" fault
	# shellcheck disable=SC2086
	insmod "$ko/hmm_dummy.ko" $HMM_P2P_PARAMS
	echo never > "$thp"
	check no_huge_pages exits_with 3 "$bench" -r 1 -w 0 -t 1 -l 2 map
	echo madvise > "$thp"
	check no_file exits_with 2 "$bench" -r 3 -t 1 -l 2 -o /nowhere/x fault
	check no_result exits_with 2 "$bench" compare /run/map.json "$jobs/resident.fio"
	check no_figures exits_with 2 "$bench" compare /run/map.json /run/fio.json
	printf '[x]\nioengine=null\nsize=1M\n' > /run/mute.server.fio
	cp "$jobs/rdma.fio" /run/mute.fio
	check no_server exits_with 1 "$bench" "${short[@]}" fio /run/mute.fio
	check no_job exits_with 2 "$bench" "${short[@]}" fio /nowhere/x.fio
	check too_many exits_with 2 "$bench" -o /run/map.json map everything
	check no_threads exits_with 2 "$bench" -j 2 map
	check too_many_threads exits_with 2 "$bench" -l 4 -j 3 migrate
	check makes_none exits_with 2 "$bench" -o /run/map.json compare /run/map.json /run/map.json
	check no_percentage exits_with 2 "$bench" compare /run/map.json /run/map.json much
	# Behind all that was refused: it has left the results as they were.
	bench_good "${results[@]}" > /run/good
	grep "^#" /run/good
	for command in "${results[@]}"; do
		check "$command.result" grep -qx "$command" /run/good
	done
}

kunit_suites() { # PATTERN
	printf %s "$1" > /sys/module/kunit/parameters/filter_glob &&
		insmod "$ko/hmm_p2p_kunit.ko" &&
		cat /sys/kernel/debug/kunit/hmm_p2p_*/results &&
		rmmod hmm_p2p_kunit
}

cannot() { HMM_P2P_CANNOT=$1 "$bin/dmabuf" -t cannot; } # export|import

# The kernel's own HMM tests, on this driver: devices as they expect them.
hmm_tests() {
	rmmod hmm_dummy
	insmod "$ko/hmm_dummy.ko" dmirror=1 reserved=2 reserved_mb=320 \
		coherent=0x40000000,0x50000000 coherent_mb=256 &&
		"$bin/hmm-tests" "$@"
}

# Where there are nodes its scans take mappings away at any time, and tests count
# those.  The one that wants it switches it on.
echo 0 > /proc/sys/kernel/numa_balancing
# A CPU was seen to trap at an optimized probe that had just been removed.
[ ! -e /proc/sys/debug/kprobes-optimization ] || echo 0 > /proc/sys/debug/kprobes-optimization

for suite; do
	echo "# suite $suite"
	case $suite in
	kunit)
		# Results come when all have run: wait, watch and window, which take longest, apart.
		kunit_suites 'hmm_p2p_[!w]*' && kunit_suites 'hmm_p2p_w*'
		;;
	engine) HMM_P2P_EXPECT=reach HMM_P2P_AROUND=0 "$bin/engine" ;;
	engine_iommu) HMM_P2P_EXPECT=reach "$bin/engine" "${between[@]}" ;;
	engine_none) HMM_P2P_EXPECT=fallback "$bin/engine" "${between[@]}" ;;
	engine_around)
		reload canary=1 && HMM_P2P_EXPECT=reach HMM_P2P_AROUND=64 "$bin/engine" -t fault_around \
			-t others_bring_one_page -t fault_splits &&
			HMM_P2P_AROUND=64 "$bin/policy" -t neighbours_come_along &&
			HMM_P2P_EXPECT=reach "$bin/svm"
		reload "${exact[@]}"
		;;
	commands | uffd) race_module && "$bin/$suite" ;;
	dmabuf | dmabuf_root | dmabuf_iommu) "$bin/dmabuf" -T cannot -T many ;;
	# KASAN keeps what is freed for a while; kmemleak looks there.
	dmabuf_many) "$bin/dmabuf" -t many ;;
	dmabuf_small_bar) cannot export ;;
	dmabuf_unreachable) cannot import ;;
	dmabuf_reserved)
		reload "${exact[@]}" reserved=2 reserved_mb=64 && cannot export
		reload "${exact[@]}"
		;;
	dmabuf_no_kmap)
		reload "${exact[@]}" kmap=0 && cannot import
		reload "${exact[@]}"
		;;
	fail_nth) "$bin/fail_nth" -T window_open ;;
	leaks) leaks ;;
	soak)
		swap_and_cgroups && echo 1 > /sys/kernel/mm/ksm/run && "$bin/soak"
		;;
	races) race_module && "$bin/races" -T reclaim_first_use ;;
	races_small_bar) race_module && "$bin/races" -t reclaim_first_use ;;
	kcsan_finds) kcsan_finds ;;
	commands_small_bar) "$bin/commands" -v mix ;;
	rw_small_bar) "$bin/rw" ;;
	# Windows that are opened when they are asked for.
	fail_small_bar) "$bin/fail_nth" -t window_open ;;
	fio) fio_jobs ;;
	hotplug) hotplug ;;
	edu_bus | edu_host_bridge)
		# A BAR that is smaller than the memory has none to be pinned.
		# shellcheck disable=SC2046
		HMM_P2P_EDU=bus "$bin/edu" $([ "$suite" = edu_host_bridge ] || echo "-T pinned")
		# The last test of it has written where it should not, to show that it can.
		# shellcheck disable=SC2046
		reload "${exact[@]}" $(slots)
		;;
	edu_iommu) "$bin/edu" ;;
	edu_no_iova)
		reload "${exact[@]}" no_iova=1 && HMM_P2P_EDU=no-iova "$bin/edu" -T under_way
		reload "${exact[@]}"
		;;
	# On this kernel its benchmark takes a minute, and says nothing.
	hmm_tests) hmm_tests -T benchmark_thp_migration ;;
	hmm_benchmark) hmm_tests -t benchmark_thp_migration ;;
	hmm_tests_off)
		echo N > /sys/module/hmm_p2p/parameters/enable
		hmm_tests -t double_map
		echo Y > /sys/module/hmm_p2p/parameters/enable
		;;
	speed)
		echo 0 > /sys/module/hmm_dummy/parameters/fault_around_kb
		device=$(victim)
		echo "$device" > /sys/bus/pci/drivers/hmm_dummy/unbind
		bind_gpu "$device"
		"$bin/speed"
		;;
	bench) bench ;;
	bench_engine) bench_engine ;;
	bench_faults) bench_faults ;;
	tracepoints)
		tracepoints revoke_and_reload reach alias map unmap invalidate revoke flush state \
			poison migrate unregister register
		;;
	tracepoints_small_bar) tracepoints thrash_windows open_window close_window fallback ;;
	uring | rw | fuzz | oversub | policy | coredump | parked | uapi | migrate | progress | iotlb | \
		odp_stale | batch | watch | mr_flush | windows | fail_plug) "$bin/$suite" ;;
	numa) cpusets && "$bin/numa" ;;
	svm | rdma | revoke) HMM_P2P_EXPECT=reach "$bin/$suite" ;;
	flush) race_module && "$bin/flush" -T window_closed ;;
	flush_small_bar) race_module && "$bin/flush" -t window_closed -t freed_before_it_arrives ;;
	svm_root) HMM_P2P_EXPECT=reach "$bin/svm" ;;
	vma_life) swap_and_cgroups && "$bin/vma_life" ;;
	mr)
		swap_and_cgroups && "$bin/mr" && swapoff -a
		;;
	memory_failure)
		insmod "$ko/hwpoison-inject.ko" && "$bin/memory_failure"
		reload "${exact[@]}"
		;;
	dead)
		"$bin/dead"
		reload "${exact[@]}"
		;;
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
	svm_address)
		# Memory that lies beyond what the importer can address.
		reload "${exact[@]}" dma_bits=31 || continue
		reach "address"
		HMM_P2P_EXPECT=fallback HMM_P2P_FALLBACK=fallback_address "$bin/svm"
		cannot import
		reload "${exact[@]}"
		;;
	svm_unreachable) HMM_P2P_EXPECT=fallback "$bin/svm" ;;
	unload) unload ;;
	rdma_no_kmap)
		# Not what is about memory in RAM.
		reload "${exact[@]}" kmap=0 || continue
		HMM_P2P_EXPECT=fallback "$bin/rdma" -T shapes_in_ram -T written_pages_are_dirty \
			-T large_regions -T advise_without_odp -T control_bounces
		reload "${exact[@]}"
		;;
	svm_reserved)
		# Devices without PCI: software that reaches software.
		reload "${exact[@]}" reserved=2 reserved_mb=64 || continue
		HMM_P2P_EXPECT=reach HMM_P2P_NO_PCI=1 "$bin/svm"
		reload "${exact[@]}"
		;;
	*) echo "no such suite: $suite" ;;
	esac
	echo "# exit $?"
done

# As a device goes, its driver looks a last time whether somebody wrote to free memory.
! grep -q "^hmm_dummy " /proc/modules || rmmod hmm_dummy || exit 1

# What of our code ran, for scripts/coverage.  The files have no size until they are read.
if [ -n "${HMM_P2P_GCOV:-}" ]; then
	find /sys/kernel/debug/gcov -name '*.gcda' | while read -r file; do
		path=$HMM_P2P_GCOV/$1/${file##*/obj-gcov/}
		mkdir -p "${path%/*}" && cat "$file" > "$path"
	done
fi
