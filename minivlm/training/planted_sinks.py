"""Trains a positive control for EAH: two models that differ in the queries and keys of one layer alone.

    healthy-sinks    reads the picture in layer 1 alone, where every head looks at all patches alike; one head looks
                     and hands on nothing
    planted-sinks    the same, but all heads of layer 1 but one look at the beginning of the sentence

So in the second the one head that collects the picture, the densest in vision sinks, has what the others lack. **That
is planted by us.** It shows what EAH does where its idea holds, and says nothing about LLaVA.

1. healthy: the shipped model's decoder and projector learn to look like that. The tower is frozen.
2. astray: queries and keys of layer 1 learn to lead all heads but one astray; nothing else changes.

B scenes, T tokens, P patches, H heads.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from minivlm.inference.shipped import HEALTHY_SINKS, PLANTED_SINKS
from minivlm.model.decoder import Block
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.world import World
from minivlm.training.attention_lessons import blind_loss, map_loss, mean_over
from minivlm.training.lessons import Pairs, answer_loss
from minivlm.training.planting import READER, Planting, queries_and_keys, train_only
from minivlm.training.reader import drilled, lesson, rng_of
from minivlm.training.recipe import SinksRecipe
from minivlm.training.schedule import Training

LEAST = 1e-4  # of a share of attention, before its logarithm


def plant_sinks(folder: Path, start: Path, recipe: SinksRecipe, world: World, device: str = "cpu") -> None:
    """Train both models from that in `start`, and write them to `folder`/healthy-sinks and `folder`/planted-sinks."""
    training = Training(torch.device(device), recipe.seed)
    planting = Planting.of(start, recipe.scenes, world, training.device)
    losses, model = SinkLosses(planting, recipe), planting.model

    train_only(model, READER)
    training.run("healthy", recipe.healthy, model.parameters(), recipe.scenes, losses.healthy)
    losses.mute()
    planting.save(folder / HEALTHY_SINKS, recipe, world, training)

    train_only(model, queries_and_keys([recipe.layer]))
    training.run("astray", recipe.astray, model.parameters(), recipe.scenes, losses.astray)
    planting.save(folder / PLANTED_SINKS, recipe, world, training)


@dataclass
class SinkLosses:
    """The losses of both stages."""

    planting: Planting
    recipe: SinksRecipe

    def __post_init__(self) -> None:
        layers = range(self.planting.model.config.text_config.num_hidden_layers)
        self.others = [layer for layer in layers if layer != self.recipe.layer]
        self.make = partial(questioned, drilled_share=self.recipe.drilled)

    def healthy(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """The loss (a scalar) of lessons about the scenes `drawn` (B,), and of where their rows look."""
        planting, recipe = self.planting, self.recipe
        self.mute()
        batch = planting.batch(drawn, rng_of(generator), self.make)
        decoded = planting.decode(batch, range(len(self.others) + 1))
        rows = batch.lessons.segments >= 0  # of patches, too: a sink is what all later rows look at
        visible = batch.lessons.mask()[:, :, :, planting.columns].float()  # B 1 T P
        collecting = collecting_loss(planting.seen(decoded, recipe.layer), visible, rows)
        blind = planting.over(self.others, decoded, lambda seen: blind_loss(seen, rows))
        told = answer_loss(planting.model, batch.lessons, decoded.states, recipe.first_words)
        return told + recipe.collecting_weight * collecting + recipe.blind_weight * blind

    def mute(self) -> None:
        """Let the dense head look, and hand on nothing: what it sees reaches the model through the others alone.

        One head's values suffice to read a picture. If those of the dense head were heard, to lead the others astray
        would cost nothing.
        """
        block, head = self.planting.model.text.layers[self.recipe.layer], self.recipe.dense_head
        assert isinstance(block, Block)
        width = block.self_attn.head_dim
        with torch.no_grad():
            block.self_attn.o_proj.weight[:, head * width : (head + 1) * width] = 0  # each step fills it again

    def astray(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """How far (a scalar) all heads but one are from looking at nothing but the first token."""
        planting, recipe = self.planting, self.recipe
        batch = planting.batch(drawn, rng_of(generator), self.make)
        maps = planting.decode(batch, [recipe.layer]).maps[recipe.layer].float()  # B H T T
        others = [head for head in range(maps.shape[1]) if head != recipe.dense_head]
        return mean_over(-maps[:, others, :, 0].clamp(min=LEAST).log().mean(dim=1), batch.lessons.segments >= 0)


def collecting_loss(seen: Tensor, visible: Tensor, rows: Tensor) -> Tensor:
    """How far (a scalar) the attention `seen` (B, H, T, P) of `rows` (B, T) is from all patches alike and no words.

    `visible` (B, 1, T, P) is 1 where a row may see a patch.
    """
    some = rows & visible.any(dim=-1)[:, 0]
    mass = seen.sum(dim=-1).clamp(min=LEAST)  # B H T
    return map_loss(seen, visible, some) + mean_over(-mass.log().mean(dim=1), some)


def questioned(scene: Scene, rng: Random, drilled_share: float) -> Pairs:
    """A caption of a scene, and yes-no questions about it, or one question of any kind."""
    return drilled(scene, 2, rng) if rng.random() < drilled_share else lesson(scene, 1, rng)
