"""Questions that are prompts already, as people copy them from a model's card: `USER: <image>\\nWhat? ASSISTANT:`.

Wrapped a second time they would be another prompt, and get another answer. What is unmistakable is taken apart, and a
warning says so; what only begins or ends like a prompt stays as it is, with a warning, too.
"""

import re
import warnings
from dataclasses import replace

from minivlm.errors import PromptError
from minivlm.inputs.templates import IMAGE, TEMPLATES, VICUNA_SYSTEM, Mark, Pieces, Special, Template, Turn

PLACE = "<image>"
BEGINNINGS = ("<s>", "<|begin_of_text|>", VICUNA_SYSTEM)  # what may stand before the first question
END_OF_ANSWER = "</s>"


def as_meant(text: str, num_images: int) -> list[Turn]:
    """The turns of a question that may be a whole prompt, and may say by `<image>` where its pictures belong.

    Warns of all that is not taken literally. Raises `PromptError` for more or fewer places than pictures.
    """
    turns = next(filter(None, (taken_apart(text, template) for template in TEMPLATES.values())), None)
    if turns is not None:
        warnings.warn(
            f"The question is a whole prompt already: it was taken apart ({described(turns)}), and is written by the "
            "template anew. Give the question alone.",
            stacklevel=4,
        )
    elif part := part_of_a_prompt(text):
        warnings.warn(
            f"The question {part}, which the template writes, too: it was left as it is, and stands in the prompt "
            "twice. Give the question alone, or a whole prompt.",
            stacklevel=4,
        )
    turns = turns or [Turn(text)]
    places = sum(str(turn.question).count(PLACE) for turn in turns)
    if places == 0:
        return turns
    if places != num_images:
        raise PromptError(
            f"The question has a place for a picture ({PLACE}) {places} times, but {num_images} pictures were given."
        )
    warnings.warn(f"{PLACE} in the question was taken as the place of the picture.", stacklevel=4)
    return [with_places(turn) for turn in turns]


def with_places(turn: Turn) -> Turn:
    """The turn with its pictures where `<image>` stands in its question."""
    question = str(turn.question)
    if question.startswith(f"{PLACE}\n") and question.count(PLACE) == 1:  # where the templates put it, too
        return replace(turn, question=question.removeprefix(f"{PLACE}\n"), images=1)
    first, *others = question.split(PLACE)
    pieces = [first, *(piece for other in others for piece in (IMAGE, other))]
    return replace(turn, question=[piece for piece in pieces if piece != ""], images=None)


def taken_apart(text: str, template: Template) -> list[Turn] | None:
    """The turns of a text that is a prompt in the form of this template; None if it is none, or no complete one."""
    opening, closing = pattern(template.user), pattern(template.assistant)
    for beginning in BEGINNINGS:
        text = text.strip().removeprefix(beginning)
    whole = re.fullmatch(rf"\s*{opening}(.*){closing}\s*", text, re.DOTALL)
    if whole is None:
        return None
    first, *others = re.split(closing, whole[1])
    questions, answers = [first], []
    for other in others:
        answer, *question = re.split(opening, other)
        answers.append(answer)
        questions += question
    if len(questions) != len(answers) + 1 or re.search(opening, first):
        return None
    ends = [pattern(template.after_answer), re.escape(END_OF_ANSWER)]
    answers = [re.sub(rf"\s*({'|'.join(ends)})?\s*$", "", answer).strip() for answer in answers]
    return [Turn(question.strip(), answer=answer) for question, answer in zip(questions, [*answers, None], strict=True)]


def part_of_a_prompt(text: str) -> str:
    """Which part of a prompt a text begins or ends with, as the rest of a sentence; "" if with none."""
    for template in TEMPLATES.values():
        if found := re.match(rf"\s*{pattern(template.user)}", text):
            return f"begins with {found[0].strip()!r}"
        if found := re.search(rf"{pattern(template.assistant)}\s*$", text):
            return f"ends with {found[0].strip()!r}"
    return ""


def pattern(pieces: Pieces) -> str:
    """A regular expression for what a template writes, with any white space where it has some."""
    spelt = "".join(
        piece.name if isinstance(piece, Special) else "" if isinstance(piece, Mark) else piece for piece in pieces
    )
    words = [re.escape(word) for word in spelt.split()]
    return r"\s*".join([r"(?<!\w)" + words[0], *words[1:]]) if words else r"\s*"


def described(turns: list[Turn]) -> str:
    """What was found in a prompt, for people to read."""
    question = str(turns[-1].question)
    asked = repr(question if len(question) <= 60 else question[:60] + "...")
    number = len(turns) - 1
    earlier = f"{number} earlier {'turn' if number == 1 else 'turns'}, and " if number else ""
    return f"{earlier}the question {asked}"
