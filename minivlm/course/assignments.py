"""The table of assignments: which functions are taken out, which tests judge them, points, time and memory.

A row is all that an assignment is, beside its tests (`kit/test_a1.py` …) and its handout (`notebooks/assignments`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from minivlm.errors import CourseError


@dataclass(frozen=True)
class Task:
    """One test, and what it is worth."""

    test: str  # a function of the assignment's test file
    points: int
    needs: str  # the functions that it wants written
    hint: str = ""  # where to look first if it fails
    seconds: float = 20.0
    times: float | None = None  # a speed test: at most so many times what the reference takes, in place of `seconds`
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


A1 = Assignment(
    name="a1",
    title="The tower and the projector",
    minutes=120,
    holes={"model/projector.py": ("Projector.forward",)},
    tasks=(),
)

A2 = Assignment(
    name="a2",
    title="Rotary positions, RMSNorm and the cache",
    minutes=120,
    holes={"model/layers.py": ("RMSNorm.forward", "rotary_angles", "rotate")},
    tasks=(),
)

A3 = Assignment(
    name="a3",
    title="The attention module's two lanes",
    minutes=120,
    holes={"model/attention.py": ("attention_weights", "repeat_heads")},
    tasks=(),
)

A4 = Assignment(
    name="a4",
    title="Sinks, and the head that has most of them",
    minutes=150,
    holes={"model/sinks.py": ("vision_sink_scores",)},
    tasks=(),
)

A5 = Assignment(
    name="a5",
    title="The anchor, its fusion and its controls",
    minutes=150,
    holes={"model/clva.py": ("pooled_map", "find_anchor")},
    tasks=(),
)

A6 = Assignment(
    name="a6",
    title="CHAIR and POPE",
    minutes=120,
    holes={"evaluation/pope.py": ("pope",)},
    tasks=(),
)

A7 = Assignment(
    name="a7",
    title="The bug zoo",
    minutes=150,
    holes={},
    tasks=(),
)

ASSIGNMENTS = {row.name: row for row in (A1, A2, A3, A4, A5, A6, A7)}


def assignment(name: str) -> Assignment:
    """The row of that name."""
    if name not in ASSIGNMENTS:
        raise CourseError(f"There is no assignment {name!r}; there are {', '.join(ASSIGNMENTS)}.")
    return ASSIGNMENTS[name]
