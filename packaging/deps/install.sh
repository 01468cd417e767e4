#!/bin/sh
# Install the Debian packages of sections of apt.txt, asking for root only when something is missing.
# Usage: install.sh build [check ...]
set -eu
here=$(dirname "$0")
missing=
for section in "$@"; do
	for package in $(sed -n "/^\[$section\]/,/^\[/{/^\[/d;p}" "$here/apt.txt"); do
		dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
			missing="$missing $package"
	done
done
[ -n "$missing" ] || exit 0
echo "installing:$missing"
as_root=
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || {
		echo "not root and no sudo: run as root: apt-get install --no-install-recommends$missing" >&2
		exit 1
	}
	as_root=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get -qq update
# shellcheck disable=SC2086 # a list of package names is meant to be split
$as_root apt-get -qq -y install --no-install-recommends $missing
