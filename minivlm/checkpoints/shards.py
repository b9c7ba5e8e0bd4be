"""Shards: `.safetensors` files mapped into memory; and sentences that say what is wrong with a damaged one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from minivlm.errors import CheckpointError
from minivlm.files import one_line, parse_json, require_regular_file

# Words in the safetensors library's errors, and what they mean for the user.
DAMAGE = {
    "header too small": "it is empty or cut short",
    "invalid header length": "it is cut short inside its header",
    "header too large": "its header claims more than 100 MB, which no checkpoint needs",
    "incomplete metadata": "its size is not what its header says",
    "invalid UTF-8": "its header is not UTF-8 text",
    "invalid JSON": "its header is not the JSON of a safetensors file, or names an unknown dtype",
}


@contextmanager
def open_shard(path: Path) -> Iterator[Any]:
    """A `.safetensors` file mapped into memory; its tensors are views of the mapping."""
    require_regular_file(path)
    try:
        with safe_open(path, framework="pt") as shard:
            yield shard
    except SafetensorError as cause:
        raise CheckpointError(explain_damage(path, str(cause))) from cause
    except (OSError, RuntimeError) as cause:  # the system refuses to map it: a device that cannot be mapped, its size
        raise CheckpointError(f"{path} cannot be mapped into memory: {one_line(cause)}.") from cause


def explain_damage(path: Path, message: str) -> str:
    """What is wrong with a shard that cannot be opened, and what to do."""
    if stranger := what_it_is(path):
        return f"{path} {stranger}"
    meaning = next((text for words, text in DAMAGE.items() if words in message), f"({one_line(message)})")
    short = missing_bytes(path) if "incomplete metadata" in message else 0
    if short > 0:
        meaning = f"{short:,} bytes are missing at its end"
    return f"{path} is damaged: {meaning}. Fetch the file again (`minivlm download NAME` resumes)."


def what_it_is(path: Path) -> str:
    """What a file that only has the name of a shard really is, as the rest of a sentence; "" if that is not known."""
    try:
        with path.open("rb") as file:
            beginning = file.read(200).lstrip().lower()
    except OSError:
        return ""
    if beginning.startswith(b"version https://git-lfs"):
        return (
            "is a git-lfs pointer, not the weights: run `git lfs pull` in its repository, or `minivlm download NAME`."
        )
    if beginning.startswith((b"<!doctype html", b"<html")):
        return (
            "is an HTML page, saved under the name of the weights: fetch the file itself, or `minivlm download NAME`."
        )
    return ""


def missing_bytes(path: Path) -> int:
    """How many bytes a file is shorter than its header says; 0 if the header cannot be read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = parse_json(file.read(length))
        ends = [entry["data_offsets"][1] for key, entry in entries.items() if key != "__metadata__"]
        return 8 + length + max(ends) - path.stat().st_size
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return 0
