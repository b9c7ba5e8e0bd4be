"""Scenes: which things are where, and how they are painted over a background.

A scene is first *arranged* (squares in which things will stand, no pixels) and then *painted*; painting tightens each
box to the drawn shape. All sizes are given for a picture of 96 pixels and scale with it.
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
SMALLEST_CLEAR = 13.0  # pixels; below this a thing would not count as clearly visible


@dataclass(frozen=True)
class Thing:
    """One object in a picture; `box` is (x0, y0, x1, y1) in pixels, `visible` the share of it that shows."""

    name: str
    color: str | None
    box: Box
    visible: float = 1.0
    hard: str | None = None  # one of HARD: why it can hardly be seen

    @property
    def center(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Scene:
    """What is in a picture. `picture` is RGB, or None when only the layout was asked for."""

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
        return [thing for thing in self.things if thing.name == name]


@dataclass(frozen=True)
class Role:
    """A thing that has not yet a place; `beside` names the thing it should stand next to, if any."""

    name: str
    color: str | None
    hard: str | None
    beside: str | None
    rng: Random  # its own rng: what happens to one thing does not change the others


# --- arranging: places without pixels ---------------------------------------------------------------------------


def arrange(roles: Sequence[Role], size: int, shrink: float = 1.0) -> tuple[Thing, ...]:
    """Give every role a square of its own; roles for which no room is left are dropped, the last ones first."""
    things: list[Thing] = []
    for role in roles:
        thing = find_room(role, things, size, shrink)
        if thing is not None:
            things.append(thing)
    return tuple(things)


def find_room(role: Role, things: Sequence[Thing], size: int, shrink: float) -> Thing | None:
    """Try random places, beside the wanted neighbour first, with a side that gets shorter when it is crowded."""
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
    return {"faint": rng.uniform(0.14, 0.28), "hidden": rng.uniform(0.15, 0.35)}.get(hard, 1.0)


def random_square(side: float, size: int, neighbour: Thing | None, rng: Random) -> Box:
    """A square inside the picture, if wanted within a hand's breadth of the neighbour."""
    x, y = rng.uniform(0, size - side), rng.uniform(0, size - side)
    if neighbour is not None:
        left, top, right, bottom = neighbour.box
        reach = side + 0.08 * size
        x = min(max(0.0, rng.uniform(left - reach, right + reach - side)), size - side)
        y = min(max(0.0, rng.uniform(top - reach, bottom + reach - side)), size - side)
    return x, y, x + side, y + side


def apart(a: Box, b: Box, gap: float = GAP) -> bool:
    return a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]


# --- painting ---------------------------------------------------------------------------------------------------


def paint(picture: Image.Image, thing: Thing, rng: Random) -> Thing:
    """Draw the thing into the middle of its square, in place; returned with the tight box of what can be seen."""
    left, top, right, bottom = thing.box
    stamp = draw_object(thing.name, rng, int(right - left), thing.color)
    x, y = round((left + right - stamp.width) / 2), round((top + bottom - stamp.height) / 2)
    box = (float(x), float(y), float(x + stamp.width), float(y + stamp.height))
    behind = picture.getpixel((x, y))
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
    """The stamp's alpha channel, made weaker."""
    return stamp.getchannel("A").point(lambda alpha: round(alpha * share))


def blurred(stamp: Image.Image) -> tuple[Image.Image, int]:
    """The stamp so far out of focus that its inner lines are gone, and the margin this adds on each side in pixels."""
    radius = max(stamp.size) / 10
    margin = round(2 * radius)
    wide = Image.new("RGBA", (stamp.width + 2 * margin, stamp.height + 2 * margin))
    wide.paste(stamp, (margin, margin))
    soft = wide.convert("RGBa").filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")  # no dark fringe
    return soft, margin


def hide(picture: Image.Image, box: Box, visible: float, board: tuple[int, ...], rng: Random) -> Box:
    """Put a plain board of colour `board` in front of all but a strip of the box; the strip is returned."""
    x0, y0, x1, y1 = box
    if rng.random() < 0.5:
        edge = x0 + visible * (x1 - x0)
        covered, strip = (edge, y0, x1 - 1, y1 - 1), (x0, y0, edge, y1)
    else:
        edge = y0 + visible * (y1 - y0)
        covered, strip = (x0, edge, x1 - 1, y1 - 1), (x0, y0, x1, edge)
    ImageDraw.Draw(picture).rectangle(covered, fill=board, outline=tuple(c * 4 // 5 for c in board))
    return strip
