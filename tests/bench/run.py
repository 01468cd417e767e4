#!/usr/bin/env python3
"""Speed and memory of single networks and of whole jobs at the size of Stable Diffusion 1.5 or SDXL, ours and diffusers' in turn.

usage: run.py BUILD-FOLDER [--what unet,decode,encode,text,job] [--dtype f32,bf16] [--model sd15] [--size 512] [--runs 2] [--threads N]

A job is two prompts, one step with guidance and the decoder; --weights q8_0 and --staged are about ours alone. Of SDXL there are jobs alone.

The checkpoint is synthetic and stands in $TMPDIR or /var/tmp meanwhile (2 GB, SDXL's 7). SDD_BENCH_PYTHON names a Python with torch and
diffusers; without it only our figures are printed. On a machine that does something else at the same time only ratios mean anything,
and those of the best of several runs.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MANIFESTS = HERE.parent / "golden" / "data" / "fullsize" / "manifests"


def run(command, threads):
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True,
                            preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads]))
    if result.returncode != 0:
        sys.exit(f"{command[0]} failed")
    return json.loads(result.stdout.splitlines()[-1])


def show(figures, other=None):
    line = f'{figures["what"]:7} {figures["backend"]:55} first {figures["first_s"]:7.2f} s  best {figures["best_s"]:7.3f} s' \
           f'  peak {figures["peak_mib"]:6.0f} MiB'
    if other:
        line += f'   time x {figures["best_s"] / other["best_s"]:.2f}, memory x {figures["peak_mib"] / other["peak_mib"]:.2f}'
    print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--what", default="unet,decode,encode,text")
    parser.add_argument("--dtype", default="f32,bf16")
    parser.add_argument("--model", choices=["sd15", "sdxl"], default="sd15")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--staged", action="store_true")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if options.model == "sdxl" and options.what != "job":
        parser.error("of SDXL there are jobs alone (--what job)")
    bench, memory = (options.build / "tests" / "bench" / name for name in ("sdd-bench", "sdd-bench-memory"))
    python = os.environ.get("SDD_BENCH_PYTHON")
    with tempfile.NamedTemporaryFile(dir=os.environ.get("TMPDIR", "/var/tmp"), suffix=".safetensors") as checkpoint:
        subprocess.run([bench, "write", MANIFESTS / f"{options.model}.json.gz", checkpoint.name], check=True)
        for what in options.what.split(","):
            for dtype in options.dtype.split(","):
                if what == "job":
                    command = [memory, "run", checkpoint.name, dtype, options.weights, "staged" if options.staged else "whole",
                               options.size, 1, options.runs + 1]
                else:
                    command = [bench, "--dtype", dtype, "--threads", options.threads, "--runs", options.runs,
                               "--size", options.size, what, checkpoint.name]
                ours = run(command, options.threads)
                if not python:
                    show(ours)
                    continue
                name = "job-sdxl" if options.model == "sdxl" else what
                peer = run([python, HERE / "peer.py", name, dtype, options.size, options.runs, options.threads], options.threads)
                show(ours, peer)
                show(peer)


if __name__ == "__main__":
    main()
