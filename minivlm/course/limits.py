"""Limits that the operating system holds for another process: its memory, and its end.

Memory is limited on Linux alone, where one process may set the limits of another (`prlimit`); on other systems nothing
stops a test that takes all there is.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

MB = 2**20


@contextmanager
def memory_limit(pid: int, megabytes: int | None) -> Iterator[None]:
    """Let the process take so much more than it holds now, and no more: asking for it fails then, in Python and torch.

    What is held is counted as the system counts it: private memory that can be written to, used or not.
    """
    held = None if megabytes is None else memory_held(pid)
    if held is None or not hasattr(resource, "prlimit"):
        yield
        return
    with suppress(ProcessLookupError):
        before = resource.prlimit(pid, resource.RLIMIT_DATA)
        resource.prlimit(pid, resource.RLIMIT_DATA, (held + megabytes * MB, before[1]))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_DATA, before)


def memory_held(pid: int) -> int | None:
    """Bytes of private memory of a process, None where the system does not say."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return None


def kill_group(process: subprocess.Popen) -> None:
    """End a process that leads a group, and all of its group, and take its exit status."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
