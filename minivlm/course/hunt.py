"""The bug hunt: a student's tests, each on the healthy package and on a copy with its bug.

A test runs alone in its process, with the bug as without: nothing else tells it which of the two it meets.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from minivlm.course.assignments import Assignment, Task
from minivlm.course.reference import seed_of
from minivlm.course.supervise import Job, Outcome, supervise
from minivlm.course.verdict import Verdict, judge_hunt
from minivlm.course.zoo import bug_named, specimen


def hunt(row: Assignment, tasks: Sequence[Task], tests: Path, seed: str, denied: Sequence[Path] = ()) -> list[Verdict]:
    """Judge the tests of the file `tests`."""
    verdicts = []
    with TemporaryDirectory() as place:
        healthy = specimen(Path(place)).parent
        for task in tasks:
            job = Job(task.test, seed_of(seed, row, task), task.seconds, task.megabytes)
            without = supervise(healthy, tests, [job], denied=denied)[0]
            with_bug = run_with_bug(task.bug, tests, job, denied) if without.status == "ran" else without
            verdicts.append(judge_hunt(task, without, with_bug, task.seconds))
    return verdicts


def run_with_bug(name: str, tests: Path, job: Job, denied: Sequence[Path]) -> Outcome:
    """Run one test on a copy of the package that has a bug."""
    with TemporaryDirectory() as place:
        return supervise(specimen(Path(place), bug_named(name)).parent, tests, [job], denied=denied)[0]
