"""The sandbox of student code, in the kernel: on Linux, Landlock (since version 5.13) keeps a process to its files.

The audit hook sees only what Python opens. Landlock also holds for libraries written in C, and for programs that were
started in spite of the audit hook. A restricted process, and whatever it starts, may read the files that it is allowed
to read, write in one folder, and send signals to its own processes; it may start no programs and make no connections
(TCP). The restriction cannot be lifted again.

Where the kernel has no Landlock, or does not let this process use it, only the audit hook protects. Landlock does not
stop folders from being listed, and what is under /proc is left to the audit hook.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # numbers of system calls, the same on all machines
CREATE_RULESET_VERSION = 1  # a flag of CREATE_RULESET: return the version only
RULE_PATH_BENEATH = 1  # a kind of rule
PR_SET_NO_NEW_PRIVS = 38  # for prctl

EXECUTE, WRITE, READ = 1 << 0, 1 << 1, 1 << 2
# 1 << 3, to list a folder, is not restricted: an import lists the folders that it searches
REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))  # files and folders of all kinds
ODD_KINDS = sum(1 << bit for bit in (6, 9, 10, 11, 12))  # to make devices, sockets, pipes and links
REFER, TRUNCATE = 1 << 13, 1 << 14  # since versions 2 and 3 of Landlock
BIND_AND_CONNECT = 0b11  # since version 4
SOCKETS_AND_SIGNALS = 0b11  # since version 6


def version() -> int:
    """The version of Landlock that the kernel has; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, c_library().syscall(CREATE_RULESET, None, 0, CREATE_RULESET_VERSION))


def restrict_to_files(readable: Iterable[str], denied: Iterable[str], own: str) -> bool:
    """Restrict this thread, and all that it starts, to its files. Returns whether the kernel does so now.

    It may read everything but the folders `denied`; inside these, it may read the folders `readable`. It may write in
    the folder `own` alone, files and folders. All paths are resolved.
    """
    known = version()
    if not known:
        return False
    rights = file_rights(known)
    with suppress(OSError):
        ruleset = new_ruleset(known, rights)
        for path in open_places({*readable, own}, set(denied)):
            allow(ruleset, path, READ)
        allow(ruleset, own, rights & ~(EXECUTE | ODD_KINDS))
        allow(ruleset, os.devnull, READ | WRITE)
        restrict(ruleset)
        return True
    return False


def c_library() -> ctypes.CDLL:
    """The C library of this process: its `syscall` makes a system call by number."""
    return ctypes.CDLL(None, use_errno=True)


def file_rights(known: int) -> int:
    """All rights to files that version `known` of Landlock can refuse, as bits. What no rule allows is refused."""
    return EXECUTE | WRITE | READ | REMOVE_AND_MAKE | (REFER if known >= 2 else 0) | (TRUNCATE if known >= 3 else 0)


def new_ruleset(known: int, rights: int) -> int:
    """The file descriptor of a new set of rules: it refuses `rights`, connections and signals, and allows nothing."""
    fields = [rights, *([BIND_AND_CONNECT] if known >= 4 else []), *([SOCKETS_AND_SIGNALS] if known >= 6 else [])]
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    return checked(c_library().syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))


def allow(ruleset: int, path: str, rights: int) -> None:
    """Add a rule that allows `rights` for a file, or for a folder and everything below it. A path that does not exist
    or may not be opened gets no rule.
    """
    with suppress(FileNotFoundError, PermissionError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if not os.path.isdir(path):
            rights &= READ | WRITE | TRUNCATE  # the kernel takes no others for a file
        checked(c_library().syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, struct.pack("=Qi", rights, place), 0))
        os.close(place)


def restrict(ruleset: int) -> None:
    """Put the rules into force, for this thread and all that it starts."""
    checked(c_library().prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))))
    checked(c_library().syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def checked(result: int) -> int:
    """The result of a system call; raises OSError if the call failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def open_places(readable: set[str], denied: set[str]) -> Iterator[str]:
    """Folders and files that together hold all that may be read, and nothing else. All paths are resolved.

    A rule for a folder allows everything below it, and no other rule can take that away. So a folder with a denied one
    inside is replaced by its contents, without the denied one, and so on.
    """
    closed = {path.rstrip("/") for path in denied}
    for path in {"/", *readable}:
        if path.rstrip("/") not in closed:
            yield from without_closed(path.rstrip("/"), closed)


def without_closed(path: str, closed: set[str]) -> Iterator[str]:
    """`path` itself, or, if a closed folder is below it, its contents that are not closed. Links are left out."""
    if not any(root.startswith(f"{path}/") for root in closed):
        yield path or "/"
        return
    with suppress(OSError), os.scandir(path or "/") as entries:
        for entry in entries:
            if not entry.is_symlink() and entry.path not in closed:
                yield from without_closed(entry.path, closed)
