"""The bug zoo: bugs of this field, each as one small change to this package that no test of shapes notices.

`zoo/bugs.json` holds them: where, which lines, what a user would notice, and where such a bug was seen. Nothing is ever
changed in place: a bug goes into a copy. What students' tests meet is a copy without its sources, so that a bug can be
found by what the package does, and not by reading it.
"""

import ast
import compileall
import json
import secrets
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minivlm.course.holes import functions
from minivlm.course.package import PACKAGE, ZOO, copy_package
from minivlm.errors import CourseError

EXAMPLE = "seen_future"  # the bug that the handout solves


@dataclass(frozen=True)
class Bug:
    """One change, and what is known of it. The student's test for it is called `test_` and its name."""

    name: str
    title: str
    file: str  # within the package
    old: tuple[str, ...]  # lines that stand in the healthy file, once
    new: tuple[str, ...]  # what stands there instead
    symptom: str  # what a user would notice
    origin: str  # where such a bug was seen


@cache
def bugs() -> tuple[Bug, ...]:
    """All of them, the handout's example first."""
    entries = json.loads((PACKAGE / ZOO / "bugs.json").read_text(encoding="utf-8"))
    return tuple(Bug(**entry | {side: tuple(entry[side]) for side in ("old", "new")}) for entry in entries)


def bug_named(name: str) -> Bug:
    """The bug of that name."""
    found = {bug.name: bug for bug in bugs()}
    if name not in found:
        raise CourseError(f"There is no bug {name!r} in the zoo; there are {', '.join(found)}.")
    return found[name]


def mutated(package: Path, bug: Bug) -> None:
    """Put a bug into `package`, which must be a healthy copy of this one."""
    file = package / bug.file
    if package.resolve() == PACKAGE:
        raise CourseError(f"The bug {bug.name} must go into a copy of the package, not into {package} itself.")
    source = file.read_text(encoding="utf-8") if file.is_file() else ""
    old, new = ("".join(f"{line}\n" for line in side) for side in (bug.old, bug.new))
    if (times := f"\n{source}".count(f"\n{old}")) != 1:  # whole lines
        raise CourseError(
            f"The lines of the bug {bug.name} should stand once in {file}, and stand there {times} times. "
            "Was the package changed, or does it have a bug already? Take the copy anew."
        )
    file.write_text(f"\n{source}".replace(f"\n{old}", f"\n{new}")[1:], encoding="utf-8")


def specimen(folder: Path, bug: Bug | None = None) -> Path:
    """A copy of this package in `folder`, healthy or with a bug, that can be run but not read; returns its path.

    It is compiled, and its sources are taken away: a test that looks for the changed line finds none. Nor do times,
    sizes or a known checksum of the compiled files tell which of them was changed.
    """
    package = copy_package(folder, without=(ZOO,))
    if bug is not None:
        mutated(package, bug)
    for name in {bug.file for bug in bugs()}:
        (package / name).write_text(disguised((package / name).read_text(encoding="utf-8")), encoding="utf-8")
    compileall.compile_dir(package, quiet=2, legacy=True)
    for source in package.rglob("*.py"):
        compiled = source.with_suffix(".pyc")
        if not compiled.is_file():
            raise CourseError(f"{source} cannot be compiled: it is not valid Python. Take the package anew.")
        content = compiled.read_bytes()
        compiled.write_bytes(content[:8] + bytes(8) + content[16:])  # time and size of the source
        source.unlink()
    return package


def disguised(source: str) -> str:
    """The same program, compiled into other bytes each time: every function begins by naming a number for nothing."""
    tree = ast.parse(source)
    for _, function in [*functions(tree)]:
        nothing = ast.parse(f"_{secrets.token_hex(4)} = {secrets.randbelow(10**9)}").body
        documented = ast.get_docstring(function, clean=False) is not None
        function.body[documented:documented] = nothing
    return ast.unparse(tree)
