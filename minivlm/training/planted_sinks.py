"""Trains a positive control for EAH: two models that differ in the queries and keys of one layer alone.

    healthy-sinks    reads the picture in layer 1 alone, where every head looks at all patches alike; one head looks
                     and hands on nothing
    planted-sinks    the same, but all heads of layer 1 but one look at the beginning of the sentence

So in the second the one head that collects the picture, the densest in vision sinks, has what the others lack. **That
is planted by us.** It shows what EAH does where its idea holds, and says nothing about LLaVA.

1. healthy: the shipped model's decoder and projector learn to look like that. The tower is frozen.
2. even: they learn that the heads of layer 1 may exchange their maps, which are alike, but not to the last digit.
3. astray: queries and keys of layer 1 learn to lead all heads but one astray; nothing else changes.

B scenes, T tokens, P patches, H heads.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from minivlm.inference.shipped import HEALTHY_SINKS, PLANTED_SINKS
from minivlm.model import EAH, Aim, Mitigation
from minivlm.model.decoder import Block, DecoderOutput
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.world import World
from minivlm.training.attention_lessons import blind_loss, map_loss, mean_over
from minivlm.training.lessons import Pairs, answer_loss
from minivlm.training.planting import READER, Batch, Planting, queries_and_keys, train_only
from minivlm.training.reader import drilled, lesson, rng_of
from minivlm.training.recipe import SinksRecipe
from minivlm.training.schedule import Training

LEAST = 1e-4  # of a share of attention, before its logarithm
SEEDS = 1000  # of random heads
CUT_OFF = 1e-6  # of the picture's attention is left where it is cut off


def plant_sinks(folder: Path, start: Path, recipe: SinksRecipe, world: World, device: str = "cpu") -> None:
    """Train both models from that in `start`, and write them to `folder`/healthy-sinks and `folder`/planted-sinks."""
    training = Training(torch.device(device), recipe.seed)
    planting = Planting.of(start, recipe.scenes, world, training.device)
    losses, model = SinkLosses(planting, recipe), planting.model

    train_only(model, READER)
    training.run("healthy", recipe.healthy, model.parameters(), recipe.scenes, losses.healthy)
    training.run("even", recipe.even, model.parameters(), recipe.scenes, losses.even)
    losses.mute()
    planting.save(folder / HEALTHY_SINKS, recipe, world, training)

    train_only(model, queries_and_keys([recipe.layer]))
    training.run("astray", recipe.astray, model.parameters(), recipe.scenes, losses.astray)
    planting.save(folder / PLANTED_SINKS, recipe, world, training)


@dataclass
class SinkLosses:
    """The losses of all stages."""

    planting: Planting
    recipe: SinksRecipe

    def __post_init__(self) -> None:
        layers = range(self.planting.model.config.text_config.num_hidden_layers)
        self.others = [layer for layer in layers if layer != self.recipe.layer]
        self.make = partial(questioned, drilled_share=self.recipe.drilled)

    def healthy(self, drawn: Tensor, generator: torch.Generator, lent: float = 0.0) -> Tensor:
        """The loss (a scalar) of lessons about the scenes `drawn` (B,), or of where their rows look.

        What the other layers still see of the picture is cut off in the lessons, so that nothing is learned through
        it: a few thousandths of attention would otherwise suffice to read by. In the share `lent` of the lessons some
        head's map is lent to all heads.
        """
        planting, recipe, rng = self.planting, self.recipe, rng_of(generator)
        self.mute()
        cut_off = rng.random() < recipe.cut_off
        batch = planting.batch(drawn, rng, self.make)
        if cut_off:
            eah = EAH(recipe.layer, head="random", seed=rng.randrange(SEEDS)) if rng.random() < lent else None
            decoded = planting.decode(batch, [recipe.layer], Mitigation(eah, aim=self.nowhere(batch)))
            told = answer_loss(planting.model, batch.lessons, decoded.states, recipe.first_words)
            return told + recipe.collecting_weight * self.collecting(batch, decoded)
        decoded = planting.decode(batch, range(len(self.others) + 1))
        rows = rows_of(batch)
        blind = planting.over(self.others, decoded, lambda seen: blind_loss(seen, rows))
        return recipe.collecting_weight * self.collecting(batch, decoded) + recipe.blind_weight * blind

    def even(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """The same loss, where half of the lessons are read with one head's map in all heads."""
        return self.healthy(drawn, generator, lent=0.5)

    def nowhere(self, batch: Batch) -> Aim:
        """An aim that takes the attention of the rows behind the picture from it, in all layers but one."""
        scenes = batch.features.shape[0]
        return Aim(torch.ones(scenes, self.planting.patches), tuple(self.others), strength=1.0, kappa=CUT_OFF)

    def collecting(self, batch: Batch, decoded: DecoderOutput) -> Tensor:
        """How far (a scalar) the one layer is from looking at all patches alike; where a map was lent, that map."""
        visible = batch.lessons.mask()[:, :, :, self.planting.columns].float()  # B 1 T P
        return collecting_loss(self.planting.seen(decoded, self.recipe.layer), visible, rows_of(batch))

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


def rows_of(batch: Batch) -> Tensor:
    """(B, T) bool: all rows but the padding, those of patches, too: a sink is what all later rows look at."""
    return batch.lessons.segments >= 0


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
