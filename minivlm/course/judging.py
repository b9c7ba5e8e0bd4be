"""Judge the functions that a student wrote: the kit's tests are run on them, and what they show is compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minivlm.course.assignments import Assignment, Task
from minivlm.course.hangs import Hangs
from minivlm.course.outcome import Outcome
from minivlm.course.readable import unreadable
from minivlm.course.reference import Reference, jobs_of
from minivlm.course.supervise import supervise
from minivlm.course.verdict import Verdict, judge, untested


@dataclass(frozen=True)
class Judged:
    """Verdicts in the order of the tasks, with what came of their tests (nothing, if nothing was run)."""

    verdicts: tuple[Verdict, ...]
    outcomes: tuple[Outcome, ...]
    hangs: Hangs


def judged(
    row: Assignment,
    expected: Reference,
    project: Path,
    tests: Path,
    denied: Sequence[Path],
    tasks: Sequence[Task] | None = None,
    hangs: Hangs | None = None,
) -> Judged:
    """Run tests of the file `tests` on the package in `project`: all of the assignment's, or some `tasks`.

    `denied`: folders that the code may not read; `hangs`: what an earlier run found out about the same functions.
    """
    tasks, hangs = row.tasks if tasks is None else tasks, hangs or Hangs.of(row)
    if fault := unreadable(row, project):
        return Judged(untested(tasks, fault), (), hangs)
    outcomes = supervise(project, tests, jobs_of(row, expected, tasks), denied=denied, hangs=hangs)
    pairs = zip(tasks, outcomes, strict=True)
    verdicts = tuple(judge(task, out, expected.shown[task.test], expected.limit(task)) for task, out in pairs)
    return Judged(verdicts, tuple(outcomes), hangs)
