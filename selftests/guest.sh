#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest's part of "make check": runs suites and marks where each begins.  A suite is
# the function suite_NAME of a file in suites/, or else the program NAME as it is.
#
# usage: guest.sh [--kunit GLOBS] SUITE...
# --kunit GLOBS: of KUnit's tests only those that match (SUITE.TEST, as in kunit.filter_glob),
# loaded once for each GLOB.  Blanks separate them.

# shellcheck source-path=SCRIPTDIR

set -u
here=${BASH_SOURCE[0]%/*}
. "$here/suites/lib.sh"
. "$here/suites/bench.sh"
. "$here/suites/dmabuf.sh"
. "$here/suites/edu.sh"
. "$here/suites/engine.sh"
. "$here/suites/failures.sh"
. "$here/suites/fio.sh"
. "$here/suites/hotplug.sh"
. "$here/suites/kernel.sh"
. "$here/suites/memory.sh"
. "$here/suites/power.sh"
. "$here/suites/programs.sh"
. "$here/suites/races.sh"
. "$here/suites/rdma.sh"
. "$here/suites/rdma_programs.sh"
. "$here/suites/samples.sh"
. "$here/suites/svm.sh"
. "$here/suites/tracepoints.sh"

run_suite() { # NAME
	if declare -F "suite_$1" > /dev/null; then
		"suite_$1"
	elif [ -x "$bin/$1" ]; then
		"$bin/$1"
	else
		echo "no such suite: $1"
		return 1
	fi
}

# Where there are nodes its scans take mappings away at any time, and tests count
# those.  The one that wants it switches it on.
echo 0 > /proc/sys/kernel/numa_balancing
# A CPU was seen to trap at an optimized probe that had just been removed.
[ ! -e /proc/sys/debug/kprobes-optimization ] || echo 0 > /proc/sys/debug/kprobes-optimization

kunit_globs=()
if [ "${1:-}" = --kunit ]; then
	read -ra kunit_globs <<< "$2"
	shift 2
fi

for suite; do
	echo "# suite $suite"
	run_suite "$suite"
	echo "# exit $?"
done

# The machine restarts with the driver in use: see suites/power.sh.
[ ! -e /run/hmm_p2p/restart ] || exit 0

# When a device goes, its driver looks a last time whether free memory was written to.
! grep -q "^hmm_dummy " /proc/modules || rmmod hmm_dummy || exit 1

# What of our code ran, for scripts/coverage.  The files have no size until they are read.
if [ -n "${HMM_P2P_GCOV:-}" ]; then
	find /sys/kernel/debug/gcov -name '*.gcda' | while read -r file; do
		path=$HMM_P2P_GCOV/$1/${file##*/obj-gcov/}
		mkdir -p "${path%/*}" && cat "$file" > "$path"
	done
fi
