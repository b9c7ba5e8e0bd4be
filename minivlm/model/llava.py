"""LLaVA (Liu et al. 2023, arXiv 2304.08485 and 2310.03744): pixels and tokens in, logits out.

Letters as in `attention.py`, and: N pictures, S their side in pixels, P patches a picture, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minivlm.errors import PromptError
from minivlm.model.cache import KVCache
from minivlm.model.call import FIRST_CALL, Call, Earlier, Watch
from minivlm.model.config import LlavaConfig
from minivlm.model.decoder import Decoder, DecoderOutput, causal_mask, token_positions
from minivlm.model.effect import NO_CHANGES
from minivlm.model.layout import Layout
from minivlm.model.mitigation import NO_MITIGATION, Mitigation
from minivlm.model.projector import Projector, select_features
from minivlm.model.vision import VisionTower


@dataclass(frozen=True)
class Output(DecoderOutput):
    """What one forward returns: what the decoder computed, the logits, and the pictures as the decoder saw them."""

    logits: Tensor  # (B, Q, V), or (B, 1, V) for the last position alone
    image_features: Tensor | None  # (N, P, D), the pictures as vectors in the space of words
    vision_hidden: tuple[Tensor, ...] | None  # (N, 1 + patches, width): the tower's embedding, then each layer's output


class Llava(nn.Module):
    """A vision tower, a projector, a decoder and an LM head, named as in the canonical checkpoint."""

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
        features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: KVCache | None = None,
        mitigation: Any = NO_MITIGATION,
        last_only: bool = False,
        earlier: Earlier = FIRST_CALL,
        **watch: Any,
    ) -> Output:
        """Logits of the next token at every position. Layers count from 0.

        `tokens` (B, Q) hold one `image_token_index` for each patch of the pictures `pixels` (N, 3, S, S), in order, all
        patches of a picture in one sample; instead of pixels, `features` (N, P, D) from `encode_images` may be given.
        `attention_mask` (B, K) is False at padding, also at that of cached tokens. `last_only` computes the logits of
        the last position alone; padding must then be on the left. `mitigation`: see `Mitigation.of`. `earlier`: what
        this call must know of earlier ones. `watch`: the fields of `Watch`, such as `maps=[1]`. Raises `PromptError`
        for tokens, pixels and masks that do not fit, `ConfigError` for layers that do not exist.
        """
        if cache is not None:
            cache.require_room(*tokens.shape)
        asked = Watch(**watch).checked(self.config)
        layout = self.layout(tokens, attention_mask, cache, earlier.prompt)
        call = Call(layout, Mitigation.of(mitigation).resolve(self.config), asked, earlier.changes or NO_CHANGES)
        features, vision_hidden = self.encode_images(pixels, asked.hidden) if pixels is not None else (features, None)
        x = self.embed(tokens, features)  # B Q D
        positions = token_positions(layout.attention_mask, layout.queries)
        mask = causal_mask(layout.attention_mask, layout.queries)
        decoded = self.text(x, positions, mask, cache=cache, call=call, hidden=asked.hidden)
        if decoded.effect and earlier.changes is None:  # a generation warns at its end instead
            decoded.effect.warn_if_nothing()
        logits = self.lm_head(decoded.states[:, -1:] if last_only else decoded.states)
        return Output(**vars(decoded), logits=logits, image_features=features, vision_hidden=vision_hidden)

    def layout(
        self, tokens: Tensor, attention_mask: Tensor | None, cache: KVCache | None, prompt: int | None = None
    ) -> Layout:
        """Which of the cached and the new tokens are patches, text and padding; the cache stores the new patches."""
        past = cache.length if cache is not None else 0
        image = tokens == self.config.image_token_index
        attention_mask = no_padding(tokens, past) if attention_mask is None else attention_mask.bool()
        check_mask(attention_mask, tokens, past)
        image = cache.mark(image) if cache is not None else image
        return Layout(attention_mask, image, tokens.shape[1], prompt or past or tokens.shape[1])

    def encode_images(self, pixels: Tensor, hidden: bool = False) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Pictures (N, 3, S, S) to vectors in the space of words, (N, P, D); with `hidden`, the tower's states, too."""
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

    def check_tokens(self, tokens: Tensor, slots: Tensor, features: Tensor | None) -> None:
        """Raise `PromptError` unless every slot has a patch, every patch a slot and every token an embedding."""
        needed, given = int(slots.sum()), 0 if features is None else features.shape[0] * features.shape[1]
        if needed != given:
            raise PromptError(
                f"The prompt has {needed} image slots, but the pictures give {given} patches "
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


def no_padding(tokens: Tensor, past: int) -> Tensor:
    """The mask (B, K) of `past` cached and the new tokens (B, Q) if none is padding: True everywhere."""
    return torch.ones(tokens.shape[0], past + tokens.shape[1], dtype=torch.bool, device=tokens.device)


def check_mask(attention_mask: Tensor, tokens: Tensor, past: int) -> None:
    """Raise `PromptError` unless the mask is (B, K), with a column for each cached and each new token."""
    expected = (tokens.shape[0], past + tokens.shape[1])
    if tuple(attention_mask.shape) != expected:
        raise PromptError(
            f"`attention_mask` must have the shape (samples, cached and new tokens) = {expected}, "
            f"found {tuple(attention_mask.shape)}."
        )
