"""Mutants: versions of the package in which a piece of a function is another one, as when a student gets it wrong.

An exchange names the file, the function and two pieces of code, expressions or statements that follow each other. The
old one is looked for in the syntax tree, so layout, brackets and comments do not count. Nor do the names of variables:
a name of the old piece that means nothing in the function any more may be any variable there, which then has that name
in the new piece too.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from textwrap import dedent

from minivlm.course.package import PACKAGE

Piece = list[ast.stmt] | list[ast.expr]  # statements, or one expression
Names = dict[str, str]  # what a piece of code calls a variable -> what the function calls it


class NoMutant(ValueError):
    """The old piece does not stand there exactly once, or the new one cannot stand there."""


@dataclass(frozen=True)
class Exchange:
    """In `function` of `file`, a path in the package, `new` stands where `old` stood."""

    file: str
    function: str  # "rotate", "Attention.forward", or "" for the whole file
    old: str
    new: str  # "" where nothing stands instead of statements


@dataclass(frozen=True)
class Place:
    """A piece in the tree: `count` nodes from `start` on in the list `field` of `parent`, or the one node in it."""

    parent: ast.AST
    field: str
    start: int | None
    count: int
    names: Names


def sources(exchanges: Iterable[Exchange]) -> dict[str, str]:
    """The changed files of the package, by path, with one exchange made after the other."""
    changed: dict[str, str] = {}
    for exchange in exchanges:
        before = changed.get(exchange.file) or (PACKAGE / exchange.file).read_text(encoding="utf-8")
        changed[exchange.file] = mutant(before, exchange)
    return changed


def mutant(source: str, exchange: Exchange) -> str:
    """The source of a file with one exchange made, in Python's own layout. `NoMutant` says what was in the way."""
    tree = ast.parse(source)
    try:
        function = function_named(tree, exchange.function)
        old, new = pieces(exchange.old, exchange.new)
        place = one_place(function, old)
        put(place, under_names_of(function, tree, new, place.names))
    except NoMutant as error:
        where = f"{exchange.file}, {exchange.function or 'anywhere'}"
        raise NoMutant(f"{where}: {error}\n--- old\n{exchange.old}\n--- new\n{exchange.new}") from None
    return ast.unparse(ast.fix_missing_locations(tree))


def pieces(old: str, new: str) -> tuple[Piece, Piece]:
    """Both pieces as expressions, if both are, else as statements."""
    bodies = [ast.parse(dedent(code).strip("\n")).body for code in (old, new)]
    if all(len(body) == 1 and isinstance(body[0], ast.Expr) for body in bodies):
        return [bodies[0][0].value], [bodies[1][0].value]
    return bodies[0], bodies[1]


def function_named(tree: ast.Module, name: str) -> ast.AST:
    """A function of a file, or a method as `Class.method`; the whole file by ""."""
    found: list[ast.AST] = [tree]
    for part in name.split(".") if name else []:
        found = [node for outer in found for node in outer.body if getattr(node, "name", None) == part]
    if len(found) != 1:
        raise NoMutant(f"expected one function of that name, found {len(found)}.")
    return found[0]


# --- where the old piece stands ---------------------------------------------------------------------------------------


def one_place(function: ast.AST, old: Piece) -> Place:
    """The one place where the old piece stands as it is written or, if there is none, under other names."""
    found, mine = list(places(function, old)), variables(function)
    exact = [place for place in found if all(old == now for old, now in place.names.items())]
    found = exact or [place for place in found if only_renamed(place.names, mine, spoken_of(function))]
    if len(found) != 1:
        raise NoMutant(f"expected the old code once, found it {len(found)} times.")
    return found[0]


def only_renamed(names: Names, mine: set[str], known: set[str]) -> bool:
    """Whether names differ only where the old one means nothing any more and the new one is a variable."""
    return all(old == now or (old not in known and now in mine) for old, now in names.items())


def places(function: ast.AST, old: Piece) -> Iterator[Place]:
    """Every place where the piece stands under whatever names."""
    for parent in ast.walk(function):
        for field, value in ast.iter_fields(parent):
            if isinstance(value, list):
                starts = range(len(value) - len(old) + 1)
                found = [(start, match(old, value[start : start + len(old)])) for start in starts]
            else:
                found = [(None, match(old, [value]))]
            yield from (Place(parent, field, start, len(old), names) for start, names in found if names is not None)


def match(old: Piece, here: list) -> Names | None:
    """What the names of the piece are called here, if it is the same but for them; two names never become one."""
    names: Names = {}
    return names if alike(old, here, names) and len(set(names.values())) == len(names) else None


def alike(old: object, here: object, names: Names) -> bool:
    """Whether two trees are the same, where a name of the one always stands for the same name of the other."""
    if isinstance(old, list):
        same_length = isinstance(here, list) and len(old) == len(here)
        return same_length and all(alike(a, b, names) for a, b in zip(old, here, strict=True))
    if type(old) is not type(here):
        return False
    if isinstance(old, ast.Name):
        return names.setdefault(old.id, here.id) == here.id
    if isinstance(old, ast.arg):
        return names.setdefault(old.arg, here.arg) == here.arg
    if isinstance(old, ast.expr_context):
        return True
    if isinstance(old, ast.AST):
        return all(alike(getattr(old, field), getattr(here, field), names) for field in old._fields)
    return old == here


# --- the new piece ----------------------------------------------------------------------------------------------------


def under_names_of(function: ast.AST, tree: ast.Module, new: Piece, names: Names) -> Piece:
    """The new piece under the names that the function has for what it speaks of."""
    whole = ast.Module(new, [])
    for node in ast.walk(whole):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    known = spoken_of(function) | variables(whole) | at_top(tree) | set(dir(builtins))
    if strange := sorted(spoken_of(whole) - known):
        raise NoMutant(f"the new code speaks of {', '.join(strange)}, unknown there. Renamed? Name it in the old code.")
    return new


def put(place: Place, new: Piece) -> None:
    """Let the new piece stand in the place; `pass`, where no statement is left."""
    if place.start is None:
        setattr(place.parent, place.field, new[0])
        return
    values = getattr(place.parent, place.field)
    values[place.start : place.start + place.count] = new
    if not values and place.field == "body":
        values.append(ast.Pass())


# --- names ------------------------------------------------------------------------------------------------------------


def spoken_of(tree: ast.AST) -> set[str]:
    """All names in a piece of code."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | variables(tree)


def variables(tree: ast.AST) -> set[str]:
    """The names that a piece of code gives a value: variables, parameters, and what it imports."""
    nodes = list(ast.walk(tree))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}
    return stored | parameters | {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}


def at_top(tree: ast.Module) -> set[str]:
    """What a file names at its top: imports, constants, functions and classes."""
    named = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    plain = [node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return named | variables(ast.Module(plain, []))
