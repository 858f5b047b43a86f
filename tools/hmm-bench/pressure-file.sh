#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Run COMMAND with HMM_BENCH_FILE in its environment: the name of a block device of more than
# there is memory, with nothing on it, which takes no room itself.  A program that reads it fills
# the page cache, and has the kernel reclaim it.  The device goes when the last process ends that
# COMMAND has started, however it ends: this file descriptor is all that keeps it.
#
# usage: pressure-file.sh COMMAND [ARGUMENT...]
set -e
file=$(mktemp)
trap 'rm -f "$file"' EXIT
truncate -s 16G "$file"
HMM_BENCH_FILE=$(losetup --find --show "$file")
exec 9< "$HMM_BENCH_FILE"
losetup --detach "$HMM_BENCH_FILE"
rm "$file"
trap - EXIT
export HMM_BENCH_FILE
exec "$@"
