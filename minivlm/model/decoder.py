"""The decoder: a stack of blocks over the embedded prompt. Shapes as in `attention.py`."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from minivlm.model.attention import Attention, AttentionOutput
from minivlm.model.cache import KVCache
from minivlm.model.call import EMPTY_CARRY, PLAIN_CALL, Call, Carry, Record
from minivlm.model.config import TextConfig
from minivlm.model.effect import Changes
from minivlm.model.layers import GatedMLP, RMSNorm, rotary_angles


@dataclass(frozen=True)
class DecoderOutput:
    """What the decoder computed."""

    states: Tensor  # (B, Q, D), after the last norm: the input of the LM head
    hidden: tuple[Tensor, ...] | None  # the embedding and each block's output, (B, Q, D) each, before the last norm
    effect: Changes | None  # what a mitigation did; None if there was none
    maps: dict[int, Tensor]  # layer -> what its `Record` holds, for layers that were asked for it
    rows: dict[int, Tensor]
    sink_scores: dict[int, Tensor]


class Block(nn.Module):
    """One layer of the decoder: attention, then the MLP, each after a norm and added to its input (pre-norm)."""

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, cache: KVCache | None, call: Call, carry: Carry
    ) -> AttentionOutput:
        """`x` (B, Q, D) to (B, Q, D), with the carry and record of the attention; arguments as for `Attention`."""
        attended = self.self_attn(self.input_layernorm(x), rope, mask, cache, call, carry)
        x = x + attended.out
        return replace(attended, out=x + self.mlp(self.post_attention_layernorm(x)))


class Decoder(nn.Module):
    """The embedding of words, the blocks, and the last norm; the LM head is in `Llava`."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor,
        *,
        cache: KVCache | None = None,
        call: Call = PLAIN_CALL,
        hidden: bool = False,
    ) -> DecoderOutput:
        """Run embedded tokens `x` (B, Q, D) at `positions` (B, Q) under `mask` (B, 1, Q, K).

        With a `cache`, the K keys are its tokens followed by the new ones, and the new ones are in it afterwards.
        `hidden`: whether the states after every block are returned, too.
        """
        config = self.config
        rope = rotary_angles(positions, config.head_dim, config.rope_theta, x.dtype, config.rope_scaling)
        states, carry = [x], EMPTY_CARRY
        records: list[Record] = []
        for block in self.layers:
            attended = block(x, rope, mask, cache, call, carry)
            x, carry = attended.out, attended.carry
            records.append(attended.record)
            if hidden:
                states.append(x)
        if cache is not None:
            cache.length = mask.shape[-1]
        effect = None if call.mitigation.empty else Changes((carry.changes,))
        recorded = (by_layer(records, field) for field in ("map", "row", "sink_scores"))
        return DecoderOutput(self.norm(x), tuple(states) if hidden else None, effect, *recorded)


def by_layer(records: list[Record], field: str) -> dict[int, Tensor]:
    """Layer -> one field of its record, for layers in which it is not None."""
    values = ((layer, getattr(record, field)) for layer, record in enumerate(records))
    return {layer: value for layer, value in values if value is not None}


def token_positions(attention_mask: Tensor, queries: int) -> Tensor:
    """Positions (B, Q) of the last `queries` tokens, from 0 in each sample; padding is not counted."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)[:, -queries:]


def causal_mask(attention_mask: Tensor, queries: int) -> Tensor:
    """(B, 1, Q, K): which of the keys `attention_mask` (B, K) the last `queries` of them may see.

    A query sees itself and the tokens before it. Padding (.) sees itself alone, so that no row of the softmax is empty:

              . . a b c
            . x
            .   x
            a     x
            b     x x
            c     x x x
    """
    key = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    query = key[-queries:, None]
    # A padded query must not count as an attending row.
    both = attention_mask[:, -queries:, None] & attention_mask[:, None]
    return ((key < query) & both | (key == query))[:, None]
