"""Drawn art for the world's objects: the emoji of Debian's fonts-noto-color-emoji (see ATTRIBUTION.md).

The glyphs are cut out of the font once, into art/ of the state folder, so that the folder can be carried
to a machine without the package: `python -m world.art` does it, and so does whoever needs the first one.
Nothing of the font is in the project."""

import os
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import state

PACKAGE = "fonts-noto-color-emoji"
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
BITMAP = 109  # pixels an em, the one size the font has
MARGIN = 40  # more than a glyph reaches beyond its origin and its em
GLYPHS = {
    "house": "\U0001f3e0", "tree": "\U0001f333", "boat": "\u26f5", "car": "\U0001f697",
    "flower": "\U0001f337", "cat": "\U0001f408", "fish": "\U0001f41f", "balloon": "\U0001f388",
    "mushroom": "\U0001f344", "sun": "\u2600", "moon": "\U0001f319", "cloud": "\u2601",
    "dog": "\U0001f415", "bird": "\U0001f426", "butterfly": "\U0001f98b", "plane": "\u2708",
    "duck": "\U0001f986", "whale": "\U0001f433", "bus": "\U0001f68c", "castle": "\U0001f3f0",
    "tent": "\u26fa", "umbrella": "\u2602", "apple": "\U0001f34e", "snowman": "\u26c4",
}


def _file(kind):
    return state.path("art", f"{kind}.png")


def _cut_out(font, kind):
    """A kind's glyph, RGBA, cropped to what is not transparent."""
    glyph = Image.new("RGBA", (BITMAP + 2 * MARGIN,) * 2)
    ImageDraw.Draw(glyph).text((MARGIN, MARGIN // 2), GLYPHS[kind], font=font, embedded_color=True)
    box = glyph.getchannel("A").getbbox()
    if box is None:
        raise SystemExit(f"{FONT} has no picture of a {kind} (U+{ord(GLYPHS[kind]):X})")
    return glyph.crop(box)


def extract():
    """Writes each kind's glyph that art/ lacks, about 120 pixels high; returns the folder."""
    missing = [kind for kind in GLYPHS if not _file(kind).exists()]
    if missing:
        if not FONT.exists():
            raise SystemExit(f"{_file(missing[0])} is missing and so is {FONT}: install the package {PACKAGE}, "
                             "or copy the folder art/ from the state folder of a machine that has it")
        font = ImageFont.truetype(FONT, BITMAP)
        for kind in missing:  # several processes may do so at once
            temporary = _file(kind).with_suffix(f".{os.getpid()}")
            _cut_out(font, kind).save(temporary, "PNG")
            os.replace(temporary, _file(kind))
    return _file("").parent


@lru_cache(maxsize=None)
def glyph(kind):
    """The art of a kind of object, RGBA, cropped; not to be changed."""
    extract()
    with Image.open(_file(kind)) as art:
        return art.convert("RGBA")


def width(kind):
    """How wide a kind's art is, in units of its height."""
    return glyph(kind).width / glyph(kind).height


if __name__ == "__main__":
    print(f"{len(GLYPHS)} glyphs in {extract()}")
