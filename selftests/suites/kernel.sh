# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# KUnit, and the kernel's own tests of HMM.

kunit_suites() { # GLOB
	printf %s "$1" > /sys/module/kunit/parameters/filter_glob &&
		insmod "$ko/hmm_p2p_kunit.ko" &&
		cat /sys/kernel/debug/kunit/hmm_p2p_*/results &&
		rmmod hmm_p2p_kunit
}

suite_kunit() {
	local glob
	for glob in "${kunit_globs[@]}"; do
		kunit_suites "$glob" || return
	done
	[ ${#kunit_globs[@]} = 0 ] || return 0
	# Results come when all have run: wait, watch and window, which take longest, apart.
	kunit_suites 'hmm_p2p_[!w]*' && kunit_suites 'hmm_p2p_w*'
}
suite_kunit_core() { suite_kunit; }

# The kernel's own HMM tests, on this driver: devices as they expect them.
hmm_tests() {
	rmmod hmm_dummy
	insmod "$ko/hmm_dummy.ko" dmirror=1 reserved=2 reserved_mb=320 \
		coherent=0x40000000,0x50000000 coherent_mb=256 &&
		"$bin/hmm-tests" "$@"
}

# On this kernel its benchmark takes a minute, and says nothing.
suite_hmm_tests() { hmm_tests -T benchmark_thp_migration; }
suite_hmm_benchmark() { hmm_tests -t benchmark_thp_migration; }

suite_hmm_tests_off() {
	echo N > /sys/module/hmm_p2p/parameters/enable
	hmm_tests -t double_map
	echo Y > /sys/module/hmm_p2p/parameters/enable
}
