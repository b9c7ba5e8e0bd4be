"""The decoder: a stack of blocks over the embedded prompt. Shapes as in `attention.py`."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from minivlm.model.attention import Attention, AttentionOutput
from minivlm.model.cache import KVCache
from minivlm.model.call import EMPTY_CARRY, PLAIN_CALL, Call, Record
from minivlm.model.config import TextConfig
from minivlm.model.effect import Changes
from minivlm.model.layers import GatedMLP, RMSNorm, rotary_angles
from minivlm.model.mitigation import NO_MITIGATION


@dataclass(frozen=True)
class DecoderOutput:
    """What the decoder computed."""

    states: Tensor  # (B, Q, D), after the last norm: what the LM head reads
    hidden: tuple[Tensor, ...] | None  # the embedding and each block's output, (B, Q, D) each, before the last norm
    records: tuple[Record, ...]  # for each layer, what it was asked to show
    effect: Changes | None  # what a mitigation did; None if there was none

    def shown(self, what: str) -> dict[int, Tensor]:
        """One field of `Record`, by layer, where it was asked for."""
        found = {layer: getattr(record, what) for layer, record in enumerate(self.records)}
        return {layer: tensor for layer, tensor in found.items() if tensor is not None}


class Block(nn.Module):
    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, *how) -> AttentionOutput:
        """The block's output (B, Q, D), with what its attention carries on; `how` goes to `Attention`."""
        attended = self.self_attn(self.input_layernorm(x), *how)
        x = x + attended.out
        return replace(attended, out=x + self.mlp(self.post_attention_layernorm(x)))


class Decoder(nn.Module):
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

        With a `cache`, the K keys are its tokens followed by the new ones, which it remembers afterwards.
        """
        rope = rotary_angles(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        states, records, carry = [x], [], EMPTY_CARRY
        for block in self.layers:
            attended = block(x, rope, mask, cache, call, carry)
            x, carry = attended.out, attended.carry
            records.append(attended.record)
            if hidden:
                states.append(x)
        if cache is not None:
            cache.length = mask.shape[-1]
        effect = None if call.mitigation == NO_MITIGATION else Changes((carry.changes,))
        return DecoderOutput(self.norm(x), tuple(states) if hidden else None, tuple(records), effect)


def token_positions(attention_mask: Tensor, queries: int) -> Tensor:
    """Positions (B, Q) of the last `queries` tokens, counted in each sample by itself, without its padding."""
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
