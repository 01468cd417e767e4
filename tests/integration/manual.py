#!/usr/bin/env python3
"""The manual pages name everything that the programs say they take. usage: manual.py SDCTL SDD MAN-FOLDER

Every verb of sdctl and every option of it in sdctl(1), every key of sdd in sdd.conf(5); and sdd.conf(5) names no key that is not one.
"""
import pathlib
import re
import subprocess
import sys


def said(*command):
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


def main():
    sdctl, sdd, folder = sys.argv[1:]
    faults = []
    manual = (pathlib.Path(folder) / "sdctl.1").read_text()
    verbs = re.findall(r"^  ([a-z0-9]+)  ", said(sdctl, "--help"), re.M)
    for verb in verbs:
        if not re.search(rf"^\.It.*\bCm {verb}\b", manual, re.M):
            faults.append(f"sdctl(1) lacks the verb {verb}")
        for option in re.findall(r"--([a-z][a-z-]+)", said(sdctl, verb, "--help")):
            if option != "help" and not re.search(rf"[ ,]-{option}\b", manual):
                faults.append(f"sdctl(1) lacks --{option} of {verb}")
    manual = (pathlib.Path(folder) / "sdd.conf.5").read_text()
    keys = set(re.findall(r"^  --([a-z-]+) ", said(sdd, "--help"), re.M)) - {"config", "dump-config", "help", "version"}
    documented = {key for line in re.findall(r"^\.It (Cm .*)$", manual, re.M) for key in re.findall(r"\b([a-z][a-z-]+)\b", line)}
    faults += [f"sdd.conf(5) lacks {key}" for key in sorted(keys - documented)]
    faults += [f"sdd.conf(5) has {key}, which is no key" for key in sorted(documented - keys)]
    if not verbs or not keys:
        faults.append("no verbs or keys were found")
    sys.exit("\n".join(sorted(set(faults))) or 0)


if __name__ == "__main__":
    main()
