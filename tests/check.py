#!/usr/bin/env python3
"""Everything `make check` promises, stage by stage (or the stages named); ends with `N passed, N failed`.

A stage is one build directory with one set of meson options and the suites to run in it: the plain build with warnings
as errors, the same built by clang (its warnings only, so nothing is optimised or run), the engine-free parts under
ASan+UBSan and TSan, tests of the engine (suite `sanitized`) under ASan+UBSan, a booted Debian and the packages
(tests/system), and sdd with its worker as a thread under TSan. Counts come from meson's own test log, so a test that does
not start is a failure.
"""
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MESON = "/usr/bin/meson"
SANITIZER_ENV = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
STAGES = [
    # name, build folder, meson options, suites (empty = all, None = build only), time factor
    ("plain", "build-check", ["-Dwerror=true"], [], 4),
    ("editors", "build-check", ["-Dwerror=true", "-Dgimp2=enabled"], ["editors"], 4),
    ("system", "build-check", ["-Dwerror=true"], ["system"], 4),
    ("clang", "build-clang", ["-Dwerror=true", "-Doptimization=0"], None, 1),
    ("asan+ubsan", "build-asan",
     ["-Dengine=false", "-Db_sanitize=address,undefined", "-Db_lundef=false"], ["unit", "fuzz", "integration"], 10),
    ("asan-engine", "build-asan-engine", ["-Db_sanitize=address,undefined", "-Db_lundef=false"], ["sanitized"], 10),
    ("tsan", "build-tsan", ["-Dengine=false", "-Db_sanitize=thread", "-Db_lundef=false"], ["unit"], 10),
    ("threads", "build-threads", ["-Db_sanitize=thread", "-Db_lundef=false"], ["threads"], 10),
]
# suites that run in a stage that names them only, and there with what they have that is slow
OWN_STAGE = {"editors", "system", "threads"}
# build no more than what runs; the default is everything
TARGETS = {"threads": ["tests/integration/sdd-in-process", "tests/integration/storm", "client/sdctl/sdctl", "daemon/sdd",
                       "daemon/sdd-worker"], "asan-engine": ["sanitized"]}


COMPILERS = {"clang": "clang-14"}  # others: the default


def run(command, **kwargs):
    print("+", " ".join(map(str, command)), flush=True)
    return subprocess.run(command, cwd=ROOT, **kwargs).returncode


def build(name, folder, options):
    path = ROOT / folder
    again = ["--reconfigure"] if (path / "build.ninja").exists() else []
    compiler = {"CC": COMPILERS[name]} if name in COMPILERS else {}
    if run([MESON, "setup", *again, folder, "-Dbuildtype=debugoptimized", *options], env={**os.environ, **compiler}) != 0:
        return False
    return run(["ninja", "-C", folder, *TARGETS.get(name, [])]) == 0


def read_log(folder):
    passed, failed = 0, []
    log = ROOT / folder / "meson-logs" / "testlog.json"
    if not log.exists():
        return 0, ["no test log"]
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        if entry["result"] in ("OK", "EXPECTEDFAIL"):
            passed += 1
        else:
            failed.append(f'{entry["name"]}: {entry["result"]}')
            print(f'--- {entry["name"]} ({entry["result"]})')
            print((entry.get("stdout") or "")[-6000:])
            print((entry.get("stderr") or "")[-6000:])
    return passed, failed


def stage(name, folder, options, suites, factor):
    started = time.monotonic()
    if not build(name, folder, options):
        return 0, [f"{name}: does not build"]
    if suites is None:
        print(f"== {name}: builds, {time.monotonic() - started:.0f} s", flush=True)
        return 1, []
    log = ROOT / folder / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    command = [MESON, "test", "-C", folder, "--no-rebuild", "--num-processes", "2", "--timeout-multiplier", str(factor)]
    for suite in suites:
        command += ["--suite", suite]
    for suite in {"storm", "fleet", *OWN_STAGE} - set(suites):
        command += ["--no-suite", suite]
    if not OWN_STAGE & set(suites):
        command += ["--no-suite", "slow"]
    run(command, env={**os.environ, **SANITIZER_ENV})
    passed, failed = read_log(folder)
    if passed + len(failed) == 0:
        failed = ["no test ran"]
    print(f"== {name}: {passed} passed, {len(failed)} failed, {time.monotonic() - started:.0f} s", flush=True)
    return passed, [f"{name}: {test}" for test in failed]


def main():
    passed, failed = 0, []
    unknown = set(sys.argv[1:]) - {e[0] for e in STAGES}
    if unknown:
        sys.exit(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(e[0] for e in STAGES)}")
    for entry in (e for e in STAGES if e[0] in sys.argv[1:] or not sys.argv[1:]):
        stage_passed, stage_failed = stage(*entry)
        passed += stage_passed
        failed += stage_failed
    for test in failed:
        print("FAILED", test)
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
