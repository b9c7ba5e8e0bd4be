"""Two further definitions of a sink, and how far two definitions agree. The first is in `model/sinks.py`, for EAH.

    vision sinks      patches that later tokens attend to more than a threshold      (EAH, arXiv 2411.09968)
    massive tokens    tokens with an extremely large value in a few hidden dimensions  (VAR, arXiv 2503.03321)
    steady columns    patches that are attended to whatever the prompt asks           (SAGE, arXiv 2610.11469)

They are different sets of tokens. Every sample of a batch is treated separately, and padding never counts. B batch, K
tokens, D width, P patches.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MASSIVE_SHARE = 0.1  # of a token's squared norm in one dimension; VAR's |RMSNorm(h)| > 20 at width 4096 is 0.098
STEADY_SHARE = 0.05  # of the patches: those with most attention, as in SAGE


def dense_heads(density: Tensor, share: float = 0.2) -> Tensor:
    """Which heads (B, H) are dense: at least `share` of their patches are vision sinks; EAH's paper has 15 or 20 %.

    `density` (B, H): the share of the patches that are sinks.
    """
    return density >= share


def massive_dimensions(hidden: Tensor, attention_mask: Tensor, share: float = MASSIVE_SHARE) -> Tensor:
    """The hidden dimensions (B, D), bool, that hold at least `share` of the squared norm of some token.

    `hidden` (B, K, D) is the input of a layer, `attention_mask` (B, K) is False at padding. VAR has a table of such
    dimensions for two models; here they are computed.
    """
    return (energy_shares(hidden) >= share).logical_and(attention_mask[..., None]).any(dim=1)


def massive_tokens(hidden: Tensor, attention_mask: Tensor, share: float = MASSIVE_SHARE) -> Tensor:
    """The tokens (B, K), bool, that have at least `share` of their squared norm in a massive dimension.

    Arguments as for `massive_dimensions`.
    """
    massive = massive_dimensions(hidden, attention_mask, share)[:, None]
    return ((energy_shares(hidden) >= share) & massive).any(dim=-1) & attention_mask


def energy_shares(hidden: Tensor) -> Tensor:
    """The share of each dimension in its token's squared norm, (B, K, D)."""
    squares = hidden.float() ** 2
    return squares / squares.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def steady_columns(maps: Tensor, share: float = STEADY_SHARE, agree: float = 1.0) -> Tensor:
    """The patches (P,), bool, that are among the `share` with most attention in at least the share `agree` of the
    prompts.

    `maps` (prompts, P) are image maps of one picture, one for each prompt that was asked about it.
    """
    most = max(1, round(share * maps.shape[1]))
    top = torch.zeros_like(maps, dtype=torch.bool).scatter(1, maps.topk(most, dim=1).indices, True)
    return top.float().mean(dim=0) >= agree


# --- do they agree? -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How far two sets of columns agree: counts of columns, and the intersection over union (IoU)."""

    both: int
    first_only: int
    second_only: int
    neither: int

    @property
    def iou(self) -> float:
        """1 for equal sets, 0 for sets that share nothing (and for two empty ones)."""
        return self.both / max(1, self.both + self.first_only + self.second_only)

    @property
    def chance(self) -> float:
        """The IoU to be expected of two random sets of the same sizes."""
        total = self.both + self.first_only + self.second_only + self.neither
        first, second = self.both + self.first_only, self.both + self.second_only
        shared = first * second / max(1, total)
        return shared / max(1, first + second - shared)


def agreement(first: Tensor, second: Tensor, among: Tensor) -> Agreement:
    """Compare two sets of columns, boolean tensors of one shape; only the columns of `among` (same shape) count."""
    counts = [
        (a & b & among).sum() for a, b in ((first, second), (first, ~second), (~first, second), (~first, ~second))
    ]
    return Agreement(*(int(count) for count in counts))
