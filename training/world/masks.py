"""Holes to inpaint: the box of an object with room around it (so that a prompted object fills a
hole), boxes, ellipses, polygons, brush strokes and half-planes (outpainting).

A mask is an L image, 255 = repaint."""

from math import cos, pi, sin

from PIL import Image, ImageDraw

KINDS = {"object": 0.5, "box": 0.1, "ellipse": 0.07, "polygon": 0.05, "strokes": 0.08, "half": 0.2}


def _around(rng, box, side):
    """A box grown on each edge by a random margin."""
    margin = [rng.uniform(0.01, 0.14) * side for _ in range(4)]
    return [max(0, box[0] - margin[0]), max(0, box[1] - margin[1]),
            min(side, box[2] + margin[2]), min(side, box[3] + margin[3])]


def make_mask(rng, record, side):
    """A random mask for a native-sized scene."""
    kind = rng.choices(list(KINDS), KINDS.values())[0]
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    if kind == "object":
        box = _around(rng, rng.choice(record["objects"])["box"], side)
        if rng.random() < 0.75:
            draw.rectangle(box, fill=255)
        else:
            w, h = (box[2] - box[0]) * 0.18, (box[3] - box[1]) * 0.18
            draw.ellipse((box[0] - w, box[1] - h, box[2] + w, box[3] + h), fill=255)
    elif kind in ("box", "ellipse"):
        w, h = rng.uniform(0.25, 0.75) * side, rng.uniform(0.25, 0.75) * side
        x, y = rng.uniform(0, side - w), rng.uniform(0, side - h)
        (draw.rectangle if kind == "box" else draw.ellipse)((x, y, x + w, y + h), fill=255)
    elif kind == "polygon":
        x, y = rng.uniform(0.3, 0.7) * side, rng.uniform(0.3, 0.7) * side
        corners = sorted(rng.uniform(0, 2 * pi) for _ in range(rng.randint(3, 7)))
        reach = [rng.uniform(0.2, 0.45) * side for _ in corners]
        draw.polygon([(x + r * cos(a), y + r * sin(a)) for a, r in zip(corners, reach)], fill=255)
    elif kind == "strokes":
        for _ in range(rng.randint(1, 4)):
            points = [(rng.uniform(0, side), rng.uniform(0, side)) for _ in range(rng.randint(2, 5))]
            draw.line(points, fill=255, width=round(rng.uniform(0.08, 0.25) * side), joint="curve")
    elif kind == "half":
        cut = rng.uniform(0.25, 0.7) * side
        draw.rectangle(rng.choice([(0, 0, cut, side), (side - cut, 0, side, side),
                                   (0, 0, side, cut), (0, side - cut, side, side)]), fill=255)
    return mask


def hidden_objects(record, mask):
    """The record's objects of whose box at least half is in the hole: what its caption names."""
    hidden = []
    for item in record["objects"]:
        part = mask.crop(item["box"])
        if part.size[0] * part.size[1] and part.resize((1, 1), Image.BOX).getpixel((0, 0)) >= 127:
            hidden.append(item)
    return hidden
