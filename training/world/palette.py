"""Named colours and the paints of places and times of day.

Few and strong on purpose: a model of this size, trained for hours on a processor, learns eight
clearly different colours and blurs eighty similar ones. New names are appended: their order is that
of the judge's answers.
"""

COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 130, 20),
    "yellow": (250, 212, 40),
    "green": (40, 160, 60),
    "blue": (40, 90, 220),
    "purple": (135, 60, 175),
    "white": (246, 246, 246),
    "pink": (246, 140, 190),
}

# time of day: sky at the zenith, sky at the horizon, light that multiplies the ground and objects
TIMES = {
    "day": ((95, 175, 245), (205, 235, 252), (1.0, 1.0, 1.0)),
    "sunset": ((120, 70, 140), (255, 165, 85), (1.0, 0.82, 0.74)),
    "night": ((14, 18, 52), (44, 52, 108), (0.55, 0.58, 0.80)),
}

# place: near ground, far ground
PLACES = {
    "meadow": ((96, 178, 70), (140, 204, 100)),
    "hills": ((76, 150, 62), (120, 186, 92)),
    "sea": ((26, 92, 168), (64, 142, 206)),
    "snow": ((238, 244, 252), (208, 222, 240)),
    "desert": ((226, 184, 112), (240, 208, 146)),
    "lake": ((92, 172, 74), (58, 136, 200)),
    "mountains": ((104, 168, 84), (128, 136, 160)),
    "forest": ((84, 148, 66), (34, 92, 60)),
    "town": ((150, 150, 156), (196, 178, 160)),
}

# a rainy day takes the place of the day's sky and light
RAIN = ((120, 130, 146), (176, 184, 194), (0.80, 0.83, 0.90))


def mix(a, b, t):
    """The colour a fraction t of the way from a to b."""
    return tuple(round(x + (y - x) * t) for x, y in zip(a, b))


def lit(colour, light):
    """A colour under the light of a time of day."""
    return tuple(min(255, round(c * f)) for c, f in zip(colour, light))
