"""The small parts: normalisation, gated MLP, rotary positions, CLIP's activation.

Arithmetic follows the reference to the last bit: where it computes in fp32 whatever the model's dtype, so do we.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Divide by the root mean square over the last axis, in fp32, then scale in the model's dtype."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        exact = x.float()
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * exact.to(x.dtype)


class GatedMLP(nn.Module):
    """SwiGLU: one projection, passed through SiLU, decides how much of the other goes on."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's cheap GELU. A LLaVA config need not name it: it is the family's default."""
    return x * torch.sigmoid(1.702 * x)


def rotary_angles(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each `(*positions.shape, head_dim)`, computed in fp32 and then cast to `dtype`.

    Both halves of a head hold the same angles, because number i is turned together with number i + d/2:

        (x0 x1 x2 x3 | x4 x5 x6 x7)   pairs: (x0,x4) (x1,x5) (x2,x6) (x3,x7)
    """
    even = torch.arange(0, head_dim, 2, dtype=torch.int64, device=positions.device).float()
    frequencies = 1.0 / theta ** (even / head_dim)
    angles = positions[..., None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of `x` (B, heads, T, d) by its angle; `cos` and `sin` are (B, T, d)."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x * cos[:, None] + turned * sin[:, None]
