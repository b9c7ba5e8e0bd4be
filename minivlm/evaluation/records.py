"""The records of a run: one JSON line for each item and method, in the file of the process that asked.

    RUN/answers-0.jsonl
    {"id": "17", "image": "17", "method": "eah", "text": "A cat.", "finish": "stop", "tokens": 4, "acted": true}
    {"id": "18", "image": "18", "method": "eah", "error": "The picture of image 18 is missing: …"}

A line is handed to the operating system as soon as its answer is known. That survives a killed process; it is not
forced onto the disk, so a machine that loses its power may lose the last seconds, which are asked again. What was
being written when a process was killed is a line without its end, and is cut at restart.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from minivlm.errors import EvaluationError
from minivlm.evaluation.items import Item
from minivlm.evaluation.lines import read_lines
from minivlm.inference.answer import Answer

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not noticed there
    fcntl = None

Key = tuple[str, str]  # an item's id and a method
ANSWER = {"id": str, "image": str, "method": str, "text": str, "finish": str, "tokens": int}
MITIGATED = ANSWER | {"acted": bool}  # whether the method changed anything at all: it need not, and that is counted
FAILURE = {"id": str, "image": str, "method": str, "error": str}
TAIL = 2**16  # bytes that are read at once in search of the last whole line


def answered(item: Item, method: str, answer: Answer) -> dict:
    """The record of an answer."""
    told = {"text": str(answer), "finish": answer.finish, "tokens": len(answer.tokens)}
    acted = {} if answer.effect is None else {"acted": not answer.effect.nothing}
    return {"id": item.id, "image": item.image, "method": method, **told, **acted}


def failed(item: Item, method: str, error: Exception) -> dict:
    """The record of a question that could not be asked, because its picture could not be read."""
    return {"id": item.id, "image": item.image, "method": method, "error": str(error)}


def key_of(record: Mapping) -> Key:
    return record["id"], record["method"]


# --- writing --------------------------------------------------------------------------------------------------------


class Recorder:
    """Appends records to the file of one process, each as one whole line."""

    def __init__(self, out: Path, rank: int = 0) -> None:
        self.path = out / f"answers-{rank}.jsonl"
        with explained(self.path):
            self.file = self.path.open("ab", buffering=0)
        lock(self.file, self.path)  # as long as it is open

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, record: Mapping) -> None:
        """Hand over one record; `EvaluationError` if there is no room for it."""
        line = json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
        with explained(self.path):
            if self.file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What the operating system refuses, as a sentence."""
    try:
        yield
    except OSError as cause:
        raise EvaluationError(
            f"'{path}' cannot be written: {cause.strerror or cause}. What was recorded before is kept: "
            "make room there or allow writing, and go on with --resume."
        ) from cause


# --- reading --------------------------------------------------------------------------------------------------------


def record_files(out: Path) -> list[Path]:
    """The files of all processes that ever worked on the run."""
    return sorted(out.glob("answers-*.jsonl"))


def cut_half_line(path: Path) -> int:
    """Cut what stands behind the last whole line, and say how many bytes that were.

    Raises `EvaluationError` if its process is still writing: one of a run that was stopped in part.
    """
    with path.open("r+b") as file:
        lock(file, path)
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - TAIL)
            file.seek(start)
            if (place := file.read(end - start).rfind(b"\n")) >= 0:
                end = start + place + 1
                break
            end = start
        file.truncate(end)
    return size - end


def read_records(out: Path) -> dict[Key, dict]:
    """All records of a run by item and method, from the files of all processes.

    `EvaluationError` for a line that is no record, and where something is recorded twice: no run does that, so the
    files were put together by hand, and which of the two is right cannot be known.
    """
    records: dict[Key, dict] = {}
    for path in record_files(out):
        for number, record in read_lines(path):
            require_record(record, f"'{path}', line {number}")
            if key_of(record) in records:
                raise EvaluationError(
                    f"'{path}', line {number}: item {record['id']} is recorded for {record['method']} a second time in "
                    f"'{out}'. A run records it once; were files of other runs copied there? Start anew elsewhere."
                )
            records[key_of(record)] = record
    return records


def require_record(record: Mapping, where: str) -> None:
    """Raise `EvaluationError` unless the fields are those of an answer or of a failure."""
    fields = FAILURE if "error" in record else MITIGATED if "acted" in record else ANSWER
    if record.keys() != fields.keys() or any(type(record[name]) is not kind for name, kind in fields.items()):
        raise EvaluationError(f"{where}: the record of a run has {', '.join(fields)}, found {str(record)[:80]!r}.")


def merged(out: Path, items: Sequence[Item], methods: Sequence[str]) -> dict[Key, dict]:
    """The records of all items and methods, in this order; an incomplete set, or one with strangers, is refused."""
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
    """Keep other runs out of the folder, until this one ends in whatever way: the system itself opens a dead lock."""
    with explained(out), (out / ".lock").open("w") as file:
        lock(file, out)
        yield


def lock(file: IO, path: Path) -> None:
    """Hold an open file alone, or raise `EvaluationError` if another process does."""
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        raise EvaluationError(
            f"Another process is at work on '{path}'. Let it end, or stop it, or give another folder."
        ) from cause
