"""What the tests of an assignment should show: what the whole package shows, for a seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minivlm.course.assignments import Assignment, Task
from minivlm.course.kit.show import Shown
from minivlm.course.package import PACKAGE
from minivlm.course.supervise import Job, supervise
from minivlm.errors import CourseError
from minivlm.files import write_json

PUBLIC = "public"  # the seed of what students see
SEEDS = "seeds.json"
PATIENCE = 120.0  # seconds for a test of the reference
LEAST = 1.0  # seconds that a speed test always has


@dataclass(frozen=True)
class Reference:
    """Expected values, and the seconds that the whole package took for each test (none if that was elsewhere)."""

    seed: str
    shown: dict[str, Shown]
    seconds: dict[str, float]

    @classmethod
    def of(cls, row: Assignment, seed: str) -> "Reference":
        """Run the tests on this package. The zoo has no expected values: there, students write the tests."""
        if row.is_zoo:
            return cls(seed, {}, {})
        jobs = [Job(task.test, seed_of(seed, row, task), PATIENCE, task.megabytes) for task in row.tasks]
        outcomes = supervise(PACKAGE.parent, PACKAGE / "course" / "kit" / row.tests, jobs)
        for outcome in outcomes:
            if outcome.status != "ran" or outcome.shown is None:
                raise CourseError(
                    f"The package fails its own test {outcome.test} ({outcome.status}: {outcome.error} "
                    f"{outcome.message}). Was it changed, or is another version installed?"
                )
        return cls(
            seed,
            {outcome.test: outcome.shown for outcome in outcomes},
            {outcome.test: outcome.seconds for outcome in outcomes},
        )

    @classmethod
    def load(cls, folder: Path, row: Assignment) -> "Reference":
        """What `save` wrote."""
        try:
            shown = {} if row.is_zoo else {t.test: Shown.load(folder / f"{t.test}.safetensors") for t in row.tasks}
        except Exception as error:  # safetensors has its own
            raise CourseError(
                f"The expected values in {folder} cannot be read ({error}). Take them from the folder as handed out."
            ) from error
        return cls(PUBLIC, shown, {})

    def save(self, folder: Path, row: Assignment) -> None:
        """One file a test, and the seeds of the inputs."""
        folder.mkdir()
        seeds = {task.test: seed_of(self.seed, row, task) for task in row.tasks}
        write_json(folder / SEEDS, seeds, indent=1)
        for test, shown in self.shown.items():
            shown.save(folder / f"{test}.safetensors")

    def limit(self, task: Task) -> float:
        """The seconds that a student's solution has for a test."""
        took = self.seconds.get(task.test)
        return task.seconds if task.times is None or took is None else max(LEAST, task.times * took)


def jobs_of(row: Assignment, reference: Reference, tasks: Sequence[Task] | None = None) -> list[Job]:
    """The tests of an assignment as jobs."""
    return [
        Job(task.test, seed_of(reference.seed, row, task), reference.limit(task), task.megabytes)
        for task in (row.tasks if tasks is None else tasks)
    ]


def seed_of(secret: str, row: Assignment, task: Task) -> int:
    """The seed of one test. It does not give the secret away."""
    digest = hashlib.sha256(f"{secret}/{row.name}/{task.test}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
