"""The bug zoo (a7): every bug goes unnoticed by a test of shapes, and a good test catches it; lazy answers get nothing.

Good tests are in support/zoo_answers.py. Versions of the package are compared in forks, see support/course_tools.py;
what the real workers do, sandbox and limits included, is tried once, with one student's file.
"""

import ast
import inspect
import json
from pathlib import Path

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.holes import functions
from minivlm.course.hunt import hunt, run
from minivlm.course.kit import test_shapes, test_zoo
from minivlm.course.package import PACKAGE
from minivlm.course.verdict import OPEN, RIGHT, WRONG, judge_hunt
from minivlm.course.zoo import EXAMPLE, Bug, bug_named, bugs, disguised, modules_of, mutated, specimen
from minivlm.errors import CourseError
from support import zoo_answers
from support.course_tools import outcome, run_forks

ROW = assignment("a7")
BUGS = [bug.name for bug in bugs()]
OTHERS = [name.removeprefix("other_") for name in vars(zoo_answers) if name.startswith("other_")]
SEEDS = (11,)
HERE = Path(__file__).parent
GOOD = HERE / "support" / "zoo_answers.py"

LAZY = """
import importlib, inspect
from pathlib import Path
import torch
import minivlm
from minivlm.course.kit.tiny import tiny_model, tiny_pixels, tiny_prompt

def always_fails(draw, show):
    raise AssertionError("whatever it is")

def always_passes(draw, show):
    pass

def only_shapes(draw, show):
    tokens = torch.tensor([tiny_prompt(draw)])
    assert tiny_model(draw)(tokens, tiny_pixels(draw)).logits.shape[:2] == tokens.shape

def reads_the_source(draw, show):
    for module in ("minivlm.model.eah", "minivlm.model.decoder", "minivlm.model.layout", "minivlm.model.sinks"):
        assert inspect.getsource(importlib.import_module(module)).count("TODO") == 0

def reads_the_file(draw, show):
    assert "head >= 0" in (Path(minivlm.__file__).parent / "model" / "eah.py").read_text()

def leaves_it_open(draw, show):
    raise NotImplementedError("Write it.")
"""
LAZY_NAMES = [node.name for node in ast.parse(LAZY).body if isinstance(node, ast.FunctionDef)]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> dict[str, Path]:
    """A folder with each specimen, the healthy one under "healthy"."""
    folder = tmp_path_factory.mktemp("zoo")
    for bug in (None, *bugs()):
        specimen(folder / (bug.name if bug else "healthy"), bug)
    return {name: folder / name for name in ("healthy", *BUGS)}


def ran(zoo, out: Path, file: Path, jobs: dict[str, list[str]], seed: int) -> dict:
    """Run the tests `jobs` names for each specimen; (specimen, test) -> outcome."""
    for name in jobs:
        (out / name).mkdir()
    run_forks([(zoo[name], out / name, dict.fromkeys(tests, seed)) for name, tests in jobs.items()], file)
    return {(name, test): outcome(out / name, test) for name, tests in jobs.items() for test in tests}


# --- the table, the file that is handed out ---------------------------------------------------------------------------


def test_every_bug_but_the_example_is_a_task():
    assert BUGS[0] == EXAMPLE
    assert sorted(task.bug for task in ROW.tasks) == sorted(BUGS[1:])
    assert all(task.test == f"test_{task.bug}" for task in ROW.tasks)
    assert ROW.points == 100
    assert ROW.is_zoo


def test_the_classics_of_the_field_are_in_the_zoo():
    named = "short_slice head_zero first_row silent_decode loose_loading label_ratio missing_space padded_positions"
    assert set(named.split()) < set(BUGS)


def test_compiled_files_do_not_tell_which_was_changed(zoo, tmp_path):
    """Neither when its source was written, nor how long that was, nor by a checksum that was taken at home."""
    for folder in zoo.values():
        assert {file.read_bytes()[8:16] for file in folder.rglob("*.pyc")} == {bytes(8)}
        assert not list(folder.rglob("*.py"))
    again = specimen(tmp_path)
    for name in {bug.file for bug in bugs()}:
        compiled = Path(name).with_suffix(".pyc")
        assert (again / compiled).read_bytes() != (zoo["healthy"] / PACKAGE.name / compiled).read_bytes()


def test_a_disguise_changes_bytes_and_nothing_else():
    source = (PACKAGE / "model" / "eah.py").read_text(encoding="utf-8")
    first, second = ast.parse(disguised(source)), ast.parse(disguised(source))
    assert ast.dump(first) != ast.dump(second)
    for tree in (first, second):
        for _, function in functions(tree):
            del function.body[ast.get_docstring(function, clean=False) is not None]
        assert ast.dump(tree) == ast.dump(ast.parse(source))


@pytest.mark.parametrize("name", BUGS)
def test_what_is_handed_out_tells_the_symptom(name):
    bug, function = bug_named(name), vars(test_zoo)[f"test_{name}"]
    told = " ".join(inspect.getdoc(function).split())
    body = ast.parse(inspect.getsource(function)).body[0].body[1:]
    if name == EXAMPLE:
        assert told.startswith(bug.symptom)
        assert not isinstance(body[0], ast.Raise)
    else:
        assert told == bug.symptom
        assert [type(part) for part in body] == [ast.Raise]


def test_only_the_example_is_solved_in_the_kit():
    hollow = {f"test_{name}" for name in BUGS if name != EXAMPLE}
    assert {name for name in vars(test_zoo) if name.startswith("test_")} == hollow | {f"test_{EXAMPLE}"}
    assert {name for name in vars(test_shapes) if name.startswith("test_")} == hollow | {f"test_{EXAMPLE}"}


def test_the_handout_tells_each_symptom_and_helps_in_three_steps():
    cells = json.loads((HERE.parent / "notebooks" / "assignments" / "a7.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    for task in ROW.tasks:
        (text,) = [text for text in texts if text.startswith(f"### `{task.bug}` · {task.points} points")]
        assert bug_named(task.bug).symptom in text
        assert text.count("<details>") == text.count("</details>") == 3
        assert f"| `{task.test}` | {task.points} |" in texts[0]
    assert not any(cell.get("outputs") for cell in cells)


# --- bugs go into copies ----------------------------------------------------------------------------------------------


def healthy(bug: Bug) -> str:
    return (PACKAGE / bug.file).read_text(encoding="utf-8")


@pytest.mark.parametrize("bug", bugs(), ids=BUGS)
def test_a_bug_changes_one_place_in_one_file(bug):
    lines, now = healthy(bug).splitlines(), mutated(healthy(bug), bug).splitlines()
    start = next(i for i, (old, new) in enumerate(zip(lines, now, strict=False)) if old != new)
    behind = lines[start:][len(bug.old) :]
    assert now[start : len(now) - len(behind)] == list(bug.new)
    assert now[len(now) - len(behind) :] == behind
    ast.parse("\n".join(now))


@pytest.mark.parametrize("bug", bugs(), ids=BUGS)
def test_a_specimen_differs_from_the_healthy_one_in_the_file_of_its_bug_alone(bug, monkeypatch):
    monkeypatch.setattr("minivlm.course.zoo.disguised", lambda source: source)
    before, after = modules_of(None), modules_of(bug)
    assert {file for file in before if before[file] != after[file]} == {bug.file}


def test_a_bug_is_put_in_once_and_only_where_its_lines_stand_once():
    bug = bug_named("head_zero")
    with pytest.raises(CourseError, match="stand there 0 times"):
        mutated(mutated(healthy(bug), bug), bug)
    with pytest.raises(CourseError, match="stand there 2 times"):
        mutated("\n".join([healthy(bug), "", "def again(rows, head):", *bug.old, ""]), bug)
    with pytest.raises(CourseError, match="no bug 'unknown'.*head_zero"):
        bug_named("unknown")


def test_part_of_a_line_is_no_place_for_a_bug():
    bug = bug_named("head_zero")
    longer = healthy(bug).replace("    touched = rows & (head >= 0)", "    if 1: touched = rows & (head >= 0)")
    with pytest.raises(CourseError, match="stand there 0 times"):
        mutated(longer, bug)


def test_a_specimen_has_no_sources_and_no_list_of_bugs(zoo):
    for folder in zoo.values():
        files = [file for file in (folder / "minivlm").rglob("*") if file.is_file()]
        assert not [file for file in files if file.suffix == ".py" or file.name == "bugs.json"]
        assert len(files) > 100


# --- what catches them, and what does not -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes(zoo, tmp_path_factory):
    jobs = {"healthy": [f"test_{name}" for name in BUGS]} | {name: [f"test_{name}"] for name in BUGS}
    return ran(zoo, tmp_path_factory.mktemp("shapes"), Path(test_shapes.__file__), jobs, SEEDS[0])


@pytest.mark.parametrize("name", BUGS)
def test_a_test_of_shapes_passes_with_the_bug(shapes, name):
    assert shapes["healthy", f"test_{name}"].status == "ran", shapes["healthy", f"test_{name}"]
    assert shapes[name, f"test_{name}"].status == "ran", shapes[name, f"test_{name}"]


@pytest.fixture(scope="module", params=SEEDS)
def answers(request, zoo, tmp_path_factory):
    good = [f"test_{name}" for name in BUGS] + [f"other_{name}" for name in OTHERS]
    jobs = {name: [test for test in good if test.split("_", 1)[1] == name] for name in BUGS}
    return ran(
        zoo,
        tmp_path_factory.mktemp("answers"),
        GOOD,
        {"healthy": good} | jobs,
        request.param,
    )


@pytest.mark.parametrize("test", [f"test_{name}" for name in BUGS] + [f"other_{name}" for name in OTHERS])
def test_a_good_test_catches_the_bug(answers, test):
    healthy, broken = answers["healthy", test], answers[test.split("_", 1)[1], test]
    assert healthy.status == "ran", healthy
    assert (broken.status, broken.error) in {("raised", "AssertionError"), ("raised", "Failed")}, broken


def test_the_obvious_test_of_positions_is_blind(zoo, tmp_path):
    """As the handout says: padding on the left alone moves every position of a row by the same."""
    (tmp_path / "obvious.py").write_text("""
import torch
from minivlm.course.kit.tiny import left_padded, tiny_model, tiny_pixels, tiny_prompt

def test_left(draw, show):
    model, pixels, short = tiny_model(draw), tiny_pixels(draw), tiny_prompt(draw, words=2)
    tokens, attention_mask = left_padded([short, tiny_prompt(draw, words=9)])
    together = model(tokens, pixels.expand(2, -1, -1, -1), attention_mask=attention_mask, last_only=True).logits
    alone = model(torch.tensor([short]), pixels, last_only=True).logits
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
""")
    found = ran(
        zoo, tmp_path, tmp_path / "obvious.py", {"healthy": ["test_left"], "padded_positions": ["test_left"]}, 3
    )
    assert [one.status for one in found.values()] == ["ran", "ran"]


@pytest.fixture(scope="module")
def lazy(zoo, tmp_path_factory):
    out = tmp_path_factory.mktemp("lazy")
    (out / "lazy.py").write_text(LAZY)
    return ran(zoo, out, out / "lazy.py", dict.fromkeys(zoo, LAZY_NAMES), SEEDS[0])


@pytest.mark.parametrize("task", ROW.tasks, ids=[task.bug for task in ROW.tasks])
@pytest.mark.parametrize("name", LAZY_NAMES)
def test_a_lazy_answer_gets_nothing(lazy, task, name):
    verdict = judge_hunt(task, lazy["healthy", name], lazy[task.bug, name], task.seconds)
    assert verdict.points == 0
    assert verdict.state == (OPEN if name == "leaves_it_open" else WRONG)
    assert verdict.sentence


# --- one student's file, as it is judged in earnest -------------------------------------------------------------------

STUDENT = """
import os, time
import pytest
from zoo_answers_of_a_student import *

def test_label_ratio(draw, show):
    assert True

def test_missing_space(draw, show):
    raise AssertionError

def test_head_zero(draw, show):
    other_head_zero(draw, show)

def test_short_slice(draw, show):
    if len(open(os.path.expanduser("~/.profile_of_somebody")).read()):
        raise AssertionError

def test_loose_loading(draw, show):
    other_loose_loading(draw, show)

def test_silent_decode(draw, show):
    raise NotImplementedError("Write a test that fails under the bug silent_decode.")
"""
EXPECTED = {
    "test_label_ratio": WRONG,
    "test_missing_space": WRONG,
    "test_head_zero": RIGHT,
    "test_short_slice": WRONG,
    "test_loose_loading": RIGHT,
    "test_silent_decode": OPEN,
    "test_shuffled_groups": RIGHT,
}


@pytest.mark.slow
def test_a_student_is_judged_task_by_task(tmp_path):
    (tmp_path / "test_zoo.py").write_text(STUDENT)
    (tmp_path / "zoo_answers_of_a_student.py").write_text(GOOD.read_text(encoding="utf-8"))
    tasks = [task for task in ROW.tasks if task.test in EXPECTED]
    found = hunt(ROW, tasks, tmp_path / "test_zoo.py", "secret")
    assert {verdict.task.test: verdict.state for verdict in found} == EXPECTED, found


MARKER = """
import os, sys

def leave_a_mark(change):
    file = sys.modules[__name__].__spec__.origin
    found = os.stat(file)
    second = (found.st_mode & 0o777, found.st_mtime) == (0o600, 1.0)
    if not second:
        try:
            change(file)
        except OSError:
            pass
    assert not second

def test_label_ratio(draw, show):
    leave_a_mark(lambda file: (os.fchmod(os.open(file, os.O_RDONLY), 0o600), os.utime(file, (1, 1))))

def test_missing_space(draw, show):
    leave_a_mark(lambda file: (os.chmod(file, 0o600), os.utime(os.open(file, os.O_RDONLY), (1, 1))))
"""


@pytest.mark.slow
def test_a_run_leaves_no_mark_for_the_next(tmp_path):
    """A test that passes at first and fails in its second run would catch every bug."""
    (tmp_path / "test_zoo.py").write_text(MARKER)
    before = (tmp_path / "test_zoo.py").stat()
    tasks = [task for task in ROW.tasks if task.test in ("test_label_ratio", "test_missing_space")]
    assert [verdict.points for verdict in hunt(ROW, tasks, tmp_path / "test_zoo.py", "secret")] == [0, 0]
    after = (tmp_path / "test_zoo.py").stat()
    assert (after.st_mode, after.st_mtime) == (before.st_mode, before.st_mtime)


def test_each_run_of_the_hunt_has_copies_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "test_zoo.py").write_text("from beside import x\n")
    (tmp_path / "beside.py").write_text("x = 1\n")
    given = []

    def supervised(project, tests, jobs, denied):
        given.append((project, tests))
        assert tests.with_name("beside.py").read_text() == "x = 1\n"
        assert tests.read_text() == "from beside import x\n"
        return []

    monkeypatch.setattr("minivlm.course.hunt.supervise", supervised)
    for bug in (None, bug_named("head_zero")):
        run(bug, tmp_path / "test_zoo.py", [], [])
    places = {place for pair in given for place in pair}
    assert len(places) == 4
    assert tmp_path / "test_zoo.py" not in places
