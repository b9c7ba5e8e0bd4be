"""The thirty objects of the toy world: their drawings, their colours and their usual sizes.

Names are those of COCO's categories, so that metrics for COCO captions work on toy captions unchanged.
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

ANY = tuple(COLORS)
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
GADGET = ("black", "white", "gray", "red", "blue", "pink")
FUR = ("brown", "black", "white", "gray")
METAL = ("gray", "yellow", "brown")  # silver, golden, wooden
SUPERSAMPLE = 4  # an object is drawn this many times larger than it will be


@dataclass(frozen=True)
class Drawing:
    """How to draw one kind of object, and what it may look like.

    `colors` is empty if captions name no colour of it; `pixels` is the usual range of the longer side in a picture of
    96 pixels; `tilt` the largest turn in degrees, to both sides; `mirror` says whether left and right may be swapped.
    """

    draw: Callable[[Pen, Random, Color], None]
    colors: tuple[str, ...]
    pixels: tuple[int, int]
    tilt: float = 6.0
    mirror: bool = True


OBJECTS: dict[str, Drawing] = {
    # kitchen
    "pizza": Drawing(kitchen.pizza, (), (24, 36), tilt=30),
    "fork": Drawing(kitchen.fork, METAL, (24, 34), tilt=50),
    "spoon": Drawing(kitchen.spoon, METAL, (24, 34), tilt=50),
    "cup": Drawing(kitchen.cup, ANY, (20, 30)),
    "bowl": Drawing(kitchen.bowl, ANY, (24, 36)),
    "banana": Drawing(kitchen.banana, ("yellow", "green"), (24, 34), tilt=35),
    # street
    "car": Drawing(street.car, ANY, (30, 42)),
    "traffic light": Drawing(street.traffic_light, ("yellow", "black", "gray"), (28, 38), tilt=3),
    "bus": Drawing(street.bus, ANY, (34, 46), tilt=3),
    "stop sign": Drawing(street.stop_sign, ("red",), (26, 36), mirror=False),
    "bicycle": Drawing(street.bicycle, ANY, (28, 40)),
    "fire hydrant": Drawing(street.fire_hydrant, ("red", "yellow"), (22, 32), tilt=4),
    # field
    "dog": Drawing(field.dog, FUR, (28, 40)),
    "frisbee": Drawing(field.frisbee, ANY, (20, 28), tilt=20),
    "sheep": Drawing(field.sheep, ("white", "black"), (26, 38)),
    "kite": Drawing(field.kite, BRIGHT, (28, 38), tilt=35),
    "bird": Drawing(field.bird, ("red", "yellow", "green", "blue", *FUR), (20, 30), tilt=10),
    "umbrella": Drawing(field.umbrella, ANY, (26, 38), tilt=18),
    # desk
    "laptop": Drawing(desk.laptop, ("black", "white", "gray", "pink"), (28, 38)),
    "mouse": Drawing(desk.mouse, GADGET, (18, 24), tilt=30),
    "keyboard": Drawing(desk.keyboard, ("black", "white", "gray"), (32, 42)),
    "book": Drawing(desk.book, ANY, (24, 34), tilt=12),
    "scissors": Drawing(desk.scissors, (*BRIGHT, "black"), (22, 32), tilt=60),
    "cell phone": Drawing(desk.cell_phone, GADGET, (20, 28), tilt=15),
    # living room
    "couch": Drawing(living_room.couch, ANY, (34, 46), tilt=3),
    "tv": Drawing(living_room.tv, ("black", "gray"), (30, 40), tilt=3),
    "remote": Drawing(living_room.remote, ("black", "white", "gray"), (20, 28), tilt=50),
    "potted plant": Drawing(living_room.potted_plant, (), (24, 38), tilt=4),
    "cat": Drawing(living_room.cat, ("orange", *FUR), (24, 36)),
    "clock": Drawing(living_room.clock, ANY, (20, 30)),
}

COLORS_OF: dict[str, tuple[str, ...]] = {name: drawing.colors for name, drawing in OBJECTS.items()}
TYPICAL_SIZE: dict[str, tuple[int, int]] = {name: drawing.pixels for name, drawing in OBJECTS.items()}


def draw_object(name: str, rng: Random, size: int, color: str | None = None) -> Image.Image:
    """Draw one object in a random pose: an RGBA picture, cropped, `size` pixels on the longer side.

    `color` is one of `COLORS_OF[name]`; None lets `rng` choose. Equal arguments, with `rng` in the same state, give
    equal pictures.

    Raises:
        ConfigError: the name is unknown, the object never has that colour, or the size is not positive.
    """
    check_drawable(name, size, color)
    drawing = OBJECTS[name]
    color = color or rng.choice(drawing.colors or ("brown",))
    paint = vary(COLORS[color], rng)
    tilt, mirror = rng.uniform(-drawing.tilt, drawing.tilt), drawing.mirror and rng.random() < 0.5
    pen = Pen(SUPERSAMPLE * size, tilt=tilt, mirror=mirror, stretch=rng.uniform(0.9, 1.1))
    drawing.draw(pen, rng, paint)
    return pen.finish(size, outline=contrast(paint, 0.55), shading=rng.uniform(0.03, 0.22))


def check_drawable(name: str, size: int, color: str | None) -> None:
    """Raise `ConfigError` for an unknown name, a colour that the object never has, or a size below 1 pixel."""
    if name not in OBJECTS:
        raise ConfigError(f"The toy world has no object named {name!r}; it knows {', '.join(OBJECTS)}.")
    if color is not None and color not in COLORS_OF[name]:
        allowed = ", ".join(COLORS_OF[name]) or "none by name (pass None)"
        raise ConfigError(f"A {name} cannot be drawn in {color!r}; its colours are: {allowed}.")
    if size < 1:
        raise ConfigError(f"A {name} needs a size of at least 1 pixel, found {size}.")
