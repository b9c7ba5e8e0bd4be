"""The table of assignments, by name, and what all of them take out of the package."""

from minivlm.course.row import Assignment, Task
from minivlm.course.table.a1 import A1
from minivlm.course.table.a2 import A2
from minivlm.course.table.a3 import A3
from minivlm.course.table.a4 import A4
from minivlm.course.table.a5 import A5
from minivlm.course.table.a6 import A6
from minivlm.course.table.a7 import A7
from minivlm.errors import CourseError, brief

__all__ = ["ASSIGNMENTS", "Assignment", "Task", "all_hidden", "all_holes", "assignment"]

ASSIGNMENTS = {row.name: row for row in (A1, A2, A3, A4, A5, A6, A7)}


def assignment(name: str) -> Assignment:
    """The assignment of that name; raises `CourseError` if there is none."""
    if name not in ASSIGNMENTS:
        raise CourseError(f"There is no assignment {brief(name)}; there are {', '.join(ASSIGNMENTS)}.")
    return ASSIGNMENTS[name]


def all_holes() -> dict[str, tuple[str, ...]]:
    """The names of all functions that some assignment asks for, by their file in the package."""
    holes: dict[str, tuple[str, ...]] = {}
    for row in ASSIGNMENTS.values():
        for file, names in row.holes.items():
            holes[file] = (*holes.get(file, ()), *names)
    return holes


def all_hidden() -> set[str]:
    """The files of the package that would reveal the solution of some assignment."""
    return {file for row in ASSIGNMENTS.values() for file in row.hidden}
