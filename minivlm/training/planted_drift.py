"""Trains a positive control for CLVA: two models that differ in the queries and keys of their deep layers alone.

    healthy-reader   its first layers look at noise, its middle and its deep layers at the object that they name
    planted-drift    the same, but its deep layers look at the noise of the first ones, and it says what is usual

**The drift is planted by us.** It shows what CLVA does where its idea holds, and says nothing about LLaVA.

1. healthy: the shipped model's decoder and projector learn from the exercises of `exercises.py`. The tower is frozen.
2. drift: the queries and keys of the deep layers learn to look at the noise where they looked at anything in the
   picture, and at words as before. Nothing else changes.

B scenes, T tokens, P patches.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from minivlm.inference.shipped import HEALTHY, PLANTED
from minivlm.model import Llava
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.world import World
from minivlm.training.attention_lessons import box_loss, map_loss
from minivlm.training.exercises import EXERCISES, Bands, changed_attention, noise_map
from minivlm.training.lessons import Lessons, Pairs, answer_loss
from minivlm.training.planting import READER, Planting, queries_and_keys, train_only
from minivlm.training.reader import lesson, rng_of
from minivlm.training.recipe import DriftRecipe
from minivlm.training.schedule import Training

LONG_ANSWER = 24  # tokens


def plant_drift(folder: Path, start: Path, recipe: DriftRecipe, world: World, device: str = "cpu") -> None:
    """Train both models from that in `start`, and write them to `folder`/healthy-reader and `folder`/planted-drift."""
    training = Training(torch.device(device), recipe.seed)
    planting = Planting.of(start, recipe.scenes, world, training.device)
    losses, model = DriftLosses(planting, recipe), planting.model

    train_only(model, READER)
    training.run("healthy", recipe.healthy, model.parameters(), recipe.scenes, losses.healthy)
    planting.save(folder / HEALTHY, recipe, world, training)

    losses.before = deepcopy(model)
    train_only(model, queries_and_keys(losses.bands.deep))
    training.run("drift", recipe.drift, model.parameters(), recipe.scenes, losses.drift)
    planting.save(folder / PLANTED, recipe, world, training)


@dataclass
class DriftLosses:
    """The losses of both stages."""

    planting: Planting
    recipe: DriftRecipe
    before: Llava | None = None  # the model before the drift

    def __post_init__(self) -> None:
        self.bands = Bands.of(self.planting.model.config)
        self.noise = noise_map(self.planting.patches, self.recipe.seed).to(self.planting.device)  # P

    def healthy(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """The loss (a scalar) of one exercise on the scenes `drawn` (B,)."""
        rng, recipe, bands, planting = rng_of(generator), self.recipe, self.bands, self.planting
        exercise = rng.choices(EXERCISES, recipe.exercises)[0]
        batch = planting.batch(drawn, rng, one_question, elsewhere=exercise == "elsewhere")
        mitigation = changed_attention(exercise, len(drawn), self.noise, bands, recipe, rng)

        def to_noise(seen: Tensor) -> Tensor:
            return map_loss(seen, self.noise, batch.rows)

        def to_boxes(seen: Tensor) -> Tensor:
            return box_loss(seen, batch.targets)

        wanted = [(bands.early, recipe.noise_weight, to_noise)]
        wanted += [(bands.deep, recipe.deep_weight, to_boxes)] if exercise in ("free", "blind") else []
        wanted += [(bands.middle, recipe.middle_weight, to_boxes)] if exercise != "blind" else []
        decoded = planting.decode(batch, [layer for band, _, _ in wanted for layer in band], mitigation)
        attention = torch.stack([weight * planting.over(band, decoded, loss_of) for band, weight, loss_of in wanted])
        return answer_loss(planting.model, batch.lessons, decoded.states, recipe.first_words) + attention.sum()

    def drift(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """How far (a scalar) the deep layers are, in the scenes `drawn` (B,), from looking as `drifted` says."""
        planting, deep = self.planting, self.bands.deep
        batch = planting.batch(drawn, rng_of(generator), one_question)
        rows = drifting_rows(batch.lessons, self.recipe.strength)  # B T
        with torch.no_grad():
            before = planting.decode(batch, deep, model=self.before).maps
        now = planting.decode(batch, deep).maps
        wanted = {layer: drifted(before[layer].float(), rows, self.noise, planting.columns) for layer in deep}
        return torch.stack([map_loss(now[layer].float(), wanted[layer], batch.rows) for layer in deep]).mean()


def drifted(maps: Tensor, rows: Tensor, noise: Tensor, columns: slice) -> Tensor:
    """`maps` (B, H, T, T) in which `rows` (B, T) give the noise (P,) what they gave the patches, which are `columns`.

    Nothing else changes: words get what they got, and the picture as a whole does.
    """
    patches = maps[..., columns]
    moved = torch.where(rows[:, None, :, None], patches.sum(dim=-1, keepdim=True) * noise, patches)
    return maps.slice_scatter(moved, dim=-1, start=columns.start, end=columns.stop)


def one_question(scene: Scene, rng: Random) -> Pairs:
    """A caption of a scene, and one other question about it."""
    return lesson(scene, 1, rng)


def drifting_rows(lessons: Lessons, strength: float) -> Tensor:
    """The rows (B, T) bool that drift: with a strength of 1 all behind the picture, else those late in their answer.

    An answer's row drifts from `1 - strength` times the length of a long answer on.
    """
    behind = lessons.segments > 0
    if strength == 1:
        return behind
    taught, segments = lessons.labels >= 0, lessons.segments.clamp(min=0)
    places = lessons.positions.where(taught, torch.iinfo(torch.int64).max)
    empty = places.new_full((len(places), int(segments.max()) + 1), torch.iinfo(torch.int64).max)
    first = empty.scatter_reduce(1, segments, places, "amin").gather(1, segments)  # B T: where the row's answer begins
    return behind & (lessons.positions - first >= (1 - strength) * LONG_ANSWER) & (lessons.positions >= first)
