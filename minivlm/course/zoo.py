"""The bug zoo: bugs of this field, each as one small change to this package that tests of shapes do not notice.

`zoo/bugs.json` says for each bug which lines of which file it changes, what a user would notice, and where such a bug
was seen. This package itself is never changed: a bug is put into a copy. Students' tests run on copies without
sources, so that they must find a bug by what the package does, not by reading it. In a student's folder, the bugs are
not in `bugs.json`; the healthy and the broken modules are there, compiled.
"""

import ast
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minivlm.course.compiled import STORE, module_bytes
from minivlm.course.holes import functions, parsed
from minivlm.course.package import PACKAGE, ZOO, copy_package
from minivlm.errors import CourseError
from minivlm.files import parse_json

COMPILED = PACKAGE / ZOO  # in a student's copy: a folder of compiled modules for each bug
HEALTHY = "healthy"
EXAMPLE = "seen_future"  # the bug that the handout solves


@dataclass(frozen=True)
class Bug:
    """One bug. The student's test for it is called `test_` and its name."""

    name: str
    title: str
    file: str  # within the package
    old: tuple[str, ...]  # lines that occur once in the healthy file
    new: tuple[str, ...]  # the lines of the broken file in their place
    symptom: str  # what a user would notice
    origin: str  # where such a bug was seen


@cache
def bugs() -> tuple[Bug, ...]:
    """All bugs, the handout's example first."""
    entries = parse_json((PACKAGE / ZOO / "bugs.json").read_bytes())
    return tuple(Bug(**entry | {side: tuple(entry[side]) for side in ("old", "new")}) for entry in entries)


def bug_named(name: str) -> Bug:
    """The bug of that name; raises `CourseError` if there is none."""
    by_name = {bug.name: bug for bug in bugs()}
    if name not in by_name:
        raise CourseError(f"There is no bug {name!r} in the zoo; there are {', '.join(by_name)}.")
    return by_name[name]


def mutated(source: str, bug: Bug) -> str:
    """The source of the bug's file with the bug in it. Raises `CourseError` unless its lines occur there once."""
    old, new = ("".join(f"{line}\n" for line in side) for side in (bug.old, bug.new))
    if (times := f"\n{source}".count(f"\n{old}")) != 1:  # whole lines
        raise CourseError(
            f"The lines of the bug {bug.name} should stand once in {bug.file}, and stand there {times} times. "
            "Was the package changed, or does it have a bug already? Take the copy anew."
        )
    return f"\n{source}".replace(f"\n{old}", f"\n{new}")[1:]


def specimen(folder: Path, bug: Bug | None = None) -> Path:
    """Copy this package into `folder`, healthy or with a bug, so that it can be run but not read; returns its path.

    It is compiled and has no sources, so a test cannot look for the changed line. Times, sizes and checksums of the
    compiled files do not show either which of them was changed.
    """
    package = copy_package(folder, without=(ZOO,))
    for file, content in modules_of(bug).items():
        (package / file).unlink()
        (package / file).with_suffix(".pyc").write_bytes(content)
    for source in package.rglob("*.py"):
        source.with_suffix(".pyc").write_bytes(module_bytes(source.read_text(encoding="utf-8"), str(source)))
        source.unlink()
    return package


def modules_of(bug: Bug | None) -> dict[str, bytes]:
    """Every module that some bug changes, compiled, by file of the package: healthy, but for the module with `bug`."""
    files = {some.file for some in bugs()}
    if STORE.is_file():  # this is a student's copy, which has only the compiled modules
        kept = [COMPILED / HEALTHY, *([COMPILED / bug.name] if bug else [])]
        return {file: content for folder in kept for file, content in kept_modules(folder, files).items()}
    sources = {file: (PACKAGE / file).read_text(encoding="utf-8") for file in files}
    if bug is not None:
        sources[bug.file] = mutated(sources[bug.file], bug)
    return {file: module_bytes(disguised(source), f"{PACKAGE.name}/{file}") for file, source in sources.items()}


def kept_modules(folder: Path, files: Iterable[str]) -> dict[str, bytes]:
    """The compiled modules in one folder of a student's copy, by file of the package."""
    places = {file: folder / Path(file).with_suffix(".bin") for file in files}
    return {file: place.read_bytes() for file, place in places.items() if place.is_file()}


def write_zoo(package: Path) -> None:
    """Write the zoo into a student's copy of the package: symptoms as text, healthy and broken modules compiled."""
    for bug in (None, *bugs()):
        for file, content in modules_of(bug).items():
            if bug is None or file == bug.file:
                place = package / ZOO / (bug.name if bug else HEALTHY) / Path(file).with_suffix(".bin")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
    public = [{**vars(bug), "old": [], "new": []} for bug in bugs()]
    (package / ZOO / "bugs.json").write_text(json.dumps(public, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def disguised(source: str) -> str:
    """The same program in another form each time: every function first assigns a random number to an unused name."""
    tree = parsed(source)
    for _, function in [*functions(tree)]:
        unused = parsed(f"_{secrets.token_hex(4)} = {secrets.randbelow(10**9)}").body
        start = 1 if ast.get_docstring(function, clean=False) is not None else 0
        function.body[start:start] = unused
    return ast.unparse(tree)
