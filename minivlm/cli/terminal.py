"""What the command line prints and reads: results on stdout, remarks on stderr, questions from stdin."""

import errno
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import UnsupportedOperation

from minivlm.files import harmless
from minivlm.shell import END_OF_INPUT, WINDOWS


def print_json(data: dict) -> None:
    print(json.dumps(data, indent=1))


def say(text: str, end: str = "") -> None:
    """Print what a model wrote; a terminal must not obey control characters that it made up."""
    print(harmless(text) if sys.stdout.isatty() else text, end=end, flush=True)


def remark(text: str) -> None:
    """Print a sentence on stderr; what it quotes may come from a damaged file."""
    print(harmless(text), file=sys.stderr, flush=True)


def questions() -> Iterator[str]:
    """The lines of stdin that say something; somebody at a terminal is shown where to type."""
    typed = sys.stdin.isatty()
    if typed:
        remark(f"One question a line; {END_OF_INPUT} ends.")
    while True:
        if typed:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


@contextmanager
def short_warnings() -> Iterator[None]:
    """Within, a warning is one line on stderr, without the line of code that gave it."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *where, **more: remark(f"minivlm: {message}")
        yield


@contextmanager
def warnings_afterwards() -> Iterator[None]:
    """Within, warnings wait for the end, or they would run into the line that is being written; each comes once."""
    with warnings.catch_warnings(record=True) as waiting:
        try:
            yield
        finally:
            for sentence in dict.fromkeys(str(warning.message) for warning in waiting):
                remark(f"minivlm: {sentence}")


def allow_any_text() -> None:
    """Replace what an encoding lacks, on the way in and out, since a question or an answer may hold any character."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            with suppress(UnsupportedOperation):  # a stdin that was read from already stays as it is
                stream.reconfigure(errors="replace")


def is_closed_pipe(error: BaseException, windows: bool = WINDOWS) -> bool:
    """Whether `error` says that nobody reads the output any more; Windows says so by "invalid argument"."""
    return isinstance(error, BrokenPipeError) or (
        windows and isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename is None
    )


def forget_stdout() -> None:
    """Send what is still buffered nowhere, or Python would complain about the closed pipe when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
