"""What the command line prints and reads: results on stdout, remarks on stderr, questions from stdin."""

import errno
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import UnsupportedOperation
from typing import Any

from minivlm.files import harmless
from minivlm.shell import END_OF_INPUT, WINDOWS


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(data, indent=1))


def say(text: str, end: str = "") -> None:
    """Print a model's text on stdout; on a terminal, without control characters, which would change the terminal."""
    print(harmless(text) if sys.stdout.isatty() else text, end=end, flush=True)


def remark(text: str) -> None:
    """Print a sentence on stderr, without control characters: it may quote a damaged file."""
    print(harmless(text), file=sys.stderr, flush=True)


def questions() -> Iterator[str]:
    """The lines of stdin that are not empty. On a terminal, a prompt on stderr asks for each."""
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        remark(f"One question a line; {END_OF_INPUT} ends.")
    while True:
        if is_terminal:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


@contextmanager
def short_warnings() -> Iterator[None]:
    """Within, a warning is one line on stderr, without the place in the code that Python would add."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *where, **more: remark(f"minivlm: {message}")
        yield


@contextmanager
def warnings_afterwards() -> Iterator[None]:
    """Within, warnings are collected; at the end each is printed once, so that none interrupts a text on stdout."""
    with warnings.catch_warnings(record=True) as waiting:
        try:
            yield
        finally:
            for sentence in dict.fromkeys(str(warning.message) for warning in waiting):
                remark(f"minivlm: {sentence}")


def allow_any_text() -> None:
    """From now on, stdin, stdout and stderr replace characters that their encoding lacks, and raise no error."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            with suppress(UnsupportedOperation):  # raised by a stdin from which something was read already
                stream.reconfigure(errors="replace")


def is_closed_pipe(error: BaseException, windows: bool = WINDOWS) -> bool:
    """Whether `error` means that nobody reads the output any more; on Windows that is an "invalid argument"."""
    return isinstance(error, BrokenPipeError) or (
        windows and isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename is None
    )


def forget_stdout() -> None:
    """Discard what is still buffered: at its end, Python would try to write it to the closed pipe, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
