"""Limits of another process, and its end: what the operating system knows about it and can do to it.

Memory is limited on Linux only, where a process can set the limits of another one (`prlimit`); on other systems a test
can take all the memory there is. Time is measured as time spent computing on Linux, so that a busy machine makes no
solution too slow; on other systems, by the clock.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MB = 2**20
# limit -> the line of /proc/PID/status that says how much of it is in use, and slack in bytes
MEMORY = {"RLIMIT_DATA": ("VmData", 0), "RLIMIT_AS": ("VmSize", 1000 * MB)}
PATIENCE = 3  # by the clock, a process has this many times its seconds of computing
KILL_ROUNDS = 20  # a process may fork faster than it is killed: look for its children again, at most this often


@contextmanager
def memory_limit(pid: int, megabytes: int | None) -> Iterator[None]:
    """Within, the process may take at most `megabytes` (2^20 bytes) more than it holds at the beginning; None for any
    amount. Asking for more fails in that process, in Python as in torch. On Linux only.

    Two figures are limited. Private memory that can be written to, used or not, exactly; and the address space, with
    1,000 MB to spare, because shared memory is counted there alone.
    """
    held = {} if megabytes is None or sys.platform != "linux" else memory_held(pid)
    for kind, (line, slack) in MEMORY.items():
        if line in held and megabytes is not None:
            set_limit(pid, kind, held[line] + megabytes * MB + slack)
    yield
    for kind, (line, _) in MEMORY.items():
        if line in held:
            set_limit(pid, kind, None)


def set_limit(pid: int, kind: str, limit: int | None) -> None:
    """Set a limit of a process, such as "RLIMIT_DATA", in bytes; None for no limit. At most the hard limit is set,
    which may not be raised. A process that has ended is left alone.
    """
    import resource  # missing on Windows

    number, unlimited = getattr(resource, kind), resource.RLIM_INFINITY
    with suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, number)
        soft = hard if limit is None else limit if hard == unlimited else min(limit, hard)
        resource.prlimit(pid, number, (soft, hard))


def memory_held(pid: int) -> dict[str, int]:
    """Bytes of private memory ("VmData") and of address space ("VmSize") of a process; empty if they are not known."""
    wanted = {line for line, _ in MEMORY.values()}
    with suppress(OSError):
        lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()]
        return {line[0][:-1]: int(line[1]) * 1024 for line in lines if line and line[0][:-1] in wanted}
    return {}


def computing(pid: int) -> float | None:
    """Seconds that a process has spent computing, in all its threads; None if they are not known."""
    with suppress(OSError):
        behind_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        user, system = behind_name.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return None


class Stopwatch:
    """The time that a process has left, of a number of seconds.

    They are over when the clock says so and the process has been computing for that long. A process that waits for
    something, or gets no time on a busy machine, has `PATIENCE` times as many by the clock.
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
        """Seconds before which they cannot be over; 0 or less if they are."""
        passed = self.passed
        if passed < self.seconds or self.computed is None or (now := computing(self.pid)) is None:
            return self.seconds - passed
        return min(self.seconds - (now - self.computed), PATIENCE * self.seconds - passed)


def kill_group(process: subprocess.Popen) -> None:
    """Kill a process that leads a group, with the whole group, and wait until it has ended."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def kill_strays(home: Path) -> None:
    """Kill the processes that a worker with this home folder has left behind, even outside its group. (Linux only.)

    They are known by their environment: a fork has that of its parent, and there HOME is this folder. The sandbox lets
    student code start no other programs.
    """
    mark = f"HOME={home}".encode()
    for _ in range(KILL_ROUNDS):
        strays = [number for number in processes() if mark in environment_of(number).split(b"\0")]
        for number in strays:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        if not strays:
            return


def processes() -> list[int]:
    """The numbers of all processes but this one; none where there is no /proc."""
    with suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]
    return []


def environment_of(number: int) -> bytes:
    """The variables that a process was started with, as NAME=VALUE, a zero byte after each. Empty if they cannot be
    read: the process belongs to another user, or has ended.
    """
    with suppress(OSError):
        return Path(f"/proc/{number}/environ").read_bytes()
    return b""
