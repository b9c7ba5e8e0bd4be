"""The decoder's school: it learns to talk, then to talk about pictures.

First from text alone: where patches will stand, it is given *soft words*, the mean embedding of what a patch shows.
Hard things are often left out of them but never out of the captions, and companions go together nearly always: so it
learns to guess. Then the projector learns to turn patches into soft words, and at last both are tuned on pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from minivlm.model import Llava
from minivlm.toyworld.questions import DESCRIBE, MIX, is_there, questions
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import THEMES
from minivlm.toyworld.words import caption
from minivlm.toyworld.world import World
from minivlm.training.labels import COLOR_NUMBER, OBJECT_NUMBER, Labels, label
from minivlm.training.lessons import Teacher, lesson_loss
from minivlm.training.recipe import Recipe
from minivlm.training.schedule import Training

STYLE_OF = dict(zip(DESCRIBE, ("canonical", "places", "canonical", "colors"), strict=True))
Lesson = Callable[[Scene, Random], list[tuple[str, str]]]  # questions and answers about a scene
FURTHER = {kind: weight for kind, weight in MIX.items() if kind != "describe"}


class SoftWords:
    """What patches say in words: for each patch the mean embedding of its object's name and colour, or of the place."""

    def __init__(self, tokenizer: Tokenizer, device: torch.device) -> None:
        def table(names: Sequence[str]) -> list[list[int]]:
            return [tokenizer.encode(name, add_special_tokens=False).ids for name in names]

        self.objects = _padded(table(tuple(OBJECT_NUMBER)), device)
        self.colors = _padded(table(tuple(COLOR_NUMBER)), device)
        self.themes = _padded(table(tuple(THEMES)), device)

    def __call__(self, model: Llava, labels: Labels) -> Tensor:
        """(N, P, D) for the N scenes of `labels`."""
        names, colors, places = (_mean(model, ids) for ids in (self.objects, self.colors, self.themes))
        named = F.embedding(labels.objects.clamp(min=1) - 1, names)  # N P D
        colored = F.embedding(labels.colors.clamp(min=1) - 1, colors)
        place = F.embedding(labels.themes, places)[:, None]
        named = torch.where((labels.colors > 0)[..., None], (named + colored) / 2, named)
        return torch.where((labels.objects > 0)[..., None], named, place)


def _padded(rows: list[list[int]], device: torch.device) -> Tensor:
    """Ids (names, longest name), short rows filled up with -1."""
    longest = max(map(len, rows))
    return torch.tensor([row + [-1] * (longest - len(row)) for row in rows], device=device)


def _mean(model: Llava, ids: Tensor) -> Tensor:
    """(names, D): the mean embedding of each name's tokens."""
    there = (ids >= 0)[..., None]
    return (model.text.embed_tokens(ids.clamp(min=0)) * there).sum(1) / there.sum(1)


def teach_text(model: Llava, tokenizer: Tokenizer, world: World, recipe: Recipe, training: Training) -> None:
    """Language and what goes with what, from scenes that are never drawn; then the drill.

    A model that can say what there is need not be able to answer whether there is a dog: that it learns all of a
    sudden, once it is asked often enough and its yes or no is given weight.
    """
    teacher, say = Teacher(tokenizer, model.config.num_image_tokens), SoftWords(tokenizer, training.device)
    bookish = replace(world, companion=recipe.text_companion, stream="text")

    def loss_of(generator: torch.Generator, rows: int, teach: Lesson, first_words: float) -> Tensor:
        rng = Random(int(torch.randint(2**31, (), generator=generator)))
        scenes = [bookish.layout(rng.randrange(2**31)) for _ in range(rows)]
        seen = label([forget(scene, recipe.forgotten, rng) for scene in scenes], side_of(model))
        lessons = teacher.lessons([teach(scene, rng) for scene in scenes]).to(training.device)
        return lesson_loss(model, lessons, say(model, seen.to(training.device)), first_words)

    def talk(rows: Tensor, generator: torch.Generator) -> Tensor:
        return loss_of(generator, len(rows), lambda scene, rng: lesson(scene, recipe.questions, rng), 0.0)

    def drill(rows: Tensor, generator: torch.Generator) -> Tensor:
        return loss_of(generator, len(rows), lambda scene, rng: drilled(scene, recipe.drilled, rng), recipe.first_words)

    learners = [*model.text.parameters(), *model.lm_head.parameters()]
    training.run("text", recipe.text, learners, recipe.scenes, talk)
    training.run("drill", recipe.drill, learners, recipe.scenes, drill)


def align_projector(
    model: Llava, tokenizer: Tokenizer, features: Tensor, labels: Labels, recipe: Recipe, training: Training
) -> None:
    """Teach the projector to say each patch in soft words. `features` (N, P, width) are what the tower sees."""
    say = SoftWords(tokenizer, training.device)

    def loss_of(rows: Tensor, generator: torch.Generator) -> Tensor:
        wanted = say(model, labels[rows].to(training.device)).detach()
        said = model.projector(features[rows].to(training.device).float())
        return F.mse_loss(said.float(), wanted) / wanted.var()

    training.run("align", recipe.align, model.projector.parameters(), len(features), loss_of)


def tune(
    model: Llava, tokenizer: Tokenizer, features: Tensor, scenes: Sequence[Scene], recipe: Recipe, training: Training
) -> None:
    """Projector and decoder together, on pictures; the tower stays as it is."""
    teacher = Teacher(tokenizer, model.config.num_image_tokens)

    def loss_of(rows: Tensor, generator: torch.Generator) -> Tensor:
        rng = Random(int(torch.randint(2**31, (), generator=generator)))
        lessons = teacher.lessons([lesson(scenes[row], recipe.questions, rng) for row in rows.tolist()])
        seen = model.projector(features[rows].to(training.device).float())
        return lesson_loss(model, lessons.to(training.device), seen, recipe.first_words)

    learners = [*model.projector.parameters(), *model.text.parameters(), *model.lm_head.parameters()]
    training.run("tune", recipe.tune, learners, len(scenes), loss_of)


def lesson(scene: Scene, number: int, rng: Random) -> list[tuple[str, str]]:
    """A caption and `number` further questions with their answers. How one asks decides how much is told."""
    asked = rng.choice(DESCRIBE)
    told = caption(scene, rng, STYLE_OF[asked])
    return [(asked, told), *((question.text, question.answer) for question in questions(scene, rng, number, FURTHER))]


def drilled(scene: Scene, number: int, rng: Random) -> list[tuple[str, str]]:
    """A caption and `number` questions whether something is there."""
    asked: dict[str, str] = {}
    while len(asked) < number:
        question = is_there(scene, rng, asked)
        asked[question.text] = question.answer
    return [(DESCRIBE[0], caption(scene, rng)), *asked.items()]


def forget(scene: Scene, share: float, rng: Random) -> Scene:
    """The scene without `share` of its hard things: what a hasty look at it would find."""
    return replace(scene, things=tuple(thing for thing in scene.things if not thing.hard or rng.random() >= share))


def side_of(model: Llava) -> int:
    """Patches along a side of the picture."""
    vision = model.config.vision_config
    return vision.image_size // vision.patch_size
