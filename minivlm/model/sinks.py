"""Vision sinks: patches that later tokens attend to more than a threshold (EAH, arXiv 2411.09968).

Pure functions on the weights of one layer: B batch, H heads, Q rows, K columns. Samples of a batch do not influence
each other, and padding never counts. Two other definitions of a sink are in `lens/sinks.py`.
"""

import torch
from torch import Tensor

SUMMED_ROWS = 64  # rows that are summed at a time, so that the map is never copied to fp32 as a whole


def vision_sink_scores(weights: Tensor, mask: Tensor) -> Tensor:
    """The mean attention that each column gets from the later rows that may see it, (B, H, K).

    `weights` (B, H, Q, K) belong to the last Q of the K tokens, `mask` (B, 1, Q, K) is True where a row may see a
    column. The diagonal, a token's attention to itself, does not count; a column without a later row scores 0.
    Scores are in fp32, or in fp64 where the weights are.
    """
    past = weights.shape[3] - weights.shape[2]
    wide = torch.promote_types(weights.dtype, torch.float32)
    stripes = (stripe.sum(dim=2, dtype=wide) for stripe in weights.split(SUMMED_ROWS, dim=2))
    scores = sum(stripes, torch.zeros(()))  # B H K
    rows = mask.sum(dim=2)  # B 1 K
    scores[..., past:] -= weights.diagonal(offset=past, dim1=2, dim2=3)
    rows[..., past:] -= mask.diagonal(offset=past, dim1=2, dim2=3).long()
    return scores.clamp(min=0) / rows.clamp(min=1)


def vision_sinks(scores: Tensor, image: Tensor, threshold: float) -> Tensor:
    """Which columns are vision sinks, (B, H, K): patches (`image`, (B, K)) that score above `threshold`."""
    return (scores > threshold) & image[:, None]


def sinks_per_head(sinks: Tensor) -> Tensor:
    """How many sinks (B, H, K) each head has, (B, H)."""
    return sinks.sum(dim=-1)


def sink_density(sinks: Tensor, image: Tensor) -> Tensor:
    """The share of each head's patches that are sinks, (B, H); 0 without a picture. Its mean is the layer's density."""
    return sinks.sum(dim=-1) / image.sum(dim=-1, keepdim=True).clamp(min=1)
