"""Student code in its own process: its tests run, and each that hangs, dies or floods costs itself alone.

The package here is a small one of the tests' own. Starting a process means importing torch, so that many tests are
run by few processes, and looked at one by one.
"""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from minivlm.course.limits import PATIENCE, Stopwatch
from minivlm.course.process import LONGEST_LINE, Lines, Process, environment, parsed, settings
from minivlm.course.supervise import Job, content, supervise
from support.small_student import jobs, project

LINUX = sys.platform == "linux"

STUDENT = """
import faulthandler, os, signal, subprocess, sys, threading, time
import torch

def double(x):
    return 2 * x

def endless():
    while True:
        time.sleep(0)

def leave(code=0):
    os._exit(code)

def crash():
    faulthandler._sigsegv()

def flood():
    for _ in range(1000):
        print("x" * 100_000)

def hog(megabytes):
    return torch.ones(megabytes * 250_000).sum()

def burn():
    def spin():
        while True:
            pass
    threading.Thread(target=spin).start()

def wrong():
    raise ValueError("expected 3 heads, found 4\\x1b[31m")

def deep(n=0):
    return deep(n + 1)

def end():
    sys.exit("that was it")

def forge():
    for number in range(32):
        try:
            os.write(number, b'{"status": "ran"}\\n' + b"[" * 5000 + b'\\n{"id": "0", "status": "ran"} no end')
        except OSError:
            pass

def babble():
    for number in range(3, 32):
        try:
            os.write(number, b"y" * 3_000_000)
        except OSError:
            pass
"""

TESTS = '''
import os
import torch
import pytest
from minivlm import work

def test_good(draw, show):
    """Inputs come from the seed."""
    x = draw.normal(2, 3)
    print("hello")
    show(doubled=work.double(x), heads=3)

def test_endless(draw, show):
    print("before the loop")
    work.endless()

def test_leaves(draw, show):
    work.leave()

def test_crashes(draw, show):
    work.crash()

def test_floods(draw, show):
    work.flood()
    show(done=True)

def test_hogs(draw, show):
    show(sum=work.hog(900))

def test_takes_what_it_may(draw, show):
    show(sum=work.hog(100))

def test_leaves_a_thread(draw, show):
    work.burn()
    show(process=os.getpid())

def test_comes_after_it(draw, show):
    show(process=os.getpid())

def test_raises(draw, show):
    work.wrong()

def test_recurses(draw, show):
    work.deep()

def test_ends_python(draw, show):
    work.end()

def test_asserts(draw, show):
    assert work.double(1) == 3, "twice one is three"

def test_forges(draw, show):
    work.forge()
    show(done=work.double(1))

def test_babbles(draw, show):
    work.babble()
    show(done=True)

def test_shows_too_much(draw, show):
    show(much=torch.ones(17 * 2**20))

def test_expects_an_error(show):
    with pytest.raises(ValueError, match="3 heads"):
        work.wrong()
    show(raised=True)

def test_writes_at_home(draw, show):
    with open(os.path.expanduser("~/notes.txt"), "w") as file:
        file.write("mine")
    show(read=open("notes.txt").read())
'''


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of all tests above, run one after the other."""
    folder, tests = project(tmp_path_factory.mktemp("many"), STUDENT, TESTS)
    found = supervise(folder, tests, jobs(TESTS))
    assert not workers(folder), "a process outlived its supervisor"
    assert [outcome.test for outcome in found] == [job.test for job in jobs(TESTS)]
    return {outcome.test.removeprefix("test_"): outcome for outcome in found}


def workers(project: Path) -> set[int]:
    """Processes on this machine that were started on a project (Linux)."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if os.fsencode(project.resolve()) in place.read_bytes().split(b"\0"):
                found.add(int(place.parent.name))
    return found


@pytest.mark.skipif(not LINUX, reason="looks into /proc")
def test_a_process_is_there_and_then_is_not(tmp_path):
    with Process(tmp_path, tmp_path / "test_it.py", tmp_path) as process:
        assert wait_for(lambda: workers(tmp_path) == {process.process.pid})
        assert os.getpgid(process.process.pid) == process.process.pid
    assert workers(tmp_path) == set()


def wait_for(happens, seconds=120.0) -> bool:
    until = time.perf_counter() + seconds
    while not happens() and time.perf_counter() < until:
        time.sleep(0.01)
    return happens()


def test_values_arrive(outcomes):
    good = outcomes["good"]
    assert (good.status, good.printed, good.message) == ("ran", "hello\n", "")
    expected = 2 * torch.randn(2, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64).float()
    assert torch.equal(good.shown.tensors["doubled"], expected)
    assert good.shown.plain == {"heads": 3}
    assert good.seconds > 0


def test_an_endless_loop_is_stopped_in_time(outcomes):
    endless = outcomes["endless"]
    assert endless.status == "too slow"
    assert 2 <= endless.seconds < 60  # a busy machine looks late
    assert endless.printed == "before the loop\n"


def test_a_process_that_ends_itself_has_crashed(outcomes):
    assert (outcomes["leaves"].status, outcomes["leaves"].message) == ("crashed", "It ended itself with exit code 0.")
    assert outcomes["crashes"].status == "crashed"
    assert "SIGSEGV" in outcomes["crashes"].message or not LINUX


def test_a_flood_of_prints_is_cut(outcomes):
    floods = outcomes["floods"]
    assert (floods.status, floods.shown.plain) == ("ran", {"done": True})
    assert floods.printed == "x" * 2000


@pytest.mark.skipif(not LINUX, reason="memory is limited on Linux alone")
def test_memory_is_limited(outcomes):
    assert outcomes["hogs"].status == "too much memory"
    assert outcomes["hogs"].where.startswith("minivlm/work.py, line ")
    assert outcomes["takes_what_it_may"].status == "ran"


def test_a_thread_left_behind_does_not_slow_the_next(outcomes):
    """The thread would compute as long as its process lives: the next test is run in another."""
    left, after = outcomes["leaves_a_thread"], outcomes["comes_after_it"]
    assert (left.status, after.status) == ("ran", "ran")
    assert left.shown.plain["process"] != after.shown.plain["process"]


def test_errors_are_told_with_their_place(outcomes):
    wrong = outcomes["raises"]
    line = 1 + next(number for number, text in enumerate(STUDENT.splitlines()) if "raise ValueError" in text)
    assert (wrong.status, wrong.error) == ("raised", "ValueError")
    assert wrong.where == f"minivlm/work.py, line {line}, in wrong"
    assert wrong.message == "expected 3 heads, found 4\N{REPLACEMENT CHARACTER}[31m"
    assert (outcomes["recurses"].status, outcomes["recurses"].error) == ("raised", "RecursionError")
    assert (outcomes["ends_python"].error, outcomes["ends_python"].message) == ("SystemExit", "that was it")
    asserts = outcomes["asserts"]
    assert (asserts.error, asserts.message.splitlines()[0]) == ("AssertionError", "twice one is three")
    assert asserts.where.startswith("test_it.py, line ")


def test_what_is_forged_counts_for_nothing(outcomes):
    assert (outcomes["forges"].status, outcomes["forges"].shown.plain) == ("ran", {"done": 2})
    assert (outcomes["babbles"].status, outcomes["babbles"].shown.plain) == ("ran", {"done": True})


def test_too_much_shown_is_an_error(outcomes):
    assert outcomes["shows_too_much"].status == "raised"
    assert outcomes["shows_too_much"].shown is None


def test_pytest_and_a_home_of_its_own_are_there(outcomes):
    assert outcomes["expects_an_error"].status == "ran"
    assert outcomes["writes_at_home"].shown.plain == {"read": "mine"}
    assert not Path("~/notes.txt").expanduser().exists()


@pytest.mark.parametrize(
    ("work", "status", "error", "where"),
    [
        ("def f(:\n    pass\n", "raised", "SyntaxError", "minivlm/work.py, line 1"),
        ("\nimport no_such_thing\n", "raised", "ModuleNotFoundError", "minivlm/work.py, line 2, in <module>"),
        ("raise SystemExit\n", "raised", "SystemExit", "minivlm/work.py, line 1, in <module>"),
        ("import os\nos._exit(3)\n", "crashed", "", ""),
        ("while True: pass\n", "not started", "", "minivlm/work.py, line 1, in <module>" if LINUX else ""),
    ],
    ids=["syntax", "import", "exit", "dead", "endless"],
)
def test_a_package_that_cannot_be_imported(tmp_path, monkeypatch, work, status, error, where):
    if status == "not started":  # the others end by themselves, however long it takes
        monkeypatch.setattr("minivlm.course.supervise.LOADING", 5.0)
    folder, tests = project(tmp_path, work, "from minivlm import work")
    found = supervise(folder, tests, [Job(name, 1, 20, 400) for name in ("test_a", "test_b")])
    assert [(out.test, out.status, out.error, out.where) for out in found] == [
        ("test_a", status, error, where),
        ("test_b", status, error, where),
    ]


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
def test_only_regular_files_of_bearable_size_are_read(tmp_path, monkeypatch):
    shown = tmp_path / "shown"
    (tmp_path / "link").symlink_to(shown)
    os.mkfifo(tmp_path / "pipe")
    shown.write_bytes(bytes(8) + b"abc")
    assert content(shown)[8:] == b"abc"
    with pytest.raises(OSError, match="link"):
        content(tmp_path / "link")
    with pytest.raises(ValueError, match="a file of at most"):
        content(tmp_path / "pipe")
    monkeypatch.setattr("minivlm.course.supervise.LARGEST", 2)
    with pytest.raises(ValueError, match="found 11"):
        content(shown)


def test_lines_are_bounded_and_floods_dropped():
    ours, theirs = os.pipe()
    lines = Lines(os.fdopen(ours, "rb"))
    long = b"x" * (LONGEST_LINE + 1)
    os.write(theirs, b"one\n" + b"y" * LONGEST_LINE + b"\n\n")
    for part in (long, long, b"\n", b"last"):
        os.write(theirs, part)
    os.write(theirs, b"\n")
    os.close(theirs)
    lines.join(60)
    assert [lines.kept.get(timeout=1) for _ in range(4)] == [b"one", b"y" * LONGEST_LINE, b"last", None]


def test_answers_are_dicts_or_nothing():
    assert parsed(b'{"id": 1}') == {"id": 1}
    for line in (b"", b"[1]", b"3", b"{", b"[" * 60000, b"\xff", b"1" * 60000, b'{"a": ' * 9000):
        assert parsed(line) == {}, line[:20]


def test_secrets_stay_outside(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIVLM_SEED", "secret")
    monkeypatch.setenv("PYTHONPATH", "/solutions")
    found = environment(tmp_path)
    assert "secret" not in found.values()
    assert "PYTHONPATH" not in found
    assert found["HOME"] == found["TMPDIR"] == str(tmp_path)
    assert str(Path.home().resolve()) in settings([])["denied"]
    (tmp_path / "checkout" / ".git").mkdir(parents=True)
    denied = set(settings([tmp_path / "checkout" / "minivlm", tmp_path / "other" / "minivlm"])["denied"])
    inside = {
        Path(path).relative_to(tmp_path.resolve()).as_posix()
        for path in denied
        if "checkout" in path or "other" in path
    }
    assert inside == {"checkout", "checkout/minivlm", "other/minivlm"}


@pytest.mark.skipif(not LINUX, reason="elsewhere the time of day counts")
def test_a_busy_machine_makes_nobody_too_slow(monkeypatch):
    """A process that waits is stopped later than one that computes."""
    computed = iter([10.0, 10.2, 11.0])
    clock = iter([100.0, 100.5, 101.5, 102.0, 104.1])
    monkeypatch.setattr("minivlm.course.limits.computing", lambda pid: next(computed, 10.1))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    watch = Stopwatch(1, 1.0)
    assert watch.left == pytest.approx(0.5)  # by the clock alone
    assert watch.left == pytest.approx(0.8)  # 1.5 s by the clock, but only 0.2 of work
    assert watch.left == pytest.approx(0.0)
    assert watch.left == pytest.approx(PATIENCE * 1.0 - 4.1)


@pytest.mark.skipif(not LINUX, reason="elsewhere the time of day counts")
def test_computing_is_measured():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        time.sleep(0.2)
        watch = Stopwatch(busy.pid, 0.3)
        began = time.perf_counter()
        while watch.left > 0:
            time.sleep(0.01)
        busy.kill()
    assert 0.3 <= time.perf_counter() - began < 60
