"""Labels for the tower: the object and colour of each patch, and the place and objects of each scene, as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from minivlm.inputs.image import ImagePreprocessing
from minivlm.inputs.patches import patch_mask
from minivlm.toyworld.objects import COLORS
from minivlm.toyworld.scenes import Scene, Thing
from minivlm.toyworld.themes import OBJECT_NAMES, THEMES

BACKGROUND = 0  # objects and colours count from 1
OBJECT_NUMBER = {name: number for number, name in enumerate(OBJECT_NAMES, start=1)}
COLOR_NUMBER = {name: number for number, name in enumerate(COLORS, start=1)}
THEME_NUMBER = {name: number for number, name in enumerate(THEMES)}
COVERED = 0.35  # share of a patch that a box must cover


@dataclass(frozen=True)
class Labels:
    """Labels of N scenes of P patches; indexing with numbers of scenes selects some of them."""

    objects: Tensor  # (N, P) int64: the object that covers the patch, or BACKGROUND
    colors: Tensor  # (N, P) int64: its colour, or BACKGROUND where it has none
    themes: Tensor  # (N,) int64: the place
    present: Tensor  # (N, objects) fp32: 1.0 for each object that is in the scene, else 0.0

    def __getitem__(self, scenes: Tensor) -> "Labels":
        return Labels(self.objects[scenes], self.colors[scenes], self.themes[scenes], self.present[scenes])

    def to(self, device: torch.device | str) -> "Labels":
        return Labels(*(part.to(device) for part in (self.objects, self.colors, self.themes, self.present)))


def label(scenes: Sequence[Scene], side: int) -> Labels:
    """The labels of drawn scenes on a grid of `side` × `side` patches; where objects overlap, the last one counts."""
    objects = torch.full((len(scenes), side, side), BACKGROUND)
    colors, present = objects.clone(), torch.zeros(len(scenes), len(OBJECT_NAMES))
    for number, scene in enumerate(scenes):
        for thing in scene.things:
            covered = patches_of(thing, side, scene.size)
            objects[number][covered] = OBJECT_NUMBER[thing.name]
            colors[number][covered] = COLOR_NUMBER.get(thing.color or "", BACKGROUND)
            present[number, OBJECT_NUMBER[thing.name] - 1] = 1.0
    objects, colors = (rearrange(grid, "N rows columns -> N (rows columns)") for grid in (objects, colors))
    return Labels(objects, colors, torch.tensor([THEME_NUMBER[scene.theme] for scene in scenes]), present)


def patches_of(thing: Thing, side: int, size: int) -> Tensor:
    """(side, side) bool: patches covered by the thing's box to more than `COVERED`, and the patch of its centre.

    `size`: of the picture in pixels.
    """
    covered = patch_mask([thing.box], (size, size), ImagePreprocessing(size), side).view(side, side) > COVERED
    column, row = (min(side - 1, max(0, int(middle * side / size))) for middle in thing.center)
    covered[row, column] = True
    return covered
