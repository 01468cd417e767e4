#!/bin/sh
# Fuzz one target for a while under clang's libFuzzer with ASan and UBSan, then merge what it found into its corpus.
# usage: tests/fuzz/run.sh NAME SECONDS      e.g. tests/fuzz/run.sh fuzz-scanner 600
set -eu
name=$1 seconds=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$root/build-fuzz corpus=$root/tests/fuzz/corpus/$name work=$root/build-fuzz/found/$name
[ -f "$build/build.ninja" ] || CC=clang-14 CFLAGS=-fsanitize=fuzzer-no-link meson setup "$build" "$root" -Dfuzzers=true \
	-Db_sanitize=address,undefined -Db_lundef=false >/dev/null
ninja -C "$build" "tests/fuzz/$name" >/dev/null
case $name in
fuzz-sdd-conf) words=conf ;;
fuzz-safetensors | fuzz-tensor-file | fuzz-json | fuzz-model-config | fuzz-tokenizer | fuzz-t5) words=formats ;;
*) words=protocol ;;
esac
mkdir -p "$work" "$corpus"
cd "$build"
UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "tests/fuzz/$name" -max_total_time="$seconds" -max_len=4096 -timeout=20 \
	-rss_limit_mb=2048 -print_final_stats=1 -dict="$root/tests/fuzz/$words.dict" -artifact_prefix="$work-" "$work" "$corpus"
rm -rf "$work.min"
mkdir "$work.min"
"tests/fuzz/$name" -merge=1 -max_len=1024 "$work.min" "$corpus" "$work" 2>/dev/null
# keep it small: the shortest inputs first, up to 90 KB; inputs with a name of their own (not a hash) stay
find "$corpus" -type f | grep -E '/[0-9a-f]{40}$' | xargs -r rm -f
total=0
ls -Sr "$work.min" | while read -r file; do
	total=$((total + $(wc -c <"$work.min/$file")))
	[ "$total" -le 90000 ] || break
	cp "$work.min/$file" "$corpus/"
done
echo "$name: $(ls "$corpus" | wc -l) inputs in $corpus"
