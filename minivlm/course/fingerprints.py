"""Fingerprints of a text: each stands for some tokens in a row, with names and texts made alike.

Two programs that differ in names, comments, docstrings and layout alone have the same fingerprints. Every position has
one; winnowing (Schleimer, Wilkerson, Aiken 2003), which keeps one of several, saves memory that a class does not need.
"""

import builtins
import io
import keyword
import re
import token
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LENGTH = 12  # tokens of a fingerprint: what is shorter than one is shared by chance
ROUGH = re.compile(r"\w+|[^\w\s]")
UNSEEN = {tokenize.COMMENT, tokenize.NL, token.NEWLINE, token.INDENT, token.DEDENT, tokenize.ENCODING, token.ENDMARKER}
KEPT = {*keyword.kwlist, *dir(builtins)}
BEGINNINGS = (token.NEWLINE, token.INDENT, token.DEDENT, tokenize.NL, tokenize.COMMENT, tokenize.ENCODING)


@dataclass(frozen=True)
class Token:
    """A token as it counts, and its line, from 1."""

    text: str
    line: int


@dataclass(frozen=True)
class Piece:
    """A text that was handed in: a file of code, or a cell of a notebook."""

    place: str  # "minivlm/model/layers.py" or "a3.ipynb, cell 7"
    text: str
    is_code: bool = True

    @property
    def tokens(self) -> list[Token]:
        return [*(code_tokens(self.text) if self.is_code else rough_tokens(self.text))]


def code_tokens(text: str) -> Iterator[Token]:
    """The tokens of Python code; of what cannot be read as such, words and signs."""
    try:
        found = [*tokenize.generate_tokens(io.StringIO(text).readline)]
    except (tokenize.TokenError, SyntaxError, ValueError):
        yield from rough_tokens(text)
        return
    before, start = "", True
    for one in found:
        documents = one.type == token.STRING and start  # a text that stands alone
        if one.type not in UNSEEN and not documents:
            yield Token(normal(one, before), one.start[0])
            before = one.string
        start = one.type in BEGINNINGS if not documents else start


def normal(one: tokenize.TokenInfo, before: str) -> str:
    """A token as it counts: names that a student chooses are all alike, and so are texts; names behind a dot stay."""
    if one.type == token.NAME:
        return one.string if one.string in KEPT or before == "." else "name"
    return "text" if one.type == token.STRING else one.string


def rough_tokens(text: str) -> Iterator[Token]:
    """Words and signs of any text, in small letters."""
    for number, line in enumerate(text.splitlines(), 1):
        yield from (Token(word.lower(), number) for word in ROUGH.findall(line))


def fingerprints(tokens: Sequence[Token]) -> list[tuple[int, int, int]]:
    """(fingerprint, first line, last line) for each position that begins `LENGTH` tokens."""
    texts = [one.text for one in tokens]
    return [
        (hash(tuple(texts[at : at + LENGTH])), tokens[at].line, tokens[at + LENGTH - 1].line)
        for at in range(len(tokens) - LENGTH + 1)
    ]
