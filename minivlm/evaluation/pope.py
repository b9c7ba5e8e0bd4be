"""POPE: yes-no questions about objects that are in the picture or not (Li et al. 2023, arXiv 2305.10355).

Yes is the positive class: precision is the share of the yes answers that are true, recall the share of the objects in
the picture that got a yes. The yes-ratio is the share of yes among the *answers*, and shows whether a model agrees with
everything: one that always says yes has accuracy 1/2, precision 1/2, recall 1, yes-ratio 1 and F1 2/3 on a balanced
set. (The yes-ratio of the labels would be 1/2 for every model.) Answers are matched to questions by id, never by order.

Models do not always answer with yes or no alone, so there are two parsers, and figures by both should be shown.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from minivlm.errors import EvaluationError
from minivlm.evaluation.pope_questions import (
    SPLITS,
    PopeQuestion,
    build_questions,
    lines_by_id,
    read_questions,
    text_of,
)
from minivlm.stats import Ratio

__all__ = [
    "PARSERS",
    "SPLITS",
    "PopeQuestion",
    "build_questions",
    "corrected_labels",
    "matched",
    "pope",
    "read_answers",
    "read_questions",
    "right",
    "score_answers",
    "unreadable",
]

NOES = {"No", "NO", "no", "not"}
WORD = re.compile(r"[^\W\d_]+")
SHOWN = 3  # ids in an error sentence
Said = Sequence[bool | None]  # yes, no, or neither (None), in the order of the questions


def first_sentence(answer: str) -> str:
    """The answer up to its first full stop; what follows may name other objects that are missing."""
    return answer.split(".")[0]


def said_by_original(answer: str) -> bool:
    """No (False) if the first sentence holds a no; yes (True) in all other cases, even for an empty answer.

    The rule of the authors' evaluate.py, which splits only at blanks. NO and words that end in n't were added by later
    scripts.
    """
    words = first_sentence(answer).replace(",", "").split(" ")
    return not any(word in NOES or word.endswith("n't") for word in words)


def said_by_first_word(answer: str) -> bool | None:
    """Yes (True) or no (False) if that is the first word, in upper or lower case; None for anything else."""
    word = WORD.search(answer)
    return {"yes": True, "no": False}.get(word[0].lower()) if word else None


PARSERS: dict[str, Callable[[str], bool | None]] = {"original": said_by_original, "first word": said_by_first_word}


def unreadable(answer: str) -> bool:
    """True if neither parser finds yes or no; the original then counts a yes."""
    a_yes = "yes" in WORD.findall(first_sentence(answer).lower())
    return said_by_original(answer) and said_by_first_word(answer) is None and not a_yes


def read_answers(path: str | Path) -> dict[str, str]:
    """Question id -> answer, from JSON lines with question_id and either answer or text. Raises `EvaluationError`."""
    lines = lines_by_id(path)
    return {name: text_of(line, "answer" if "answer" in line else "text", where) for name, line, where in lines}


def score_answers(
    questions: Sequence[PopeQuestion], answers: Mapping[str, str], parser: str = "original"
) -> dict[str, Ratio]:
    """The figures of `pope` for a model's answers as text, by question id; each question needs exactly one."""
    return pope(questions, matched(questions, answers, parser))


def corrected_labels(questions: Sequence[PopeQuestion], corrected: Sequence[PopeQuestion]) -> int:
    """How many labels of the `corrected` questions differ from those of the `questions` with the same ids.

    A corrected file, such as RePOPE's, may hold fewer questions. Raises `EvaluationError` for one that it has and the
    other has not, or that is about another picture there. Texts are not compared: copies of POPE have slips in them.
    """
    known = {question.id: question for question in questions}
    strange = [one.id for one in corrected if one.id not in known or known[one.id].image != one.image]
    if strange:
        raise EvaluationError(
            f"The corrected labels are of other questions: {listed(strange)} of {len(corrected)} have another picture, "
            "or an id that the questions do not have. Give the labels of the same split."
        )
    return sum(known[one.id].label != one.label for one in corrected)


def matched(
    questions: Sequence[PopeQuestion], answers: Mapping[str, str], parser: str = "original"
) -> list[bool | None]:
    """How `parser` reads the answer to each question, in the order of the questions; `answers`: question id -> text.

    Raises `EvaluationError` for missing answers, for answers to other questions, and for an id that occurs twice.
    """
    if parser not in PARSERS:
        raise EvaluationError(f"The parsers of yes and no are {', '.join(PARSERS)}, found {parser!r}.")
    asked = dict.fromkeys(question.id for question in questions)
    if len(asked) < len(questions):
        raise EvaluationError(
            f"{len(questions)} questions have only {len(asked)} different ids. Read each file with its split."
        )
    missing, strange = [name for name in asked if name not in answers], [name for name in answers if name not in asked]
    if missing or strange:
        raise EvaluationError(
            f"Every one of the {len(asked)} questions needs one answer with its question_id: "
            f"{listed(missing)} without an answer, and {listed(strange)} of {len(answers)} answers to none of them."
        )
    return [PARSERS[parser](answers[name]) for name in asked]


def listed(names: Sequence[str]) -> str:
    """The number of names and the first of them, as in "2 (17, 18)"."""
    shown = ", ".join([*names[:SHOWN], "…"] if len(names) > SHOWN else names)
    return f"{len(names)} ({shown})" if names else "0"


def pope(questions: Sequence[PopeQuestion], answers: Said) -> dict[str, Ratio]:
    """Figure -> ratio of sums over images, in the order in which the images are first asked about.

    Questions about one image are not independent, so the bootstrap resamples images. None, an answer that could not be
    read, counts as wrong and not as a yes.
    """
    if len(questions) != len(answers) or not questions:
        raise EvaluationError(
            f"POPE needs one answer for each question, found {len(answers)} answers and {len(questions)} questions."
        )
    places = {image: place for place, image in enumerate(dict.fromkeys(question.image for question in questions))}
    place = [places[question.image] for question in questions]
    label = np.array([question.label for question in questions])
    yes = np.array([answer is not None and bool(answer) for answer in answers])
    asked, there, said = np.bincount(place), np.bincount(place, label), np.bincount(place, yes)  # (images,) each
    hits, true = np.bincount(place, label & yes), np.bincount(place, right(questions, answers))
    return {
        "accuracy": Ratio.of(true, asked),
        "precision": Ratio.of(hits, said),
        "recall": Ratio.of(hits, there),
        "f1": Ratio.of(2 * hits, said + there),
        "yes_ratio": Ratio.of(said, asked),
    }


def right(questions: Sequence[PopeQuestion], answers: Said) -> list[bool]:
    """Whether each answer is true. McNemar's test compares these lists of two methods."""
    pairs = zip(questions, answers, strict=True)
    return [answer is not None and bool(answer) == question.label for question, answer in pairs]
