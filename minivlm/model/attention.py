"""The attention module: one forward, two lanes, numbered steps.

Shapes, here and in the decoder:

    B batch · Q queries (the new tokens) · K keys (all tokens so far)
    H heads · G key/value heads · D width · d head width

Each layer takes the *fast lane*, a fused kernel that never shows its weights, unless something needs the weights of
this very layer: then it takes the *visible lane* and writes the softmax out. Both give the same result.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from minivlm.model.cache import KVCache
from minivlm.model.config import TextConfig
from minivlm.model.layers import rotate
from minivlm.model.mitigation import NO_MITIGATION, Mitigation


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped heads.

    Heads share keys and values in groups, neighbours together (H = 4, G = 2):

        queries   h0 h1 | h2 h3
        keys       g0   |  g1
    """

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.group = config.num_attention_heads // config.num_key_value_heads  # heads that share a key/value head
        self.head_dim = config.head_dim
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.attention_output_bias)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor,
        *,
        cache: KVCache | None = None,
        mitigation: Mitigation = NO_MITIGATION,
        keep_map: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Let the tokens `x` (B, Q, D) look at all tokens so far.

        `rope` holds cosine and sine, (B, Q, d) each; `mask` (B, 1, Q, K) is True where a query may see a key, at
        least at one key a row. Returns (B, Q, D) and, if `keep_map`, the weights (B, H, Q, K).
        """
        # 1. project, rotate, remember
        q, k, v = self.project(x)
        q, k = rotate(q, *rope), rotate(k, *rope)
        if cache is not None:
            k, v = cache.write(self.layer, k, v)

        # 2a. fast lane: nobody asks for the weights
        if not (keep_map or mitigation.needs_weights(self.layer)):
            return self.merge(fused_attention(q, k, v, mask)), None

        # 2b. visible lane: the same, written out
        weights = attention_weights(q, repeat_heads(k, self.group), mask)  # B H Q K

        # 3. EAH: give every head the map of the head with most vision sinks    (its place)
        # 4. CLVA: pull deep layers from the noise map to the anchor            (its place)
        # 5. record: the weights are returned if they were asked for

        # 6. mix the values, merge the heads
        mixed = weights @ repeat_heads(v, self.group)  # B H Q d
        return self.merge(mixed), weights if keep_map else None

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, Q, D) to queries (B, H, Q, d), keys and values (B, G, Q, d)."""
        projections = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (rearrange(p, "B Q (heads d) -> B heads Q d", d=self.head_dim) for p in projections)
        return q, k, v

    def merge(self, heads: Tensor) -> Tensor:
        """(B, H, Q, d) to (B, Q, D)."""
        return self.o_proj(rearrange(heads, "B H Q d -> B Q (H d)"))


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The fused kernel, (B, H, Q, d).

    The mask is always given: `is_causal=True` would align it to the first key, which is wrong as soon as a cache
    makes queries fewer than keys.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])


def attention_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) over the keys that `mask` allows, (B, H, Q, K); the softmax in fp32, as in the reference."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # B H Q K
    scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)


def repeat_heads(x: Tensor, group: int) -> Tensor:
    """Give each of the `group` heads that share a key/value head its own view of it: (B, G, K, d) to (B, H, K, d)."""
    return repeat(x, "B G K d -> B (G group) K d", group=group)
