"""The verdict on one test: points, and a sentence that helps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from minivlm.course.assignments import Task
from minivlm.course.readable import load_sentence

if TYPE_CHECKING:  # both import torch, which a report on what is not written does without
    from minivlm.course.kit.show import Shown
    from minivlm.course.outcome import Outcome

RIGHT, OPEN, WRONG = "right", "open", "wrong"
FOLLOW_THROUGH = 0.75  # the share of its points that a test gets if it passes with the package's earlier functions
LONGEST = 500  # characters of a sentence
SLOW = "a loop without end, one over tokens or heads, or copies of it all?"
HOLE_RAISES = "NotImplementedError", "Write "  # the exception, and the beginning of its message


@dataclass(frozen=True)
class Verdict:
    """What a student gets for one test."""

    task: Task
    state: str  # right, open (not written yet) or wrong
    sentence: str = ""
    seconds: float = 0.0
    printed: str = ""
    helped: bool = True  # whether help for the task fits; an exception names a line, and needs none
    share: float = 0.0  # of its points that count although it is not right, see follow_through.py
    ended: str = ""  # how a test that is wrong ended, as `Outcome.status`
    mistake: str = ""  # which one of the handout's it is, if the values tell
    cost: int = 0  # points for hints that were taken
    took: str = ""  # time and memory beside the package's, see `beside`

    @property
    def points(self) -> int:
        """Whole points, less those for hints; a half is rounded up."""
        whole = self.task.points if self.state == RIGHT else math.floor(self.task.points * self.share + 0.5)
        return max(0, whole - self.cost)

    @property
    def hint(self) -> str:
        """The mistake if its values tell it; else the task's hint, where that fits what happened."""
        if self.mistake or self.state != WRONG or not self.helped:
            return self.mistake
        from minivlm.course.hints import says_all  # imports torch

        return "" if says_all(self.sentence) else self.task.hint

    @property
    def title(self) -> str:
        """The name of the test as words."""
        return self.task.test.removeprefix("test_").replace("_", " ")


def judge(task: Task, outcome: "Outcome", expected: "Shown", limit: float) -> Verdict:
    """The verdict on a test: what the student's code showed is compared with `expected`; `limit`: its seconds."""
    from minivlm.course.hints import mistake_in  # these import torch
    from minivlm.course.kit.compare import first_difference

    if outcome.status != "ran" or outcome.shown is None:
        return stopped(task, outcome, limit)
    difference = shortened(first_difference(outcome.shown, expected))
    if not difference:
        return Verdict(task, RIGHT, "", outcome.seconds, outcome.printed)
    return replace(wrong(task, outcome, difference), mistake=mistake_in(task, outcome.shown))


def shortened(sentence: str) -> str:
    """The sentence, cut to `LONGEST` characters: it may quote a student's text of any length."""
    return sentence if len(sentence) <= LONGEST else f"{sentence[:LONGEST]} …"


def judge_hunt(task: Task, healthy: "Outcome", broken: "Outcome", limit: float) -> Verdict:
    """A test of the student's own: it must run through on the healthy package and fail on the broken one."""
    if healthy.status != "ran":
        verdict = stopped(task, healthy, limit)
        return verdict if verdict.state == OPEN else wrong(task, healthy, f"On the healthy package: {verdict.sentence}")
    if broken.status == "raised" and not is_open(broken):
        return Verdict(task, RIGHT, "", healthy.seconds + broken.seconds, broken.printed)
    if broken.status == "ran":
        return wrong(task, broken, f"The bug {task.bug!r} is still at large: your test passes with it, too.")
    return wrong(task, broken, f"With the bug {task.bug!r}: {stopped(task, broken, limit).sentence}")


def wrong(task: Task, outcome: "Outcome", sentence: str) -> Verdict:
    """The verdict "wrong", with the sentence that says why."""
    from minivlm.course.hints import fits  # imports torch

    helped = fits(task, outcome.status, outcome.error)
    return Verdict(task, WRONG, sentence, outcome.seconds, outcome.printed, helped, ended=outcome.status)


def stopped(task: Task, outcome: "Outcome", limit: float) -> Verdict:
    """The verdict on a test that did not run to its end."""
    raised = f"{outcome.error}: {outcome.message}".removesuffix(": ")
    sentences = {
        "raised": f"{outcome.where or task.test}: {raised}",
        "too slow": outcome.message or f"Stopped after {limit:.3g} s: {SLOW}{was_in(outcome.where)}",
        "too much memory": f"It wanted more than {task.megabytes} MB{at(outcome.where)}. Which tensor is so large?",
        "crashed": f"The Python process died. {outcome.message}".strip(),
        "forbidden": f"Not allowed here: {outcome.message or outcome.error}",
        "not started": load_sentence(outcome),
    }
    if outcome.is_loading and outcome.status in ("raised", "crashed"):
        return wrong(task, outcome, load_sentence(outcome))
    if is_open(outcome):
        return Verdict(task, OPEN, outcome.message, outcome.seconds, outcome.printed)
    return wrong(task, outcome, sentences.get(outcome.status, f"{outcome.status}: {raised}"))


def is_open(outcome: "Outcome") -> bool:
    """Whether the test ended at a function that is not written yet. (torch, too, raises NotImplementedError, with other
    messages.)
    """
    error, beginning = HOLE_RAISES
    return outcome.status == "raised" and outcome.error == error and outcome.message.startswith(beginning)


def untested(tasks: Sequence[Task], sentence: str) -> tuple[Verdict, ...]:
    """Verdicts on tests that were not run, since something is wrong with all of them."""
    return tuple(Verdict(task, WRONG, sentence, helped=False) for task in tasks)


def was_in(where: str) -> str:
    return f" It was in {where}." if where else ""


def at(where: str) -> str:
    return f" ({where})" if where else ""
