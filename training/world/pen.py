"""Drawing in an object's own coordinates on a supersampled canvas.

An object is drawn in a frame whose origin is the middle of its foot, x to the right and y up, one
unit = its height. The pen maps that to canvas pixels (mirrored if asked), applies the light of the
time of day, and keeps the box of all it drew.
"""

from PIL import Image, ImageDraw, ImageOps

from .palette import lit, mix

SUPERSAMPLE = 4
DARK = (30, 24, 34)


class Canvas:
    """An RGB picture of width x height pixels, painted at SUPERSAMPLE times that size."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.image = Image.new("RGB", (width * SUPERSAMPLE, height * SUPERSAMPLE))
        self.draw = ImageDraw.Draw(self.image)

    def finish(self):
        """The picture at its final size."""
        return self.image.reduce(SUPERSAMPLE)


class Pen:
    """Draws one object with its foot at (x, y) pixels and `height` pixels tall."""

    def __init__(self, canvas, x, y, height, light, mirrored=False):
        self.canvas, self.light = canvas, light
        self.x, self.y = x * SUPERSAMPLE, y * SUPERSAMPLE
        self.unit = height * SUPERSAMPLE
        self.sign = -1 if mirrored else 1
        self.extent = [float("inf"), float("inf"), float("-inf"), float("-inf")]

    def _map(self, points):
        mapped = [(self.x + self.sign * px * self.unit, self.y - py * self.unit)
                  for px, py in points]
        for mx, my in mapped:
            e = self.extent
            self.extent = [min(e[0], mx), min(e[1], my), max(e[2], mx), max(e[3], my)]
        return mapped

    def _paint(self, colour):
        return lit(colour, self.light)

    def poly(self, points, colour, edge=0.014):
        """A filled polygon with an edge in a darker shade, `edge` units wide (0: none)."""
        mapped = self._map(points)
        self.canvas.draw.polygon(mapped, fill=self._paint(colour))
        if edge:
            self.canvas.draw.line(mapped + mapped[:2], fill=self._paint(mix(colour, DARK, 0.55)),
                                  width=max(2, round(edge * self.unit)), joint="curve")

    def oval(self, x, y, rx, ry, colour, edge=0.014):
        """A filled ellipse around (x, y) with an edge as poly's."""
        (ax, ay), (bx, by) = self._map([(x - rx, y + ry), (x + rx, y - ry)])
        self.canvas.draw.ellipse((min(ax, bx), ay, max(ax, bx), by), fill=self._paint(colour),
                                 outline=self._paint(mix(colour, DARK, 0.55)) if edge else None,
                                 width=max(2, round(edge * self.unit)) if edge else 0)

    def rect(self, x0, y0, x1, y1, colour, edge=0.014):
        """A filled rectangle with an edge as poly's."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, edge)

    def line(self, points, colour, width):
        """A line `width` units wide."""
        self.canvas.draw.line(self._map(points), fill=self._paint(colour),
                              width=max(2, round(width * self.unit)), joint="curve")

    def picture(self, art):
        """An RGBA picture one unit tall, standing on the foot."""
        if self.sign < 0:
            art = ImageOps.mirror(art)
        *bands, alpha = art.split()
        bands = [band.point([min(255, round(v * f)) for v in range(256)])
                 for band, f in zip(bands, self.light)]
        high = max(1, round(self.unit))
        size = max(1, round(art.width * high / art.height)), high
        left, top = round(self.x - size[0] / 2), round(self.y) - high
        art = Image.merge("RGBA", (*bands, alpha)).resize(size, Image.BILINEAR)
        self.canvas.image.paste(art, (left, top), art)
        self.extent = [left, top, left + size[0] - 1, top + high - 1]

    def box(self):
        """[x0, y0, x1, y1] in final pixels of all that was drawn, cut to the canvas."""
        x0, y0, x1, y1 = (v / SUPERSAMPLE for v in self.extent)
        return [max(0, int(x0)), max(0, int(y0)),
                min(self.canvas.width, int(x1) + 1), min(self.canvas.height, int(y1) + 1)]
