"""A run without a model: answers are dice that fall by the whole batch, so a batch that changed would be noticed.

python tests/support/fake_run.py OUT                 begin or resume, alone or under torchrun
python tests/support/fake_run.py OUT --kill SEED     the same, in a child that is killed ten times on the way
"""

import hashlib
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch

from minivlm.errors import ImageError
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item
from minivlm.evaluation.methods import methods
from minivlm.evaluation.ranks import joined
from minivlm.evaluation.records import record_files
from minivlm.evaluation.runner import run
from minivlm.evaluation.scenes import SceneWords
from minivlm.inference.answer import Answer

METHODS = methods(["plain", "eah", "clva"])
IMAGES = 600
OBJECTS = SceneWords().objects


@dataclass(frozen=True)
class FakeSource:
    """Pictures are numbers; some are missing."""

    missing: frozenset[str] = frozenset()

    def picture(self, image: str) -> int:
        if image in self.missing:
            raise ImageError(f"The picture of image {image} is missing.")
        return int(image)

    def named(self, file: str) -> None:
        return None

    def marks(self, images) -> list[str]:
        return sorted(self.missing)


class FakeVLM:
    """What cannot be decoded is found out here."""

    def __init__(self, damaged=()) -> None:
        self.damaged = damaged

    def pixels(self, picture: int) -> torch.Tensor:
        if str(picture) in self.damaged:
            raise ImageError(f"Picture {picture} is damaged.")
        return torch.full((3, 1, 1), float(picture))


class FakeAsker:
    """Answers yes or no to "Is …", else names objects; mitigations do nothing in the first row of each batch."""

    def __init__(self, pause: float = 0.0, damaged=(), interrupted_at: int | None = None, known=METHODS) -> None:
        self.vlm, self.methods, self.pause = FakeVLM(damaged), known, pause
        self.calls, self.interrupted_at = [], interrupted_at

    def encode(self, pixels: torch.Tensor) -> list[int]:
        return [int(picture[0, 0, 0]) for picture in pixels]

    def ask(self, encoded: list[int], rows, method: str) -> list[Answer]:
        time.sleep(self.pause)
        asked = [(encoded[number], question) for number, question in rows]
        self.calls.append((method, asked))
        finish = "interrupted" if len(self.calls) == self.interrupted_at else "stop"
        return [self.answer(row, question, method, asked, finish) for row, (_, question) in enumerate(asked)]

    def answer(self, row: int, question: str, method: str, asked: list, finish: str) -> Answer:
        generator = random.Random(hashlib.sha256(repr((row, method, asked)).encode()).digest())
        said = (
            ["Yes.", "No.", "Perhaps."] if question.startswith("Is") else [" and ".join(generator.sample(OBJECTS, 3))]
        )
        text = generator.choice(said)
        effect = None if method == "plain" else SimpleNamespace(nothing=row == 0)
        return Answer(text, finish=finish, tokens=tuple(range(len(text.split()))), effect=effect)


def fake_data(images: int = IMAGES, missing=()) -> Dataset:
    generator = random.Random(1)
    truth = {str(number): frozenset(generator.sample(OBJECTS, 4)) for number in range(images)}
    return Dataset("fakes", tuple(truth), truth, SceneWords(), FakeSource(frozenset(missing)))


def describing(data: Dataset) -> list[Item]:
    """One item an image; the questions have different lengths."""
    return [Item(image, image, "Describe" + "!" * (int(image) % 3)) for image in data.images]


def asking(data: Dataset, per_image: int = 4) -> list[Item]:
    """Yes-no questions of two splits."""
    return [
        Item(f"{split}/{image}/{n}", image, f"Is there a {thing}?", split, thing in data.truth[image])
        for image in data.images
        for split in ("random", "popular")
        for n, thing in enumerate([*sorted(data.truth[image])[: per_image // 2], *OBJECTS[: per_image // 2]])
    ]


def fake_card(data: Dataset, task: str = "chair", batch: int = 5, **more) -> dict:
    """A card with what the runner reads of it."""
    told = {"name": data.name, "fingerprint": data.fingerprint}
    return {
        "task": task,
        "methods": {name: method.as_dict() for name, method in METHODS.items()},
        "data": told,
        "computing": {"batch": batch},
        **more,
    }


def run_it(out: Path) -> None:
    data = fake_data()
    with joined() as ranks:
        run(FakeAsker(pause=0.001), data, describing(data), fake_card(data), out, resume=True, ranks=ranks)


def killed(out: Path, seed: int) -> None:
    """Kill a child at random moments; print how many records there were each time; then let it come to its end.

    A moment is some records further, or at once, and some milliseconds: so a slow machine has its kills on the way too.
    """
    generator = random.Random(seed)
    for further in (0, 1, 0, 20, 80, 2, 40, 0, 60, 10):
        enough = recorded(out) + further
        if not (child := os.fork()):
            run_it(out)
            os._exit(0)
        while recorded(out) < enough and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.0005)
        time.sleep(generator.uniform(0, 0.015))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child came to its end before it was killed: give it more to do"
        print(recorded(out))
    run_it(out)


def recorded(out: Path) -> int:
    """Whole records in the files."""
    return sum(path.read_bytes().count(b"\n") for path in record_files(out))


if __name__ == "__main__":
    if "--kill" in sys.argv:
        killed(Path(sys.argv[1]), int(sys.argv[3]))
    else:
        run_it(Path(sys.argv[1]))
