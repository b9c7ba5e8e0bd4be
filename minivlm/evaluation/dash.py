"""DASH-B: pictures in which models see an object that is not there (Augustin et al. 2025, arXiv 2503.23573).

For each of 70 objects there are pictures without it that made models say yes, and as many with it. The figures are the
true-negative rate (of the pictures without the object, how many got a no), the true-positive rate, and the accuracy,
which is their mean since both halves have the same size.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from minivlm.errors import EvaluationError
from minivlm.evaluation.lines import read_json, require_object
from minivlm.evaluation.pope import matched, right
from minivlm.evaluation.pope_questions import PopeQuestion
from minivlm.stats import Ratio

QUESTION = "Can you see a {} in this image. Please answer only with yes or no."  # as published, with its full stop
FIGURES = {"tnr": "without", "tpr": "with"}  # figure -> the half that it is measured on


def read_dash(negative: str | Path, positive: str | Path) -> list[PopeQuestion]:
    """The questions of the two lists, {group: {object: [pictures]}}: id and image are half/group/object/picture, the
    split is the half, "without" or "with". Raises `EvaluationError` for files of another form.
    """
    questions = []
    for half, path in (("without", negative), ("with", positive)):
        for group, objects in require_object(read_json(path), f"'{path}'").items():
            for name, pictures in require_object(objects, f"'{path}', {group!r}").items():
                if not isinstance(pictures, list) or not all(isinstance(one, str) for one in pictures):
                    raise EvaluationError(f"'{path}': {name!r} must have a list of pictures, found {pictures!r:.80}.")
                ids = [f"{half}/{group}/{name}/{picture}" for picture in pictures]
                questions += [PopeQuestion(one, one, QUESTION.format(name), half == "with", half) for one in ids]
    if not questions:
        raise EvaluationError(f"'{negative}' and '{positive}' name no pictures: take DASH-B's lists.")
    return questions


def dash(questions: Sequence[PopeQuestion], answers: Mapping[str, str], parser: str = "first word") -> dict[str, Ratio]:
    """Figure -> ratio of sums over pictures; each question needs exactly one answer, by its id."""
    true = np.array(right(questions, matched(questions, answers, parser)))
    halves = np.array([question.split for question in questions])
    rates = {figure: Ratio.of(true & (halves == half), halves == half) for figure, half in FIGURES.items()}
    return {"accuracy": Ratio.of(true, np.ones(len(true))), **rates}
