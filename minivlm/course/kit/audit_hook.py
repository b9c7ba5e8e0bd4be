"""The sandbox of student code, in Python: an audit hook that refuses what the code may not do.

Python calls its audit hooks before it opens a file, starts a program or makes a connection, whichever function was
used for it. The hook here raises a PermissionError instead. It also reports the violation to the supervisor at once,
so that a student gains nothing by catching the error. (Sometimes a library does such a thing unasked: matplotlib
starts a program to look for fonts. That is refused, too, but what a library does is reported only if it opens or lists
files.)

May read:     every folder but the denied ones; but even in those, project, tests, models and Python's own folders
May write:    its own temporary folder
May not:      start programs, use the network, read memory, change its limits, end or slow down other processes

Limits of this: libraries written in C can open files without an audit event, and so can functions of Python, of which
`silent_functions.py` closes those that we know. Code that reads or writes the memory of the process can remove the
hook, and no Python can prevent that: numpy makes an array of any address. On Linux, `landlock.py` makes the kernel
refuse much of the same. For more safety, run each student's code in a container.

Student code shares the interpreter with the hook, and could replace any function that the hook looks up by a global
name. So the functions of the hook are made beforehand, and use nothing but their own local variables; links are
followed with the system's own calls; and no variable of Python refers to the hook, only the interpreter does.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

# relative: the worker loads this folder by itself, apart from the student's package
from .paths import path_decoder, path_resolver
from .report_violation import violation_locator, violation_reporter
from .silent_functions import REFUSED_MODULES, SILENT_FUNCTIONS, close_silent_functions

MOST_FILES = 200  # openings for writing in a process's whole life: it must not fill the disk with files
MOST_FOLDERS = 50  # that a process may make
LONGEST = 300  # characters of a path in a message

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FOLDER_EVENTS = ("os.listdir", "os.scandir", "os.chdir")
CHANGE_EVENTS = {  # event -> which of its arguments are paths, by position
    "os.rename": (0, 1),
    **dict.fromkeys(("os.remove", "os.rmdir", "os.truncate"), (0,)),
}
STATUS_EVENTS = ("os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr", "os.chflags")
FORBIDDEN_EVENTS = {  # what they do, as the message says it -> events
    "start other programs": "subprocess.Popen os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn pty.spawn "
    "os.startfile os.startfile/2 _winapi.CreateProcess cpython.PyInterpreterState_New sys.remote_exec",
    "use the network": "socket.__new__ socket.connect socket.bind socket.getaddrinfo socket.gethostbyname "
    "socket.gethostbyaddr socket.getnameinfo socket.sendto socket.sendmsg socket.sethostname",
    "reach into memory": "ctypes.dlopen ctypes.dlsym ctypes.dlsym/handle ctypes.call_function ctypes.string_at "
    "ctypes.wstring_at ctypes.cdata ctypes.cdata/buffer gc.get_objects gc.get_referrers gc.get_referents "
    "sys._current_frames",
    "change its limits": "resource.setrlimit resource.prlimit fcntl.fcntl fcntl.ioctl",
    "end processes": "os.kill os.killpg signal.pthread_kill",
    "make links": "os.link os.symlink",
    "open data bases": "sqlite3.connect",
    "import Python's own modules anew": "import_anew",
}

# All return the reason why something is refused, or "" if it is allowed.
Judge = Callable[[str, tuple], str]  # takes the name of an audit event and its arguments
EventRule = Callable[[tuple], str]  # takes the arguments of an audit event
PathRule = Callable[[object], str]  # takes a path, of any type


@dataclass(frozen=True)
class SandboxPaths:
    """The files and folders that the rules are about. All paths are resolved."""

    project: str  # the student's folder
    tests: str  # the file of the tests
    own: str  # the process's temporary folder, the only place where it may write
    lent: tuple[str, ...]  # the folders of models, which may be links to the installed ones
    libraries: tuple[str, ...]  # Python's own folders
    denied: tuple[str, ...]  # folders that may not be read, except for `readable` ones inside them

    @property
    def readable(self) -> set[str]:
        """Folders that may be read even inside denied ones."""
        return {*self.libraries, *self.lent, self.project, os.path.dirname(self.tests), self.own}


def install_audit_hook(paths: SandboxPaths, channel: int) -> None:
    """Refuse violations from now on, until this process ends. `channel`: a file descriptor for the reports.

    Student code that catches the error can reach the hook's frame and its local variables by the traceback. So the
    hook deletes `judge`, the only useful one, before it raises; the next call gets it again, as a default value. And it
    raises outside of `except`, so that this error does not carry another one, with more frames.
    """
    close_silent_functions()
    new_judge = violation_judge(paths, channel)

    def hook(event: str, arguments: tuple, judge: Judge = new_judge, refused: type = PermissionError) -> None:
        try:
            reason = judge(event, arguments)
        except:  # noqa: E722 (`except Exception` would look up a name that student code can replace)
            reason = "Whether it may do this is unknown."
        if reason:
            del judge
            raise refused(reason)

    sys.addaudithook(hook)


def violation_judge(paths: SandboxPaths, channel: int) -> Judge:
    """A function that takes an event and its arguments, reports a violation, and returns the reason or ""."""
    rule_of, report = event_rules(paths).get, violation_reporter(channel)
    locate, file_events = violation_locator(paths.project, paths.tests), ("open", *FOLDER_EVENTS)

    def judge(event: str, arguments: tuple) -> str:
        rule = rule_of(event)
        reason = rule(arguments) if rule is not None else ""
        if reason:
            where, is_library = locate()
            if not is_library or event in file_events:
                report(reason, where)
        return reason

    return judge


def event_rules(paths: SandboxPaths) -> dict[str, EventRule]:
    """The rule for each audit event that can be refused; all other events are allowed."""
    read, write = read_rule(paths), write_rule(paths)
    forbidden = [*FORBIDDEN_EVENTS.items(), *SILENT_FUNCTIONS.items()]
    rules = {event: always(f"It may not {what}.") for what, events in forbidden for event in events.split()}
    rules |= dict.fromkeys(FOLDER_EVENTS, read)
    rules |= {event: change_rule(write, places) for event, places in CHANGE_EVENTS.items()}
    rules |= dict.fromkeys(STATUS_EVENTS, status_rule(write))
    return {**rules, "open": open_rule(paths, read, write), "os.mkdir": mkdir_rule(write), "import": import_rule(paths)}


def always(reason: str) -> EventRule:
    """A rule that refuses whatever the arguments are."""
    return lambda _: reason


def change_rule(write: PathRule, places: tuple[int, ...]) -> EventRule:
    """A rule for events that change files: the arguments at `places` are their paths."""

    def rule(arguments: tuple) -> str:
        for place in places:
            if reason := write(arguments[place]):
                return reason
        return ""

    return rule


def status_rule(write: PathRule) -> EventRule:
    """A rule for a file's rights, owner and times: as for writing, but never by the number of an open file, which may
    have been opened to be read, and lie anywhere.
    """
    decode = path_decoder()

    def rule(arguments: tuple) -> str:
        if decode(arguments[0]) is None:
            return "It may not change the rights or times of a file by its number."
        return write(arguments[0])

    return rule


def mkdir_rule(write: PathRule) -> EventRule:
    """A rule for new folders. Their number is limited: if nested too deeply, they cannot be removed again."""
    left = [None] * MOST_FOLDERS

    def rule(arguments: tuple) -> str:
        if not left:
            return "It has made too many folders."
        left.pop()
        return write(arguments[0])

    return rule


def import_rule(paths: SandboxPaths) -> EventRule:
    """A rule for imports: refuses `REFUSED_MODULES`, and binary files that are not a library's."""
    refused, decode, resolve = REFUSED_MODULES, path_decoder(), path_resolver()
    roots = tuple(f"{path}/" for path in paths.libraries)

    def rule(arguments: tuple) -> str:
        name, file = arguments[0], arguments[1]  # a file is given for binary modules alone
        name = decode(name) or ""
        if name in refused or (file is not None and name.rpartition(".")[2] in refused):  # "x._testcapi" loads it, too
            return "It may not import what starts other programs or reaches into memory."
        path = decode(file)
        allowed = file is None or (path and resolve(path).startswith(roots))
        return "" if allowed else "It may not import binary files."

    return rule


def read_rule(paths: SandboxPaths) -> EventRule:
    """A rule for reading a file or a folder: the innermost folder in `read_permissions` that holds it decides."""
    decode, resolve, permissions, longest = path_decoder(), path_resolver(), read_permissions(paths), LONGEST

    def rule(arguments: tuple) -> str:
        path = decode(arguments[0])
        if not path:
            return "" if path is None else "It may only open paths that are words or a Path."
        place = resolve(path) + "/"
        for root, allowed in permissions:
            if place.startswith(root):
                return "" if allowed else f"It may not read {place[:-1][:longest]}: that is closed to student code."
        return ""

    return rule


def write_rule(paths: SandboxPaths) -> PathRule:
    """A rule for making, changing or removing a file: only inside the process's own folder."""
    decode, resolve, own, longest = path_decoder(), path_resolver(), paths.own + "/", LONGEST
    devices = ("/dev/null", "/dev/stdout", "/dev/stderr", "nul")

    def rule(argument: object) -> str:
        path = decode(argument)
        if path is None or path in devices or (path and ".." not in path and (resolve(path) + "/").startswith(own)):
            return ""
        return f"It may not write to {path[:longest]}: only to the folder that it is started in."

    return rule


def open_rule(paths: SandboxPaths, read: EventRule, write: PathRule) -> EventRule:
    """A rule for opening a file, to read or to write.

    `os.open` raises the event without a mode; and its path may be relative to an open folder (`dir_fd`), which the
    event does not name. So student code may open no folder outside its own: such paths could start there.
    """
    write_flags, left, is_foreign_folder = WRITING, [None] * MOST_FILES, foreign_folder_test(paths)

    def rule(arguments: tuple) -> str:
        path, mode, flags = arguments
        if flags & write_flags or (mode and ("w" in mode or "a" in mode or "x" in mode or "+" in mode)):
            if not left:
                return "It has opened too many files for writing."
            left.pop()
            return write(path)
        if mode is None and is_foreign_folder(path):
            return "It may not open folders that are not its own."
        return read(arguments)

    return rule


def foreign_folder_test(paths: SandboxPaths) -> Callable[[object], bool]:
    """A function that says whether a path is a folder outside the process's own one, or holds "..", and so could lead
    out of any folder.
    """
    decode, resolve, stat, own, error = path_decoder(), path_resolver(), os.stat, paths.own + "/", OSError

    def is_foreign_folder(path: object) -> bool:
        name = decode(path)
        if name is None:
            return False
        if ".." in name:
            return True
        if (resolve(name) + "/").startswith(own):
            return False
        try:
            return stat(name).st_mode & 0o170000 == 0o040000  # the bits that say what it is: a folder
        except error:
            return False

    return is_foreign_folder


def read_permissions(paths: SandboxPaths) -> tuple[tuple[str, bool], ...]:
    """Folders, each with whether it may be read, longest path first: the first that holds a file decides about it."""
    pid = os.getpid()
    system = ("self", pid, "cpuinfo", "meminfo", "stat", "version", "filesystems", "mounts", "sys", "loadavg")
    readable = {*paths.readable, *(f"/proc/{name}" for name in system)}
    permissions = [(path.rstrip("/") + "/", False) for path in (*paths.denied, "/proc")]
    permissions += [(path.rstrip("/") + "/", True) for path in readable]
    return tuple(sorted(permissions, key=lambda permission: (-len(permission[0]), permission[1])))
