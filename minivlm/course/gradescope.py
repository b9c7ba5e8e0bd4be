"""Results as files: a results.json for each student, in Gradescope's format.

Format: https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format
"""

import errno
from pathlib import Path

from minivlm.course.grade import Graded
from minivlm.course.verdict import RIGHT, Verdict
from minivlm.files import write_json

RESULTS = "results.json"


def write_results(graded: Graded, out: Path) -> Path:
    """Write results.json into this student's folder below `out`; returns its path. Raises OSError if that folder is a
    link: it would lead out of `out`, to somebody's files.
    """
    folder = out / graded.student
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, so no results are written to where it leads", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / RESULTS
    write_json(file, results(graded), indent=1)
    return file


def results(graded: Graded) -> dict:
    """What Gradescope shows: points, remarks and, for each test, what happened."""
    report = graded.report
    opening = f"{report.assignment.name} · {report.assignment.title}: {graded.points:g} of {report.most} points."
    return {
        "score": graded.points,  # stands in place of the sum of the tests: something may be taken off for lateness
        "execution_time": round(sum(verdict.seconds for verdict in report.verdicts), 1),
        "output": "\n".join([opening, *graded.notes]),
        "visibility": "visible",
        "tests": [as_test(verdict) for verdict in report.verdicts],
    }


def as_test(verdict: Verdict) -> dict:
    """One test in Gradescope's format."""
    return {
        "name": verdict.title,
        "score": verdict.points,
        "max_score": verdict.task.points,
        "status": "passed" if verdict.state == RIGHT else "failed",
        "output": "\n".join(filter(None, [verdict.sentence, verdict.hint])),
        "visibility": "visible",
    }
