"""AMBER, the half with yes-no questions: existence, attributes, relations (Wang et al. 2023, arXiv 2311.07397).

No is the positive class: precision is the share of the no answers that are true, recall the share of the questions with
the label no that got a no. All questions about existence have the label no, so one who always says no is always right
there.

The original program reads an answer as yes or no only if it is exactly "Yes" or "No"; any other one is wrong. It rounds
precision and recall to one decimal before it makes F1 of them, and adds a small number below; so does `as_printed`.
The other half, captions, is in `amber_objects.py`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minivlm.errors import EvaluationError
from minivlm.evaluation.lines import read_entries, read_json, require_object
from minivlm.evaluation.pope import listed, pope, said_by_first_word
from minivlm.evaluation.pope_questions import LABELS, PopeQuestion, text_of
from minivlm.stats import Ratio

KINDS = {  # the name of a part -> the types of its questions in the annotations
    "existence": ("discriminative-hallucination",),
    "state": ("discriminative-attribute-state",),
    "number": ("discriminative-attribute-number",),
    "action": ("discriminative-attribute-action",),
    "relation": ("discriminative-relation", "relation"),
}
PART_OF = {kind: part for part, kinds in KINDS.items() for kind in kinds}
PARTS = {"all": tuple(KINDS), "existence": ("existence",), "attribute": ("state", "number", "action")} | {
    part: (part,) for part in ("state", "number", "action", "relation")
}
SMALL = {"existence": 0.001}  # what the original adds below the line of F1; 0.0001 elsewhere
EXACTLY = {"Yes": True, "No": False}
ONE_WORD = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "f1", "no_ratio": "yes_ratio"}


def said_exactly(answer: str) -> bool | None:
    """Yes (True) or no (False) if the answer is exactly that, as in the original; None for anything else."""
    return EXACTLY.get(answer)


READERS = {"original": said_exactly, "first word": said_by_first_word}


def read_annotations(path: str | Path) -> list[dict[str, Any]]:
    """The original's annotations: a list of objects with id, type and truth. Raises `EvaluationError` otherwise."""
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise EvaluationError(f"'{path}' must hold AMBER's annotations, a list of objects with id, type and truth.")
    return [require_object(entry, f"'{path}', entry {number}") for number, entry in enumerate(content, 1)]


def yes_no_questions(annotations: Sequence[Mapping[str, Any]], queries: str | Path) -> list[PopeQuestion]:
    """The yes-no questions with their labels and, as split, their part. `queries`: the original's
    query_discriminative.json, which has the picture and the text of each. Raises `EvaluationError`.
    """
    asked = {str(entry.get("id")): (entry, where) for where, entry in read_entries(queries)}
    questions = []
    for entry in annotations:
        part, name = PART_OF.get(str(entry.get("type"))), str(entry.get("id"))
        if part is None:
            continue
        if name not in asked or entry.get("truth") not in LABELS:
            raise EvaluationError(
                f"AMBER's question {name} has no entry in '{queries}', or neither yes nor no as truth."
            )
        query, where = asked[name]
        image, text = (text_of(query, key, where) for key in ("image", "query"))
        questions.append(PopeQuestion(name, image, text, LABELS[entry["truth"]], part))
    if not questions:
        raise EvaluationError("The annotations hold no yes-no question of AMBER: take the original's annotations.json.")
    return questions


def read_responses(path: str | Path) -> dict[str, str]:
    """Id -> answer, from a JSON list or JSON lines of objects with id and response. Raises `EvaluationError`."""
    answers: dict[str, str] = {}
    for where, entry in read_entries(path):
        name = entry.get("id", entry.get("question_id"))
        if not isinstance(name, (int, str)) or isinstance(name, bool) or str(name) in answers:
            raise EvaluationError(f"{where}: an id that no other answer has was expected, found {name!r}.")
        answers[str(name)] = text_of(entry, "response" if "response" in entry else "answer", where)
    return answers


def amber_yes_no(
    questions: Sequence[PopeQuestion], answers: Mapping[str, str], reader: str = "original"
) -> dict[str, dict[str, Ratio]]:
    """Part -> figure -> ratio of sums over pictures. Each question needs an answer; others are left alone.

    A figure of which nothing is counted, such as the precision of one who never said no, is 0, see `stats.Ratio`.
    """
    if missing := [question.id for question in questions if question.id not in answers]:
        raise EvaluationError(
            f"Every one of the {len(questions)} yes-no questions of AMBER needs an answer with its id, found "
            f"{listed(missing)} without one."
        )
    found = {}
    for name, parts in PARTS.items():
        own = [question for question in questions if question.split in parts]
        if own:
            read = [READERS[reader](answers[question.id]) for question in own]
            found[name] = positive_no(own, read)
    return found


def positive_no(questions: Sequence[PopeQuestion], said: Sequence[bool | None]) -> dict[str, Ratio]:
    """POPE's figures with no as the positive class."""
    turned = [PopeQuestion(one.id, one.image, one.text, not one.label, one.split) for one in questions]
    figures = pope(turned, [None if answer is None else not answer for answer in said])
    return {name: figures[of] for name, of in ONE_WORD.items()}


def as_printed(ratios: Mapping[str, Ratio], part: str) -> dict[str, float]:
    """Accuracy, precision, recall and F1 in percent as the original program prints them."""
    accuracy, precision, recall = (
        round(100 * float(ratios[name].value), 1) for name in ("accuracy", "precision", "recall")
    )
    below = precision / 100 + recall / 100 + SMALL.get(part, 0.0001)
    f1 = round(2 * (precision / 100) * (recall / 100) / below * 100, 1)
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}
