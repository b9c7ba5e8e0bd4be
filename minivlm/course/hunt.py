"""The bug hunt: each of a student's tests runs on the healthy package and on a copy with its bug.

Each run has a process to itself, with and without the bug, so that a test cannot learn from other tests which of the
two it runs on.
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
    """A verdict on the student's test for each task's bug, from the file `tests`. `seed`: of the tests' inputs."""
    verdicts = []
    for task in tasks:
        job = Job(task.test, seed_of(seed, row, task), task.seconds, task.megabytes)
        healthy = run(None, tests, job, denied)
        broken = run(bug_named(task.bug), tests, job, denied) if healthy.status == "ran" else healthy
        verdicts.append(judge_hunt(task, healthy, broken, task.seconds))
    return verdicts


def run(bug: Bug | None, tests: Path, job: Job, denied: Sequence[Path]) -> Outcome:
    """Run one test on a copy of the package, with a bug or, for None, without."""
    with TemporaryDirectory() as place:
        return supervise(specimen(Path(place), bug).parent, tests, [job], denied=denied)[0]
