"""Files and other input: what a name means, strict JSON, files of ours among those of the user, files that are written
completely or not at all, digests, texts from files made safe to print, and numbers from the environment.
"""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from minivlm.errors import CheckpointError, ConfigError, MinivlmError, brief

LARGEST_JSON = 50_000_000  # bytes; the index of a model of 100 billion parameters has fewer than 1 MB
PIECE = 2**22  # bytes that are read at a time
NO_NAMES_ON_WINDOWS = (21, 123, 1921)  # errors that say that nothing there can be called so
PART = re.compile(r"\.minivlm-[0-9a-f]{16}\.part")  # what a file is called while it is being written
SAFE_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOINHERIT", "O_BINARY")  # those that the system has
OPENING = {"rb": os.O_RDONLY, "r+b": os.O_RDWR, "ab": os.O_WRONLY | os.O_APPEND | os.O_CREAT}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline


# --- names ----------------------------------------------------------------------------------------------------------


def path_of(name: str | Path, error: type[MinivlmError] = CheckpointError) -> Path:
    """The path that a name means, `~` spelt out; there need be nothing.

    Raises `error` if the system cannot look it up: the name is too long, its user is unknown, a folder is closed to us.
    """
    try:
        path = Path(name).expanduser()
        path.stat()
    except RuntimeError as cause:
        user = Path(name).parts[0]
        raise error(f"{brief(str(name))} begins with {brief(user)}, but this machine knows no such user.") from cause
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as cause:
        if getattr(cause, "winerror", None) not in NO_NAMES_ON_WINDOWS:
            reason = getattr(cause, "strerror", None) or str(cause)
            raise error(f"{brief(str(name))} cannot be looked up: {reason}. Check the path and its rights.") from cause
    return path


# --- reading --------------------------------------------------------------------------------------------------------


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text, in UTF-8 if it is bytes; no NaN or Infinity, no key twice in one object.

    Raises ValueError with the reason for anything else.
    """
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode("utf-8-sig"),
            parse_constant=refuse_number,
            parse_float=finite_float,
            object_pairs_hook=object_without_doubles,
        )
    except RecursionError as cause:
        raise ValueError(str(cause)) from cause


def read_json_file(
    path: str | Path, error: type[MinivlmError] = CheckpointError, most: int = LARGEST_JSON
) -> dict[str, Any]:
    """The JSON object in a file of at most `most` bytes; see `parse_json`.

    Anything else raises `error` with a sentence that names the file.
    """
    path = Path(path)
    require_regular_file(path, error)
    if (size := path.stat().st_size) > most:
        raise error(f"{path} has {size:,} bytes; a JSON file of at most {most / 1e6:.0f} MB was expected.")
    try:
        data = parse_json(path.read_bytes())
    except (OSError, ValueError) as cause:
        raise error(f"{path} cannot be read as JSON: {one_line(cause)}. Fetch the file again.") from cause
    if not isinstance(data, dict):
        raise error(f"{path} must hold a JSON object {{...}}, found a {type(data).__name__}.")
    return data


def lines_of(text: str) -> list[str]:
    """The lines of a text that are not empty, without white space around them. Only the line breaks of files end one:
    U+2028 and the like, at which `str.splitlines` cuts, may stand in a name or a sentence."""
    return [line.strip() for line in re.split(r"\r\n|\r|\n", text) if line.strip()]


def require_regular_file(path: Path, error: type[MinivlmError] = CheckpointError) -> None:
    """Raise `error` unless `path` is a regular file or a link to one: no folder, no device, no pipe."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as cause:
        raise error(f"{path} cannot be read: {one_line(cause)}.") from cause
    if not stat.S_ISREG(mode):
        raise error(f"{path} must be a regular file, found {'a folder' if stat.S_ISDIR(mode) else 'a device or pipe'}.")


def refuse_number(literal: str) -> float:
    """Raise ValueError for NaN or Infinity."""
    raise ValueError(f"{literal} is not a JSON number")


def finite_float(literal: str) -> float:
    """The float; ValueError for a literal such as 1e999, which is infinite as a float."""
    value = float(literal)
    return value if math.isfinite(value) else refuse_number(literal)


def object_without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values; ValueError if a key is there twice, of which json would drop the first."""
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise ValueError(f"the key {key!r:.200} stands twice in one object")
        data[key] = value
    return data


# --- files of ours in a folder of the user's ------------------------------------------------------------------------


def open_own(path: Path, mode: str = "rb", buffering: int = -1) -> IO[bytes]:
    """Open a file that we wrote into a folder of the user's; nothing of it is cut. `mode`: "rb", "r+b" or "ab", which
    makes it if it is missing.

    Raises OSError for whatever may not be ours: a link, a folder, a pipe or device (which would make us wait), and,
    where it could be changed, a file that has a second name elsewhere (a hard link).
    """
    refuse_stranger(path, mode)  # before it is opened: opening alone makes some devices act
    flags = OPENING[mode] | sum(getattr(os, name, 0) for name in SAFE_FLAGS)
    file = os.fdopen(os.open(path, flags, 0o666), mode, buffering)
    try:
        refuse_stranger(path, mode, os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return file


def refuse_stranger(path: Path, mode: str = "rb", found: os.stat_result | None = None) -> None:
    """Raise OSError unless a file of ours may be opened at `path`, see `open_own`, or nothing is there.

    `found`: what is known of the file once it is open; by default it is looked up.
    """
    try:
        found = found or path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "it is a link, and what it leads to may be somebody's own file", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if mode != "rb" and found.st_nlink > 1:
        raise OSError(errno.EMLINK, "the same file has a second name elsewhere (a hard link)", str(path))


def leftovers(folder: Path) -> list[Path]:
    """The files in a folder that were being written by `replace_file` when a process was killed."""
    return [path for path in folder.glob(".minivlm-*") if PART.fullmatch(path.name) and not path.is_symlink()]


# --- writing --------------------------------------------------------------------------------------------------------


def write_json(path: Path, data: Mapping[str, Any], indent: int = 2) -> None:
    """Write a JSON object in one piece, see `replace_file`; NaN and Infinity are a ValueError."""
    write_text(path, json.dumps(data, indent=indent, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 in one piece, see `replace_file`."""
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def require_place(name: str | Path) -> Path:
    """The path of a file that is to be written after some work. Raises `ConfigError` now if that could not succeed."""
    path = path_of(name, ConfigError)
    folder = path.absolute().parent
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is no regular file, so no file can be written in its place. Give another name.")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "it may not be written" if folder.is_dir() else "there is no such folder"
        raise ConfigError(f"{path} cannot be written into {folder}: {why}. Make it, or give another place.")
    return path


def refuse_irreplaceable(path: Path) -> None:
    """Raise OSError if `replace_file` may not write to `path`: a folder, a pipe or a device is there."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file, so no file is written in its place", str(path))


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside `path`, sync it to the disk, and rename it to `path` in one step.

    So `path` always holds either the complete new file or the old one, even if this process is killed. A link there is
    replaced, and what it leads to stays as it is. Raises OSError with the name `path`, also if the disk is full, or if
    a folder, a pipe or a device is there.
    """
    part = path.with_name(f".minivlm-{secrets.token_hex(8)}.part")
    try:
        refuse_irreplaceable(path)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # never one that was there
        mode = (path if path.is_file() else part).stat().st_mode
        write(part)
        with part.open("r+b") as file:  # Windows syncs only what is open for writing
            os.fsync(file.fileno())
        part.chmod(stat.S_IMODE(mode))  # safetensors makes its files readable by their owner alone
        os.replace(part, path)
    except OSError as cause:
        raise OSError(cause.errno, cause.strerror or str(cause), str(path)) from cause
    finally:
        with suppress(OSError):
            part.unlink()


# --- digests --------------------------------------------------------------------------------------------------------


def digest(data: Any) -> str:
    """The sha256 of data in JSON types, in hex. It is the same on every machine, and for any order of keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hex, read piece by piece; OSError if it cannot be read."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            total.update(piece)
    return total.hexdigest()


def json_types(data: Any) -> Any:
    """The data as a JSON file would return them: tuples as lists, keys as texts. NaN and Infinity are a ValueError."""
    return json.loads(json.dumps(data, allow_nan=False))


# --- texts from files, made safe to print ---------------------------------------------------------------------------


def harmless(text: str) -> str:
    """The text with U+FFFD in place of every control character, except for tabs and newlines."""
    return CONTROL.sub("\ufffd", text)


def clean(text: object, most: int) -> str:
    """The first `most` characters of a text, with U+FFFD for each that cannot be printed; "" for what is no text."""
    start = text[:most] if isinstance(text, str) else ""
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in start)


def printable(name: str, limit: int = 200) -> str:
    """A name from a file, or a sentence with one, on one line: control characters escaped, `limit` characters."""
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name[:limit])
    return text if len(name) <= limit else text + "..."


def one_line(cause: object) -> str:
    """The text of an exception on one line, as a part of a sentence; the name of its class if it has no text."""
    return printable(" ".join(str(cause).split())) or type(cause).__name__


def listed(names: Sequence[str], limit: int = 10) -> str:
    """Up to `limit` names in one line, with a count of the rest."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(printable, names[:limit])) + rest


def shown(value: object, limit: int = 80) -> str:
    """A value from a file as an error message shows it: its `repr`, at most `limit` characters of it."""
    return brief(value, limit)


# --- torchrun -------------------------------------------------------------------------------------------------------


def torchrun(name: str, alone: int | None = None) -> int:
    """A whole number that torchrun puts into the environment of its processes, such as RANK.

    `alone`: the number of a process that torchrun did not start. Raises `ConfigError` if there is neither, or if the
    environment has anything but a whole number.
    """
    text = os.environ.get(name)
    if text is None and alone is not None:
        return alone
    try:
        return int(text or "")
    except ValueError as cause:
        raise ConfigError(f"{name} is {text!r} in the environment, a whole number was expected.") from cause
