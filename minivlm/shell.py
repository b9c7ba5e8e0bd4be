"""The shell that minivlm was typed into: how a word is written there, what ends its input, what exit codes mean."""

import os
import shlex
import subprocess

WINDOWS = os.name == "nt"
END_OF_INPUT = "Ctrl-Z and Enter" if WINDOWS else "Ctrl-D"
FAILED, MISUSED, INTERRUPTED = 1, 2, 130  # exit codes: it did not go well, it was typed wrong, Ctrl-C


def quoted(word: str, windows: bool = WINDOWS) -> str:
    """The word as one types it, in quotes if it needs them; cmd on Windows knows double quotes alone."""
    return subprocess.list2cmdline([word]) if windows else shlex.quote(word)


def shows_colors(windows: bool = WINDOWS) -> bool:
    """Whether a terminal here obeys escape sequences, and nobody minds (see no-color.org).

    The old console of Windows prints them; whatever obeys them there says who it is.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return not windows or any(name in os.environ for name in ("WT_SESSION", "TERM", "TERM_PROGRAM"))
