"""The package as files: its folder, the notebooks beside it, and copies of it."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from minivlm.course.compiled import STORE
from minivlm.errors import CourseError

PACKAGE = Path(__file__).resolve().parent.parent
ZOO = "course/zoo"  # not for students: it holds the healthy lines of the bugs, which are parts of solutions


def copy_package(folder: Path, without: Iterable[str] = ()) -> Path:
    """Copy the package into `folder`, without shipped weights and without the paths `without` in it; returns its path.

    Raises `CourseError` if one of these does not exist: if a file was moved, it would be handed out.
    """
    left_out = {PACKAGE / name for name in without}
    if missing := sorted(str(path) for path in left_out if not path.exists()):
        raise CourseError(
            f"{', '.join(missing)} is to be left out of a copy of the package, and is not there. "
            "Was it moved? Name its new place in minivlm/course."
        )

    def ignored(place: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or Path(place, name) in left_out]

    left_out.add(PACKAGE / "shipped")  # only in the wheel
    return Path(shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=ignored))


def require_whole() -> None:
    """Raise `CourseError` if this package is itself a student's copy, with holes in it."""
    if STORE.is_file():
        raise CourseError(
            f"The package in {PACKAGE} is a student's copy, without solutions: it can check, but neither start nor "
            "grade. Do that outside this folder, with the installed minivlm."
        )


def handout(name: str, suffix: str = ".ipynb") -> Path:
    """The notebook of an assignment, or another file beside it, in the wheel or in the repository. Raises `CourseError`
    if there is none.
    """
    places = PACKAGE / "shipped" / "assignments", PACKAGE.parent / "notebooks" / "assignments"
    for place in places:
        if (file := place / (name + suffix)).is_file():
            return file
    raise CourseError(
        f"{name}{suffix} was not found, neither in {places[0]} nor in {places[1]}. Install minivlm again."
    )
