"""The world: every setting of the scene generator, which lays out a scene and draws it.

In two worlds that differ in one setting, the same seed gives the same place, the same anchors and the same look of
every object that both have. So the effect of one setting can be studied in pairs of scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from random import Random

from minivlm.errors import ConfigError
from minivlm.toyworld.backgrounds import PALETTES, draw_background, pixel_noise
from minivlm.toyworld.objects import COLORS_OF
from minivlm.toyworld.scenes import HARD, Role, Scene, arrange, paint
from minivlm.toyworld.themes import COMPANION_OF, OBJECT_NAMES, THEME_OF, THEMES, Theme

MOST_CROWDED = 7


@dataclass(frozen=True)
class World:
    """Settings of the generator; those that are floats are probabilities. A wrong one raises `ConfigError`."""

    stream: str = "train"  # part of every seed: two worlds with different streams share no scene
    size: int = 96  # of a picture's side, in pixels
    max_objects: int = 5  # in a scene that is not crowded
    copies: int = 3  # the largest number of one kind of object
    companion: float = 0.85  # an anchor's companion is there
    substitution: float = 0.4  # another clear object of the theme takes a missing companion's place
    second_anchor: float = 0.35  # the scene has both anchors of its theme
    crowded: float = 0.15  # the scene holds four to seven objects
    free: float = 0.3  # each free object of the theme is there
    out_of_theme: float = 0.25  # an object of another theme is there
    repeated: float = 0.2  # one of the objects occurs two or three times
    hard_companion: float = 0.3  # a companion is tiny, faint, blurred or mostly hidden
    hard_other: float = 0.08  # so is any other object
    noise: float = 0.15  # the picture has strong pixel noise
    other_palette: float = 0.075  # the place has another theme's colours

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, float) and not 0 <= value <= 1:
                raise ConfigError(f"World.{field.name} is a probability and must lie in 0..1, found {value!r}.")
        if self.size < 48:
            raise ConfigError(
                f"World.size must be at least 48 pixels, or objects cannot be told apart, found {self.size}."
            )
        if not 2 <= self.max_objects <= MOST_CROWDED:
            raise ConfigError(f"World.max_objects must lie in 2..{MOST_CROWDED}, found {self.max_objects}.")
        if not 1 <= self.copies <= 3:
            raise ConfigError(f"World.copies must lie in 1..3, since captions count no further, found {self.copies}.")

    def layout(self, seed: int) -> Scene:
        """The scene without a picture; boxes are the squares in which things will be drawn."""
        theme = THEMES[self.rng(seed, "theme").choice(tuple(THEMES))]
        crowd = self.rng(seed, "crowded")
        wanted = crowd.randint(4, MOST_CROWDED) if crowd.random() < self.crowded else 0
        roles = cast(self, theme, seed, wanted)
        return Scene(seed, theme.name, None, arrange(roles, self.size, shrink=0.72 if wanted else 1.0), self.size)

    def draw(self, seed: int) -> Scene:
        """The scene with its picture; boxes hold just what can be seen."""
        scene = self.layout(seed)
        rng = self.rng(seed, "background")
        palette = PALETTES[scene.theme]
        if rng.random() < self.other_palette:
            palette = rng.choice([PALETTES[name] for name in PALETTES if name != scene.theme])
        picture = draw_background(scene.theme, palette, self.size, rng)
        names = [thing.name for thing in scene.things]
        looks = [self.rng(seed, "look", name, names[:index].count(name)) for index, name in enumerate(names)]
        things = tuple(paint(picture, thing, look) for thing, look in zip(scene.things, looks, strict=True))
        if rng.random() < self.noise:
            picture = pixel_noise(picture, rng)
        return replace(scene, picture=picture, things=things)

    def rng(self, *parts: object) -> Random:
        """A generator for one purpose, seeded by the stream and `parts`. Random hashes a text with SHA-512, so the
        numbers are the same in every process.
        """
        return Random("/".join(map(str, (self.stream, *parts))))


TRAINING = World()
HELD_OUT = replace(TRAINING, stream="held out")
RARE_COMPANIONS = replace(HELD_OUT, companion=0.45)
SUBSTITUTIONS = replace(HELD_OUT, companion=0.0, substitution=1.0)
CROWDED = replace(HELD_OUT, crowded=1.0)
CLEAR_TRAINING = replace(  # every object can be seen, and companions are often missing: guessing does not pay
    TRAINING,
    companion=0.5,
    substitution=0.7,
    crowded=0.5,
    hard_companion=0.0,
    hard_other=0.0,
    noise=0.0,
    other_palette=0.0,
)
CLEAR = replace(CLEAR_TRAINING, stream="held out")
WORLDS = {
    "held-out": HELD_OUT,
    "rare-companions": RARE_COMPANIONS,
    "substitutions": SUBSTITUTIONS,
    "crowded": CROWDED,
    "clear": CLEAR,
}  # by the name that is typed after --world


# --- the cast: which objects appear ------------------------------------------------------------------------------


def cast(world: World, theme: Theme, seed: int, crowd: int) -> list[Role]:
    """The objects of a scene, most important first; `crowd`: their number in a crowded scene, 0 in any other."""
    rng = world.rng(seed, "anchors")
    both = rng.random() < world.second_anchor or crowd > 5
    anchors = rng.sample(theme.anchors, 2 if both else 1)
    beside = neighbours(world, theme, anchors, seed)
    names = [*anchors, *beside]
    names += others(world, theme, names, crowd, world.rng(seed, "others"))
    limit = crowd or world.max_objects
    names = names[:limit]
    more = copies(world, names, limit - len(names), world.rng(seed, "copies"))
    substitutes = set(beside) - {COMPANION_OF[anchor] for anchor in anchors}
    clear = substitutes.union(more)
    roles = [role(world, seed, name, beside.get(name), name in clear) for name in names]
    return roles + [replace(roles[names.index(name)], rng=world.rng(seed, "copy", n)) for n, name in enumerate(more)]


def neighbours(world: World, theme: Theme, anchors: list[str], seed: int) -> dict[str, str]:
    """The objects beside anchors, each with its anchor: the companion, a substitute for it, or none."""
    beside: dict[str, str] = {}
    expected = [COMPANION_OF[anchor] for anchor in anchors]
    for anchor, companion in zip(anchors, expected, strict=True):
        rng = world.rng(seed, "beside", anchor)
        present, replaced = rng.random() < world.companion, rng.random() < world.substitution
        taken = {*theme.anchors, *expected, *beside}  # no anchor as a substitute: its own companion would be expected
        substitute = rng.choice([name for name in theme.objects if name not in taken])
        if present or replaced:
            beside[companion if present else substitute] = anchor
    return beside


def others(world: World, theme: Theme, names: list[str], crowd: int, rng: Random) -> list[str]:
    """Free objects and objects of other themes; in a crowded scene enough of them to fill it."""
    chosen = [name for name in theme.free if rng.random() < world.free]
    strangers = [name for name in OBJECT_NAMES if THEME_OF[name] != theme.name]
    rng.shuffle(strangers)
    if rng.random() < world.out_of_theme:
        chosen += strangers[:1]
    if crowd:
        chosen += [*theme.free, *strangers[:2]]
    return [name for name in dict.fromkeys(chosen) if name not in names]


def copies(world: World, names: list[str], room: int, rng: Random) -> list[str]:
    """One or two more of one of the objects, in a few scenes."""
    # the first of `names` in a random order of all objects: one more candidate seldom changes the choice
    favourites = rng.sample(OBJECT_NAMES, len(OBJECT_NAMES))
    name, wanted = min(names, key=favourites.index), rng.randint(1, max(1, world.copies - 1))
    if world.copies == 1 or rng.random() >= world.repeated:
        return []
    return [name] * min(wanted, room)


def role(world: World, seed: int, name: str, anchor: str | None, clear: bool) -> Role:
    """Colour, difficulty and rng of one object. `anchor`: next to which it is; `clear`: it must be easy to see."""
    rng = world.rng(seed, "role", name)
    color = rng.choice(COLORS_OF[name]) if COLORS_OF[name] else None
    chance = world.hard_other if anchor is None else world.hard_companion
    hard = rng.choice(HARD) if rng.random() < chance and not clear else None
    return Role(name, color, hard, anchor, world.rng(seed, "place", name))
