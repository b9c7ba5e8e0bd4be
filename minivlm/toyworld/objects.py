"""The thirty things of the toy world: their drawings, their colours and how large they usually are.

Names are COCO category names, so that the metrics written for COCO captions read toy captions unchanged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from PIL import Image

from minivlm.errors import ConfigError
from minivlm.toyworld.drawings import desk, field, kitchen, living_room, street
from minivlm.toyworld.drawings.pen import Color, Pen, contrast, vary

COLORS: dict[str, Color] = {
    "red": (214, 42, 42),
    "orange": (242, 130, 24),
    "yellow": (246, 206, 44),
    "green": (54, 156, 66),
    "blue": (46, 98, 208),
    "purple": (132, 62, 178),
    "pink": (244, 132, 182),
    "brown": (128, 80, 44),
    "black": (40, 40, 44),
    "white": (242, 242, 238),
    "gray": (142, 146, 152),
}

_ANY = tuple(COLORS)
_BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
_GADGET = ("black", "white", "gray", "red", "blue", "pink")
_FUR = ("brown", "black", "white", "gray")
_METAL = ("gray", "yellow", "brown")  # silver, golden, wooden
_SUPERSAMPLE = 4


@dataclass(frozen=True)
class Drawing:
    """How to draw one kind of object, and what it may look like.

    `colors` is empty where a colour word says nothing about the object; `pixels` is the usual range of the longer
    side on a 96-pixel picture; `tilt` the largest turn in degrees; `mirror` says whether left and right may swap.
    """

    draw: Callable[[Pen, Random, Color], None]
    colors: tuple[str, ...]
    pixels: tuple[int, int]
    tilt: float = 6.0
    mirror: bool = True


OBJECTS: dict[str, Drawing] = {
    # kitchen
    "pizza": Drawing(kitchen.pizza, (), (24, 36), tilt=30),
    "fork": Drawing(kitchen.fork, _METAL, (24, 34), tilt=50),
    "spoon": Drawing(kitchen.spoon, _METAL, (24, 34), tilt=50),
    "cup": Drawing(kitchen.cup, _ANY, (20, 30)),
    "bowl": Drawing(kitchen.bowl, _ANY, (24, 36)),
    "banana": Drawing(kitchen.banana, ("yellow", "green"), (24, 34), tilt=35),
    # street
    "car": Drawing(street.car, _ANY, (30, 42)),
    "traffic light": Drawing(street.traffic_light, ("yellow", "black", "gray"), (28, 38), tilt=3),
    "bus": Drawing(street.bus, _ANY, (34, 46), tilt=3),
    "stop sign": Drawing(street.stop_sign, ("red",), (26, 36), mirror=False),
    "bicycle": Drawing(street.bicycle, _ANY, (28, 40)),
    "fire hydrant": Drawing(street.fire_hydrant, ("red", "yellow"), (22, 32), tilt=4),
    # field
    "dog": Drawing(field.dog, _FUR, (28, 40)),
    "frisbee": Drawing(field.frisbee, _ANY, (20, 28), tilt=20),
    "sheep": Drawing(field.sheep, ("white", "black"), (26, 38)),
    "kite": Drawing(field.kite, _BRIGHT, (28, 38), tilt=35),
    "bird": Drawing(field.bird, ("red", "yellow", "green", "blue", *_FUR), (20, 30), tilt=10),
    "umbrella": Drawing(field.umbrella, _ANY, (26, 38), tilt=18),
    # desk
    "laptop": Drawing(desk.laptop, ("black", "white", "gray", "pink"), (28, 38)),
    "mouse": Drawing(desk.mouse, _GADGET, (18, 24), tilt=30),
    "keyboard": Drawing(desk.keyboard, ("black", "white", "gray"), (32, 42)),
    "book": Drawing(desk.book, _ANY, (24, 34), tilt=12),
    "scissors": Drawing(desk.scissors, (*_BRIGHT, "black"), (22, 32), tilt=60),
    "cell phone": Drawing(desk.cell_phone, _GADGET, (20, 28), tilt=15),
    # living room
    "couch": Drawing(living_room.couch, _ANY, (34, 46), tilt=3),
    "tv": Drawing(living_room.tv, ("black", "gray"), (30, 40), tilt=3),
    "remote": Drawing(living_room.remote, ("black", "white", "gray"), (20, 28), tilt=50),
    "potted plant": Drawing(living_room.potted_plant, (), (24, 38), tilt=4),
    "cat": Drawing(living_room.cat, ("orange", *_FUR), (24, 36)),
    "clock": Drawing(living_room.clock, _ANY, (20, 30)),
}

COLORS_OF: dict[str, tuple[str, ...]] = {name: drawing.colors for name, drawing in OBJECTS.items()}
TYPICAL_SIZE: dict[str, tuple[int, int]] = {name: drawing.pixels for name, drawing in OBJECTS.items()}


def draw_object(name: str, rng: Random, size: int, color: str | None = None) -> Image.Image:
    """Draw one object in a random pose: an RGBA picture cropped to its ink, `size` pixels on the longer side.

    `color` is one of `COLORS_OF[name]`; None lets `rng` choose. Equal names, sizes, colours and states of `rng` give
    equal pictures.

    Raises:
        ConfigError: the name is unknown, the object never has that colour, or the size is not positive.
    """
    _check(name, size, color)
    drawing = OBJECTS[name]
    color = color or rng.choice(drawing.colors or ("brown",))
    paint = vary(COLORS[color], rng)
    tilt, mirror = rng.uniform(-drawing.tilt, drawing.tilt), drawing.mirror and rng.random() < 0.5
    pen = Pen(_SUPERSAMPLE * size, tilt=tilt, mirror=mirror, stretch=rng.uniform(0.9, 1.1))
    drawing.draw(pen, rng, paint)
    return pen.finish(size, outline=contrast(paint, 0.55), shading=rng.uniform(0.03, 0.22))


def _check(name: str, size: int, color: str | None) -> None:
    if name not in OBJECTS:
        raise ConfigError(f"The toy world has no object named {name!r}; it knows {', '.join(OBJECTS)}.")
    if color is not None and color not in COLORS_OF[name]:
        allowed = ", ".join(COLORS_OF[name]) or "none by name (pass None)"
        raise ConfigError(f"A {name} cannot be drawn in {color!r}; its colours are: {allowed}.")
    if size < 1:
        raise ConfigError(f"A {name} needs a size of at least 1 pixel, found {size}.")
