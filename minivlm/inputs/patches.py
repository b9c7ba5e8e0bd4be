"""From boxes in a picture to the patches of the vision tower that they cover."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minivlm.errors import EvaluationError
from minivlm.inputs.image import Box, ImagePreprocessing
from minivlm.inputs.placement import placement


def patch_mask(boxes: Sequence[Box], size: tuple[int, int], preprocessing: ImagePreprocessing, side: int) -> Tensor:
    """The share of each patch that the boxes cover together, (P,) in 0..1, row by row from the top left.

    `boxes` (left, top, right, bottom) are in pixels of the picture, whose width and height are `size`; what the
    preprocessing cuts off is not covered, nor is its padding. `side` is the number of patches in a row. With several
    pictures, join the masks of all with `torch.cat`, zeros for those without the object.
    """
    if not 1 <= side <= preprocessing.size:
        raise EvaluationError(f"A square of {preprocessing.size} pixels cannot have {side} patches in a row.")
    left, top, right, bottom = boxes_on_square(boxes, size, preprocessing).unbind(-1)  # boxes each
    patch = preprocessing.seen // side  # a margin narrower than a patch is left out
    x, y = (cut_side(torch.cat(ends), side, patch) for ends in ((left, right), (top, bottom)))
    columns = (left[:, None] < x.middle) & (x.middle < right[:, None])  # boxes X
    rows = (top[:, None] < y.middle) & (y.middle < bottom[:, None])  # boxes Y
    covered = (rows[:, :, None] & columns[:, None]).any(dim=0)  # Y X
    share = y.part_of_patch.T @ covered.double() @ x.part_of_patch  # side side
    return share.flatten().float()


def boxes_on_square(boxes: Sequence[Box], size: tuple[int, int], preprocessing: ImagePreprocessing) -> Tensor:
    """The boxes, cut to the picture, in pixels of the model's square, (boxes, 4)."""
    on_square, place = torch.zeros(len(boxes), 4, dtype=torch.float64), placement(*size, preprocessing)
    for number, box in enumerate(boxes):
        left, top, right, bottom = box
        if not (left <= right and top <= bottom):
            raise EvaluationError(f"A box is (left, top, right, bottom) in pixels, but {box} ends before it begins.")
        inside = (max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1]))
        on_square[number] = torch.tensor(place.to_square(inside))
    return on_square


@dataclass(frozen=True)
class Pieces:
    """One side of the square, cut at every edge of a box or of a patch."""

    middle: Tensor  # (pieces,)
    part_of_patch: Tensor  # (pieces, side): the length of each piece within each patch, as a share of the patch


def cut_side(edges: Tensor, side: int, patch: int) -> Pieces:
    lines = torch.arange(side + 1, dtype=torch.float64) * patch  # between the patches
    cuts = torch.cat((lines, edges.clamp(0, side * patch))).unique()
    middle, length = (cuts[1:] + cuts[:-1]) / 2, cuts.diff()
    inside = (lines[:-1] < middle[:, None]) & (middle[:, None] < lines[1:])
    return Pieces(middle, inside * length[:, None] / patch)
