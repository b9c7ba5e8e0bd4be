"""POPE's questions, "Is there a dog in the image?", read from files or built (Li et al. 2023, arXiv 2305.10355).

About each image, questions about objects that are in it alternate with as many about objects that are not, so that yes
is right half of the time. The splits differ in how the absent objects are chosen:

    random         at random
    popular        those that occur in the most images
    adversarial    for each present object asked about, the absent one that occurs most often together with it
"""

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path, PurePosixPath

from minivlm.errors import EvaluationError, brief
from minivlm.evaluation.lines import read_entries

SPLITS = ("random", "popular", "adversarial")
LABELS = {"yes": True, "no": False}
Rank = Callable[[str, str], int]  # (a present object, an absent object) -> the pair's rank in a split; highest wins


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

    The ids of every split's file begin at 1, so a given `split` is put before the id, as in "popular/1". Raises
    `EvaluationError` for any other file. An image has one spelling: ./0.jpg is 0.jpg. Warns of questions that are asked
    twice.
    """
    questions: list[PopeQuestion] = []
    for name, line, where in lines_by_id(path):
        image, text = (text_of(line, key, where) for key in ("image", "text"))
        label = text_of(line, "label", where)
        if label not in LABELS:
            raise EvaluationError(f"{where}: the label must be 'yes' or 'no', in small letters, found {label!r}.")
        image = PurePosixPath(image).as_posix() if image else image
        questions.append(PopeQuestion(f"{split}/{name}" if split else name, image, text, LABELS[label], split))
    if not questions:
        raise EvaluationError(f"'{path}' is empty; expected are JSON lines with question_id, image, text and label.")
    warn_of_repeats(questions, f"'{path}'")
    warn_of_contradictions(questions, f"'{path}'")
    return questions


def warn_of_repeats(questions: Sequence[PopeQuestion], where: str) -> None:
    """Warn of questions that have the image, text and label of an earlier one; `where` begins the sentence."""
    if again := [pair for pair in asked_again(questions) if pair[0].label == pair[1].label]:
        warnings.warn(
            f"{where}: {len(again)} of {len(questions)} questions are asked a second time, such as {shown(*again[0])}: "
            "they count twice, as in the original program. Take them out if that is not meant.",
            stacklevel=3,
        )


def warn_of_contradictions(questions: Sequence[PopeQuestion], where: str, *, between_splits: bool = False) -> None:
    """Warn of questions that have the image and text of an earlier one, and the other label; `where` begins the
    sentence. `between_splits`: only if the earlier one is of another split.
    """
    pairs = [pair for pair in asked_again(questions) if pair[0].label != pair[1].label]
    if pairs := [pair for pair in pairs if not between_splits or pair[0].split != pair[1].split]:
        warnings.warn(
            f"{where}: {len(pairs)} of {len(questions)} questions are asked a second time with the other label, such "
            f"as {shown(*pairs[0])}. No answer can be right both times: correct the labels.",
            stacklevel=3,
        )


def asked_again(questions: Sequence[PopeQuestion]) -> Iterator[tuple[PopeQuestion, PopeQuestion]]:
    """The first question about an image with a text, and each further one."""
    first: dict[tuple[str, str], PopeQuestion] = {}
    for question in questions:
        earlier = first.setdefault((question.image, question.text), question)
        if earlier is not question:
            yield earlier, question


def shown(first: PopeQuestion, again: PopeQuestion) -> str:
    """Two questions of the same text about the same image, as a warning shows them."""
    return f"{brief(first.text)} about {brief(first.image)} (question_id {first.id} and {again.id})"


def lines_by_id(path: str | Path) -> Iterator[tuple[str, dict, str]]:
    """The question_id of each line, the line, and its place in the file. Raises `EvaluationError` for a repeated id."""
    first: dict[str, str] = {}
    for where, line in read_entries(path):
        given = line.get("question_id")
        if type(given) not in (int, str) or given == "":
            raise EvaluationError(f"{where}: a text or a whole number was expected as question_id, found {given!r}.")
        name = str(given)
        if first.setdefault(name, where) != where:
            raise EvaluationError(
                f"{where}: question_id {name} occurs twice, first in {first[name].rpartition(', ')[2]}. "
                "Give each line an id of its own."
            )
        yield name, line, where


def text_of(line: Mapping, key: str, where: str) -> str:
    """The text that a line has under `key`. Raises `EvaluationError` if it is missing or no text."""
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
    """Up to `per_side` questions with the answer yes about each image and as many with no: yes, no, yes, no, …

    `truth`: image -> its objects; `images`: those to ask about, by default all; `objects`: those to ask about, by
    default all that occur in `truth`. Frequencies are counted in all of `truth`, whatever the images. Images that do
    not give `least` questions of each kind are left out. The original asks only about images with 3 objects
    (`least=3`); by default every image with at least one object is asked about.

    The questions about an image depend on the seed, on its id, and on the other images only through the frequencies and
    names; not on its position. All splits ask about the same present objects.
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
        order = sorted(names, key=lambda name: hash_of(seed, image, name))
        pairs = chosen(order, truth[image], rank, per_side)
        for pair in pairs if len(pairs) >= least else ():
            questions += [question(image, name, label, split) for name, label in zip(pair, (True, False), strict=True)]
    return questions


def question(image: str, name: str, label: bool, split: str) -> PopeQuestion:
    """A question in the original's words. Its id is made of split, image and object, so it is the same in every set."""
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return PopeQuestion(f"{split}/{image}/{name}", image, f"Is there {article} {name} in the image?", label, split)


def chosen(order: list[str], objects: Collection[str], rank: Rank, number: int) -> list[tuple[str, str]]:
    """At most `number` pairs of a present and an absent object; of equal ranks, the first in `order` is taken.

    `order`: all names; `objects`: those in the picture.
    """
    present = [name for name in order if name in objects]
    absent = [name for name in order if name not in objects]
    pairs: list[tuple[str, str]] = []
    for name in present[: min(number, len(absent))]:
        pairs.append((name, max(absent, key=lambda other: rank(name, other))))
        absent.remove(pairs[-1][1])
    return pairs


def ranks(truth: Mapping[str, Collection[str]]) -> dict[str, Rank]:
    """Split -> its rank of a pair, counted in images."""
    frequency: Counter[str] = Counter()
    together: Counter[tuple[str, str]] = Counter()
    for names in truth.values():
        frequency.update(set(names))
        together.update(permutations(set(names), 2))
    return {
        "random": lambda present, absent: 0,
        "popular": lambda present, absent: frequency[absent],
        "adversarial": lambda present, absent: together[present, absent],
    }


def hash_of(*key: object) -> bytes:
    """A sort key for a pseudo-random order: the same on every machine, and the same when other entries come or go."""
    return hashlib.sha256(repr(key).encode()).digest()
