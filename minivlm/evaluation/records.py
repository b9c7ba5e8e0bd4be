"""The records of a run: one JSON line for each item and method, in the file of the process that asked.

    RUN/answers-0.jsonl
    {"id": "17", "image": "17", "method": "eah", "text": "A cat.", "finish": "stop", "tokens": 4, "acted": true}
    {"id": "18", "image": "18", "method": "eah", "error": "The picture of image 18 is missing: …"}

A line is given to the operating system as soon as its answer is known, so it survives a killed process. It is not
forced to the disk: after a power failure the last seconds may be lost, and are asked again. A process that is killed
while it writes leaves a line without an end, which is removed at the restart, once all that is before it is known to be
records. Files with other names, and links, are never touched.
"""

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from minivlm.errors import EvaluationError
from minivlm.evaluation.items import Item
from minivlm.evaluation.lines import parsed, require_object
from minivlm.files import open_own
from minivlm.inference.answer import Answer

try:
    import fcntl

    CAN_LOCK = True
except ImportError:  # Windows, where two runs in one folder are not noticed
    CAN_LOCK = False

Key = tuple[str, str]  # an item's id and a method
ANSWER = {"id": str, "image": str, "method": str, "text": str, "finish": str, "tokens": int}
MITIGATED = ANSWER | {"acted": bool}  # whether the method changed anything, for it may change nothing in an answer
FAILURE = {"id": str, "image": str, "method": str, "error": str}
NAME = re.compile(r"answers-(0|[1-9][0-9]{0,8})\.jsonl")  # of the file of a process
LOCK = ".lock"
STRANGE = (errno.ELOOP, errno.EINVAL, errno.EMLINK)  # of files that are not ours, see `files.refuse_stranger`
BEGINNING = b'{"id": "'  # of every record, see `answered` and `failed`
LONGEST = 2**24  # bytes of a line; the longest record has some thousands
TAIL = 2**16  # bytes that are read at once in the search for the last whole line


def answered(item: Item, method: str, answer: Answer) -> dict[str, Any]:
    """The record of an answer."""
    text = {"text": str(answer), "finish": answer.finish, "tokens": len(answer.tokens)}
    acted = {} if answer.effect is None else {"acted": not answer.effect.nothing}
    return {"id": item.id, "image": item.image, "method": method, **text, **acted}


def failed(item: Item, method: str, error: Exception) -> dict[str, Any]:
    """The record of a question that was not asked because its picture could not be read."""
    return {"id": item.id, "image": item.image, "method": method, "error": str(error)}


def key_of(record: Mapping[str, Any]) -> Key:
    """The item's id and the method of a record."""
    return record["id"], record["method"]


# --- writing --------------------------------------------------------------------------------------------------------


class Recorder:
    """Appends records to the file of one process, each as one whole line."""

    def __init__(self, out: Path, rank: int = 0) -> None:
        self.path = out / f"answers-{rank}.jsonl"
        with explained(self.path):
            self.file = open_own(self.path, "ab", buffering=0)
        lock(self.file, self.path)  # until it is closed

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record. Raises `EvaluationError` if the disk is full."""
        line = json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
        with explained(self.path):
            if self.file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def explained(path: Path, done: str = "written") -> Iterator[None]:
    """Turn an OSError into an `EvaluationError` whose sentence names `path`, and says that it cannot be `done`."""
    try:
        yield
    except OSError as cause:
        name, why = cause.filename or path, cause.strerror or cause
        if cause.errno in STRANGE:
            raise EvaluationError(
                f"'{name}' is not touched: {why}. Move it away, or give another folder with --out."
            ) from cause
        next_step = "make room there or allow writing, and go on with --resume" if done == "written" else "look at it"
        raise EvaluationError(
            f"'{name}' cannot be {done}: {why}. What was recorded before is kept: {next_step}."
        ) from cause


# --- reading --------------------------------------------------------------------------------------------------------


def record_files(out: Path) -> list[Path]:
    """The record files of all processes of the run, also of those before a restart."""
    return sorted(path for path in out.glob("answers-*.jsonl") if NAME.fullmatch(path.name))


def cut_half_line(path: Path) -> int:
    """Cut a file behind its last whole line; returns how many bytes were removed.

    Raises `EvaluationError` if a process still writes to it, as when only some processes of a run were stopped; and, so
    that nothing of the user's is lost, unless it holds records, and behind them at most the beginning of one.
    """
    with explained(path), open_own(path, "r+b") as file:
        lock(file, path)
        for number, record in whole_lines(file, path):
            require_record(record, f"'{path}', line {number}")
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - TAIL)
            file.seek(start)
            if (place := file.read(end - start).rfind(b"\n")) >= 0:
                end = start + place + 1
                break
            end = start
        if end < size:
            file.seek(end)
            require_half_record(file.read(TAIL), path)
            file.truncate(end)
    return size - end


def require_half_record(half: bytes, path: Path) -> None:
    """Raise `EvaluationError` unless a line without an end begins like a record; zeros are from a power failure."""
    start = half.rstrip(b"\0")[: len(BEGINNING)]
    if not BEGINNING.startswith(start):
        raise EvaluationError(
            f"'{path}' ends in a line that is no half record, so it is not cut: {half[:60]!r}. It seems not to be of "
            "this run: move it away, or give another folder with --out."
        )


def whole_lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line that has its end, from 1, and its JSON object; empty lines are skipped.

    Raises `EvaluationError` for a line of more than `LONGEST` bytes, which would take memory, and is none of ours.
    """
    for number, line in enumerate(iter(partial(file.readline, LONGEST), b""), 1):
        where = f"'{path}', line {number}"
        if len(line) == LONGEST and not line.endswith(b"\n"):
            raise EvaluationError(f"{where}: a record has fewer than {LONGEST:,} bytes. Move this file away.")
        if line.strip() and line.endswith(b"\n"):
            yield number, require_object(parsed(line, where), where)


def read_records(out: Path) -> dict[Key, dict[str, Any]]:
    """All records of a run by item and method, from the files of all processes.

    Raises `EvaluationError` for a line that is not a record, and for an answer that is recorded twice: no run does
    that, so files of several runs were mixed, and it is unknown which of them is right.
    """
    records: dict[Key, dict[str, Any]] = {}
    for path in record_files(out):
        with explained(path, "read"), open_own(path) as file:
            for number, record in whole_lines(file, path):
                where = f"'{path}', line {number}"
                require_record(record, where)
                if key_of(record) in records:
                    raise EvaluationError(
                        f"{where}: item {record['id']} is recorded for {record['method']} a second time in '{out}'. A "
                        "run records it once; were files of other runs copied there? Start anew elsewhere."
                    )
                records[key_of(record)] = record
    return records


def require_record(record: Mapping[str, Any], where: str) -> None:
    """Raise `EvaluationError` unless the fields are those of an answer or of a failure."""
    fields = FAILURE if "error" in record else MITIGATED if "acted" in record else ANSWER
    if record.keys() != fields.keys() or any(type(record[name]) is not kind for name, kind in fields.items()):
        raise EvaluationError(f"{where}: the record of a run has {', '.join(fields)}, found {str(record)[:80]!r}.")


def merged(out: Path, items: Sequence[Item], methods: Sequence[str]) -> dict[Key, dict[str, Any]]:
    """The records of all items and methods, in this order.

    Raises `EvaluationError` if records are missing, or if some belong to no item or method of the run.
    """
    records = read_records(out)
    expected = [(item.id, method) for item in items for method in methods]
    missing = [key for key in expected if key not in records]
    strange = records.keys() - set(expected)
    if missing or strange:
        shown = ", ".join(f"{id_} ({method})" for id_, method in missing[:3])
        raise EvaluationError(
            f"'{out}' is not a complete run of {len(items)} items and {len(methods)} methods: {len(missing)} of "
            f"{len(expected)} records are missing{f', such as {shown}' if missing else ''}, and {len(strange)} belong "
            "to none of its items. Go on with --resume."
        )
    return {key: records[key] for key in expected}


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Lock the folder against other runs. The operating system releases the lock if the process dies."""
    with explained(out / LOCK):
        file = open_own(out / LOCK, "ab")
    with file:
        lock(file, out)
        yield


def lock(file: IO[Any], path: Path) -> None:
    """Lock an open file until it is closed. Raises `EvaluationError` if another process has locked it."""
    try:
        if CAN_LOCK:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        raise EvaluationError(
            f"Another process is at work on '{path}'. Let it end, or stop it, or give another folder."
        ) from cause
