"""Help that fits: which mistake a result shows, and whether a hint belongs behind a message."""

from minivlm.course.hint import Hint
from minivlm.course.kit.show import Shown
from minivlm.course.row import Assignment, Task
from minivlm.course.table.hints_a1 import HINTS as A1
from minivlm.course.table.hints_a2 import HINTS as A2
from minivlm.course.table.hints_a3 import HINTS as A3
from minivlm.course.table.hints_a4 import HINTS as A4
from minivlm.course.table.hints_a5 import HINTS as A5
from minivlm.course.table.hints_a6 import HINTS as A6
from minivlm.course.table.mistakes import MISTAKES

HINTS = {"a1": A1, "a2": A2, "a3": A3, "a4": A4, "a5": A5, "a6": A6}
LIMITS = ("too slow", "too much memory")
COMPLETE = (": expected the shape ", ": expected a tensor, ", ": expected a plain value, ", "AssertionError: ")


def hint_of(row: Assignment, task: Task) -> Hint | None:
    """The hint for a test of an assignment; None for the zoo, whose hints are in its handout."""
    return HINTS.get(row.name, {}).get(task.test)


def mistake_in(task: Task, shown: Shown) -> str:
    """The mistake that the handout lists with just these values, as a sentence; "" if there is none."""
    named = (mistake.sentence for mistake in MISTAKES if mistake.test == task.test and mistake.is_in(shown))
    return next((f"The handout lists these values: {sentence}." for sentence in named), "")


def limit_of(task: Task) -> str:
    """What a test is about if not about values: the status of an outcome that is over its limit, or ""."""
    if task.times is not None:
        return "too slow"
    return "too much memory" if task.megabytes != Task.megabytes else ""


def fits(task: Task, status: str, error: str = "") -> bool:
    """Whether help for the task belongs behind what came of its test: a test of time or memory is helped where the
    limit was reached, any other where it ran through or an assertion of its own failed.
    """
    if limit := limit_of(task):
        return status == limit
    return status == "ran" or (status == "raised" and error == "AssertionError")


def says_all(sentence: str) -> bool:
    """Whether a sentence needs no hint behind it: it names a wrong shape or kind, or is the test's own about a rule."""
    return any(part in sentence for part in COMPLETE)
