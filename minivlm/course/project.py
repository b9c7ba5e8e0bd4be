"""A student's folder: the package with holes, tests, expected values, a handout. Written here, and read back."""

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from minivlm import __version__
from minivlm.course.assignments import Assignment, assignment
from minivlm.course.holes import hollowed
from minivlm.course.package import PACKAGE, ZOO, copy_package, handout, require_whole
from minivlm.course.reference import PUBLIC, Reference
from minivlm.errors import CourseError
from minivlm.loading import shipped_model

NOTE = "assignment.json"
KIT = PACKAGE / "course" / "kit"
PYTEST = '[tool.pytest.ini_options]\npythonpath = ["."]\ntestpaths = ["tests"]\n'
README = """# {name} · {title}

The handout is `{name}.ipynb`: it says what to write. Plan {minutes} minutes.

```bash
python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt   # once
.venv/bin/jupyter lab {name}.ipynb
.venv/bin/python -m minivlm course check                                # points so far, and the next thing to do
```

What you write, and hand in:

{files}

The rest of the package is whole: read it, use it, run `python -m minivlm demo` with your own code in it. `pytest` works
here, too. Your code is graded on other inputs than those of the tests, in a process that may read this folder and
nothing else of yours, may not write, start programs or use the network, and has limits of time and memory.
"""


@dataclass(frozen=True)
class Folder:
    """A student's folder, or what is left of it when it is handed in."""

    path: Path
    assignment: Assignment

    @classmethod
    def read(cls, path: Path) -> "Folder":
        """The folder and the assignment that it was started for."""
        note = path / NOTE
        if not note.is_file():
            raise CourseError(
                f"{path} has no {NOTE}: it is no folder of an assignment. Begin one with `minivlm course start a1 DIR` "
                "and check inside it."
            )
        try:
            name = json.loads(note.read_text(encoding="utf-8"))["assignment"]
        except (ValueError, KeyError, TypeError):
            raise CourseError(f'{note} is damaged: expected {{"assignment": "a1"}} or another name in it.') from None
        return cls(path, assignment(str(name)))


def start(row: Assignment, folder: Path) -> Folder:
    """Write everything that a student needs into `folder`, which must be new or empty.

    Nothing of the solution is written: neither the bodies that were taken out nor tests that hold them.
    """
    require_whole()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CourseError(f"{folder} is not empty. Name a new folder: what students wrote must not be overwritten.")
    notebook, packages = handout(row.name), required_packages()
    expected = Reference.of(row, PUBLIC)
    folder.mkdir(parents=True, exist_ok=True)
    write_package(row, folder)
    write_tests(row, folder / "tests", expected)
    shutil.copytree(shipped_model(), folder / "weights" / "tiny")
    shutil.copyfile(notebook, folder / notebook.name)
    write_notes(row, folder, packages)
    return Folder(folder, row)


def write_package(row: Assignment, folder: Path) -> None:
    """The package with the holes of this assignment; the zoo's students alone get the bugs."""
    package = copy_package(folder, without=row.hidden if row.is_zoo else (*row.hidden, ZOO))
    for file, names in row.holes.items():
        source = (package / file).read_text(encoding="utf-8")
        (package / file).write_text(hollowed(source, names, f"{PACKAGE.name}/{file}"), encoding="utf-8")


def write_tests(row: Assignment, folder: Path, expected: Reference) -> None:
    """The tests with what they should show."""
    folder.mkdir()
    for name in (row.tests, "conftest.py"):
        shutil.copyfile(KIT / name, folder / name)
    expected.save(folder / "expected", row)


def required_packages() -> list[str]:
    """What this package needs from others, as lines for pip."""
    try:
        lines = requires(PACKAGE.name) or ()
    except PackageNotFoundError:
        raise CourseError(
            "minivlm is not installed, so what it requires is not known: `pip install .` first."
        ) from None
    return [line.split(";")[0].strip() for line in lines if "extra ==" not in line]


def write_notes(row: Assignment, folder: Path, packages: list[str]) -> None:
    """What the folder is, for people and for programs."""
    files = "\n".join(f"- `{file}`" + named(row, file) for file in row.handed_in)
    about = README.format(name=row.name, title=row.title, minutes=row.minutes, files=files)
    note = {"assignment": row.name, "minivlm": __version__}
    (folder / "README.md").write_text(about, encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join([*packages, ""]), encoding="utf-8")
    (folder / "pyproject.toml").write_text(PYTEST, encoding="utf-8")
    (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def named(row: Assignment, file: str) -> str:
    """The functions to write in a file, behind its name."""
    holes = row.holes.get(file.removeprefix(f"{PACKAGE.name}/"), ())
    return f": {', '.join(f'`{name}`' for name in holes)}" if holes else ""
