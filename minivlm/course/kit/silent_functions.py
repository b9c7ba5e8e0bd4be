"""Functions that do what student code may not do, and of which Python's audit hooks hear nothing.

Here they are replaced by functions that raise an audit event, which the audit hook refuses. They are replaced in all
modules of Python that have them. Student code that finds an original elsewhere (in a list or a class of a library, say)
gets past this: of that, only the kernel can keep it.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import BuiltinFunctionType
from typing import Any

SILENT_FUNCTIONS = {  # what they do, as the message says it -> the functions, each also the name of its event
    "start other programs": "_posixsubprocess.fork_exec",
    "make pipes or devices": "posix.mkfifo posix.mknod",
    "share memory": "posix.memfd_create _posixshmem.shm_open _posixshmem.shm_unlink",
    "change what its folders are": "posix.chroot posix.unshare posix.setns",
    "reach other processes": "posix.pidfd_open _signal.pidfd_send_signal posix.setpriority posix.sched_setaffinity "
    "posix.sched_setscheduler posix.sched_setparam posix.setpgid posix.setsid posix.setpgrp",
}
INTERPRETERS = ("_interpreters", "_xxsubinterpreters")  # the module's name from Python 3.13 on, and before
NEW_INTERPRETER = "cpython.PyInterpreterState_New"
REPEATED = ("posix", "_signal", "_posixsubprocess", "_posixshmem")  # may not be imported anew, with the originals
HOLDERS = (*REPEATED, *INTERPRETERS, "os", "signal", "subprocess", "multiprocessing.shared_memory")  # modules with them
REFUSED_MODULES = (  # whose import is refused: they start processes or interpreters, or reach into memory
    "multiprocessing.popen_spawn_posix",
    "multiprocessing.popen_forkserver",
    *("_interpchannels", "_interpqueues", "_xxinterpchannels"),
    *("_testcapi", "_testinternalcapi", "_testlimitedcapi", "_testmultiphase", "_testsinglephase", "_testbuffer"),
    *("_testimportmultiple", "_testexternalinspection", "_remote_debugging", "_testclinic", "_ctypes_test"),
    *INTERPRETERS,
    *REPEATED,
)
SETS = ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks")  # of functions, in os


def close_silent_functions() -> None:
    """Replace the functions, in all of `HOLDERS`."""
    originals = found_functions()
    closed = {original: closed_function(event) for original, event in originals.items()}
    for name in HOLDERS:
        with suppress(ImportError):
            replace_in(vars(import_module(name)), closed)
    for name in SETS:
        getattr(os, name, set()).difference_update(originals)
    imp: Any = import_module("_imp")  # would make a module of those in Python itself anew, and ask nobody
    imp.create_builtin = guarded(imp.create_builtin, closed_function("import_anew"))


def found_functions() -> dict[BuiltinFunctionType, str]:
    """The functions that this Python has, each with its event."""
    found = {}
    for event in " ".join(SILENT_FUNCTIONS.values()).split():
        name, _, function = event.partition(".")
        with suppress(ImportError, AttributeError):  # another system's Python does not have all
            found[getattr(import_module(name), function)] = event
    for name in INTERPRETERS:
        with suppress(ImportError):
            values = vars(import_module(name)).values()
            found |= {value: NEW_INTERPRETER for value in values if isinstance(value, BuiltinFunctionType)}
    return found


def closed_function(event: str) -> Callable[..., None]:
    """A function that raises an audit event, and does nothing else."""
    audit = sys.audit

    def closed(*_: object, **__: object) -> None:
        audit(event)

    return closed


def guarded(create: Callable[[Any], Any], closed: Callable[..., None]) -> Callable[[Any], Any]:
    """The function that makes modules of Python's own, which now refuses those of `REFUSED_MODULES`."""
    refused, text = REFUSED_MODULES, str

    def create_builtin(spec: Any) -> Any:
        name = text(spec.name)
        if name in refused:
            closed()
        return create(spec)

    return create_builtin


def replace_in(names: dict[str, Any], closed: dict[BuiltinFunctionType, Callable[..., None]]) -> None:
    """Replace the functions among a module's names."""
    for name, value in [*names.items()]:
        if type(value) is BuiltinFunctionType and value in closed:
            names[name] = closed[value]
