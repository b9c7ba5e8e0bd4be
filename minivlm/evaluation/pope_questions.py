"""POPE's questions, "Is there a dog in the image?", read from files or built (Li et al. 2023, arXiv 2305.10355).

About each image as many objects are asked that are there as are not, in turn, so that yes is right half of the time.
The splits differ in the objects that are not there:

    random         any of them by chance
    popular        those that are on the most images
    adversarial    for each object asked that is there, the one that is most often on an image together with it
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from minivlm.errors import EvaluationError
from minivlm.evaluation.lines import read_entries

SPLITS = ("random", "popular", "adversarial")
LABELS = {"yes": True, "no": False}
Rank = Callable[[str, str], int]  # an object that is there and one that is not -> how much the split wants the pair


@dataclass(frozen=True)
class PopeQuestion:
    """A question about an image; `label` is whether yes is the true answer."""

    id: str
    image: str
    text: str
    label: bool
    split: str = ""


def read_questions(path: str | Path, split: str = "") -> list[PopeQuestion]:
    """A question file of the original: JSON lines with question_id, image, text and label, which is "yes" or "no".

    The files of all splits count from 1: where a `split` is given, it goes before the id, as in "popular/1".
    """
    questions = []
    for name, line, where in lines_by_id(path):
        image, text = (text_of(line, key, where) for key in ("image", "text"))
        label = text_of(line, "label", where)
        if label not in LABELS:
            raise EvaluationError(f"{where}: the label must be 'yes' or 'no', found {label!r}.")
        questions.append(PopeQuestion(f"{split}/{name}" if split else name, image, text, LABELS[label], split))
    if not questions:
        raise EvaluationError(f"'{path}' is empty; expected are JSON lines with question_id, image, text and label.")
    return questions


def lines_by_id(path: str | Path) -> Iterator[tuple[str, dict, str]]:
    """The question_id of each line, the line, and where it stands; an id that occurs twice is refused."""
    first: dict[str, str] = {}
    for where, line in read_entries(path):
        found = line.get("question_id")
        if type(found) not in (int, str) or found == "":
            raise EvaluationError(f"{where}: a text or a whole number was expected as question_id, found {found!r}.")
        name = str(found)
        if first.setdefault(name, where) != where:
            raise EvaluationError(
                f"{where}: question_id {name} occurs twice, first in {first[name].rpartition(', ')[2]}. "
                "Give each line an id of its own."
            )
        yield name, line, where


def text_of(line: Mapping, key: str, where: str) -> str:
    """The text under a key."""
    if not isinstance(line.get(key), str):
        raise EvaluationError(f"{where}: a text was expected as {key}, found {line.get(key)!r}.")
    return line[key]


def build_questions(
    truth: Mapping[str, Collection[str]],
    split: str,
    per_side: int = 3,
    seed: int = 0,
    objects: Collection[str] | None = None,
    least: int = 1,
    images: Collection[str] | None = None,
) -> list[PopeQuestion]:
    """Up to `per_side` questions with yes about each of the `images` and as many with no: yes, no, yes, no, …

    Without `images`, about all of `truth`; without `objects`, all that occur in it may be asked about. Frequencies are
    counted in all of `truth`, whatever the images. Images that do not give `least` questions of each kind are left out:
    the original asks only about images with 3 objects (`least=3`); by default every image with an object has a say.

    What is asked about an image depends on the seed and its id, not on its place, and on the other images only through
    those frequencies and names. The same objects that are there are asked about in every split.
    """
    if split not in SPLITS:
        raise EvaluationError(f"POPE's splits are {', '.join(SPLITS)}, found {split!r}.")
    if not 1 <= least <= per_side:
        raise EvaluationError(
            f"About each image at least 1 and at most per_side questions of a kind are asked, found least {least} and "
            f"per_side {per_side}."
        )
    rank = ranks(truth)[split]
    names = set().union(*truth.values()) if objects is None else set(objects)
    questions = []
    for image in truth if images is None else images:
        there = truth[image]
        order = sorted(names, key=lambda name: chance(seed, image, name))
        pairs = chosen(order, there, rank, per_side)
        for pair in pairs if len(pairs) >= least else ():
            questions += [question(image, name, label, split) for name, label in zip(pair, (True, False), strict=True)]
    return questions


def question(image: str, name: str, label: bool, split: str) -> PopeQuestion:
    """In the original's words; its id says all that is asked, so that it is the same in every set."""
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return PopeQuestion(f"{split}/{image}/{name}", image, f"Is there {article} {name} in the image?", label, split)


def chosen(order: list[str], there: Collection[str], rank: Rank, number: int) -> list[tuple[str, str]]:
    """Pairs of an object that is there and one that is not; of equally wanted ones the first in `order`."""
    present = [name for name in order if name in there]
    absent = [name for name in order if name not in there]
    pairs = []
    for name in present[: min(number, len(absent))]:
        pairs.append((name, max(absent, key=lambda other: rank(name, other))))
        absent.remove(pairs[-1][1])
    return pairs


def ranks(truth: Mapping[str, Collection[str]]) -> dict[str, Rank]:
    """By split: how much a pair is wanted, counted in images."""
    frequency, together = Counter(), Counter()
    for there in truth.values():
        frequency.update(set(there))
        together.update(permutations(set(there), 2))
    return {
        "random": lambda present, absent: 0,
        "popular": lambda present, absent: frequency[absent],
        "adversarial": lambda present, absent: together[present, absent],
    }


def chance(*what: object) -> bytes:
    """What to sort by for an order by chance that stays when other things join or leave, on every machine."""
    return hashlib.sha256(repr(what).encode()).digest()
