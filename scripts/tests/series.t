#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# scripts/series: git am takes what it writes, and what it refuses to leave out.
# shellcheck source=scripts/tests/tap.sh
. "$(dirname "$0")/tap.sh"

# The checkout as it is now, in a repository of its own.
copy() {
	rm -rf "$TMP/copy" "$TMP/series"
	git clone -q --shared --no-checkout "$TOP" "$TMP/copy" &&
		(cd "$TOP" && git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$TMP/copy")
}

series() { "$TMP/copy/scripts/series" "$TMP/series"; }

left_out_file() {
	copy && mkdir "$TMP/copy/mm/hmm_p2p/more" && echo > "$TMP/copy/mm/hmm_p2p/more/file.c" &&
		refuses 1 "no patch for mm/hmm_p2p/more/file.c" series
}

no_reproducer() {
	copy && sed -i 's/^subject = "RDMA\/rxe: Copy ODP data/&, and more/' "$TMP/copy/patches/heaps.toml" &&
		refuses 1 "names no reproducer for \"RDMA/rxe: Copy ODP data" series
}

no_such_test() {
	copy && sed -i 's/shapes_in_ram/shapes_in_disk/' "$TMP/copy/patches/heaps.toml" &&
		refuses 1 "selftests/rdma.c has no test shapes_in_disk" series
}

cut_of_nothing() {
	copy && sed -i 's/ death\.o//' "$TMP/copy/mm/hmm_p2p/Makefile" &&
		refuses 1 "mm/hmm_p2p/Makefile has 0 times" series
}

left_out_patch() {
	copy && sed -i '/^existing = "mm\/mmu_notifier/s/mmu_notifier/memremap/' "$TMP/copy/patches/heaps.toml" &&
		refuses 1 "series: patches/series has no" series
}

t "git am takes the series, and our tree comes out" "$TOP/scripts/series-check" am
t "a file of ours that is in no patch is an error" left_out_file
t "so is a patch" left_out_patch
t "so is a fix that names no reproducer" no_reproducer
t "so is a reproducer that is not there" no_such_test
t "so is a cut that finds nothing" cut_of_nothing
done_testing
