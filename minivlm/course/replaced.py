"""A source text in which some functions are those of another text."""

import ast
from collections.abc import Sequence

from minivlm.course.holes import Function, functions, parsed
from minivlm.errors import CourseError


def with_functions_of(source: str, other: str, names: Sequence[str], file: str) -> str:
    """`source` with the functions `names` as they are in `other`, decorators and all, and with those imports of `other`
    that bind names which `source` does not.

    `file`: the path for messages. Raises `CourseError` if a function is missing in `source`.
    """
    tree, others = parsed(source), parsed(other)
    present, wanted = dict(functions(tree)), dict(functions(others))
    if missing := [name for name in names if name not in present]:
        raise CourseError(f"{file} has no function {', '.join(missing)}.")
    lines, taken = source.splitlines(keepends=True), other.splitlines(keepends=True)
    for name in sorted(names, key=lambda name: present[name].lineno, reverse=True):  # last first, as lines move
        (begin, end), (first, last) = extent(present[name]), extent(wanted[name])
        lines[begin - 1 : end] = taken[first - 1 : last]
    bound = bound_names(tree)
    imports = [f"{ast.unparse(node)}\n" for node in others.body if is_import(node) and not bound >= names_of(node)]
    place = beginning(tree)
    return "".join([*lines[:place], *imports, *lines[place:]])


def extent(function: Function) -> tuple[int, int]:
    """The first and the last line of a function, decorators included."""
    assert function.end_lineno is not None  # parsed text has line numbers
    return min(node.lineno for node in (function, *function.decorator_list)), function.end_lineno


def is_import(node: ast.stmt) -> bool:
    """Whether it is an import, `from __future__` aside."""
    return isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module != "__future__")


def names_of(node: ast.stmt) -> set[str]:
    """The names that an import binds."""
    aliases = node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []
    return {alias.asname or alias.name.split(".")[0] for alias in aliases}


def bound_names(tree: ast.Module) -> set[str]:
    """The names that a module binds at its top level by imports, definitions and assignments."""
    found: set[str] = set()
    for node in tree.body:
        found |= names_of(node)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        found |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    return found


def beginning(tree: ast.Module) -> int:
    """How many lines stand before the place where an import may be put: those of docstring and `from __future__`."""
    end = 0
    for node in tree.body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_text and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        end = node.end_lineno or 0
    return end
