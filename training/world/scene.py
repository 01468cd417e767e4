"""Composes a scene: a place at a time of day with one or two big objects at plausible spots.

`compose` draws the picture and returns it with a record, from which captions and holes are made:
{"place": str, "time": str, "rain": bool, "style": str, "side": int, "size": [width, height],
"objects": [{"kind": str, "colour": str or None, "box": [x0, y0, x1, y1]}]}; in the styles of NO_COLOUR
no object has one.
"""

from . import art
from .objects import KINDS
from .palette import COLOURS, PLACES, TIMES
from .pen import Canvas, Pen
from .places import paint_place, paint_rain
from .styles import CHANCES, NO_COLOUR, restyle

TWO_OBJECTS = 0.6
OUT_OF_PLACE = 0.15
RAIN_BY_DAY = 0.2
HORIZONS = {"lake": (0.36, 0.52), "town": (0.42, 0.60), "mountains": (0.46, 0.66),
            "forest": (0.42, 0.64)}
FRONT = {"lake": 0.36, "town": 0.18}  # how far below the horizon the ground to stand on begins


def _choose_object(rng, place, time):
    """A kind that suits the place and time (now and then one that does not), and a colour."""
    if rng.random() < OUT_OF_PLACE:
        name = rng.choice(list(KINDS))
    else:
        grounds = {"sea": ("water", "sky"), "lake": ("water", "land", "sky")}.get(
            place, ("land", "sky"))
        wrong = "sun" if time == "night" else "moon"
        fitting = {n: k for n, k in KINDS.items() if k.where in grounds and n != wrong}
        name = rng.choices(list(fitting), [k.weight for k in fitting.values()])[0]
    kind = KINDS[name]
    if not kind.coloured:
        return name, None
    if name == "tree" and rng.random() < 0.3:
        return name, "green"
    return name, rng.choice(list(COLOURS))


def _position(rng, kind, side, place, horizon, x_range, height):
    """Foot of the object in pixels."""
    x = rng.uniform(*x_range)
    if kind.where == "sky":
        y = rng.uniform(height + side * 0.02, max(height + side * 0.05, horizon + side * 0.12))
    elif kind.where == "water" and place == "lake":
        y = max(horizon + side * rng.uniform(0.16, 0.32), height)
    elif kind.where == "water" and place == "sea":
        y = rng.uniform(max(horizon + height * 0.6, height * 0.9), side * 0.97)
    else:
        y = rng.uniform(max(horizon + side * FRONT.get(place, 0.1), height), side * 0.96)
    return x, min(y, side * 0.98)


def compose(rng, side, width=None, height=None, place=None, time=None, objects=None, style=None,
            rain=None):
    """A picture and its record.

    `side` is the model's native side; width and height default to it. What is not given is chosen at
    random; objects as a list of (kind, colour, x, y, height in pixels)."""
    width, height = width or side, height or side
    place = place or rng.choice(list(PLACES))
    time = time or rng.choice(list(TIMES))
    style = style or rng.choices(list(CHANCES), CHANCES.values())[0]
    if rain is None:
        rain = time == "day" and style != "ink" and rng.random() < RAIN_BY_DAY
    horizon = rng.uniform(*HORIZONS.get(place, (0.40, 0.68))) * height
    canvas = Canvas(width, height)
    light = paint_place(canvas, rng, side, place, time, horizon, rain)
    if objects is None:
        objects = _random_objects(rng, side, place, time, horizon, style)
    record = {"place": place, "time": time, "rain": rain, "style": style, "side": side,
              "size": [width, height], "objects": []}
    for name, colour, x, y, tall in objects:
        glow = (1.0, 1.0, 1.0) if name in ("sun", "moon") else tuple(0.35 + 0.65 * v for v in light)
        pen = Pen(canvas, x, y, tall, glow, mirrored=rng.random() < 0.5)
        if style == "emoji":
            pen.picture(art.glyph(name))
        else:
            KINDS[name].paint(pen, COLOURS.get(colour), rng)
        record["objects"].append({"kind": name, "colour": None if style in NO_COLOUR else colour,
                                  "box": pen.box()})
    if rain:
        paint_rain(canvas, rng, side)
    return restyle(canvas.finish(), style, rng, side), record


def _random_objects(rng, side, place, time, horizon, style):
    pair = rng.random() < TWO_OBJECTS
    slots = [(0.22, 0.34), (0.66, 0.78)] if pair else [(0.25, 0.75)]
    rng.shuffle(slots)
    chosen = []
    for low, high in slots:
        name, colour = _choose_object(rng, place, time)
        kind = KINDS[name]
        wide = art.width(name) if style == "emoji" else kind.width
        limit = (0.47 if pair else 0.80) / wide
        tall = min(rng.uniform(0.32, 0.48) if pair else rng.uniform(0.26, 0.68), limit) * side
        if not pair:
            low = min(0.5, max(low, 0.52 * wide * tall / side))
            high = 1 - low
        x, y = _position(rng, kind, side, place, horizon, (low * side, high * side), tall)
        chosen.append((name, colour, x, y, tall))
    return sorted(chosen, key=lambda o: o[3])
