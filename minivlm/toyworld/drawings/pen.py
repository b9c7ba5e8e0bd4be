"""A pen for small drawings: shapes in the unit square, x to the right, y down, rendered larger and then reduced.

Drawings name points in a unit square; mirroring, stretching and tilting are the pen's business, so a drawing never
thinks about its pose. `Pen.finish` adds an outline, crops to the ink, reduces and shades from top to bottom.
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

_MARGIN = 0.3  # a unit square turned by any angle reaches 0.21 beyond its sides; the rest is room for the outline
_CIRCLE = [(math.cos(math.tau * i / 28), math.sin(math.tau * i / 28)) for i in range(28)]


def light(color: Color, amount: float) -> Color:
    """Move a colour toward white; amount 0 keeps it, 1 is white."""
    return tuple(round(c + (255 - c) * amount) for c in color)


def dark(color: Color, amount: float) -> Color:
    """Move a colour toward black; amount 0 keeps it, 1 is black."""
    return tuple(round(c * (1 - amount)) for c in color)


def is_dark(color: Color) -> bool:
    """True for black and its like: details on it must be lighter than it is."""
    return sum(color) < 200


def contrast(color: Color, amount: float) -> Color:
    """A detail colour that shows on `color`: lighter on dark colours, darker on all others."""
    return light(color, amount) if is_dark(color) else dark(color, amount)


def vary(color: Color, rng: random.Random, spread: int = 12) -> Color:
    """The same colour under a slightly different lamp."""
    glow = rng.uniform(-spread, spread)
    return tuple(min(255, max(0, round(c + glow + rng.uniform(-spread, spread) / 3))) for c in color)


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, steps: int = 14) -> list[Point]:
    """Points on an ellipse; angles in degrees, clockwise, 0 at the right, 90 at the bottom."""
    angles = [math.radians(start + (stop - start) * i / steps) for i in range(steps + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def turn(points: Sequence[Point], degrees: float) -> list[Point]:
    """The points turned clockwise about the middle of the unit square."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(0.5 + (x - 0.5) * cos - (y - 0.5) * sin, 0.5 + (x - 0.5) * sin + (y - 0.5) * cos) for x, y in points]


def spline(points: Sequence[Point], closed: bool = False, steps: int = 6) -> list[Point]:
    """A smooth (Catmull-Rom) curve through the points."""
    p = [points[-1], *points, points[0], points[1]] if closed else [points[0], *points, points[-1]]
    curve = [_between(*p[i : i + 4], j / steps) for i in range(len(p) - 3) for j in range(steps)]
    return curve if closed else [*curve, points[-1]]


def _between(a: Point, b: Point, c: Point, d: Point, t: float) -> Point:
    """The Catmull-Rom curve at time t on the stretch from b to c."""
    wa, wb = t * (2 * t - t * t - 1) / 2, (2 + t * t * (3 * t - 5)) / 2
    wc, wd = t * (1 + 4 * t - 3 * t * t) / 2, t * t * (t - 1) / 2
    return wa * a[0] + wb * b[0] + wc * c[0] + wd * d[0], wa * a[1] + wb * b[1] + wc * c[1] + wd * d[1]


class Pen:
    """Draws opaque shapes on a transparent canvas; every length is a fraction of the unit square's side."""

    def __init__(self, scale: int, *, tilt: float = 0.0, mirror: bool = False, stretch: float = 1.0) -> None:
        """`scale`: pixels of the unit square's side; `tilt`: degrees clockwise; `stretch`: width over natural width."""
        self.scale = scale
        side = math.ceil(scale * (1 + 2 * _MARGIN))
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
        """A filled ellipse, itself turned by `turn` degrees."""
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        self.polygon([(x + rx * c * cos - ry * s * sin, y + rx * c * sin + ry * s * cos) for c, s in _CIRCLE], color)

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color, corner: float = 0.0) -> None:
        """A rectangle, its corners rounded by `corner`."""
        if not corner:
            return self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color)
        centers = ((x1 - corner, y1 - corner), (x0 + corner, y1 - corner), (x0 + corner, y0 + corner))
        centers += ((x1 - corner, y0 + corner),)
        turns = [arc(x, y, corner, corner, 90 * i, 90 * i + 90, 4) for i, (x, y) in enumerate(centers)]
        return self.polygon([point for turn in turns for point in turn], color)

    def line(self, points: Sequence[Point], width: float, color: Color) -> None:
        """A stroke with round ends and joints."""
        pixels, w = self._pixels(points), max(1.0, width * self.scale)
        self._draw.line(pixels, fill=color, width=round(w))
        for x, y in pixels:
            self._draw.ellipse((x - w / 2, y - w / 2, x + w / 2, y + w / 2), fill=color)

    def curve(self, points: Sequence[Point], width: float, color: Color) -> None:
        """A smooth stroke through the points."""
        self.line(spline(points), width, color)

    def ring(self, x: float, y: float, radius: float, width: float, color: Color) -> None:
        """A circle drawn as a stroke; what lies inside stays as it is."""
        self.line(arc(x, y, radius, radius, 0, 360, 28), width, color)

    def finish(self, size: int, outline: Color, shading: float) -> Image.Image:
        """Outline, crop to the ink, reduce to `size` pixels on the longer side, darken the foot by `shading`."""
        picture = self._outlined(outline)
        picture = picture.crop(picture.getbbox())
        ratio = size / max(picture.size)
        target = tuple(max(1, round(side * ratio)) for side in picture.size)
        return _shaded(picture.resize(target, Image.Resampling.LANCZOS), shading)

    def _outlined(self, color: Color) -> Image.Image:
        reach = max(1, round(self.scale * 0.018))
        ink = thick = self.image.getchannel("A")
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)):
            thick = ImageChops.lighter(thick, ImageChops.offset(ink, round(dx * reach), round(dy * reach)))
        picture = Image.new("RGBA", self.image.size, color)
        picture.paste(self.image, mask=ink)
        picture.putalpha(thick)
        return picture

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        xx, xy, yx, yy = self._matrix
        m = self._middle
        return [(m + xx * (x - 0.5) + xy * (y - 0.5), m + yx * (x - 0.5) + yy * (y - 0.5)) for x, y in points]


def _shaded(picture: Image.Image, depth: float) -> Image.Image:
    """Full brightness at the top, `1 - depth` of it at the bottom; the alpha channel stays."""
    ramp = Image.linear_gradient("L").resize(picture.size).point([round(255 - depth * v) for v in range(256)])
    shaded = ImageChops.multiply(picture.convert("RGB"), Image.merge("RGB", (ramp, ramp, ramp)))
    shaded.putalpha(picture.getchannel("A"))
    return shaded
