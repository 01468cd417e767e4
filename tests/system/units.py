#!/usr/bin/env python3
"""The units as systemd's own tools see them: nothing to complain about, and exposed to no more than the manual says.

usage: units.py MESON BUILD-FOLDER
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# the figures of sdd(8) and SECURITY.md, of each manager's unit and with the drop-in for a graphics card; 1.0 and 1.2 are the house's limits
MOST = {("system", False): 0.4, ("user", False): 0.8, ("system", True): 0.7, ("user", True): 1.1}


def analyze(*arguments):
    done = subprocess.run(["systemd-analyze", *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def message_ids():
    """Each id of the daemon is explained once in the catalog, and nothing else is."""
    header, catalog = ((ROOT / name).read_text() for name in ("daemon/message-ids.h", "packaging/sdd.catalog"))
    used, explained = re.findall(r'"([0-9a-f]{32})"', header), re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.M)
    if sorted(used) != sorted(explained) or len(set(used)) != len(used):
        yield f"daemon/message-ids.h has {used}, packaging/sdd.catalog {explained}"


def reasons():
    """Each relaxation of the drop-in has its reason above it, and stands in sdd(8)."""
    above, manual = "", (ROOT / "packaging/man/sdd.8").read_text()
    for line in (ROOT / "packaging/systemd/gpu.conf").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            if not above.startswith("#"):
                yield f"gpu.conf: {line} has no reason above it"
            if line.removesuffix(" rw") not in manual:
                yield f"sdd(8) does not name {line}"
        above = line


def main():
    meson, build = sys.argv[1:]
    faults = [*message_ids(), *reasons()]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([meson, "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", folder], check=True, stdout=subprocess.DEVNULL)
        installed = pathlib.Path(folder)
        programs = next(installed.rglob("bin/sdd"))
        for (manager, card), most in MOST.items():
            units = next(installed.rglob(f"systemd/{manager}"))
            if card:
                drop_ins = units / "sdd.service.d"
                drop_ins.mkdir()
                shutil.copy(next(installed.rglob("share/sdd/gpu.conf")), drop_ins)
            service = units / "sdd.service"
            # the program where it lies now, which systemd-analyze looks for
            service.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={programs}", service.read_text(), flags=re.M))
            code, text = analyze("--man=no", "--recursive-errors=no", "verify", *(units / name for name in ("sdd.service", "sdd.socket", "sdd.slice")))
            complaints = [line for line in text.splitlines() if folder in line or "sdd" in line]
            if code != 0 or complaints:
                faults.append(f"{manager}, card {card}: systemd-analyze verify: {code} {complaints or text}")
            code, text = analyze("security", "--offline=true", service)
            level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
            if not level or float(level.group(1)) > most:
                faults.append(f"{manager}, card {card}: exposure {level and level.group(1)}, at most {most} is promised\n{text}")
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main()
