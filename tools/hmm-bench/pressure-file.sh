#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# A block device of more than there is memory, with nothing on it, which takes no room itself:
# who reads it fills the page cache, and has the kernel reclaim it.  Prints its name.
set -e
file=$(mktemp)
truncate -s 16G "$file"
exec losetup --find --show "$file"
