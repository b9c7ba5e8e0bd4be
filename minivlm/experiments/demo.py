"""`minivlm demo`: new scenes, the model's captions of them with and without each method, and what in them is true."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from minivlm.errors import ConfigError
from minivlm.evaluation.chair import Judged, judge
from minivlm.evaluation.pope import said_by_first_word
from minivlm.evaluation.scenes import picture_of
from minivlm.evaluation.settings import PLAIN
from minivlm.experiments.trials import MOST, WORDS
from minivlm.files import replace_file
from minivlm.inference.answer import Answer
from minivlm.inference.vlm import VLM
from minivlm.model import CLVA, EAH, LlavaConfig
from minivlm.toyworld.questions import DESCRIBE, Question, about
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import OBJECT_NAMES, missing_companions
from minivlm.toyworld.world import WORLDS

SIDE = 384  # pixels at least, so that a person can recognize the objects
MARGIN = 12  # pixels between two pictures in a row
ROW = "demo.png"  # all pictures of the last demo


@dataclass(frozen=True)
class Account:
    """One caption, compared with the objects of its scene."""

    scene: Scene
    caption: str  # an `Answer`, which holds the effect of a mitigation

    @cached_property
    def judged(self) -> Judged:
        """The caption's mentions, compared with the objects of the scene."""
        return judge(self.caption, self.scene.names, WORDS)

    @property
    def true(self) -> list[str]:
        """Objects that the caption names and the scene has, each once."""
        return [*dict.fromkeys(one.object for one in self.judged.mentions if one.object in self.judged.truth)]

    @property
    def invented(self) -> list[str]:
        """Objects that the caption names and the scene does not have, each once."""
        return [*dict.fromkeys(self.judged.hallucinated)]

    @property
    def missed(self) -> list[str]:
        """Objects that the scene has and the caption does not name."""
        return [name for name in self.scene.names if name in self.judged.missed]

    @property
    def effect(self) -> Any:
        """The `Effect` of the method under which the caption was written, None for the plain model."""
        return getattr(self.caption, "effect", None)

    def as_dict(self) -> dict:
        """The same in JSON types."""
        effect = None if self.effect is None else self.effect.as_dict()
        named = {"true": self.true, "invented": self.invented, "missed": self.missed}
        return {"caption": str(self.caption), **named, "effect": effect}


@dataclass(frozen=True)
class Shown:
    """A scene, the file with its picture, and the captions and answers about it."""

    scene: Scene
    path: Path
    captions: Mapping[str, str]  # method -> caption
    questions: tuple[Question, ...] = ()
    answers: tuple[str, ...] = ()  # the plain model's
    answered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # method -> its answers

    @property
    def accounts(self) -> dict[str, Account]:
        """Method -> its caption, compared with the scene."""
        return {method: Account(self.scene, caption) for method, caption in self.captions.items()}

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended one of the answers early."""
        return any(is_cut(text) for text in (*self.captions.values(), *self.answers, *chain(*self.answered.values())))

    def as_dict(self) -> dict:
        """The same in JSON types."""
        pairs = zip(self.questions, self.answers, strict=True)
        asked: list[dict] = [
            {"question": question.text, "answer": str(answer), "right": is_right(question, answer)}
            for question, answer in pairs
        ]
        for number, one in enumerate(asked):
            one["methods"] = {method: str(texts[number]) for method, texts in self.answered.items()}
        captions = {method: account.as_dict() for method, account in self.accounts.items()}
        about = {"seed": self.scene.seed, "picture": str(self.path), "objects": list(self.scene.names)}
        return {**about, "captions": captions, "asked": asked}


def methods(config: LlavaConfig) -> dict[str, EAH | CLVA]:
    """The methods to show beside the plain model, with their defaults for it; warns of one that does not fit it."""
    fitting: dict[str, EAH | CLVA] = {}
    for kind in (EAH, CLVA):
        try:
            fitting[kind.__name__] = kind.for_model(config)
        except ConfigError as error:
            warnings.warn(f"{error} The demo goes on without {kind.__name__}.", stacklevel=2)
    return fitting


def show(vlm: VLM, world: str, seeds: Sequence[int], folder: Path, methods: Mapping[str, EAH | CLVA]) -> list[Shown]:
    """Draw a scene of `world` (one of WORLDS) for each seed, save the pictures, and let the model answer about all of
    them.

    The files in `folder` are scene-1.png, scene-2.png, … and ROW; those of the last demo are overwritten.
    """
    scenes = [WORLDS[world].draw(seed) for seed in seeds]
    paths = [save(scene, folder / f"scene-{number}.png") for number, scene in enumerate(scenes, 1)]
    save_row(scenes, folder / ROW)
    asked = [yes_no(scene) for scene in scenes]
    said = ask(vlm, [picture_of(scene) for scene in scenes], asked, methods)
    shown = []
    for number, (scene, path) in enumerate(zip(scenes, paths, strict=True)):
        captions = {method: texts[number][0] for method, texts in said.items()}
        answers = {method: texts[number][1:] for method, texts in said.items()}
        shown.append(Shown(scene, path, captions, asked[number], answers.pop(PLAIN), answers))
    return shown


def ask(
    vlm: VLM, pictures: Sequence[Image.Image], asked: Sequence[tuple[Question, ...]], methods: Mapping[str, EAH | CLVA]
) -> dict[str, list[tuple[Answer, ...]]]:
    """Method -> for each picture its caption, then the answers to the questions about it; plain comes first.

    One batch for each method. After Ctrl-C the remaining methods are left out.
    """
    texts = [(DESCRIBE[0], *(question.text for question in pair)) for pair in asked]
    shown = [picture for picture, about in zip(pictures, texts, strict=True) for _ in about]
    every, said = [text for about in texts for text in about], {}
    for method, mitigation in {PLAIN: None, **methods}.items():
        latest = vlm.ask_many(shown, every, mitigation=mitigation, max_new_tokens=MOST)
        one = iter(latest)
        said[method] = [tuple(next(one) for _ in about) for about in texts]
        if any(map(is_cut, latest)):
            break
    return said


def totals(shown: Sequence[Shown]) -> dict[str, dict[str, int]]:
    """Method -> over all scenes, how often objects were named and invented, and how many objects were missed."""
    counts = {}
    for method in shown[0].captions:
        judged = [one.accounts[method].judged for one in shown]
        counts[method] = {
            "named": sum(len(one.mentions) for one in judged),
            "invented": sum(len(one.hallucinated) for one in judged),
            "missed": sum(len(one.missed) for one in judged),
        }
    return counts


def save(scene: Scene, path: Path) -> Path:
    """Write the scene's picture as PNG without loss, so that questions about the file get the same answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, partial(picture_of(scene).save, format="PNG"))
    return path


def save_row(scenes: Sequence[Scene], path: Path) -> Path:
    """Write the scenes' pictures beside each other as one PNG, enlarged."""
    pictures = [enlarged(scene) for scene in scenes]
    row = Image.new("RGB", (sum(picture.width + MARGIN for picture in pictures) - MARGIN, pictures[0].height), "white")
    for number, picture in enumerate(pictures):
        row.paste(picture, (number * (picture.width + MARGIN), 0))
    replace_file(path, partial(row.save, format="PNG"))
    return path


def enlarged(scene: Scene) -> Image.Image:
    """The scene's picture, enlarged by a whole factor to at least `SIDE` pixels."""
    times = -(-SIDE // scene.size)
    return picture_of(scene).resize((times * scene.size,) * 2, Image.Resampling.NEAREST)


def yes_no(scene: Scene) -> tuple[Question, Question]:
    """One question about a present object, and one about an absent one: a missing companion, if there is one."""
    rng = Random(f"demo/{scene.seed}")
    absent = [name for name in OBJECT_NAMES if name not in scene.names]
    tempting = missing_companions(set(scene.names)) or absent
    return about(rng.choice(scene.names), present=True), about(rng.choice(tempting), present=False)


def is_right(question: Question, answer: str) -> bool:
    """Whether an answer begins with the right one of yes and no."""
    return said_by_first_word(answer) == said_by_first_word(question.answer)


def is_cut(text: str) -> bool:
    """Whether Ctrl-C ended this answer early."""
    return getattr(text, "finish", "stop") == "interrupted"
