"""Facts about the user's shell: how a word is quoted, which keys end the input, whether it has colours; exit codes."""

import os
import shlex
import subprocess

WINDOWS = os.name == "nt"
END_OF_INPUT = "Ctrl-Z and Enter" if WINDOWS else "Ctrl-D"
FAILED, MISUSED, INTERRUPTED = 1, 2, 130  # exit codes: an error, a command that was typed wrong, Ctrl-C


def quoted(word: str, windows: bool = WINDOWS) -> str:
    """The word as one types it, in quotes if it needs them; cmd on Windows knows double quotes only."""
    return subprocess.list2cmdline([word]) if windows else shlex.quote(word)


def shows_colors(windows: bool = WINDOWS) -> bool:
    """Whether the terminal shows colours for escape sequences, and the user has not set NO_COLOR (no-color.org).

    The old console of Windows prints the sequences; newer terminals there set one of three environment variables.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return not windows or any(name in os.environ for name in ("WT_SESSION", "TERM", "TERM_PROGRAM"))
