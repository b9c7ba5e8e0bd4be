"""The report on what one student wrote: points so far, a line for each test, and the next thing to do."""

from dataclasses import dataclass

from minivlm.course.assignments import Assignment
from minivlm.course.readable import NOTHING
from minivlm.course.verdict import OPEN, RIGHT, Verdict

MARKS = {RIGHT: "ok", OPEN: "··"}


@dataclass(frozen=True)
class GradeReport:
    """Verdicts in the order of the assignment's tasks."""

    assignment: Assignment
    verdicts: tuple[Verdict, ...]

    @property
    def points(self) -> int:
        return sum(verdict.points for verdict in self.verdicts)

    @property
    def most(self) -> int:
        return sum(verdict.task.points for verdict in self.verdicts)

    @property
    def next(self) -> Verdict | None:
        """The first test that is not right yet, None if all are: tasks are in the order in which they are best done."""
        return next((verdict for verdict in self.verdicts if verdict.state != RIGHT), None)

    def as_dict(self) -> dict:
        """The report in JSON types."""
        tests = [
            {
                "test": verdict.task.test,
                "state": verdict.state,
                "points": verdict.points,
                "of": verdict.task.points,
                "sentence": verdict.sentence,
                "seconds": round(verdict.seconds, 3),
            }
            for verdict in self.verdicts
        ]
        return {"assignment": self.assignment.name, "points": self.points, "of": self.most, "tests": tests}

    def __str__(self) -> str:
        row = self.assignment
        lines = [f"{row.name} · {row.title}: {self.points} of {self.most} points", ""]
        if self.untested:
            return "\n".join([*lines, self.untested])
        lines += [line_of(verdict) for verdict in self.verdicts]
        return "\n".join([*lines, "", *(advice(self.next) if self.next else [self.praise])])

    @property
    def untested(self) -> str:
        """The sentence that says why nothing was tested; "" if something was."""
        sentences = {verdict.sentence for verdict in self.verdicts}
        return sentences.pop() if len(sentences) == 1 and all(s.endswith(NOTHING) for s in sentences) else ""

    @property
    def praise(self) -> str:
        """The sentence for a report in which every test is right."""
        if len(self.verdicts) < len(self.assignment.tasks):
            return f"Right so far. Check all {len(self.assignment.tasks)} tests before you hand in."
        return "All of it is right. Hand it in."


def line_of(verdict: Verdict) -> str:
    """ "  ok   10/10  padding counts nowhere  (0.1 s)" """
    mark = MARKS.get(verdict.state, "no")
    took = verdict.took or f"{verdict.seconds:.1f} s"
    return f"  {mark}  {verdict.points:3}/{verdict.task.points:<3} {verdict.title}  ({took})"


def advice(verdict: Verdict) -> list[str]:
    """Lines that say what to do next: write a function, or look at what is wrong."""
    if verdict.state == OPEN:
        return [f"Next: {verdict.sentence} ({verdict.title} wants {verdict.task.needs}.)"]
    lines = [f"Next: {verdict.title}.", f"  {verdict.sentence}"]
    lines += [f"  Hint: {verdict.hint}"] if verdict.hint else []
    printed = verdict.printed.strip()
    return [*lines, "  Your code printed:", printed] if printed else lines
