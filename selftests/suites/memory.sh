# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What mm does to memory that is on a device: swap, control groups, nodes, KSM, userfaultfd.

suite_uffd() { race_module && "$bin/uffd"; }
suite_vma_life() { swap_and_cgroups && "$bin/vma_life"; }
suite_numa() { cpusets && "$bin/numa"; }

suite_soak() {
	swap_and_cgroups && echo 1 > /sys/kernel/mm/ksm/run && "$bin/soak"
}

suite_mix() {
	# Coherent memory in what the command line keeps from the kernel.
	swap_and_cgroups && echo 8 > /proc/sys/vm/nr_hugepages &&
		insmod "$ko/test_hmm.ko" spm_addr_dev0=0x40000000 spm_addr_dev1=0x50000000 &&
		"$bin/mix"
}
