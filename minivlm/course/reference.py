"""Expected values: what the tests of an assignment show on the complete package, for a seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minivlm.course.assignments import Assignment, Task
from minivlm.course.beside import Took, save_took
from minivlm.course.kit.show import Shown
from minivlm.course.outcome import Job
from minivlm.course.package import PACKAGE
from minivlm.course.supervise import supervise
from minivlm.errors import CourseError
from minivlm.files import write_json

PUBLIC = "public"  # the seed of the values that students get
SEEDS = "seeds.json"
PATIENCE = 120.0  # seconds for a test on the complete package
LEAST = 1.0  # seconds that a speed test has at least


@dataclass(frozen=True)
class Reference:
    """Expected values by test, and the seconds that the complete package took (empty if the values were loaded)."""

    seed: str
    shown: dict[str, Shown]
    seconds: dict[str, float]
    took: dict[str, Took] = field(default_factory=dict)  # time and memory, to be shown beside a student's

    @classmethod
    def of(cls, row: Assignment, seed: str) -> "Reference":
        """Run the tests on this package. The zoo has no expected values: there, students write the tests.

        Raises `CourseError` if the package fails one.
        """
        if row.is_zoo:
            return cls(seed, {}, {})
        jobs = [Job(task.test, seed_of(seed, row, task), PATIENCE, task.megabytes) for task in row.tasks]
        shown, seconds, took = {}, {}, {}
        for outcome in supervise(PACKAGE.parent, PACKAGE / "course" / "kit" / row.tests, jobs):
            if outcome.status != "ran" or outcome.shown is None:
                raise CourseError(
                    f"The package fails its own test {outcome.test} ({outcome.status}: {outcome.error} "
                    f"{outcome.message}). Was it changed, or is another version installed?"
                )
            shown[outcome.test], seconds[outcome.test] = outcome.shown, outcome.seconds
            took[outcome.test] = Took.of(outcome)
        return cls(seed, shown, seconds, took)

    @classmethod
    def load(cls, folder: Path, row: Assignment) -> "Reference":
        """What `save` wrote into a folder. Raises `CourseError` if it cannot be read."""
        try:
            shown = {} if row.is_zoo else {t.test: Shown.load(folder / f"{t.test}.safetensors") for t in row.tasks}
        except Exception as error:  # safetensors raises classes of its own
            raise CourseError(
                f"The expected values in {folder} cannot be read ({error}). Take them from the folder as handed out."
            ) from error
        return cls(PUBLIC, shown, {})

    def save(self, folder: Path, row: Assignment) -> None:
        """Write a file of expected values for each test, the seeds of the inputs, and what the package took, into a new
        folder.
        """
        folder.mkdir()
        seeds = {task.test: seed_of(self.seed, row, task) for task in row.tasks}
        write_json(folder / SEEDS, seeds, indent=1)
        save_took(self.took, folder)
        for test, shown in self.shown.items():
            shown.save(folder / f"{test}.safetensors")

    def limit(self, task: Task) -> float:
        """The seconds that a solution has for a test: in a speed test, a multiple of what the package took."""
        took = self.seconds.get(task.test)
        return task.seconds if task.times is None or took is None else max(LEAST, task.times * took)


def jobs_of(row: Assignment, reference: Reference, tasks: Sequence[Task] | None = None) -> list[Job]:
    """The tests of an assignment as jobs."""
    return [
        Job(
            task.test, seed_of(reference.seed, row, task), reference.limit(task), task.megabytes, task.times is not None
        )
        for task in (row.tasks if tasks is None else tasks)
    ]


def seed_of(secret: str, row: Assignment, task: Task) -> int:
    """The seed of one test, from which nobody can compute the secret."""
    digest = hashlib.sha256(f"{secret}/{row.name}/{task.test}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
