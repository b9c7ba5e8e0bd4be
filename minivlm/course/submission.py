"""What a student handed in: only the files of the assignment are taken from the folder; the rest is a fresh copy."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from minivlm.course.assignments import Assignment
from minivlm.course.folder import Folder
from minivlm.course.project import KIT, lend_weights, write_package
from minivlm.errors import CourseError
from minivlm.files import open_own

LARGEST = 1_000_000  # bytes of a file that is handed in
ODD = (
    r"__code__|co_code|co_consts|getsource|hashlib|marshal|\.pyc|mtime|__file__|\bgc\b",
    r"urandom|secrets|perf_counter|time\.time|monotonic",
)
INTO_CODE = re.compile("|".join(ODD))


def remarks(folder: Path) -> Iterator[str]:
    """What is odd about a folder as a whole."""
    if not folder.is_dir():
        yield f"{folder.name} is no folder: unpack it."


def started_for_another(row: Assignment, folder: Path) -> str:
    """A sentence if the folder says that it was started for another assignment, else ""."""
    name = started_for(folder)
    return f"No points: the folder was started for {name}, not for {row.name}." if name not in ("", row.name) else ""


def suspicions(tests: Path) -> Iterator[str]:
    """A sentence if the tests mention something that looks into code, files or clocks: such a test can recognise the
    broken package without testing what it does. A person must look.
    """
    if mentioned := sorted({*INTO_CODE.findall(tests.read_text(encoding="utf-8", errors="replace"))}):
        yield f"{tests.name} mentions {', '.join(mentioned)}: see whether it tests what the package does."


def started_for(folder: Path) -> str:
    """The assignment that a folder says it was started for, "" if it does not say."""
    with suppress(CourseError):
        return Folder.read(folder).assignment.name
    return ""


def assemble(row: Assignment, folder: Path, project: Path) -> Iterator[str]:
    """Make a fresh project with this student's files in it; yields a sentence for each file that is not taken."""
    if not row.is_zoo:  # the zoo's tests run on copies of the whole package, see zoo.specimen
        write_package(row, project)
        lend_weights(project)
    (project / "tests").mkdir()
    for name in row.handed_in:
        file = next((place for place in places(folder, name) if place.exists() or place.is_symlink()), None)
        if file is None:
            yield f"{name} was not handed in: its functions count as not written."
        elif fault := fault_of(file, folder, name):
            yield fault
        else:
            with open_own(file) as own:  # does not follow a link that was put there meanwhile
                (project / name).write_bytes(own.read(LARGEST))
    if row.is_zoo and not (project / "tests" / row.tests).exists():
        shutil.copyfile(KIT / row.tests, project / "tests" / row.tests)


def places(folder: Path, name: str) -> Iterator[Path]:
    """Where a file may be: where it was handed out, or with fewer folders around it, as some platforms collect it."""
    parts = Path(name).parts
    yield from (folder.joinpath(*parts[first:]) for first in range(len(parts)))


def fault_of(file: Path, folder: Path, name: str, most: int = LARGEST) -> str:
    """Why a file is not taken, or ""; `most`: the bytes that it may have.

    Links are not followed, neither of the file nor of a folder on the way: they could lead to a solution. Nor is a file
    taken that has a second name (a hard link), which could be anybody's.
    """
    if real(file) != real(folder) / file.relative_to(folder) or not file.is_file():
        return f"{name} is behind a link, or is no file: it was not taken."
    if file.stat().st_nlink > 1:
        return f"{name} has a second name elsewhere (a hard link): it was not taken. If it is the student's, copy it."
    if file.stat().st_size > most:
        return f"{name} has {file.stat().st_size:,} bytes, more than {most:,}: it was not taken."
    return ""


def real(path: Path) -> Path:
    """The absolute path without links; one that leads to itself stays, while `Path.resolve` would raise an error."""
    return Path(os.path.realpath(path))
