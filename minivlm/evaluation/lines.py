"""Reading JSON from other programs, line by line or as a whole; errors name the file and the line."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minivlm.errors import EvaluationError
from minivlm.files import one_line, parse_json, path_of

LARGEST = 2**30  # bytes of data; the annotations of COCO's training pictures have 450 million
OF_A_RUN = 2**26  # bytes of a card, or of the counts of a run
PICKLE = b"\x80"  # how a pickle begins; no text in UTF-8 does


def read_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line, from 1, and its JSON object; empty lines are skipped. Raises `EvaluationError`."""
    path = path_of(path, EvaluationError)
    for number, line in enumerate(read_bytes(path).splitlines(), 1):
        if line.strip():
            where = f"'{path}', line {number}"
            yield number, require_object(parsed(line, where), where)


def read_entries(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place ("'FILE', line 3") of each JSON object, and the object, from a JSON list or from JSON lines.

    Which of the two it is, is decided by the content, not by the file's name. Raises `EvaluationError`.
    """
    path = path_of(path, EvaluationError)
    if not read_bytes(path).lstrip().startswith(b"["):
        yield from ((f"'{path}', line {number}", entry) for number, entry in read_lines(path))
        return
    for number, entry in enumerate(read_json(path), 1):
        where = f"'{path}', entry {number}"
        yield where, require_object(entry, where)


def read_json(path: str | Path, most: int = LARGEST) -> Any:
    """The value in a JSON file of at most `most` bytes. Raises `EvaluationError` if it cannot be read."""
    path = path_of(path, EvaluationError)
    return parsed(read_bytes(path, most), f"'{path}'")


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """The content of a file without a byte order mark. Raises `EvaluationError` for a missing file, one of more than
    `most` bytes, or a pickle."""
    if not path.is_file():
        raise EvaluationError(f"'{path}' is {'no file' if path.exists() else 'not there'}; a JSON file was expected.")
    try:
        if (size := path.stat().st_size) > most:
            raise EvaluationError(f"'{path}' has {size:,} bytes, at most {most:,} are read. Take a part of it.")
        data = path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    if data.startswith(PICKLE) or path.suffix in (".pkl", ".pickle"):
        raise EvaluationError(f"'{path}' is a pickle, which could run code when it is read. Give the data as JSON.")
    return data.removeprefix(BOM_UTF8)


def parsed(data: bytes, where: str) -> Any:
    """The value of a JSON text in UTF-8; the error message begins with `where`."""
    try:
        return parse_json(data)
    except ValueError as error:
        kinds = {"UnicodeDecodeError": "this is no text in UTF-8", "JSONDecodeError": "this is no JSON"}
        what = kinds.get(type(error).__name__, "this JSON is not read")
        raise EvaluationError(f"{where}: {what}: {one_line(error)}.") from error


def require_object(value: Any, where: str) -> dict[str, Any]:
    """`value`, once it is known to be a JSON object; the error message begins with `where`."""
    if not isinstance(value, dict):
        raise EvaluationError(f"{where}: a JSON object was expected, found {str(value)[:60]!r}.")
    return value
