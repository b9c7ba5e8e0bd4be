"""What the operating system knows about another process and does to it: its time, its memory, its end.

Memory is limited on Linux alone, where one process may set the limits of another (`prlimit`); on other systems nothing
stops a test that takes all there is. There, time is the time of day; on Linux it is time spent computing, so that a
busy machine makes nobody too slow.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

MB = 2**20
MEMORY = {"RLIMIT_DATA": ("VmData", 0), "RLIMIT_AS": ("VmSize", 1000 * MB)}  # limit -> how much is held, slack
PATIENCE = 3
ROUNDS = 20  # of ending what forks on and on


@contextmanager
def memory_limit(pid: int, megabytes: int | None) -> Iterator[None]:
    """Let the process take so much more than it holds now, and no more: asking for it fails then, in Python and torch.

    What is held is counted as the system counts it: private memory that can be written to, used or not. Address space
    is limited, too, more loosely: memory that is shared counts there alone.
    """
    held = {} if megabytes is None or not hasattr(resource, "prlimit") else memory_held(pid)
    for kind, (line, slack) in MEMORY.items():
        if line in held:
            set_limit(pid, getattr(resource, kind), held[line] + megabytes * MB + slack)
    yield
    for kind, (line, _) in MEMORY.items():
        if line in held:
            set_limit(pid, getattr(resource, kind), resource.RLIM_INFINITY)


def set_limit(pid: int, kind: int, limit: int) -> None:
    """Set what a process may hold, as far as the system lets anybody; a process that is gone holds nothing."""
    with suppress(ProcessLookupError):
        _, most = resource.prlimit(pid, kind)
        if most != resource.RLIM_INFINITY:
            limit = most if limit == resource.RLIM_INFINITY else min(limit, most)
        resource.prlimit(pid, kind, (limit, most))


def memory_held(pid: int) -> dict[str, int]:
    """Bytes of private memory and of address space of a process; nothing where the system does not say."""
    wanted = {line for line, _ in MEMORY.values()}
    with suppress(OSError):
        lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()]
        return {line[0][:-1]: int(line[1]) * 1024 for line in lines if line and line[0][:-1] in wanted}
    return {}


def computing(pid: int) -> float | None:
    """Seconds for which a process has been computing, in all its threads; None where the system does not say."""
    with suppress(OSError):
        behind_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        user, system = behind_name.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return None


class Stopwatch:
    """Measures what a process has left of so many seconds.

    They are over when the clock says so and the process has been computing that long; or, if it waits for something or
    the machine has no time for it, when the clock has counted them `PATIENCE` times.
    """

    def __init__(self, pid: int, seconds: float) -> None:
        self.pid, self.seconds = pid, seconds
        self.began, self.computed = time.perf_counter(), computing(pid)

    @property
    def passed(self) -> float:
        """Seconds by the clock."""
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds until it is worth looking again; 0 or less if there are none."""
        passed = self.passed
        if passed < self.seconds or self.computed is None or (now := computing(self.pid)) is None:
            return self.seconds - passed
        return min(self.seconds - (now - self.computed), PATIENCE * self.seconds - passed)


def kill_group(process: subprocess.Popen) -> None:
    """End a process that leads a group, and all of its group, and take its exit status."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def kill_strays(home: Path) -> None:
    """End what is left of a worker with this home folder, also outside its group: a fork keeps the environment of its
    parent as the system shows it, and nothing else may be started there. (Linux alone.)
    """
    mark = f"HOME={home}".encode()
    for _ in range(ROUNDS):
        strays = [number for number in processes() if mark in environment_of(number).split(b"\0")]
        for number in strays:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        if not strays:
            return


def processes() -> list[int]:
    """The numbers of all processes, none where there is no /proc."""
    with suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]
    return []


def environment_of(number: int) -> bytes:
    """The variables that a process was started with; empty for processes of others, and for those that have ended."""
    with suppress(OSError):
        return Path(f"/proc/{number}/environ").read_bytes()
    return b""
