"""Data in one file: JSON lines, each with a picture and its objects, or a question file of POPE.

    {"image": "photos/cat.jpg", "objects": ["cat", "couch"], "id": "cat 1"}     the id may be left out
    {"question_id": 1, "image": "COCO_val2014_000000000042.jpg", "text": "Is there a dog in the image?", "label": "no"}

Pictures are read from the folder of the file, or from the folder that is given. A question file does not say whether an
object that it does not ask about is in the picture, so it can be used for POPE but not to judge captions.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from minivlm.errors import EvaluationError
from minivlm.evaluation.ids import require_one_spelling
from minivlm.evaluation.lexicon import Words
from minivlm.evaluation.lines import read_lines
from minivlm.evaluation.pictures import inside
from minivlm.evaluation.pope import SPLITS, PopeQuestion, read_questions
from minivlm.evaluation.pope_questions import warn_of_contradictions
from minivlm.evaluation.truth import checked
from minivlm.files import listed

FIELDS = ("image", "id", "objects")  # of a picture and its objects

EXPECTED = 'lines such as {"image": "cat.jpg", "objects": ["cat"]}, or a question file of POPE'


@dataclass(frozen=True)
class Listing:
    """The content of a file: by image id the picture file and the objects, and the questions of a question file."""

    files: Mapping[str, str]
    truth: Mapping[str, frozenset[str]]
    questions: tuple[PopeQuestion, ...] = ()


def read_listing(path: Path, lexicon: Words) -> Listing:
    """Read either kind of file; the first line decides which it is. Raises `EvaluationError` for any other."""
    first = next(islice(read_lines(path), 1), None)
    if first is None:
        raise EvaluationError(f"'{path}' is empty; expected are {EXPECTED}.")
    if "objects" in first[1]:
        return objects_of_pictures(path, lexicon)
    if {"text", "label"} <= first[1].keys():
        return questions_about_pictures(path, lexicon)
    raise EvaluationError(
        f"'{path}', line {first[0]}: has the keys {', '.join(map(repr, first[1]))}; expected are {EXPECTED}."
    )


def objects_of_pictures(path: Path, lexicon: Words) -> Listing:
    """Read JSON lines with a picture and its objects; images are in the order of the lines."""
    files: dict[str, str] = {}
    truth: dict[str, frozenset[str]] = {}
    further: set[str] = set()
    first: dict[str, int] = {}  # picture -> the line that has it first
    for number, line in read_lines(path):
        where = f"'{path}', line {number}"
        file = inside(line.get("image"), where)
        image = line.get("id", file)
        if type(image) not in (str, int) or image == "":
            raise EvaluationError(f"{where}: the id must be a text or a whole number, found {image!r}.")
        if str(image) in files:
            raise EvaluationError(f"{where}: the id {str(image)!r} occurs twice. Give each line an id of its own.")
        if first.setdefault(file, number) != number:
            warnings.warn(
                f"{where}: its picture {file!r} is that of line {first[file]}, too, and counts under both ids. Take "
                "one of the two lines out, unless that is meant.",
                stacklevel=2,
            )
        further |= set(line) - {*FIELDS}
        files[str(image)], truth[str(image)] = file, checked(line.get("objects"), lexicon, where)
    if further:
        warnings.warn(
            f"'{path}' has {listed(sorted(further))}, which is not read: {', '.join(FIELDS)} are.", stacklevel=2
        )
    require_one_spelling(files, f"'{path}'")
    return Listing(files, truth)


def questions_about_pictures(path: Path, lexicon: Words) -> Listing:
    """Read a question file. An image's id is its file name; its objects are those of the questions labelled yes.

    Images are in the order in which they are first asked about.
    """
    questions = questions_of([path])
    present: dict[str, set[str]] = {question.image: set() for question in questions}
    for question in questions:
        present[question.image].update(one.object for one in lexicon.mentions(question.text) if question.label)
    return Listing({image: image for image in present}, {i: frozenset(o) for i, o in present.items()}, questions)


def questions_of(paths: Sequence[str | Path]) -> tuple[PopeQuestion, ...]:
    """The questions of original question files; the names of the files give the splits, see `split_of`.

    A picture is named by its bare file name, as in all files of POPE. Raises `EvaluationError` for a path instead of a
    name, and for two questions with one id.
    """
    questions: list[PopeQuestion] = []
    for path in map(Path, paths):
        for number, question in enumerate(read_questions(path, split_of(path)), 1):
            image = inside(question.image, f"'{path}', question {number}", flat=True)
            questions.append(replace(question, image=image))
    if len({question.id for question in questions}) < len(questions):
        raise EvaluationError(
            f"Two questions of {', '.join(path.name for path in map(Path, paths))} have the same id. "
            "Give each file once, under a name of its own."
        )
    if len(paths) > 1:
        warn_of_contradictions(questions, " and ".join(f"'{path}'" for path in paths), between_splits=True)
    return tuple(questions)


def split_of(path: Path) -> str:
    """ "popular" for coco_pope_popular.json; the file's name without its ending where that names no split."""
    last = path.stem.rpartition("_")[2]
    return last if last in SPLITS else path.stem
