"""Follow-through marks: one wrong function does not also cost the points of the tests that call it.

A test that failed is run a second time on a package in which its own functions are the student's, and those functions
before them whose tests failed are this package's. What then passes counts a share of its points. The functions of this
package are compiled there, like those of other assignments, and nothing that the second run prints, raises or shows
is told to the student: it only says whether the test passes.
"""

import shutil
import tokenize
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from minivlm.course.assignments import Assignment
from minivlm.course.holes import is_hollow
from minivlm.course.judging import Judged, judged
from minivlm.course.pieces import Piece, own_pieces, pieces_of
from minivlm.course.project import KIT, lend_weights, write_package
from minivlm.course.reference import Reference
from minivlm.course.replaced import with_functions_of
from minivlm.course.verdict import RIGHT, Verdict
from minivlm.errors import CourseError


def followed(
    row: Assignment, expected: Reference, project: Path, denied: Sequence[Path], first: Judged, share: float
) -> tuple[Verdict, ...]:
    """The verdicts of a `first` run of all tests, with a `share` of the points for those that pass a second one."""
    if not share or not first.outcomes or all(out.is_loading for out in first.outcomes):
        return first.verdicts
    found = {verdict.task.test: verdict for verdict in first.verdicts}
    wrong: set[Piece] = set()  # functions with a test that failed by their own fault
    for own, tests in groups(row).items():
        failed = [test for test in tests if found[test].state != RIGHT]
        is_about_all = len(own) == len(pieces_of(row))
        lent = wrong if is_about_all else wrong - own
        if lent and (again := [test for test in failed if may_pass(row, project, first, test, own - lent, lent)]):
            with_lent = second_run(row, expected, project, denied, first, again, lent)
            found |= {test: credited(found[test], lent, share) for test in again if test in with_lent}
        if not is_about_all and any(found[test].state != RIGHT and not found[test].share for test in tests):
            wrong |= own
    return tuple(found[task.test] for task in row.tasks)


def groups(row: Assignment) -> dict[frozenset[Piece], list[str]]:
    """The tests, by the functions that they are about, in the order in which these come first."""
    found: dict[frozenset[Piece], list[str]] = {}
    for test, own in own_pieces(row).items():
        found.setdefault(own, []).append(test)
    return found


def may_pass(
    row: Assignment, project: Path, first: Judged, test: str, kept: frozenset[Piece], lent: set[Piece]
) -> bool:
    """Whether a second run of a failed test makes sense: its own functions were written, it was not in one of them when
    its time was up, and more of the assignment's functions are the student's than are lent.
    """
    outcome = next(out for out in first.outcomes if out.test == test)
    stuck = first.hangs.innermost(outcome) in {f"minivlm/{file}, {name.split('.')[-1]}" for file, name in kept}
    is_about_all = len(kept | lent) == len(pieces_of(row))
    if stuck or outcome.status == "forbidden" or (is_about_all and len(lent) >= len(kept)):
        return False
    return not any(is_hollow(source_of(project / "minivlm" / file), name) for file, name in kept)


def second_run(
    row: Assignment,
    expected: Reference,
    project: Path,
    denied: Sequence[Path],
    first: Judged,
    again: Sequence[str],
    lent: set[Piece],
) -> set[str]:
    """Those of the tests `again` that pass with this package's functions `lent`; none if they do not fit in."""
    tasks = [task for task in row.tasks if task.test in again]
    with TemporaryDirectory(ignore_cleanup_errors=True) as place:
        try:
            write_with_lent(row, project, Path(place), lent)
        except (CourseError, OSError, SyntaxError, ValueError):  # the student's file is built in another way
            return set()
        second = judged(row, expected, Path(place), KIT / row.tests, denied, tasks, first.hangs)
    return {verdict.task.test for verdict in second.verdicts if verdict.state == RIGHT}


def write_with_lent(row: Assignment, project: Path, place: Path, lent: set[Piece]) -> None:
    """Write the student's package into `place`, with this package's functions `lent`, compiled, for the student's."""
    kept = {file: tuple(name for name in names if (file, name) not in lent) for file, names in row.holes.items()}
    write_package(replace(row, holes=kept), place)
    lend_weights(place)
    (place / "tests").mkdir()
    for file, names in row.holes.items():
        students, ours = project / "minivlm" / file, place / "minivlm" / file
        if not kept[file]:
            continue  # this package's file as a whole
        taken = [name for name in names if (file, name) in lent]
        if taken:
            text = with_functions_of(source_of(students), source_of(ours), taken, file)
            ours.write_text(text, encoding=encoding_of(students))
        else:
            shutil.copyfile(students, ours)


def encoding_of(file: Path) -> str:
    """The encoding that a source file names, UTF-8 if it names none."""
    with file.open("rb") as stream:
        return tokenize.detect_encoding(stream.readline)[0]


def source_of(file: Path) -> str:
    """The text of a source file, in the encoding that it names."""
    with tokenize.open(file) as stream:
        return stream.read()


def credited(verdict: Verdict, lent: set[Piece], share: float) -> Verdict:
    """The verdict on a test that passed its second run."""
    names, first = ", ".join(sorted(name for _, name in lent)), verdict.sentence
    first += "" if first.endswith((".", "?", "!")) else "."
    sentence = f"{first} It passes with the package's own {names}, and so {share:.0%} of its points count."
    return replace(verdict, share=share, sentence=sentence)
