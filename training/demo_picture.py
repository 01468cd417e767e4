"""Paints the pictures of `make demo` into models/demo and writes demo.json, the jobs that go with them.
The one to inpaint is larger than the model's native side, so that the demo shows what a selection's
context is for; the one to restyle and to grow has that side. Choose the seeds by looking: the jobs are
data, demo.json can be edited by hand."""

import json
import random

from export import MODELS
from state import SIDE
from world.scene import compose

PICTURE = [("tree", "green", 0.41, 1.53, 0.69), ("sun", None, 2.48, 0.58, 0.41),
           ("flower", "red", 2.34, 1.88, 0.52), ("flower", "yellow", 2.72, 1.77, 0.45),
           ("cloud", None, 1.17, 0.47, 0.34)]
SCENE = [("tree", "green", 0.3, 0.86, 0.52), ("cloud", None, 0.68, 0.34, 0.2)]
JOBS = {
    "txt2img": [{"prompt": prompt, "seed": seed} for prompt, seed in (
        ("a red house at sunset", 5), ("a yellow boat at sea by day", 6),
        ("a blue car and a green tree on a meadow by day", 7),
        ("an orange balloon and a snowman in the snow by day", 5),
        ("a purple umbrella and a yellow dog in the desert at sunset", 8))],
    "img2img": {"picture": "scene.png", "prompt": "an orange tree on a meadow by day", "seed": 2,
                "strengths": [0.4, 0.6, 0.8]},
    "inpaint": {"picture": "picture.png", "prompt": "a red house", "seed": 8,
                "select": {"x": 136, "y": 112, "w": 112, "h": 104}},
    "outpaint": {"picture": "scene.png", "prompt": "on a meadow by day", "seed": 8,
                 "steps": [{"right": 32}, {"right": 32}]},
}


def paint(name, width, height, place, objects):
    """One flat picture by day; lengths of objects in native sides."""
    placed = [(kind, colour, *(v * SIDE for v in place)) for kind, colour, *place in objects]
    picture, _ = compose(random.Random("demo"), SIDE, width, height, place, "day", placed, "flat", False)
    picture.save(MODELS / "demo" / name, optimize=True)


if __name__ == "__main__":
    (MODELS / "demo").mkdir(parents=True, exist_ok=True)
    paint("picture.png", 3 * SIDE, 2 * SIDE, "hills", PICTURE)
    paint("scene.png", SIDE, SIDE, "meadow", SCENE)
    (MODELS / "demo" / "demo.json").write_text(json.dumps(JOBS, indent=2) + "\n")
