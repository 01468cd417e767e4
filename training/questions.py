"""What the evaluation asks the model for: prompts of one and of two objects, in crayon, ink and emoji,
holes with what is to fill them, and pictures to be grown. All come from fresh scenes that no training
step saw, so only what the world has is asked for; colours are always said."""

import multiprocessing
import random
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

import state
from generate import Job
from judge import setting_of
from world.captions import (PLACE_PHRASES, RAIN_PHRASES, STYLE_PHRASES, TIME_PHRASES, middle,
                            name_object)
from world.objects import KINDS
from world.palette import COLOURS
from world.scene import compose

CONTEXT = 0.5
MARGIN = 0.08


@dataclass
class Question:
    """A job, the objects its picture must show, where (edges in 0..1, None: anywhere), the real
    picture it was taken from, that one's place and time in words, and the judge's answers about the
    setting that the prompt asks for."""
    job: Job
    objects: list
    real: Image.Image
    setting: str = ""
    box: tuple | None = None
    said: dict = field(default_factory=dict)


def _phrases(record):
    """The world's words for a scene's place, and for its light: time of day or rain."""
    return {"place": PLACE_PHRASES[record["place"]],
            "light": RAIN_PHRASES if record["rain"] else TIME_PHRASES[record["time"]]}


def words(rng, record, objects, style=None):
    """A prompt for objects of a scene from left to right, their colours said, and what it says of
    the setting."""
    named = sorted(objects, key=lambda o: middle(o, record)) if len(objects) > 1 else objects
    parts, said = [" and ".join(name_object(rng, o, 1.0) for o in named)], {}
    for question, phrases in _phrases(record).items():
        if rng.random() < CONTEXT:
            parts.append(rng.choice(phrases))
            said[question] = setting_of(record)[question]
    if style:
        parts.append(STYLE_PHRASES[style][0])
        said["style"] = style
    return " ".join(parts), said


def setting(record):
    """Place and time of a scene in words."""
    return " ".join(phrases[0] for phrases in _phrases(record).values())


def _scene(name, objects, width=None, style="flat"):
    """A fresh scene of that many objects, with the random numbers it was made from."""
    rng = random.Random(f"evaluate {name}")
    while True:
        picture, record = compose(rng, state.SIDE, width, style=style)
        if len(record["objects"]) == objects:
            return rng, picture, record


def scenes(name, count, objects, *more):
    """`count` fresh scenes; painted by all processors, so call it before a GPU is in use."""
    with multiprocessing.Pool() as pool:
        return pool.starmap(_scene, [(f"{name} {k}", objects, *more) for k in range(count)])


def _question(seed, scene, style=None):
    rng, picture, record = scene
    prompt, said = words(rng, record, record["objects"], style)
    return Question(Job(prompt, seed), record["objects"], picture, setting(record), said=said)


def of_words(name, count, objects):
    """Questions for whole pictures of that many objects."""
    return [_question(seed, scene) for seed, scene in enumerate(scenes(name, count, objects))]


def of_styles(count):
    """Questions for pictures of one object in the styles that are not flat."""
    styles = [style for style in STYLE_PHRASES if style != "flat"]
    made = []
    for seed in range(count):
        style = styles[seed % len(styles)]
        made.append(_question(seed, _scene(f"styles {seed}", 1, None, style), style))
    return made


def of_growth(count):
    """Questions for outpainting: `real` is half as wide again as the picture that is to be grown."""
    return [Question(Job(setting(record), seed, picture=picture.crop((0, 0, state.SIDE, state.SIDE))),
                     [], picture)
            for seed, (_, picture, record) in enumerate(
                scenes("growth", count, 1, state.SIDE * 3 // 2))]


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
        prompt, said = words(rng, record, [item])
        made.append(Question(Job(prompt, seed, picture=picture, mask=mask), [item], picture,
                             setting(record), tuple(v / state.SIDE for v in box), said))
    return made


def seam(picture, mask):
    """The brightness steps (0..255) between neighbours of which one is in the hole."""
    light = np.asarray(picture.convert("L"), np.float64)
    hole = np.asarray(mask) >= 128
    return np.concatenate([np.abs(np.diff(light, axis=axis))[np.diff(hole, axis=axis)]
                           for axis in (0, 1)])


def growth_step(picture):
    """The brightness steps (0..255) across the column where a picture was grown."""
    light = np.asarray(picture.convert("L"), np.float64)
    return np.abs(light[:, state.SIDE] - light[:, state.SIDE - 1])
