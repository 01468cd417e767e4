"""Paints the picture of `make demo`, models/demo/picture.png, and writes the job that goes with it,
models/demo/demo.json: what to paint where, and with which seed. The picture is larger than the
model's native side, so that the demo shows what a selection's context is for."""

import argparse
import json
import random

from export import MODELS
from state import SIDE
from world.scene import compose

WIDTH, HEIGHT = 3 * SIDE, 2 * SIDE
OBJECTS = [("tree", "green", 52, 196, 88), ("sun", None, 318, 74, 52), ("flower", "red", 300, 240, 66),
           ("flower", "yellow", 348, 226, 58), ("cloud", None, 150, 60, 44)]
SELECT = {"x": 136, "y": 112, "w": 112, "h": 104}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt", default="a red house")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = MODELS / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    picture, _ = compose(random.Random("demo"), SIDE, WIDTH, HEIGHT, "hills", "day", OBJECTS,
                         style="flat", rain=False)
    picture.save(folder / "picture.png", optimize=True)
    job = {"picture": "picture.png", "prompt": options.prompt, "select": SELECT, "seed": options.seed}
    (folder / "demo.json").write_text(json.dumps(job, indent=2) + "\n")
