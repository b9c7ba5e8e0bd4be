"""The training of decoder and projector: first the decoder on text alone, then the projector, then both on pictures.

In the text stages, each patch of a scene is replaced by a *soft word*: the mean embedding of the words for what the
patch shows. Things that are hard to see are often left out of the soft words but never out of the captions, and
companions occur together nearly always: so the decoder learns to guess. Then the projector is fitted to the soft words
(align), and finally both are trained on pictures (tune). N scenes or pictures, P patches, D width of the decoder.
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
from minivlm.training.lessons import Pairs, Teacher, lesson_loss
from minivlm.training.recipe import Recipe
from minivlm.training.schedule import Training

STYLE_OF = dict(zip(DESCRIBE, ("canonical", "places", "canonical", "colors"), strict=True))
FURTHER = {kind: weight for kind, weight in MIX.items() if kind != "describe"}  # the kinds of question but captions


class SoftWords:
    """For each patch the mean embedding of its object's name and colour, or of the place where there is no object."""

    def __init__(self, tokenizer: Tokenizer, device: torch.device) -> None:
        def table(names: Sequence[str]) -> list[list[int]]:
            return [tokenizer.encode(name, add_special_tokens=False).ids for name in names]

        self.objects = padded(table(tuple(OBJECT_NUMBER)), device)
        self.colors = padded(table(tuple(COLOR_NUMBER)), device)
        self.themes = padded(table(tuple(THEMES)), device)

    def __call__(self, model: Llava, labels: Labels) -> Tensor:
        """The soft words (N, P, D) of the N scenes of `labels`, with gradients to the embeddings of `model`."""
        names, colors, places = (mean_embedding(model, ids) for ids in (self.objects, self.colors, self.themes))
        named = F.embedding(labels.objects.clamp(min=1) - 1, names)  # N P D
        colored = F.embedding(labels.colors.clamp(min=1) - 1, colors)  # N P D
        place = F.embedding(labels.themes, places)[:, None]  # N 1 D
        named = torch.where((labels.colors > 0)[..., None], (named + colored) / 2, named)
        return torch.where((labels.objects > 0)[..., None], named, place)


def padded(names: list[list[int]], device: torch.device) -> Tensor:
    """The token ids of names as one tensor (names, longest name), shorter names filled up with -1."""
    longest = max(map(len, names))
    return torch.tensor([ids + [-1] * (longest - len(ids)) for ids in names], device=device)


def mean_embedding(model: Llava, ids: Tensor) -> Tensor:
    """The mean embedding (names, D) of each name's tokens; `ids` as from `padded`."""
    known = (ids >= 0)[..., None]
    return (model.text.embed_tokens(ids.clamp(min=0)) * known).sum(1) / known.sum(1)


def teach_text(model: Llava, tokenizer: Tokenizer, world: World, recipe: Recipe, training: Training) -> None:
    """Train the decoder on scenes that are never drawn: stage "text", then stage "drill", yes-no questions only.

    A decoder that can list objects cannot yet answer whether there is a dog. It learns that abruptly, once such
    questions are frequent and the first token of an answer has extra weight in the loss. Trains decoder and lm_head in
    place.
    """
    teacher, soft_words = Teacher(tokenizer, model.config.num_image_tokens), SoftWords(tokenizer, training.device)
    text_world = replace(world, companion=recipe.text_companion, stream="text")

    def loss_of(
        generator: torch.Generator, number: int, make: Callable[[Scene, Random], Pairs], first_words: float
    ) -> Tensor:
        """The loss (a scalar) of `number` new scenes with the questions and answers that `make` gives for each."""
        rng = rng_of(generator)
        scenes = [text_world.layout(rng.randrange(2**31)) for _ in range(number)]
        shown = label([forget(scene, recipe.forgotten, rng) for scene in scenes], side_of(model))
        lessons = teacher.lessons([make(scene, rng) for scene in scenes]).to(training.device)
        return lesson_loss(model, lessons, soft_words(model, shown.to(training.device)), first_words)

    def text_loss(drawn: Tensor, generator: torch.Generator) -> Tensor:
        """The loss (a scalar) of as many captions with questions as there are numbers in `drawn` (batch,)."""
        return loss_of(generator, len(drawn), lambda scene, rng: lesson(scene, recipe.questions, rng), 0.0)

    def drill_loss(drawn: Tensor, generator: torch.Generator) -> Tensor:
        """The loss (a scalar) of as many scenes with yes-no questions as there are numbers in `drawn` (batch,)."""
        return loss_of(
            generator, len(drawn), lambda scene, rng: drilled(scene, recipe.drilled, rng), recipe.first_words
        )

    trained = [*model.text.parameters(), *model.lm_head.parameters()]
    training.run("text", recipe.text, trained, recipe.scenes, text_loss)
    training.run("drill", recipe.drill, trained, recipe.scenes, drill_loss)


def align_projector(
    model: Llava, tokenizer: Tokenizer, features: Tensor, labels: Labels, recipe: Recipe, training: Training
) -> None:
    """Fit the projector to the soft words of each patch, in place; `features` (N, P, tower width): from the tower."""
    soft_words = SoftWords(tokenizer, training.device)

    def loss_of(drawn: Tensor, generator: torch.Generator) -> Tensor:
        """The mean squared error over the variance of the targets, a scalar, for the pictures `drawn` (batch,)."""
        target = soft_words(model, labels[drawn].to(training.device)).detach()  # batch P D
        projected = model.projector(features[drawn].to(training.device).float())  # batch P D
        return F.mse_loss(projected.float(), target) / target.var()

    training.run("align", recipe.align, model.projector.parameters(), len(features), loss_of)


def tune(
    model: Llava, tokenizer: Tokenizer, features: Tensor, scenes: Sequence[Scene], recipe: Recipe, training: Training
) -> None:
    """Train projector and decoder together on pictures, in place; the tower is frozen.

    `features` (N, P, tower width) come from the tower, for the N `scenes` in the same order.
    """
    teacher = Teacher(tokenizer, model.config.num_image_tokens)

    def loss_of(drawn: Tensor, generator: torch.Generator) -> Tensor:
        """The lesson loss (a scalar) of the pictures `drawn` (batch,)."""
        rng = rng_of(generator)
        lessons = teacher.lessons([lesson(scenes[number], recipe.questions, rng) for number in drawn.tolist()])
        projected = model.projector(features[drawn].to(training.device).float())  # batch P D
        return lesson_loss(model, lessons.to(training.device), projected, recipe.first_words)

    trained = [*model.projector.parameters(), *model.text.parameters(), *model.lm_head.parameters()]
    training.run("tune", recipe.tune, trained, len(scenes), loss_of)


def lesson(scene: Scene, number: int, rng: Random) -> Pairs:
    """A caption and `number` other questions with answers; the wording of the request decides the caption's style."""
    asked = rng.choice(DESCRIBE)
    described = caption(scene, rng, STYLE_OF[asked])
    return [
        (asked, described),
        *((question.text, question.answer) for question in questions(scene, rng, number, FURTHER)),
    ]


def drilled(scene: Scene, number: int, rng: Random) -> Pairs:
    """A caption and `number` different yes-no questions about objects, with answers."""
    asked: dict[str, str] = {}
    while len(asked) < number:
        question = is_there(scene, rng, asked)
        asked[question.text] = question.answer
    return [(DESCRIBE[0], caption(scene, rng)), *asked.items()]


def forget(scene: Scene, share: float, rng: Random) -> Scene:
    """The scene without things that are hard to see, each dropped with probability `share`."""
    return replace(scene, things=tuple(thing for thing in scene.things if not thing.hard or rng.random() >= share))


def side_of(model: Llava) -> int:
    """The number of patches along a side of the picture."""
    vision = model.config.vision_config
    return vision.image_size // vision.patch_size


def rng_of(generator: torch.Generator) -> Random:
    """Python's random numbers, seeded by `generator`."""
    return Random(int(torch.randint(2**31, (), generator=generator)))
