"""Results as files: a results.json for each student, in Gradescope's format, and one table for all students.

Format: https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from minivlm.course.assignments import Assignment
from minivlm.course.grade import TABLE, Graded
from minivlm.course.verdict import RIGHT, Verdict
from minivlm.errors import CourseError
from minivlm.files import one_line, replace_file, write_json

RESULTS = "results.json"


def write_results(graded: Graded, out: Path) -> Path:
    """Write results.json into this student's folder below `out`; returns its path."""
    folder = out / graded.student
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / RESULTS
    write_json(file, results(graded), indent=1)
    return file


def results(graded: Graded) -> dict:
    """What Gradescope shows: points, remarks and, for each test, what happened."""
    report = graded.report
    opening = f"{report.assignment.name} · {report.assignment.title}: {report.points} of {report.most} points."
    return {
        "score": report.points,
        "execution_time": round(sum(verdict.seconds for verdict in report.verdicts), 1),
        "output": "\n".join([opening, *graded.notes]),
        "visibility": "visible",
        "tests": [as_test(verdict) for verdict in report.verdicts],
    }


def as_test(verdict: Verdict) -> dict:
    """One test in Gradescope's format."""
    return {
        "name": verdict.title,
        "score": verdict.points,
        "max_score": verdict.task.points,
        "status": "passed" if verdict.state == RIGHT else "failed",
        "output": "\n".join(filter(None, [verdict.sentence, verdict.hint])),
        "visibility": "visible",
    }


def write_table(row: Assignment, all_graded: Sequence[Graded], out: Path) -> Path:
    """Write a line for each student: points in all, points of each test, remarks. Lines of other students stay.

    The file begins with the byte order mark of UTF-8, without which Excel misreads names. Returns its path.
    """
    file, heading = out / TABLE, heading_of(row)
    lines = {line[0]: line for line in lines_of(file)[1:]}
    for graded in all_graded:
        student, remarks = safe(graded.student), safe(" ".join(graded.notes))
        points = [str(verdict.points) for verdict in graded.report.verdicts]
        lines[student] = [student, str(graded.report.points), *points, remarks]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([heading, *(lines[student] for student in sorted(lines))])
    replace_file(file, lambda part: part.write_bytes(table.getvalue().encode("utf-8-sig", "replace")))
    return file


def require_same_table(row: Assignment, out: Path) -> None:
    """Raise `CourseError` if the table in the folder has other columns than this assignment's."""
    if (lines := lines_of(out / TABLE)) and lines[0] != heading_of(row):
        raise CourseError(f"{out / TABLE} is not a table of {row.name}, as it is now. Name another folder with --out.")


def heading_of(row: Assignment) -> list[str]:
    return ["student", "points", *(task.test for task in row.tasks), "notes"]


def lines_of(file: Path) -> list[list[str]]:
    """The lines of a table, without empty ones; none if the file does not exist. Raises `CourseError` for no table."""
    if not file.is_file():
        return []
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return [line for line in csv.reader(stream) if line]
    except (OSError, ValueError, csv.Error) as cause:
        raise CourseError(f"{file} cannot be read as a table: {one_line(cause)}. Name another --out.") from cause


def safe(cell: str) -> str:
    """A cell that a spreadsheet does not read as a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
