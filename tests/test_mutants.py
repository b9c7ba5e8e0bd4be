"""Mutants are made by the syntax tree: neither layout nor a variable's new name is in the way of one."""

import ast

import pytest

from support.mutants import Exchange, NoMutant, mutant

SOURCE = '''
import torch
from einops import rearrange

HALF = 0.5

def rotate(x, cos, sin):
    """Turns."""
    first, second = x.chunk(2, dim=-1)  # halves
    turned = torch.cat((-second, first), dim=-1)
    return x * cos + turned * sin


class Block:
    def forward(self, x):
        x = x + self.attention(x)
        if x.ndim == 3:
            x = self.norm(
                x,
            )
        return self.mlp(x)
'''


def made(old: str, new: str, function: str = "rotate", source: str = SOURCE) -> str:
    return mutant(source, Exchange("some/file.py", function, old, new))


def expected(old: str, new: str, source: str = SOURCE) -> str:
    """The same by text."""
    assert source.count(old) == 1
    return ast.unparse(ast.parse(source.replace(old, new)))


# --- what counts ------------------------------------------------------------------------------------------------------


def test_an_expression_gives_way_to_another():
    assert made("torch.cat((-second, first), dim=-1)", "first") == expected(
        "torch.cat((-second, first), dim=-1)", "first"
    )


def test_statements_give_way_to_others():
    old = "turned = torch.cat((-second, first), dim=-1)\nreturn x * cos + turned * sin"
    now = made(old, "if x.ndim:\n    return x\nreturn x + cos")
    assert now == expected(old.replace("\n", "\n    "), "if x.ndim:\n        return x\n    return x + cos")


def test_nothing_stands_where_statements_stood():
    now = made("x = self.norm(x)", "", "Block.forward")
    assert now == expected("x = self.norm(\n                x,\n            )", "pass")
    assert "self.attention" not in made("x = x + self.attention(x)", "", "Block.forward")


def test_a_call_that_stands_alone_gives_way_to_statements():
    source = "def f(x):\n    x.zero_()\n    return x\n"
    assert made("x.zero_()", "y = x\nx = -y", "f", source) == "def f(x):\n    y = x\n    x = -y\n    return x"


def test_the_whole_file_is_searched_where_no_function_is_named():
    assert "HALF = 2" in made("HALF = 0.5", "HALF = 2", "")


# --- what does not count ----------------------------------------------------------------------------------------------


def test_layout_brackets_and_comments_do_not_count():
    assert made("first, second = (x.chunk(\n    2, dim=-1,\n))  # other words", "first = second = x") == expected(
        "first, second = x.chunk(2, dim=-1)", "first = second = x"
    )


def test_a_renamed_variable_has_its_new_name_in_the_mutant():
    source = SOURCE.replace("second", "behind").replace("turned", "quarter")
    now = made("torch.cat((-second, first), dim=-1)", "torch.cat((second, first), dim=-1)", source=source)
    assert now == expected("(-behind, first)", "(behind, first)", source)


def test_a_renamed_parameter_is_a_renamed_variable():
    source = "def f(self, hidden):\n    return self.mlp(hidden)\n"
    assert made("self.mlp(x)", "x", "f", source) == "def f(self, hidden):\n    return hidden"


def test_the_name_as_it_is_written_goes_first():
    source = "def f(a, b):\n    return g(a) + g(b)\n"
    assert made("g(b)", "0", "f", source) == "def f(a, b):\n    return g(a) + 0"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_refused():
    with pytest.raises(NoMutant, match=r"some/file.py, rotate: expected the old code once, found it 0 times"):
        made("x * sin", "x")


def test_what_is_there_twice_is_refused():
    with pytest.raises(NoMutant, match="found it 2 times"):
        made("g()", "0", "f", "def f():\n    return g() + g()\n")


def test_what_may_be_either_of_two_variables_is_refused():
    with pytest.raises(NoMutant, match="found it 2 times"):
        made("g(c)", "0", "f", "def f(a, b):\n    return g(a) + g(b)\n")


def test_two_variables_do_not_become_one():
    with pytest.raises(NoMutant, match="found it 0 times"):
        made("g(c, d)", "0", "f", "def f(a):\n    return g(a, a)\n")


def test_a_name_that_means_something_stands_for_nothing_else():
    """HALF is no variable, and `x` still is there."""
    with pytest.raises(NoMutant, match="found it 0 times"):
        made("half * x", "x", "f", "HALF = 1\ndef f(x):\n    return HALF * x\n")
    with pytest.raises(NoMutant, match="found it 0 times"):
        made("g(x)", "x", "f", "def f(x, y):\n    return g(y) + x\n")


def test_new_code_that_speaks_of_what_is_gone_is_refused():
    """Else it would be red by an error of ours."""
    with pytest.raises(NoMutant, match="speaks of second, unknown there"):
        made("x.chunk(2, dim=-1)", "(first, second)", source=SOURCE.replace("second", "behind"))


def test_a_function_that_is_not_there_is_refused():
    with pytest.raises(NoMutant, match="expected one function of that name, found 0"):
        made("x", "y", "Block.backward")
