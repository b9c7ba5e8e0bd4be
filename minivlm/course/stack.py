"""Where a process is that is too slow: on a signal, it writes its stack to a file. (Not on Windows.)

What is in the file may have been written by student code: it is only used to name a line, and to wait less for it.
"""

import os
import re
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path

FILE = "stack.txt"  # in the folder of the process; kit/worker.py has the same
WAITING = 0.5  # seconds
LARGEST = 64 * 1024  # bytes that are read
FRAME = re.compile(r'^  File "(?P<file>[^"\n]*)", line (?P<line>\d+) in (?P<function>[^\n]*)$', re.MULTILINE)
OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
Frame = tuple[str, int, str]  # "minivlm/model/layers.py", the line, the name of the function


def stack_of(pid: int, folder: Path, project: Path) -> tuple[Frame, ...]:
    """The frames of a running worker in files of the package `project/minivlm`, the innermost first; none if they
    cannot be had.
    """
    if not hasattr(signal, "SIGUSR1"):
        return ()
    with suppress(OSError):
        os.kill(pid, signal.SIGUSR1)
        until = time.perf_counter() + WAITING
        while not (text := content(folder / FILE)).endswith("\n") and time.perf_counter() < until:
            time.sleep(0.01)
        return frames(text, project)
    return ()


def content(file: Path) -> str:
    """The beginning of a file. Raises OSError unless it is a regular file, and no link."""
    number = os.open(file, OPEN_FLAGS)
    with os.fdopen(number, "rb") as stream:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(f"{file} is no regular file.")
        return stream.read(LARGEST).decode("utf-8", "replace")


def frames(text: str, project: Path) -> tuple[Frame, ...]:
    """The frames of a traceback as `faulthandler` writes it that are in files of the package `project/minivlm`."""
    start = f"{project.as_posix()}/"
    found = [
        (match["file"].replace("\\", "/"), int(match["line"][:9]), match["function"]) for match in FRAME.finditer(text)
    ]
    return tuple(
        (file.removeprefix(start), line, function)
        for file, line, function in found
        if file.startswith(f"{start}minivlm/")
    )
