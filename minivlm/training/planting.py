"""What the planted models share: a stage that teaches a healthy reader, and one that plants a fault into a few weights.

Both start from the shipped model, whose tower is frozen. B scenes, T tokens, P patches, D width.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from minivlm.checkpoints.checkpoint_report import PLANTING
from minivlm.inference.load import load
from minivlm.model import NO_MITIGATION, Layout, Llava, Mitigation, Watch
from minivlm.model.call import Call
from minivlm.model.decoder import DecoderOutput
from minivlm.toyworld.bulk import pictures
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.world import World
from minivlm.training.attention_lessons import box_targets, named_rows
from minivlm.training.lessons import Lessons, Pairs, Teacher
from minivlm.training.reader import side_of
from minivlm.training.recipe import DriftRecipe, SinksRecipe
from minivlm.training.schedule import Training
from minivlm.training.train import tower_features, write

READER = ("projector.", "text.", "lm_head.")  # all but the tower
MakeLesson = Callable[[Scene, Random], Pairs]


@dataclass(frozen=True)
class Batch:
    """Lessons of B scenes, their pictures, and where their rows should look."""

    lessons: Lessons
    features: Tensor  # (B, P, D), projected
    targets: Tensor  # (B, T, P) bool: the patches of the object that a row names

    @property
    def rows(self) -> Tensor:
        """(B, T) bool: the rows behind the picture."""
        return self.lessons.segments > 0


@dataclass
class Planting:
    """One model in training, on N scenes with the tower's `features` (N, P, tower width)."""

    model: Llava
    tokenizer: Tokenizer
    features: Tensor
    scenes: Sequence[Scene]
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.patches = self.model.config.num_image_tokens
        self.teacher = Teacher(self.tokenizer, self.patches)
        self.of_theme: dict[str, list[Scene]] = defaultdict(list)
        for scene in self.scenes:
            self.of_theme[scene.theme].append(scene)

    @classmethod
    def of(cls, start: Path, scenes: int, world: World, device: torch.device) -> "Planting":
        """The model in the folder `start`, and the first `scenes` scenes of a world."""
        began = time.perf_counter()
        pixels, drawn = pictures(world, range(scenes), progress=True)
        tokenizer = Tokenizer.from_file(str(start / "tokenizer.json"))
        model = load(start, device=device, dtype="float32").model
        return cls(model, tokenizer, tower_features(model, torch.from_numpy(pixels), device), drawn, began)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.lm_head.weight.device

    def batch(self, drawn: Tensor, rng: Random, make: MakeLesson, elsewhere: bool = False) -> Batch:
        """The lessons that `make` gives for the scenes `drawn` (B,); with `elsewhere`, for another scene like each."""
        scenes = [self.scenes[number] for number in drawn.tolist()]
        about = [rng.choice(self.of_theme[scene.theme]) for scene in scenes] if elsewhere else scenes
        pairs = [make(scene, rng) for scene in about]
        lessons = self.teacher.lessons(pairs)
        named = [named_rows(self.tokenizer, some) for some in pairs]
        targets = box_targets(scenes, named, lessons.tokens.shape[1], len(self.teacher.prefix), side_of(self.model))
        features = self.model.projector(self.features[drawn].to(self.device).float())
        return Batch(lessons.to(self.device), features, targets.to(self.device))

    def decode(
        self,
        batch: Batch,
        maps: Collection[int],
        mitigation: Mitigation = NO_MITIGATION,
        model: Llava | None = None,
    ) -> DecoderOutput:
        """The decoder's output for a batch, with the attention maps of the layers `maps`; `model`: another one."""
        model, lessons = model or self.model, batch.lessons
        x = model.embed(lessons.tokens, batch.features)  # B T D
        layout = Layout(lessons.segments >= 0, lessons.tokens == model.config.image_token_index, *[x.shape[1]] * 2)
        call = Call(layout, mitigation.resolve(model.config), Watch(maps=maps))
        return model.text(x, lessons.positions, lessons.mask(), call=call)

    @property
    def columns(self) -> slice:
        """The columns of the patches, which end the prefix."""
        stop = len(self.teacher.prefix)
        return slice(stop - self.patches, stop)

    def seen(self, decoded: DecoderOutput, layer: int) -> Tensor:
        """The attention (B, H, T, P) of one layer on the patches."""
        return decoded.maps[layer][..., self.columns].float()

    def over(self, layers: Sequence[int], decoded: DecoderOutput, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        """The mean over `layers` of a loss of their attention on the patches."""
        return torch.stack([loss_of(self.seen(decoded, layer)) for layer in layers]).mean()

    def save(self, folder: Path, recipe: DriftRecipe | SinksRecipe, world: World, training: Training) -> None:
        """Write the model as it is now, and a record of how it was made."""
        seconds = {"all": time.perf_counter() - self.began}
        write(folder, self.model, self.tokenizer, recipe, world, training, seconds, PLANTING)


def train_only(model: nn.Module, beginnings: Sequence[str]) -> None:
    """Let only the weights learn whose names begin with one of `beginnings`."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(beginnings)))


def queries_and_keys(layers: Sequence[int]) -> list[str]:
    """The beginnings of the names of the query and key projections of some layers of the decoder."""
    return [f"text.layers.{layer}.self_attn.{part}_proj." for layer in layers for part in "qk"]
