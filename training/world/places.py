"""Sky and ground. All lengths are in pixels of the final picture; `side` is the native side of the
model, so that a large canvas shows the same hills and waves, only more of them."""

from math import pi, sin

from PIL import Image

from .palette import PLACES, TIMES, lit, mix
from .pen import SUPERSAMPLE


def _wave(canvas, side, level, height, length, phase, colour):
    """Fills below a sine line around `level`."""
    step = side / 32
    count = int(canvas.width / step) + 2
    points = [(k * step * SUPERSAMPLE,
               (level - height * sin(2 * pi * k * step / length + phase)) * SUPERSAMPLE)
              for k in range(count)]
    bottom = canvas.height * SUPERSAMPLE
    canvas.draw.polygon(points + [(points[-1][0], bottom), (0, bottom)], fill=colour)


def paint_place(canvas, rng, side, place, time, horizon):
    """Paints the background with the horizon at row `horizon`."""
    zenith, low, light = TIMES[time]
    sky = Image.new("RGB", (1, 64))
    sky.putdata([mix(zenith, low, k / 63) for k in range(64)])
    canvas.image.paste(sky.resize((canvas.width * SUPERSAMPLE, max(1, round(horizon * SUPERSAMPLE))),
                                  Image.BILINEAR))
    if time == "night":
        for _ in range(round(7 * canvas.width * horizon / side**2) + 2):
            x, y = rng.uniform(0, canvas.width), rng.uniform(0, horizon * 0.8)
            r = side * 0.008
            canvas.draw.ellipse([v * SUPERSAMPLE for v in (x - r, y - r, x + r, y + r)],
                                fill=(235, 235, 215))
    near, far = (lit(c, light) for c in PLACES[place])
    ground = side * 0.5
    canvas.draw.rectangle((0, horizon * SUPERSAMPLE, canvas.width * SUPERSAMPLE,
                           canvas.height * SUPERSAMPLE), fill=far)
    if place == "sea":
        for k in range(1, 12):
            level = horizon + ground * k * (k + 1) / 40
            _wave(canvas, side, level, side * 0.008, side * rng.uniform(0.22, 0.3),
                  rng.uniform(0, 6), mix(far, near, min(1, k / 5)))
    elif place == "meadow":
        _wave(canvas, side, horizon + ground * 0.35, side * 0.01, side * 1.3, rng.uniform(0, 6),
              near)
    else:
        height = {"hills": 0.09, "snow": 0.05, "desert": 0.045}[place] * side
        for k, level in enumerate((-0.02, 0.22, 0.5)):
            _wave(canvas, side, horizon + ground * level, height * (1 - 0.25 * k),
                  side * rng.uniform(0.8, 1.3), rng.uniform(0, 6), mix(far, near, k / 2))
    return light
