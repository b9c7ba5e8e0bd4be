"""Holes, inputs from a seed, what tests show, and the sentence about the first difference."""

import ast
import gc
import json
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minivlm.course.assignments import ASSIGNMENTS, assignment
from minivlm.course.holes import functions, hollowed, is_hollow, parsed
from minivlm.course.kit.compare import first_difference
from minivlm.course.kit.draw import Draw
from minivlm.course.kit.show import DTYPES, Show, Shown
from minivlm.course.package import PACKAGE, handout
from minivlm.course.zoo import EXAMPLE
from minivlm.errors import CourseError

SOURCE = '''"""A module."""


class Thing:
    """A thing."""

    # a remark that stays
    def told(
        self,
        x: int = (lambda: 3)(),
    ) -> dict[str, int]:
        """What it tells.

        In two paragraphs.
        """
        # a remark that would help
        return {"the answer": x}

    @property
    def bare(self) -> int:
        # no docstring here
        return 1  # a secret


def kept() -> int:
    return 2
'''


# --- holes ------------------------------------------------------------------------------------------------------------


def test_a_hole_keeps_signature_docstring_and_neighbours_and_nothing_else():
    hollow = hollowed(SOURCE, ["Thing.told", "Thing.bare"], "a.py")
    for kept in ("x: int = (lambda: 3)(),", "In two paragraphs.", "# a remark that stays", "@property", "return 2"):
        assert kept in hollow
    for gone in ("the answer", "would help", "no docstring here", "a secret"):
        assert gone not in hollow
    assert 'raise NotImplementedError("Write Thing.told in a.py.")' in hollow
    assert [is_hollow(hollow, name) for name in ("Thing.told", "Thing.bare", "kept")] == [True, True, False]
    assert not any(is_hollow(SOURCE, name) for name in ("Thing.told", "Thing.bare", "kept"))


def test_a_function_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(CourseError, match=r"a\.py has no function Thing\.other .* Thing\.told, Thing\.bare, kept"):
        hollowed(SOURCE, ["Thing.other"], "a.py")


def test_threads_parse_at_once_while_garbage_is_collected():
    """Python 3.11.7 fails here unless they take turns: a student graded beside another one lost all points."""

    class Garbage:
        """Waits when it is collected, so that another thread goes on in the middle of a parse; leaves one more."""

        def __init__(self) -> None:
            self.myself = self

        def __del__(self) -> None:
            time.sleep(1e-4)
            if collecting:
                Garbage()

    collecting, thresholds = [True], gc.get_threshold()
    gc.set_threshold(5)
    Garbage()
    try:
        with ThreadPoolExecutor(2) as pool:
            sizes = pool.map(lambda _: len(list(ast.walk(parsed(SOURCE)))), range(200))
            assert len(set(sizes)) == 1
    finally:
        gc.set_threshold(*thresholds)
        collecting.clear()


def test_every_function_of_the_package_could_be_a_hole():
    """Whatever the signature looks like, the rest of the file stays as it is.

    One guarantee for all files, in one test: what fails names its file and function.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        source = path.read_text(encoding="utf-8")
        names = [name for name, node in functions(ast.parse(source)) if node.body[-1].end_lineno > node.lineno]
        before, after = (dict(functions(ast.parse(code))) for code in (source, hollowed(source, names, file)))
        assert [*before] == [*after], file
        for name in names:
            assert_hollow(before[name], after[name], f"{file}, {name}")


def assert_hollow(before: ast.FunctionDef, after: ast.FunctionDef, where: str) -> None:
    """Signature and docstring are as they were; all else is an error that is raised."""
    assert ast.unparse(before.args) == ast.unparse(after.args), where
    assert ast.get_docstring(before) == ast.get_docstring(after), where
    assert isinstance(after.body[-1], ast.Raise), where
    assert len(after.body) == 1 + (ast.get_docstring(after) is not None), where


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_a_row_of_the_table_holds_together(name):
    """Points make 100, holes exist and have a docstring to work by, tests exist and are all worth something."""
    row = assignment(name)
    assert row.points == 100
    assert all(task.points > 0 and task.needs for task in row.tasks)
    tests = dict(functions(ast.parse((PACKAGE / "course" / "kit" / row.tests).read_text(encoding="utf-8"))))
    named = [task.test for task in row.tasks]
    assert len(set(named)) == len(named)
    solved = {f"test_{EXAMPLE}"} if row.is_zoo else set()
    assert {*named, *solved} == {test for test in tests if test.startswith("test_")}
    assert all(ast.get_docstring(tests[test]) for test in named)
    for file, holes in row.holes.items():
        known = dict(functions(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))))
        assert set(holes) <= set(known)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_teachers_page_and_the_handout_know_the_row(name):
    row = assignment(name)
    assert f"| [{name}]({name}.ipynb) | {row.title} | {row.minutes} |" in handout("README", ".md").read_text("utf-8")
    cells = json.loads(handout(name).read_text("utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    assert text.startswith(f"# {name} · {row.title}\n")
    assert all(hole.removeprefix("Attention.") in text for holes in row.holes.values() for hole in holes)
    assert all(task.test in text for task in row.tasks) or not row.is_zoo


def test_an_unknown_assignment_names_those_that_exist():
    with pytest.raises(CourseError, match="no assignment 'a9'; there are a1, a2, a3, a4, a5, a6, a7"):
        assignment("a9")


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_and_another_does_not():
    first, again, other = Draw(5), Draw(5), Draw(6)
    one = first.normal(3, 4)
    assert torch.equal(one, again.normal(3, 4))
    assert not torch.equal(one, other.normal(3, 4))


def test_a_dtype_rounds_the_same_numbers():
    wide, narrow = Draw(1).normal(50, dtype=torch.float64), Draw(1).normal(50, dtype=torch.bfloat16)
    assert torch.equal(wide.to(torch.bfloat16), narrow)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 5), st.booleans())
def test_a_mask_lets_nobody_see_the_future_or_padding_but_everybody_something(batch, queries, past, padded):
    keys = queries + past
    mask = Draw(batch + keys).causal(batch, queries, keys, padded)
    assert mask.shape == (batch, 1, queries, keys)
    assert mask.any(dim=-1).all()
    rows = torch.arange(past, keys)[:, None]
    assert not (mask & (torch.arange(keys) > rows)).any()
    assert mask[-1, 0].equal(torch.arange(keys) <= rows)  # the last row has no padding
    assert mask[:-1, 0, -1, 0].logical_not().all() or not padded or keys == 1


def test_weights_sum_to_one_under_their_mask():
    draw = Draw(0)
    mask = draw.causal(2, 4, 7)
    weights = draw.weights(3, mask, torch.float64)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(2, 3, 4, dtype=torch.float64))
    assert not weights.masked_select(~mask).any()


def test_every_parameter_is_filled():
    module = Draw(2).fill(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4)))
    assert not module.training
    assert all(len(parameter.unique()) == parameter.numel() for parameter in module.parameters())


# --- what is shown ----------------------------------------------------------------------------------------------------


def shown(**values) -> Shown:
    show = Show()
    show(**values)
    return show.shown


def test_what_is_shown_survives_a_file(tmp_path: Path):
    values = {"x": torch.arange(6.0).bfloat16().view(2, 3).T, "n": 3, "words": ["a", None, True], "d": {"y": 0.5}}
    before = shown(**values)
    before.save(tmp_path / "t.safetensors")
    after = Shown.load(tmp_path / "t.safetensors")
    assert after.plain == before.plain
    assert after.within == before.within
    assert first_difference(after, before) == ""
    assert torch.equal(after.tensors["x"], values["x"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 2), (2, 0, 5)], ids=str)
def test_tensors_of_every_kind_survive_beside_others(tmp_path: Path, dtype, shape):
    x = Draw(1).whole(0, 2, *shape).to(dtype)
    shown(before=torch.ones(3, dtype=torch.bool), x=x, after=X).save(tmp_path / "t.safetensors")
    after = Shown.load(tmp_path / "t.safetensors").tensors
    assert (after["x"].dtype, after["x"].shape) == (dtype, shape)
    assert torch.equal(after["x"], x)
    assert torch.equal(after["after"], X)


def test_a_test_that_shows_nothing_can_be_kept(tmp_path: Path):
    Shown().save(tmp_path / "t.safetensors")
    assert Shown.load(tmp_path / "t.safetensors") == Shown()


def test_what_cannot_be_shown_says_what_can():
    with pytest.raises(TypeError, match=r"things\[1\] is a set: expected a tensor, a number"):
        shown(things=[1, {2}])
    with pytest.raises(TypeError, match=r"z is a tensor of torch\.complex64: expected one of .*torch\.float32"):
        shown(z=torch.zeros(2, dtype=torch.complex64))
    show = Show()
    show(x=1)
    with pytest.raises(ValueError, match="shows 'x' twice"):
        show(x=2)


X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("found", "expected", "sentence"),
    [
        (X, X + 1e-6, ""),
        (X, X + 1e-3, r"x\[0, 0\]: expected 1.001 \(± 4e-05\), found 1. 4 of 4 values are off."),
        (X, X.T, r"x\[.*\]: expected .* 2 of 4 values are off."),
        (X, X[:1], r"x: expected the shape \(1, 2\), found \(2, 2\)."),
        (X, X.double(), "x: expected float64, found float32."),
        (X.long(), X.long() + 1, r"x\[0, 0\]: expected 2, found 1."),
        (X / 0, X / 0, ""),
        (X, X / 0, r"x\[0, 0\]: expected inf, found 1."),
        (X * math.nan, X, r"x\[0, 0\]: expected 1 .*, found nan."),
        (X * math.nan, X * math.nan, ""),
        (X > 2, X > 1, r"x\[0, 1\]: expected 1, found 0. 1 of 4"),
        (torch.tensor(1.0), torch.tensor(2.0), r"x: expected 2 \(± 2e-05\), found 1."),
        (X[:0], X[:0], ""),
        (1, X, "x: expected a tensor, found a plain value."),
        (X, 1, "x: expected a plain value, found a tensor."),
        (3, 3, ""),
        (3, 4, "x: expected 4, found 3."),
        (3.0, 3, "x: expected 3, found 3.0."),
        (3, 3.0, ""),
        (True, 1, "x: expected 1, found True."),
        (1 / 3, 0.3333333, ""),
        (0.34, 1 / 3, r"x: expected 0.333.*, found 0.34."),
        (math.nan, math.nan, ""),
        (10**400, 1.0, "x: expected 1.0, found 1000"),
        (math.inf, math.inf, ""),
        (None, "no", "x: expected 'no', found None."),
        ([1, [2, 3]], (1, [2, 4]), r"x\[1\]\[1\]: expected 4, found 3."),
        ([1], [1, 2], "x: expected 2 entries, found 1."),
        ({"a": 1}, {"b": 1}, "x: expected the keys b, found a."),
        ({"a": 1}, {"a": 2}, r"x\['a'\]: expected 2, found 1."),
    ],
)
def test_the_first_difference_is_a_sentence(found, expected, sentence):
    said = first_difference(shown(x=found), shown(x=expected))
    assert re.fullmatch(sentence + ".*" if sentence else "", said, re.DOTALL), said


def test_what_is_missing_is_named_and_what_is_more_is_not_asked_for():
    assert first_difference(shown(), shown(x=1)) == "x: expected a plain value, found nothing."
    assert first_difference(shown(x=1, more=2), shown(x=1)) == ""
