"""Scenes: where things are, and how they are painted over a background.

A scene is first *arranged*: each thing gets a square, without pixels. Then it is *painted*: each box shrinks to what
was drawn. Sizes are in pixels for a picture of 96 by 96 pixels, and scale with the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from PIL import Image, ImageDraw, ImageFilter

from minivlm.toyworld.objects import TYPICAL_SIZE, draw_object

Box = tuple[float, float, float, float]
HARD = ("small", "faint", "blurred", "hidden")
GAP = 1.5  # pixels between two boxes
SMALLEST_CLEAR = 13.0  # pixels: the side of the smallest thing that counts as clearly visible


@dataclass(frozen=True)
class Thing:
    """One object in a picture; `box` is (x0, y0, x1, y1) in pixels, `visible` the share of it that can be seen."""

    name: str
    color: str | None
    box: Box
    visible: float = 1.0
    hard: str | None = None  # one of HARD: why it is hard to see

    @property
    def center(self) -> tuple[float, float]:
        """The middle of the box, (x, y) in pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Scene:
    """What is in a picture of `size` by `size` pixels. `picture` is RGB, or None if only the layout was asked for."""

    seed: int
    theme: str
    picture: Image.Image | None
    things: tuple[Thing, ...]
    size: int = 96

    @property
    def names(self) -> list[str]:
        """Every kind of object once, in the order of `things`."""
        return list(dict.fromkeys(thing.name for thing in self.things))

    def of(self, name: str) -> list[Thing]:
        """All things of that name."""
        return [thing for thing in self.things if thing.name == name]


@dataclass(frozen=True)
class Role:
    """A thing without a place yet; `beside` names the thing next to which it should be, if any."""

    name: str
    color: str | None
    hard: str | None
    beside: str | None
    rng: Random  # one for each thing, so that a change of one thing does not change the others


# --- arranging: places without pixels ---------------------------------------------------------------------------


def arrange(roles: Sequence[Role], size: int, shrink: float = 1.0) -> tuple[Thing, ...]:
    """Give each role a square, in their order; a role for which there is no room is left out.

    `size`: the picture's side in pixels; `shrink`: factor of the usual sizes.
    """
    things: list[Thing] = []
    for role in roles:
        thing = find_room(role, things, size, shrink)
        if thing is not None:
            things.append(thing)
    return tuple(things)


def find_room(role: Role, things: Sequence[Thing], size: int, shrink: float) -> Thing | None:
    """A thing in a free place; None if there is none. Places are random, the first 40 of them beside the neighbour, and
    the side shrinks after every 20.
    """
    scale, rng = size / 96, role.rng
    visible = visible_share(role.hard, rng)
    low, high = TYPICAL_SIZE[role.name]
    side = rng.uniform(8, 12) if role.hard == "small" else max(SMALLEST_CLEAR, shrink * rng.uniform(low, high))
    neighbour = next((thing for thing in things if thing.name == role.beside), None)
    for attempt in range(120):
        box = random_square(side * scale, size, neighbour if attempt < 40 else None, rng)
        if all(apart(box, other.box) for other in things):
            return Thing(role.name, role.color, box, visible, role.hard)
        if attempt % 20 == 19 and role.hard != "small":
            side = max(SMALLEST_CLEAR, side * 0.88)
    return None


def visible_share(hard: str | None, rng: Random) -> float:
    """The share of a thing that can be seen. It draws two numbers in any case, so that `rng` goes on the same way."""
    faint, hidden = rng.uniform(0.14, 0.28), rng.uniform(0.15, 0.35)
    if hard == "faint":
        return faint
    return hidden if hard == "hidden" else 1.0


def random_square(side: float, size: int, neighbour: Thing | None, rng: Random) -> Box:
    """A square inside the picture; with a neighbour, at most 0.08 of the picture's side away from its box.

    `side` of the square and `size` of the picture are in pixels.
    """
    x, y = rng.uniform(0, size - side), rng.uniform(0, size - side)
    if neighbour is not None:
        left, top, right, bottom = neighbour.box
        reach = side + 0.08 * size
        x = min(max(0.0, rng.uniform(left - reach, right + reach - side)), size - side)
        y = min(max(0.0, rng.uniform(top - reach, bottom + reach - side)), size - side)
    return x, y, x + side, y + side


def apart(a: Box, b: Box, gap: float = GAP) -> bool:
    """Whether there are at least `gap` pixels between two boxes, to the side or above."""
    return a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]


# --- painting ---------------------------------------------------------------------------------------------------


def paint(picture: Image.Image, thing: Thing, rng: Random) -> Thing:
    """Draw the thing in the middle of its square, on the picture; returns it with the box of what can be seen."""
    left, top, right, bottom = thing.box
    stamp = draw_object(thing.name, rng, int(right - left), thing.color)
    x, y = round((left + right - stamp.width) / 2), round((top + bottom - stamp.height) / 2)
    box = (float(x), float(y), float(x + stamp.width), float(y + stamp.height))
    behind = picture.getpixel((x, y))
    assert isinstance(behind, tuple)  # the picture is RGB
    if thing.hard == "faint":
        stamp.putalpha(faded(stamp, thing.visible))
    if thing.hard == "blurred":
        stamp, margin = blurred(stamp)
        x, y = x - margin, y - margin
    picture.paste(stamp, (x, y), stamp)
    if thing.hard == "hidden":
        box = hide(picture, box, thing.visible, behind, rng)
    return replace(thing, box=box)


def faded(stamp: Image.Image, share: float) -> Image.Image:
    """The stamp's alpha channel, multiplied by `share`."""
    return stamp.getchannel("A").point(lambda alpha: round(alpha * share))


def blurred(stamp: Image.Image) -> tuple[Image.Image, int]:
    """The stamp blurred until its inner lines are gone, and the margin in pixels that this adds on each side."""
    radius = max(stamp.size) / 10
    margin = round(2 * radius)
    larger = Image.new("RGBA", (stamp.width + 2 * margin, stamp.height + 2 * margin))
    larger.paste(stamp, (margin, margin))
    # RGBa is premultiplied by alpha: transparent pixels, which are black, then do not darken the edge
    soft = larger.convert("RGBa").filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
    return soft, margin


def hide(picture: Image.Image, box: Box, visible: float, board: tuple[int, ...], rng: Random) -> Box:
    """Draw a board of colour `board` over the box, except for a strip with the share `visible`; returns the strip."""
    x0, y0, x1, y1 = box
    if rng.random() < 0.5:
        edge = x0 + visible * (x1 - x0)
        covered, strip = (edge, y0, x1 - 1, y1 - 1), (x0, y0, edge, y1)
    else:
        edge = y0 + visible * (y1 - y0)
        covered, strip = (x0, edge, x1 - 1, y1 - 1), (x0, y0, x1, edge)
    ImageDraw.Draw(picture).rectangle(covered, fill=board, outline=tuple(c * 4 // 5 for c in board))
    return strip
