# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Suites of the migration engine in each topology, and of the dummy's commands.

# The tests of the engine that depend on how devices reach each other.
between=(-t device_to_device -t device_to_device_huge -t all_sources -t device_to_device_off)

suite_engine() { HMM_P2P_EXPECT=reach HMM_P2P_AROUND=0 "$bin/engine"; }
suite_engine_iommu() { HMM_P2P_EXPECT=reach "$bin/engine" "${between[@]}"; }
suite_engine_none() { HMM_P2P_EXPECT=fallback "$bin/engine" "${between[@]}"; }

suite_engine_around() {
	reload canary=1 && HMM_P2P_EXPECT=reach HMM_P2P_AROUND=64 "$bin/engine" -t fault_around \
		-t others_bring_one_page -t fault_splits &&
		HMM_P2P_AROUND=64 "$bin/policy" -t neighbours_come_along &&
		HMM_P2P_EXPECT=reach "$bin/svm"
	reload "${exact[@]}"
}

suite_commands() { race_module && "$bin/commands"; }
suite_commands_small_bar() { "$bin/commands" -v mix; }
suite_rw_small_bar() { "$bin/rw"; }
