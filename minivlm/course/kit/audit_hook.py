"""The fence around student code: which files it may open, and what else of the machine it may touch.

Python tells audit hooks of every file that it opens, every program that it starts and every connection that it makes,
whatever the name by which it was asked to. The hook here refuses with a PermissionError, and tells the supervisor at
once, so that code which swallows the error is found out all the same. (What a library does unasked is refused as well,
but told of only if it opens files: matplotlib starts a program to look for fonts, and does without.)

May read:     everything but the denied folders; within these, its project, the tests and Python's own folders
May write:    in its own temporary folder
May not:      start programs, talk to the network, reach into memory, change its limits, end other processes

This is a fence and no wall: libraries written in C can open files without telling Python, and who goes through memory
climbs over it. On Linux `landlock.py` asks the kernel for the same; for more, give each student a container.

Within the hook nothing is looked up that other code could have replaced: functions are called by local names, paths are
followed link by link with the system's own calls, and the hook itself is known to the interpreter alone.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module

# relative: the worker has this folder apart from the student's package
from .paths import reader_of_paths, resolver
from .report_violation import finder, teller

MOST_FILES = 200  # opened for writing in the life of a process: a disk must not be filled with them
MOST_FOLDERS = 50  # made in the life of a process
LONGEST = 300  # characters of a path in a message

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
LISTED = ("os.listdir", "os.scandir", "os.chdir")
CHANGED = {  # event -> which of its arguments are paths
    "os.rename": (0, 1),
    **dict.fromkeys(("os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime"), (0,)),
    **dict.fromkeys(("os.setxattr", "os.removexattr", "os.chflags"), (0,)),
}
NEVER = {
    "start other programs": "subprocess.Popen os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn pty.spawn "
    "os.startfile os.startfile/2 _winapi.CreateProcess cpython.PyInterpreterState_New sys.remote_exec",
    "use the network": "socket.connect socket.bind socket.getaddrinfo socket.gethostbyname socket.gethostbyaddr "
    "socket.getnameinfo socket.sendto socket.sendmsg",
    "reach into memory": "ctypes.dlopen ctypes.dlsym ctypes.dlsym/handle ctypes.call_function ctypes.string_at "
    "ctypes.wstring_at ctypes.cdata ctypes.cdata/buffer gc.get_objects gc.get_referrers gc.get_referents "
    "sys._current_frames",
    "change its limits": "resource.setrlimit resource.prlimit fcntl.fcntl",
    "end processes": "os.kill os.killpg signal.pthread_kill",
    "make links": "os.link os.symlink",
    "open data bases": "sqlite3.connect",
}

INTERPRETERS = ("_interpreters", "_xxsubinterpreters")  # from Python 3.14 on, concurrent.futures imports the first
STARTERS = (  # modules that start processes or interpreters without a word
    "multiprocessing.popen_spawn_posix",
    "multiprocessing.popen_forkserver",
    *INTERPRETERS,
)

Refusal = Callable[[tuple], str]  # the arguments of an event -> why it is refused, or ""
Rule = Callable[[object], str]  # a path, in whatever form -> the same


@dataclass(frozen=True)
class Ground:
    """Whose folders are whose. All paths are resolved."""

    project: str  # the student's folder
    tests: str  # the file of the tests
    own: str  # where the process may write
    libraries: tuple[str, ...]  # Python's own folders
    denied: tuple[str, ...]

    @property
    def readable(self) -> set[str]:
        """What may be read even within denied folders."""
        return {*self.libraries, self.project, os.path.dirname(self.tests), self.own}


def install_audit_hook(ground: Ground, notes: int) -> None:
    """Refuse from now on, for the life of this process. `notes`: where a line about each refusal is written.

    An error carries its frames along, and from a frame one gets at what is in it. So nothing that the hook uses is left
    in its frame when it refuses (each call gets it anew, as a default), and no other frame is in what it raises.
    """
    refuse_interpreters()
    own = (refusals(ground).get, teller(notes), finder(ground.project, ground.tests), ("open", *LISTED))

    def hook(event: str, arguments: tuple, tools: tuple = own, refused: type = PermissionError) -> None:
        try:
            find, tell, culprit, files = tools
            refusal = find(event)
            reason = refusal(arguments) if refusal is not None else ""
            if reason:
                place, is_library = culprit()
                if not is_library or event in files:
                    tell(reason, place)
        except:  # noqa: E722 (by no name, which could be another by now)
            reason = "It cannot be told whether it may do this."
        if reason:
            tools = find = tell = culprit = refusal = None
            raise refused(reason)

    sys.addaudithook(hook)


def refuse_interpreters() -> None:
    """Put a function that raises what the hook refuses in place of each that starts an interpreter without a word.

    Where a library has imported them already, no import of them is seen.
    """

    def refused(*_: object, **__: object) -> None:
        sys.audit("cpython.PyInterpreterState_New")

    for name in INTERPRETERS:
        with suppress(ImportError):
            module = vars(import_module(name))
            functions = [name for name, value in module.items() if callable(value) and not isinstance(value, type)]
            module.update(dict.fromkeys(functions, refused))


def refusals(ground: Ground) -> dict[str, Refusal]:
    """For each event that is looked at, the function that judges it."""
    reading, writing = reading_rule(ground), writing_rule(ground)
    opening = opening_rule(ground, reading, writing)
    rules = {event: never(f"It may not {what}.") for what, events in NEVER.items() for event in events.split()}
    rules |= dict.fromkeys(LISTED, reading)
    rules |= {event: changing(writing, places) for event, places in CHANGED.items()}
    return {**rules, "open": opening, "os.mkdir": making(writing), "import": importing(ground)}


def never(sentence: str) -> Refusal:
    """A rule for what is refused in any case."""
    return lambda _: sentence


def changing(writing: Rule, places: tuple[int, ...]) -> Refusal:
    """A rule for events that change the files at some of their arguments."""

    def rule(arguments: tuple) -> str:
        for place in places:
            if reason := writing(arguments[place]):
                return reason
        return ""

    return rule


def making(writing: Rule) -> Refusal:
    """A rule for new folders: few, or they could lie so deep within each other that nobody can remove them."""
    left = [None] * MOST_FOLDERS

    def rule(arguments: tuple) -> str:
        if not left:
            return "It has made too many folders."
        left.pop()
        return writing(arguments[0])

    return rule


def importing(ground: Ground) -> Refusal:
    """A rule for modules that nobody imports but to start something, and for modules in C that no library has."""
    starters, text, real = STARTERS, reader_of_paths(), resolver()
    roots = tuple(f"{path}/" for path in ground.libraries)

    def rule(arguments: tuple) -> str:
        if text(arguments[0]) in starters:
            return "It may not start other programs."
        file = text(arguments[1])
        return (
            "" if arguments[1] is None or (file and real(file).startswith(roots)) else "It may not import binary files."
        )

    return rule


def reading_rule(ground: Ground) -> Refusal:
    """May a file or a folder be read? The longest of the known folders that hold it decides."""
    text, real, order, longest = reader_of_paths(), resolver(), reading_order(ground), LONGEST

    def reading(arguments: tuple) -> str:
        path = text(arguments[0])
        if not path:
            return "" if path is None else "It may only open paths that are words or a Path."
        place = real(path) + "/"
        for root, allowed in order:
            if place.startswith(root):
                return "" if allowed else f"It may not read {place[:-1][:longest]}: that is closed to student code."
        return ""

    return reading


def writing_rule(ground: Ground) -> Rule:
    """May a file be made, changed or removed? In the process's own folder alone."""
    text, real, own, longest = reader_of_paths(), resolver(), ground.own + "/", LONGEST
    silent = ("/dev/null", "/dev/stdout", "/dev/stderr", "nul")

    def writing(argument: object) -> str:
        path = text(argument)
        if path is None or path in silent or (path and ".." not in path and (real(path) + "/").startswith(own)):
            return ""
        return f"It may not write to {path[:longest]}: only to the folder that it is started in."

    return writing


def opening_rule(ground: Ground, reading: Refusal, writing: Rule) -> Refusal:
    """May a file be opened, as it is to be opened? `os.open` gives no mode, and may begin at an open folder."""
    flagged, left, is_far_folder = WRITING, [None] * MOST_FILES, far_folders(ground)

    def opening(arguments: tuple) -> str:
        path, mode, flags = arguments
        if flags & flagged or (mode and ("w" in mode or "a" in mode or "x" in mode or "+" in mode)):
            if not left:
                return "It has opened too many files for writing."
            left.pop()
            return writing(path)
        if mode is None and is_far_folder(path):
            return "It may not open folders that are not its own."
        return reading(arguments)

    return opening


def far_folders(ground: Ground) -> Callable[[object], bool]:
    """Whether a path is a folder that is not the process's own, or leads out of one: paths could begin there."""
    text, real, stat, own, error = reader_of_paths(), resolver(), os.stat, ground.own + "/", OSError

    def is_far_folder(path: object) -> bool:
        name = text(path)
        if name is None or (real(name) + "/").startswith(own):
            return name is not None and ".." in name
        try:
            return stat(name).st_mode & 0o170000 == 0o040000 or ".." in name
        except error:
            return ".." in name

    return is_far_folder


def reading_order(ground: Ground) -> tuple[tuple[str, bool], ...]:
    """Folders and whether they may be read, longest first: the first that holds a path decides."""
    pid = os.getpid()
    system = ("self", pid, "cpuinfo", "meminfo", "stat", "version", "filesystems", "mounts", "sys", "loadavg")
    readable = {*ground.readable, *(f"/proc/{name}" for name in system)}
    rules = [(path.rstrip("/") + "/", False) for path in (*ground.denied, "/proc")]
    rules += [(path.rstrip("/") + "/", True) for path in readable]
    return tuple(sorted(rules, key=lambda rule: (-len(rule[0]), rule[1])))
