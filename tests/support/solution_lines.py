"""Which lines give the solution of an assignment away, and which of them a text holds.

A line of a hole's body gives it away if it says something and stands nowhere in the package but in holes, and in the
files that an assignment hides since they count alike. What it says is what it computes: the line without `return` and
without the names that it is given to; or the whole line, where that is short, or just a name or a call with names, as
handouts have them where they tell how to call what is there. Less than `LONG` characters say nothing. Blanks, comments,
quotes, commas and round brackets count neither here nor in the text, so that another layout of the same code does not
hide it. The lines that a bug of the zoo (a7) changes count like a hole's, but for the bug that the handout solves.
"""

import ast
import re
from collections import Counter
from functools import cache

from minivlm.course.assignments import ASSIGNMENTS
from minivlm.course.holes import body_lines, functions
from minivlm.course.package import PACKAGE
from minivlm.course.zoo import EXAMPLE, bugs

LONG = 20
COMMENT = re.compile(r"#.*")
NOISE = re.compile(r"""[\s()'",\\]""")
GIVEN_TO = re.compile(r"^(return |yield |[\w\s.,:\[\]]+? [-+*/|&]?= )?")
CALL = re.compile(r"[\w.]+(\([\w., ]*\))?")


def given_away(text: str) -> list[str]:
    """The holes that a text holds a line of, each with the line."""
    seen = f"{squeezed(text.replace('#', ''))}\n{squeezed(COMMENT.sub('', text))}"  # comments may be code, or cut it
    return [f"{name}: {line}" for name, lines in solutions().items() for line in sorted(lines) if line in seen]


@cache
def solutions() -> dict[str, frozenset[str]]:
    """Of each hole, by assignment and name, such as "a2 rotate", what gives it away."""
    hidden = {PACKAGE / file for row in ASSIGNMENTS.values() for file in row.hidden}
    elsewhere = Counter(
        said_by(line)
        for file in PACKAGE.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if file not in hidden
    )
    bodies = {name: [said_by(line) for line in body_of(source)] for name, source in holes().items()}
    for said in bodies.values():
        elsewhere.subtract(said)
    alone = {name: frozenset(line for line in said if line and not elsewhere[line]) for name, said in bodies.items()}
    zoo = {f"a7 {bug.name}": frozenset(map(said_by, bug.old)) - {""} for bug in bugs() if bug.name != EXAMPLE}
    return alone | zoo


@cache
def holes() -> dict[str, str]:
    """The source of each function that an assignment takes out, by assignment and name."""
    found = {}
    for row in ASSIGNMENTS.values():
        for file, names in row.holes.items():
            source = (PACKAGE / file).read_text(encoding="utf-8")
            known = dict(functions(ast.parse(source)))
            found |= {f"{row.name} {name}": ast.get_source_segment(source, known[name]) for name in names}
    return found


def body_of(source: str) -> list[str]:
    """The lines of a function's body, without its docstring."""
    lines = source.splitlines(keepends=True)
    first, last = body_lines(ast.parse(source).body[0], lines)
    return lines[first - 1 : last]


def said_by(line: str) -> str:
    """What a line of code says, squeezed; "" if that is too little."""
    whole = COMMENT.sub("", line).strip()
    value = squeezed(GIVEN_TO.sub("", whole))
    if len(value) >= LONG and not CALL.fullmatch(GIVEN_TO.sub("", whole)):
        return value
    return squeezed(whole) if len(squeezed(whole)) >= LONG else ""


def squeezed(text: str) -> str:
    """A text without what other layouts of the same code may have otherwise."""
    return NOISE.sub("", text)
