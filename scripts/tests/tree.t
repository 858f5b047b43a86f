#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of scripts/tree: errors that it must report, and builds beside those of make build.
# shellcheck source=scripts/tests/tap.sh
. "$(dirname "$0")/tap.sh"

tree=$TOP/scripts/tree

# Make a copy of the checkout, to break it.  It uses the same cache, so no result of the broken
# copy may get the name of a right one.
copy() {
	rm -rf "$TMP/copy"
	mkdir "$TMP/copy"
	(cd "$TOP" && git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$TMP/copy")
}

drops_config() {
	copy
	echo CONFIG_THERE_IS_NO_SUCH_OPTION=y >> "$TMP/copy/configs/release.config"
	refuse_log drops "$TMP/copy/scripts/tree" build release && grep -q THERE_IS_NO_SUCH_OPTION "$TMP/err"
}

# "is not set" is a request, too.
drops_unset() {
	copy
	echo "# CONFIG_MMU is not set" >> "$TMP/copy/configs/release.config"
	refuse_log drops "$TMP/copy/scripts/tree" build release && grep -q CONFIG_MMU "$TMP/err"
}

# A configuration is made again only if something that it is made from has changed.
configures_again() {
	local obj
	obj=$("$tree" objects off mm/hmm.o) || return 1
	cp -p "$obj.config/.config" "$TMP/before"
	"$tree" objects off mm/hmm.o > /dev/null || return 1
	[ ! "$obj.config/.config" -nt "$TMP/before" ] || return 1
	copy
	printf '\nconfig HMM_P2P_ANOTHER\n\tdef_bool y\n' >> "$TMP/copy/mm/hmm_p2p/Kconfig"
	"$TMP/copy/scripts/tree" objects off mm/hmm.o > /dev/null &&
		grep -qx CONFIG_HMM_P2P_ANOTHER=y "$obj/.config" &&
		"$tree" objects off mm/hmm.o > /dev/null && cmp "$obj/.config" "$TMP/before"
}

broken_series() {
	copy
	sed -i '0,/^-[^-]/s/^-[^-].*/-no such line/' "$TMP"/copy/patches/0001-*.patch
	refuse_log "does not apply" "$TMP/copy/scripts/tree" sync
}

refuse_log() { # TEXT COMMAND...
	local text=$1
	shift
	! "$@" > "$TMP/out" 2> "$TMP/err"
	local status=$?
	cat "$TMP/err"
	[ $status = 0 ] && grep -qF "$text" "$TMP/err"
}

# An edit changes the name of the result, so that a stale result is never used.
key_follows_content() {
	local before after
	copy
	before=$("$TMP/copy/scripts/tree" key release) || return 1
	echo "/* edited */" >> "$TMP/copy/mm/hmm_p2p/alias_refs.c"
	after=$("$TMP/copy/scripts/tree" key release) || return 1
	echo "$before $after"
	[ "$before" = "$("$tree" key release)" ] && [ "$before" != "$after" ]
}

# A kernel without this project contains nothing of it.
compiles_out() {
	local obj o
	obj=$("$tree" objects off mm/hmm.o mm/mmu_notifier.o \
		drivers/infiniband/core/umem_odp.o drivers/infiniband/sw/rxe/rxe_odp.o) || return 1
	for o in mm/hmm.o mm/mmu_notifier.o drivers/infiniband/core/umem_odp.o \
		drivers/infiniband/sw/rxe/rxe_odp.o; do
		nm "$obj/$o" > "$TMP/nm" || return 1
		! grep hmm_p2p "$TMP/nm" || return 1
	done
}

# With the symbols of ours, which have a namespace.
outside_module() {
	mkdir "$TMP/outside"
	echo "obj-m := outside.o" > "$TMP/outside/Makefile"
	cp "$TOP/samples/hmm_p2p/hmm_p2p_sample.h" "$TMP/outside/"
	cp "$TOP/samples/hmm_p2p/hmm_p2p_exporter.c" "$TMP/outside/outside.c"
	[ "$("$tree" module release "$TMP/outside")" = "$TMP/outside/outside.ko" ] &&
		! grep -E "warning|undefined" "$(dirname "$("$tree" source)")/obj-release/build.log"
}

t "an option that the configuration drops is an error" drops_config
t "so is one that stays on" drops_unset
t "a changed Kconfig file configures again" configures_again
t "a patch that does not apply is an error" broken_series
t "the tree is as it was after that" "$tree" sync
t "a result is named by what it is made of" key_follows_content
t "a missing KERNEL_SRC is an error" refuses 1 "KERNEL_SRC does not exist" env KERNEL_SRC=/nowhere "$tree" source
t "a module outside of the tree builds" outside_module
t "one that is not there is an error" refuses 2 "usage: tree module" "$tree" module release /nowhere
t "an unknown flavour is an error" refuses 2 "no such flavour" "$tree" build fast
t "what our make was told is not for the kernel's" env MAKEFLAGS=" -- M=nowhere" "$tree" objects off mm/hmm.o
t "CONFIG_HMM_P2P=n compiles out" compiles_out
t "mlx5_ib compiles" "$tree" objects release drivers/infiniband/hw/mlx5/
done_testing
