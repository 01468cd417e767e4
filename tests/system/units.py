#!/usr/bin/env python3
"""The units as systemd's own tools see them: nothing to complain about, and exposed to no more than the manual says.

usage: units.py MESON BUILD-FOLDER
"""
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOST = {"system": 0.4, "user": 0.8}  # the figures of sdd(8) and SECURITY.md; 1.0 is the house's limit


def analyze(*arguments):
    done = subprocess.run(["systemd-analyze", *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def message_ids():
    """Each id of the daemon is explained once in the catalog, and nothing else is."""
    header, catalog = ((ROOT / name).read_text() for name in ("daemon/message-ids.h", "packaging/sdd.catalog"))
    used, explained = re.findall(r'"([0-9a-f]{32})"', header), re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.M)
    if sorted(used) != sorted(explained) or len(set(used)) != len(used):
        yield f"daemon/message-ids.h has {used}, packaging/sdd.catalog {explained}"


def main():
    meson, build = sys.argv[1:]
    faults = list(message_ids())
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([meson, "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", folder], check=True, stdout=subprocess.DEVNULL)
        installed = pathlib.Path(folder)
        programs = next(installed.rglob("bin/sdd"))
        for manager, most in MOST.items():
            units = next(installed.rglob(f"systemd/{manager}"))
            service = units / "sdd.service"
            # the program where it lies now, which systemd-analyze looks for
            service.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={programs}", service.read_text(), flags=re.M))
            code, text = analyze("--man=no", "--recursive-errors=no", "verify", *(units / name for name in ("sdd.service", "sdd.socket", "sdd.slice")))
            complaints = [line for line in text.splitlines() if folder in line or "sdd" in line]
            if code != 0 or complaints:
                faults.append(f"{manager}: systemd-analyze verify: {code} {complaints or text}")
            code, text = analyze("security", "--offline=true", service)
            level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
            if not level or float(level.group(1)) > most:
                faults.append(f"{manager}: exposure {level and level.group(1)}, at most {most} is promised\n{text}")
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main()
