"""The decoder: a stack of blocks over the embedded prompt. Shapes as in `attention.py`."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from minivlm.model.attention import Attended, Attention
from minivlm.model.cache import KVCache
from minivlm.model.call import NOTHING_YET, PLAIN_CALL, Call, Seen
from minivlm.model.config import TextConfig
from minivlm.model.effect import Changes
from minivlm.model.layers import GatedMLP, RMSNorm, rotary_angles
from minivlm.model.mitigation import NO_MITIGATION


@dataclass(frozen=True)
class Decoded:
    """What the decoder computed."""

    states: Tensor  # (B, Q, D), after the last norm: what the LM head reads
    hidden: tuple[Tensor, ...] | None  # the embedding and each block's output, (B, Q, D) each, before the last norm
    seen: tuple[Seen, ...]  # for each layer, what it was asked to show
    effect: Changes | None  # what a mitigation did; None if there was none

    def shown(self, what: str) -> dict[int, Tensor]:
        """One field of `Seen`, by layer, where it was asked for."""
        found = {layer: getattr(seen, what) for layer, seen in enumerate(self.seen)}
        return {layer: tensor for layer, tensor in found.items() if tensor is not None}


class Block(nn.Module):
    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, *how) -> Attended:
        """The block's output (B, Q, D), with what its attention handed on; `how` goes to `Attention`."""
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
    ) -> Decoded:
        """Run embedded tokens `x` (B, Q, D) at `positions` (B, Q) under `mask` (B, 1, Q, K).

        With a `cache`, the K keys are its tokens followed by the new ones, which it remembers afterwards.
        """
        rope = rotary_angles(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        states, seen, handed = [x], [], NOTHING_YET
        for block in self.layers:
            attended = block(x, rope, mask, cache, call, handed)
            x, handed = attended.out, attended.handed
            seen.append(attended.seen)
            if hidden:
                states.append(x)
        if cache is not None:
            cache.length = mask.shape[-1]
        effect = None if call.mitigation == NO_MITIGATION else Changes((handed.changes,))
        return Decoded(self.norm(x), tuple(states) if hidden else None, tuple(seen), effect)


def token_positions(valid: Tensor, queries: int) -> Tensor:
    """Positions (B, Q) of the last `queries` tokens, counted in each sample by itself, without its padding."""
    return (valid.cumsum(dim=1) - 1).clamp(min=0)[:, -queries:]


def causal_mask(valid: Tensor, queries: int) -> Tensor:
    """(B, 1, Q, K): which of the keys `valid` (B, K) the last `queries` of them may see.

    A query sees itself and the tokens before it. Padding (.) sees itself alone, so that no row of the softmax is empty:

              . . a b c
            . x
            .   x
            a     x
            b     x x
            c     x x x
    """
    key = torch.arange(valid.shape[1], device=valid.device)
    query = key[-queries:, None]
    both = valid[:, -queries:, None] & valid[:, None]  # a padded query must not count as an attending row
    return ((key < query) & both | (key == query))[:, None]
