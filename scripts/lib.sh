# SPDX-License-Identifier: GPL-2.0
# Shared by the shell scripts in this folder: where things live, how to fail.
# shellcheck shell=bash

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${HMM_P2P_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hmm_p2p}
export TOP CACHE

# What the front door's make was told, by M= or O=, is not for the kernel's.
unset MAKEFLAGS MFLAGS GNUMAKEFLAGS

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }
usage_error() { say "$*"; exit 2; }

# Our files, relative to $TOP; also where the checkout is no git one, but a copy below
# another checkout's build/, whose files they are not.
checkout_files() { # FOLDER-OR-PATTERN...
	(
		cd "$TOP"
		if [ "$(git rev-parse --show-toplevel 2> /dev/null)" = "$TOP" ]; then
			git ls-files -co --exclude-standard -- "$@"
		else
			find "$@" -type f
		fi | sort -u
	)
}

series() { sed -e 's/[[:space:]]*#.*//' -e '/^$/d' "$TOP/patches/series"; }

# For those who work on a copy of the checkout, which has to be one.
copy_checkout() { # TO
	[ "$(git -C "$TOP" rev-parse --show-toplevel)" = "$TOP" ] || die "$TOP is no git checkout"
	rm -rf "$1"
	mkdir -p "$1"
	checkout_files . | rsync -a --files-from=- "$TOP/" "$1/"
}

# The C files that patches change, as objects.
changed_objects() { # PATCH...
	sed -nE 's,^\+\+\+ b/(.*)\.c$,\1.o,p' "$@" | sort -u
}

# Objects and folders of a flavour, compiled anew in the copy: what is there already would
# not warn again.  Warnings, and what went wrong, on standard error.
build_without_warnings() { # COPY FLAVOUR TARGET...
	local obj target
	obj=$(dirname "$("$1/scripts/tree" source)")/obj-$2
	for target in "${@:3}"; do
		case $target in
		*/) rm -rf "${obj:?}/$target" ;;
		*.o) rm -f "$obj/$target" ;;
		esac
	done
	"$1/scripts/tree" objects "${@:2}" > "$1.log" 2>&1 || { tail -n 20 "$1.log" >&2; return 1; }
	[ -s "$obj/build.log" ] && ! grep -E 'warning:|error:' "$obj/build.log" >&2
}
