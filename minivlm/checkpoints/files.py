"""Files that others wrote, read with suspicion: small JSON files, and `.safetensors` files mapped into memory."""

import json
import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from minivlm.errors import CheckpointError, MinivlmError

LARGEST_JSON = 50_000_000  # bytes; the index of a model of 100 billion parameters has fewer than 1 MB

# What the safetensors library says about a damaged file, and what it means for whoever owns the file.
DAMAGE = {
    "header too small": "it is empty or cut short",
    "invalid header length": "it is cut short inside its header",
    "header too large": "its header claims more than 100 MB, which no checkpoint needs",
    "incomplete metadata": "its size is not what its header says",
    "invalid UTF-8": "its header is not UTF-8 text",
    "invalid JSON": "its header is not the JSON of a safetensors file, or names an unknown dtype",
}


def read_json_file(path: str | Path, error: type[MinivlmError] = CheckpointError) -> dict[str, Any]:
    """The JSON object in a small file: UTF-8, at most 50 MB, no NaN or Infinity, no key twice.

    Anything else raises `error` with a sentence that names the file.
    """
    path = Path(path)
    require_regular_file(path, error)
    if path.stat().st_size > LARGEST_JSON:
        raise error(f"{path} has {path.stat().st_size:,} bytes; a JSON file of a checkpoint has at most 50 MB.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        data = json.loads(
            text, parse_constant=_refuse_number, parse_float=_finite_float, object_pairs_hook=_object_without_doubles
        )
    except (OSError, ValueError, RecursionError) as cause:
        raise error(f"{path} cannot be read as JSON: {_one_line(cause)}. Fetch the file again.") from cause
    if not isinstance(data, dict):
        raise error(f"{path} must hold a JSON object {{...}}, found a {type(data).__name__}.")
    return data


@contextmanager
def open_shard(path: Path) -> Iterator[Any]:
    """A `.safetensors` file mapped into memory; its tensors are views of the mapping."""
    require_regular_file(path)
    try:
        with safe_open(path, framework="pt") as shard:
            yield shard
    except SafetensorError as cause:
        raise CheckpointError(_explain_damage(path, str(cause))) from cause
    except (OSError, RuntimeError) as cause:  # the system refuses to map it: a device that cannot be mapped, its size
        raise CheckpointError(f"{path} cannot be mapped into memory: {_one_line(cause)}.") from cause


def require_regular_file(path: Path, error: type[MinivlmError] = CheckpointError) -> None:
    """Raise `error` unless `path` is a regular file or a link to one: no folder, no device, no pipe."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as cause:
        raise error(f"{path} cannot be read: {_one_line(cause)}.") from cause
    if not stat.S_ISREG(mode):
        raise error(f"{path} must be a regular file, found {'a folder' if stat.S_ISDIR(mode) else 'a device or pipe'}.")


def _explain_damage(path: Path, message: str) -> str:
    meaning = next((text for words, text in DAMAGE.items() if words in message), f"({_one_line(message)})")
    short = _missing_bytes(path) if "incomplete metadata" in message else 0
    if short > 0:
        meaning = f"{short:,} bytes are missing at its end"
    return f"{path} is damaged: {meaning}. Fetch the file again (`minivlm download NAME` resumes)."


def _missing_bytes(path: Path) -> int:
    """How many bytes a file lacks of what its header promises; 0 when the header cannot tell."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for key, entry in entries.items() if key != "__metadata__"]
        return 8 + length + max(ends) - path.stat().st_size
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return 0


def listed(names: list[str], limit: int = 10) -> str:
    """Up to `limit` names in one line, with a count of the rest."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(printable, names[:limit])) + rest


def printable(name: str, limit: int = 200) -> str:
    """A name from a file, or a sentence with one, harmless to a terminal: control characters escaped, never endless."""
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name[:limit])
    return text if len(name) <= limit else text + "..."


def _refuse_number(literal: str) -> float:
    raise ValueError(f"{literal} is not a JSON number")


def _finite_float(literal: str) -> float:
    return float(literal) if math.isfinite(float(literal)) else _refuse_number(literal)


def _object_without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in data if keys.count(key) > 1)!r} stands twice in one object")
    return data


def _one_line(cause: object) -> str:
    return printable(" ".join(str(cause).split())) or type(cause).__name__


def shown(value: object, limit: int = 80) -> str:
    """A value from a file as an error shows it: short, and harmless to a terminal."""
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."
