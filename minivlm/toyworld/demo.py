"""`minivlm demo`: new scenes, what the model says about them, and what of it is true."""

import os
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TextIO

from PIL import Image

from minivlm.toyworld.questions import DESCRIBE, Question, about
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import COMPANION_OF, OBJECT_NAMES, missing_companions
from minivlm.toyworld.words import FORM, FORMS, a, mentions
from minivlm.toyworld.world import CROWDED, HELD_OUT, RARE_COMPANIONS, SUBSTITUTIONS
from minivlm.vlm import VLM

WORLDS = {
    "held-out": HELD_OUT,
    "rare-companions": RARE_COMPANIONS,
    "substitutions": SUBSTITUTIONS,
    "crowded": CROWDED,
}
SIDE = 384  # pixels at least, so that eyes can see what is there
MARGIN = 12  # pixels between two pictures in a row
ROW = "demo.png"  # all pictures of the last demo
LEGEND = "In a caption, [name] is in the picture and !name! is invented."


@dataclass(frozen=True)
class Shown:
    """A scene, the file with its picture, and what was said about it."""

    scene: Scene
    path: Path
    caption: str
    questions: tuple[Question, ...] = ()
    answers: tuple[str, ...] = ()

    @property
    def true(self) -> list[str]:
        """Objects that were named and are there."""
        return [name for name in mentions(self.caption) if name in self.scene.names]

    @property
    def invented(self) -> list[str]:
        """Objects that were named and are not there."""
        return [name for name in mentions(self.caption) if name not in self.scene.names]

    @property
    def missed(self) -> list[str]:
        """Objects that are there and were not named."""
        return [name for name in self.scene.names if name not in mentions(self.caption)]

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended one of the answers early."""
        return any(getattr(text, "finish", "stop") == "interrupted" for text in (self.caption, *self.answers))

    def as_dict(self) -> dict:
        """The same in JSON types."""
        rows = zip(self.questions, self.answers, strict=True)
        asked = [{"question": q.text, "answer": str(answer), "right": is_right(q, answer)} for q, answer in rows]
        said = {"caption": str(self.caption), "true": self.true, "invented": self.invented, "missed": self.missed}
        return {"seed": self.scene.seed, "picture": str(self.path), **said, "asked": asked}


def show(vlm: VLM, world: str, seeds: Sequence[int], folder: Path) -> list[Shown]:
    """Draw a scene for each seed, and ask the model about all of them in one batch.

    The pictures in `folder` are called scene-1.png, scene-2.png, … and ROW; those of the last demo are overwritten.
    """
    scenes = [WORLDS[world].draw(seed) for seed in seeds]
    paths = [save(scene, folder / f"scene-{number}.png") for number, scene in enumerate(scenes, 1)]
    save_row(scenes, folder / ROW)
    asked = [yes_no(scene) for scene in scenes]
    rows = [
        (scene.picture, text)
        for scene, pair in zip(scenes, asked, strict=True)
        for text in (DESCRIBE[0], *(question.text for question in pair))
    ]
    answers = iter(vlm.ask_many(*zip(*rows, strict=True), max_new_tokens=80))
    return [
        Shown(scene, path, next(answers), pair, tuple(next(answers) for _ in pair))
        for scene, path, pair in zip(scenes, paths, asked, strict=True)
    ]


def save(scene: Scene, path: Path) -> Path:
    """Write the scene's picture as PNG, enlarged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    enlarged(scene).save(path)
    return path


def save_row(scenes: Sequence[Scene], path: Path) -> Path:
    """Write the scenes' pictures beside each other as one PNG."""
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
    words = re.findall(r"\w+", answer.lower())
    return words[:1] == [question.answer.partition(",")[0].lower()]


# --- as text -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ink:
    """Colours on a terminal; on paper (`color` False) the text stays as it is, and its marks say the same."""

    color: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> "Ink":
        """Colours if the stream is a terminal that shows them and nobody minds (see no-color.org)."""
        return cls(stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")

    def good(self, text: str) -> str:
        return f"\033[32m{text}\033[0m" if self.color else text

    def bad(self, text: str) -> str:
        return f"\033[1;31m{text}\033[0m" if self.color else text


def describe(shown: Shown, number: int, ink: Ink) -> str:
    """A scene as a paragraph: the file, the caption with its marks, what is true, invented and missed, the answers."""
    lines = [f"{number}. {shown.path}", f"   caption   {mark(shown.caption, shown.scene.names, ink)}"]
    lines += [f"   true      {', '.join(shown.true) or 'nothing'}"]
    lines += [f"   {ink.bad('invented')}  {name}{reason(name, shown.scene)}" for name in shown.invented]
    lines += [f"   missed    {name}{difficulty(name, shown.scene)}" for name in shown.missed]
    for question, answer in zip(shown.questions, shown.answers, strict=True):
        verdict = ink.good("right:") if is_right(question, answer) else ink.bad("WRONG:")
        lines.append(f"   asked     {question.text} {verdict} {answer}")
    return "\n".join(lines)


def mark(text: str, present: Sequence[str], ink: Ink) -> str:
    """The text with every object in it marked: [name] is in the picture, !name! is not."""

    def marked(match: re.Match) -> str:
        word = match[0]
        return ink.good(f"[{word}]") if FORMS[word.lower()] in present else ink.bad(f"!{word}!")

    return FORM.sub(marked, text)


def reason(name: str, scene: Scene) -> str:
    """Why one might think that it is there: it usually stands beside something that is."""
    anchors = [anchor for anchor in scene.names if COMPANION_OF.get(anchor) == name]
    return f" (there is {a(anchors[0])}, and {a(name)} usually goes with it)" if anchors else ""


def difficulty(name: str, scene: Scene) -> str:
    """Why it is hard to see, if it is."""
    kinds = [thing.hard for thing in scene.of(name)]
    return f" ({kinds[0]}, hard to see)" if all(kinds) else ""


def summary(shown: Sequence[Shown], since: float) -> str:
    """What all scenes have in common with what was said; `since` is when the demo began, by `time.perf_counter`."""
    named = sum(len(one.true) + len(one.invented) for one in shown)
    invented, missed = (sum(len(getattr(one, what)) for one in shown) for what in ("invented", "missed"))
    right = sum(is_right(*row) for one in shown for row in zip(one.questions, one.answers, strict=True))
    asked = sum(len(one.questions) for one in shown)
    return (
        f"{named} objects named, {invented} of them invented; {missed} missed; {right} of {asked} answers right. "
        f"{time.perf_counter() - since:.1f} s."
    )


def try_next(shown: Sequence[Shown], seed: int, scenes: str = "", model: str = "", out: str = "") -> str:
    """What to type next. `scenes`, `model` and `out`: options that were given, as typed, a space before each."""
    name, picture = shown[0].scene.names[0], shlex.quote(str(shown[0].path))
    lines = {
        f"minivlm demo{model}{out}": "new scenes",
        f"minivlm demo --seed {seed}{scenes}{model}{out}": "these scenes once more",
        f"minivlm demo --world substitutions{model}{out}": "something else lies where its companion is expected",
        f'minivlm ask {picture} "Is there {a(name)} in the image?"{model}': "a question of your own",
        f"minivlm chat {picture}{model}": "several questions about one picture",
        "minivlm doctor": "which larger models this machine can run",
    }
    width = max(map(len, lines))
    return "\n".join(["Try next", *(f"  {line:{width}}  {what}" for line, what in lines.items())])
