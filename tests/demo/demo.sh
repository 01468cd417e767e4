#!/bin/sh
# The main jobs end to end: a daemon on a private socket makes, changes, repaints and grows pictures, and demo.py makes a sheet of them.
# Usage: demo.sh BUILD-FOLDER OUTPUT-FOLDER
set -eu
build=$1 out=$2
here=$(dirname "$0")
root=$here/../..
job=$root/models/demo/demo.json
if [ ! -f "$job" ] || [ ! -x "$build/daemon/sdd-worker" ]; then
	echo "make demo: not yet: the small model and its demo picture are still being trained (see README.md)." >&2
	exit 1
fi
mkdir -p "$out"
socket=$(mktemp -d)/sdd.sock
"$build/daemon/sdd" --socket "$socket" --models "$root/models" --worker "$build/daemon/sdd-worker" 2>"$out/sdd.log" &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null; rm -rf "$(dirname "$socket")"' EXIT
tries=0
until "$build/client/sdctl/sdctl" --socket "$socket" status >/dev/null 2>&1; do
	tries=$((tries + 1))
	[ $tries -lt 100 ] || { cat "$out/sdd.log" >&2; exit 1; }
	sleep 0.1
done
/usr/bin/python3 "$here/demo.py" "$job" "$build/client/sdctl/sdctl" "$socket" "$out"
