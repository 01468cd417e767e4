"""Composes a scene: a place at a time of day with one or two big objects at plausible spots.

`compose` draws the picture and returns it with a record, from which captions and holes are made:
{"place": str, "time": str, "objects": [{"kind": str, "colour": str or None, "box": [x0,y0,x1,y1]}]}
"""

from .objects import KINDS
from .palette import COLOURS, PLACES, TIMES
from .pen import Canvas, Pen
from .places import paint_place

TWO_OBJECTS = 0.35
OUT_OF_PLACE = 0.12


def _choose_object(rng, place, time):
    """A kind that suits the place and time (now and then one that does not), and a colour."""
    if rng.random() < OUT_OF_PLACE:
        name = rng.choice(list(KINDS))
    else:
        ground = "water" if place == "sea" else "land"
        wrong = "sun" if time == "night" else "moon"
        fitting = {n: k for n, k in KINDS.items() if k.where in (ground, "sky") and n != wrong}
        name = rng.choices(list(fitting), [k.weight for k in fitting.values()])[0]
    kind = KINDS[name]
    if not kind.coloured:
        return name, None
    if name == "tree" and rng.random() < 0.5:
        return name, "green"
    return name, rng.choice(list(COLOURS))


def _position(rng, kind, side, place, horizon, x_range, height):
    """Foot of the object in pixels."""
    x = rng.uniform(*x_range)
    if kind.where == "sky":
        y = rng.uniform(height + side * 0.02, max(height + side * 0.05, horizon + side * 0.12))
    elif kind.where == "water" and place == "sea":
        y = rng.uniform(max(horizon + height * 0.6, height * 0.9), side * 0.97)
    else:
        y = rng.uniform(max(horizon + side * 0.1, height), side * 0.96)
    return x, min(y, side * 0.98)


def compose(rng, side, width=None, height=None, place=None, time=None, objects=None):
    """A picture and its record.

    `side` is the model's native side; width and height default to it. Objects are chosen at random
    and placed in a native square unless `objects` is given as a list of
    (kind, colour, x, y, height in pixels)."""
    width, height = width or side, height or side
    place = place or rng.choice(list(PLACES))
    time = time or rng.choice(list(TIMES))
    horizon = rng.uniform(0.40, 0.68) * height
    canvas = Canvas(width, height)
    light = paint_place(canvas, rng, side, place, time, horizon)
    if objects is None:
        objects = _random_objects(rng, side, place, time, horizon)
    record = {"place": place, "time": time, "objects": []}
    for name, colour, x, y, tall in objects:
        glow = (1.0, 1.0, 1.0) if name in ("sun", "moon") else tuple(0.35 + 0.65 * v for v in light)
        pen = Pen(canvas, x, y, tall, glow, mirrored=rng.random() < 0.5)
        KINDS[name].paint(pen, COLOURS.get(colour), rng)
        record["objects"].append({"kind": name, "colour": colour, "box": pen.box()})
    return canvas.finish(), record


def _random_objects(rng, side, place, time, horizon):
    pair = rng.random() < TWO_OBJECTS
    slots = [(0.22, 0.36), (0.64, 0.78)] if pair else [(0.3, 0.7)]
    rng.shuffle(slots)
    chosen = []
    for low, high in slots:
        name, colour = _choose_object(rng, place, time)
        kind = KINDS[name]
        limit = (0.46 if pair else 0.80) / kind.width
        tall = min(rng.uniform(0.36, 0.46) if pair else rng.uniform(0.38, 0.66), limit) * side
        x, y = _position(rng, kind, side, place, horizon, (low * side, high * side), tall)
        chosen.append((name, colour, x, y, tall))
    return sorted(chosen, key=lambda o: o[3])
