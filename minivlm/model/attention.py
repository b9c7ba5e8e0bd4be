"""The attention module: one forward, two lanes, numbered steps.

Shapes, here and in the decoder:

    B batch · Q queries (the new tokens) · K keys (all tokens so far) · H heads · G key/value heads
    D width · d head width
    R rows: the last R queries, those whose weights are written out (in CLVA and `aim`: the rows of the text after the
      picture, `Layout.text_rows`)
    P columns of the picture, `Layout.span`: from the leftmost patch in the batch to the rightmost (in the tower and the
      projector P are the patches of one picture)

Each query takes the *fast lane*, a fused kernel that never returns its weights, unless something needs its weights in
this layer: then it takes the *visible lane*, where the softmax is written out. Both give the same, up to rounding.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from minivlm.model.aim import draw_to_target
from minivlm.model.cache import KVCache
from minivlm.model.call import EMPTY_CARRY, EMPTY_RECORD, PLAIN_CALL, Call, Carry, Record, Watch
from minivlm.model.clva import drift_gate, find_anchor, pooled_map, pull_to_anchor
from minivlm.model.config import TextConfig
from minivlm.model.eah import broadcast_densest_head
from minivlm.model.effect import Change, moved_attention
from minivlm.model.layers import rotate
from minivlm.model.sinks import vision_sink_scores

STRIPE = 128  # rows of weights that are computed at a time


@dataclass(frozen=True)
class AttentionOutput:
    """What the attention of one layer returns."""

    out: Tensor  # (B, Q, D)
    carry: Carry  # for the next layer
    record: Record = EMPTY_RECORD  # what `Watch` asks for


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
        cache: KVCache | None = None,
        call: Call = PLAIN_CALL,
        carry: Carry = EMPTY_CARRY,
    ) -> AttentionOutput:
        """Attend from the new tokens `x` (B, Q, D) to all K tokens so far; `out` is (B, Q, D).

        `rope`: cosine and sine, (B, Q, d) each; `mask` (B, 1, Q, K): True where a query may attend (one key or more).
        """
        # 1. project, rotate, cache
        q, k, v = self.project(x)
        q, k = rotate(q, *rope), rotate(k, *rope)
        if cache is not None:
            k, v = cache.write(self.layer, k, v)

        # 2a. fast lane: queries whose weights neither a step nor `Watch` needs
        first = call.first_visible_row(self.layer, q.shape[2])
        fast = fused_attention(q[:, :, :first], k, v, mask[:, :, :first]) if first else q[:, :, :0]
        if first == q.shape[2]:
            return AttentionOutput(self.merge(fast), carry, EMPTY_RECORD)

        # 2b. visible lane: the other queries, written out
        visible = mask[:, :, first:]  # B 1 R K
        plain = attention_weights(q[:, :, first:], repeat_heads(k, self.group), visible)  # B H R K

        # 3. EAH: in its layer, every head gets the map of the head with most vision sinks
        weights, carry = self.broadcast(plain, visible, call, carry)
        # 4a. CLVA: noise and anchor layers save their maps for later layers, deep layers are corrected by them
        weights, carry = self.anchor(weights, call, carry)
        weights, carry = self.aim(weights, call, carry)  # 4b. an oracle, the upper bound for 4a
        # 5. record what `Watch` asks for
        record = self.record(plain, weights, visible, call.watch)

        # 6. mix the values, merge the heads
        slow = weights @ repeat_heads(v, self.group)  # B H R d
        return AttentionOutput(self.merge(torch.cat((fast, slow), dim=2)), carry, record)

    def broadcast(self, weights: Tensor, mask: Tensor, call: Call, carry: Carry) -> tuple[Tensor, Carry]:
        """Step 3, see `eah.py`. It works on whole maps: here R = Q."""
        eah, layout = call.mitigation.eah, call.layout
        if eah is None or not eah.acts(self.layer, layout):
            return weights, carry
        changed, head = broadcast_densest_head(weights, mask, layout, eah, call.before.chosen_head(self.layer))
        change = Change("EAH", self.layer, *moved_attention(weights, changed, layout), head=head)
        return changed, carry.with_change(change)

    def anchor(self, weights: Tensor, call: Call, carry: Carry) -> tuple[Tensor, Carry]:
        """Step 4a, see `clva.py`. It works on the text after the picture: the last `text_rows` of the R rows."""
        clva, layout = call.mitigation.clva, call.layout
        if clva is None or not layout.text_rows:
            return weights, carry
        others, text = weights.tensor_split([-layout.text_rows], dim=2)
        if self.layer in clva.read_layers:
            return weights, carry.with_map(self.layer, pooled_map(text, layout, clva.heads))
        if self.layer not in clva.deep_layers:
            return weights, carry
        anchor = carry.anchor or find_anchor(carry.maps, layout, clva)
        gate = drift_gate(text, anchor, layout, clva)  # B text_rows
        pulled = pull_to_anchor(text, anchor, gate, layout, clva)
        text_gate = gate.detach().masked_fill(~layout.text[:, -layout.text_rows :], torch.nan)
        change = Change("CLVA", self.layer, *moved_attention(text, pulled, layout), gate=text_gate)
        return torch.cat((others, pulled), dim=2), carry.with_change(change, anchor)

    def aim(self, weights: Tensor, call: Call, carry: Carry) -> tuple[Tensor, Carry]:
        """Step 4b, see `aim.py`. It works on the same rows as step 4a."""
        aim, layout = call.mitigation.aim, call.layout
        if aim is None or self.layer not in aim.layers or not layout.text_rows:
            return weights, carry
        others, text = weights.tensor_split([-layout.text_rows], dim=2)
        drawn = draw_to_target(text, layout, aim)
        change = Change("aim", self.layer, *moved_attention(text, drawn, layout))
        return torch.cat((others, drawn), dim=2), carry.with_change(change)

    def record(self, plain: Tensor, weights: Tensor, mask: Tensor, watch: Watch) -> Record:
        """Step 5: the weights by which the values are mixed, and the sink scores from before any step."""
        return Record(
            map=weights if self.layer in watch.maps else None,
            row=weights[:, :, -1].clone() if self.layer in watch.rows else None,  # a copy, so that the map can be freed
            sink_scores=vision_sink_scores(plain, mask) if self.layer in watch.sinks else None,
        )

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, Q, D) to queries (B, H, Q, d), keys and values (B, G, Q, d)."""
        projections = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (rearrange(p, "B Q (heads d) -> B heads Q d", d=self.head_dim) for p in projections)
        return q, k, v

    def merge(self, heads: Tensor) -> Tensor:
        """(B, H, Q, d) to (B, Q, D)."""
        return self.o_proj(rearrange(heads, "B H Q d -> B Q (H d)"))


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The values mixed by the fused kernel, (B, H, Q, d).

    The mask is always given: `is_causal=True` would align it to the first key, which is wrong as soon as a cache
    makes queries fewer than keys.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])


def attention_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) over the keys that `mask` allows, (B, H, Q, K); the softmax in fp32, as in the reference.

    Computed in stripes of rows, so that the fp32 scores never exist for all rows at once.
    """
    stripes = []
    for rows, seen in zip(q.split(STRIPE, dim=2), mask.split(STRIPE, dim=2), strict=True):
        scores = rows @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # B H rows K
        scores = scores.masked_fill(~seen, float("-inf"))
        stripes.append(scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype))
    return torch.cat(stripes, dim=2)


def repeat_heads(x: Tensor, group: int) -> Tensor:
    """Copy each key/value head for each of the `group` heads that share it: (B, G, K, d) to (B, H, K, d)."""
    return x if group == 1 else repeat(x, "B G K d -> B (G group) K d", group=group)
