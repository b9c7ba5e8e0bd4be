"""The counts that a run's figures are made of, image by image: enough to compare it with any run on the same data.

    RUN/counts.json
    {"task": "pope", "asked": …, "parts": {"popular": {"images": ["17", "18", …], "methods": {"eah": {
        "ratios": {"f1": ["4 2 …", "6 3 …"], …}, "right": "101110 011111 …"}}}}, "card": …}

A figure is a ratio of sums over images: the file holds numerator and denominator of each image, see `stats.Ratio`.
"right" has a string of 1 (right) and 0 (wrong) for each image, a digit for each of its questions, by the original's
parser. CHAIR has one part, with an empty name, and POPE one for each split. "asked" is a fingerprint of the items
without their wording: runs in which it is equal can be compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from minivlm.evaluation.chair import chair, judge
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item, as_question
from minivlm.evaluation.pope import matched, pope, right
from minivlm.files import digest
from minivlm.stats import Ratio

Answers = Mapping[str, Mapping[str, str]]  # method -> item's id -> text
FIGURES = {  # task -> its figures
    "chair": {"chair_s", "chair_i", "recall", "precision", "f1", "words"},
    "pope": {"accuracy", "precision", "recall", "f1", "yes_ratio"},
}
DIGITS = 16  # fewer than that, and a whole number is exact as a float
T = TypeVar("T")
Name = TypeVar("Name")  # how methods are named: a str, or (run, method) where runs are compared


@dataclass(frozen=True)
class Count:
    """The counts of one method: a ratio for each figure, and per image a string of 1 (right) / 0 (wrong) for POPE."""

    ratios: Mapping[str, Ratio]
    right: tuple[str, ...] = ()

    @property
    def rights(self) -> list[bool]:
        """Whether each question was answered rightly, in the order of the questions; empty for CHAIR."""
        return [digit == "1" for digit in "".join(self.right)]

    def of(self, places: Sequence[int]) -> "Count":
        """The same counts for some of the images; `places` are their positions, in the order that is wanted."""
        ratios = {name: Ratio(ratio.part[places], ratio.whole[places]) for name, ratio in self.ratios.items()}
        return Count(ratios, tuple(self.right[place] for place in places) if self.right else ())


@dataclass(frozen=True)
class Part(Generic[Name]):
    """The counts of all methods on the same images: of CHAIR the whole run, of POPE one split."""

    images: tuple[str, ...]  # ids, in the order of the counts
    methods: Mapping[Name, Count]

    def of(self, images: Sequence[str]) -> "Part[Name]":
        """The same for some of its images, in the order of `images`."""
        place = {image: number for number, image in enumerate(self.images)}
        places = [place[image] for image in images]
        return Part(tuple(images), {name: count.of(places) for name, count in self.methods.items()})


# --- counting -------------------------------------------------------------------------------------------------------


def count_captions(dataset: Dataset, items: Sequence[Item], answers: Answers) -> Part[str]:
    """What CHAIR counts in the captions of each method; there is one item for each image."""
    judged = {
        name: [judge(texts[item.id], dataset.truth[item.image], dataset.lexicon) for item in items]
        for name, texts in answers.items()
    }
    return Part(tuple(item.image for item in items), {name: Count(chair(ones)) for name, ones in judged.items()})


def count_answers(items: Sequence[Item], answers: Answers, parser: str = "original") -> dict[str, Part[str]]:
    """Split -> what POPE counts in it; images are in the order in which they are first asked about."""
    splits = {split: [item for item in items if item.split == split] for split in dict.fromkeys(i.split for i in items)}
    return {
        split: Part(
            tuple(dict.fromkeys(item.image for item in asked)),
            {name: count_yes_no(asked, texts, parser) for name, texts in answers.items()},
        )
        for split, asked in splits.items()
    }


def count_yes_no(items: Sequence[Item], texts: Mapping[str, str], parser: str) -> Count:
    """What POPE counts in one method's answers to the questions of one split; `texts`: item's id -> answer."""
    questions = [as_question(item) for item in items]
    said = matched(questions, {item.id: texts[item.id] for item in items}, parser)
    digits: dict[str, str] = {}
    for item, true in zip(items, right(questions, said), strict=True):
        digits[item.image] = digits.get(item.image, "") + str(int(true))
    return Count(pope(questions, said), tuple(digits.values()))


# --- the file -------------------------------------------------------------------------------------------------------


def as_json(task: str, items: Sequence[Item], parts: Mapping[str, Part[str]], card: str) -> dict[str, Any]:
    """The content of counts.json: the parts of a run, in JSON types; `card` is the fingerprint of its card."""
    asked = [[item.id, item.image, item.split, item.label] for item in items]
    written = {
        split: {"images": list(part.images), "methods": {name: count_json(one) for name, one in part.methods.items()}}
        for split, part in parts.items()
    }
    return {"task": task, "asked": digest(asked), "parts": written, "card": card}


def count_json(count: Count) -> dict[str, Any]:
    """The counts of one method as they stand in counts.json."""
    ratios = {name: [joined(ratio.part), joined(ratio.whole)] for name, ratio in count.ratios.items()}
    return {"ratios": ratios, "right": " ".join(count.right)}


def joined(values: np.ndarray) -> str:
    """Whole numbers (N,) as one string, with blanks between them."""
    return " ".join(f"{value:.0f}" for value in values)


def from_json(content: Mapping[str, Any], task: str) -> dict[str, Part[str]]:
    """Split -> its part, from the content of a counts.json that `as_json` made. Raises ValueError for any other."""
    parts: dict[str, Part[str]] = {}
    for split, part in entry(content, "parts", dict).items():
        images, methods = entry(part, "images", list), entry(part, "methods", dict)
        if any(type(image) is not str for image in images) or len(set(images)) < len(images):
            raise ValueError(f"the images of part {split!r} are no ids, each once")
        counts = {name: count_from(one, len(images)) for name, one in methods.items()}
        if not counts or any(set(count.ratios) != FIGURES.get(task) for count in counts.values()):
            raise ValueError(f"part {split!r} has no methods, or not the figures of {task}")
        require_alike(counts.values(), f"the methods of part {split!r}")
        parts[split] = Part(tuple(images), counts)
    if task == "chair" and set(parts) - {""}:
        raise ValueError("captions have splits")
    return parts


def count_from(content: Any, images: int) -> Count:
    """The counts of one method from what `count_json` made of them. Raises ValueError for anything else."""
    ratios = {}
    for name, sides in entry(content, "ratios", dict).items():
        if not isinstance(sides, list) or len(sides) != 2:
            raise ValueError(f"{name!r} has no numerators and denominators")
        ratios[name] = Ratio.of(*(numbers(side, images, name) for side in sides))
        if name != "words" and (ratios[name].part > ratios[name].whole).any():
            raise ValueError(f"{name!r} has a part that is more than the whole")
    right = tuple(entry(content, "right", str).split())
    if right and (len(right) != images or not set("".join(right)) <= set("01")):
        raise ValueError("'right' has not a string of 0 and 1 for each image")
    return Count(ratios, right)


def numbers(text: Any, images: int, name: str) -> np.ndarray:
    """The whole numbers, one for each image, that `joined` made a string of. Raises ValueError for anything else."""
    values = text.split() if isinstance(text, str) else []
    if len(values) != images or not all(value.isdecimal() and len(value) < DIGITS for value in values):
        raise ValueError(f"{name!r} has not a whole number for each of {images} images")
    return np.array(values, float)


def entry(content: Any, name: str, kind: type[T]) -> T:
    """`content[name]`, which must be of this kind. Raises ValueError if it is not, or not there."""
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"{name!r} is missing, or no {kind.__name__}")
    return value


def require_alike(counts: Iterable[Count], what: str) -> None:
    """Raise ValueError unless all have the same figures, and as many questions about each image. `what`: all of them,
    in words.
    """
    if len({(frozenset(count.ratios), tuple(map(len, count.right))) for count in counts}) > 1:
        raise ValueError(f"{what} have not the same figures and questions")
