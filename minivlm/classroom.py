"""The commands of the course: what there is, a folder to work in, points so far, and grades."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.course.assignments import ASSIGNMENTS, assignment
from minivlm.errors import CourseError
from minivlm.terminal import harmless, print_json, remark

if TYPE_CHECKING:
    from minivlm.course.grade import Graded

UNFINISHED = 1


def course(args: Namespace) -> None:
    """take the course, or give it: parts of this package to write yourself, with points and grades"""


def list_assignments(args: Namespace) -> None:
    """say what assignments there are"""
    for row in ASSIGNMENTS.values():
        print(f"{row.name}  {row.title:44} {len(row.tasks):2} tests  {row.minutes:3} minutes")
        functions = [name for names in row.holes.values() for name in names]
        print(f"    {', '.join(functions) or 'tests that catch real bugs'}")
    print("\nminivlm course start a1 DIR   writes the folder of one of them")


def start_assignment(args: Namespace) -> None:
    """write a student's folder: the package with holes, its tests and a handout"""
    from minivlm.course.project import start

    row = assignment(args.assignment)
    remark(f"Writing {args.folder} …" if row.is_zoo else f"Running the tests of {row.name}, for the values to expect …")
    folder = start(row, Path(args.folder)).path
    print(f"{folder} is ready for {row.name} · {row.title}. Begin with {folder / row.name}.ipynb.")


def check_folder(args: Namespace) -> int:
    """run the tests of a student's folder: points so far, and the next thing to do"""
    from minivlm.course.check import check
    from minivlm.course.project import Folder

    folder = Folder.read(Path(args.folder))
    remark(f"Checking {folder.assignment.name} …")
    report = check(folder, args.only)
    print_json(report.as_dict()) if args.json else print(harmless(str(report)))
    return 0 if report.next is None else UNFINISHED


def grade_folders(args: Namespace) -> None:
    """judge what students handed in, on inputs from a secret seed"""
    from minivlm.course.grade import TABLE, grade
    from minivlm.course.gradescope import require_same_table, write_results, write_table

    folders, out = [Path(folder) for folder in args.folders], Path(args.out)
    row = assignment(args.assignment or common_assignment(folders))
    require_same_table(row, out)
    out.mkdir(parents=True, exist_ok=True)
    remark(f"Grading {row.name} · {row.title}, {len(folders)} of them …")
    all_graded, began = [], time.monotonic()
    for graded in grade(row, folders, args.seed, out, args.jobs):
        write_results(graded, out)
        all_graded.append(graded)
        write_table(row, all_graded, out)  # each time: what is done survives an interruption
        print(line_of(graded), flush=True)
    remark(f"{len(folders)} graded in {time.monotonic() - began:.0f} s: {out / TABLE}, and a results.json for each.")


def common_assignment(folders: list[Path]) -> str:
    """What the folders were started for, as far as they say."""
    from minivlm.course.submission import started_for

    names = {started_for(folder) for folder in folders} - {""}
    if len(names) != 1:
        found = f"they were started for {', '.join(sorted(names))}" if names else "none of the folders says"
        raise CourseError(f"Which assignment is to be graded? Name it with --assignment: {found}.")
    return names.pop()


def line_of(graded: Graded) -> str:
    """ "ada     85/100" """
    notes = f"  {' '.join(graded.notes)}" if graded.notes else ""
    return harmless(f"{graded.student:24} {graded.report.points:3}/{graded.report.most}{notes}")
