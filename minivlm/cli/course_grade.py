"""The teacher's commands: grade what students handed in, and look for what was handed in twice."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.cli import arguments
from minivlm.cli.options import Request
from minivlm.cli.terminal import remark
from minivlm.course.assignments import Assignment, assignment
from minivlm.course.verdict import FOLLOW_THROUGH
from minivlm.errors import CourseError
from minivlm.files import harmless, path_of
from minivlm.shell import FAILED

if TYPE_CHECKING:
    from minivlm.course.grade import Graded
    from minivlm.course.grade_table import Run
    from minivlm.course.late import Policy


@dataclass(frozen=True, kw_only=True)
class GradeRequest(Request):
    """Students' folders or zip files; the secret seed, or where it is; what is due when, and what lateness costs.

    `assignment`: None to read it from the folders; `jobs`: students at a time.
    """

    folders: tuple[str, ...]
    out: str
    seed: str | None = None
    seed_file: str | None = None
    same_inputs: bool = False
    due: str | None = None
    late: str | None = None
    times: str | None = None
    assignment: str | None = None
    jobs: int = 1
    follow_through: float = FOLLOW_THROUGH
    hint_costs: tuple[int, ...] = (0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class SimilarRequest(Request):
    """Students' folders or zip files; `assignment`: None to read it from the folders."""

    folders: tuple[str, ...]
    assignment: str | None = None


def grade_folders(request: GradeRequest) -> int | None:
    """Grade the folders one after the other; write grades.csv and a results.json for each into `out`. FAILED if one of
    these could not be written.

    Raises `CourseError` if it is not clear which assignment they are for, or `out` has a table of another one, or of a
    run under other circumstances.
    """
    from minivlm.course.class_seed import ClassSeed, secret_word
    from minivlm.course.grade import TABLE, grade
    from minivlm.course.grade_table import Run, require_same_table
    from minivlm.course.late import policy_of

    folders, out = [student_path(folder) for folder in request.folders], path_of(request.out, CourseError)
    row = assignment(request.assignment or common_assignment(folders))
    policy = policy_of(request.due, request.late, path_or_none(request.times))
    seed = ClassSeed.of(secret_word(request.seed, path_or_none(request.seed_file)))
    run = Run.now(seed.fingerprint, not request.same_inputs, rules_of(request, policy))
    require_same_table(row, out, run)
    out.mkdir(parents=True, exist_ok=True)
    warn_without_landlock()
    remark(f"Grading {row.name} · {row.title}, {len(folders)} of them, {run} …")
    all_graded, unwritten, began = [], 0, time.monotonic()
    how: dict[str, Any] = {
        "variants": not request.same_inputs,
        "policy": policy,
        "follow_through": request.follow_through,
    }
    for graded in grade(row, folders, seed, out, request.jobs, **how):
        all_graded.append(graded)
        unwritten += not written(row, graded, all_graded, out, run)
        print(line_of(graded), flush=True)
    unwritten += not summarised(row, out)
    remark(f"{len(folders)} graded in {time.monotonic() - began:.0f} s: {out / TABLE}, and a results.json for each.")
    return FAILED if unwritten else None


def warn_without_landlock() -> None:
    """Say so if the kernel does not help to keep students' code to its files."""
    from minivlm.course.kit.landlock import version

    if not version():
        remark(
            "WARNING: this system has no Landlock (Linux since 5.13 has it), so only Python's audit hook keeps "
            "students' code from your files. It can be got round: grade in a container, or on such a Linux."
        )


def rules_of(request: GradeRequest, policy: Policy) -> str:
    """What was agreed on beyond the usual, in words."""
    followed = "" if request.follow_through == FOLLOW_THROUGH else f"follow-through {request.follow_through:g}"
    hints = f"hints cost {request.hint_costs}" if any(request.hint_costs) else ""
    return ", ".join(filter(None, [str(policy), followed, hints]))


def written(row: Assignment, graded: Graded, all_graded: list[Graded], out: Path, run: Run) -> bool:
    """Write the student's results, and the table of all who are done: what is done survives an interruption. False,
    after a remark, if one of these could not be written: the others are graded all the same.
    """
    from minivlm.course.grade_table import write_table
    from minivlm.course.gradescope import write_results

    results = said(lambda: write_results(graded, out))
    return said(lambda: write_table(row, all_graded, out, run)) and results


def said(write: Callable[[], object]) -> bool:
    """Write a file. False, after a remark that says why, if that was not possible."""
    try:
        write()
    except OSError as error:
        remark(f"minivlm: {error.filename}: {error.strerror}.")
        return False
    except CourseError as error:
        remark(f"minivlm: {error}")
        return False
    return True


def summarised(row: Assignment, out: Path) -> bool:
    """Print the class in numbers, and write it and the exports for other platforms, of all students in the table.
    False, after a remark, if a file could not be written.
    """
    from minivlm.course.class_statistics import statistics, write_statistics
    from minivlm.course.exports import write_exports
    from minivlm.course.grade import TABLE
    from minivlm.course.grade_table import lines_of, students

    everyone = students(lines_of(out / TABLE))
    print(harmless(f"\n{statistics(row, everyone)}"))
    return said(lambda: (write_statistics(row, everyone, out), write_exports(row, everyone, out)))


def find_similar(request: SimilarRequest) -> None:
    """Print who handed in what another student handed in, too."""
    from minivlm.course.grade import require_names, student
    from minivlm.course.package import require_whole
    from minivlm.course.similarity import compare, report

    folders = [student_path(folder) for folder in request.folders]
    row = assignment(request.assignment or common_assignment(folders))
    require_whole()
    require_names(folders)
    remark(f"Comparing {len(folders)} submissions of {row.name} …")
    print(harmless(report(compare(row, [(student(folder), folder) for folder in folders]))))


def common_assignment(folders: list[Path]) -> str:
    """The assignment that most of the folders were started for, of those that say so. Raises `CourseError` without a
    majority: a few that are for another one must not keep the rest from being graded.
    """
    from minivlm.course.submission import started_for

    names = Counter(name for folder in folders if (name := started_for(folder)))
    if not names or 2 * max(names.values()) <= names.total():
        reason = f"they were started for {', '.join(sorted(names))}" if names else "none of the folders says"
        raise CourseError(f"Which assignment is to be graded? Name it with --assignment: {reason}.")
    return max(names, key=lambda name: names[name])


def line_of(graded: Graded) -> str:
    """ "ada     85/100" """
    from minivlm.course.incidents import incidents

    notes = " ".join([*graded.notes, *incidents(graded.report.verdicts)])
    return harmless(f"{graded.student:24} {graded.points:5g}/{graded.report.most}{f'  {notes}' if notes else ''}")


def student_path(name: str) -> Path:
    """The path of a student's folder. One that is there and cannot be looked up, such as a link to itself, must not
    keep the others from being graded; what else has no path is a `CourseError`.
    """
    if os.path.islink(name):
        return Path(name)
    return path_of(name, CourseError)


def path_or_none(name: str | None) -> Path | None:
    return None if name is None else path_of(name, CourseError)


# --- options --------------------------------------------------------------------------------------------------------


def grade_options(parser: argparse.ArgumentParser) -> None:
    handed_in = "what a student handed in, a folder or a zip file; named like the student"
    parser.add_argument("folders", nargs="+", metavar="DIR", help=handed_in)
    seed = (
        "a word from which the tests' inputs are drawn; keep it secret, and take a new one each time. As an option it "
        "stays in the shell's history (default: --seed-file, or MINIVLM_SEED in the environment)"
    )
    parser.add_argument("--seed", type=word, metavar="SECRET", help=seed)
    parser.add_argument("--seed-file", metavar="FILE", help="a file with the secret word (default: none, see --seed)")
    same = "give all students the same inputs; otherwise each gets others, which takes a run of the package more each"
    parser.add_argument("--same-inputs", action="store_true", help=same)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="results.json for each student, and grades.csv")
    started = "what they were to do (default: what assignment.json in their folders says)"
    parser.add_argument("--assignment", metavar="NAME", help=started)
    due = "when it was due, such as 2026-12-01T23:59, in this machine's time zone (default: never)"
    parser.add_argument("--due", metavar="TIME", help=due)
    late = "the share of the points that each begun hour, day or week costs, such as 10%%/day (default: nothing)"
    parser.add_argument("--late", metavar="SHARE", help=late)
    times = "a table with the columns student and time (default: the newest time of the files, which can be forged)"
    parser.add_argument("--times", metavar="FILE", help=times)
    jobs = f"students at a time (default: {GradeRequest.jobs}, for times that can be compared)"
    parser.add_argument("--jobs", type=arguments.whole_number(1), metavar="N", help=jobs)
    follow = (
        "share of a test's points, 0 to 1, that count if it passes with minivlm's own earlier functions in place of "
        f"wrong ones; 0 for no second run (default: {GradeRequest.follow_through})"
    )
    parser.add_argument("--follow-through", type=share, metavar="SHARE", help=follow)
    costs = "points that a question, a pointer and a near-solution cost, such as 0,1,2 (default: none)"
    parser.add_argument("--hint-costs", type=three_points, metavar="P,P,P", help=costs)


def share(text: str) -> float:
    """The type of an option that is a share of something."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, found {number:g}")
    return number


def three_points(text: str) -> tuple[int, ...]:
    """The type of an option with points for the three rungs of a hint, "0,1,2"."""
    parts = text.split(",")
    if len(parts) != len(GradeRequest.hint_costs) or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected three whole numbers such as 0,1,2, found {text!r}")
    return tuple(map(int, parts))


def similar_options(parser: argparse.ArgumentParser) -> None:
    handed_in = "what a student handed in, a folder or a zip file; named like the student"
    parser.add_argument("folders", nargs="+", metavar="DIR", help=handed_in)
    started = "what they were to do (default: what assignment.json in their folders says)"
    parser.add_argument("--assignment", metavar="NAME", help=started)


def word(text: str) -> str:
    """The type of an option whose value must not be blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a word, found nothing")
    return text
