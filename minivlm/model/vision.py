"""CLIP's vision transformer: pixels in, one vector a patch out, from every layer.

Here B is pictures, P patches, T = 1 + P (the class token stands first), D the tower's width.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from minivlm.errors import ImageError
from minivlm.model.config import VisionConfig
from minivlm.model.layers import quick_gelu

ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class VisionEmbeddings(nn.Module):
    """Cut the picture into patches, project each, put the class token in front, add learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        self.class_embedding = nn.Parameter(torch.zeros(config.hidden_size))
        patch = config.patch_size
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, kernel_size=patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding(1 + config.num_patches, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        size = self.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, size, size):
            raise ImageError(f"The vision tower expects pixels (N, 3, {size}, {size}), found {tuple(pixels.shape)}.")
        patches = self.patch_embedding(pixels.to(self.class_embedding.dtype))
        patches = rearrange(patches, "B D rows columns -> B (rows columns) D")
        first = repeat(self.class_embedding, "D -> B 1 D", B=len(pixels))
        return torch.cat((first, patches), dim=1) + self.position_embedding.weight  # B T D


class VisionAttention(nn.Module):
    """Every token looks at every token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        projections = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (rearrange(p, "B T (H d) -> B H T d", H=self.num_heads) for p in projections)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(rearrange(mixed, "B H T d -> B T (H d)"))


class VisionMLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class VisionBlock(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.self_attn = VisionAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionTower(nn.Module):
    """The tower, with the checkpoint's names (`pre_layrnorm` is CLIP's own spelling).

    `post_layernorm` belongs to CLIP's image embedding, which LLaVA never computes; it is kept so that the tower is
    whole and can be trained, saved and compared as CLIP.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = nn.ModuleDict(
            {"layers": nn.ModuleList(VisionBlock(config) for _ in range(config.num_hidden_layers))}
        )
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor, depth: int | None = None) -> tuple[Tensor, ...]:
        """All hidden states up to layer `depth` (default: all), each (B, T, D); the first is the embedding.

        `pixels` (B, 3, S, S) are normalised as the checkpoint says. Layers after `depth` are not computed.
        """
        states = [self.pre_layrnorm(self.embeddings(pixels))]
        for block in self.encoder["layers"][:depth]:
            states.append(block(states[-1]))
        return tuple(states)
