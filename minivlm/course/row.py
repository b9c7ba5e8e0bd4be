"""What an assignment is: functions that are taken out, tests that judge them, points, time and memory.

That, its tests (`kit/test_a1.py` …) and its handout (`notebooks/assignments`) are all there is to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One test, and what it is worth."""

    test: str  # a function of the assignment's test file
    points: int
    needs: str  # the functions that it wants written
    hint: str = ""  # where to look first if a value is wrong
    seconds: float = 20.0
    times: float | None = None  # a speed test: when graded, so many times what the reference takes there
    megabytes: int = 1000  # beyond what the process held before
    bug: str = ""  # of the zoo: the test must fail under this bug, and pass without


@dataclass(frozen=True)
class Assignment:
    """One row of the table. Holes and tasks stand in the order in which they are best done."""

    name: str
    title: str
    minutes: int  # that a student should plan
    tasks: tuple[Task, ...]
    holes: Mapping[str, tuple[str, ...]]  # functions, by the file of the package that they stand in
    hidden: tuple[str, ...] = ()  # files of the package that would give the solution away

    @property
    def points(self) -> int:
        return sum(task.points for task in self.tasks)

    @property
    def tests(self) -> str:
        """The file of its tests."""
        return "test_zoo.py" if self.is_zoo else f"test_{self.name}.py"

    @property
    def is_zoo(self) -> bool:
        """Whether the student writes the tests, and the package is whole."""
        return not self.holes

    @property
    def handed_in(self) -> tuple[str, ...]:
        """What a student hands in, as paths in the student's folder."""
        return (f"tests/{self.tests}",) if self.is_zoo else tuple(f"minivlm/{file}" for file in self.holes)
