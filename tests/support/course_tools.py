"""What the tests of the course share: verdicts on many versions of the package at once."""

import atexit
import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from minivlm.course.assignments import Assignment, assignment
from minivlm.course.kit.show import Shown
from minivlm.course.package import PACKAGE, ZOO, copy_package
from minivlm.course.project import KIT, lend_weights, write_package
from minivlm.course.reference import seed_of
from minivlm.course.supervise import Outcome
from minivlm.course.verdict import RIGHT, Verdict, judge

Changes = Mapping[str, str]  # new sources, by file of the package
Limits = Mapping[str, tuple[float, int]]  # seconds of computing and megabytes, by test
WHOLE, HOLLOW = "whole", "hollow"
SEED = "a seed that no student knows"


def verdicts(
    name: str, versions: Mapping[str, Changes | str], tests: Mapping[str, Iterable[str]], seed: str = SEED
) -> dict[str, dict[str, Verdict]]:
    """Judge versions of the package, each given by its changes, or WHOLE, or HOLLOW, by the tests that it is to run.

    No limits of time and memory, and no sandbox: see `minivlm.course.supervise` for those.
    """
    row = assignment(name)
    tasks = {version: [task for task in row.tasks if task.test in tests[version]] for version in versions}
    with tempfile.TemporaryDirectory() as place:
        folders = {
            version: write_version(row, Path(place, str(i)), versions[version]) for i, version in enumerate(versions)
        }
        jobs = {version: {task.test: seed_of(seed, row, task) for task in tasks[version]} for version in versions}
        run_forks([(folder, folder, jobs[version]) for version, folder in folders.items()], KIT / row.tests)
        expected = reference_shown(name, frozenset().union(*jobs.values()), seed)
        return {
            version: {t.test: judge(t, outcome(folder, t.test), expected[t.test], t.seconds) for t in tasks[version]}
            for version, folder in folders.items()
        }


def endings(
    name: str, versions: Mapping[str, Changes | str], seconds: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, Outcome]]:
    """What came of tests under limits, by version and test: each version runs those that it has `seconds` for, and may
    take the memory that a student may.
    """
    row, runs, limits = assignment(name), [], []
    tasks = {task.test: task for task in row.tasks}
    with tempfile.TemporaryDirectory() as place:
        for number, version in enumerate(versions):
            project = write_version(row, Path(place, str(number)), versions[version])
            for test, time in seconds[version].items():
                out = Path(place, f"{number} {test}")
                out.mkdir()
                runs.append((project, out, {test: seed_of(SEED, row, tasks[test])}))
                limits.append({test: (time, tasks[test].megabytes)})
        run_forks(runs, KIT / row.tests, limits)
        ended = [outcome(out, test) for _, out, (test,) in runs]
    each = iter(ended)
    return {version: {test: next(each) for test in seconds[version]} for version in versions}


def states(found: Mapping[str, dict[str, Verdict]], version: str) -> dict[str, str]:
    """How each test judged a version: right, open or wrong."""
    return {test: verdict.state for test, verdict in found[version].items()}


def faults(judged: Mapping[str, Verdict]) -> dict[str, str]:
    """The sentences of the tests that a version did not pass; none for a right one."""
    return {test: verdict.sentence for test, verdict in judged.items() if verdict.state != RIGHT}


@cache
def reference_shown(name: str, tests: frozenset[str] | None = None, seed: str = SEED) -> dict[str, Shown]:
    """What the whole package shows in tests of an assignment, or in all of them."""
    row = assignment(name)
    with tempfile.TemporaryDirectory() as place:
        jobs = {task.test: seed_of(seed, row, task) for task in row.tasks if tests is None or task.test in tests}
        run_forks([(PACKAGE.parent, Path(place), jobs)], KIT / row.tests)
        outcomes = [outcome(Path(place), test) for test in jobs]
    assert not (failed := [out for out in outcomes if out.shown is None]), f"the package fails its own tests: {failed}"
    return {out.test: out.shown for out in outcomes}


def write_version(row: Assignment, folder: Path, version: Changes | str) -> Path:
    """A project with a version of the package in it. What is not changed is linked: there are hundreds of versions."""
    folder.mkdir()
    lend_weights(folder)
    if version == HOLLOW:
        write_package(row, folder)
        return folder
    package = folder / PACKAGE.name
    link_copy(package)
    for file, source in ({} if version == WHOLE else version).items():
        (package / file).unlink()  # a link: writing through it would change all others
        (package / file).write_text(source, encoding="utf-8")
    return folder


@cache
def some_copy() -> Path:
    """A compiled copy of the package to link to; it is removed at the end of the process."""
    place = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    copy = copy_package(Path(place), without=[ZOO])
    compileall.compile_dir(copy, quiet=1)  # holds for what is not changed: it knows time and size of its source
    return copy


def link_copy(package: Path) -> None:
    """A copy of the package, of links."""
    copy, target = str(some_copy()), str(package)
    for place, names in contents(copy):
        os.mkdir(target + place)
        for name in names:
            os.link(f"{copy}{place}/{name}", f"{target}{place}/{name}")


@cache
def contents(copy: str) -> list[tuple[str, list[str]]]:
    """The folders of a copy of the package, each as the end of its path, with the names of its files."""
    return [(place[len(copy) :], names) for place, _, names in os.walk(copy)]


def run_forks(
    versions: list[tuple[Path, Path, dict[str, int]]], tests: Path, limits: Iterable[Limits] | None = None
) -> None:
    """Run `jobs` (tests and seeds) of the file `tests` on each (project, folder for what is shown, jobs), under the
    limits of each, or without any.
    """
    lines = [
        {"project": str(project), "tests": str(tests), "out": str(out), "jobs": jobs, "limits": bounds}
        for (project, out, jobs), bounds in zip(versions, limits or [{}] * len(versions), strict=True)
    ]
    script = forking_process()
    print(json.dumps(lines), file=script.stdin, flush=True)
    assert script.stdout.readline() == "\n", "support/course_forks.py has ended, see what it wrote to stderr"


@cache
def forking_process() -> subprocess.Popen:
    """The script that runs versions: one for all tests of this process, since it takes seconds to import torch."""
    script = Path(__file__).with_name("course_forks.py")
    quiet = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # compiled files are linked, too
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, script], env=quiet, **pipes)
    atexit.register(process.communicate)  # closes its stdin: then it ends
    return process


def outcome(folder: Path, test: str) -> Outcome:
    """How a test ended in a fork."""
    if (shown := folder / f"{test}.safetensors").is_file():
        return Outcome(test, "ran", 0.0, shown=Shown.load(shown))
    ended = folder / f"{test}.json"
    if not ended.is_file():
        return Outcome(test, "crashed", 0.0)
    return Outcome(test, seconds=0.0, **json.loads(ended.read_text()))
