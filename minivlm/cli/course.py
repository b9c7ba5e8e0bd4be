"""The commands of the course: list assignments, start one, check a student's folder, grade a class."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.cli import arguments
from minivlm.cli.arguments import Command
from minivlm.cli.options import Request
from minivlm.cli.terminal import print_json, remark
from minivlm.course.assignments import ASSIGNMENTS, assignment
from minivlm.errors import CourseError
from minivlm.files import harmless, path_of
from minivlm.shell import FAILED

if TYPE_CHECKING:
    from minivlm.course.grade import Graded


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


@dataclass(frozen=True, kw_only=True)
class GradeRequest(Request):
    """Students' folders and the secret seed; `assignment`: None to read it from the folders; `jobs`: at a time."""

    folders: tuple[str, ...]
    seed: str
    out: str
    assignment: str | None = None
    jobs: int = 1
    hint_costs: tuple[int, ...] = (0, 0, 0)


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
    from minivlm.course.ladder import hints_for
    from minivlm.course.project import Folder

    folder = Folder.read(path_of(request.folder, CourseError))
    remark(f"Checking {folder.assignment.name} …")
    report = check(folder, request.only)
    hints = hints_for(folder, report, request.hint) if request.hint else []
    if request.json:
        print_json(report.as_dict() | ({"hints": hints} if hints else {}))
    else:
        print(harmless("\n".join([str(report), *(f"  {line}" for line in hints)])))
    return 0 if report.next is None else FAILED


def grade_folders(request: GradeRequest) -> int | None:
    """Grade the folders one after the other; write grades.csv and a results.json for each into `out`. FAILED if one of
    these could not be written.

    Raises `CourseError` if it is not clear which assignment they are for, or `out` has a table of another one.
    """
    from minivlm.course.grade import TABLE, grade
    from minivlm.course.gradescope import require_same_table, write_results, write_table

    folders, out = [path_of(folder, CourseError) for folder in request.folders], path_of(request.out, CourseError)
    row = assignment(request.assignment or common_assignment(folders))
    require_same_table(row, out)
    out.mkdir(parents=True, exist_ok=True)
    remark(f"Grading {row.name} · {row.title}, {len(folders)} of them …")
    all_graded, unwritten, began = [], 0, time.monotonic()
    for graded in grade(row, folders, request.seed, out, request.jobs, request.hint_costs):
        try:
            write_results(graded, out)
        except OSError as error:  # the others are graded all the same
            unwritten += 1
            remark(f"minivlm: {error.filename}: {error.strerror}.")
        all_graded.append(graded)
        write_table(row, all_graded, out)  # each time: what is done survives an interruption
        print(line_of(graded), flush=True)
    remark(f"{len(folders)} graded in {time.monotonic() - began:.0f} s: {out / TABLE}, and a results.json for each.")
    return FAILED if unwritten else None


def common_assignment(folders: list[Path]) -> str:
    """The assignment that most of the folders were started for, of those that say so. Raises `CourseError` without a
    majority: a few that are for another one must not keep the rest from being graded.
    """
    from minivlm.course.submission import started_for

    names = Counter(name for folder in folders if (name := started_for(folder)))
    if not names or 2 * max(names.values()) <= names.total():
        reason = f"they were started for {', '.join(sorted(names))}" if names else "none of the folders says"
        raise CourseError(f"Which assignment is to be graded? Name it with --assignment: {reason}.")
    return max(names, key=lambda name: names[name])


def line_of(graded: Graded) -> str:
    """ "ada     85/100" """
    notes = f"  {' '.join(graded.notes)}" if graded.notes else ""
    return harmless(f"{graded.student:24} {graded.report.points:3}/{graded.report.most}{notes}")


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
    only = "only tests whose names hold this word, such as padding; repeatable (default: all tests)"
    parser.add_argument("--only", action="append", type=word, metavar="WORD", help=only)
    rungs = "help for the next thing to do: 1 is a question, 2 adds a pointer, 3 nearly the solution (default: none)"
    parser.add_argument("--hint", type=int, choices=(1, 2, 3), help=rungs)
    arguments.add_json(parser)


def grade_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", metavar="DIR", help="what a student handed in; named like the student")
    seed = "a word from which the tests' inputs are drawn; keep it secret, and take a new one each time"
    parser.add_argument("--seed", required=True, type=word, metavar="SECRET", help=seed)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="results.json for each student, and grades.csv")
    started = "what they were to do (default: what assignment.json in their folders says)"
    parser.add_argument("--assignment", metavar="NAME", help=started)
    jobs = f"students at a time (default: {GradeRequest.jobs}, for times that can be compared)"
    costs = "points that a question, a pointer and a near-solution cost, such as 0,1,2 (default: none)"
    parser.add_argument("--hint-costs", type=three_points, metavar="P,P,P", help=costs)
    parser.add_argument("--jobs", type=arguments.whole_number(1), metavar="N", help=jobs)


def word(text: str) -> str:
    """The type of an option whose value must not be blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a word, found nothing")
    return text


def three_points(text: str) -> tuple[int, ...]:
    """The type of an option with points for the three rungs of a hint, "0,1,2"."""
    parts = text.split(",")
    if len(parts) != len(GradeRequest.hint_costs) or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected three whole numbers such as 0,1,2, found {text!r}")
    return tuple(map(int, parts))


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
}
