"""Check a student's folder: its tests are judged by the expected values that came with it."""

from collections.abc import Sequence
from pathlib import Path

from minivlm.course.assignments import Assignment, Task
from minivlm.course.beside import beside, read_took
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
    """Run the tests of the folder; with `only`, those whose names hold one of these words.

    Raises `CourseError` if the folder lacks something or was made for another version of Python.
    """
    row, tests = folder.assignment, folder.path / "tests" / folder.assignment.tests
    tasks = chosen(row, only)
    if not tests.is_file():
        raise CourseError(f"{tests} is missing. Take it from the folder as it was handed out.")
    read_store(store_of(folder.path / PACKAGE.name))  # only to refuse another version of Python before anything runs
    if row.is_zoo:
        return GradeReport(row, tuple(hunt(row, tasks, tests, PUBLIC, denied_to(folder))))
    expected = Reference.load(folder.path / "tests" / "expected", row)
    outcomes = supervise(folder.path, tests, jobs_of(row, expected, tasks), denied=denied_to(folder))
    pairs, took = [*zip(tasks, outcomes, strict=True)], read_took(folder.path / "tests" / "expected")
    verdicts = [judge(task, out, expected.shown[task.test], expected.limit(task)) for task, out in pairs]
    beside_package = [beside(verdict, out, took.get(out.test)) for verdict, out in zip(verdicts, outcomes, strict=True)]
    return GradeReport(row, tuple(beside_package))


def chosen(row: Assignment, only: Sequence[str]) -> tuple[Task, ...]:
    """The tasks whose tests' names hold one of the words; all tasks if there are no words."""
    words = [word.replace(" ", "_") for word in only]
    tasks = tuple(task for task in row.tasks if not words or any(word in task.test for word in words))
    if not tasks:
        raise CourseError(
            f"{row.name} has no test named like {', '.join(only)}; it has {', '.join(task.test for task in row.tasks)}."
        )
    return tasks


def denied_to(folder: Folder) -> list[Path]:
    """The folders that student code may not read: this package, as when it is graded, unless it is the student's copy
    with the holes to fill.
    """
    is_students = PACKAGE.parent == folder.path.resolve() and not folder.assignment.is_zoo
    return [] if is_students else [PACKAGE]
