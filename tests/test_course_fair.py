"""Fair points: what a wrong function costs, what a hang costs, what is said of a file that cannot be read."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from minivlm.course import check as checking
from minivlm.course import hunt as hunting
from minivlm.course.assignments import ASSIGNMENTS, assignment
from minivlm.course.check import check
from minivlm.course.folder import Folder
from minivlm.course.follow_through import groups
from minivlm.course.grade import grade
from minivlm.course.grade_report import GradeReport
from minivlm.course.hangs import SHORT, Hangs
from minivlm.course.holes import hollowed
from minivlm.course.kit import conftest
from minivlm.course.outcome import Job, Outcome
from minivlm.course.package import PACKAGE
from minivlm.course.pieces import own_pieces, pieces_of
from minivlm.course.project import KIT, write_notes, write_package, write_tests
from minivlm.course.readable import fault_of, load_sentence
from minivlm.course.reference import PUBLIC, Reference
from minivlm.course.replaced import with_functions_of
from minivlm.course.stack import frames
from minivlm.course.supervise import supervise
from minivlm.course.verdict import OPEN, RIGHT, WRONG, Verdict, judge
from minivlm.errors import CourseError
from support.course_tools import verdicts
from support.small_student import project

LINUX = sys.platform == "linux"
GRADED = [name for name, row in ASSIGNMENTS.items() if not row.is_zoo]
A3 = assignment("a3")
DECODER, ATTENTION = "model/decoder.py", "model/attention.py"
SOME = ("test_who_may_see_whom", "test_heads_share_keys", "test_both_lanes_give_the_same", "test_steps_in_their_order")
ROW = replace(A3, tasks=tuple(task for task in A3.tasks if task.test in SOME))  # 10, 6, 10 and 10 points


def source(file: str, *empty: str, **bodies: str) -> str:
    """A file of the package without some functions, and with others written in another way."""
    text = (PACKAGE / file).read_text(encoding="utf-8")
    text = hollowed(text, [*empty, *bodies], f"minivlm/{file}")
    for name, body in bodies.items():
        hole = f'raise NotImplementedError("Write {name} in minivlm/{file}.")'
        assert hole in text
        text = text.replace(hole, body)
    return text


# --- which functions a test is about ----------------------------------------------------------------------------------


def test_a_test_is_about_what_no_test_before_it_was_about():
    own = {test: {name for _, name in pieces} for test, pieces in own_pieces(A3).items()}
    assert own["test_heads_apart_and_together"] == {"Attention.project", "Attention.merge"}
    assert own["test_steps_in_their_order"] == {"Attention.forward"}  # it needs causal_mask, too
    everything = {name for _, name in pieces_of(assignment("a1"))}
    assert {name for _, name in own_pieces(assignment("a1"))["test_a_model_sees"]} == everything


@pytest.mark.parametrize("name", GRADED)
def test_nothing_is_gained_without_the_function_that_a_test_is_about(name):
    """With all other functions right, no test passes whose own functions are not written."""
    row = assignment(name)
    parts = [(own, tests) for own, tests in groups(row).items() if len(own) < len(pieces_of(row))]
    own = {str(number): part for number, part in enumerate(parts)}
    empty = {
        key: {file: source(file, *(n for f, n in pieces if f == file)) for file in {file for file, _ in pieces}}
        for key, (pieces, _) in own.items()
    }
    judged = verdicts(name, empty, {key: tests for key, (_, tests) in own.items()})
    passed = [test for found in judged.values() for test, verdict in found.items() if verdict.state == RIGHT]
    assert passed == []


# --- follow-through marks ---------------------------------------------------------------------------------------------

WRONG_HEADS = "return x.repeat(1, group, 1, 1)"
SPY = (
    "from minivlm.course.compiled import stored\n"
    "        print('SPIED', *(name for name in stored() if 'attention' in name or 'decoder' in name))\n"
    "        raise ValueError('SPIED')"
)
STUDENTS = {  # attention.py, decoder.py, and the points of each test
    "right": (source(ATTENTION), source(DECODER), [10, 6, 5, 6]),
    "wrong": (source(ATTENTION, repeat_heads=WRONG_HEADS), source(DECODER), [10, 0, 4, 5]),
    "unwritten": (source(ATTENTION, "repeat_heads"), source(DECODER), [10, 0, 4, 5]),
    "two of them": (source(ATTENTION, "repeat_heads"), source(DECODER, "causal_mask"), [0, 0, 4, 5]),
    "hanging": (source(ATTENTION, repeat_heads="while True: pass"), source(DECODER), [10, 0, 4, 5]),
    "tidied": (  # an import went that the student's function does not need, and the package's does
        source(ATTENTION, repeat_heads=WRONG_HEADS).replace("import rearrange, repeat", "import rearrange"),
        source(DECODER),
        [10, 0, 4, 5],
    ),
    "forward as well": (
        source(ATTENTION, "Attention.forward", repeat_heads=WRONG_HEADS),
        source(DECODER),
        [10, 0, 0, 0],
    ),
    "spying": (source(ATTENTION, "repeat_heads", **{"Attention.forward": SPY}), source(DECODER), [10, 0, 0, 0]),
    "misspelt": (source(ATTENTION), source(DECODER) + "\ndef (", [0, 0, 0, 0]),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, GradeReport]:
    """The reports on a class, of which one test's limit is lowered, so that a hang takes two seconds."""
    place = tmp_path_factory.mktemp("class")
    row = replace(ROW, tasks=tuple(replace(t, seconds=2.0) if "share_keys" in t.test else t for t in ROW.tasks))
    for name, (attention, decoder, _) in STUDENTS.items():
        (place / name).mkdir()
        (place / name / "attention.py").write_text(attention, encoding="utf-8")
        (place / name / "decoder.py").write_text(decoder, encoding="utf-8")
    graded = grade(row, [place / name for name in STUDENTS], "a secret", place / "out", jobs=2)
    return {one.student: one.report for one in graded}


@pytest.mark.slow
@pytest.mark.parametrize("student", STUDENTS)
def test_a_wrong_function_costs_its_own_tests_and_a_quarter_of_those_that_call_it(reports, student):
    assert [verdict.points for verdict in reports[student].verdicts] == STUDENTS[student][2]


@pytest.mark.slow
def test_the_report_says_what_was_lent_and_nothing_of_the_second_run(reports):
    sentence = reports["wrong"].verdicts[2].sentence
    assert sentence.endswith("It passes with the package's own repeat_heads, and so 75% of its points count.")
    assert "causal_mask, repeat_heads" in reports["two of them"].verdicts[3].sentence
    hanging = reports["hanging"].verdicts[2].sentence
    assert "in repeat_heads, which did not end in the test 'heads share keys'" in hanging or not LINUX
    spied = [f"{verdict.sentence} {verdict.printed}" for verdict in reports["spying"].verdicts]
    assert "repeat_heads" not in "".join(spied).split("SPIED", 1)[1].replace("Write repeat_heads in", "")
    line = len(STUDENTS["misspelt"][1].splitlines())
    assert str(reports["misspelt"]).endswith(
        f"\n\nYour minivlm/model/decoder.py cannot be read: line {line}, invalid syntax. Nothing was tested."
    )


def test_points_are_whole_and_a_half_is_rounded_up():
    tasks = [replace(A3.tasks[0], points=points) for points in (10, 6, 5, 1)]
    assert [Verdict(task, WRONG, share=0.75).points for task in tasks] == [8, 5, 4, 1]
    assert [Verdict(task, WRONG, share=1.0).points for task in tasks] == [10, 6, 5, 1]
    assert [Verdict(task, OPEN).points for task in tasks] == [0, 0, 0, 0]


def test_functions_are_exchanged_with_their_decorators_and_missing_imports():
    students = '"""Mine."""\nfrom __future__ import annotations\nimport os\n\n\nclass A:\n    def f(self): return 1\n\n'
    ours = 'import math\nimport os\n\n\nclass A:\n    @cached\n    def f(self):\n        """F."""\n        return 1.0\n'
    mixed = with_functions_of(students, ours, ["A.f"], "a.py")
    assert mixed == (
        '"""Mine."""\nfrom __future__ import annotations\nimport math\nimport os\n\n\nclass A:\n'
        '    @cached\n    def f(self):\n        """F."""\n        return 1.0\n\n'
    )
    with pytest.raises(CourseError, match=r"a\.py has no function A\.f"):
        with_functions_of("x = 1\n", ours, ["A.f"], "a.py")


# --- hangs ------------------------------------------------------------------------------------------------------------

HANGING = """
import time

def endless(seconds=1e9):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(range(1000))

def slow():
    until = time.perf_counter() + 1.5
    while time.perf_counter() < until:
        sum(range(1000))

def calls():
    endless()
"""
HANGING_TESTS = """
from minivlm import work

def test_first(show):
    work.endless()

def test_calls_it(show):
    work.calls()

def test_is_slow_but_ends(show):
    work.slow()
    show(done=True)

def test_is_quick(show):
    show(done=True)
"""


@pytest.mark.skipif(not LINUX, reason="a process tells where it is on a signal")
def test_a_hang_costs_its_test_and_a_second_of_each_that_gets_there(tmp_path):
    folder, tests = project(tmp_path, HANGING, HANGING_TESTS)
    names = ("test_first", "test_calls_it", "test_is_slow_but_ends", "test_is_quick")
    hangs = Hangs(frozenset(f"minivlm/work.py, {name}" for name in ("endless", "slow", "calls")))
    first, calls, slow, quick = supervise(folder, tests, [Job(name, 1, 4.0, 400) for name in names], hangs=hangs)
    assert [out.status for out in (first, calls, slow, quick)] == ["too slow", "too slow", "ran", "ran"]
    assert first.where.startswith("minivlm/work.py, line ")
    assert first.where.endswith("in endless")
    assert first.seconds >= 4 > 3 * SHORT
    assert calls.message == "Stopped after 1 s in endless, which did not end in the test 'first': see there."
    assert "It was in minivlm/work.py" in judge(A3.tasks[0], first, None, 8).sentence
    assert judge(A3.tasks[0], calls, None, 8).sentence == calls.message


def test_what_is_too_slow_for_a_speed_test_is_no_hang():
    hangs, late = Hangs(frozenset({"a.py, f"})), Outcome("test_x", "too slow", 3, stack=("b.py, g", "a.py, f"))
    job = Job("test_x", 1, 3.0, 400, is_speed=True)
    assert hangs.settled(job, job, late) is late
    assert hangs.shortened([job]) == [job]


def test_a_stack_is_read_as_far_as_it_is_the_students():
    text = dedent(
        """\
        Current thread 0x00007f (most recent call first):
          File "/libs/torch/nn.py", line 3 in forward
          File "/p/minivlm/model/layers.py", line 40 in rotate
          File "/q/minivlm/model/layers.py", line 41 in rotate
          File "/p/minivlm/x.py", line 99999999999999999999999 in <module>
        """
    )
    assert frames(text, Path("/p")) == (
        ("minivlm/model/layers.py", 40, "rotate"),
        ("minivlm/x.py", 999999999, "<module>"),
    )
    assert frames("no stack", Path("/p")) == ()


# --- files that cannot be read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"x = (1,\n\ny = 2\n", "line 1, '(' was never closed."),
        (b"def f():\nreturn 1\n", "line 2, expected an indented block after function definition on line 1."),
        (b"x = 1\n  y = 2\n", "line 2, unexpected indent."),
        (b"if x:\n        y = 1\n\tz = 2\n", "line 3, inconsistent use of tabs and spaces in indentation."),
        (b"x = 1\ny = 2\nname = 'J\xfcrg'\n", "line 3 is not in UTF-8: the byte 0xfc. Save it as UTF-8."),
        (b"# J\xfcrg\n", "it is not in UTF-8, or names another encoding that Python does not know. Save it as UTF-8."),
        ("x = 1".encode("utf-16"), "it has zero bytes, as a file in UTF-16 has. Save it as UTF-8."),
        (json.dumps({"cells": [{"cell_type": "code"}]}).encode(), "it is a notebook. Take the file as"),
        (b"import os\n!pip install x\n", "line 2, '!pip install x' is a command of a notebook, which Python has not."),
        (b"%matplotlib inline\n", "line 1, '%matplotlib inline' is a command of a notebook"),
        (b"x = 1\n", ""),
        (b"\xef\xbb\xbfx = 1\r\n", ""),
        (b"# coding: latin-1\nname = 'J\xfcrg'\n", ""),
    ],
)
def test_what_python_cannot_read_is_told_with_its_line(content, fault):
    said = fault_of(content)
    assert said.startswith(fault)
    assert bool(said) == bool(fault)


LAYERS = "minivlm/model/layers.py"


@pytest.mark.parametrize(
    ("error", "where", "message", "sentence"),
    [
        ("SyntaxError", f"{LAYERS}, line 9", "'return' outside function (layers.py, line 9)",
         f"Your {LAYERS} cannot be read: line 9, 'return' outside function. Nothing was tested."),
        ("NameError", f"{LAYERS}, line 9, in <module>", "name 'math' is not defined",
         f"Your {LAYERS} cannot be imported: line 9, NameError: name 'math' is not defined. Is an import missing? "
         "Nothing was tested."),
        ("ModuleNotFoundError", f"{LAYERS}, line 1, in <module>", "No module named 'np'",
         f"Your {LAYERS} cannot be imported: line 1, ModuleNotFoundError: No module named 'np'. Nothing was tested."),
        ("ImportError", "test_a2.py, line 8, in <module>", "cannot import name 'rotate' from 'minivlm.model.layers'",
         f"rotate is not in {LAYERS}, and test_a2.py, line 8, in <module> imports it. Was it renamed or deleted, or do "
         "two files import each other? Nothing was tested."),
        ("", "", "It ended itself with exit code 3.",
         "The package could not be loaded. It ended itself with exit code 3. Nothing was tested."),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_told_with_its_line(error, where, message, sentence):
    assert load_sentence(Outcome("test_x", "raised", 1, error, where, message, is_loading=True)) == sentence
    loading = Outcome("test_x", "raised" if error else "crashed", 1, error, where, message, is_loading=True)
    assert judge(A3.tasks[0], loading, None, 20).sentence == sentence


# --- a folder in which little was written -----------------------------------------------------------------------------


def begun(name: str, folder: Path) -> Folder:
    """A folder as it is handed out, without expected values and models."""
    row = assignment(name)
    write_package(row, folder)
    write_tests(row, folder / "tests", Reference(PUBLIC, {}, {}))
    write_notes(row, folder, [])
    return Folder.read(folder)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_nothing_runs_as_long_as_nothing_is_written(name, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "run", lambda *_: pytest.fail("the tests were run"))
    report = check(begun(name, tmp_path))
    assert {verdict.state for verdict in report.verdicts} == {OPEN}
    assert f"Next: Write {'a test' if name == 'a7' else pieces_of(report.assignment)[0][1]}" in str(report)
    first = tmp_path / report.assignment.handed_in[0]
    first.write_text(first.read_text(encoding="utf-8") + "\nx = 1\n", encoding="utf-8")
    assert not Folder.read(tmp_path).is_untouched
    first.write_text("x = (", encoding="utf-8")
    assert str(check(Folder.read(tmp_path))).endswith(
        "cannot be read: line 1, '(' was never closed. Nothing was tested."
    )


def test_the_check_itself_never_imports_what_students_write(tmp_path):
    """Nor torch, where there is nothing to run: it takes seconds to import."""
    begun("a3", tmp_path / "a3")
    written = {file for row in ASSIGNMENTS.values() for file in row.holes}
    script = f"""
        import sys
        from importlib import import_module
        from minivlm.cli import main as cli
        assert cli.main(["course", "check", {str(tmp_path / "a3")!r}]) == 1
        assert "torch" not in sys.modules
        for name in ("hunt", "judging", "reference", "zoo"):
            import_module(f"minivlm.course.{{name}}")
        names = [name.removeprefix("minivlm.").replace(".", "/") + ".py" for name in sys.modules]
        assert not {written!r}.intersection(names)
    """
    done = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unwritten_tests_of_the_zoo_run_together_once(tmp_path, monkeypatch):
    """The one that was written runs in processes of its own, with its bug and without."""
    folder = begun("a7", tmp_path)
    tests = folder.path / "tests" / "test_zoo.py"
    hole = 'raise NotImplementedError("Write a test that fails under the bug head_zero.")'
    tests.write_text(tests.read_text(encoding="utf-8").replace(hole, "assert False"), encoding="utf-8")
    runs = []

    def run(bug, _, jobs, __):
        runs.append((bug and bug.name, [job.test for job in jobs]))
        known = {job.test: Outcome(job.test, "raised", 1, "NotImplementedError", "", "Write x.") for job in jobs}
        return [Outcome(t, "ran", 1) if t == "test_head_zero" else out for t, out in known.items()]

    monkeypatch.setattr(hunting, "run", run)
    report = check(folder)
    others = [task.test for task in folder.assignment.tasks if task.test != "test_head_zero"]
    assert runs == [(None, others), (None, ["test_head_zero"]), ("head_zero", ["test_head_zero"])]
    assert [verdict.state for verdict in report.verdicts].count(OPEN) == len(others)


def test_plain_pytest_computes_with_one_thread():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        conftest.pytest_configure()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert (KIT / "conftest.py").is_file()
