"""No student's folder holds a solution: neither of its own assignment nor of another one."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from minivlm.cli import main as cli
from minivlm.course import compiled
from minivlm.course.assignments import ASSIGNMENTS, Assignment, all_hidden, assignment
from minivlm.course.grade import Grader
from minivlm.course.package import PACKAGE, copy_package
from minivlm.course.project import KIT, Folder, write_package, write_tests
from minivlm.course.reference import PUBLIC, Reference, seed_of
from minivlm.course.submission import assemble
from minivlm.course.verdict import RIGHT, judge
from minivlm.course.zoo import bugs
from minivlm.errors import CourseError
from support.course_tools import outcome, reference_shown, run_forks
from support.solution_lines import given_away, holes, solutions

HERE = Path(__file__).parent
SHARED = 0.5  # of a body's telling lines that may stand elsewhere, too: aim.py has two of pull_to_anchor's
GRADED = [name for name in ASSIGNMENTS if not assignment(name).is_zoo]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each assignment as it is handed out, but for handout and expected values."""
    place = tmp_path_factory.mktemp("handed-out")
    for name, row in ASSIGNMENTS.items():
        (place / name).mkdir()
        write_package(row, place / name)
        write_tests(row, place / name / "tests", Reference(PUBLIC, {}, {}))
        (place / name / "assignment.json").write_text(json.dumps({"assignment": name}))
    return {name: place / name for name in ASSIGNMENTS}


# --- handed in as another ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handed_in", ASSIGNMENTS)
def test_a_folder_of_another_assignment_gets_no_points_and_a_note(folders, handed_in):
    for name, row in ASSIGNMENTS.items():
        if name != handed_in:
            graded = Grader(row, Reference(PUBLIC, {}, {}), ()).grade(folders[handed_in])
            assert graded.report.points == 0
            assert graded.report.most == 100
            assert graded.notes == (f"No points: the folder was started for {handed_in}, not for {name}.",)


@pytest.mark.parametrize("name", GRADED)
def test_an_untouched_folder_of_any_assignment_gets_no_points_even_without_its_note(folders, name, tmp_path):
    """The files with holes are taken from each folder in turn, and judged as they would be; equal files once.

    With the solution's files, every test is right: what is compiled does its part.
    """
    row, projects = assignment(name), {}
    jobs = {task.test: seed_of(PUBLIC, row, task) for task in row.tasks}
    for other, folder in {**folders, "solution": PACKAGE.parent}.items():
        project = tmp_path / other
        project.mkdir()
        assert [*assemble(row, folder, project)] == []
        projects.setdefault(tuple((project / file).read_bytes() for file in row.handed_in), project)
        (tmp_path / f"{other} shows").mkdir()
    outs = {project: project.with_name(f"{project.name} shows") for project in projects.values()}
    run_forks([(project, out, jobs) for project, out in outs.items()], KIT / row.tests)
    expected = reference_shown(name, seed=PUBLIC)
    for out in outs.values():
        verdicts = [judge(task, outcome(out, task.test), expected[task.test], task.seconds) for task in row.tasks]
        right = {verdict.task.test for verdict in verdicts if verdict.state == RIGHT}
        assert right == (set(jobs) if out.name == "solution shows" else set()), out.name


def test_a_folder_without_its_files_gets_no_points_in_the_zoo(folders, tmp_path):
    for name in GRADED:
        (tmp_path / name).mkdir()
        assert "was not handed in" in "".join(assemble(assignment("a7"), folders[name], tmp_path / name))
        assert (tmp_path / name / "tests" / "test_zoo.py").read_bytes() == (KIT / "test_zoo.py").read_bytes()


# --- what can be read -------------------------------------------------------------------------------------------------


def solved_in(folder: Path) -> list[str]:
    """The functions asked for of whose telling lines a folder's sources hold more than `SHARED`.

    The zoo's are left out: there, students write tests, and the healthy line alone tells none.
    """
    given = Counter(entry.partition(":")[0] for entry in given_away("\n".join(map(read, folder.rglob("*.py")))))
    return [name for name in holes() if given[name] > SHARED * len(solutions()[name])]


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_no_body_that_an_assignment_asks_for_can_be_read_in_a_folder(folders, name):
    assert solved_in(folders[name]) == []


def test_the_look_for_bodies_finds_them_in_the_whole_package(tmp_path):
    assert solved_in(copy_package(tmp_path)) == [*holes()]


def test_no_line_of_a_bug_can_be_read_in_the_folder_of_the_zoo(folders):
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in folders["a7"].rglob("*.json")]
    for bug in bugs():
        for line in (*bug.old, *bug.new):
            assert not any(line.strip() in text for text in texts)
    assert any(bugs()[0].symptom in text for text in texts)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_files_that_would_tell_are_in_no_folder(folders, name):
    assert not [file for file in all_hidden() if (folders[name] / "minivlm" / file).exists()]


# --- what is compiled, runs -------------------------------------------------------------------------------------------


def test_a_compiled_function_keeps_all_but_its_body(folders, monkeypatch):
    source = (folders["a3"] / "minivlm" / "model" / "layers.py").read_text(encoding="utf-8")
    monkeypatch.setattr(compiled, "stored", lambda: compiled.read_store(compiled.store_of(folders["a3"] / "minivlm")))
    module = {"__name__": "minivlm.model.layers"}
    exec(compile(source, "layers.py", "exec"), module)
    from minivlm.model import layers

    for name in ("rotate", "rotary_angles", "quick_gelu"):
        assert module[name].__doc__ == getattr(layers, name).__doc__
        assert module[name].__annotations__ == getattr(layers, name).__annotations__
        assert module[name].__defaults__ == getattr(layers, name).__defaults__
        assert module[name].__code__.co_code == getattr(layers, name).__code__.co_code


def test_a_compiled_function_calls_what_stands_beside_it_in_the_students_file(monkeypatch):
    code = compiled.bodies("def double(x, *, by=2):\n    return helper(x) * by\n", "some/file.py", ["double"])
    monkeypatch.setattr(compiled, "stored", lambda: code)
    module = {"__name__": "some.file", "compiled": compiled.compiled, "helper": lambda x: x + 1}
    exec("@compiled\ndef double(x, *, by=2):\n    raise NotImplementedError\n", module)
    assert module["double"](3) == 8
    assert module["double"](3, by=1) == 4


def test_a_folder_made_by_another_python_says_so(folders, tmp_path):
    folder = shutil.copytree(folders["a2"], tmp_path / "a2")
    store = compiled.store_of(folder / "minivlm")
    store.write_bytes(b"\0" + store.read_bytes()[1:])
    sentence = r"compiled\.bin was not made by this version of Python \(3\.\d+\).*README\.md.*folder made with yours"
    with pytest.raises(CourseError, match=sentence):
        compiled.read_store(store)
    assert cli.main(["course", "check", str(folder)]) == 1


def test_what_uses_names_from_around_it_cannot_be_compiled_alone():
    with pytest.raises(CourseError, match=r"Thing\.tell uses __class__ from around it"):
        compiled.bodies("class Thing:\n    def tell(self):\n        return super().tell()\n", "a.py", ["Thing.tell"])


def test_a_student_of_the_zoo_checks_with_the_compiled_modules(folders, tmp_path):
    """With the package of the folder alone, a right test catches its bug."""
    folder = shutil.copytree(folders["a7"], tmp_path / "a7")
    written = (HERE / "support" / "zoo_answers.py").read_text(encoding="utf-8")
    (folder / "tests" / "test_zoo.py").write_text(written, encoding="utf-8")
    command = [sys.executable, "-m", "minivlm", "course", "check", "--json", "--only", "head zero", "--only", "ratio"]
    done = subprocess.run(command, cwd=folder, env=alone(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["points"] == 14


def alone() -> dict[str, str]:
    """The environment, in which the package is the one of the folder that is worked in."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_path_of_the_table_that_is_gone_is_an_error(tmp_path, monkeypatch):
    """What has moved would else be handed out."""
    row: Assignment = replace(assignment("a6"), hidden=("toyworld/moved.py",))
    monkeypatch.setitem(ASSIGNMENTS, "a6", row)
    with pytest.raises(CourseError, match=r"toyworld/moved\.py is to be left out .* and is not there"):
        write_package(assignment("a1"), tmp_path / "hidden")
    monkeypatch.setitem(ASSIGNMENTS, "a6", replace(row, hidden=(), holes={"moved.py": ("f",)}))
    with pytest.raises(CourseError, match=r"moved\.py is named by the table of assignments, and is not there"):
        write_package(assignment("a1"), tmp_path / "holes")


def test_the_note_names_the_assignment_and_the_version_of_python(tmp_path):
    from minivlm.course.project import write_notes

    write_notes(assignment("a2"), tmp_path, ["torch"])
    note = json.loads((tmp_path / "assignment.json").read_text())
    assert note["python"] == compiled.version()
    assert Folder.read(tmp_path).assignment.name == "a2"
    assert f"You need Python {compiled.version()}" in (tmp_path / "README.md").read_text(encoding="utf-8")
