# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Suites of injected failures (each call in turn), of broken memory, and of a device that dies.

suite_fail_nth() { "$bin/fail_nth" -T window_open; }
# Windows that are opened when they are asked for.
suite_fail_small_bar() { "$bin/fail_nth" -t window_open; }

suite_memory_failure() {
	insmod "$ko/hwpoison-inject.ko" && "$bin/memory_failure"
	reload "${exact[@]}"
}

suite_dead() {
	"$bin/dead"
	reload "${exact[@]}"
}
