"""`minivlm demo`: new scenes, what the model says about them plainly and under each method, and what of it is true."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from minivlm.errors import ConfigError
from minivlm.evaluation.chair import Judged, judge
from minivlm.evaluation.pope import said_by_first_word
from minivlm.experiments.trials import MOST, WORDS
from minivlm.inference.vlm import VLM
from minivlm.model import CLVA, EAH, LlavaConfig
from minivlm.toyworld.questions import DESCRIBE, Question, about
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import OBJECT_NAMES, missing_companions
from minivlm.toyworld.world import WORLDS

SIDE = 384  # pixels at least, so that eyes can see what is there
MARGIN = 12  # pixels between two pictures in a row
ROW = "demo.png"  # all pictures of the last demo
PLAIN = "plain"


@dataclass(frozen=True)
class Account:
    """What one caption says of a scene."""

    scene: Scene
    caption: str  # an `Answer`: it knows what a mitigation did

    @cached_property
    def judged(self) -> Judged:
        """Held against what is in the scene."""
        return judge(self.caption, self.scene.names, WORDS)

    @property
    def true(self) -> list[str]:
        """Objects that were named and are there, each once."""
        return [*dict.fromkeys(one.object for one in self.judged.mentions if one.object in self.judged.truth)]

    @property
    def invented(self) -> list[str]:
        """Objects that were named and are not there, each once."""
        return [*dict.fromkeys(self.judged.hallucinated)]

    @property
    def missed(self) -> list[str]:
        """Objects that are there and were not named."""
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
    """A scene, the file with its picture, and what was said about it."""

    scene: Scene
    path: Path
    captions: Mapping[str, str]  # method -> caption
    questions: tuple[Question, ...] = ()
    answers: tuple[str, ...] = ()  # the plain model's

    @property
    def accounts(self) -> dict[str, Account]:
        """What the caption of each method says."""
        return {method: Account(self.scene, caption) for method, caption in self.captions.items()}

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended one of the answers early."""
        return any(is_cut(text) for text in (*self.captions.values(), *self.answers))

    def as_dict(self) -> dict:
        """The same in JSON types."""
        rows = zip(self.questions, self.answers, strict=True)
        asked = [{"question": q.text, "answer": str(answer), "right": is_right(q, answer)} for q, answer in rows]
        captions = {method: account.as_dict() for method, account in self.accounts.items()}
        about = {"seed": self.scene.seed, "picture": str(self.path), "objects": list(self.scene.names)}
        return {**about, "captions": captions, "asked": asked}


def methods(config: LlavaConfig) -> dict[str, EAH | CLVA]:
    """The methods that are shown beside the plain model, with their defaults for this one; all that fit it."""
    fitting = {}
    for kind in (EAH, CLVA):
        try:
            fitting[kind.__name__] = kind.for_model(config)
        except ConfigError as error:
            warnings.warn(f"{error} The demo goes on without {kind.__name__}.", stacklevel=2)
    return fitting


def show(vlm: VLM, world: str, seeds: Sequence[int], folder: Path, methods: Mapping[str, EAH | CLVA]) -> list[Shown]:
    """Draw a scene for each seed, and let the model tell about all of them.

    The pictures in `folder` are called scene-1.png, scene-2.png, … and ROW; those of the last demo are overwritten.
    """
    scenes = [WORLDS[world].draw(seed) for seed in seeds]
    paths = [save(scene, folder / f"scene-{number}.png") for number, scene in enumerate(scenes, 1)]
    save_row(scenes, folder / ROW)
    asked = [yes_no(scene) for scene in scenes]
    captions, answers = tell(vlm, [scene.picture for scene in scenes], asked, methods)
    return [
        Shown(scene, path, {method: said[row] for method, said in captions.items()}, asked[row], answers[row])
        for row, (scene, path) in enumerate(zip(scenes, paths, strict=True))
    ]


def tell(
    vlm: VLM, pictures: Sequence[Image.Image], asked: Sequence[tuple[Question, ...]], methods: Mapping[str, EAH | CLVA]
) -> tuple[dict[str, list], list[tuple]]:
    """Captions of all pictures, plain and under each method, and the plain model's answers to what is asked of each.

    One batch a method. After Ctrl-C the methods that were still to come are left out.
    """
    texts = [(DESCRIBE[0], *(question.text for question in pair)) for pair in asked]
    rows = [(picture, text) for picture, wanted in zip(pictures, texts, strict=True) for text in wanted]
    plain = iter(vlm.ask_many(*zip(*rows, strict=True), max_new_tokens=MOST))
    told = [tuple(next(plain) for _ in wanted) for wanted in texts]
    captions, answers = {PLAIN: [caption for caption, *_ in told]}, [tuple(rest) for _, *rest in told]
    latest = [answer for row in told for answer in row]
    for method, mitigation in methods.items():
        if any(map(is_cut, latest)):
            break
        describe = [DESCRIBE[0]] * len(pictures)
        latest = vlm.ask_many(pictures, describe, mitigation=mitigation, max_new_tokens=MOST)
        captions[method] = latest
    return captions, answers


def totals(shown: Sequence[Shown]) -> dict[str, dict[str, int]]:
    """How often objects were named and invented, and how many were missed, under each method over all scenes."""
    counts = {}
    for method in shown[0].captions:
        found = [one.accounts[method].judged for one in shown]
        parts = {"named": "mentions", "invented": "hallucinated", "missed": "missed"}
        counts[method] = {name: sum(len(getattr(one, part)) for one in found) for name, part in parts.items()}
    return counts


def save(scene: Scene, path: Path) -> Path:
    """Write the scene's picture as PNG, pixel for pixel: whoever asks about the file gets the same answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scene.picture.save(path)
    return path


def save_row(scenes: Sequence[Scene], path: Path) -> Path:
    """Write the scenes' pictures beside each other as one PNG, enlarged."""
    pictures = [enlarged(scene) for scene in scenes]
    row = Image.new("RGB", (sum(picture.width + MARGIN for picture in pictures) - MARGIN, pictures[0].height), "white")
    for number, picture in enumerate(pictures):
        row.paste(picture, (number * (picture.width + MARGIN), 0))
    row.save(path)
    return path


def enlarged(scene: Scene) -> Image.Image:
    """The scene's picture, each pixel a square."""
    times = -(-SIDE // scene.size)
    return scene.picture.resize((times * scene.size,) * 2, Image.Resampling.NEAREST)


def yes_no(scene: Scene) -> tuple[Question, Question]:
    """One question about what is there, and one about what is not: the missing companion, if there is one."""
    rng = Random(f"demo/{scene.seed}")
    absent = [name for name in OBJECT_NAMES if name not in scene.names]
    tempting = missing_companions(set(scene.names)) or absent
    return about(rng.choice(scene.names), present=True), about(rng.choice(tempting), present=False)


def is_right(question: Question, answer: str) -> bool:
    """Whether an answer begins with the yes or no that is true."""
    return said_by_first_word(answer) == said_by_first_word(question.answer)


def is_cut(text: str) -> bool:
    """Whether Ctrl-C ended this answer early."""
    return getattr(text, "finish", "stop") == "interrupted"
