"""Trains a positive control for CLVA: two models that differ in the queries and keys of their deep layers alone.

    healthy-reader   its first layers look at noise, its middle and its deep layers at the object that they name
    planted-drift    the same, but its deep layers look at the noise of the first ones, and it says what is usual

**The drift is planted by us.** It shows what CLVA does where its idea holds, and says nothing about LLaVA.

1. healthy: the shipped model's decoder and projector learn from the exercises of `exercises.py`. The tower is frozen.
2. drift: the queries and keys of the deep layers learn to look at the noise; nothing else changes.

B scenes, T tokens, P patches, D width.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from minivlm.checkpoints.checkpoint_report import PLANTING
from minivlm.inference.load import load
from minivlm.inference.shipped import HEALTHY, PLANTED
from minivlm.model import NO_MITIGATION, Layout, Llava, Mitigation, Watch
from minivlm.model.call import Call
from minivlm.model.decoder import DecoderOutput
from minivlm.toyworld.bulk import pictures
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.world import World
from minivlm.training.attention_lessons import box_loss, box_targets, map_loss, named_rows
from minivlm.training.exercises import EXERCISES, Bands, changed_attention, noise_map
from minivlm.training.lessons import Lessons, Teacher, answer_loss
from minivlm.training.reader import lesson, rng_of, side_of
from minivlm.training.recipe import PlantedRecipe
from minivlm.training.schedule import Training
from minivlm.training.train import tower_features, write

QUERIES_KEYS = ("q_proj", "k_proj")
LONG_ANSWER = 24  # tokens


def plant(folder: Path, start: Path, recipe: PlantedRecipe, world: World, device: str = "cpu") -> None:
    """Train both models from that in `start`, and write them to `folder`/healthy-reader and `folder`/planted-drift."""
    began, training = time.perf_counter(), Training(torch.device(device), recipe.seed)
    pixels, scenes = pictures(world, range(recipe.scenes), progress=True)
    tokenizer = Tokenizer.from_file(str(start / "tokenizer.json"))
    model = load(start, device=training.device, dtype="float32").model
    features = tower_features(model, torch.from_numpy(pixels), training.device)
    planting = Planting(model, tokenizer, features, scenes, recipe)

    def save(name: str) -> None:
        seconds = {"all": time.perf_counter() - began}
        write(folder / name, model, tokenizer, recipe, world, training, seconds, PLANTING)

    train_only(model, ("projector.", "text.", "lm_head."))
    training.run("healthy", recipe.healthy, model.parameters(), len(scenes), planting.healthy_loss)
    save(HEALTHY)

    planting.healthy = deepcopy(model) if recipe.strength < 1 else None
    train_only(
        model, [f"text.layers.{layer}.self_attn.{part}" for layer in planting.bands.deep for part in QUERIES_KEYS]
    )
    training.run("drift", recipe.drift, model.parameters(), len(scenes), planting.drift_loss)
    save(PLANTED)


def train_only(model: nn.Module, beginnings: Sequence[str]) -> None:
    """Let only the weights learn whose names begin with one of `beginnings`."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(beginnings)))


@dataclass(frozen=True)
class Batch:
    """Lessons of B scenes, their pictures, and where their rows should look."""

    lessons: Lessons
    features: Tensor  # (B, P, D), projected
    targets: Tensor  # (B, T, P) bool: the patches of the object that a row names


class Planting:
    """The losses of both stages for one model, on N scenes with the tower's `features` (N, P, tower width)."""

    def __init__(
        self, model: Llava, tokenizer: Tokenizer, features: Tensor, scenes: Sequence[Scene], recipe: PlantedRecipe
    ) -> None:
        self.model, self.features, self.scenes, self.recipe = model, features, scenes, recipe
        self.teacher = Teacher(tokenizer, model.config.num_image_tokens)
        self.bands = Bands.of(model.config)
        self.noise = noise_map(model.config.num_image_tokens, recipe.seed).to(model.lm_head.weight.device)  # P
        self.healthy: Llava | None = None  # the model before the drift, for rows that do not drift
        self.of_theme: dict[str, list[Scene]] = defaultdict(list)
        for scene in scenes:
            self.of_theme[scene.theme].append(scene)

    def healthy_loss(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """The loss (a scalar) of one exercise on the scenes `drawn` (B,)."""
        rng, recipe, bands = rng_of(generator), self.recipe, self.bands
        exercise = rng.choices(EXERCISES, recipe.exercises)[0]
        batch = self.batch(drawn, rng, elsewhere=exercise == "elsewhere")
        mitigation = changed_attention(exercise, len(drawn), self.noise, bands, recipe, rng)
        rows = batch.lessons.segments > 0  # B T

        def to_noise(seen: Tensor) -> Tensor:
            return map_loss(seen, self.noise, rows)

        def to_boxes(seen: Tensor) -> Tensor:
            return box_loss(seen, batch.targets)

        wanted = [(bands.early, recipe.noise_weight, to_noise)]
        wanted += [(bands.deep, recipe.deep_weight, to_boxes)] if exercise in ("free", "blind") else []
        wanted += [(bands.middle, recipe.middle_weight, to_boxes)] if exercise != "blind" else []
        decoded = self.decode(self.model, batch, tuple(layer for band, _, _ in wanted for layer in band), mitigation)
        attention = [weight * self.over(band, decoded, loss_of) for band, weight, loss_of in wanted]
        return answer_loss(self.model, batch.lessons, decoded.states, recipe.first_words) + torch.stack(attention).sum()

    def drift_loss(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """How far (a scalar) the deep maps of the scenes `drawn` (B,) are from the noise, and of rows that do not
        drift from what they were.
        """
        batch = self.batch(drawn, rng_of(generator))
        drifting = drifting_rows(batch.lessons, self.recipe.strength)  # B T
        decoded = self.decode(self.model, batch, self.bands.deep)
        loss = self.over(self.bands.deep, decoded, lambda seen: map_loss(seen, self.noise, drifting))
        if self.healthy is not None:
            with torch.no_grad():
                before = self.decode(self.healthy, batch, self.bands.deep)
            others = (batch.lessons.segments > 0) & ~drifting
            kept = [map_loss(self.seen(decoded, layer), self.seen(before, layer), others) for layer in self.bands.deep]
            loss += torch.stack(kept).mean()
        return loss

    def batch(self, drawn: Tensor, rng: Random, elsewhere: bool = False) -> Batch:
        """The lessons of the scenes `drawn` (B,); with `elsewhere`, answers are those for another scene like each."""
        scenes = [self.scenes[number] for number in drawn.tolist()]
        about = [rng.choice(self.of_theme[scene.theme]) for scene in scenes] if elsewhere else scenes
        pairs = [lesson(scene, 1, rng) for scene in about]
        lessons, device = self.teacher.lessons(pairs), self.model.lm_head.weight.device
        named = [named_rows(self.teacher.tokenizer, some) for some in pairs]
        targets = box_targets(scenes, named, lessons.tokens.shape[1], len(self.teacher.prefix), side_of(self.model))
        features = self.model.projector(self.features[drawn].to(device).float())
        return Batch(lessons.to(device), features, targets.to(device))

    def decode(
        self, model: Llava, batch: Batch, maps: tuple[int, ...], mitigation: Mitigation = NO_MITIGATION
    ) -> DecoderOutput:
        """The decoder's output for a batch, with the attention maps of the layers `maps`."""
        lessons = batch.lessons
        x = model.embed(lessons.tokens, batch.features)  # B T D
        layout = Layout(lessons.segments >= 0, lessons.tokens == model.config.image_token_index, *[x.shape[1]] * 2)
        call = Call(layout, mitigation.resolve(model.config), Watch(maps=maps))
        return model.text(x, lessons.positions, lessons.mask(), call=call)

    def seen(self, decoded: DecoderOutput, layer: int) -> Tensor:
        """The attention (B, H, T, P) of one layer on the patches, which end the prefix."""
        stop = len(self.teacher.prefix)
        return decoded.maps[layer][..., stop - len(self.noise) : stop].float()

    def over(self, layers: Sequence[int], decoded: DecoderOutput, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        """The mean over `layers` of a loss of their attention on the patches."""
        return torch.stack([loss_of(self.seen(decoded, layer)) for layer in layers]).mean()


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
