#!/bin/sh
# Build the Debian packages from the files of this checkout. Usage: make-packages.sh FOLDER
# The sources are copied, because dpkg-buildpackage wants debian/ at their top and writes beside them.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
version=$(sed -n "s/^  version: '\(.*\)',/\1/p" "$root/meson.build")
source=$out/sdd-$version
rm -rf "$source" "$out"/*.deb
mkdir "$source"
# the folders of the build, without test data and the training's recipe
for name in LICENSE README.md NEWS.md SECURITY.md meson.build meson_options.txt client daemon kernels models packaging \
	plugins protocol tests; do
	[ ! -e "$root/$name" ] || cp -r "$root/$name" "$source/"
done
rm -rf "$source/tests/golden/data" "$source/tests/fuzz/corpus"
cp -r "$root/packaging/debian" "$source/debian"
cd "$source"
dpkg-buildpackage --build=binary --no-sign
rm -rf "$source"
ls "$out"/*.deb
