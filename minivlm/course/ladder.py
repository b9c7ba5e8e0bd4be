"""Hints on request, a rung at a time; the rungs that were taken are noted in the student's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from minivlm.course.folder import Folder
from minivlm.course.grade_report import GradeReport
from minivlm.course.hint import LEVELS
from minivlm.course.hints import hint_of
from minivlm.course.verdict import OPEN
from minivlm.errors import CourseError
from minivlm.files import read_json_file, write_json

TAKEN = "hints.json"
LARGEST = 10_000  # bytes of it
FREE = (0, 0, 0)  # points for the rungs 1, 2 and 3


def hints_for(folder: Folder, report: GradeReport, level: int) -> list[str]:
    """The lines of the hint for the next thing to do, up to rung `level`, which is noted; or why there is none."""
    row, verdict = report.assignment, report.next
    if row.is_zoo:
        return [f"The hints of {row.name} stand in its handout, three under each bug."]
    if verdict is None:
        return ["There is nothing to hint at: what was checked is right."]
    hint = hint_of(row, verdict.task)
    if hint is None or not (verdict.state == OPEN or verdict.helped):
        return ["No hint fits what happened here: mend first what the message above says. None was noted."]
    note(folder.path, verdict.task.test, level)
    return hint.rungs(level)


def note(folder: Path, test: str, level: int) -> None:
    """Note that a rung was taken; of several for one test the highest counts."""
    known = taken(folder)
    write_json(folder / TAKEN, {**known, test: max(level, known.get(test, 0))}, indent=1)


def taken(folder: Path) -> dict[str, int]:
    """The highest rung that was taken for each test; none without the file. Raises `CourseError` if it is damaged."""
    file = folder / TAKEN
    if not file.is_file():
        return {}
    found = read_json_file(file, CourseError, LARGEST)
    known = isinstance(found, dict) and all(type(rung) is int and 1 <= rung <= len(LEVELS) for rung in found.values())
    if not known:
        raise CourseError(f'{file} is damaged: expected {{"test_rotate": 2}}, rungs from 1 to {len(LEVELS)} by test.')
    return found


def charged(report: GradeReport, folder: Path, costs: Sequence[int]) -> tuple[GradeReport, list[str]]:
    """The report less what the hints cost that a student's folder notes, and remarks for the teacher."""
    if not any(costs):
        return report, []
    try:
        rungs = taken(folder)
    except CourseError as error:
        return report, [f"Hints were not counted: {error}"]
    paid = less_hints(report, rungs, costs)
    return paid, [f"Hints cost {report.points - paid.points} points."] if paid.points < report.points else []


def less_hints(report: GradeReport, rungs: Mapping[str, int], costs: Sequence[int]) -> GradeReport:
    """The report with what hints cost taken off their tests' points: `costs` of the rungs 1, 2 and 3."""
    prices = {test: costs[rung - 1] for test, rung in rungs.items()}
    paid = (replace(verdict, cost=prices.get(verdict.task.test, 0)) for verdict in report.verdicts)
    return replace(report, verdicts=tuple(paid))
