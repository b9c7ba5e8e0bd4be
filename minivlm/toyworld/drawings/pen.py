"""A pen for small drawings: shapes in the unit square, x to the right, y down, drawn large and then reduced.

All lengths are shares of the square's side, unless pixels are named. The pen mirrors, stretches and tilts what is
drawn, so that the drawings need not. `Pen.finish` adds an outline, crops to what was drawn, reduces and shades it.
"""

import math
import random
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]

WHITE: Color = (246, 246, 242)
STEEL: Color = (150, 156, 164)
DARK: Color = (44, 44, 50)
GLASS: Color = (176, 216, 238)
WOOD: Color = (132, 86, 48)

MARGIN = 0.3  # around the unit square: turned, it reaches 0.21 beyond its sides; the rest is for the outline
CIRCLE = [(math.cos(math.tau * i / 28), math.sin(math.tau * i / 28)) for i in range(28)]


def light(color: Color, amount: float) -> Color:
    """Move a colour toward white; amount 0 keeps it, 1 is white."""
    red, green, blue = (round(channel + (255 - channel) * amount) for channel in color)
    return red, green, blue


def dark(color: Color, amount: float) -> Color:
    """Move a colour toward black; amount 0 keeps it, 1 is black."""
    red, green, blue = (round(channel * (1 - amount)) for channel in color)
    return red, green, blue


def is_dark(color: Color) -> bool:
    """Whether details on this colour must be lighter than it: true for black and colours near it."""
    return sum(color) < 200


def contrast(color: Color, amount: float) -> Color:
    """A detail colour that shows on `color`: lighter on dark colours, darker on all others."""
    return light(color, amount) if is_dark(color) else dark(color, amount)


def vary(color: Color, rng: random.Random, spread: int = 12) -> Color:
    """A colour near this one: `spread` is the largest change of brightness, out of 255."""
    brightness = rng.uniform(-spread, spread)
    changed = [round(channel + brightness + rng.uniform(-spread, spread) / 3) for channel in color]
    red, green, blue = (min(255, max(0, channel)) for channel in changed)
    return red, green, blue


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, steps: int = 14) -> list[Point]:
    """`steps` + 1 points on an ellipse around (x, y), half-axes `rx` and `ry`. Angles are in degrees, clockwise: 0 is
    at the right, 90 at the bottom.
    """
    angles = [math.radians(start + (stop - start) * i / steps) for i in range(steps + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def turn(points: Sequence[Point], degrees: float) -> list[Point]:
    """The points turned clockwise about the middle of the unit square."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(0.5 + (x - 0.5) * cos - (y - 0.5) * sin, 0.5 + (x - 0.5) * sin + (y - 0.5) * cos) for x, y in points]


def spline(points: Sequence[Point], closed: bool = False, steps: int = 6) -> list[Point]:
    """A smooth curve (Catmull-Rom) through the points, with `steps` points for each stretch between two of them."""
    p = [points[-1], *points, points[0], points[1]] if closed else [points[0], *points, points[-1]]
    curve = [
        catmull_rom(p[i], p[i + 1], p[i + 2], p[i + 3], j / steps) for i in range(len(p) - 3) for j in range(steps)
    ]
    return curve if closed else [*curve, points[-1]]


def catmull_rom(a: Point, b: Point, c: Point, d: Point, t: float) -> Point:
    """The point of the Catmull-Rom curve at t, from 0 at b to 1 at c; a and d are the points before and after."""
    wa, wb = t * (2 * t - t * t - 1) / 2, (2 + t * t * (3 * t - 5)) / 2
    wc, wd = t * (1 + 4 * t - 3 * t * t) / 2, t * t * (t - 1) / 2
    return wa * a[0] + wb * b[0] + wc * c[0] + wd * d[0], wa * a[1] + wb * b[1] + wc * c[1] + wd * d[1]


class Pen:
    """Draws opaque shapes on a transparent canvas; every length is a share of the unit square's side."""

    def __init__(self, scale: int, *, tilt: float = 0.0, mirror: bool = False, stretch: float = 1.0) -> None:
        """`scale`: the unit square's side in pixels; `tilt`: degrees clockwise; `stretch`: factor of the width."""
        self.scale = scale
        side = math.ceil(scale * (1 + 2 * MARGIN))
        self.image = Image.new("RGBA", (side, side))
        self._draw = ImageDraw.Draw(self.image)
        cos, sin, width = math.cos(math.radians(tilt)), math.sin(math.radians(tilt)), -stretch if mirror else stretch
        self._matrix = (scale * cos * width, -scale * sin, scale * sin * width, scale * cos)
        self._middle = side / 2

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        self._draw.polygon(self._pixels(points), fill=color)

    def blob(self, points: Sequence[Point], color: Color) -> None:
        """A closed smooth shape through the points."""
        self.polygon(spline(points, closed=True), color)

    def oval(self, x: float, y: float, rx: float, ry: float, color: Color, turn: float = 0.0) -> None:
        """A filled ellipse around (x, y) with half-axes `rx` and `ry`, turned by `turn` degrees clockwise."""
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        self.polygon([(x + rx * c * cos - ry * s * sin, y + rx * c * sin + ry * s * cos) for c, s in CIRCLE], color)

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color, corner: float = 0.0) -> None:
        """A filled rectangle; `corner` is the radius of its corners."""
        if not corner:
            self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color)
            return
        left, top, right, bottom = x0 + corner, y0 + corner, x1 - corner, y1 - corner
        centers = [(right, bottom), (left, bottom), (left, top), (right, top)]
        corners = [arc(x, y, corner, corner, 90 * i, 90 * i + 90, 4) for i, (x, y) in enumerate(centers)]
        self.polygon([point for points in corners for point in points], color)

    def line(self, points: Sequence[Point], width: float, color: Color) -> None:
        """A stroke of that width, at least one pixel, with round ends and joints."""
        pixels, thick = self._pixels(points), max(1.0, width * self.scale)
        self._draw.line(pixels, fill=color, width=round(thick))
        for x, y in pixels:
            self._draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=color)

    def curve(self, points: Sequence[Point], width: float, color: Color) -> None:
        """A smooth stroke through the points."""
        self.line(spline(points), width, color)

    def ring(self, x: float, y: float, radius: float, width: float, color: Color) -> None:
        """A circle drawn as a stroke; its inside is left as it is."""
        self.line(arc(x, y, radius, radius, 0, 360, 28), width, color)

    def finish(self, size: int, outline: Color, shading: float) -> Image.Image:
        """The drawing as RGBA: with an outline, cropped, `size` pixels on the longer side, darker toward the bottom.

        `shading`: the share of brightness that the bottom loses.
        """
        picture = self._outlined(outline)
        picture = picture.crop(picture.getbbox())
        ratio = size / max(picture.size)
        width, height = (max(1, round(side * ratio)) for side in picture.size)
        return shaded(picture.resize((width, height), Image.Resampling.LANCZOS), shading)

    def _outlined(self, color: Color) -> Image.Image:
        """The drawing with an outline: its shape, moved in eight directions, in this colour behind it."""
        reach = max(1, round(self.scale * 0.018))  # pixels
        shape = wider = self.image.getchannel("A")
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)):
            wider = ImageChops.lighter(wider, ImageChops.offset(shape, round(dx * reach), round(dy * reach)))
        picture = Image.new("RGBA", self.image.size, color)
        picture.paste(self.image, mask=shape)
        picture.putalpha(wider)
        return picture

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        """Points of the unit square as pixels of the canvas, in the pen's pose."""
        xx, xy, yx, yy = self._matrix
        m = self._middle
        return [(m + xx * (x - 0.5) + xy * (y - 0.5), m + yx * (x - 0.5) + yy * (y - 0.5)) for x, y in points]


def shaded(picture: Image.Image, depth: float) -> Image.Image:
    """The picture with full brightness at the top and `1 - depth` of it at the bottom; the alpha channel stays."""
    ramp = Image.linear_gradient("L").resize(picture.size).point([round(255 - depth * v) for v in range(256)])
    darker = ImageChops.multiply(picture.convert("RGB"), Image.merge("RGB", (ramp, ramp, ramp)))
    darker.putalpha(picture.getchannel("A"))
    return darker
