"""Grade what many students handed in, on inputs from a secret seed, against this package.

Each student's code runs in a separate process, which gets the inputs and returns what the tests showed. Only the
grader's process knows the expected values.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from minivlm.course.assignments import Assignment
from minivlm.course.grade_report import GradeReport
from minivlm.course.hunt import hunt
from minivlm.course.ladder import FREE, charged
from minivlm.course.package import PACKAGE, require_whole
from minivlm.course.project import KIT
from minivlm.course.reference import Reference, jobs_of
from minivlm.course.submission import assemble, real, remarks, started_for_another, suspicions
from minivlm.course.supervise import supervise
from minivlm.course.verdict import OPEN, Verdict, judge, shortened
from minivlm.errors import CourseError

TABLE = "grades.csv"


@dataclass(frozen=True)
class Graded:
    """One student's report, and remarks about the folder."""

    student: str
    report: GradeReport
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grader:
    """What is needed to grade any student of one assignment."""

    assignment: Assignment
    reference: Reference
    denied: tuple[Path, ...]  # folders that student code may not read
    hint_costs: Sequence[int] = FREE  # points for the rungs of a hint

    def grade(self, folder: Path) -> Graded:
        """Grade one folder. Any error becomes a remark, so that the other students are graded all the same."""
        name = student(folder)
        try:
            if other := started_for_another(self.assignment, folder):
                return self.without_points(name, other)
            with TemporaryDirectory(ignore_cleanup_errors=True) as place:
                notes = [*remarks(folder), *assemble(self.assignment, folder, Path(place))]
                notes += suspicions(Path(place, "tests", self.assignment.tests)) if self.assignment.is_zoo else []
                report = self.hunted(Path(place)) if self.assignment.is_zoo else self.judged(Path(place))
            report, about_hints = charged(report, folder, self.hint_costs)
            return Graded(name, report, (*notes, *about_hints))
        except Exception as error:
            note = f"Not graded, look at it by hand: {type(error).__name__}: {shortened(str(error))}"
            return self.without_points(name, note)

    def without_points(self, name: str, note: str) -> Graded:
        """A report without points, of tests that were not run; `note` says why."""
        nothing = tuple(Verdict(task, OPEN) for task in self.assignment.tasks)
        return Graded(name, GradeReport(self.assignment, nothing), (note,))

    def judged(self, project: Path) -> GradeReport:
        """Run the kit's tests on the student's functions."""
        row, reference = self.assignment, self.reference
        outcomes = supervise(project, KIT / row.tests, jobs_of(row, reference), denied=self.denied)
        pairs = zip(row.tasks, outcomes, strict=True)
        return GradeReport(row, tuple(judge(t, out, reference.shown[t.test], reference.limit(t)) for t, out in pairs))

    def hunted(self, project: Path) -> GradeReport:
        """Run the student's tests of the zoo on this package, with and without bugs."""
        row, tests = self.assignment, project / "tests" / self.assignment.tests
        return GradeReport(row, tuple(hunt(row, row.tasks, tests, self.reference.seed, self.denied)))


def grade(
    row: Assignment, folders: Sequence[Path], seed: str, out: Path, jobs: int = 1, hint_costs: Sequence[int] = FREE
) -> Iterator[Graded]:
    """Grade the `folders` in their order, `jobs` at a time. `seed` must be kept secret. `hint_costs`: points for each
    rung of a hint that a folder says was taken.

    Student code may read neither `out`, where the results are written, nor the folders that hold the `folders`, nor the
    current folder. Raises `CourseError` if a folder is missing or two have the same name.
    """
    require_whole()
    require_names(folders)
    places = {Path.cwd(), real(out), *(real(path).parent for path in folders)}
    denied = (PACKAGE, *(path for path in places if path.parent != path))
    grader = Grader(row, Reference.of(row, seed), denied, hint_costs)
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(partial(Grader.grade, grader), folders)


def require_names(folders: Sequence[Path]) -> None:
    """Raise `CourseError` if a folder is missing, or if names, by which students are identified, are not unique."""
    if missing := [str(folder) for folder in folders if not os.path.lexists(folder)]:
        raise CourseError(f"Expected a folder for each student, found nothing at {', '.join(missing)}.")
    names = [student(folder) for folder in folders]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CourseError(f"Results are kept under the folders' names, but {', '.join(twice)} is there more than once.")
    if TABLE in names:
        raise CourseError(f"The table of all grades is called {TABLE}: no student's folder can be. Rename it.")


def student(folder: Path) -> str:
    """The name of a student's folder, whatever it holds; bytes that are no text are spelt out, so names stay apart."""
    name = Path(os.path.abspath(folder)).name
    return name.encode("utf-8", "backslashreplace").decode()  # an archive may have used another encoding
