"""The table of all grades, grades.csv: a line for each student, each with the circumstances under which it was graded.

Lines that were graded under other circumstances (another seed, version of minivlm or late policy, or with the same
inputs for all) do not stand in one table: such a run is refused before it begins.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from minivlm import __version__
from minivlm.course.assignments import Assignment
from minivlm.course.grade import TABLE, Graded
from minivlm.course.incidents import incidents
from minivlm.errors import CourseError
from minivlm.files import one_line, replace_file

RUN = ("seed", "version", "inputs", "policy")  # columns that must be the same in all lines
LAST = ("late", "handed_in", "seconds", *RUN, "variant", "date", "notes")  # columns behind those of the tests
PER_STUDENT, ALIKE = "per student", "the same for all"


@dataclass(frozen=True)
class Run:
    """The circumstances of one run of the grader."""

    seed: str  # the fingerprint, never the seed
    version: str = __version__
    inputs: str = PER_STUDENT
    policy: str = ""
    date: str = ""

    @classmethod
    def now(cls, fingerprint: str, variants: bool = True, policy: str = "") -> "Run":
        """A run that begins now."""
        date = datetime.now().astimezone().isoformat(timespec="minutes")
        return cls(fingerprint, inputs=PER_STUDENT if variants else ALIKE, policy=policy, date=date)

    def __str__(self) -> str:
        parts = [f"seed {self.seed}", f"minivlm {self.version}", f"inputs {self.inputs}"]
        return ", ".join([*parts, self.policy or "nothing late"])


def write_table(row: Assignment, all_graded: Sequence[Graded], out: Path, run: Run) -> Path:
    """Write a line for each student: points, circumstances, remarks. Lines of other students stay.

    The file begins with the byte order mark of UTF-8, without which Excel misreads names. Returns its path.
    """
    file, heading = out / TABLE, heading_of(row)
    lines = {line[0]: line for line in lines_of(file)[1:]}
    for graded in all_graded:
        line = line_of(graded, run)
        lines[line[0]] = line
    write_csv(file, [heading, *(lines[student] for student in sorted(lines))], "utf-8-sig")
    return file


def line_of(graded: Graded, run: Run) -> list[str]:
    """One student's line, in the order of `heading_of`."""
    verdicts, late = graded.report.verdicts, graded.late
    values = {
        "late": f"{graded.deducted:g}",
        "handed_in": late.at.isoformat(timespec="seconds") if late.at else "",
        "seconds": f"{sum(verdict.seconds for verdict in verdicts):.1f}",
        "variant": graded.variant,
        "date": run.date,
        "notes": " ".join([*graded.notes, *incidents(verdicts)]),
    }
    values |= {name: getattr(run, name) for name in RUN}
    points = [f"{graded.points:g}", *(f"{verdict.points:g}" for verdict in verdicts)]
    return [safe(graded.student), *points, *(safe(values[name]) for name in LAST)]


def heading_of(row: Assignment) -> list[str]:
    return ["student", "points", *(task.test for task in row.tasks), *LAST]


def write_csv(file: Path, lines: Sequence[Sequence[str]], encoding: str = "utf-8") -> None:
    """Write a table in one piece; what is no text becomes a question mark."""
    table = io.StringIO(newline="")
    csv.writer(table).writerows(lines)
    replace_file(file, lambda part: part.write_bytes(table.getvalue().encode(encoding, "replace")))


def require_same_table(row: Assignment, out: Path, run: Run) -> None:
    """Raise `CourseError` if the table in the folder has other columns than this assignment's, or lines that were
    graded under other circumstances than this run's: one table would then hold grades that cannot be compared.
    """
    lines = lines_of(out / TABLE)
    if not lines:
        return
    if lines[0] != heading_of(row):
        raise CourseError(f"{out / TABLE} is not a table of {row.name}, as it is now. Name another folder with --out.")
    for student in students(lines):
        before = Run(*(student[name] for name in RUN))
        if str(before) != str(run):
            raise CourseError(
                f"{out / TABLE} has grades of another run ({before}), and this one has {run}. They cannot stand in one "
                "table: name another folder with --out, or grade with what was used there."
            )


def students(lines: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """The lines of a table by the names of its columns; a line that was cut has "" in place of what is missing."""
    if not lines:
        return []
    heading = lines[0]
    return [dict(zip(heading, [*line, *[""] * len(heading)], strict=False)) for line in lines[1:]]


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
    """A cell that a spreadsheet does not read as a formula. Different texts remain different, as names must."""
    return f"'{cell}" if cell.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r")) else cell
