"""A student's folder: the package with holes, tests, expected values, a handout. Written here, and read back."""

import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from minivlm import __version__
from minivlm.course.assignments import Assignment, all_hidden, all_holes, assignment
from minivlm.course.compiled import bodies, store, version
from minivlm.course.holes import hollowed
from minivlm.course.package import PACKAGE, ZOO, copy_package, handout, require_whole
from minivlm.course.reference import PUBLIC, Reference
from minivlm.course.zoo import write_zoo
from minivlm.errors import CourseError
from minivlm.files import parse_json, write_json
from minivlm.inference.load import shipped_model

NOTE = "assignment.json"
KIT = PACKAGE / "course" / "kit"
PYTEST = '[tool.pytest.ini_options]\npythonpath = ["."]\ntestpaths = ["tests"]\n'
README = """# {name} · {title}

The handout is `{name}.ipynb`: it says what to write. Plan {minutes} minutes. You need Python {python}: this folder has
compiled parts, which no other version runs.

```bash
python{python} -m venv .venv && .venv/bin/pip install -q -r requirements.txt   # once
.venv/bin/jupyter lab {name}.ipynb
.venv/bin/python -m minivlm course check                                # points so far, and the next thing to do
```

What you write, and hand in:

{files}

The rest of the package works: read it, use it, run `python -m minivlm demo` with your own code in it. Functions under
`@compiled` are other assignments' and do not show how they do it.{absent} `pytest` works here, too. Your code is graded
on other inputs than those of the tests, in a process that may read this folder and nothing else of yours, may not
write, start programs or use the network, and has limits of time and memory.
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
            name = parse_json(note.read_bytes())["assignment"]
        except (ValueError, KeyError, TypeError):
            raise CourseError(f'{note} is damaged: expected {{"assignment": "a1"}} or another name in it.') from None
        return cls(path, assignment(str(name)))


def start(row: Assignment, folder: Path) -> Folder:
    """Write everything that a student needs into `folder`, which must be new or empty.

    Nothing of a solution is written that can be read, be it this assignment's or another's: see `write_package`.
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
    """The package without the body of any assignment's function: this one's are to be written, others are compiled.

    The zoo's students get the bugs, too, each as a compiled module.
    """
    package = copy_package(folder, without=(*all_hidden(), ZOO))
    code = {}
    for file, names in all_holes().items():
        path, lent = package / file, [name for name in names if name not in row.holes.get(file, ())]
        require_file(path)
        source, named_file = path.read_text(encoding="utf-8"), f"{PACKAGE.name}/{file}"
        code |= bodies(source, named_file, lent)
        path.write_text(hollowed(source, names, named_file, lent), encoding="utf-8")
    store(code, package)
    if row.is_zoo:
        write_zoo(package)


def require_file(path: Path) -> None:
    """Raise `CourseError` if a file of the table has gone: what has moved would be handed out whole."""
    if not path.is_file():
        raise CourseError(f"{path} is named by the table of assignments, and is not there. Name its new place there.")


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
    about = README.format(
        name=row.name, title=row.title, minutes=row.minutes, files=files, python=version(), absent=left_out()
    )
    note = {"assignment": row.name, "minivlm": __version__, "python": version()}
    (folder / "README.md").write_text(about, encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join([*packages, ""]), encoding="utf-8")
    (folder / "pyproject.toml").write_text(PYTEST, encoding="utf-8")
    write_json(folder / NOTE, note, indent=1)


def left_out() -> str:
    """Which files are not in the folder, as a sentence."""
    files = ", ".join(f"`{PACKAGE.name}/{file}`" for file in sorted(all_hidden()))
    return f" Left out are {files}, and so commands that need them do not run." if files else ""


def named(row: Assignment, file: str) -> str:
    """The functions to write in a file, behind its name."""
    holes = row.holes.get(file.removeprefix(f"{PACKAGE.name}/"), ())
    return f": {', '.join(f'`{name}`' for name in holes)}" if holes else ""
