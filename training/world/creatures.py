"""Painters of animals; see objects.py."""

from .palette import mix

WHITE, BLACK, BEAK = (252, 252, 252), (25, 22, 28), (245, 150, 30)


def _eye(pen, x, y, r):
    pen.oval(x, y, r, r, WHITE)
    pen.oval(x + r * 0.25, y, r * 0.55, r * 0.55, BLACK, edge=0)


def cat(pen, colour, rng):
    pen.line([(0.22, 0.08), (0.42, 0.1), (0.48, 0.28), (0.42, 0.42)], mix(colour, BLACK, 0.15), 0.08)
    pen.oval(0, 0.28, 0.28, 0.29, colour)
    for side in (-1, 1):
        pen.poly([(side * 0.24, 0.72), (side * 0.23, 1.0), (side * 0.05, 0.88)], colour)
    pen.oval(0, 0.70, 0.26, 0.22, colour)
    for side in (-1, 1):
        pen.oval(side * 0.1, 0.73, 0.042, 0.055, BLACK, edge=0)
        pen.line([(side * 0.1, 0.62), (side * 0.32, 0.64)], BLACK, 0.012)
        pen.oval(side * 0.1, 0.05, 0.09, 0.055, mix(colour, WHITE, 0.35))
    pen.oval(0, 0.635, 0.035, 0.025, (235, 120, 140), edge=0)


def dog(pen, colour, rng):
    dark = mix(colour, BLACK, 0.3)
    pen.line([(-0.55, 0.55), (-0.72, 0.78)], colour, 0.09)
    for x in (-0.48, -0.3, 0.2, 0.36):
        pen.rect(x - 0.075, 0, x + 0.075, 0.36, mix(colour, BLACK, 0.08))
    pen.oval(-0.05, 0.46, 0.56, 0.21, colour)
    pen.oval(0.48, 0.76, 0.25, 0.23, colour)
    pen.oval(0.68, 0.68, 0.17, 0.12, mix(colour, WHITE, 0.3))
    pen.oval(0.82, 0.72, 0.05, 0.045, BLACK, edge=0)
    pen.oval(0.32, 0.74, 0.1, 0.22, dark)
    pen.oval(0.54, 0.83, 0.04, 0.05, BLACK, edge=0)


def fish(pen, colour, rng):
    pen.poly([(-0.5, 0.5), (-0.98, 0.88), (-0.88, 0.5), (-0.98, 0.12)], mix(colour, BLACK, 0.18))
    pen.poly([(-0.2, 0.8), (0.05, 1.0), (0.3, 0.8)], mix(colour, BLACK, 0.18))
    pen.oval(0, 0.5, 0.66, 0.4, colour)
    pen.poly([(0.0, 0.42), (-0.28, 0.26), (-0.24, 0.56)], mix(colour, BLACK, 0.18))
    _eye(pen, 0.38, 0.58, 0.09)


def whale(pen, colour, rng):
    for side in (-1, 1):
        pen.line([(0.42, 0.7), (0.42 + side * 0.04, 0.88), (0.42 + side * 0.16, 0.97)],
                 (185, 225, 250), 0.05)
    pen.poly([(-0.72, 0.3), (-1.02, 0.78), (-0.78, 0.66), (-0.6, 0.84), (-0.5, 0.42)], colour)
    pen.poly([(-0.85, 0.36), (-0.35, 0.42), (0.1, 0.72), (0.6, 0.7), (0.86, 0.42), (0.8, 0.12),
              (0.4, 0), (-0.2, 0), (-0.62, 0.12)], colour)
    pen.poly([(0.82, 0.2), (0.78, 0.1), (0.4, 0), (-0.1, 0), (0.3, 0.17)], mix(colour, WHITE, 0.65))
    _eye(pen, 0.56, 0.42, 0.07)


def duck(pen, colour, rng):
    pen.poly([(0.6, 0.8), (0.92, 0.74), (0.6, 0.66)], BEAK)
    pen.poly([(-0.5, 0.3), (-0.85, 0.58), (-0.62, 0.16)], colour)
    pen.oval(-0.05, 0.27, 0.58, 0.27, colour)
    pen.oval(0.42, 0.74, 0.25, 0.25, colour)
    pen.oval(-0.16, 0.31, 0.3, 0.15, mix(colour, BLACK, 0.22))
    pen.oval(0.5, 0.8, 0.045, 0.055, BLACK, edge=0)


def bird(pen, colour, rng):
    pen.poly([(-0.5, 0.42), (-1.0, 0.62), (-1.0, 0.34), (-0.55, 0.28)], mix(colour, BLACK, 0.2))
    pen.poly([(0.62, 0.6), (0.92, 0.5), (0.62, 0.44)], BEAK)
    pen.oval(0, 0.36, 0.56, 0.24, colour)
    pen.oval(0.46, 0.53, 0.23, 0.22, colour)
    pen.poly([(-0.22, 0.4), (-0.4, 1.0), (-0.02, 0.86), (0.24, 0.42)], mix(colour, BLACK, 0.25))
    pen.poly([(-0.1, 0.3), (-0.34, 0), (0.16, 0.2)], mix(colour, BLACK, 0.12))
    pen.oval(0.54, 0.58, 0.045, 0.045, BLACK, edge=0)


def butterfly(pen, colour, rng):
    for side in (-1, 1):
        pen.oval(side * 0.35, 0.66, 0.34, 0.32, colour)
        pen.oval(side * 0.27, 0.24, 0.25, 0.24, mix(colour, BLACK, 0.2))
        pen.oval(side * 0.38, 0.68, 0.13, 0.13, mix(colour, WHITE, 0.6), edge=0)
        pen.line([(0, 0.78), (side * 0.14, 1.0)], BLACK, 0.03)
    pen.oval(0, 0.48, 0.07, 0.38, BLACK)
