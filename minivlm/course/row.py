"""What an assignment is: functions that are taken out, tests that judge them, points, limits of time and memory.

An assignment consists of this, its tests (`kit/test_a1.py` …) and its handout (`notebooks/assignments`).
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One test, and what it is worth."""

    test: str  # a function of the assignment's test file
    points: int
    needs: str  # the functions that must be written for it
    hint: str = ""  # where to look first if a value is wrong
    seconds: float = 20.0
    times: float | None = None  # of a speed test: when graded, its limit is this many times the reference's seconds
    megabytes: int = 1000  # limit of memory beyond what the process held before
    bug: str = ""  # of the zoo: the test must fail with this bug, and pass without it


@dataclass(frozen=True)
class Assignment:
    """One row of the table. Holes and tasks are in the order in which they are best done."""

    name: str
    title: str
    minutes: int  # of work to plan for it
    tasks: tuple[Task, ...]
    holes: Mapping[str, tuple[str, ...]]  # names of functions, by their file in the package
    hidden: tuple[str, ...] = ()  # files of the package that would reveal the solution

    @property
    def points(self) -> int:
        return sum(task.points for task in self.tasks)

    @property
    def tests(self) -> str:
        """The name of the file with its tests."""
        return "test_zoo.py" if self.is_zoo else f"test_{self.name}.py"

    @property
    def is_zoo(self) -> bool:
        """Whether this is the bug zoo: the student writes tests, and no function is taken out."""
        return not self.holes

    @property
    def handed_in(self) -> tuple[str, ...]:
        """What a student hands in, as paths in the student's folder."""
        return (f"tests/{self.tests}",) if self.is_zoo else tuple(f"minivlm/{file}" for file in self.holes)
