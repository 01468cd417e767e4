"""Sheets to look at: pictures in a grid, each over its prompt."""

from PIL import Image, ImageDraw, ImageFont

LINE, GAP = 18, 6


def _write(draw, at, text, width):
    """The text in at most two lines of `width` pixels, centred."""
    font = ImageFont.load_default(13)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    for k, line in enumerate(lines[:2]):
        draw.text((at[0] + width / 2, at[1] + k * LINE), line, fill="black", font=font, anchor="ma")


def grid(cells, columns):
    """One picture of (picture, text) cells of equal height, row by row."""
    width = max(picture.width for picture, _ in cells) + GAP
    height = max(picture.height for picture, _ in cells) + GAP + 2 * LINE
    sheet = Image.new("RGB", (width * columns, height * -(-len(cells) // columns)), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (picture, text) in enumerate(cells):
        x, y = k % columns * width + GAP // 2, k // columns * height + GAP // 2
        sheet.paste(picture, (x, y))
        _write(draw, (x, y + picture.height + 2), text, picture.width)
    return sheet


def outlined(picture, box):
    """A copy with a black and white outline around a box in pixels."""
    copy = picture.copy()
    draw = ImageDraw.Draw(copy)
    draw.rectangle(box, outline="black")
    draw.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline="white")
    return copy
