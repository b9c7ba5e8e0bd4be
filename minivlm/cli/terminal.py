"""What the command line prints and reads: results on stdout, remarks on stderr, questions from stdin."""

import errno
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from io import UnsupportedOperation
from typing import Any, TextIO, cast

from minivlm.errors import ConfigError, PromptError
from minivlm.files import harmless
from minivlm.shell import END_OF_INPUT, WINDOWS

STDOUT = "stdout"  # its name in errors
LONGEST = 2**20  # characters of a line of stdin


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(data, indent=1))


def say(text: str, end: str = "") -> None:
    """Print a model's text on stdout; on a terminal, without control characters, which would change the terminal."""
    print(harmless(text) if sys.stdout.isatty() else text, end=end, flush=True)


def remark(text: str) -> None:
    """Print a sentence on stderr, without control characters: it may quote a damaged file. Nothing if it is closed."""
    if sys.stderr is not None:  # `print` would take stdout instead
        print(harmless(text), file=sys.stderr, flush=True)


def open_stdin() -> TextIO:
    """stdin. Raises `ConfigError` if it is closed."""
    if sys.stdin is None:
        raise ConfigError("stdin is closed, but is to be read: start the command without `<&-`, or give it a file.")
    return sys.stdin


def questions() -> Iterator[str]:
    """The lines of stdin that are not empty. On a terminal, a prompt on stderr asks for each.

    Raises `PromptError` for a line of more than `LONGEST` characters, and if stdin cannot be read.
    """
    stdin = open_stdin()
    is_terminal = stdin.isatty()
    if is_terminal:
        remark(f"One question a line; {END_OF_INPUT} ends.")
    while True:
        if is_terminal:
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            line = stdin.readline(LONGEST + 1)
        except OSError as cause:
            raise PromptError(f"stdin cannot be read: {cause.strerror or cause}.") from cause
        if not line:
            return
        if len(line) > LONGEST and not line.endswith("\n"):
            raise PromptError(f"A line of stdin has more than {LONGEST:,} characters, which is too long a question.")
        if line.strip():
            yield line.strip()


@contextmanager
def own_streams() -> Iterator[None]:
    """Within, no file that is opened gets the number of a standard stream that was closed: what is written to stderr
    would go into it; and an error of stdout says so. Raises `ConfigError` if stdout is closed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
    if sys.stdout is None:
        raise ConfigError("stdout is closed, but results are printed there: start without `>&-`, or send it to a file.")
    with ExitStack() as streams:
        streams.enter_context(redirect_stdout(cast(TextIO, Stdout(sys.stdout))))
        if sys.stderr is None:
            nothing = streams.enter_context(open(os.devnull, "w", encoding="utf-8"))
            streams.enter_context(redirect_stderr(nothing))
        yield


class Stdout:
    """A text stream whose errors have the name "stdout", by which `main` tells them from those of files."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write, as `stream` does."""
        with named_stdout():
            return self.stream.write(text)

    def flush(self) -> None:
        """Flush, as `stream` does."""
        with named_stdout():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def named_stdout() -> Iterator[None]:
    """Give an OSError the name of stdout, unless it says that nobody reads it any more."""
    try:
        yield
    except OSError as error:
        if is_closed_pipe(error):
            raise
        raise OSError(error.errno, error.strerror or str(error), STDOUT) from error


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
