"""Reading JSON that others wrote: line by line, or a whole file; what is wrong is told with its file and line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from minivlm.errors import EvaluationError

PICKLE = b"\x80"  # how a pickle begins; no text in UTF-8 does


def read_lines(path: str | Path) -> Iterator[tuple[int, dict]]:
    """The number of each line, from 1, and its JSON object; empty lines are passed over."""
    path = Path(path).expanduser()
    for number, line in enumerate(_bytes(path).splitlines(), 1):
        if line.strip():
            where = f"'{path}', line {number}"
            if not isinstance(found := _parsed(line, where), dict):
                raise EvaluationError(f"{where}: a JSON object was expected, found {str(found)[:60]!r}.")
            yield number, found


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
    return data.removeprefix(b"\xef\xbb\xbf")


def _parsed(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{where}: this is no JSON in UTF-8 ({error}).") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
