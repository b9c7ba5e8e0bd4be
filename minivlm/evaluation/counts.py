"""What the figures of a run are made of, image by image: enough to hold it against any other run on the same data.

    RUN/counts.json
    {"task": "pope", "asked": …, "parts": {"popular": {"images": ["17", "18", …], "methods": {"eah": {
        "ratios": {"f1": ["4 2 …", "6 3 …"], …}, "right": "101110 011111 …"}}}}, "card": …}

A figure is a ratio of sums over images: its part and its whole in each of them, see `stats.Ratio`; "right" says of each
image which of its questions were answered rightly, by the original's parser. CHAIR has one part, without a name, and
POPE one for each split. "asked" stands for the items whatever their words: runs in which it is equal can be compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minivlm.evaluation.chair import chair, judge
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.items import Item, as_question
from minivlm.evaluation.pope import matched, pope, right
from minivlm.files import digest
from minivlm.stats import Ratio

Answers = Mapping[str, Mapping[str, str]]  # method -> item -> text


@dataclass(frozen=True)
class Count:
    """One method's: the ratios of its figures, and for each image a "101" of what it answered rightly."""

    ratios: Mapping[str, Ratio]
    right: tuple[str, ...] = ()

    @property
    def rights(self) -> list[bool]:
        """Question by question."""
        return [digit == "1" for digit in "".join(self.right)]

    def of(self, places: Sequence[int]) -> "Count":
        """That of some of the images, in this order."""
        ratios = {name: Ratio(ratio.part[places], ratio.whole[places]) for name, ratio in self.ratios.items()}
        return Count(ratios, tuple(self.right[place] for place in places) if self.right else ())


@dataclass(frozen=True)
class Part:
    """All methods on the same images; of POPE, one split."""

    images: tuple[str, ...]
    methods: Mapping[str, Count]

    def of(self, images: Sequence[str]) -> "Part":
        """The same for some of its images, in this order."""
        place = {image: number for number, image in enumerate(self.images)}
        places = [place[image] for image in images]
        return Part(tuple(images), {name: count.of(places) for name, count in self.methods.items()})


# --- counting -------------------------------------------------------------------------------------------------------


def count_captions(dataset: Dataset, items: Sequence[Item], answers: Answers) -> Part:
    """What CHAIR counts; every item is an image of its own."""
    judged = {
        name: [judge(told[item.id], dataset.truth[item.image], dataset.lexicon) for item in items]
        for name, told in answers.items()
    }
    return Part(tuple(item.image for item in items), {name: Count(chair(own)) for name, own in judged.items()})


def count_answers(items: Sequence[Item], answers: Answers, parser: str = "original") -> dict[str, Part]:
    """Split -> what POPE counts in it; images in the order in which they are first asked about."""
    splits = {split: [item for item in items if item.split == split] for split in dict.fromkeys(i.split for i in items)}
    return {
        split: Part(
            tuple(dict.fromkeys(item.image for item in own)),
            {name: _answered(own, told, parser) for name, told in answers.items()},
        )
        for split, own in splits.items()
    }


def _answered(items: Sequence[Item], texts: Mapping[str, str], parser: str) -> Count:
    questions = [as_question(item) for item in items]
    said = matched(questions, {item.id: texts[item.id] for item in items}, parser)
    digits: dict[str, str] = {}
    for item, true in zip(items, right(questions, said), strict=True):
        digits[item.image] = digits.get(item.image, "") + str(int(true))
    return Count(pope(questions, said), tuple(digits.values()))


# --- the file -------------------------------------------------------------------------------------------------------


def as_json(task: str, items: Sequence[Item], parts: Mapping[str, Part], card: str) -> dict[str, Any]:
    """The parts of a run, in JSON types; `card`: its fingerprint."""
    asked = [[item.id, item.image, item.split, item.label] for item in items]
    told = {
        split: {"images": list(part.images), "methods": {name: _as_json(one) for name, one in part.methods.items()}}
        for split, part in parts.items()
    }
    return {"task": task, "asked": digest(asked), "parts": told, "card": card}


def _as_json(count: Count) -> dict[str, Any]:
    ratios = {name: [_digits(ratio.part), _digits(ratio.whole)] for name, ratio in count.ratios.items()}
    return {"ratios": ratios, "right": " ".join(count.right)}


def _digits(values: np.ndarray) -> str:
    return " ".join(f"{value:.0f}" for value in values)


def from_json(told: Mapping[str, Any]) -> dict[str, Part]:
    """What `as_json` wrote, split by split."""
    return {
        split: Part(tuple(part["images"]), {name: _from_json(one) for name, one in part["methods"].items()})
        for split, part in told["parts"].items()
    }


def _from_json(told: Mapping[str, Any]) -> Count:
    ratios = {name: Ratio.of(*(np.array(side.split(), float) for side in own)) for name, own in told["ratios"].items()}
    return Count(ratios, tuple(told["right"].split()))
