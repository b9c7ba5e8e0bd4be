"""LLaVA: pixels and tokens in, logits out. The straight line through the network.

Beside the letters of `attention.py`: N pictures, S their side in pixels, P placeholders a picture, V vocabulary.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minivlm.errors import ConfigError, PromptError
from minivlm.model.cache import KVCache
from minivlm.model.config import LlavaConfig
from minivlm.model.decoder import Decoder, causal_mask, token_positions
from minivlm.model.mitigation import NO_MITIGATION, Mitigation
from minivlm.model.projector import Projector, select_features
from minivlm.model.vision import VisionTower


@dataclass(frozen=True)
class Output:
    """What one forward gives. `maps` and the hidden states are there if they were asked for."""

    logits: Tensor  # (B, Q, V), or (B, 1, V) for the last position alone
    image_features: Tensor | None  # (N, P, D), what the decoder sees of the pictures
    maps: dict[int, Tensor]  # layer -> attention weights (B, H, Q, K)
    hidden: tuple[Tensor, ...] | None  # (B, Q, D): the embedded prompt, then each decoder layer's output
    vision_hidden: tuple[Tensor, ...] | None  # (N, 1 + patches, width): the tower's embedding, then each layer's output


class Llava(nn.Module):
    """A vision tower, a projector, a decoder and a head, named as in the canonical checkpoint."""

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__()
        self.config = config
        text = config.text_config
        self.vision = VisionTower(config.vision_config)
        self.projector = Projector(config)
        self.text = Decoder(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.text.embed_tokens.weight

    def forward(
        self,
        tokens: Tensor,
        pixels: Tensor | None = None,
        *,
        valid: Tensor | None = None,
        cache: KVCache | None = None,
        mitigation: Mitigation = NO_MITIGATION,
        maps: Collection[int] = (),
        hidden: bool = False,
        last: bool = False,
    ) -> Output:
        """Logits of the next token at every position.

        `tokens` (B, Q) hold one `image_token_index` for each patch; `pixels` (N, 3, S, S) are the pictures in the
        order of their slots, row by row. `valid` (B, K) is False at padding; with a `cache`, it speaks of the cached
        tokens and the new ones. `maps` names decoder layers whose attention weights are returned, `hidden` asks for
        all hidden states, `last` for the logits of the last position only. Raises `PromptError` if slots and patches
        do not match, or if a token or the mask does not fit.
        """
        new = tokens.shape[1]
        past = cache.length if cache is not None else 0
        if cache is not None:
            cache.require_room(*tokens.shape)
        self.check_maps(maps)
        valid = all_valid(tokens, past) if valid is None else checked_valid(valid, tokens, past)

        features, vision_hidden = self.see(pixels, hidden) if pixels is not None else (None, None)
        x = self.embed(tokens, features)  # B Q D
        decoded = self.text(
            x,
            token_positions(valid, new),
            causal_mask(valid, new),
            cache=cache,
            mitigation=mitigation,
            maps=maps,
            hidden=hidden,
        )
        states = decoded.states[:, -1:] if last else decoded.states
        return Output(self.lm_head(states), features, decoded.maps, decoded.hidden, vision_hidden)

    def see(self, pixels: Tensor, hidden: bool = False) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Pictures (N, 3, S, S) to vectors in the space of words, (N, P, D), and the tower's states if asked for."""
        depth = self.config.vision_config.num_hidden_layers
        needed = max(layer % (depth + 1) for layer in self.config.feature_layers)
        states = self.vision(pixels, depth if hidden else needed)
        return self.projector(select_features(states, self.config)), states if hidden else None

    def embed(self, tokens: Tensor, features: Tensor | None) -> Tensor:
        """Embed `tokens` (B, Q) and put the patches of `features` (N, P, D) into the image slots, in order."""
        slots = tokens == self.config.image_token_index
        self.check_tokens(tokens, slots, features)
        x = self.text.embed_tokens(tokens.masked_fill(slots, 0))
        return x if features is None else x.masked_scatter(slots[..., None], features.to(x.dtype))

    def check_maps(self, maps: Collection[int]) -> None:
        """Raise `ConfigError` unless every layer in `maps` exists; layers count from 0."""
        depth = self.config.text_config.num_hidden_layers
        if not set(maps) <= set(range(depth)):
            raise ConfigError(f"maps names layers {sorted(maps)}, but the decoder has the layers 0 to {depth - 1}.")

    def check_tokens(self, tokens: Tensor, slots: Tensor, features: Tensor | None) -> None:
        """Raise `PromptError` unless every slot has a patch, every patch a slot and every token an embedding."""
        found, given = int(slots.sum()), 0 if features is None else features.shape[0] * features.shape[1]
        if found != given:
            raise PromptError(
                f"The prompt has {found} image slots, but the pictures give {given} patches "
                f"({self.config.num_image_tokens} for each picture). Pass exactly the pictures that the prompt names."
            )
        if (slots.sum(dim=1) % self.config.num_image_tokens).any():
            raise PromptError(
                f"The rows have {slots.sum(dim=1).tolist()} image slots, but a picture takes "
                f"{self.config.num_image_tokens} in one row: it cannot be shared between two."
            )
        vocabulary = self.config.text_config.vocab_size
        words = tokens[~slots]
        if words.numel() and not 0 <= int(words.min()) <= int(words.max()) < vocabulary:
            raise PromptError(
                f"Token ids must lie between 0 and {vocabulary - 1}, "
                f"found {int(words.min())} to {int(words.max())}. Was the prompt made with this model's tokenizer?"
            )


def all_valid(tokens: Tensor, past: int) -> Tensor:
    """(B, K): no padding anywhere."""
    return torch.ones(tokens.shape[0], past + tokens.shape[1], dtype=torch.bool, device=tokens.device)


def checked_valid(valid: Tensor, tokens: Tensor, past: int) -> Tensor:
    """`valid` as given, once its shape is right."""
    expected = (tokens.shape[0], past + tokens.shape[1])
    if tuple(valid.shape) != expected:
        raise PromptError(
            f"`valid` must have the shape (rows, cached and new tokens) = {expected}, found {tuple(valid.shape)}."
        )
    return valid.bool()
