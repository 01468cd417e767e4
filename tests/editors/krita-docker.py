#!/usr/bin/env python3
"""Krita with a window: the docker, driven from inside by QTest. With a folder as argument it leaves pictures there."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import picture
from display import Display
from krita_home import Krita
from server import Server, Table


def drive(table, folder, size, *options):
    with Server(*options) as server, Display(*size) as display:
        started = server.stand_in(f"{folder}/bin/systemctl")
        try:
            for job, document, problems in Krita(folder, server.socket).window(display, "krita_drive", f"{folder}/in.png"):
                table.note(job, document, problems)
            if os.path.exists(f"{folder}/timings"):
                print("Krita, from click to layer, ms:", open(f"{folder}/timings").read().strip())
        finally:
            started()


def screenshots(table, folder, target):
    """With the model that ships and its demo's picture; small files."""
    models = pathlib.Path(__file__).resolve().parent.parent.parent / "models"
    shutil.copy(models / "demo/picture.png", f"{folder}/in.png")
    os.environ.update(SDD_TEST_PICTURES=folder, SDD_TEST_DEMO=str(models / "demo/demo.json"), SDD_TEST_MODEL=str(models / "sdd-small"))
    drive(table, folder, (1000, 1200), f"--models={models}", "--default-model=sdd-small")
    if table.failures:
        return
    small = ("-strip", "+dither", "-colors", "160", "-define", "png:compression-level=9")
    subprocess.run(["convert", f"{folder}/krita-choice.png", *small, f"{target}/krita-docker.png"], check=True)
    subprocess.run(["convert", f"{folder}/krita-before.png", f"{folder}/krita-after.png", "+append", *small,
                    f"{target}/krita-before-after.png"], check=True)


def main():
    table = Table("Krita UI")
    os.environ["SDD_TEST_PICTURES"] = ""
    with tempfile.TemporaryDirectory(prefix="sdd-krita-") as folder:
        if len(sys.argv) > 1:
            screenshots(table, folder, sys.argv[1])
        else:
            picture.write_png(f"{folder}/in.png", 96, 80, picture.pattern)
            drive(table, folder, (1400, 1000))
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
