# SPDX-License-Identifier: GPL-2.0
# What the shell scripts in this folder share: folders, errors, lists of files.
# shellcheck shell=bash

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${HMM_P2P_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hmm_p2p}
export TOP CACHE

# M= and O= of the project's make are not for the kernel's make.
unset MAKEFLAGS MFLAGS GNUMAKEFLAGS

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }
usage_error() { say "$*"; exit 2; }

# Print our files, relative to $TOP.  The checkout may be a copy without git, below the build/
# folder of another checkout.
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

# Copy the checkout, for scripts that change files.
copy_checkout() { # TO
	[ "$(git -C "$TOP" rev-parse --show-toplevel)" = "$TOP" ] || die "$TOP is no git checkout"
	rm -rf "$1"
	mkdir -p "$1"
	checkout_files . | rsync -a --files-from=- "$TOP/" "$1/"
}

# Print the objects of the C files that patches change.
changed_objects() { # PATCH...
	sed -nE 's,^\+\+\+ b/(.*)\.c$,\1.o,p' "$@" | sort -u
}

# Compile objects and folders of a flavour in the copy.  Existing objects are removed, because
# they would not warn again.  Warnings and errors go to standard error.
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
