"""What a mitigation changed in the attention, layer by layer, recorded while the network runs.

Published code of such methods has been inactive without a warning. `minivlm.inference.effect` sums these changes up.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from minivlm.errors import NoEffectWarning
from minivlm.model.layout import Layout

WHY = "no sink was found, no text follows a picture, the drift gate is shut, or the strength is 0"
COMPARED_ROWS = 32  # rows that are compared at a time


@dataclass(frozen=True)
class Change:
    """What one method did in one layer during one call, for B samples, H heads, R rows and K columns."""

    method: str  # "EAH", "CLVA" or "aim"
    layer: int
    moved: Tensor  # (B, H, R): the share of a row's attention that went elsewhere (total variation)
    columns: Tensor  # (B, K): columns whose weight changed in some row
    head: Tensor | None = None  # (B,): the head that EAH chose, -1 for none
    gate: Tensor | None = None  # (B, R): CLVA's drift gate; nan on rows that are no text after a picture


def moved_attention(before: Tensor, after: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """`moved` and `columns` of a `Change`, from weights `before` to `after`, (B, H, R, K) each; R are the last rows."""
    rows = layout.attention_mask[:, -before.shape[2] :]  # B R: rows of padding do not count
    moved, columns = [], torch.zeros_like(layout.attention_mask)
    stripes = (part.detach().split(COMPARED_ROWS, dim=2) for part in (before, after))
    for old, new, valid in zip(*stripes, rows.split(COMPARED_ROWS, dim=1), strict=True):
        difference = (new.float() - old.float()).abs() * valid[:, None, :, None]  # B H rows K
        moved.append(difference.sum(dim=-1) / 2)
        columns |= (difference > 0).any(dim=1).any(dim=1)
    return torch.cat(moved, dim=2), columns


@dataclass(frozen=True)
class Changes:
    """What a mitigation did, in each forward pass: one entry a pass. A generation joins the entries of its passes."""

    calls: tuple[tuple[Change, ...], ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether no weight was changed at all."""
        return not any(bool((change.moved > 0).any()) for call in self.calls for change in call)

    def chosen_head(self, layer: int) -> Tensor | None:
        """The head (B,) that EAH chose at the prefill; None if it changed nothing in this layer."""
        changes = [change for call in self.calls[:1] for change in call if change.layer == layer]
        return next((change.head for change in changes if change.head is not None), None)

    def warn_if_nothing(self) -> None:
        """Warn if no weight was changed: most often the settings are wrong then."""
        if self.nothing:
            warn_no_effect(stacklevel=4)


def warn_no_effect(samples: str = "", *, stacklevel: int) -> None:
    """Warn of a mitigation without effect. `samples`: where, as " in the samples 1, 3"; "" for all of them."""
    sentence = f"The mitigation changed nothing{samples}: {WHY}. The answer is the plain model's."
    warnings.warn(sentence, NoEffectWarning, stacklevel=stacklevel)


NO_CHANGES = Changes()
