"""Reading JSON that others wrote: line by line, or a whole file; what is wrong is told with its file and line."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minivlm.errors import EvaluationError
from minivlm.files import parse_json

PICKLE = b"\x80"  # how a pickle begins; no text in UTF-8 does


def read_lines(path: str | Path) -> Iterator[tuple[int, dict]]:
    """The number of each line, from 1, and its JSON object; empty lines are passed over."""
    path = Path(path).expanduser()
    for number, line in enumerate(_bytes(path).splitlines(), 1):
        if line.strip():
            where = f"'{path}', line {number}"
            yield number, _object(_parsed(line, where), where)


def read_entries(path: str | Path) -> Iterator[tuple[str, dict]]:
    """Where each JSON object stands, and the object: of a list or else of lines, whatever the file is called."""
    path = Path(path).expanduser()
    if not _bytes(path).lstrip().startswith(b"["):
        yield from ((f"'{path}', line {number}", found) for number, found in read_lines(path))
        return
    for number, entry in enumerate(read_json(path), 1):
        where = f"'{path}', entry {number}"
        yield where, _object(entry, where)


def read_json(path: str | Path) -> Any:
    """What a JSON file holds."""
    path = Path(path).expanduser()
    return _parsed(_bytes(path), f"'{path}'")


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise EvaluationError(f"'{path}' is {'no file' if path.exists() else 'not there'}; a JSON file was expected.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    if data.startswith(PICKLE) or path.suffix in (".pkl", ".pickle"):
        raise EvaluationError(f"'{path}' is a pickle, which could run code when it is read. Give the data as JSON.")
    return data.removeprefix(BOM_UTF8)


def _parsed(data: bytes, where: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise EvaluationError(f"{where}: this is no JSON in UTF-8 ({error}).") from error


def _object(found: Any, where: str) -> dict:
    if not isinstance(found, dict):
        raise EvaluationError(f"{where}: a JSON object was expected, found {str(found)[:60]!r}.")
    return found
