"""Every command that handouts, the teacher's page and the help show is run, on a folder as it is handed out."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from minivlm.cli import main as cli
from minivlm.course.assignments import ASSIGNMENTS, assignment
from minivlm.course.choice import chosen
from minivlm.course.package import PACKAGE, handout
from minivlm.course.project import write_notes, write_package, write_tests
from minivlm.course.reference import PUBLIC, Reference
from minivlm.errors import CourseError

CHECK = re.compile(r"(?:\{check\}|minivlm course check)(?P<words>(?: --only \w+)*)")
COMMAND = re.compile(r"`(?:python -m )?minivlm (?P<words>[^`]+)`")
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
PAGE = handout("README", ".md").read_text(encoding="utf-8")


def cells(name: str) -> list[str]:
    """The cells of a handout, as texts."""
    return ["".join(cell["source"]) for cell in json.loads(handout(name).read_text(encoding="utf-8"))["cells"]]


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_every_check_in_a_handout_runs(name, tmp_path, capsys):
    row = assignment(name)
    write_package(row, tmp_path)
    write_tests(row, tmp_path / "tests", Reference(PUBLIC, {}, {}))
    write_notes(row, tmp_path, [])
    checks = {match["words"] for text in cells(name) for match in CHECK.finditer(text)}
    assert checks, "a handout says how to check"
    for words in sorted(checks):
        assert cli.main(["course", "check", str(tmp_path), *words.split()]) == 1  # nothing is written yet
        assert "Next: Write" in capsys.readouterr().out, words


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_every_other_command_in_a_handout_can_be_typed(name):
    for match in [match for text in cells(name) for match in COMMAND.finditer(text)]:
        cli.make_parser().parse_args(shlex.split(match["words"]))
    for test in re.findall(r"pytest .*-k (\w+)", "\n".join(cells(name))):
        assert chosen(assignment(name), [test])


def test_the_example_in_the_help_of_check_fits(capsys):
    with pytest.raises(SystemExit):
        cli.main(["course", "check", "--help"])
    found = re.search(r"such as (\w+) in (a\d)", " ".join(capsys.readouterr().out.split()))
    assert chosen(assignment(found[2]), [found[1]])
    with pytest.raises(CourseError, match="a3 has no test named like padding; it has test_who_may_see_whom"):
        chosen(assignment("a3"), ["padding"])


def in_folder(folder: Path, programs: Path, *words: str) -> subprocess.CompletedProcess:
    """A command in a folder, in which programs are looked for in `programs` first, and this package is installed."""
    shown = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    paths = {"PYTHONPATH": str(PACKAGE.parent), "PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(words, cwd=folder, env={**shown, **paths}, text=True, capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the teacher's page shows commands of a Unix shell")
def test_every_command_of_the_teachers_page_runs(tmp_path):
    """In their order: a folder is started and checked, a class is graded, then one submission as Gradescope does."""
    (tmp_path / "bin").mkdir()
    for name, words in {"minivlm": "-m minivlm", "pytest": "-m pytest", "python": ""}.items():
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(0o755)
    place = tmp_path / "class"
    (place / "handed-in" / "ada").mkdir(parents=True)
    (place / "source").mkdir()
    (place / "source" / "seed").write_text("a word")
    (place / "seed.txt").write_text("a word that is kept\n")
    (place / "submission").mkdir()
    (place / "results").mkdir()
    endings = {}
    for block in BLOCK.findall(PAGE):
        folder = place / "handed-out" / "a3" if "course check" in block else place
        lines = [block.replace("/autograder", str(place))] if block.startswith("#!") else block.splitlines()
        for line in lines:
            done = in_folder(folder, tmp_path / "bin", "bash", "-ec", line)
            endings[line.split("  #")[0].strip()] = done.returncode, done.stdout + done.stderr
    wrong = {line: said for line, (code, said) in endings.items() if code != ("check" in line or line == "pytest")}
    assert wrong == {}
    assert "Next: Write repeat_heads" in endings["python -m minivlm course check --only heads"][1]
    assert json.loads((place / "results" / "results.json").read_text(encoding="utf-8"))["score"] == 0
