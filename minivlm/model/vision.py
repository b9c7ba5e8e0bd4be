"""The vision tower: pixels to one vector per patch, from every layer. It is CLIP's transformer (Radford et al. 2021,
arXiv 2103.00020) or SigLIP's (Zhai et al. 2023, arXiv 2303.15343), which differ in fields of `VisionConfig`.

Letters here: B pictures, P patches of a picture, T tokens (CLIP: a class token and the patches; SigLIP: the patches), D
the tower's width.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from minivlm.errors import ImageError
from minivlm.model.config import VisionConfig
from minivlm.model.layers import quick_gelu

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}


class VisionEmbeddings(nn.Module):
    """Cut the picture into patches, project each, put the class token in front (CLIP), add learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        self.class_token = config.class_token
        if config.class_token:
            self.class_embedding = nn.Parameter(torch.zeros(config.hidden_size))
        patch, bias = config.patch_size, config.patch_bias
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, kernel_size=patch, stride=patch, bias=bias)
        self.position_embedding = nn.Embedding(config.num_tokens, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S), patches from the top left row by row, to (B, T, D). Raises `ImageError` for other shapes."""
        size = self.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, size, size):
            raise ImageError(f"The vision tower expects pixels (N, 3, {size}, {size}), found {tuple(pixels.shape)}.")
        patches = self.patch_embedding(pixels.to(self.patch_embedding.weight.dtype))
        patches = rearrange(patches, "B D rows columns -> B (rows columns) D")
        if not self.class_token:
            return patches + self.position_embedding.weight  # B T D
        first = repeat(self.class_embedding, "D -> B 1 D", B=len(pixels))
        return torch.cat((first, patches), dim=1) + self.position_embedding.weight  # B T D


class VisionAttention(nn.Module):
    """Self-attention without a mask: every token attends to every token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        projections = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (rearrange(p, "B T (H d) -> B H T d", H=self.num_heads) for p in projections)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(rearrange(mixed, "B H T d -> B T (H d)"))


class VisionMLP(nn.Module):
    """Two linears with the activation that the checkpoint names."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        return self.fc2(self.activation(self.fc1(x)))


class VisionBlock(nn.Module):
    """One layer of the tower: attention, then the MLP, each after a norm and added to its input (pre-norm)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.self_attn = VisionAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionEncoder(nn.Module):
    """The blocks, under the name that the checkpoint gives them."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionBlock(config) for _ in range(config.num_hidden_layers))


class VisionTower(nn.Module):
    """The whole tower, with the checkpoint's names (`pre_layrnorm` is CLIP's own spelling).

    `post_layernorm` belongs to the image embedding of CLIP and SigLIP, which LLaVA never computes; it is kept so that
    the tower can be trained, saved and compared as CLIP.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.embeddings = VisionEmbeddings(config)
        if config.pre_norm:
            self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor, depth: int | None = None) -> tuple[Tensor, ...]:
        """All hidden states up to layer `depth` (default: all), each (B, T, D); the first is the embedding.

        `pixels` (B, 3, S, S) are normalised as the checkpoint asks. Layers after `depth` are not computed.
        """
        x = self.embeddings(pixels)
        states = [self.pre_layrnorm(x) if self.pre_norm else x]
        for block in self.encoder.layers[:depth]:
            states.append(block(states[-1]))
        return tuple(states)
