"""What a mitigation changed in the attention, layer by layer, noted while the network runs.

Published codes of this field have been silently inactive. `minivlm.inference.effect` sums and tells what stands here.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from minivlm.model.layout import Layout

WHY = "no sink was found, no text follows a picture, the drift gate is shut, or the strength is 0"
COMPARED_ROWS = 32  # rows compared at a time


@dataclass(frozen=True)
class Change:
    """What one method did in one layer during one call, for B samples, H heads, R rows and K columns."""

    method: str  # "EAH", "CLVA" or "aim"
    layer: int
    moved: Tensor  # (B, H, R): the share of a row's attention that went elsewhere (total variation)
    columns: Tensor  # (B, K): columns whose weight changed in some row
    head: Tensor | None = None  # (B,): the head that EAH chose, -1 for none
    gate: Tensor | None = None  # (B, R): CLVA's drift gate; nan on rows that are no text after a picture

    @classmethod
    def between(cls, method: str, layer: int, before: Tensor, after: Tensor, layout: Layout, **facts) -> "Change":
        """The change from weights `before` to `after`, (B, H, R, K) each; R the last of the rows."""
        rows = layout.attention_mask[:, -before.shape[2] :]  # B R: what padding looks at is of no interest
        moved, columns = [], torch.zeros_like(layout.attention_mask)
        stripes = (part.detach().split(COMPARED_ROWS, dim=2) for part in (before, after))
        for old, new, known in zip(*stripes, rows.split(COMPARED_ROWS, dim=1), strict=True):
            difference = (new.float() - old.float()).abs() * known[:, None, :, None]  # B H rows K
            moved.append(difference.sum(dim=-1) / 2)
            columns |= (difference > 0).any(dim=1).any(dim=1)
        return cls(method, layer, torch.cat(moved, dim=2), columns, **facts)


@dataclass(frozen=True)
class Changes:
    """What a mitigation did: the changes of each forward pass. One pass gives one entry; the inference appends them."""

    calls: tuple[tuple[Change, ...], ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether not a single weight was changed."""
        return not any(bool((change.moved > 0).any()) for call in self.calls for change in call)

    def chosen_head(self, layer: int) -> Tensor | None:
        """The head (B,) that EAH chose at the prefill, None if it did not act in this layer."""
        changes = [change for call in self.calls[:1] for change in call if change.layer == layer]
        return next((change.head for change in changes if change.head is not None), None)

    def warn_if_nothing(self) -> None:
        """A mitigation that changes nothing is a mistake more often than not."""
        if self.nothing:
            warnings.warn(
                f"The mitigation changed nothing: {WHY}. This answer is the plain model's.",
                stacklevel=3,
            )


NO_CHANGES = Changes()
