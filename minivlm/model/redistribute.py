"""Attention shared out anew among the patches of a row: what `clva.py` and `aim.py` have in common."""

from collections.abc import Iterable

import torch
from torch import Tensor

from minivlm.errors import ConfigError
from minivlm.model.layout import Layout

MOST_KAPPA = 10.0  # times the attention that a picture had


def lies_in(value: object, most: float) -> bool:
    """Whether `value` is a number above 0 and at most `most`."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= most


def checked_layers(name: str, layers: Iterable[int]) -> tuple[int, ...]:
    """Layers as a tuple of different whole numbers; `name` is the setting that they were given for."""
    found = tuple(layers) if isinstance(layers, Iterable) else ()
    if not found or not all(type(layer) is int and layer >= 0 for layer in found) or len(set(found)) < len(found):
        raise ConfigError(f"{name} must be different whole numbers from 0, at least one, found {layers!r}.")
    return found


def redistributed(
    weights: Tensor, wanted: Tensor, mass: Tensor, layout: Layout, rows: Tensor, kappa: float = 1.0
) -> Tensor:
    """`weights` (B, H, R, K) whose attention on the patches, `mass` (B, H, R, 1), is shared out as `wanted`.

    `wanted` (B, H, R, P), P as in `clva.py`, need not sum to 1. Only the text rows of `rows` (B, R) change, and none
    whose `wanted` is all 0. `kappa` scales the mass; then the whole row is brought back to its sum.
    """
    total = wanted.sum(dim=-1, keepdim=True)  # B H R 1
    share = wanted * (kappa * mass / total.clamp(min=torch.finfo(total.dtype).tiny))
    touched = (rows & layout.text[:, -weights.shape[2] :])[:, None, :, None] & (total > 0)  # B H R 1
    span = layout.span
    changed = torch.where(touched & layout.patches, share, at_least_fp32(weights[..., span])).to(weights.dtype)
    changed = weights.slice_scatter(changed, dim=-1, start=span.start, end=span.stop)
    if kappa == 1:
        return changed
    return torch.where(touched, normalised(at_least_fp32(changed)).to(weights.dtype), weights)


def normalised(x: Tensor) -> Tensor:
    """Brought to a sum of 1 along the last axis; all 0 stays so."""
    return x / x.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


def at_least_fp32(x: Tensor) -> Tensor:
    """At least fp32: maps are computed in it whatever the weights are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
