"""A student's folder, judged by the values that came with it."""

from collections.abc import Sequence
from pathlib import Path

from minivlm.course.assignments import Assignment, Task
from minivlm.course.compiled import read_store, store_of
from minivlm.course.grade_report import GradeReport
from minivlm.course.hunt import hunt
from minivlm.course.package import PACKAGE
from minivlm.course.project import Folder
from minivlm.course.reference import PUBLIC, Reference, jobs_of
from minivlm.course.supervise import supervise
from minivlm.course.verdict import judge
from minivlm.errors import CourseError


def check(folder: Folder, only: Sequence[str] = ()) -> GradeReport:
    """Run the tests of the folder, or `only` those whose names hold one of these words."""
    row, tests = folder.assignment, folder.path / "tests" / folder.assignment.tests
    tasks = chosen(row, only)
    if not tests.is_file():
        raise CourseError(f"{tests} is missing. Take it from the folder as it was handed out.")
    read_store(store_of(folder.path / PACKAGE.name))  # only to refuse another version of Python before anything runs
    if row.is_zoo:
        return GradeReport(row, tuple(hunt(row, tasks, tests, PUBLIC, elsewhere(folder))))
    expected = Reference.load(folder.path / "tests" / "expected", row)
    outcomes = supervise(folder.path, tests, jobs_of(row, expected, tasks), denied=elsewhere(folder))
    pairs = zip(tasks, outcomes, strict=True)
    return GradeReport(
        row, tuple(judge(task, out, expected.shown[task.test], expected.limit(task)) for task, out in pairs)
    )


def chosen(row: Assignment, only: Sequence[str]) -> tuple[Task, ...]:
    """The tasks whose tests are named by one of the words, all without words."""
    words = [word.replace(" ", "_") for word in only]
    tasks = tuple(task for task in row.tasks if not words or any(word in task.test for word in words))
    if not tasks:
        raise CourseError(
            f"{row.name} has no test named like {', '.join(only)}; it has {', '.join(task.test for task in row.tasks)}."
        )
    return tasks


def elsewhere(folder: Folder) -> list[Path]:
    """The package that checks, unless it is the student's own: what is not allowed in the end is not allowed here."""
    own = PACKAGE.parent == folder.path.resolve() and not folder.assignment.is_zoo
    return [] if own else [PACKAGE]
