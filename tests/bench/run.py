#!/usr/bin/env python3
"""Speed and memory of single networks at the size of Stable Diffusion 1.5, ours and diffusers' in turn.

usage: run.py BUILD-FOLDER [--what unet,decode,encode,text] [--dtype f32,bf16] [--size 512] [--runs 2] [--threads N]

The checkpoint is synthetic and stands in $TMPDIR or /var/tmp meanwhile (2 GB). SDD_BENCH_PYTHON names a Python with torch and
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
MANIFEST = HERE.parent / "golden" / "data" / "fullsize" / "manifests" / "sd15.json.gz"


def run(command):
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
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
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    bench = options.build / "tests" / "bench" / "sdd-bench"
    python = os.environ.get("SDD_BENCH_PYTHON")
    with tempfile.NamedTemporaryFile(dir=os.environ.get("TMPDIR", "/var/tmp"), suffix=".safetensors") as checkpoint:
        subprocess.run([bench, "write", MANIFEST, checkpoint.name], check=True)
        for what in options.what.split(","):
            for dtype in options.dtype.split(","):
                ours = run([bench, "--dtype", dtype, "--threads", options.threads, "--runs", options.runs,
                            "--size", options.size, what, checkpoint.name])
                if not python:
                    show(ours)
                    continue
                peer = run([python, HERE / "peer.py", what, dtype, options.size, options.runs, options.threads])
                show(ours, peer)
                show(peer)


if __name__ == "__main__":
    main()
