"""Who handed in what another student handed in, too: a report for a person to read, never a verdict.

What was handed out, and what the package's own solution has, does not count: it is alike in all submissions. What is
left of a submission is compared with that of every other one.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

from minivlm.course.archive import opened
from minivlm.course.assignments import Assignment
from minivlm.course.fingerprints import Piece, fingerprints
from minivlm.course.holes import hollowed
from minivlm.course.package import PACKAGE, handout
from minivlm.course.project import KIT
from minivlm.course.submission import LARGEST, fault_of, places
from minivlm.files import parse_json

SHARE = 0.5  # of the smaller one's own fingerprints that two submissions must share to be named
LEAST = 12  # fingerprints that they must share
LEAST_LINES = 3  # own lines, word for word, that they must share
COPIED = 0.8  # the share of its fingerprints in the package's solution from which a submission is said to be it
LONGEST_LINE = 12  # characters that a line must have to count
LONGEST_REPORT = 100  # pairs
LARGEST_NOTEBOOK = 20_000_000  # bytes
BLANK = re.compile(r"\s+")
Lines = tuple[int, int]


@dataclass
class Own:
    """What a student wrote: fingerprints and lines that were not handed out, with their places."""

    student: str
    prints: dict[int, list[tuple[str, Lines]]] = field(default_factory=lambda: defaultdict(list))
    lines: dict[str, tuple[str, int]] = field(default_factory=dict)
    of_package: float = 0.0  # the share of what was written that the package's own solution has, too
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Likeness:
    """Two students who share something."""

    first: Own
    second: Own
    share: float  # of the smaller one's own fingerprints
    prints: frozenset[int]
    lines: frozenset[str]

    def __str__(self) -> str:
        kind = "identical" if self.share == 1.0 else "near-identical" if self.share >= 0.8 else "alike"
        head = f"{self.first.student} and {self.second.student}: {kind}, {self.share:.0%} of what is their own"
        shared = f"{len(self.prints)} fingerprints, {len(self.lines)} lines word for word"
        own = [f"  {one.student}: {'; '.join(where(one, self))}" for one in (self.first, self.second)]
        return "\n".join([f"{head} ({shared})", *own])


@dataclass(frozen=True)
class Given:
    """What is alike in all submissions: of the package with holes and the handout, and of the package's solution."""

    handed_out: frozenset[int]
    solution: frozenset[int]
    lines: frozenset[str]

    @classmethod
    def of(cls, row: Assignment) -> "Given":
        """Read it from the installed package."""
        handed, solved = [*handed_out(row)], [*solution(row)]
        lines = frozenset(line for piece in [*handed, *solved] for line in lines_of(piece))
        return cls(prints_of(handed), prints_of(solved), lines)


def prints_of(pieces: Sequence[Piece]) -> frozenset[int]:
    return frozenset(print_ for piece in pieces for print_, _, _ in fingerprints(piece.tokens))


def handed_out(row: Assignment) -> Iterator[Piece]:
    """What a student of the assignment gets."""
    for file, names in row.holes.items():
        text = (PACKAGE / file).read_text(encoding="utf-8")
        yield Piece(file, hollowed(text, names, file))
    yield Piece(row.tests, (KIT / row.tests).read_text(encoding="utf-8"))
    yield from cells(handout(row.name))


def solution(row: Assignment) -> Iterator[Piece]:
    """The files with holes, complete. The zoo has no solution in the package."""
    yield from (Piece(file, (PACKAGE / file).read_text(encoding="utf-8")) for file in row.holes)


def cells(notebook: Path) -> Iterator[Piece]:
    """The cells of a notebook; none if it cannot be read as one."""
    try:
        found = parse_json(notebook.read_bytes())["cells"]
        sources = [(cell.get("cell_type") == "code", cell.get("source", "")) for cell in found]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    for number, (is_code, source) in enumerate(sources, 1):
        text = "".join(map(str, source)) if isinstance(source, list) else str(source)
        yield Piece(f"{notebook.name}, cell {number}", text, is_code)


def lines_of(piece: Piece) -> dict[str, int]:
    """The lines of a text that mean something, without white space, and where each first stands."""
    found: dict[str, int] = {}
    for number, line in enumerate(piece.text.splitlines(), 1):
        if len(bare := BLANK.sub("", line)) >= LONGEST_LINE:
            found.setdefault(bare, number)
    return found


def handed_in(row: Assignment, folder: Path, place: Path) -> tuple[list[Piece], list[str]]:
    """The pieces in a folder or zip file, and sentences about what was not read."""
    names = (*row.handed_in, f"{row.name}.ipynb")
    found = opened(folder, names, place)
    pieces: list[Piece] = []
    for name in names:
        file = next((path for path in places(found.folder, name) if path.is_file()), None)
        is_notebook = name.endswith(".ipynb")
        if file is None:
            continue
        if fault := fault_of(file, found.folder, name, LARGEST_NOTEBOOK if is_notebook else LARGEST):
            found.notes.append(fault)
            continue
        pieces += cells(file) if is_notebook else [Piece(name, file.read_text(encoding="utf-8", errors="replace"))]
    return pieces, found.notes


def own(row: Assignment, student: str, folder: Path, given: Given) -> Own:
    """What a student wrote. Whatever cannot be read becomes a note."""
    try:
        with TemporaryDirectory() as place:
            pieces, notes = handed_in(row, folder, Path(place) / "opened")
    except OSError as error:
        return Own(student, notes=(f"{type(error).__name__}: {error.strerror}",))
    result = Own(student, notes=tuple(notes if pieces else [*notes, "nothing to compare"]))
    written, theirs = 0, 0
    for piece in pieces:
        for print_, first, last in fingerprints(piece.tokens):
            if print_ in given.handed_out:
                continue
            written += 1
            if print_ in given.solution:
                theirs += 1
            else:
                result.prints[print_].append((piece.place, (first, last)))
        for line, number in lines_of(piece).items():
            if line not in given.lines:
                result.lines.setdefault(line, (piece.place, number))
    result.of_package = theirs / written if written >= LEAST else 0.0
    return result


def alike(everyone: Sequence[Own]) -> list[Likeness]:
    """The pairs that share enough, those that share most first."""
    found = []
    for first, second in combinations(everyone, 2):
        prints = frozenset(first.prints.keys() & second.prints.keys())
        lines = frozenset(first.lines.keys() & second.lines.keys())
        least = min(len(first.prints), len(second.prints))
        share = len(prints) / least if least else 0.0
        same_lines = min(len(first.lines), len(second.lines))
        literal = len(lines) / same_lines if len(lines) >= LEAST_LINES else 0.0
        if (share >= SHARE and len(prints) >= LEAST) or literal >= SHARE:
            found.append(Likeness(first, second, max(share, literal), prints, lines))
    return sorted(found, key=lambda one: (-one.share, -len(one.prints), one.first.student, one.second.student))


def where(student: Own, likeness: Likeness) -> list[str]:
    """The places in what a student wrote that the other has, too: "minivlm/model/layers.py, lines 40 to 58"."""
    found: dict[str, list[Lines]] = defaultdict(list)
    for print_ in likeness.prints:
        for place, lines in student.prints[print_]:
            found[place].append(lines)
    for line in likeness.lines:
        place, number = student.lines[line]
        found[place].append((number, number))
    return [f"{place}, lines {', '.join(merged(found[place]))}" for place in sorted(found)]


def merged(ranges: Sequence[Lines]) -> Iterator[str]:
    """Ranges of lines that touch or overlap as one, in their order: "40-58"."""
    together: list[list[int]] = []
    for first, last in sorted(ranges):
        if together and first <= together[-1][1] + 1:
            together[-1][1] = max(together[-1][1], last)
        else:
            together.append([first, last])
    return (f"{first}-{last}" if last > first else str(first) for first, last in together)


def report(everyone: Sequence[Own]) -> str:
    """The report as a text."""
    pairs = alike(everyone)
    copied = [one for one in everyone if one.of_package >= COPIED]
    counted = f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'}"
    lines = [f"{len(everyone)} submissions, {counted} that a person should look at"]
    lines += [line for pair in pairs[:LONGEST_REPORT] for line in ("", str(pair))]
    lines += [f"\nand {len(pairs) - LONGEST_REPORT} more"] if len(pairs) > LONGEST_REPORT else []
    lines += (
        ["", "as the package's own solution, token by token (short functions are so by themselves):"] if copied else []
    )
    lines += [f"  {one.student}: {one.of_package:.0%} of what was written" for one in copied]
    lines += [f"{one.student}: {note}" for one in everyone for note in one.notes]
    return "\n".join(lines)


def compare(row: Assignment, folders: Sequence[tuple[str, Path]]) -> list[Own]:
    """What each of the students, by name and folder, wrote."""
    given = Given.of(row)
    return [own(row, name, folder, given) for name, folder in folders]
