"""Shards: `.safetensors` files, mapped into memory or written; and sentences that say what is wrong with one."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minivlm.errors import CheckpointError
from minivlm.files import one_line, parse_json, replace_file, require_regular_file

AGAIN = "Fetch the file again (`minivlm download NAME` resumes)."
LARGEST_HEADER = 2**24  # bytes; the model of 405 billion parameters has fewer than 2**18

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
def open_shard(path: Path, again: str = AGAIN) -> Iterator[Any]:
    """A `.safetensors` file mapped into memory; its tensors are views of the mapping.

    Raises `CheckpointError` for any other file; the sentence ends in `again`, which says what to do.
    """
    require_regular_file(path)
    require_small_header(path)
    try:
        with safe_open(path, framework="pt") as shard:
            require_single_keys(path)
            yield shard
    except SafetensorError as cause:
        raise CheckpointError(explain_damage(path, str(cause), again)) from cause
    except (OSError, RuntimeError) as cause:  # the system refuses to map it: a device that cannot be mapped, its size
        raise CheckpointError(f"{path} cannot be mapped into memory: {one_line(cause)}.") from cause


def require_small_header(path: Path) -> None:
    """Raise `CheckpointError` for a header that is there and longer than any model's: to parse it would take memory."""
    length = header_length(path)
    if LARGEST_HEADER < length <= path.stat().st_size:
        raise CheckpointError(
            f"{path} has a header of {length:,} bytes; at most {LARGEST_HEADER:,} were expected. No model needs "
            "so many: do not trust this file."
        )


def require_single_keys(path: Path) -> None:
    """Raise `CheckpointError` if a header that the library reads names a key twice: it would take the last one."""
    try:
        with path.open("rb") as file:
            parse_json(file.read(8 + header_length(path))[8:])
    except ValueError as cause:
        raise CheckpointError(
            f"{path} has an ambiguous header: {one_line(cause)}. Each tensor must be named once: do not trust "
            "this file."
        ) from cause


def header_length(path: Path) -> int:
    """How many bytes the header of a `.safetensors` file claims to have; 0 if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return int.from_bytes(file.read(8), "little")
    except OSError:
        return 0


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a `.safetensors` file in one piece. Raises OSError with the file's name, as `files.replace_file` does."""

    def write(part: Path) -> None:
        try:
            save_file(dict(tensors), part, metadata=dict(metadata))
        except SafetensorError as cause:
            full = "os error 28" in str(cause)
            raise OSError(errno.ENOSPC if full else errno.EIO, one_line(cause)) from cause

    replace_file(path, write)


def explain_damage(path: Path, message: str, again: str = AGAIN) -> str:
    """What is wrong with a shard that cannot be opened, and what to do (`again`)."""
    if stranger := what_it_is(path):
        return f"{path} {stranger}"
    meaning = next((text for words, text in DAMAGE.items() if words in message), f"({one_line(message)})")
    short = missing_bytes(path) if "incomplete metadata" in message else 0
    if short > 0:
        meaning = f"{short:,} bytes are missing at its end"
    return f"{path} is damaged: {meaning}. {again}"


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
