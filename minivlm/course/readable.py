"""Files of a student that Python cannot read or import: a sentence that says which, where and why.

The files are read as text here, and never imported.
"""

import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.course.holes import parsed
from minivlm.course.row import Assignment
from minivlm.files import one_line

if TYPE_CHECKING:
    from minivlm.course.outcome import Outcome

NOTHING = "Nothing was tested."
NOT_PYTHON = ("!", "%")  # how commands of a notebook begin
SYNTAX_ERRORS = ("SyntaxError", "IndentationError", "TabError")
LONGEST = 60  # characters of a line that is quoted
PLACE = re.compile(r"(?P<file>.+?\.py), line (?P<line>\d+)(, in .*)?")
NO_SUCH_NAME = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'")


def unreadable(row: Assignment, folder: Path) -> str:
    """A sentence about the first file of the assignment in `folder` that Python cannot read; "" if it can read all."""
    for name in row.handed_in:
        file = folder / name
        if file.is_file() and (fault := fault_of(file.read_bytes())):
            return unreadable_sentence(name, fault)
    return ""


def unreadable_sentence(name: str, fault: str) -> str:
    """ "Your minivlm/model/decoder.py cannot be read: line 102, '(' was never closed. Nothing was tested." """
    return f"Your {name} cannot be read: {fault} {NOTHING}"


def fault_of(content: bytes) -> str:
    """What keeps Python from reading a file, as the end of a sentence; "" if nothing does."""
    if is_notebook(content):
        return "it is a notebook. Take the file as it was handed out, and copy your functions from the cells into it."
    if b"\0" in content:
        return "it has zero bytes, as a file in UTF-16 has. Save it as UTF-8."
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        source = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return (
            f"line {line} is not in {error.encoding.upper()}: the byte 0x{content[error.start]:02x}. Save it as UTF-8."
        )
    except SyntaxError:  # of detect_encoding
        return "it is not in UTF-8, or names another encoding that Python does not know. Save it as UTF-8."
    return fault_of_text(source)


def fault_of_text(source: str) -> str:
    """What keeps Python from parsing a text, with the line; "" if nothing does."""
    try:
        parsed(source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        if line.startswith(NOT_PYTHON):
            return (
                f"line {error.lineno}, {one_line(line)[:LONGEST]!r} is a command of a notebook, which Python has not."
            )
        return f"line {error.lineno}, {error.msg}."
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {one_line(error)}."
    return ""


def is_notebook(content: bytes) -> bool:
    """Whether a file holds a notebook's JSON."""
    if not content.lstrip().startswith(b"{"):
        return False
    return b'"cells"' in content and b'"cell_type"' in content


def load_sentence(outcome: "Outcome") -> str:
    """What kept the package, or the student's tests, from being imported."""
    place = PLACE.fullmatch(outcome.where)
    message = outcome.message.strip().removesuffix(".")
    if missing := NO_SUCH_NAME.match(outcome.message):
        file = missing["module"].replace(".", "/")
        return (
            f"{missing['name']} is not in {file}.py, and {outcome.where} imports it. Was it renamed or deleted, or do "
            f"two files import each other? {NOTHING}"
        )
    if place is None:
        raised = f"{outcome.error}: {message}".removeprefix(": ").removesuffix(": ")
        return f"The package could not be loaded. {outcome.where} {raised}. {NOTHING}".replace("  ", " ")
    if outcome.error in SYNTAX_ERRORS:
        said = re.sub(r" \([^()]*, line \d+\)$", "", message)
        return f"Your {place['file']} cannot be read: line {place['line']}, {said}. {NOTHING}"
    raised = f"{outcome.error}: {message}".removeprefix(": ").removesuffix(": ")
    advice = " Is an import missing?" if outcome.error == "NameError" else ""
    return f"Your {place['file']} cannot be imported: line {place['line']}, {raised}.{advice} {NOTHING}"
