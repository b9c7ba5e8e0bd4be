"""Grade what many students handed in, on inputs from a secret seed, against this package.

Each student's code runs in a separate process, which gets the inputs and returns what the tests showed. Only the
grader's process knows the expected values.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from minivlm.course.archive import opened
from minivlm.course.assignments import Assignment
from minivlm.course.class_seed import ClassSeed
from minivlm.course.follow_through import followed
from minivlm.course.grade_report import GradeReport
from minivlm.course.hunt import hunt
from minivlm.course.judging import judged
from minivlm.course.ladder import FREE, TAKEN, charged
from minivlm.course.late import Lateness, Policy
from minivlm.course.package import PACKAGE, require_whole
from minivlm.course.project import KIT, NOTE
from minivlm.course.reference import Reference
from minivlm.course.submission import assemble, real, remarks, started_for_another, suspicions
from minivlm.course.variants import TOGETHER, references
from minivlm.course.verdict import FOLLOW_THROUGH, OPEN, Verdict, shortened
from minivlm.errors import CourseError

TABLE = "grades.csv"
RESERVED = (TABLE, "canvas.csv", "moodle.csv", "statistics.txt")  # no student can be called so
VARIANT_DIGITS = 6


@dataclass(frozen=True)
class Graded:
    """One student's report, and remarks about the folder."""

    student: str
    report: GradeReport
    notes: tuple[str, ...] = ()
    late: Lateness = field(default_factory=Lateness)
    variant: str = ""  # which inputs the student got, as a few digits that do not reveal the seed

    @property
    def deducted(self) -> float:
        """The points that lateness costs, to a tenth."""
        return round(self.report.points * self.late.share, 1)

    @property
    def points(self) -> float:
        """The points that count."""
        return round(self.report.points - self.deducted, 1)


@dataclass(frozen=True)
class Grader:
    """What is needed to grade any student of one assignment."""

    assignment: Assignment
    reference: Reference
    denied: tuple[Path, ...]  # folders that student code may not read
    seed: ClassSeed | None = None  # of the class, if every student gets other inputs; None for the reference's
    policy: Policy = field(default_factory=Policy)
    own: Mapping[str, Reference] = field(default_factory=dict)  # references of students, by their secret
    follow_through: float = FOLLOW_THROUGH  # the share of points of a test that fails by an earlier function alone
    hint_costs: Sequence[int] = FREE  # points for the rungs of a hint

    def with_references(self, folders: Sequence[Path]) -> "Grader":
        """The grader with the values to expect from these students, if each gets other inputs."""
        if self.seed is None or self.assignment.is_zoo:
            return self
        secrets = [self.seed.of_student(student(folder)).secret for folder in folders]
        return replace(self, own=references(self.assignment, secrets))

    def grade(self, folder: Path) -> Graded:
        """Grade one folder or zip file. Any error becomes a remark: the other students are graded all the same."""
        name, names = student(folder), self.assignment.handed_in
        try:
            with TemporaryDirectory(ignore_cleanup_errors=True) as place:
                found = opened(folder, (*names, NOTE, TAKEN), Path(place) / "opened")
                if other := started_for_another(self.assignment, found.folder):
                    return self.without_points(name, other)
                late = self.policy.of(name, folder, names)
                graded = self.of_student(name).graded(name, found.folder)
                report, about_hints = charged(graded.report, found.folder, self.hint_costs)
            notes = (*found.notes, *graded.notes, *about_hints, *filter(None, [late.note]))
            return replace(graded, report=report, notes=notes, late=late)
        except Exception as error:
            note = f"Not graded, look at it by hand: {type(error).__name__}: {shortened(str(error))}"
            return self.without_points(name, note)

    def of_student(self, name: str) -> "Grader":
        """The grader with this student's inputs, and the values to expect for them. Speed is measured against the
        slower of two runs of the package: this one, and the class's, which ran alone.
        """
        if self.seed is None:
            return self
        secret = self.seed.of_student(name).secret
        own = self.own.get(secret) or Reference.of(self.assignment, secret)
        slower = {test: max(took, self.reference.seconds.get(test, 0.0)) for test, took in own.seconds.items()}
        return replace(self, reference=replace(own, seconds=slower))

    def graded(self, name: str, folder: Path) -> Graded:
        """Run the tests on what lies in a folder."""
        with TemporaryDirectory(ignore_cleanup_errors=True) as place:
            notes = [*remarks(folder), *assemble(self.assignment, folder, Path(place))]
            notes += suspicions(Path(place, "tests", self.assignment.tests)) if self.assignment.is_zoo else []
            report = self.hunted(Path(place)) if self.assignment.is_zoo else self.judged(Path(place))
        variant = ClassSeed(self.reference.seed).derived("variant").secret[:VARIANT_DIGITS]
        return Graded(name, report, tuple(notes), variant=variant)

    def without_points(self, name: str, note: str) -> Graded:
        """A report without points, of tests that were not run; `note` says why."""
        nothing = tuple(Verdict(task, OPEN) for task in self.assignment.tasks)
        return Graded(name, GradeReport(self.assignment, nothing), (note,))

    def judged(self, project: Path) -> GradeReport:
        """Run the kit's tests on the student's functions, and some of them again, see `followed`."""
        row, reference = self.assignment, self.reference
        first = judged(row, reference, project, KIT / row.tests, self.denied)
        return GradeReport(row, followed(row, reference, project, self.denied, first, self.follow_through))

    def hunted(self, project: Path) -> GradeReport:
        """Run the student's tests of the zoo on this package, with and without bugs."""
        row, tests = self.assignment, project / "tests" / self.assignment.tests
        return GradeReport(row, tuple(hunt(row, row.tasks, tests, self.reference.seed, self.denied)))


def grade(
    row: Assignment,
    folders: Sequence[Path],
    seed: ClassSeed | str,
    out: Path,
    jobs: int = 1,
    *,
    variants: bool = True,
    policy: Policy | None = None,
    follow_through: float = FOLLOW_THROUGH,
    hint_costs: Sequence[int] = FREE,
) -> Iterator[Graded]:
    """Grade the `folders` in their order, `jobs` at a time. `seed`, or the word it is made of, must be kept secret.
    `follow_through`: see `followed`; `hint_costs`: points for each rung of a hint that a folder says was taken.

    With `variants`, each student gets inputs of their own, made of the seed and the student's name. Student code may
    read neither `out`, where the results are written, nor the folders that hold the `folders`, nor the current folder.
    Raises `CourseError` if a folder is missing or two have the same name.
    """
    require_whole()
    require_names(folders)
    places = {Path.cwd(), real(out), *(real(path).parent for path in folders)}
    denied = (PACKAGE, *(path for path in places if path.parent != path))
    seed = ClassSeed.of(seed) if isinstance(seed, str) else seed
    reference, own_seed = Reference.of(row, seed.secret), seed if variants else None
    grader = Grader(row, reference, denied, own_seed, policy or Policy())
    grader = replace(grader, follow_through=follow_through, hint_costs=hint_costs)
    together = max(TOGETHER, jobs)
    with ThreadPoolExecutor(jobs) as pool:
        for first in range(0, len(folders), together):
            some = folders[first : first + together]
            yield from pool.map(partial(Grader.grade, grader.with_references(some)), some)


def require_names(folders: Sequence[Path]) -> None:
    """Raise `CourseError` if a folder is missing, or if names, by which students are identified, are not unique."""
    if missing := [str(folder) for folder in folders if not os.path.lexists(folder)]:
        raise CourseError(f"Expected a folder for each student, found nothing at {', '.join(missing)}.")
    names = [student(folder) for folder in folders]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CourseError(f"Results are kept under the folders' names, but {', '.join(twice)} is there more than once.")
    if taken := sorted({*RESERVED} & {*names}):
        raise CourseError(f"A file of the results is called {taken[0]}: no student's folder can be. Rename it.")


def student(folder: Path) -> str:
    """The name of a student's folder, whatever it holds, or of a zip file without its ending; bytes that are no text
    are spelt out, so names stay apart.
    """
    path = Path(os.path.abspath(folder))
    name = path.stem if path.suffix.lower() == ".zip" and path.is_file() else path.name
    return name.encode("utf-8", "backslashreplace").decode()  # an archive may have used another encoding
