"""Attention redistributed among the patches of a row: what `clva.py` and `aim.py` have in common."""

from collections.abc import Iterable

import torch
from torch import Tensor

from minivlm.errors import ConfigError, is_positive
from minivlm.model.layout import Layout

# The factors of the attention on a picture. A smaller one could leave a row nothing that fp32 can scale back to 1.
LEAST_KAPPA, MOST_KAPPA = 1e-6, 10.0
KAPPA = f"lie in {LEAST_KAPPA:f}..{MOST_KAPPA:g}"


def checked_layers(name: str, layers: Iterable[int]) -> tuple[int, ...]:
    """`layers` as a tuple. Raises `ConfigError`, with the setting's `name`, unless they are different whole numbers."""
    numbers = tuple(layers) if isinstance(layers, Iterable) else ()
    whole = all(type(layer) is int and layer >= 0 for layer in numbers)
    if not numbers or not whole or len(set(numbers)) < len(numbers):
        raise ConfigError(f"{name} must be different whole numbers from 0, at least one, found {layers!r}.")
    return numbers


def is_kappa(value: object) -> bool:
    """Whether `value` can be the factor of the attention on a picture."""
    return isinstance(value, (int, float)) and is_positive(value, MOST_KAPPA) and value >= LEAST_KAPPA


def redistributed(
    weights: Tensor, wanted: Tensor, mass: Tensor, layout: Layout, rows: Tensor, kappa: float = 1.0
) -> Tensor:
    """`weights` (B, H, R, K) with their attention on the patches, `mass` (B, H, R, 1), distributed as `wanted`.

    `wanted` (B, H, R, P) need not sum to 1; P are the columns `layout.span`. Only text rows that are True in `rows`
    (B, R) change, and only where `wanted` is not all 0. `kappa` scales the mass; then the row is scaled back to 1.
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
    """`x` scaled to a sum of 1 along the last axis; all 0 stays all 0."""
    return x / x.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


def at_least_fp32(x: Tensor) -> Tensor:
    """`x` in fp32, or in fp64 if it is: maps are computed in it whatever the dtype of the weights."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
