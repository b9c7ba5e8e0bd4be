"""Holes: a source text without the bodies of some functions.

Signature, decorators and docstring stay; the body becomes one line that raises NotImplementedError and says what to
write. Functions of other assignments, here called lent, also get a decorator that gives them a compiled body.
"""

import ast
import tokenize
from collections.abc import Iterator, Sequence
from threading import Lock

from minivlm.errors import CourseError

Function = ast.FunctionDef | ast.AsyncFunctionDef
# Before Python 3.11.8 and 3.12.2, threads that parse at the same time share one counter of depth, and a healthy source
# fails with a SystemError when the garbage collector runs in between (python/cpython#106905). Grading uses threads.
PARSING = Lock()


def parsed(source: str) -> ast.Module:
    """The syntax tree of a source text. Threads parse one after another."""
    with PARSING:
        return ast.parse(source)


def hollowed(source: str, names: Sequence[str], file: str, lent: Sequence[str] = ()) -> str:
    """`source` without the bodies of the functions `names`, such as "rotate" or "RMSNorm.forward".

    Those of them that are `lent` get the decorator `@compiled`. `file`: the path for messages. Raises `CourseError` if
    a function does not exist.
    """
    tree = parsed(source)
    present = dict(functions(tree))
    if unknown := [name for name in names if name not in present]:
        raise CourseError(f"{file} has no function {', '.join(unknown)} to take out; it has {', '.join(present)}.")
    lines = source.splitlines(keepends=True)
    for name in sorted(
        names, key=lambda name: present[name].lineno, reverse=True
    ):  # last first: the line numbers above stay right
        function = present[name]
        first, last = body_lines(function, lines)
        indent = " " * function.body[0].col_offset
        remark = "  # not reached: the compiled body runs instead" if name in lent else ""
        lines[first - 1 : last] = [f'{indent}raise NotImplementedError("Write {name} in {file}."){remark}\n']
        if name in lent:
            lines.insert(function.lineno - 1, " " * function.col_offset + "@compiled\n")
    if lent:
        lines.insert(first_import(tree) - 1, "from minivlm.course.compiled import compiled\n")
    return "".join(lines)


def first_import(tree: ast.Module) -> int:
    """The line of the first import, `from __future__` aside: another import may be put before it."""
    return next(
        node.lineno
        for node in tree.body
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module != "__future__")
    )


def functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, Function]]:
    """The functions and methods of a module, by their dotted name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield inside + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{inside}{node.name}.")


def body_lines(function: Function, lines: Sequence[str]) -> tuple[int, int]:
    """The first and last line of a body, without its docstring but with the comments around it."""
    documented = ast.get_docstring(function, clean=False) is not None
    before = function.body[0].end_lineno if documented else header_end(function, lines)
    assert before is not None  # parsed text has line numbers
    assert function.end_lineno is not None
    return before + 1, function.end_lineno


def header_end(function: Function, lines: Sequence[str]) -> int:
    """The line of the colon that ends a signature: the first colon outside all brackets."""
    depth = 0  # how many brackets are open
    rest = iter(lines[function.lineno - 1 :])
    for token in tokenize.generate_tokens(lambda: next(rest, "")):
        if token.type == tokenize.OP and token.string in "([{":
            depth += 1
        elif token.type == tokenize.OP and token.string in ")]}":
            depth -= 1
        elif token.string == ":" and depth == 0:
            return function.lineno + token.start[0] - 1
    return function.lineno


def is_hollow(source: str, name: str) -> bool:
    """Whether the function is as it was handed out: its body ends with a line that raises NotImplementedError."""
    function = dict(functions(parsed(source))).get(name)
    last = function.body[-1] if function else None
    return isinstance(last, ast.Raise) and "NotImplementedError" in ast.unparse(last)
