"""Sink scores and EAH without the attention matrix, from a layer's queries and keys alone.

The weights of a long prompt, H Q K numbers, are the largest tensor that a layer can make. But a sink score is a mean
over rows, which can be computed for a few rows at a time; and a head's map depends only on its queries and keys, so a
head that gets the queries and keys of another head has its map, also inside the fused kernel.

For study and for assignment a4: the model takes the visible lane of `attention.py`, where the shapes are explained.
"""

import torch
from torch import Tensor

from minivlm.model.attention import STRIPE, attention_weights, fused_attention, repeat_heads


def sink_scores_without_map(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """`vision_sink_scores(attention_weights(q, k, mask), mask)`, (B, H, K), with few rows of weights at a time.

    `q` (B, H, Q, d), `k` (B, G, K, d), `mask` (B, 1, Q, K): True where a row may attend, in one column at least.
    """
    k = repeat_heads(k, q.shape[1] // k.shape[1])
    wide = torch.promote_types(q.dtype, torch.float32)
    column = torch.arange(k.shape[2], device=k.device)
    diagonal = column[-q.shape[2] :, None]  # each row's own column
    scores, rows = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    stripes = q.split(STRIPE, dim=2), diagonal.split(STRIPE), mask.split(STRIPE, dim=2)
    for stripe, own, seen in zip(*stripes, strict=True):
        later = seen & (column != own)  # B 1 rows K
        weights = attention_weights(stripe, k, seen)  # B H rows K
        scores = scores + (weights * later).sum(dim=2, dtype=wide)
        rows = rows + later.sum(dim=2)
    return scores / rows.clamp(min=1)


def broadcast_without_map(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, head: Tensor) -> Tensor:
    """The values of each head mixed by the map of `head` (B,), (B, H, Q, d); -1 leaves a sample unchanged.

    `q` (B, H, Q, d), `k` and `v` (B, G, K, d), `mask` (B, 1, Q, K). Exact, also at padding, which attends
    only to itself in every map. Unlike EAH, this changes all rows, generated ones too.
    """
    group = q.shape[1] // k.shape[1]
    own = torch.arange(q.shape[1], device=head.device)
    source = torch.where(head[:, None] < 0, own, head[:, None])  # B H: the head whose map each head uses
    sample = torch.arange(len(head), device=head.device)[:, None]
    return fused_attention(q[sample, source], k[sample, source // group], repeat_heads(v, group), mask)
