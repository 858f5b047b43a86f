#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Run COMMAND with HMM_BENCH_FILE in its environment: the name of an empty block device that is
# larger than the memory of the machine and takes no room itself.  A program that reads it fills
# the page cache and makes the kernel reclaim memory.  File descriptor 9 alone keeps the device, so
# that it disappears when the last process of COMMAND has ended, in any way.
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
