"""The grades as files for Canvas and Moodle, made from the table of all grades.

Students are known to both by the name of their folder, which must be their login.

Canvas reads a gradebook by its first lines (`lib/gradebook_importer.rb` in github.com/instructure/canvas-lms): the
first column's title holds "Student", the second one's "ID", the third may be "SIS Login ID", the last one before the
assignments holds "Section"; a line whose first cell holds "Points Possible" says how many points there are.

Moodle asks which column is what (https://docs.moodle.org/en/Grade_import, and `grade/import/csv` in
github.com/moodle/moodle): username, email, ID number or the grade of an item, and its feedback.
"""

from collections.abc import Sequence
from pathlib import Path

from minivlm.course.assignments import Assignment
from minivlm.course.grade_table import write_csv

CANVAS, MOODLE = "canvas.csv", "moodle.csv"
POINTS_POSSIBLE = "    Points Possible"  # as Canvas itself writes it


def write_exports(row: Assignment, students: Sequence[dict[str, str]], out: Path) -> list[Path]:
    """Write both files from the lines of the table; returns their paths."""
    name = f"{row.name} {row.title}".replace(",", "")
    canvas = [["Student", "ID", "SIS Login ID", "Section", name], [POINTS_POSSIBLE, "", "", "", str(row.points)]]
    canvas += [[student["student"], "", student["student"], "", student["points"]] for student in students]
    moodle = [["Username", name, f"{name} (feedback)"]]
    moodle += [[student["student"], student["points"], feedback(row, student)] for student in students]
    write_csv(out / CANVAS, canvas)
    write_csv(out / MOODLE, moodle)
    return [out / CANVAS, out / MOODLE]


def feedback(row: Assignment, student: dict[str, str]) -> str:
    """Points by test, for the student to read. No notes: they are the teacher's."""
    tests = [
        f"{task.test.removeprefix('test_').replace('_', ' ')}: {student[task.test]}/{task.points}" for task in row.tasks
    ]
    late = [f"taken off for lateness: {student['late']}"] if student["late"] not in ("", "0") else []
    return "; ".join([*tests, *late])
