# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# hmm-bench itself: its figures, its files, what it refuses; and times that tests compare.

# Print the names of the results that are good.  Such a result is complete.  In a figure, each
# variant and size has the same number of samples, three or more, and each sample has the same
# number of latencies.  No sample is 0.  With less than eight samples each verdict is "undecided".
# One call checks all results, because the interpreter takes two seconds to start.
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

# Of a figure one variant over another, at least.  It is less if its whole interval is below.
bench_ratio() { # FILE FIGURE OVER UNDER LEAST
	python3 -c 'import json, sys
path, name, over, under, least = sys.argv[1:]
ratio = [r["ratio"] for f in json.load(open(path))["figures"] if f["name"] == name
         for r in f["ratios"] if (r["over"], r["under"]) == (over, under)][0]
print("#", name, over, "/", under, *(round(ratio[key], 2) for key in ("value", "low", "high")))
sys.exit(ratio["high"] < float(least))' "$@"
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

# Write two results.  In the second one all samples are 3 % higher, and its interval overlaps that
# of the first; with "half", only the upper half of its samples is higher.
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

# Two at the same time.  One of them ends before the other.
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

# It ends by Ctrl-C after a round, says so, and what there is is in the result.
bench_interrupted() { # FILE COMMAND...
	local file=$1 bench code=0
	shift
	# Bash lets background commands ignore SIGINT.
	(trap - INT; exec "$HMM_P2P_TOP/build/bin/hmm-bench" -r 100000 -w 1 -t 600 -l 4 \
		-o "$file" "$@") > /dev/null 2> /run/progress &
	bench=$!
	wait_for grep -q ": [1-9][0-9]* rounds" /run/progress
	kill -INT "$bench"
	wait "$bench" || code=$?
	cat /run/progress
	[ $code = 130 ] && grep -q '"complete": false' "$file" && grep -q '"samples": \[$' "$file"
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

# The first client of fio hangs, as some do (tools/hmm-bench/fio.c), and another one is tried.
bench_client_hangs() { # COMMAND...
	mkdir /run/hangs
	cat > /run/hangs/fio <<- end
		#!/bin/sh
		case "\$*" in *--section=*) ! mkdir /run/hangs/once 2> /dev/null || exec sleep 3600 ;; esac
		exec $(command -v fio) "\$@"
	end
	chmod 755 /run/hangs/fio
	PATH=/run/hangs:$PATH "$@" && [ -d /run/hangs/once ]
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
suite_bench_engine() {
	local command bench=$HMM_P2P_TOP/build/bin/hmm-bench
	plan 9
	[ -e /dev/hmm_dmirror0 ] || insmod "$ko/test_hmm.ko"
	# The machine of the suite bench has BARs that show windows, and so cannot run these.
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
suite_bench_faults() {
	plan 1
	check counted "$HMM_P2P_TOP/build/bin/hmm-bench" -r 3 -w 0 -t 1 -l 2 fault
}

# Each command of hmm-bench for a moment: it looks itself at the data, and where it is.
suite_bench() {
	local command bench=$HMM_P2P_TOP/build/bin/hmm-bench jobs=$HMM_P2P_TOP/tools/hmm-bench/jobs
	local short=(-r 3 -w 0 -t 1 -l 2) enable=/sys/module/hmm_p2p/parameters/enable
	local alone=(migrate fault map invalidate revoke load oversub stock)
	local results=("${alone[@]}" migrate.threads fault.threads scale rdma fio)
	local thp=/sys/kernel/mm/transparent_hugepage/enabled
	plan 67
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
	check fio.client_hangs bench_client_hangs "$bench" "${short[@]}" fio "$jobs/rdma.fio"
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
	check interrupted bench_interrupted /run/interrupted.json map
	check interrupted.fio bench_interrupted /run/interrupted.fio.json fio "$jobs/resident.fio"
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
	# The checkout may be in a folder that other users must not read.
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

suite_speed() {
	local device
	echo 0 > /sys/module/hmm_dummy/parameters/fault_around_kb
	device=$(victim)
	echo "$device" > /sys/bus/pci/drivers/hmm_dummy/unbind
	bind_gpu "$device"
	"$bin/speed"
}
