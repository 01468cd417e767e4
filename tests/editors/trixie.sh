#!/bin/sh
# A Debian 13 tree with GIMP 3, which Debian 12 does not have: made once, outside the checkout, used by chroot.
# Usage: trixie.sh make | run COMMAND... ; the tree is $SDD_TRIXIE, else $XDG_CACHE_HOME/sdd/trixie.
# `run` gives the command the checkout at /src and what lies in $SDD_TRIXIE_SHARED at /shared; needs root, as chroot does.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tree=${SDD_TRIXIE:-${XDG_CACHE_HOME:-$HOME/.cache}/sdd/trixie}
[ "$(id -u)" -eq 0 ] || { echo "trixie.sh needs root: it makes a Debian tree and enters it" >&2; exit 1; }

make_tree() {
	# complete is a tree with all that the list names today
	wanted=$(sed -n '/^\[trixie\]/,/^\[/{/^\[/d;p}' "$root/packaging/deps/apt.txt")
	[ "$(cat "$tree/.complete" 2>/dev/null)" != "$wanted" ] || return 0
	# the mirror is the one this system itself is installed from
	mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
	[ -n "$mirror" ] || { echo "apt has no source for bookworm that a tree could be made from" >&2; exit 1; }
	if [ ! -e "$tree/.base" ]; then
		rm -rf "$tree"
		mkdir -p "$tree"
		debootstrap --variant=minbase trixie "$tree" "$mirror"
		touch "$tree/.base"
	fi
	# the names are one word each
	enter /bin/sh -c 'export DEBIAN_FRONTEND=noninteractive; apt-get -qq update &&
		apt-get -qq -y install --no-install-recommends "$@"' install $wanted
	printf '%s\n' "$wanted" >"$tree/.complete"
}

# In a mount namespace of its own, so that nothing stays mounted whatever happens.
enter() {
	mkdir -p "$tree/src" "$tree/shared"
	unshare --mount sh -c '
		set -e
		tree=$1 root=$2 shared=$3
		shift 3
		mount --make-rprivate /
		mount -t proc proc "$tree/proc"
		mount --rbind /dev "$tree/dev"
		mount --rbind /sys "$tree/sys"
		mount --bind "$root" "$tree/src"
		[ -z "$shared" ] || mount --bind "$shared" "$tree/shared"
		cp -L /etc/resolv.conf "$tree/etc/resolv.conf" 2>/dev/null || true
		[ ! -d /etc/apt/apt.conf.d ] || cp /etc/apt/apt.conf.d/*proxy* "$tree/etc/apt/apt.conf.d/" 2>/dev/null || true
		exec chroot "$tree" "$@"' enter "$tree" "$root" "${SDD_TRIXIE_SHARED:-}" "$@"
}

case ${1:-} in
make) make_tree ;;
run)
	shift
	make_tree
	enter "$@"
	;;
*)
	echo "usage: trixie.sh make | run COMMAND..." >&2
	exit 2
	;;
esac
