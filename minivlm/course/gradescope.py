"""Results as files: one results.json a student, as Gradescope reads it, and one table for all.

Format: https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from minivlm.course.assignments import Assignment
from minivlm.course.grade import Graded
from minivlm.course.verdict import RIGHT, Verdict

RESULTS, TABLE = "results.json", "grades.csv"


def write_results(graded: Graded, out: Path) -> Path:
    """Write results.json into a folder of this student, and say where."""
    folder = out / graded.student
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / RESULTS
    file.write_text(json.dumps(results(graded), indent=1) + "\n", encoding="utf-8")
    return file


def results(graded: Graded) -> dict:
    """What Gradescope shows: the points and, for each test, what happened."""
    report = graded.report
    opening = f"{report.assignment.name} · {report.assignment.title}: {report.points} of {report.most} points."
    return {
        "score": report.points,
        "execution_time": round(sum(verdict.seconds for verdict in report.verdicts)),
        "output": "\n".join([opening, *graded.notes]),
        "visibility": "visible",
        "tests": [as_test(verdict) for verdict in report.verdicts],
    }


def as_test(verdict: Verdict) -> dict:
    """One test in Gradescope's words."""
    return {
        "name": verdict.title,
        "score": verdict.points,
        "max_score": verdict.task.points,
        "status": "passed" if verdict.state == RIGHT else "failed",
        "output": "\n".join(filter(None, [verdict.sentence, verdict.hint])),
        "visibility": "visible",
    }


def write_table(row: Assignment, all_graded: Sequence[Graded], out: Path) -> Path:
    """One line a student: the points in all and test by test, and what was odd."""
    file = out / TABLE
    with file.open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["student", "points", *(task.test for task in row.tasks), "notes"])
        for graded in all_graded:
            points = [verdict.points for verdict in graded.report.verdicts]
            table.writerow([safe(graded.student), graded.report.points, *points, safe(" ".join(graded.notes))])
    return file


def safe(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
