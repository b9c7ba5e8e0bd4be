"""The bug hunt: a student's tests, on the healthy package and on a copy with one bug each."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from minivlm.course.assignments import Assignment, Task
from minivlm.course.reference import seed_of
from minivlm.course.supervise import Job, Outcome, supervise
from minivlm.course.verdict import Verdict, judge_hunt
from minivlm.course.zoo import Bug, bug_named, specimen


def hunt(row: Assignment, tasks: Sequence[Task], tests: Path, seed: str, denied: Sequence[Path] = ()) -> list[Verdict]:
    """Judge the tests of the file `tests`, each on this package and on a copy that has its bug."""
    jobs = [Job(task.test, seed_of(seed, row, task), task.seconds, task.megabytes) for task in tasks]
    healthy = run(None, tests, jobs, denied)
    broken = [run(bug_named(task.bug), tests, [job], denied)[0] for task, job in zip(tasks, jobs, strict=True)]
    rows = zip(tasks, healthy, broken, strict=True)
    return [judge_hunt(task, well, ill, task.seconds) for task, well, ill in rows]


def run(bug: Bug | None, tests: Path, jobs: Sequence[Job], denied: Sequence[Path]) -> list[Outcome]:
    """Run tests on a copy of the package, with a bug or without."""
    with TemporaryDirectory() as place:
        specimen(Path(place), bug)
        return supervise(Path(place), tests, jobs, denied=denied)
