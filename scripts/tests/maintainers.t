#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of MAINTAINERS: the kernel's scripts can read it, and each file is in one section.
# shellcheck source=scripts/tests/tap.sh
. "$(dirname "$0")/tap.sh"

KERNEL=$("$TOP/scripts/tree" source)
cd "$TOP" || exit 1

# Sections are sorted by title, and lines by letter and name.
is_sorted() {
	"$KERNEL/scripts/parse-maintainers.pl" --input=MAINTAINERS --output="$TMP/sorted" \
		--section="$TMP/sections" && diff MAINTAINERS "$TMP/sorted"
}

one_section() {
	local f n status=0
	while read -r f; do
		[ -e "$f" ] || continue
		n=$("$KERNEL/scripts/get_maintainer.pl" --no-tree --mpath=MAINTAINERS --nogit \
			--nogit-fallback --no-email --no-l --sections -f "$f" | grep -c '^S:')
		[ "$n" = 1 ] || { echo "$f is in $n sections"; status=1; }
	done < <(git ls-files)
	return $status
}

names_files() {
	local pattern status=0
	while read -r pattern; do
		compgen -G "$pattern" > /dev/null || { echo "there is no $pattern"; status=1; }
	done < <(sed -n 's/^F:\t//p' MAINTAINERS)
	return $status
}

# Check what the series adds to the kernel's file.  It must name no person.
as_in_series() {
	diff <(sed -n '/^HMM P2P - PEER/,/^$/p' MAINTAINERS | grep . | grep -v patches/) \
		<(sed -n '/^+HMM P2P/,/^+$/s/^+//p' patches/*-Hook-up-*.patch | grep . |
			sed 's,tools/testing/selftests/hmm_p2p/,selftests/,') &&
		! grep -n '^[MR]:' MAINTAINERS
}

t "MAINTAINERS is in the kernel's order" is_sorted
t "each file is in one section" one_section
t "each pattern names files" names_files
t "its first section is that of the series" as_in_series
done_testing
