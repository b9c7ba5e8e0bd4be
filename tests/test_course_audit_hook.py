"""The sandbox of student code: attempts to violate it, each of which must be refused and reported.

Each attempt catches the error, as a student's code could; the violation is reported all the same.
"""

import os
import sys

import pytest

from minivlm.course.kit.landlock import open_places, version
from minivlm.course.kit.paths import path_decoder, path_resolver
from minivlm.course.supervise import supervise
from support.small_student import jobs, project

SOLUTION = "SOLUTION = 42\n"

CLIMBER = """
import builtins, ctypes, gc, importlib.util, io, linecache, multiprocessing, os, socket, subprocess, sys
from pathlib import Path

HERE = Path(__file__).parents[2]
TARGET = str(HERE / "reference" / "minivlm" / "work.py")
FOLDER = os.path.dirname(TARGET)
MINE = str(Path(__file__).with_name("__init__.py"))

class Disguise(str):
    def encode(self, *_): return b"/dev/null"
    def startswith(self, *_): return False
    def __str__(self): return "/dev/null"

class Turncoat:
    __class__ = int
    def __init__(self): self.answers = ["/dev/null", TARGET]
    def __fspath__(self): return self.answers.pop()

def module_from_file():
    spec = importlib.util.spec_from_file_location("stolen", TARGET)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))

def from_an_open_folder():
    os.open("minivlm/work.py", os.O_RDONLY, dir_fd=os.open(HERE / "reference", os.O_RDONLY))

def relative():
    os.chdir(os.path.dirname(MINE))
    open("../../reference/minivlm/work.py")

def anew(name):
    was = sys.modules.pop(name)
    try:
        importlib.import_module(name)
    finally:
        sys.modules[name] = was

def made_anew():
    import _imp
    return _imp.create_builtin(sys.modules["posix"].__spec__)

def under_another_name(name):
    file = importlib.util.find_spec(name).origin
    spec = importlib.util.spec_from_file_location("x." + name, file)
    importlib.util.module_from_spec(spec)

def fork_exec():
    import _posixsubprocess
    _posixsubprocess.fork_exec()

def kept_fork_exec():
    (getattr(subprocess, "_fork_exec", None) or subprocess._posixsubprocess.fork_exec)()

def shared():
    import _posixshmem
    _posixshmem.shm_open("/x", os.O_CREAT | os.O_RDWR, mode=0o600)

def flags():
    import fcntl
    fcntl.ioctl(os.open(MINE, os.O_RDONLY), 0x40086602, bytes(8))

def interpreter():
    try:
        if sys.version_info < (3, 13):
            import _xxsubinterpreters as interpreters
        else:
            import _interpreters as interpreters
        interpreters.create()
    except RuntimeError as error:  # what Python makes of the refusal
        raise PermissionError("It " + str(error))

def bound():
    socket.socket().bind(("127.0.0.1", 0))

def connected():
    socket.create_connection(("127.0.0.1", 9))

def limits():
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))

READS = {
    "open": lambda: open(TARGET),
    "open bytes": lambda: open(os.fsencode(TARGET)),
    "open Path": lambda: Path(TARGET).read_text(),
    "open disguised": lambda: open(Disguise(TARGET)),
    "open turncoat": lambda: io.FileIO(Turncoat()),
    "open code": lambda: io.open_code(TARGET),
    "os.open": lambda: os.open(TARGET, os.O_RDONLY),
    "from an open folder": from_an_open_folder,
    "through ..": lambda: os.open("../../x/../reference/minivlm/work.py", os.O_RDONLY),
    "relative": relative,
    "double slash": lambda: open("//" + TARGET),
    "through /proc/self/root": lambda: open("/proc/self/root" + TARGET),
    "module from file": module_from_file,
    "list": lambda: os.listdir(FOLDER),
    "list Path": lambda: os.listdir(Path(FOLDER)),
    "scan": lambda: list(os.scandir(FOLDER)),
    "another student": lambda: open(HERE / "other" / "work.py"),
    "the parent's command line": lambda: open(f"/proc/{os.getppid()}/cmdline"),
}
WRITES = {
    "write": lambda: open(MINE, "w"),
    "append": lambda: open(MINE, "ab"),
    "update": lambda: open(MINE, "r+"),
    "os.open to write": lambda: os.open(MINE, os.O_WRONLY),
    "make": lambda: open(HERE / "left.txt", "x"),
    "outside by ..": lambda: open("../left.txt", "w"),
    "remove": lambda: os.remove(MINE),
    "rename": lambda: os.rename(MINE, "mine.py"),
    "rename to": lambda: (open("mine.py", "w").close(), os.rename("mine.py", HERE / "left.txt")),
    "link": lambda: os.link(MINE, "mine.py"),
    "symbolic link": lambda: os.symlink(TARGET, "link.py"),
    "folder": lambda: os.mkdir(HERE / "left"),
    "remove a folder": lambda: os.rmdir(HERE / "empty"),
    "truncate": lambda: os.truncate(MINE, 0),
    "mode": lambda: os.chmod(MINE, 0),
    "times": lambda: os.utime(MINE),
    "mode by number": lambda: os.fchmod(os.open(MINE, os.O_RDONLY), 0),
    "mode of a number": lambda: os.chmod(os.open(MINE, os.O_RDONLY), 0),
    "owner by number": lambda: os.fchown(os.open(MINE, os.O_RDONLY), 0, 0),
    "times by number": lambda: os.utime(os.open(MINE, os.O_RDONLY), (1, 1)),
    "mode of what may be listed": lambda: os.chmod(open(MINE).fileno(), 0),
    **({
        "attribute by number": lambda: os.setxattr(os.open(MINE, os.O_RDONLY), "user.x", b"x"),
        "no attribute by number": lambda: os.removexattr(os.open(MINE, os.O_RDONLY), "user.x"),
        "flags": flags,
        "pipe": lambda: os.mkfifo(HERE / "left"),
        "pipe of its own": lambda: os.mkfifo("left"),
        "file without opening": lambda: os.mknod("left"),
        "root": lambda: os.chroot("."),
    } if sys.platform == "linux" else {}),
}
OTHERS = {
    "program": lambda: subprocess.run(["true"]),
    "shell": lambda: os.system("true"),
    "fork": lambda: os.fork() or os._exit(0),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "process": lambda: multiprocessing.get_context("spawn").Process(target=print).start(),
    "interpreter": interpreter,
    "connection": connected,
    "port": bound,
    "look up": lambda: socket.getaddrinfo("localhost", 80),
    "library": lambda: ctypes.CDLL(None),
    "memory": lambda: ctypes.string_at(id(1), 8),
    "objects": lambda: gc.get_objects(),
    "limits": limits,
    "signal": lambda: os.kill(os.getppid(), 0),
    "socket": lambda: socket.socket(),
    "listen": lambda: socket.socket().listen(1),
    **{name: lambda name=name: importlib.import_module(name) for name in (
        "_testcapi", "_testinternalcapi", "_testmultiphase")},
    **({
        "fork_exec": fork_exec,
        "kept fork_exec": kept_fork_exec,
        "shared memory": shared,
        "memory file": lambda: os.memfd_create("x"),
        "process file": lambda: os.pidfd_open(os.getppid()),
        "signal by file": lambda: __import__("signal").pidfd_send_signal(0, 9),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 1),
        "cores": lambda: os.sched_setaffinity(os.getppid(), {0}),
        "another group": lambda: os.setsid(),
        "the system anew": lambda: anew("posix"),
        "the system made anew": made_anew,
    } if sys.platform == "linux" else {}),
}
if sys.platform == "linux" and importlib.util.find_spec("_testcapi"):
    OTHERS["under another name"] = lambda: under_another_name("_testcapi")

def disarm():
    from kit import audit_hook, paths
    for module in (audit_hook, paths):
        for name in list(vars(module)):
            if name[0] != "_":
                setattr(module, name, lambda *_: "")
    os.readlink = lambda path: "/dev/null"
    os.fspath = os.getcwd = lambda *_: "/dev/null"
    builtins.isinstance, was = lambda *_: False, isinstance
    return was

def climb(attempts):
    for name, attempt in attempts.items():
        try:
            attempt()
        except PermissionError as error:
            if not str(error).startswith("It "):
                print(name, "was left to the kernel")
        except Exception as error:
            print(name, "ended with", repr(error))
        else:
            print(name, "was let through")

def climb_disarmed():
    was = disarm()
    try:
        open(TARGET)
    except PermissionError:
        print("refused")
    builtins.isinstance = was

def reached_from(error):
    # what hangs on the frames of an error that was caught, and could be changed there
    found, todo = [], []
    step = error.__traceback__
    while step:
        if not step.tb_frame.f_code.co_filename.startswith(os.path.dirname(MINE)):
            todo += step.tb_frame.f_locals.values()
        step = step.tb_next
    while todo:
        thing = todo.pop()
        if callable(thing) and thing is not PermissionError:
            found.append(thing)
        todo += thing if isinstance(thing, (tuple, list)) else []
    return found

def climb_by_frames():
    for trouble in (lambda: sys.audit("open", 3), lambda: sys.audit("os.rename"), lambda: open(TARGET)):
        try:
            trouble()
        except PermissionError as error:
            print(reached_from(error), error.__context__, error.__cause__)

def path_juggling():
    sys.path.insert(0, str(HERE / "reference"))
    for name in [name for name in sys.modules if name.startswith("minivlm")]:
        del sys.modules[name]
    sys.path_importer_cache.clear()
    import minivlm.work
    return minivlm.work.__file__

def lines():
    return linecache.getline(TARGET, 1)
"""
CLIMBS = """
import torch
from minivlm import work

def test_own_files(draw, show):
    import shutil, tempfile
    with tempfile.TemporaryDirectory() as folder, open(folder + "/x.txt", "w") as file:
        file.write("x")
    shutil.rmtree(tempfile.mkdtemp())
    show(own=open(work.MINE).read(), tests=open(__file__).read() != "")

def test_reads(draw, show):
    work.climb(work.READS)

def test_writes(draw, show):
    work.climb(work.WRITES)

def test_others(draw, show):
    work.climb(work.OTHERS)

def test_disarmed(draw, show):
    work.climb_disarmed()

def test_frames(draw, show):
    work.climb_by_frames()

def test_not_swallowed(draw, show):
    open(work.TARGET)

def test_path_juggling(draw, show):
    print(work.path_juggling())

def test_lines(draw, show):
    show(line=work.lines())

def test_many_files(draw, show):
    for number in range(1000):
        open(f"{number}.txt", "w").close()

def test_a_library_of_its_own_accord(draw, show):
    import matplotlib.font_manager as fonts
    show(fonts=len(fonts.fontManager.ttflist) > 0)

def test_reads_through_a_library_in_c(draw, show):
    show(line=torch.from_file(work.TARGET, size=8, dtype=torch.uint8))

def test_writes_through_a_library_in_c(draw, show):
    torch.from_file(work.MINE, shared=True, size=8, dtype=torch.uint8).fill_(65)

def test_after_all(draw, show):
    show(fine=True)
"""


@pytest.fixture(scope="module")
def climbs(tmp_path_factory):
    """The outcomes of the attempts. The tests are inside a denied folder, as those of the kit are."""
    place = tmp_path_factory.mktemp("climbs")
    folder, tests = project(place, CLIMBER, CLIMBS)
    reference = place / "reference" / "minivlm"
    (reference / "kit").mkdir(parents=True)
    (reference / "work.py").write_text(SOLUTION)
    (reference / "__init__.py").write_text("")
    tests = tests.rename(reference / "kit" / "test_it.py")
    for name in ("other", "empty"):
        (place / name).mkdir()
    (place / "other" / "work.py").write_text("x = 1\n")
    before = contents(place)
    wanted = [job for job in jobs(CLIMBS) if version() or not job.test.endswith("_in_c")]
    found = supervise(folder, tests, wanted, denied=[reference, place / "other"])
    assert contents(place) == before, "something was written or removed"
    return {outcome.test.removeprefix("test_"): outcome for outcome in found}


def contents(place):
    """Every file and folder with its bytes and rights."""
    return {path: (path.stat().st_mode, path.is_file() and path.read_bytes()) for path in place.rglob("*")}


def test_own_files_are_open(climbs):
    own = climbs["own_files"]
    assert (own.status, own.message) == ("ran", "")
    assert own.shown.plain == {"own": "", "tests": True}


@pytest.mark.parametrize("way", ["reads", "writes", "others"])
def test_every_violation_is_reported_though_the_error_is_caught(climbs, way):
    assert climbs[way].printed == ""
    assert (climbs[way].status, climbs[way].error) == ("forbidden", "PermissionError")
    assert climbs[way].message.startswith("It may not ")


def test_the_audit_hook_works_when_names_are_replaced(climbs):
    assert climbs["disarmed"].status == "forbidden"
    assert climbs["disarmed"].printed.startswith("refused\n")


def test_the_frames_of_a_refusal_hold_nothing_of_the_audit_hook(climbs):
    assert (climbs["frames"].status, climbs["frames"].printed) == ("forbidden", "[] None None\n" * 3)


def test_a_refusal_names_the_file_and_the_line(climbs):
    found = climbs["not_swallowed"]
    assert found.status == "forbidden"
    assert "reference/minivlm/work.py: that is closed to student code" in found.message
    assert found.where.startswith("test_it.py, line ")
    assert found.where.endswith(", in test_not_swallowed")


def test_importing_the_reference_gives_the_students_own_or_nothing(climbs):
    assert climbs["path_juggling"].status == "forbidden"
    assert "reference" not in climbs["path_juggling"].printed
    assert climbs["lines"].status == "forbidden"


def test_the_disk_is_not_filled(climbs):
    assert (climbs["many_files"].status, climbs["many_files"].message) == (
        "forbidden",
        "It has opened too many files for writing.",
    )


def test_what_a_library_does_unasked_is_refused_and_not_reported(climbs):
    found = climbs["a_library_of_its_own_accord"]
    assert (found.status, found.shown.plain) == ("ran", {"fonts": True})


@pytest.mark.skipif(not version(), reason="this kernel has no Landlock")
@pytest.mark.parametrize("way", ["reads", "writes"])
def test_landlock_holds_for_libraries_in_c(climbs, way):
    found = climbs[f"{way}_through_a_library_in_c"]
    assert (found.status, found.error) == ("raised", "RuntimeError")
    assert "Permission denied" in found.message


def test_what_comes_after_runs(climbs):
    assert climbs["after_all"].status == "ran"


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_paths_are_followed_to_where_they_lead(tmp_path, monkeypatch):
    """As the library's own function does."""
    place = tmp_path.resolve()
    (place / "a" / "b").mkdir(parents=True)
    (place / "a" / "up").symlink_to("..")
    (place / "far").symlink_to(place / "a" / "b")
    (place / "twice").symlink_to("far/../up/far")
    (place / "round").symlink_to("round")
    monkeypatch.chdir(place)
    resolve = path_resolver()
    names = "", ".", "a/./b", "a//b/", "a/up/a", "far", "far/..", "far/new", "twice", "twice/x", "no/../a", "../../.."
    for name in (*names, *(f"{place}/{name}" for name in names), "/", "//", "/..", "/proc/self/cwd"):
        assert resolve(name) == os.path.realpath(name).rstrip("/"), name
    assert resolve("round").endswith("round")


def test_disguised_paths_are_seen_through(tmp_path):
    class Other(str):
        def encode(self, *_):
            return b"/other"

    decode = path_decoder()
    assert [decode(path) for path in ("/a", b"/a", Other("/a"), None, 3)] == ["/a", "/a", "/a", ".", None]
    assert decode(tmp_path) == str(tmp_path)
    assert decode(object()) == ""


def test_open_places_cover_all_but_what_is_denied(tmp_path):
    place = tmp_path.resolve()
    for name in ("lib/torch", "lib/minivlm/course/kit", "home/student/minivlm", "home/other"):
        (place / name).mkdir(parents=True)
    (place / "home" / "link").symlink_to(place / "lib")
    readable = {f"{place}/lib/minivlm/course/kit", f"{place}/home/student"}
    places = set(open_places(readable, {f"{place}/lib/minivlm", f"{place}/home"}))
    assert {path.removeprefix(f"{place}/") for path in places if path.startswith(f"{place}/")} == {
        "lib/torch",
        "lib/minivlm/course/kit",
        "home/student",
    }
    assert not any(place.is_relative_to(path) for path in places), "an open folder above opens everything"
    assert "/usr" in places or sys.platform != "linux"
