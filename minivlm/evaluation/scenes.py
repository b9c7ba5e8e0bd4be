"""Scenes as evaluation data: pictures that are drawn when they are asked for, and the words of their world.

`scenes:2` is the third block of 1,000 held-out scenes, numbers 2000 to 2999, in this order. Their dice have another
stream than those of training and of tuning, so no number is a training scene; `scenes:0` holds the scenes of the
model's card. `scenes:crowded:2` are the scenes of the same numbers in another world.

The words of COCO would be wrong here. They read "on a desk" as the object dining table and "in a field" as nothing to
count, whereas these captions name *places*, which the pictures do have: the model would be charged with objects that it
never spoke of. The toy world has 30 objects, and its captions call each by one name.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from minivlm.errors import EvaluationError, ImageError
from minivlm.evaluation.lexicon import Mention
from minivlm.files import digest
from minivlm.toyworld.questions import about
from minivlm.toyworld.themes import OBJECT_NAMES
from minivlm.toyworld.words import FORM, FORMS
from minivlm.toyworld.world import WORLDS, World

BLOCK = 1000  # scenes of one seed
PROBES = 3  # pictures whose pixels stand for the generator in the fingerprint
FORM_OF_SPEC = "scenes:SEED or scenes:WORLD:SEED, such as scenes:0 or scenes:crowded:0"


@dataclass(frozen=True)
class SceneWords:
    """A lexicon of the toy world: its names and their plurals as whole words, and nothing else."""

    name: str = "the toy world's 30 objects"
    objects: tuple[str, ...] = OBJECT_NAMES

    @property
    def fingerprint(self) -> str:
        return digest([sorted(FORMS.items()), FORM.pattern])

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Every object named, in order, with repeats."""
        return tuple(Mention(FORMS[found[0].lower()], *found.span()) for found in FORM.finditer(text))


@dataclass(frozen=True)
class Scenes:
    """One block of scenes of a world; an image's id is the number of its scene."""

    world: str  # one of WORLDS
    seed: int

    @classmethod
    def of(cls, spec: str) -> "Scenes":
        """What stands behind "scenes:"."""
        world, _, seed = spec.rpartition(":")
        if (world or "held-out") not in WORLDS:
            raise EvaluationError(f"There is no world {world!r}; known are {', '.join(WORLDS)}. Write {FORM_OF_SPEC}.")
        if not (seed.isascii() and seed.isdecimal() and len(seed) <= 9):
            raise EvaluationError(
                f"Scenes need a seed, a whole number of at most 9 digits, found {seed!r}. Write {FORM_OF_SPEC}."
            )
        return cls(world or "held-out", int(seed))

    @property
    def name(self) -> str:
        return f"scenes:{self.world}:{self.seed}"

    @property
    def settings(self) -> World:
        return WORLDS[self.world]

    def truth(self) -> dict[str, frozenset[str]]:
        """The objects of every scene, hard ones too, in the order of their numbers; nothing is drawn."""
        numbers = range(self.seed * BLOCK, (self.seed + 1) * BLOCK)
        return {str(number): frozenset(self.settings.layout(number).names) for number in numbers}

    def picture(self, image: str) -> Image.Image:
        if not (image.isascii() and image.isdecimal()) or int(image) // BLOCK != self.seed:
            raise ImageError(
                f"There is no scene {image!r} in {self.name}, which holds the numbers from {self.seed * BLOCK} to "
                f"{(self.seed + 1) * BLOCK - 1}."
            )
        return self.settings.draw(int(image)).picture

    def named(self, file: str) -> str | None:
        """Scenes have no file names."""
        return None

    def marks(self, images: Sequence[str]) -> dict:
        """What decides the pictures: the world's settings, and pixels that change with the generator or with Pillow."""
        probes = range(self.seed * BLOCK, self.seed * BLOCK + PROBES)
        pixels = [np.asarray(self.settings.draw(number).picture).tobytes() for number in probes]
        return {"world": asdict(self.settings), "pixels": hashlib.sha256(b"".join(pixels)).hexdigest()}


def phrase(text: str) -> str:
    """A yes-no question as the toy world words it: it has a pair of scissors where others have a scissors."""
    named = SceneWords().mentions(text)
    return about(named[0].object, present=True).text if named else text
