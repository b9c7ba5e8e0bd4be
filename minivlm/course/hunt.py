"""The bug hunt: each of a student's tests runs on the healthy package and on a copy with its bug.

Each run has a process and copies of all files to itself, with and without the bug, so that a test cannot learn from
earlier runs which of the two it runs on: a file that both had could carry a mark, in its rights or times. Tests that
look as if nothing was written are first run together, on the healthy package: those that say so themselves are not run
again.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from minivlm.course.assignments import Assignment, Task
from minivlm.course.holes import is_hollow
from minivlm.course.outcome import Job, Outcome
from minivlm.course.readable import fault_of, unreadable_sentence
from minivlm.course.reference import seed_of
from minivlm.course.supervise import supervise
from minivlm.course.verdict import Verdict, is_open, judge_hunt, untested
from minivlm.course.zoo import Bug, bug_named, specimen


def hunt(row: Assignment, tasks: Sequence[Task], tests: Path, seed: str, denied: Sequence[Path] = ()) -> list[Verdict]:
    """A verdict on the student's test for each task's bug, from the file `tests`. `seed`: of the tests' inputs."""
    if fault := fault_of(tests.read_bytes()):
        return [*untested(tasks, unreadable_sentence(row.handed_in[0], fault))]
    jobs = {task.test: Job(task.test, seed_of(seed, row, task), task.seconds, task.megabytes) for task in tasks}
    known = unwritten([*jobs.values()], tests, denied)
    verdicts = []
    for task in tasks:
        job = jobs[task.test]
        healthy = known.get(task.test) or run(None, tests, [job], denied)[0]
        broken = run(bug_named(task.bug), tests, [job], denied)[0] if healthy.status == "ran" else healthy
        if healthy.is_loading and healthy.status == "raised":  # the file cannot be imported: no test of it can
            known = dict.fromkeys(jobs, healthy)
        verdicts.append(judge_hunt(task, healthy, broken, task.seconds))
    return verdicts


def unwritten(jobs: Sequence[Job], tests: Path, denied: Sequence[Path]) -> dict[str, Outcome]:
    """The outcomes of tests that end, as they were handed out, by saying that they are still to be written."""
    source = tests.read_text(encoding="utf-8", errors="replace")
    looks = [job for job in jobs if is_hollow(source, job.test)]
    outcomes = run(None, tests, looks, denied) if len(looks) > 1 else []
    return {outcome.test: outcome for outcome in outcomes if is_open(outcome)}


def run(bug: Bug | None, tests: Path, jobs: Sequence[Job], denied: Sequence[Path]) -> list[Outcome]:
    """Run tests on a copy of the package, with a bug or, for None, without; of the tests, too, this run has a copy."""
    with TemporaryDirectory() as place:
        return supervise(specimen(Path(place), bug).parent, copied(tests, Path(place)), jobs, denied=denied)


def copied(tests: Path, place: Path) -> Path:
    """Copy the file `tests`, and the modules beside it, into a new folder at `place`; returns the copy's path."""
    folder = place / "tests"
    folder.mkdir()
    for file in tests.parent.glob("*.py"):
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    return folder / tests.name
