"""The commands of the course: list assignments, start one, check a student's folder; grading is `course_grade.py`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from minivlm.cli import arguments
from minivlm.cli.arguments import Command
from minivlm.cli.course_grade import (
    GradeRequest,
    SimilarRequest,
    find_similar,
    grade_folders,
    grade_options,
    similar_options,
    word,
)
from minivlm.cli.options import Request
from minivlm.cli.terminal import print_json, remark
from minivlm.course.assignments import ASSIGNMENTS, assignment
from minivlm.errors import CourseError
from minivlm.files import harmless, path_of
from minivlm.shell import FAILED


@dataclass(frozen=True, kw_only=True)
class StartRequest(Request):
    """Which assignment to start, its new folder, and whether it gets copies of the weights instead of links."""

    assignment: str
    folder: str
    copy_weights: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckRequest(Request):
    """A student's folder; `only`: tests whose names hold one of these words; `hint`: help, up to that rung."""

    folder: str = "."
    only: tuple[str, ...] = ()
    hint: int | None = None
    json: bool = False


def course(request: Request) -> None:
    """Nothing: argparse demands one of `TASKS`, whose function runs instead."""


def list_assignments(request: Request) -> None:
    """Print the assignments, their tests, minutes of work and functions."""
    for row in ASSIGNMENTS.values():
        print(f"{row.name}  {row.title:44} {len(row.tasks):2} tests  {row.minutes:3} minutes")
        functions = [name for names in row.holes.values() for name in names]
        print(f"    {', '.join(functions) or 'tests that catch real bugs'}")
    print("\nminivlm course start a1 DIR   writes the folder of one of them")


def start_assignment(request: StartRequest) -> None:
    """Write a student's folder for one assignment. Raises `CourseError` if it exists and is not empty."""
    from minivlm.course.project import start

    row = assignment(request.assignment)
    doing = f"Writing {request.folder}" if row.is_zoo else f"Running the tests of {row.name}, for the values to expect"
    remark(f"{doing} …")
    folder = start(row, path_of(request.folder, CourseError), request.copy_weights).path
    print(f"{folder} is ready for {row.name} · {row.title}. Begin with {folder / row.name}.ipynb.")


def check_folder(request: CheckRequest) -> int:
    """Run the tests of a student's folder, and print points and the next thing to do. 0 only if all of them pass."""
    from minivlm.course.check import check
    from minivlm.course.folder import Folder

    folder = Folder.read(path_of(request.folder, CourseError))
    remark(f"Checking {folder.assignment.name} …")
    report = check(folder, request.only)
    hints = []
    if request.hint:
        from minivlm.course.ladder import hints_for  # imports torch

        hints = hints_for(folder, report, request.hint)
    if request.json:
        print_json(report.as_dict() | ({"hints": hints} if hints else {}))
    else:
        print(harmless("\n".join([str(report), *(f"  {line}" for line in hints)])))
    return 0 if report.next is None else FAILED


# --- options --------------------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the tasks of `minivlm course`."""
    arguments.add_commands(parser, "task", TASKS)


def start_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("assignment", metavar="NAME", help="a1 to a7, see `minivlm course list`")
    parser.add_argument("folder", metavar="DIR", help="a new folder")
    copy = "copy the shipped models into it (default: links to them), for a folder that goes to another machine"
    parser.add_argument("--copy-weights", action="store_true", help=copy)


def check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", metavar="DIR", help="of the assignment (default: this one)")
    only = "only tests whose names hold this word, such as rotate in a2; repeatable (default: all tests)"
    parser.add_argument("--only", action="append", type=word, metavar="WORD", help=only)
    rungs = "help for the next thing to do: 1 is a question, 2 adds a pointer, 3 nearly the solution (default: none)"
    parser.add_argument("--hint", type=int, choices=(1, 2, 3), help=rungs)
    arguments.add_json(parser)


TASKS: dict[str, Command[Any]] = {
    "list": Command(list_assignments, Request, arguments.no_options, "say what assignments there are"),
    "start": Command(
        start_assignment,
        StartRequest,
        start_options,
        "write a student's folder: the package with holes, its tests and a handout",
    ),
    "check": Command(
        check_folder,
        CheckRequest,
        check_options,
        "run the tests of a student's folder: points so far, and the next thing to do",
    ),
    "grade": Command(
        grade_folders, GradeRequest, grade_options, "judge what students handed in, on inputs from a secret seed"
    ),
    "similar": Command(
        find_similar, SimilarRequest, similar_options, "name students who handed in the same, or nearly the same"
    ),
}
