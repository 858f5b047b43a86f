# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Races, and what the other suites left behind: KCSAN and kmemleak.

suite_races() { race_module && "$bin/races" -T reclaim_first_use; }
suite_races_small_bar() { race_module && "$bin/races" -t reclaim_first_use; }

# KCSAN finds two tasks that race with each other.
suite_kcsan_finds() {
	local writer
	plan 1
	race_module
	for writer in 1 2; do echo $writer > /sys/kernel/debug/hmm_p2p_race/plant & done
	wait
	dmesg > /run/dmesg
	check planted grep -q "KCSAN: data-race in plant_write" /run/dmesg
}

# By now kmemleak may have switched itself off, and would find nothing.  In a shell of its own:
# the end of a child of ours is a signal, at which a scan ends without a word.
kmemleak_scan() { (echo scan > /sys/kernel/debug/kmemleak); }

# What the suites before left behind, and something that was lost on purpose: kmemleak
# needs to look twice, and takes nothing into account that is younger than 5 s.
suite_leaks() {
	plan 3
	race_module
	echo > /sys/kernel/debug/hmm_p2p_race/leak
	kmemleak_scan
	sleep 6
	check looks kmemleak_scan
	# Read the file once: the kernel goes through all objects for each read.
	cat /sys/kernel/debug/kmemleak > /run/kmemleak
	awk -v RS="unreferenced object " '!/leak_write/' /run/kmemleak > /run/leaks
	sed 's/^/# /' /run/leaks
	echo "# of what was lost on purpose: $(grep -c leak_write /run/kmemleak)"
	check finds_lost grep -q leak_write /run/kmemleak
	check none_of_ours eval '! grep -E "hmm_|umem_odp|rxe_odp" /run/leaks'
}
