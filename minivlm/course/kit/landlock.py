"""The wall behind the fence: on Linux, the kernel itself keeps a process to its files (Landlock, since 5.13).

The fence sees what Python opens; the wall also holds for libraries written in C and for programs that were started in
spite of the fence. Within it, a process and all that it starts read what they may read, write in one folder, start
nothing, connect to nothing (TCP) and send signals to nobody outside. It cannot be taken down again.

Where the kernel has no Landlock, or is not allowed to use it, there is no wall and the fence stands alone. Folders may
be listed everywhere, and /proc is left to the fence.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress

CREATE, ADD, RESTRICT = 444, 445, 446  # system calls, the same on all machines
VERSION = 1  # a flag of CREATE
BENEATH = 1  # a kind of rule
NO_NEW_PRIVILEGES = 38  # for prctl

EXECUTE, WRITE, READ = 1 << 0, 1 << 1, 1 << 2
LIST = 1 << 3  # not handled: importing lists folders on the way
REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))  # files and folders of all kinds
REFER, TRUNCATE = 1 << 13, 1 << 14  # since versions 2 and 3
BIND_AND_CONNECT = 0b11  # since version 4
SOCKETS_AND_SIGNALS = 0b11  # since version 6


def version() -> int:
    """The version of Landlock that the kernel offers, 0 without."""
    if sys.platform != "linux":
        return 0
    return max(0, kernel().syscall(CREATE, None, 0, VERSION))


def restrict_to_files(readable: Iterable[str], denied: Iterable[str], own: str) -> bool:
    """Keep this thread, and all that it starts, to its files. Whether there is a wall now.

    `denied` folders may not be read, `readable` ones within them may be; only in `own` may be written.
    """
    if not (known := version()):
        return False
    rights = file_rights(known)
    with suppress(OSError):
        ruleset = new_ruleset(known, rights)
        for path in open_places({*readable, own}, set(denied)):
            allow(ruleset, path, READ)
        allow(ruleset, own, rights & ~EXECUTE)
        allow(ruleset, os.devnull, READ | WRITE)
        return restrict(ruleset)
    return False


def kernel() -> ctypes.CDLL:
    """The C library, whose `syscall` reaches the kernel."""
    return ctypes.CDLL(None, use_errno=True)


def file_rights(known: int) -> int:
    """The rights that are refused unless a rule gives them."""
    return EXECUTE | WRITE | READ | REMOVE_AND_MAKE | (REFER if known >= 2 else 0) | (TRUNCATE if known >= 3 else 0)


def new_ruleset(known: int, rights: int) -> int:
    """An open file that stands for a set of rules, yet without any."""
    fields = [rights, *([BIND_AND_CONNECT] if known >= 4 else []), *([SOCKETS_AND_SIGNALS] if known >= 6 else [])]
    layout = struct.pack(f"{len(fields)}Q", *fields)
    return checked(kernel().syscall(CREATE, layout, ctypes.c_size_t(len(layout)), 0))


def allow(ruleset: int, path: str, rights: int) -> None:
    """A rule: `rights` in and below `path`; for a file, those that a file can have."""
    with suppress(FileNotFoundError, PermissionError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rights &= -1 if os.path.isdir(path) else READ | WRITE | TRUNCATE
        checked(kernel().syscall(ADD, ruleset, BENEATH, struct.pack("=Qi", rights, place), 0))
        os.close(place)


def restrict(ruleset: int) -> bool:
    """Put the rules into force."""
    checked(kernel().prctl(NO_NEW_PRIVILEGES, *map(ctypes.c_ulong, (1, 0, 0, 0))))
    checked(kernel().syscall(RESTRICT, ruleset, 0))
    os.close(ruleset)
    return True


def checked(result: int) -> int:
    """The result of a system call; raises OSError if it failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def open_places(readable: set[str], denied: set[str]) -> Iterator[str]:
    """Folders and files that cover all that may be read, and nothing that may not. All paths are resolved.

    A right is given to a folder with all that is below it, and cannot be taken away there; so a folder that holds a
    denied one is taken apart into what it holds.
    """
    closed = {path.rstrip("/") for path in denied}
    for path in {"/", *readable}:
        if path.rstrip("/") not in closed:
            yield from parts(path.rstrip("/"), closed)


def parts(path: str, closed: set[str]) -> Iterator[str]:
    """`path`, or if something below it is closed, its parts."""
    if not any(root.startswith(f"{path}/") for root in closed):
        yield path or "/"
        return
    with suppress(OSError), os.scandir(path or "/") as entries:
        for entry in entries:
            if not entry.is_symlink() and entry.path not in closed:
                yield from parts(entry.path, closed)
