"""The small parts: normalisation, gated MLP, rotary positions, CLIP's activation.

The arithmetic follows the reference, the transformers library, to the last bit: some steps are in fp32 for every dtype.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minivlm.model.config import RopeScaling


class RMSNorm(nn.Module):
    """Divide by the root mean square over the last axis, in fp32, then scale in the model's dtype.

    Zhang & Sennrich 2019, arXiv 1910.07467; `eps` is added to the mean square.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape and dtype."""
        exact = x.float()
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * exact.to(x.dtype)


class GatedMLP(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202): one projection, after SiLU, is the gate of the other."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape; `inner` numbers per token in between."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of GELU. A LLaVA config need not name it: it is the default of CLIP towers."""
    return x * torch.sigmoid(1.702 * x)


def rotary_angles(
    positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary embedding (Su et al. 2021, arXiv 2104.09864), fp32 cast to `dtype` at the end.

    Each is `(*positions.shape, head_dim)`. Unlike in the paper, number i is rotated together with number i + d/2, as in
    the checkpoints of LLaMA, so that both halves of a head hold the same angles:

        (x0 x1 x2 x3 | x4 x5 x6 x7)   pairs: (x0,x4) (x1,x5) (x2,x6) (x3,x7)

    `scaling`: None, or how `scaled_frequencies` slows the rotations down.
    """
    even = torch.arange(0, head_dim, 2, dtype=torch.int64, device=positions.device).float()
    frequencies = 1.0 / theta ** (even / head_dim)
    if scaling is not None:
        frequencies = scaled_frequencies(frequencies, scaling)
    angles = positions[..., None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def scaled_frequencies(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Rotary frequencies (d/2,), radians a token, as Llama 3.1 slows them down for longer texts.

    What turns often within the original length stays as it is, what turns rarely becomes `factor` times slower, and
    between the two is a blend. As `rope_type: llama3` in transformers (`modeling_rope_utils.py`).
    """
    wavelengths = 2 * math.pi / frequencies  # tokens for one turn
    turns = scaling.original_max_position_embeddings / wavelengths  # within the original length
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0, 1)  # 1: left alone, 0: slowed down
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of numbers of `x` (B, heads, T, d) by its angle; `cos` and `sin` are (B, T, d)."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x * cos[:, None] + turned * sin[:, None]
