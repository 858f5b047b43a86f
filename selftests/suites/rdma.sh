# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The NIC in the memory of a GPU: memory regions, windows that go, writes that arrive late.

suite_rdma() { HMM_P2P_EXPECT=reach "$bin/rdma"; }

suite_rdma_no_kmap() {
	# Not what is about memory in RAM.
	reload "${exact[@]}" kmap=0 || return 1
	HMM_P2P_EXPECT=fallback "$bin/rdma" -T shapes_in_ram -T written_pages_are_dirty \
		-T large_regions -T advise_without_odp -T control_bounces
	reload "${exact[@]}"
}

suite_mr() {
	swap_and_cgroups && "$bin/mr" && swapoff -a
}
suite_mr_cost() { cgroups && "$bin/mr_cost"; }

suite_revoke() { HMM_P2P_EXPECT=reach "$bin/revoke"; }
suite_flush() { race_module && "$bin/flush" -T window_closed; }
suite_flush_small_bar() { race_module && "$bin/flush" -t window_closed -t freed_before_it_arrives; }
