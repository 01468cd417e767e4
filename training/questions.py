"""What the evaluation asks the model for: prompts of one and of two objects, and holes with what is
to fill them. All come from fresh scenes that no training step saw, so only what the world has is
asked for; colours are always said."""

import multiprocessing
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

import state
from generate import Job
from world.captions import PLACE_PHRASES, RAIN_PHRASES, TIME_PHRASES, middle, name_object
from world.objects import KINDS
from world.palette import COLOURS
from world.scene import compose

CONTEXT = 0.5
MARGIN = 0.08


@dataclass
class Question:
    """A job, the objects its picture must show, where (edges in 0..1, None: anywhere), the real
    picture it was taken from, and that one's place and time in words."""
    job: Job
    objects: list
    real: Image.Image
    setting: str = ""
    box: tuple | None = None


def _phrases(record):
    """The world's words for a scene's place, and for its time of day or rain."""
    return (PLACE_PHRASES[record["place"]],
            RAIN_PHRASES if record["rain"] else TIME_PHRASES[record["time"]])


def words(rng, record, objects):
    """A prompt for objects of a scene from left to right, their colours said."""
    named = sorted(objects, key=lambda o: middle(o, record)) if len(objects) > 1 else objects
    parts = [" and ".join(name_object(rng, o, 1.0) for o in named)]
    parts += [rng.choice(phrases) for phrases in _phrases(record) if rng.random() < CONTEXT]
    return " ".join(parts)


def setting(record):
    """Place and time of a scene in words."""
    return " ".join(phrases[0] for phrases in _phrases(record))


def _scene(name, objects):
    """A fresh scene of that many objects, with the random numbers it was made from."""
    rng = random.Random(f"evaluate {name}")
    while True:
        picture, record = compose(rng, state.SIDE, style="flat")
        if len(record["objects"]) == objects:
            return rng, picture, record


def scenes(name, count, objects):
    """`count` fresh scenes; painted by all processors, so call it before a GPU is in use."""
    with multiprocessing.Pool() as pool:
        return pool.starmap(_scene, [(f"{name} {k}", objects) for k in range(count)])


def of_words(name, count, objects):
    """Questions for whole pictures of that many objects."""
    return [Question(Job(words(rng, record, record["objects"]), seed), record["objects"], picture,
                     setting(record))
            for seed, (rng, picture, record) in enumerate(scenes(name, count, objects))]


def other_object(rng, item):
    """Another object that belongs where the given one is."""
    where = KINDS[item["kind"]].where
    kind = rng.choice([k for k in KINDS if KINDS[k].where == where and k != item["kind"]])
    return {"kind": kind, "colour": rng.choice(list(COLOURS)) if KINDS[kind].coloured else None}


def of_holes(count):
    """Questions for holes: in a real scene the box of its object, with a margin, is to be filled
    with another object."""
    made = []
    for seed, (rng, picture, record) in enumerate(scenes("holes", count, 1)):
        hidden = record["objects"][0]
        margin = MARGIN * state.SIDE
        box = [max(0, round(v - margin)) for v in hidden["box"][:2]]
        box += [min(state.SIDE, round(v + margin)) for v in hidden["box"][2:]]
        mask = Image.new("L", picture.size, 0)
        ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
        item = other_object(rng, hidden)
        made.append(Question(Job(words(rng, record, [item]), seed, picture=picture, mask=mask),
                             [item], picture, setting(record),
                             tuple(v / state.SIDE for v in box)))
    return made


def seam(picture, mask):
    """The brightness steps (0..255) between neighbours of which one is in the hole."""
    light = np.asarray(picture.convert("L"), np.float64)
    hole = np.asarray(mask) >= 128
    return np.concatenate([np.abs(np.diff(light, axis=axis))[np.diff(hole, axis=axis)]
                           for axis in (0, 1)])
