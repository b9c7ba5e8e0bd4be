"""Judging what many students handed in, on inputs from a secret seed, against this package.

A student's code runs in a process of its own, which gets inputs and gives back what the tests showed: what is right is
known to the grader's process alone.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from minivlm.course.assignments import Assignment
from minivlm.course.grade_report import GradeReport
from minivlm.course.hunt import hunt
from minivlm.course.package import PACKAGE, require_whole
from minivlm.course.project import KIT
from minivlm.course.reference import Reference, jobs_of
from minivlm.course.submission import assemble, remarks, started_for_another, suspicions
from minivlm.course.supervise import supervise
from minivlm.course.verdict import OPEN, Verdict, judge, shortened
from minivlm.errors import CourseError

TABLE = "grades.csv"


@dataclass(frozen=True)
class Graded:
    """One student's report, and what was odd about the folder."""

    student: str
    report: GradeReport
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grader:
    """All that judging one student after the other needs."""

    assignment: Assignment
    reference: Reference
    denied: tuple[Path, ...]  # what no student's code may read

    def grade(self, folder: Path) -> Graded:
        """Judge one folder. Whatever goes wrong on the way, the class goes on."""
        name = folder.resolve().name.encode("utf-8", "replace").decode()  # archives have names in other encodings
        try:
            if other := started_for_another(self.assignment, folder):
                return self.without_points(name, other)
            with TemporaryDirectory(ignore_cleanup_errors=True) as place:
                notes = [*remarks(folder), *assemble(self.assignment, folder, Path(place))]
                notes += suspicions(Path(place, "tests", self.assignment.tests)) if self.assignment.is_zoo else []
                report = self.hunted(Path(place)) if self.assignment.is_zoo else self.judged(Path(place))
            return Graded(name, report, tuple(notes))
        except Exception as error:
            note = f"Not graded, look at it by hand: {type(error).__name__}: {shortened(str(error))}"
            return self.without_points(name, note)

    def without_points(self, name: str, note: str) -> Graded:
        """A report of tests that were not run, and why."""
        nothing = tuple(Verdict(task, OPEN) for task in self.assignment.tasks)
        return Graded(name, GradeReport(self.assignment, nothing), (note,))

    def judged(self, project: Path) -> GradeReport:
        """The tests of the kit, on the student's functions."""
        row, reference = self.assignment, self.reference
        outcomes = supervise(project, KIT / row.tests, jobs_of(row, reference), denied=self.denied)
        pairs = zip(row.tasks, outcomes, strict=True)
        return GradeReport(row, tuple(judge(t, out, reference.shown[t.test], reference.limit(t)) for t, out in pairs))

    def hunted(self, project: Path) -> GradeReport:
        """The student's tests, on this package."""
        row, tests = self.assignment, project / "tests" / self.assignment.tests
        return GradeReport(row, tuple(hunt(row, row.tasks, tests, self.reference.seed, self.denied)))


def grade(row: Assignment, folders: Sequence[Path], seed: str, out: Path, jobs: int = 1) -> Iterator[Graded]:
    """Judge each of the `folders`, `jobs` at a time, in their order. `seed`: keep it to yourself.

    `out` is where the results will be: students' code may not read there, nor where folders lie, nor where this runs.
    """
    require_whole()
    require_names(folders)
    places = {Path.cwd(), out.resolve(), *(path.resolve().parent for path in folders)}
    grader = Grader(row, Reference.of(row, seed), (PACKAGE, *(path for path in places if path.parent != path)))
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(partial(Grader.grade, grader), folders)


def require_names(folders: Sequence[Path]) -> None:
    """Students are known by the names of their folders: those must exist and differ."""
    if missing := [str(folder) for folder in folders if not folder.exists()]:
        raise CourseError(f"Expected a folder for each student, found nothing at {', '.join(missing)}.")
    names = [folder.resolve().name for folder in folders]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CourseError(f"Results are kept under the folders' names, but {', '.join(twice)} is there more than once.")
    if TABLE in names:
        raise CourseError(f"The table of all grades is called {TABLE}: no student's folder can be. Rename it.")
