#!/usr/bin/env python3
"""What the shells offer after `sdctl` is what `sdctl --help` names, no more and no less.

usage: completion.py SDCTL BASH-FILE ZSH-FILE FISH-FILE. bash is asked itself, fish and zsh where they are installed (zsh only
whether it can read its file; its words are compared in the text).
"""
import re
import shutil
import subprocess
import sys

failures = 0


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check(what, found, wanted):
    global failures
    if sorted(found) != sorted(wanted):
        failures += 1
        print(f"{what}: too many {sorted(set(found) - set(wanted))}, missing {sorted(set(wanted) - set(found))}")


def ask_bash(file, *words):
    """Completions of the last word, which may be empty."""
    script = 'source "$1"; shift; COMP_WORDS=(sdctl "$@"); COMP_CWORD=$#; _sdctl; printf "%s\\n" "${COMPREPLY[@]}"'
    return run("bash", "-c", script, "bash", file, *words).split()


def ask_fish(file, line):
    return [entry.split("\t")[0] for entry in run("fish", "-c", f"source {file}; complete -C '{line}'").splitlines()]


def main():
    sdctl, bash, zsh, fish = sys.argv[1:]
    text = run(sdctl, "--help")
    verbs = re.findall(r"^  (\S+) ", text, re.M)
    before = re.findall(r"--[\w-]+", text.splitlines()[0]) + ["--help", "--version"]
    options = {verb: re.findall(r"^ +(?:-\w, )?(--[\w-]+) ", run(sdctl, verb, "--help").split("\noptions:")[1], re.M)
               for verb in ("txt2img", "img2img", "inpaint", "outpaint", "upscale", "edit", "explain", "replay")}
    if len(verbs) < 14 or "--fill" not in options["inpaint"] or "--fill" in options["txt2img"]:
        sys.exit("sdctl --help cannot be read as it was when this test was written")
    fills = ["auto", "blur", "neutral", "edge", "original"]

    check("bash, verbs", ask_bash(bash, ""), verbs)
    check("bash, options before the verb", ask_bash(bash, "-"), before)
    check("bash, verbs with a beginning", ask_bash(bash, "--json", "in"), ["inpaint", "interpolate", "invert"])
    for verb, wanted in options.items():
        check(f"bash, options of {verb}", ask_bash(bash, verb, "--"), wanted)
    check("bash, options of get", ask_bash(bash, "get", "--"), ["--help", "--output"])
    check("bash, values of --fill", ask_bash(bash, "inpaint", "--fill", ""), fills)
    check("bash, values of --context", ask_bash(bash, "inpaint", "--context", "sel"), ["selection"])
    check("bash, values of --steps", ask_bash(bash, "inpaint", "--steps", ""), [])

    with open(zsh, encoding="utf-8") as file:
        text = file.read()
    block = text.split("verbs=(")[1].split("\n\t)")[0]
    check("zsh, verbs", re.findall(r"^\t\t'(\w+):", block, re.M), verbs)
    block = text.split("\t\ttxt2img)")[1].split(";;")[0]
    check("zsh, options of txt2img", re.findall(r"--[\w-]+(?=[=\[])", block), options["txt2img"])
    if shutil.which("zsh"):
        run("zsh", "-n", zsh)
    if shutil.which("fish"):
        check("fish, verbs", [word for word in ask_fish(fish, "sdctl ") if word in verbs], verbs)
        check("fish, options before the verb", ask_fish(fish, "sdctl --"), before)
        for verb, wanted in options.items():
            check(f"fish, options of {verb}", ask_fish(fish, f"sdctl {verb} --"), wanted)
        check("fish, values of --fill", ask_fish(fish, "sdctl inpaint --fill "), fills)
    print(f"{failures} differences")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
