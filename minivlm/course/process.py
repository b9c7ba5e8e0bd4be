"""A process that runs student code, from the supervisor's side: send requests, wait for answers, end it.

Nothing that comes from it is trusted. An answer is a line of JSON of limited length, and counts only if it holds the id
of the request. What the process prints is read all the time, so that printing never blocks; only the beginning is
kept.
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
from minivlm.course.peak_memory import PeakMemory
from minivlm.course.stack import Frame, stack_of
from minivlm.files import clean, parse_json

WORKER = Path(__file__).parent / "kit" / "worker.py"
GOODBYE = 10.0  # seconds to wait for an ended process to be gone, and for its last prints
ANSWERED, LATE, ENDED = "answered", "late", "ended"  # how waiting for an answer ends
LONGEST_LINE = 64 * 1024  # bytes of an answer
MOST_LINES = 1000  # answers that wait to be read
MOST_PRINTED = 2000  # characters kept of what is printed during one request
CHUNK = 64 * 1024  # bytes
LIBRARIES = ("site-packages", "dist-packages")
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
# glibc returns memory to the system as soon as it is free: what one test took must not help the next one's limit.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20), "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Reply:
    """What came of a request."""

    ending: str  # answered, late, or ended (the process ended, or closed its stdout)
    seconds: float
    answer: dict = field(default_factory=dict)
    forbidden: dict = field(default_factory=dict)  # the first violation that was reported: its reason and place
    printed: str = ""
    exit_sentence: str = ""  # how the process ended, if it did
    stack: tuple[Frame, ...] = ()  # where it was in the student's package, if it was late
    megabytes: float | None = None  # that it took at the most, see `PeakMemory`

    @property
    def spent(self) -> bool:
        """Whether the process must get no further request: it may have ended, be busy, or have left its sandbox."""
        return self.ending != ANSWERED or bool(self.forbidden) or self.answer.get("threads") != 0


class Process:
    """A worker on one project, as a context manager: afterwards, the process and all that it started are gone."""

    def __init__(self, project: Path, tests: Path, folder: Path) -> None:
        self.folder, self.project = folder, project.resolve()
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
        self.requests, self.lines = pipe(self.process.stdin), Lines(pipe(self.process.stdout))
        self.printed = Printed(pipe(self.process.stderr))

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        kill_group(self.process)
        kill_strays(self.folder)
        with suppress(OSError):  # closing sends what is left, and nobody reads it
            self.requests.close()
        for reader in (self.lines, self.printed):
            reader.join(timeout=1)

    def ask(self, seconds: float, megabytes: int | None = None, **request: object) -> Reply:
        """Send a request, and wait for its answer.

        `seconds`: how long to wait, see `Stopwatch`; `megabytes`: see `memory_limit`. A process that is late is killed.
        """
        name = secrets.token_hex(8)
        self.printed.begin()
        watch, memory = Stopwatch(self.process.pid, seconds), PeakMemory(self.process.pid)
        with memory_limit(self.process.pid, megabytes):
            ending, answer, forbidden = self._answer(name, watch) if self._send(name, request) else (ENDED, {}, {})
        took, peak = watch.passed, memory.megabytes
        exit_sentence = self._exit_sentence() if ending == ENDED else ""
        stack: tuple[Frame, ...] = ()
        if ending == LATE:
            stack = stack_of(self.process.pid, self.folder, self.project)
            kill_group(self.process)
        return Reply(ending, took, answer, forbidden, self.printed.text(), exit_sentence, stack, peak)

    def _send(self, name: str, request: dict) -> bool:
        """Send a request with the id `name`. Returns whether the process is there to read it."""
        try:
            self.requests.write(json.dumps({"id": name, **request}).encode() + b"\n")
            self.requests.flush()
        except OSError:
            return False
        return True

    def _answer(self, name: str, watch: Stopwatch) -> tuple[str, dict, dict]:
        """How the wait for the answer to `name` ended, the answer, and the first reported violation. Other lines, which
        student code may have written, are ignored.
        """
        forbidden: dict = {}
        while (left := watch.left) > 0:
            try:
                line = self.lines.kept.get(timeout=left)
            except queue.Empty:
                continue
            if line is None:
                return ENDED, {}, forbidden
            message = parsed(line)
            if "forbidden" in message:
                forbidden = forbidden or message
            elif message.get("id") == name:
                return ANSWERED, message, forbidden
        return LATE, {}, forbidden

    def _exit_sentence(self) -> str:
        """How the process ended, as a sentence."""
        try:
            code = self.process.wait(timeout=GOODBYE)
        except subprocess.TimeoutExpired:
            return "It closed the line to the supervisor."
        if code >= 0:
            return f"It ended itself with exit code {code}."
        return f"It was ended by {signal.Signals(-code).name}."


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """One of the streams of a process; it has all three, since `Process` asks for pipes."""
    assert stream is not None
    return stream


class Lines(Thread):
    """Reads lines from a stream; the queue `kept` gets those of at most `LONGEST_LINE` bytes, and None at the end."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.stream = stream
        self.kept: queue.Queue[bytes | None] = queue.Queue(maxsize=MOST_LINES)
        self.start()

    def run(self) -> None:
        with self.stream:
            rest = b""
            while chunk := os.read(self.stream.fileno(), CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                rest = rest[: LONGEST_LINE + 1]  # a line without end must not fill the memory
                for line in lines:
                    self.keep(line)
            self.keep(None)

    def keep(self, line: bytes | None) -> None:
        """Put a line into the queue. If the queue is full, the line is lost, so that reading goes on; None never is."""
        if line is None or (line and len(line) <= LONGEST_LINE and not self.kept.full()):
            self.kept.put(line)


class Printed(Thread):
    """Reads what is printed, keeps the beginning, and notices the zero byte that marks the end of a request."""

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
        """The beginning of what was printed since `begin`, once the mark at its end has been read."""
        self.marked.wait(timeout=GOODBYE)
        return clean(self.kept.replace(b"\0", b"").decode("utf-8", "replace"), MOST_PRINTED)


def environment(folder: Path) -> dict[str, str]:
    """The environment of a worker: one thread, no GPU, no access to the hub, `folder` as home and temporary folder."""
    home = {name: str(folder) for name in ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP")}
    quiet = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, **home, **quiet, **MALLOC, "LANG": "C.UTF-8"}


def settings(denied: Sequence[Path]) -> dict:
    """The first request: which folders may not be read, and where libraries are.

    Denied are also the home folder, the system's temporary folder, and the git checkout that holds a denied package,
    with its history. The root folder is never denied: then nothing at all could be read.
    """
    checkouts = [path.parent for path in denied if (path.parent / ".git").exists()]
    closed = {path.resolve() for path in (*denied, *checkouts, Path.home(), Path(gettempdir()))}
    libraries = [entry for entry in sys.path if Path(entry).name in LIBRARIES]
    return {"denied": sorted(str(path) for path in closed if len(path.parts) > 1), "libraries": libraries}


def parsed(line: bytes) -> dict:
    """The JSON object in a line; an empty one if the line holds anything else."""
    try:
        data = parse_json(line)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
