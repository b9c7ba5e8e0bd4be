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
from minivlm.course.zoo import Bug, bug_named, specimen


def hunt(row: Assignment, tasks: Sequence[Task], tests: Path, seed: str, denied: Sequence[Path] = ()) -> list[Verdict]:
    """Judge the tests of the file `tests`."""
    verdicts = []
    for task in tasks:
        job = Job(task.test, seed_of(seed, row, task), task.seconds, task.megabytes)
        healthy = run(None, tests, job, denied)
        broken = run(bug_named(task.bug), tests, job, denied) if healthy.status == "ran" else healthy
        verdicts.append(judge_hunt(task, healthy, broken, task.seconds))
    return verdicts


def run(bug: Bug | None, tests: Path, job: Job, denied: Sequence[Path]) -> Outcome:
    """Run one test on a copy of the package, with a bug or without."""
    with TemporaryDirectory() as place:
        return supervise(specimen(Path(place), bug).parent, tests, [job], denied=denied)[0]
