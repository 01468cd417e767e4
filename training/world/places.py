"""Sky and ground. All lengths are in pixels of the final picture; `side` is the native side of the
model, so that a large canvas shows the same hills and waves, only more of them."""

from math import pi, sin

from PIL import Image

from .palette import PLACES, RAIN, TIMES, lit, mix
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


def _scaled(points):
    return [(x * SUPERSAMPLE, y * SUPERSAMPLE) for x, y in points]


def _sea(canvas, rng, side, horizon, near, far):
    for k in range(1, 12):
        level = horizon + side * k * (k + 1) / 80
        _wave(canvas, side, level, side * 0.008, side * rng.uniform(0.22, 0.3), rng.uniform(0, 6),
              mix(far, near, min(1, k / 5)))


def _lake(canvas, rng, side, horizon, near, far):
    """Water between a strip of far bank and the near one."""
    shine = mix(far, (255, 255, 255), 0.35)
    _wave(canvas, side, horizon, side * 0.012, side * 0.9, rng.uniform(0, 6), mix(near, far, 0.25))
    canvas.draw.rectangle([v * SUPERSAMPLE for v in
                           (0, horizon + side * 0.035, canvas.width, canvas.height)], fill=far)
    for _ in range(round(9 * canvas.width / side)):
        x, y = rng.uniform(-0.1 * side, canvas.width), horizon + side * rng.uniform(0.05, 0.3)
        canvas.draw.line(_scaled([(x, y), (x + side * rng.uniform(0.08, 0.2), y)]), fill=shine,
                         width=round(side * 0.008 * SUPERSAMPLE))
    _wave(canvas, side, horizon + side * 0.30, side * 0.02, side * 1.2, rng.uniform(0, 6), near)


def _mountains(canvas, rng, side, horizon, near, far):
    """Peaks with snow on them behind a meadow."""
    x = -side * rng.uniform(0.1, 0.4)
    snow = mix(far, (255, 255, 255), 0.8)
    while x < canvas.width:
        half, tall = side * rng.uniform(0.26, 0.4), side * rng.uniform(0.24, 0.4)
        top, foot = (x + half, horizon - tall), horizon + side * 0.06
        canvas.draw.polygon(_scaled([(x, foot), top, (x + 2 * half, foot)]), fill=far)
        canvas.draw.polygon(_scaled([(x + half, foot), top, (x + 2 * half, foot)]),
                            fill=mix(far, (40, 40, 70), 0.2))
        part = 0.3
        canvas.draw.polygon(_scaled([
            top, (top[0] + half * part, top[1] + (foot - top[1]) * part),
            (top[0] + half * 0.1, top[1] + (foot - top[1]) * 0.22),
            (top[0] - half * 0.06, top[1] + (foot - top[1]) * 0.32),
            (top[0] - half * part * 0.8, top[1] + (foot - top[1]) * part * 0.8)]), fill=snow)
        x += half * rng.uniform(1.1, 1.5)
    _wave(canvas, side, horizon + side * 0.02, side * 0.02, side * 1.1, rng.uniform(0, 6),
          mix(near, (255, 255, 255), 0.12))
    _wave(canvas, side, horizon + side * 0.2, side * 0.03, side * 1.2, rng.uniform(0, 6), near)


def _forest(canvas, rng, side, horizon, near, far):
    """A row of firs in two depths behind a clearing."""
    for depth in (0, 1):
        x, shade = -side * 0.1, mix(far, near, 0.35 - 0.35 * depth)
        while x < canvas.width + side * 0.1:
            tall = side * rng.uniform(0.26, 0.36) * (1 - 0.12 * depth)
            foot, half = horizon + side * (0.03 + 0.03 * depth), tall * 0.3
            for k in range(3):
                low, wide = foot - tall * 0.28 * k, half * (1 - 0.24 * k)
                canvas.draw.polygon(_scaled([(x - wide, low), (x + wide, low),
                                             (x, low - tall * 0.44)]), fill=shade)
            x += side * rng.uniform(0.11, 0.15)
    _wave(canvas, side, horizon + side * 0.05, side * 0.012, side * 0.8, rng.uniform(0, 6),
          mix(near, (255, 255, 255), 0.1))
    _wave(canvas, side, horizon + side * 0.22, side * 0.02, side * 1.2, rng.uniform(0, 6), near)


def _town(canvas, rng, side, horizon, near, far):
    """A row of house fronts with lit windows behind a road."""
    x, foot = -side * rng.uniform(0, 0.15), horizon + side * 0.08
    walls = [mix(far, c, 0.45) for c in ((205, 120, 100), (225, 200, 150), (140, 150, 175))]
    k = rng.randrange(3)
    while x < canvas.width:
        wide, tall = side * rng.uniform(0.17, 0.25), side * rng.uniform(0.24, 0.42)
        wall, k = walls[k % 3], k + 1
        canvas.draw.rectangle([v * SUPERSAMPLE for v in (x, foot - tall, x + wide, foot)], fill=wall)
        canvas.draw.rectangle([v * SUPERSAMPLE for v in
                               (x, foot - tall, x + wide, foot - tall + side * 0.03)],
                              fill=mix(wall, (60, 40, 40), 0.5))
        size = side * 0.04
        for column in (0.28, 0.72):
            y = foot - tall + side * 0.07
            while y < foot - size:
                wx = x + wide * column - size / 2
                canvas.draw.rectangle([v * SUPERSAMPLE for v in (wx, y, wx + size, y + size * 1.2)],
                                      fill=(250, 232, 150))
                y += side * 0.095
        x += wide
    bottom = canvas.height
    canvas.draw.rectangle([v * SUPERSAMPLE for v in (0, foot, canvas.width, bottom)],
                          fill=mix(near, (255, 255, 255), 0.35))
    road = foot + side * 0.07
    canvas.draw.rectangle([v * SUPERSAMPLE for v in (0, road, canvas.width, bottom)],
                          fill=mix(near, (40, 40, 50), 0.45))
    x = -side * rng.uniform(0, 0.2)
    while x < canvas.width:
        canvas.draw.rectangle([v * SUPERSAMPLE for v in (x, road + side * 0.13, x + side * 0.12,
                                                         road + side * 0.15)], fill=(235, 235, 225))
        x += side * 0.22


def _meadow(canvas, rng, side, horizon, near, far):
    _wave(canvas, side, horizon + side * 0.175, side * 0.01, side * 1.3, rng.uniform(0, 6), near)


def _rolling(height):
    """A painter of three rows of hills of that height."""
    def paint(canvas, rng, side, horizon, near, far):
        for k, level in enumerate((-0.01, 0.11, 0.25)):
            _wave(canvas, side, horizon + side * level, height * side * (1 - 0.25 * k),
                  side * rng.uniform(0.8, 1.3), rng.uniform(0, 6), mix(far, near, k / 2))
    return paint


GROUNDS = {"meadow": _meadow, "hills": _rolling(0.09), "snow": _rolling(0.05),
           "desert": _rolling(0.045), "sea": _sea, "lake": _lake, "mountains": _mountains,
           "forest": _forest, "town": _town}


def paint_place(canvas, rng, side, place, time, horizon, rain=False):
    """Paints the background with the horizon at row `horizon`; returns the light."""
    zenith, low, light = RAIN if rain else TIMES[time]
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
    canvas.draw.rectangle((0, horizon * SUPERSAMPLE, canvas.width * SUPERSAMPLE,
                           canvas.height * SUPERSAMPLE), fill=far)
    GROUNDS[place](canvas, rng, side, horizon, near, far)
    return light


def paint_rain(canvas, rng, side):
    """Slanting streaks over the whole picture."""
    for _ in range(round(60 * canvas.width * canvas.height / side**2)):
        x, y = rng.uniform(0, canvas.width), rng.uniform(-0.1 * side, canvas.height)
        canvas.draw.line(_scaled([(x, y), (x - side * 0.03, y + side * 0.1)]), fill=(212, 222, 234),
                         width=round(side * 0.009 * SUPERSAMPLE))
