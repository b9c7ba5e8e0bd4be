"""The parity ladder: our model against a reference, stage by stage, to find the first stage that differs.

The reference is a `LlavaForConditionalGeneration` of the transformers library that the caller passes; nothing is
imported from there. Only parts of it are used that checkpoints fix and no release has changed: its modules, by the
names of their weights, its config, and the hidden states and logits of a call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minivlm.model.decoder import token_positions
from minivlm.model.llava import Llava, Output


@dataclass(frozen=True)
class Rung:
    """One stage of the computation, and how far apart the two models are there."""

    stage: str
    largest: float  # largest absolute difference
    relative: float  # the same, as a share of the reference's largest absolute value

    def __str__(self) -> str:
        return f"{self.stage:<24} {self.largest:10.2e} {self.relative:10.2e}"


@dataclass(frozen=True)
class Ladder:
    """All stages from the tower's embedding to the logits, in the order in which they are computed."""

    rungs: tuple[Rung, ...]

    def first_difference(self, tolerance: float) -> Rung | None:
        """The first stage whose relative difference exceeds `tolerance` (or is not a number)."""
        return next((rung for rung in self.rungs if not rung.relative <= tolerance), None)

    def __getitem__(self, stage: str) -> Rung:
        return next(rung for rung in self.rungs if rung.stage == stage)

    def __str__(self) -> str:
        return "\n".join([f"{'stage':<24} {'absolute':>10} {'relative':>10}", *map(str, self.rungs)])


@torch.no_grad()
def parity_ladder(
    model: Llava,
    reference: Any,
    tokens: Tensor,
    pixels: Tensor | None = None,
    attention_mask: Tensor | None = None,
    maps: tuple[int, ...] = (),
) -> Ladder:
    """Run both models on `tokens` (B, T), `pixels` (N, 3, S, S) and `attention_mask` (B, T), and compare every stage.

    `reference`: see above. Padding is not compared. `maps`: decoder layers that our model computes in its visible lane.
    """
    attention_mask = torch.ones_like(tokens, dtype=torch.bool) if attention_mask is None else attention_mask
    ours = model(tokens, pixels, attention_mask=attention_mask, hidden=True, maps=maps)
    theirs = reference(
        input_ids=tokens,
        pixel_values=pixels,
        attention_mask=attention_mask.long(),
        position_ids=token_positions(attention_mask, tokens.shape[1]),
        output_hidden_states=True,
    )
    rungs = picture_rungs(ours, reference, pixels) if pixels is not None else []
    return Ladder((*rungs, *word_rungs(model, ours, theirs, attention_mask)))


def compare(stage: str, ours: Tensor, theirs: Tensor) -> Rung:
    """The rung of one stage. For tensors of different shapes both differences are infinite."""
    if ours.shape != theirs.shape:
        return Rung(stage, float("inf"), float("inf"))
    ours, theirs = ours.cpu().double(), theirs.cpu().double()
    largest = float((ours - theirs).abs().max())
    return Rung(stage, largest, largest / max(float(theirs.abs().max()), torch.finfo(torch.float64).tiny))


def picture_rungs(ours: Output, reference: Any, pixels: Tensor) -> list[Rung]:
    """The rungs of the tower and the projector. How the reference uses them itself shows in "text embedding"."""
    assert ours.vision_hidden is not None  # `parity_ladder` asks for them
    assert ours.image_features is not None  # there are pixels
    tower = reference.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    states = zip(ours.vision_hidden, tower, strict=True)
    rungs = [compare(f"vision {layer}" if layer else "vision embedding", *pair) for layer, pair in enumerate(states)]
    theirs = reference.model.multi_modal_projector(selected_states(tower, reference.config))  # N P D
    return [*rungs, compare("projector", ours.image_features, theirs)]


def selected_states(tower: Sequence[Tensor], config: Any) -> Tensor:
    """The input of the reference's projector, (N, P, layers D), from the tower's states as its `config` says."""
    layers = config.vision_feature_layer
    states = [tower[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
    first = 1 if config.vision_feature_select_strategy == "default" else 0  # the class token
    chosen = [state[:, first:] for state in states]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=-1)  # as transformers lays them out


def word_rungs(model: Llava, ours: Output, theirs: Any, attention_mask: Tensor) -> list[Rung]:
    """The decoder's rungs. The reference's last hidden state is after the last norm, so ours is normalised, too."""
    assert ours.hidden is not None  # `parity_ladder` asks for them
    states = [*ours.hidden[:-1], model.text.norm(ours.hidden[-1])]
    pairs = zip(states, theirs.hidden_states, strict=True)
    names = ["text embedding", *(f"text {layer}" for layer in range(len(states) - 1))]
    rungs = [compare(name, a[attention_mask], b[attention_mask]) for name, (a, b) in zip(names, pairs, strict=True)]
    return [*rungs, compare("logits", ours.logits[attention_mask], theirs.logits[attention_mask])]
