"""Ways a scene can be drawn, by a word in its caption. "flat" is the plain painting, "crayon" is pale and
hatched on white paper, "ink" is black lines with a grey wash (so nothing has a colour in it); these
filter the finished picture. In "emoji" the objects are not painted but art.py's, on the plain background.
Lengths are fractions of `side`, the native side of the model."""

import numpy as np
from PIL import Image, ImageFilter

CHANCES = {"flat": 0.76, "crayon": 0.08, "ink": 0.06, "emoji": 0.10}
NO_COLOUR = ("ink", "emoji")  # what has none, or its own: nothing in them is called by a colour
PAPER = np.array((253, 250, 242), np.float32)


def _light(picture):
    return np.asarray(picture.convert("L"), np.float32)


def crayon(picture, rng, side):
    """Diagonal strokes that leave paper uncovered."""
    noise = np.random.default_rng(rng.randrange(2**32)).random((picture.height, picture.width))
    strokes = noise.astype(np.float32)
    for _ in range(max(3, round(side * 0.05))):
        strokes = (strokes + np.roll(strokes, (1, -1), (0, 1))) / 2
    rank = (strokes - strokes.mean()) / strokes.std()
    bare = np.clip(0.28 + 0.17 * rank, 0.02, 0.75)[..., None]
    return Image.fromarray(np.uint8(np.asarray(picture) * (1 - bare) + PAPER * bare))


def ink(picture, rng, side):
    """Dark lines along edges, on their darker side, over a thin grey wash."""
    light = _light(picture)
    blurred = _light(picture.filter(ImageFilter.GaussianBlur(side * 0.012)))
    line = np.clip((blurred - light - 3) / 20, 0, 1)
    wash = 0.62 + 0.38 * light / 255
    return Image.fromarray(np.uint8(PAPER * (wash * (1 - 0.88 * line))[..., None]))


FILTERS = {"flat": None, "crayon": crayon, "ink": ink, "emoji": None}


def restyle(picture, style, rng, side):
    """The picture drawn in a style."""
    drawn = FILTERS[style]
    return drawn(picture, rng, side) if drawn else picture
