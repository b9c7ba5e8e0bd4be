"""Expected values for several students, each with other inputs, from one process on the complete package.

Starting a process takes longer than most assignments' tests: a process for each student would double the cost.
"""

from collections.abc import Sequence

from minivlm.course.assignments import Assignment
from minivlm.course.package import PACKAGE
from minivlm.course.reference import PATIENCE, Reference, seed_of
from minivlm.course.supervise import Job, supervise

TOGETHER = 16  # students whose values are held at a time: some MB each


def references(row: Assignment, seeds: Sequence[str]) -> dict[str, Reference]:
    """What the tests show on this package for each seed. A seed with which the package fails a test is missing."""
    jobs = [Job(task.test, seed_of(seed, row, task), PATIENCE, task.megabytes) for seed in seeds for task in row.tasks]
    outcomes = supervise(PACKAGE.parent, PACKAGE / "course" / "kit" / row.tests, jobs)
    found = {}
    for number, seed in enumerate(seeds):
        own = outcomes[number * len(row.tasks) : (number + 1) * len(row.tasks)]
        shown = {
            outcome.test: outcome.shown for outcome in own if outcome.status == "ran" and outcome.shown is not None
        }
        if len(shown) == len(row.tasks):
            found[seed] = Reference(seed, shown, {outcome.test: outcome.seconds for outcome in own})
    return found
