"""Check a student's folder: its tests are judged by the expected values that came with it.

Where nothing was written yet, or a file cannot be read, nothing is run, and torch is not even imported.
"""

from collections.abc import Sequence
from pathlib import Path

from minivlm.course.assignments import Assignment, Task
from minivlm.course.choice import chosen
from minivlm.course.compiled import read_store, store_of
from minivlm.course.folder import Folder
from minivlm.course.grade_report import GradeReport
from minivlm.course.package import PACKAGE
from minivlm.course.pieces import own_pieces, pieces_of
from minivlm.course.readable import unreadable
from minivlm.course.verdict import OPEN, Verdict, untested
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
    if fault := unreadable(row, folder.path):
        return GradeReport(row, untested(tasks, fault))
    if folder.is_untouched:
        return GradeReport(row, tuple(Verdict(task, OPEN, to_write(row, task)) for task in tasks))
    return run(folder, tasks, tests)


def run(folder: Folder, tasks: tuple[Task, ...], tests: Path) -> GradeReport:
    """Run some tests of the folder, from the file `tests`."""
    from minivlm.course.beside import beside, read_took  # these import torch
    from minivlm.course.hunt import hunt
    from minivlm.course.judging import judged
    from minivlm.course.reference import PUBLIC, Reference

    row = folder.assignment
    if row.is_zoo:
        return GradeReport(row, tuple(hunt(row, tasks, tests, PUBLIC, denied_to(folder))))
    expected = Reference.load(folder.path / "tests" / "expected", row)
    outcome = judged(row, expected, folder.path, tests, denied_to(folder), tasks)
    took = read_took(folder.path / "tests" / "expected")
    pairs = zip(outcome.verdicts, outcome.outcomes, strict=True) if outcome.outcomes else ()
    shown = tuple(beside(verdict, out, took.get(out.test)) for verdict, out in pairs)
    return GradeReport(row, shown or outcome.verdicts)


def to_write(row: Assignment, task: Task) -> str:
    """What is to be written first for a test, where nothing was written yet; said as the holes themselves say it."""
    if row.is_zoo:
        return f"Write a test that fails under the bug {task.bug}."
    file, name = next(piece for piece in pieces_of(row) if piece in own_pieces(row)[task.test])
    return f"Write {name} in {PACKAGE.name}/{file}."


def denied_to(folder: Folder) -> list[Path]:
    """The folders that student code may not read: this package, as when it is graded, unless it is the student's copy
    with the holes to fill.
    """
    is_students = PACKAGE.parent == folder.path.resolve() and not folder.assignment.is_zoo
    return [] if is_students else [PACKAGE]
