"""Backgrounds: a place that a person recognises, in soft colours, so that the objects in front of it stand out.

Every place has a far part (wall, sky, houses) and a near part (counter, road, grass). Each is a gradient of a colour of
the palette, with some lines and shapes, faint rectangles and low-frequency noise. Coordinates are in pixels, y down;
`horizon` is the y where the near part begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """The colours of a place."""

    far: RGB
    near: RGB
    trim: RGB  # lines, frames, kerbs

    def jittered(self, rng: Random, amount: int = 14) -> Palette:
        """The palette with every channel of every colour changed by at most `amount`, out of 255."""

        def shift(color: RGB) -> RGB:
            red, green, blue = (min(255, max(0, channel + rng.randint(-amount, amount))) for channel in color)
            return red, green, blue

        return Palette(shift(self.far), shift(self.near), shift(self.trim))


PALETTES = {
    "kitchen": Palette((232, 222, 200), (188, 152, 116), (250, 246, 236)),
    "street": Palette((190, 198, 210), (122, 124, 130), (222, 220, 212)),
    "field": Palette((178, 214, 240), (136, 180, 104), (248, 250, 252)),
    "desk": Palette((204, 214, 206), (202, 168, 128), (150, 118, 86)),
    "living room": Palette((226, 204, 196), (164, 128, 108), (246, 236, 226)),
}


def draw_background(theme: str, palette: Palette, size: int, rng: Random) -> Image.Image:
    """An RGB picture of size × size pixels showing the place `theme` in the colours of `palette`."""
    palette = palette.jittered(rng)
    horizon = round(size * rng.uniform(0.38, 0.6))
    picture = two_gradients(palette, size, horizon, rng)
    STRUCTURE[theme](ImageDraw.Draw(picture, "RGBA"), palette, size, horizon, rng)
    faint_rectangles(ImageDraw.Draw(picture, "RGBA"), palette, size, rng)
    return add_noise(picture, soft_noise(size, rng, strength=rng.uniform(3, 9)))


def two_gradients(palette: Palette, size: int, horizon: int, rng: Random) -> Image.Image:
    """The far colour above the horizon and the near colour below it, each darker or lighter toward the bottom."""
    rows = np.empty((size, 3), np.float32)
    for part, color in ((slice(0, horizon), palette.far), (slice(horizon, size), palette.near)):
        steps = np.linspace(rng.uniform(0.88, 1.0), rng.uniform(0.96, 1.1), len(rows[part]), dtype=np.float32)
        rows[part] = steps[:, None] * np.asarray(color, np.float32)
    rows = np.clip(rows, 0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(rows[:, None], size, axis=1))  # (size, size, 3)


def soft_noise(size: int, rng: Random, strength: float) -> np.ndarray:
    """Low-frequency noise, float32 (size, size, 1): 7 by 7 normal numbers with the deviation `strength` (of 255),
    smoothly enlarged.
    """
    coarse = numpy_generator(rng).standard_normal((7, 7), dtype=np.float32) * strength
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))[..., None]


def pixel_noise(picture: Image.Image, rng: Random) -> Image.Image:
    """The picture with independent noise in every pixel, as of a poor camera in the dark."""
    shape = (picture.height, picture.width, 3)
    return add_noise(picture, numpy_generator(rng).standard_normal(shape, dtype=np.float32) * rng.uniform(16, 30))


def add_noise(picture: Image.Image, noise: np.ndarray) -> Image.Image:
    """The picture plus `noise`, which broadcasts to (height, width, 3)."""
    return Image.fromarray(np.clip(np.asarray(picture, np.float32) + noise, 0, 255).astype(np.uint8))


def numpy_generator(rng: Random) -> np.random.Generator:
    """A generator of numpy, seeded by a number from `rng`."""
    return np.random.default_rng(rng.getrandbits(64))


def faint_rectangles(draw: ImageDraw.ImageDraw, palette: Palette, size: int, rng: Random) -> None:
    """Up to three almost transparent rectangles in the palette's colours."""
    for _ in range(rng.randint(0, 3)):
        x, y = rng.uniform(-0.1, 0.8) * size, rng.uniform(-0.1, 0.8) * size
        width, height = rng.uniform(0.15, 0.4) * size, rng.uniform(0.15, 0.4) * size
        color = rng.choice((palette.far, palette.near, palette.trim))
        draw.rectangle((x, y, x + width, y + height), fill=(*color, rng.randint(20, 50)))


def kitchen(draw: ImageDraw.ImageDraw, palette: Palette, size: int, horizon: int, rng: Random) -> None:
    """Tiles on the wall, a counter with a bright front edge."""
    tile = rng.uniform(0.11, 0.17) * size
    line = (*palette.trim, 170)
    for step in range(int(size / tile) + 2):
        draw.line((step * tile, 0, step * tile, horizon), fill=line)
        if step * tile < horizon:
            draw.line((0, step * tile, size, step * tile), fill=line)
    edge = 0.04 * size
    draw.rectangle((0, horizon, size, horizon + edge), fill=(*palette.trim, 150))
    draw.line((0, horizon + edge, size, horizon + edge), fill=(60, 45, 30, 90))


def street(draw: ImageDraw.ImageDraw, palette: Palette, size: int, horizon: int, rng: Random) -> None:
    """A row of houses with windows, a kerb, a road with a dashed line."""
    x = -rng.uniform(0, 0.1) * size
    while x < size:
        width, top = rng.uniform(0.18, 0.34) * size, rng.uniform(0.1, 0.75) * horizon
        draw.rectangle((x, top, x + width, horizon), fill=(90, 84, 92, rng.randint(30, 75)))
        for window in range(2):
            left = x + width * (0.18 + 0.42 * window)
            draw.rectangle((left, top + 0.05 * size, left + width * 0.2, top + 0.12 * size), fill=(*palette.trim, 120))
        x += width + rng.uniform(0, 0.06) * size
    draw.rectangle((0, horizon, size, horizon + 0.06 * size), fill=(*palette.trim, 170))
    middle = (horizon + size) / 2 + 0.04 * size
    for dash in range(5):
        left = (dash * 0.24 + rng.uniform(-0.02, 0.02)) * size
        draw.rectangle((left, middle, left + 0.12 * size, middle + 0.025 * size), fill=(*palette.trim, 150))


def field(draw: ImageDraw.ImageDraw, palette: Palette, size: int, horizon: int, rng: Random) -> None:
    """Clouds, hills and blades of grass."""
    for _ in range(rng.randint(1, 3)):
        x, y, width = rng.uniform(-0.1, 0.9) * size, rng.uniform(0, 0.6) * horizon, rng.uniform(0.15, 0.35) * size
        draw.ellipse((x, y, x + width, y + width * 0.3), fill=(*palette.trim, 120))
        draw.ellipse((x + width * 0.25, y - width * 0.1, x + width * 0.7, y + width * 0.25), fill=(*palette.trim, 120))
    for _ in range(2):
        x, width, height = rng.uniform(-0.3, 0.8) * size, rng.uniform(0.4, 0.9) * size, rng.uniform(0.05, 0.14) * size
        draw.chord((x, horizon - height, x + width, horizon + height), 180, 360, fill=(*palette.near, 200))
    for _ in range(26):
        x, y, blade = rng.uniform(0, size), rng.uniform(horizon, size), rng.uniform(0.015, 0.04) * size
        draw.line((x, y, x + rng.uniform(-1, 1), y - blade), fill=(40, 80, 20, 80))


def desk(draw: ImageDraw.ImageDraw, palette: Palette, size: int, horizon: int, rng: Random) -> None:
    """A plain wall with a pin board, a wooden top with grain and a dark front edge."""
    left, width = rng.uniform(0, 0.5) * size, rng.uniform(0.3, 0.5) * size
    board = (left, 0.06 * size, left + width, 0.7 * horizon)
    draw.rectangle(board, fill=(*palette.near, 90), outline=(*palette.trim, 150))
    for _ in range(rng.randint(1, 3)):
        x, y = rng.uniform(left, left + 0.8 * width), rng.uniform(0.08 * size, 0.5 * horizon)
        draw.rectangle((x, y, x + 0.07 * size, y + 0.08 * size), fill=(255, 250, 220, 130))
    for _ in range(9):
        x, y = rng.uniform(-0.2, 0.9) * size, rng.uniform(horizon + 2, size)
        draw.line((x, y, x + rng.uniform(0.2, 0.6) * size, y + rng.uniform(-1, 1)), fill=(*palette.trim, 70))
    draw.line((0, horizon, size, horizon), fill=(*palette.trim, 220), width=2)


def living_room(draw: ImageDraw.ImageDraw, palette: Palette, size: int, horizon: int, rng: Random) -> None:
    """A window or picture on the wall, a skirting board, floor boards in perspective, a rug."""
    left, width = rng.uniform(0.05, 0.6) * size, rng.uniform(0.2, 0.35) * size
    frame = (left, 0.08 * size, left + width, 0.75 * horizon)
    draw.rectangle(frame, fill=(190, 214, 230, 90), outline=(*palette.trim, 220), width=2)
    if rng.random() < 0.5:
        draw.line((left + width / 2, frame[1], left + width / 2, frame[3]), fill=(*palette.trim, 220))
    for board in range(-4, 13):
        x = board / 8
        draw.line(
            ((0.5 + (x - 0.5) * 0.6) * size, horizon, (0.5 + (x - 0.5) * 1.4) * size, size), fill=(50, 30, 20, 60)
        )
    draw.rectangle((0, horizon - 0.04 * size, size, horizon), fill=(*palette.trim, 200))
    x, y = rng.uniform(0.05, 0.4) * size, horizon + rng.uniform(0.12, 0.2) * size
    draw.ellipse((x, y, x + 0.55 * size, y + 0.22 * size), fill=(*palette.far, 110), outline=(*palette.trim, 110))


STRUCTURE = {"kitchen": kitchen, "street": street, "field": field, "desk": desk, "living room": living_room}
