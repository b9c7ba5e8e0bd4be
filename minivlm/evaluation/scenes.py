"""Scenes as evaluation data: pictures of the toy world, drawn when they are needed, and the lexicon of that world.

`scenes:2` is the third block of 1,000 held-out scenes, numbers 2000 to 2999, in this order. Their random stream is not
that of training or tuning, so none of them is a training scene; `scenes:0` holds the scenes of the model's card.
`scenes:crowded:2` are the scenes of the same numbers in another world.

COCO's lexicon would be wrong here. Captions of this world name *places*, and it would read "on a desk" as the object
dining table: the model would be charged with objects that it did not mean. The toy world has 30 objects, and its
captions have one name for each.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from minivlm.errors import EvaluationError, ImageError
from minivlm.evaluation.lexicon import Mention
from minivlm.files import digest
from minivlm.toyworld.questions import about
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import OBJECT_NAMES
from minivlm.toyworld.words import FORM, FORMS
from minivlm.toyworld.world import WORLDS, World

BLOCK = 1000  # scenes of one seed
PROBES = 3  # pictures whose pixels represent the generator in the fingerprint
FORM_OF_SPEC = "scenes:SEED or scenes:WORLD:SEED, such as scenes:0 or scenes:crowded:0"


@dataclass(frozen=True)
class SceneWords:
    """The lexicon of the toy world: the names of its objects and their plurals, as whole words. See `Words`."""

    name: str = "the toy world's 30 objects"
    objects: tuple[str, ...] = OBJECT_NAMES

    @property
    def fingerprint(self) -> str:
        """A digest of all words."""
        return digest([sorted(FORMS.items()), FORM.pattern])

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Every mention of an object in `text`, in order, with repeats."""
        return tuple(Mention(FORMS[match[0].lower()], *match.span()) for match in FORM.finditer(text.replace("_", " ")))


@dataclass(frozen=True)
class Scenes:
    """One block of scenes of a world, as a `Source` of pictures; an image's id is the number of its scene."""

    world: str  # one of WORLDS
    seed: int

    @classmethod
    def of(cls, spec: str) -> "Scenes":
        """The block of the spec "scenes:" + `spec`. Raises `EvaluationError` for an unknown world or no seed."""
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
        """The full spec, as in "scenes:held-out:2"."""
        return f"scenes:{self.world}:{self.seed}"

    @property
    def settings(self) -> World:
        """The world that the scenes are from."""
        return WORLDS[self.world]

    def truth(self) -> dict[str, frozenset[str]]:
        """Scene number -> its objects, hard ones too, in the order of the numbers; no picture is drawn."""
        numbers = range(self.seed * BLOCK, (self.seed + 1) * BLOCK)
        return {str(number): frozenset(self.settings.layout(number).names) for number in numbers}

    def picture(self, image: str) -> Image.Image:
        """Draw the scene of this number. Raises `ImageError` for a number outside the block."""
        if not (image.isascii() and image.isdecimal()) or int(image) // BLOCK != self.seed:
            raise ImageError(
                f"There is no scene {image!r} in {self.name}, which holds the numbers from {self.seed * BLOCK} to "
                f"{(self.seed + 1) * BLOCK - 1}."
            )
        return picture_of(self.settings.draw(int(image)))

    def named(self, file: str) -> str | None:
        """Always None: scenes have no file names."""
        return None

    def marks(self, images: Sequence[str]) -> dict[str, Any]:
        """The world's settings, and a digest of pixels that changes with the generator or Pillow; in JSON types."""
        probes = range(self.seed * BLOCK, self.seed * BLOCK + PROBES)
        pixels = [np.asarray(picture_of(self.settings.draw(number))).tobytes() for number in probes]
        return {"world": asdict(self.settings), "pixels": hashlib.sha256(b"".join(pixels)).hexdigest()}


def picture_of(scene: Scene) -> Image.Image:
    """The picture (RGB) of a scene that was drawn. Raises `ImageError` for a mere layout, which has none."""
    if scene.picture is None:
        raise ImageError(f"Scene {scene.seed} is a layout without a picture. Make it with `World.draw`.")
    return scene.picture


def phrase(text: str) -> str:
    """A yes-no question in the toy world's wording, which has "a pair of scissors", not "a scissors"."""
    named = SceneWords().mentions(text)
    return about(named[0].object, present=True).text if named else text
