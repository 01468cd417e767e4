#!/usr/bin/env python3
"""Boots a clean Debian 12 with systemd as its PID 1 (systemd-nspawn), with this build installed in it, and runs guest.py there.

usage: boot.py MESON BUILD-FOLDER MODEL-FOLDER
"""
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

import trees

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ["systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "python3", "libmsgpackc2",
            "libsystemd0", "libjansson4", "libpcre2-8-0", "libutf8proc2", "libdnnl2", "libpng16-16", "libjpeg62-turbo",
            "libwebp7", "libwebpdemux2", "libtiff6", "libgomp1", "openssh-server", "openssh-client"]
SERVICE = """[Unit]
Description=What the test does in here
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /root/guest.py
StandardOutput=file:/root/report
StandardError=inherit
ExecStopPost=systemctl --no-block poweroff
"""
BOOT_TIMEOUT_S = 600


@contextlib.contextmanager
def control_groups():
    """A group of its own in each hierarchy whose controller the guest's systemd shall use, as a shell line that enters them.

    With control groups of version 2 nspawn hands the controllers down by itself and the line does nothing.
    """
    groups = [pathlib.Path("/sys/fs/cgroup") / name / f"sdd-test-{os.getpid()}" for name in ("memory", "cpu", "cpuacct")]
    groups = [group for group in groups if (group.parent / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir()
    try:
        yield "".join(f"echo $$ >{group}/cgroup.procs; " for group in groups)
    finally:
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)


def main():
    meson, build, model = sys.argv[1:]
    os.sched_setaffinity(0, range(os.cpu_count()))
    with trees.tree("boot", PACKAGES, mounts=False) as root:
        trees.run(meson, "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", root)
        trees.chroot(root, "ldconfig")
        models = root / "var/lib/sdd/models"
        shutil.copytree(model, models / "tiny")
        shutil.copy(HERE / "guest.py", root / "root/guest.py")
        unit = root / "etc/systemd/system/guest.service"
        unit.write_text(SERVICE)
        wants = root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(exist_ok=True)
        (wants / "guest.service").symlink_to(unit.relative_to(root).as_posix().join(["/", ""]))
        (root / "etc/machine-id").write_text("")
        with control_groups() as enter:
            console = subprocess.run(
                ["sh", "-c", enter + 'exec "$@"', "sh", "timeout", "-k", "5", str(BOOT_TIMEOUT_S), "systemd-nspawn", "--boot", "-D", root,
                 "--register=no", "--keep-unit", "--private-network", "--console=pipe", "--machine=sdd-test"], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace").stdout
        report = root / "root/report"
        text = report.read_text() if report.exists() else ""
        print(text)
        # nspawn's own exit status says nothing about the guest
        if "\nall passed\n" not in text:
            print(console[-4000:])
            sys.exit("the guest's checks did not all pass")


if __name__ == "__main__":
    main()
