"""A painter for each object, and what the composer must know of it; animals are in creatures.py.
Each draws with a Pen in units of the object's height.

Big plain shapes and one or two telling details each, because that is what survives an 8x
compressing autoencoder at 128 pixels. `rng` varies proportions a little, never the idea.
"""

from math import cos, pi, sin

from . import creatures
from .palette import mix

BROWN, CREAM, STEEL, GLASS = (120, 76, 40), (250, 236, 205), (45, 45, 52), (170, 215, 240)
LEAF, SUN, MOON, CLOUD = (60, 150, 60), (255, 214, 50), (250, 244, 200), (250, 250, 252)
WHITE, BLACK = (252, 252, 252), (25, 22, 28)


def house(pen, colour, rng):
    half = rng.uniform(0.40, 0.52)
    pen.rect(-half, 0, half, 0.55, colour)
    pen.poly([(-half - 0.09, 0.55), (half + 0.09, 0.55), (0, 1)], mix(colour, (70, 30, 20), 0.62))
    pen.rect(-0.09, 0, 0.09, 0.32, BROWN)
    for x in (-half * 0.62, half * 0.62):
        pen.rect(x - 0.085, 0.22, x + 0.085, 0.40, (255, 240, 150))


def tree(pen, colour, rng):
    pen.rect(-0.06, 0, 0.06, 0.45, BROWN)
    r = rng.uniform(0.27, 0.31)
    pen.oval(-0.19, 0.52, r * 0.85, r * 0.85, colour)
    pen.oval(0.19, 0.52, r * 0.85, r * 0.85, colour)
    pen.oval(0, 0.70, r, r, colour)
    pen.oval(0, 0.56, r * 0.8, r * 0.7, colour, edge=0)


def boat(pen, colour, rng):
    pen.line([(0, 0.2), (0, 1)], BROWN, 0.035)
    pen.poly([(0.04, 0.30), (0.04, 0.97), (0.46, 0.32)], WHITE)
    pen.poly([(-0.04, 0.30), (-0.04, 0.85), (-0.34, 0.32)], WHITE)
    pen.poly([(-0.56, 0.25), (0.60, 0.25), (0.42, 0), (-0.40, 0)], colour)


def car(pen, colour, rng):
    roof = rng.uniform(0.30, 0.38)
    pen.poly([(-roof - 0.2, 0.55), (-roof, 0.98), (roof - 0.05, 0.98), (roof + 0.2, 0.55)], colour)
    pen.poly([(-roof - 0.07, 0.58), (-roof + 0.05, 0.88), (-0.05, 0.88), (-0.05, 0.58)], GLASS)
    pen.poly([(0.05, 0.58), (0.05, 0.88), (roof - 0.1, 0.88), (roof + 0.07, 0.58)], GLASS)
    pen.poly([(-0.88, 0.18), (-0.86, 0.5), (-0.6, 0.58), (0.6, 0.58), (0.9, 0.46), (0.9, 0.18)],
             colour)
    for x in (-0.5, 0.5):
        pen.oval(x, 0.2, 0.2, 0.2, STEEL)
        pen.oval(x, 0.2, 0.09, 0.09, (200, 200, 205), edge=0)


def flower(pen, colour, rng):
    pen.line([(0, 0), (0, 0.6)], LEAF, 0.05)
    pen.poly([(0, 0.1), (0.17, 0.2), (0.27, 0.36), (0.1, 0.3)], LEAF)
    pen.poly([(0, 0.06), (-0.17, 0.14), (-0.27, 0.3), (-0.1, 0.24)], LEAF)
    turn = rng.uniform(0, pi / 3)
    for k in range(6):
        a = turn + k * pi / 3
        pen.oval(0.19 * cos(a), 0.7 + 0.19 * sin(a), 0.125, 0.125, colour)
    middle = (140, 80, 30) if colour[0] > 220 and colour[2] < 80 else SUN
    pen.oval(0, 0.7, 0.12, 0.12, middle)


def balloon(pen, colour, rng):
    for x in (-0.11, 0.11):
        pen.line([(x * 2.2, 0.42), (x, 0.16)], BROWN, 0.02)
    pen.poly([(-0.33, 0.5), (0.33, 0.5), (0.12, 0.28), (-0.12, 0.28)], colour)
    pen.oval(0, 0.65, 0.36, 0.35, colour)
    pen.oval(0, 0.65, 0.15, 0.345, mix(colour, WHITE, 0.45), edge=0)
    pen.rect(-0.12, 0, 0.12, 0.17, BROWN)


def mushroom(pen, colour, rng):
    pen.poly([(-0.15, 0), (0.15, 0), (0.11, 0.5), (-0.11, 0.5)], CREAM)
    wide = rng.uniform(0.46, 0.54)
    cap = [(wide * cos(pi * k / 16), 0.45 + 0.53 * sin(pi * k / 16)) for k in range(17)]
    pen.poly(cap, colour)
    spot = WHITE if min(colour) < 200 else (225, 120, 110)
    for x, y, r in ((-0.24, 0.62, 0.075), (0.02, 0.80, 0.085), (0.25, 0.60, 0.07)):
        pen.oval(x, y, r, r, spot, edge=0)


def sun(pen, colour, rng):
    turn = rng.uniform(0, pi / 5)
    for k in range(10):
        a = turn + k * pi / 5
        pen.line([(0.3 * cos(a), 0.5 + 0.3 * sin(a)), (0.5 * cos(a), 0.5 + 0.5 * sin(a))], SUN, 0.06)
    pen.oval(0, 0.5, 0.34, 0.34, SUN)


def moon(pen, colour, rng):
    outer = [(0.5 * cos(a), 0.5 + 0.5 * sin(a)) for a in
             (pi * (0.35 + 1.3 * k / 24) for k in range(25))]
    inner = [(0.17 + 0.40 * cos(a), 0.5 + 0.445 * sin(a)) for a in
             (pi * (1.66 - 1.32 * k / 24) for k in range(25))]
    pen.poly(outer + inner, MOON)


def cloud(pen, colour, rng):
    puffs = ((-0.55, 0.32, 0.3), (0.55, 0.32, 0.3), (-0.2, 0.55, 0.4), (0.25, 0.52, 0.36))
    for x, y, r in puffs:
        pen.oval(x, y, r, r * 0.95, CLOUD, edge=0.02)
    for x, y, r in puffs + ((0, 0.3, 0.3),):
        pen.oval(x, y, r * 0.94, r * 0.88, CLOUD, edge=0)


def bus(pen, colour, rng):
    pen.rect(-0.98, 0.2, 0.98, 1.0, colour)
    pen.rect(-0.98, 0.3, 0.98, 0.4, mix(colour, WHITE, 0.6), edge=0)
    for x in (-0.84, -0.4, 0.04, 0.48):
        pen.rect(x, 0.54, x + 0.34, 0.86, GLASS)
    for x in (-0.55, 0.55):
        pen.oval(x, 0.19, 0.19, 0.19, STEEL)
        pen.oval(x, 0.19, 0.08, 0.08, (200, 200, 205), edge=0)


def castle(pen, colour, rng):
    dark = mix(colour, BLACK, 0.28)
    pen.rect(-0.4, 0, 0.4, 0.52, colour)
    for x in (-0.3, -0.1, 0.1, 0.3):
        pen.rect(x - 0.06, 0.5, x + 0.06, 0.6, colour)
    for side in (-1, 1):
        pen.rect(side * 0.48 - 0.14, 0, side * 0.48 + 0.14, 0.7, mix(colour, WHITE, 0.12))
        pen.poly([(side * 0.48 - 0.2, 0.7), (side * 0.48 + 0.2, 0.7), (side * 0.48, 1.0)], dark)
        pen.rect(side * 0.48 - 0.045, 0.42, side * 0.48 + 0.045, 0.56, BLACK, edge=0)
    pen.rect(-0.12, 0, 0.12, 0.26, BROWN)


def tent(pen, colour, rng):
    wide = rng.uniform(0.68, 0.8)
    pen.poly([(-wide, 0), (wide, 0), (0, 1)], colour)
    pen.poly([(-0.08, 1), (0.08, 1), (wide * 0.55, 0), (wide * 0.3, 0)], mix(colour, WHITE, 0.55))
    pen.poly([(-wide * 0.42, 0), (wide * 0.1, 0), (-0.03, 0.62)], (64, 50, 48))


def umbrella(pen, colour, rng):
    pen.line([(0, 0), (0, 0.95)], BROWN, 0.05)
    pen.poly([(0.55 * cos(pi * k / 16), 0.52 + 0.46 * sin(pi * k / 16)) for k in range(17)], colour)
    pen.poly([(-0.2, 0.52), (0.2, 0.52), (0.12, 0.86), (0, 0.98), (-0.12, 0.86)],
             mix(colour, WHITE, 0.6))


def apple(pen, colour, rng):
    pen.line([(0, 0.76), (0.06, 1.0)], BROWN, 0.07)
    pen.poly([(0.06, 0.84), (0.22, 1.0), (0.44, 0.96), (0.3, 0.82)], LEAF)
    for side in (-1, 1):
        pen.oval(side * 0.18, 0.42, 0.34, 0.42, colour)
    pen.oval(0, 0.38, 0.4, 0.34, colour, edge=0)
    pen.oval(-0.24, 0.56, 0.08, 0.12, mix(colour, WHITE, 0.7), edge=0)


def plane(pen, colour, rng):
    pen.poly([(-0.1, 0.62), (-0.52, 1.0), (-0.28, 1.0), (0.3, 0.62)], mix(colour, BLACK, 0.18))
    pen.poly([(-0.75, 0.6), (-1.1, 1.0), (-0.86, 1.0), (-0.5, 0.66)], colour)
    pen.oval(0, 0.52, 0.98, 0.23, colour)
    for x in (-0.35, -0.1, 0.15, 0.4):
        pen.oval(x, 0.57, 0.07, 0.07, GLASS)
    pen.poly([(0.66, 0.62), (0.84, 0.62), (0.9, 0.54), (0.66, 0.54)], GLASS)
    pen.poly([(-0.05, 0.45), (-0.55, 0.0), (-0.26, 0.0), (0.36, 0.45)], mix(colour, BLACK, 0.28))


def snowman(pen, colour, rng):
    for y, r in ((0.24, 0.26), (0.58, 0.2)):
        pen.oval(0, y, r, r, CLOUD)
    for side in (-1, 1):
        pen.line([(side * 0.18, 0.6), (side * 0.42, 0.74)], BROWN, 0.035)
    pen.oval(0, 0.78, 0.145, 0.14, CLOUD)
    pen.rect(-0.18, 0.87, 0.18, 0.9, BLACK)
    pen.rect(-0.11, 0.89, 0.11, 1.0, BLACK)
    for side in (-1, 1):
        pen.oval(side * 0.055, 0.81, 0.022, 0.022, BLACK, edge=0)
    pen.poly([(0, 0.79), (0, 0.74), (0.16, 0.75)], (245, 130, 30))


class Kind:
    """What the scene composer must know of an object: painter, where it belongs, relative width
    (of its height), and whether it takes a colour (those that do not have less to be learned, and
    are painted less often)."""

    def __init__(self, paint, where, width=1.0, coloured=True):
        self.paint, self.where, self.width, self.coloured = paint, where, width, coloured
        self.weight = (1.6 if where == "water" else 1.0) if coloured else 0.5


KINDS = {
    "house": Kind(house, "land", 1.15),
    "tree": Kind(tree, "land", 0.9),
    "boat": Kind(boat, "water", 1.15),
    "car": Kind(car, "land", 1.8),
    "flower": Kind(flower, "land", 0.65),
    "cat": Kind(creatures.cat, "land", 0.8),
    "fish": Kind(creatures.fish, "water", 1.65),
    "balloon": Kind(balloon, "sky", 0.75),
    "mushroom": Kind(mushroom, "land", 1.0),
    "sun": Kind(sun, "sky", coloured=False),
    "moon": Kind(moon, "sky", 0.85, coloured=False),
    "cloud": Kind(cloud, "sky", 1.8, coloured=False),
    "dog": Kind(creatures.dog, "land", 1.6),
    "bird": Kind(creatures.bird, "sky", 1.9),
    "butterfly": Kind(creatures.butterfly, "sky", 1.35),
    "plane": Kind(plane, "sky", 2.0),
    "duck": Kind(creatures.duck, "water", 1.7),
    "whale": Kind(creatures.whale, "water", 1.85),
    "bus": Kind(bus, "land", 1.9),
    "castle": Kind(castle, "land", 1.3),
    "tent": Kind(tent, "land", 1.5),
    "umbrella": Kind(umbrella, "land", 1.1),
    "apple": Kind(apple, "land", 1.0),
    "snowman": Kind(snowman, "land", 0.8, coloured=False),
}
