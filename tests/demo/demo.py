#!/usr/bin/env python3
"""Runs the demo's job (models/demo/demo.json) through sdctl and says where to look."""
import json
import pathlib
import subprocess
import sys

job_file, sdctl, socket, out = sys.argv[1:]
job = json.loads(pathlib.Path(job_file).read_text())
picture = pathlib.Path(job_file).parent / job["picture"]
out = pathlib.Path(out)
select = ",".join(str(job["select"][key]) for key in ("x", "y", "w", "h"))
print(f'inpainting "{job["prompt"]}" into {select} of {picture.name}')
subprocess.run([sdctl, "--socket", socket, "--verbose", "inpaint", "-i", picture, "--select", select, "--seed", str(job["seed"]),
                "-o", out / "inpainted.png", "--sheet", out / "before-after.png", job["prompt"]], check=True)
print(f"look at {out / 'before-after.png'} and {out / 'inpainted.png'}")
