"""The tests that a student wants to run."""

from collections.abc import Sequence

from minivlm.course.assignments import Assignment, Task
from minivlm.errors import CourseError


def chosen(row: Assignment, only: Sequence[str]) -> tuple[Task, ...]:
    """The tasks whose tests' names hold one of the words; all tasks if there are no words. Raises `CourseError` if
    there is no such test.
    """
    words = [word.strip().replace(" ", "_") for word in only]
    tasks = tuple(task for task in row.tasks if not words or any(word in task.test for word in words))
    if not tasks:
        raise CourseError(
            f"{row.name} has no test named like {', '.join(only)}; it has {', '.join(task.test for task in row.tasks)}."
        )
    return tasks
