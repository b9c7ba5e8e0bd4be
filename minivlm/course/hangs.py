"""Functions in which a test did not end: later tests wait less for them.

A process that is too slow says where it is before it is stopped. The function of the assignment that it is in gets no
second chance of the same length: a later test has `SHORT` seconds, and is over if it is in that function again. If it
is anywhere else by then, it is run once more, with all its seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from minivlm.course.outcome import Job, Outcome
from minivlm.course.pieces import pieces_of
from minivlm.course.row import Assignment

SHORT = 1.0  # seconds for a test after another one did not end


@dataclass
class Hangs:
    """What is known about the functions of one student."""

    functions: frozenset[str]  # "minivlm/model/layers.py, rotate": those that are watched
    seen: dict[str, str] = field(default_factory=dict)  # such a function -> the test that did not end in it
    patient: set[str] = field(default_factory=set)  # tests that get all their seconds

    @classmethod
    def of(cls, row: Assignment) -> "Hangs":
        return cls(frozenset(f"minivlm/{file}, {name.split('.')[-1]}" for file, name in pieces_of(row)))

    def innermost(self, outcome: Outcome) -> str:
        """The function of the assignment in which a test was stopped; "" if that is not known."""
        return next((function for function in outcome.stack if function in self.functions), "")

    def shortened(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs, with fewer seconds if some function did not end before."""
        return [
            replace(job, seconds=min(job.seconds, SHORT)) if self.seen and job.test not in self.patient else job
            for job in jobs
        ]

    def settled(self, job: Job, given: Job, outcome: Outcome) -> Outcome | None:
        """The outcome of a job that was run as `given`; None if it must be run again, with all its seconds."""
        if outcome.status != "too slow":
            return outcome
        function = self.innermost(outcome)
        if given.seconds == job.seconds:
            if function and not job.is_speed:  # what is too slow for a speed test may be fast enough for others
                self.seen.setdefault(function, job.test)
            return outcome
        again = next((known for known in outcome.stack if known in self.seen), "")
        if not again:
            self.patient.add(job.test)
            return None
        name, test = again.split(", ")[1], self.seen[again].removeprefix("test_").replace("_", " ")
        message = f"Stopped after {given.seconds:.3g} s in {name}, which did not end in the test {test!r}: see there."
        return replace(outcome, message=message)
