# SPDX-License-Identifier: GPL-2.0
# TAP for shell tests: "t NAME COMMAND..." is a test that passes if COMMAND succeeds.
# shellcheck shell=bash

export TOP
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
n=0

t() {
	local name=$1
	shift
	n=$((n + 1))
	if "$@" > "$TMP/log" 2>&1; then
		echo "ok $n $name"
	else
		echo "not ok $n $name"
		sed 's/^/# /' "$TMP/log"
	fi
}

done_testing() { echo "1..$n"; }

# The command exits with STATUS and prints one line, which contains TEXT, to stderr.
refuses() { # STATUS TEXT COMMAND...
	local want=$1 text=$2 status=0
	shift 2
	"$@" > "$TMP/out" 2> "$TMP/err" || status=$?
	cat "$TMP/out" "$TMP/err"
	[ $status = "$want" ] && [ "$(wc -l < "$TMP/err")" = 1 ] && grep -qF -- "$text" "$TMP/err"
}
