"""One process that runs student code, seen from outside: it is asked, waited for so long, and ended.

Nothing that comes from it is trusted. It answers in lines of JSON: each is bounded, and counts only if it names the
question that was asked. What it prints is read on and on, so that printing never blocks, and all but the beginning is
thrown away.
"""

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from threading import Event, Thread
from typing import IO

from minivlm.course.limits import Stopwatch, kill_group, kill_strays, memory_limit
from minivlm.files import clean, parse_json

WORKER = Path(__file__).parent / "kit" / "worker.py"
GOODBYE = 10.0  # seconds, on a busy machine, for a process that is over to be gone and what it printed to be read
ANSWERED, LATE, ENDED = "answered", "late", "ended"  # how waiting for an answer ends
LONGEST_LINE = 64 * 1024
MOST_LINES = 1000  # that wait to be looked at
MOST_PRINTED = 2000  # characters kept of what is printed for one question
CHUNK = 64 * 1024
LIBRARIES = ("site-packages", "dist-packages")
HANDED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
# Memory is given back as soon as it is free, so that what one test took is not lent to the next.
STEADY = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20), "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Reply:
    """What came of a question."""

    ending: str  # answered, late or ended (the process did, or it closed the line)
    seconds: float
    answer: dict = field(default_factory=dict)
    forbidden: dict = field(default_factory=dict)  # the first thing that the fence refused
    printed: str = ""
    last_words: str = ""  # how the process ended

    @property
    def spent(self) -> bool:
        """Whether the process must not be asked again: it may be gone, busy, or past its fence."""
        return self.ending != ANSWERED or bool(self.forbidden) or self.answer.get("threads") != 0


class Process:
    """A worker on one project. A context: behind it, the process is gone."""

    def __init__(self, project: Path, tests: Path, folder: Path) -> None:
        self.folder = folder
        places = [str(path.resolve()) for path in (project, tests, folder)]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-X", "utf8", str(WORKER), *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment(folder),
            start_new_session=True,
        )
        self.lines = Lines(self.process.stdout)
        self.printed = Printed(self.process.stderr)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        kill_group(self.process)
        kill_strays(self.folder)
        with suppress(OSError):  # what was not sent
            self.process.stdin.close()
        for reader in (self.lines, self.printed):
            reader.join(timeout=1)

    def ask(self, seconds: float, megabytes: int | None = None, **request: object) -> Reply:
        """Send a request, and wait for its answer."""
        name = secrets.token_hex(8)
        self.printed.begin()
        watch = Stopwatch(self.process.pid, seconds)
        with memory_limit(self.process.pid, megabytes):
            ending, answer, forbidden = self._answer(name, watch) if self._send(name, request) else DEAD
        took = watch.passed
        last_words = self._last_words() if ending == ENDED else ""
        if ending == LATE:
            kill_group(self.process)
        return Reply(ending, took, answer, forbidden, self.printed.text(), last_words)

    def _send(self, name: str, request: dict) -> bool:
        try:
            self.process.stdin.write(json.dumps({"id": name, **request}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:  # nobody listens
            return False
        return True

    def _answer(self, name: str, watch: Stopwatch) -> tuple[str, dict, dict]:
        """The answer to the request `name`. Lines that are none are passed over."""
        forbidden: dict = {}
        while (left := watch.left) > 0:
            try:
                line = self.lines.kept.get(timeout=left)
            except queue.Empty:
                continue
            if line is None:
                return ENDED, {}, forbidden
            found = parsed(line)
            if "forbidden" in found:
                forbidden = forbidden or found
            elif found.get("id") == name:
                return ANSWERED, found, forbidden
        return LATE, {}, forbidden

    def _last_words(self) -> str:
        """How the process ended, as a sentence."""
        try:
            code = self.process.wait(timeout=GOODBYE)
        except subprocess.TimeoutExpired:
            return "It closed the line to the supervisor."
        if code >= 0:
            return f"It ended itself with exit code {code}."
        return f"It was ended by {signal.Signals(-code).name}."


DEAD = (ENDED, {}, {})


class Lines(Thread):
    """Reads lines from a stream; `kept` holds those of a bearable length, and None at the end."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.stream, self.kept = stream, queue.Queue(maxsize=MOST_LINES)
        self.start()

    def run(self) -> None:
        with self.stream:
            rest = b""
            while chunk := os.read(self.stream.fileno(), CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                rest = rest[: LONGEST_LINE + 1]  # what is longer is of no use, but must not grow
                for line in lines:
                    self.keep(line)
            self.keep(None)

    def keep(self, line: bytes | None) -> None:
        """A flood is not waited for: what finds no room is lost, but not the end."""
        if line is None or (line and len(line) <= LONGEST_LINE and not self.kept.full()):
            self.kept.put(line)


class Printed(Thread):
    """Reads what is printed, keeps the beginning, and sees the mark at the end of a test."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.stream, self.kept, self.marked = stream, b"", Event()
        self.start()

    def run(self) -> None:
        with self.stream:
            while chunk := os.read(self.stream.fileno(), CHUNK):
                if len(self.kept) < 4 * MOST_PRINTED:
                    self.kept += chunk[: 4 * MOST_PRINTED]
                if b"\0" in chunk:
                    self.marked.set()
            self.marked.set()

    def begin(self) -> None:
        """Forget what was printed before."""
        self.kept = b""
        self.marked.clear()

    def text(self) -> str:
        """What was printed since, once all of it has been read."""
        self.marked.wait(timeout=GOODBYE)
        return clean(self.kept.replace(b"\0", b"").decode("utf-8", "replace"), MOST_PRINTED)


def environment(folder: Path) -> dict[str, str]:
    """The few variables that a worker gets: one thread, no GPU, no network, a home of its own."""
    own = {name: str(folder) for name in ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP")}
    quiet = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    handed_on = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    return {**handed_on, **own, **quiet, **STEADY, "LANG": "C.UTF-8"}


def settings(denied: Sequence[Path]) -> dict:
    """The first request: what may not be read, and where libraries are.

    Denied are also the home folder, others' temporary files, and the checkout that a denied package stands in, with its
    history. A folder that is the whole disk is not denied: there, little would be left.
    """
    checkouts = [path.parent for path in denied if (path.parent / ".git").exists()]
    closed = {path.resolve() for path in (*denied, *checkouts, Path.home(), Path(gettempdir()))}
    libraries = [entry for entry in sys.path if Path(entry).name in LIBRARIES]
    return {"denied": sorted(str(path) for path in closed if len(path.parts) > 1), "libraries": libraries}


def parsed(line: bytes) -> dict:
    """A line as a dict; an empty one if it is anything else."""
    try:
        found = parse_json(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
