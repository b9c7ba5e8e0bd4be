"""The verdict on one test: points, and a sentence that helps."""

from dataclasses import dataclass

from minivlm.course.assignments import Task
from minivlm.course.kit.compare import first_difference
from minivlm.course.kit.show import Shown
from minivlm.course.supervise import Outcome

RIGHT, OPEN, WRONG = "right", "open", "wrong"
LONGEST = 500  # characters of a sentence
WRITTEN_LATER = "NotImplementedError"


@dataclass(frozen=True)
class Verdict:
    """What a student gets for one test."""

    task: Task
    state: str  # right, open (not written yet) or wrong
    sentence: str = ""
    seconds: float = 0.0
    printed: str = ""

    @property
    def points(self) -> int:
        return self.task.points if self.state == RIGHT else 0

    @property
    def title(self) -> str:
        """The name of the test as words."""
        return self.task.test.removeprefix("test_").replace("_", " ")


def judge(task: Task, outcome: Outcome, expected: Shown, limit: float) -> Verdict:
    """Compare what a student's code showed with what is expected; `limit`: the seconds that it had."""
    if outcome.status != "ran" or outcome.shown is None:
        return stopped(task, outcome, limit)
    difference = shortened(first_difference(outcome.shown, expected))
    return Verdict(task, WRONG if difference else RIGHT, difference, outcome.seconds, outcome.printed)


def shortened(sentence: str) -> str:
    """What was found may be a text of any length."""
    return sentence if len(sentence) <= LONGEST else f"{sentence[:LONGEST]} …"


def judge_hunt(task: Task, healthy: Outcome, broken: Outcome, limit: float) -> Verdict:
    """A test of the student's own: it must run through on the healthy package and fail on the broken one."""
    if healthy.status != "ran":
        verdict = stopped(task, healthy, limit)
        return verdict if verdict.state == OPEN else told(task, healthy, f"On the healthy package: {verdict.sentence}")
    if broken.status == "raised" and broken.error != WRITTEN_LATER:
        return Verdict(task, RIGHT, "", healthy.seconds + broken.seconds, broken.printed)
    if broken.status == "ran":
        return told(task, broken, f"The bug {task.bug!r} is still at large: your test passes with it, too.")
    return told(task, broken, f"With the bug {task.bug!r}: {stopped(task, broken, limit).sentence}")


def told(task: Task, outcome: Outcome, sentence: str) -> Verdict:
    """A wrong answer, and why."""
    return Verdict(task, WRONG, sentence, outcome.seconds, outcome.printed)


def stopped(task: Task, outcome: Outcome, limit: float) -> Verdict:
    """The verdict on a test that did not run to its end."""
    raised = f"{outcome.error}: {outcome.message}".removesuffix(": ")
    sentences = {
        "raised": f"{outcome.where or task.test}: {raised}",
        "too slow": f"Stopped after {limit:.3g} s. Is there a loop that does not end, or one over tokens or heads?",
        "too much memory": f"It wanted more than {task.megabytes} MB. Which tensor is so large?",
        "crashed": f"The Python process died. {outcome.message}".strip(),
        "forbidden": f"Not allowed here: {outcome.message or outcome.error}",
        "not started": f"The package could not be loaded. {outcome.where} {raised}".strip(),
    }
    if outcome.error == WRITTEN_LATER and outcome.status == "raised":
        return Verdict(task, OPEN, outcome.message, outcome.seconds, outcome.printed)
    return told(task, outcome, sentences.get(outcome.status, f"{outcome.status}: {raised}"))
