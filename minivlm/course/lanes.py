"""What assignment a3 asks for beside the network: shapes foretold before `Attention.forward` is written, and failing
layers explained after it.

    B samples · H heads · G key/value heads · Q queries · K keys · d head width · D width · first: rows of the fast lane
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

NAMES = ("right", "sees what is hidden", "lanes exchanged", "mixed by the plain weights")


@dataclass(frozen=True)
class Case:
    """What one layer with both lanes did. Nothing here is padding's, and every row sees two keys or more."""

    plain: Tensor  # (B, H, R, K) the weights of the visible lane before any step
    weights: Tensor  # (B, H, R, K) and after all of them
    visible: Tensor  # (B, 1, R, K) True where a row may see a key
    values: Tensor  # (B, H, K, d)
    fast: Tensor  # (B, H, F, d) what came out of the fast lane
    joined: Tensor  # (B, H, F + R, d) what goes to `merge`


def foretold(sizes: Mapping[str, int], past: int, first: int) -> dict[str, tuple[int, ...]]:
    """The shapes within one `Attention.forward` with a cache of `past` tokens, without running it.

    `sizes` has B, H, G, Q, d and D. The keys of the result: "q" and "k" as attention gets them, "fast" (what the fused
    lane gives), "visible" (the part of the mask for the rows written out), "weights" (theirs) and "out" (of the layer).
    """
    b, h, g, q, d = (sizes[letter] for letter in "BHGQd")
    keys, rows = past + q, q - first
    return {
        "q": (b, h, q, d),
        "k": (b, g, keys, d),
        "fast": (b, h, first, d),
        "visible": (b, 1, rows, keys),
        "weights": (b, h, rows, keys),
        "out": (b, q, sizes["D"]),
    }


def explained(case: Case) -> str:
    """What is wrong with a layer, one of `NAMES`: at most one thing is."""
    if case.weights.masked_select(~case.visible).any():
        return "sees what is hidden"
    if not torch.allclose(case.joined[:, :, : case.fast.shape[2]], case.fast, atol=1e-5):
        return "lanes exchanged"
    mixed = case.weights @ case.values
    right = torch.allclose(case.joined[:, :, case.fast.shape[2] :], mixed, atol=1e-5)
    return "right" if right else "mixed by the plain weights"
