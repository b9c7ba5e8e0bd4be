"""A student's folder, written and read: the package with holes, tests, expected values and a handout."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import CodeType

from minivlm import __version__
from minivlm.course.assignments import Assignment, all_hidden, all_holes
from minivlm.course.compiled import bodies, store, version
from minivlm.course.folder import NOTE, Folder, digest
from minivlm.course.holes import hollowed
from minivlm.course.package import PACKAGE, ZOO, copy_package, handout, require_whole
from minivlm.course.reference import PUBLIC, Reference
from minivlm.course.verdict import FOLLOW_THROUGH
from minivlm.course.zoo import write_zoo
from minivlm.errors import CourseError
from minivlm.files import write_json
from minivlm.inference.shipped import SHIPPED, shipped_model

WEIGHTS = "weights"  # the folder of the models
KIT = PACKAGE / "course" / "kit"
PYTEST = '[tool.pytest.ini_options]\npythonpath = ["."]\ntestpaths = ["tests"]\n'
README = """# {name} · {title}

The handout is `{name}.ipynb`: it says what to write. Plan {minutes} minutes. You need Python {python}: this folder has
compiled parts, which no other version runs.

```bash
python{python} -m venv .venv && .venv/bin/pip install -q -r requirements.txt   # once
.venv/bin/jupyter lab {name}.ipynb
.venv/bin/python -m minivlm course check                                # points so far, and the next thing to do
.venv/bin/python -m minivlm course check --hint 1                       # a question about it; 2 and 3 tell more
```

What you write, and hand in:

{files}

The rest of the package works: read it, use it, run `python -m minivlm demo` with your own code in it. Functions under
`@compiled` are other assignments' and do not show how they do it.{absent} `pytest` works here, too. Your code is graded
on other inputs than those of the tests, in a process that may read this folder and nothing else of yours, may not
write, start programs or use the network, and has limits of time and memory.
{follow}"""
FOLLOW = """
One wrong function does not cost the points of later ones: when you are graded, a test that fails is run again with the
functions before it that are wrong replaced by right ones. If it passes then, {share:.0%} of its points count, unless
your teacher says otherwise. A function that you have not written gets nothing. `check` cannot do this, since the right
ones are not in this folder.
"""


def start(row: Assignment, folder: Path, copy_weights: bool = False) -> Folder:
    """Write everything that a student needs into `folder`, which must be new or empty.

    No solution is written in a readable form, neither this assignment's nor another's: see `write_package`. The weights
    are links to the installed ones, or copies with `copy_weights`, for a folder that goes to another machine. Raises
    `CourseError` if the folder is not empty, or this package cannot give what is needed.
    """
    require_whole()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CourseError(f"{folder} is not empty. Name a new folder: what students wrote must not be overwritten.")
    notebook, packages = handout(row.name), required_packages()
    expected = Reference.of(row, PUBLIC)
    folder.mkdir(parents=True, exist_ok=True)
    with emptied_on_failure(folder):
        write_package(row, folder)
        write_tests(row, folder / "tests", expected)
        lend_weights(folder, copy=copy_weights)
        shutil.copyfile(notebook, folder / notebook.name)
        write_notes(row, folder, packages)
    return Folder(folder, row)


@contextmanager
def emptied_on_failure(folder: Path) -> Iterator[None]:
    """Within, an empty folder is filled; if that fails, it is emptied again, so that another try may begin."""
    try:
        yield
    except BaseException:
        for entry in folder.iterdir():
            entry.unlink() if entry.is_symlink() or not entry.is_dir() else shutil.rmtree(entry)
        raise


def write_package(row: Assignment, folder: Path) -> None:
    """Write the package without the bodies of functions that any assignment asks for: those of this assignment are
    left for the student to write, those of others are compiled. For the zoo, each bug is added as a compiled module.
    """
    package = copy_package(folder, without=(*all_hidden(), ZOO))
    code: dict[str, CodeType] = {}
    for file, names in all_holes().items():
        path, lent = package / file, [name for name in names if name not in row.holes.get(file, ())]
        require_file(path)
        source, named_file = path.read_text(encoding="utf-8"), f"{PACKAGE.name}/{file}"
        code |= bodies(source, named_file, lent)
        path.write_text(hollowed(source, names, named_file, lent), encoding="utf-8")
    store(code, package)
    if row.is_zoo:
        write_zoo(package)


def lend_weights(folder: Path, copy: bool = False) -> None:
    """Put the shipped models into `folder`/weights: links to them, or copies where the system allows no links."""
    place = folder / WEIGHTS
    place.mkdir()
    for name in SHIPPED:
        model = shipped_model(name)
        if not copy:
            with suppress(OSError):  # Windows allows links to some users alone
                (place / name).symlink_to(model, target_is_directory=True)
                continue
        shutil.copytree(model, place / name)


def require_file(path: Path) -> None:
    """Raise `CourseError` if a file in the table does not exist: if it was moved, its solutions would be handed out."""
    if not path.is_file():
        raise CourseError(f"{path} is named by the table of assignments, and is not there. Name its new place there.")


def write_tests(row: Assignment, folder: Path, expected: Reference) -> None:
    """Write the tests and their expected values into a new folder."""
    folder.mkdir()
    for name in (row.tests, "conftest.py"):
        shutil.copyfile(KIT / name, folder / name)
    expected.save(folder / "expected", row)


def required_packages() -> list[str]:
    """The packages that minivlm requires, as lines for pip. Raises `CourseError` if minivlm is not installed."""
    try:
        lines = requires(PACKAGE.name) or ()
    except PackageNotFoundError:
        raise CourseError(
            "minivlm is not installed, so what it requires is not known: `pip install .` first."
        ) from None
    return [line.split(";")[0].strip() for line in lines if "extra ==" not in line]


def write_notes(row: Assignment, folder: Path, packages: list[str]) -> None:
    """Write README.md, requirements.txt, pyproject.toml and assignment.json."""
    files = "\n".join(f"- `{file}`" + named(row, file) for file in row.handed_in)
    about = README.format(
        name=row.name,
        title=row.title,
        minutes=row.minutes,
        files=files,
        python=version(),
        absent=left_out(),
        follow="" if row.is_zoo else FOLLOW.format(share=FOLLOW_THROUGH),
    )
    digests = {name: digest(folder / name) for name in row.handed_in}
    note = {"assignment": row.name, "minivlm": __version__, "python": version(), "begun_with": digests}
    (folder / "README.md").write_text(about, encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join([*packages, ""]), encoding="utf-8")
    (folder / "pyproject.toml").write_text(PYTEST, encoding="utf-8")
    write_json(folder / NOTE, note, indent=1)


def left_out() -> str:
    """A sentence about the files that are not in the folder; "" if all are."""
    files = ", ".join(f"`{PACKAGE.name}/{file}`" for file in sorted(all_hidden()))
    return f" Left out are {files}, and so commands that need them do not run." if files else ""


def named(row: Assignment, file: str) -> str:
    """The functions to write in a file, as the text that follows its name; "" if there are none."""
    holes = row.holes.get(file.removeprefix(f"{PACKAGE.name}/"), ())
    return f": {', '.join(f'`{name}`' for name in holes)}" if holes else ""
