"""Chalk drawings of scenes: the style of the LoRA that ships. And, as lines alone, the scribbles that steer the ControlNet. Plain
image processing, so that every scene has one and nobody has to draw; no caption of the world knows the style."""

import numpy as np
from PIL import Image, ImageFilter

BOARD, CHALK = np.array([32, 44, 42], np.float32), np.array([244, 244, 236], np.float32)
TINT = 0.28  # how much of the colours is rubbed into the board
LINE_SURE = 30.0  # of 255: a step of brightness or colour that is certainly a line
SCRIBBLED = 0.6


def contours(picture):
    """How surely a line runs through each pixel, float [h, w] in 0..1: the largest step over the colours, blurred a little."""
    x = np.asarray(picture.convert("RGB").filter(ImageFilter.GaussianBlur(0.6)), np.float32)
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    across = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    down = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    return np.clip(np.hypot(across, down).max(axis=2) / LINE_SURE, 0, 1)


def draw(picture):
    """The picture as a chalk drawing: light lines on a dark board, areas tinted."""
    rubbed = BOARD + TINT * (np.asarray(picture.convert("RGB"), np.float32) - BOARD)
    line = (contours(picture) ** 1.5)[..., None]
    return Image.fromarray(np.round(rubbed * (1 - line) + CHALK * line).astype(np.uint8))


def scribble(picture):
    """White lines of about two pixels on black, as ControlNet's preprocessors write them."""
    lines = Image.fromarray(np.where(contours(picture) > SCRIBBLED, 255, 0).astype(np.uint8))
    return lines.filter(ImageFilter.MedianFilter(3)).convert("RGB")
