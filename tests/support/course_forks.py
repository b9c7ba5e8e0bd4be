"""Runs the tests of an assignment on many versions of the package, each in a fork of this process (a script).

Workers, as the course kit starts them, import torch each time; here that is done once, as is all else that versions
have in common. A fork does what a worker does, without its sandbox: test_course_supervise.py is about that. A test that
has limits gets as much memory as a worker would give it, and as much time of computing. There are as many forks at a
time as there are cores for each process that runs tests.

A request is a line on stdin, with any number of versions, and is answered by an empty line once all of them have run:

    [{"project": …, "tests": …, "out": …, "jobs": {"test_rotate": 17}, "limits": {"test_rotate": [4.0, 300]}}]
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys
from functools import cache, partial
from pathlib import Path

import simplemma
import torch

from minivlm.course.kit.worker import LIBRARIES, Worker, own_module
from minivlm.course.limits import memory_limit

PATIENCE, COMPUTING = 600, 60  # seconds for a version: by the clock, which a busy machine stretches, and of work
TOGETHER = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
UNLIMITED = 0, None  # seconds of a timer that never rings, and megabytes
TOO_SLOW = {"status": "too slow"}


def main() -> None:
    requests, answers, nothing = os.fdopen(os.dup(0)), os.dup(1), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # versions read no request,
    os.dup2(2, 1)  # and what they print is no answer
    for library in LIBRARIES:
        importlib.import_module(library)
    for name in ("draw", "show"):
        own_module(name)
    torch.set_num_threads(1)
    for request in requests:
        versions = json.loads(request)
        for tests in {version["tests"] for version in versions}:
            prepare(Path(tests))
        run_all(versions)
        os.write(answers, b"\n")


@cache
def prepare(tests: Path) -> None:
    """Do once what every fork would do: import all libraries that these tests import by way of the package, which is
    then forgotten, load the lemmas of English; and let forks share memory.
    """
    simplemma.lemmatize("cats", lang="en")
    sys.path.insert(0, str(tests.parent))
    importlib.import_module(tests.stem)
    sys.path.remove(str(tests.parent))
    forget(tests)
    gc.collect()
    gc.freeze()


def forget(tests: Path) -> None:
    """Let the package, and tests of it, be imported anew."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("minivlm", tests.stem)]:
        del sys.modules[name]


def run_all(versions: list[dict]) -> None:
    """Run versions, as many at a time as there are cores."""
    running: dict[int, dict] = {}
    for version in versions:
        if len(running) == TOGETHER:
            wait_for_one(running)
        if process := os.fork():
            running[process] = version
            continue
        signal.alarm(PATIENCE)
        resource.setrlimit(resource.RLIMIT_CPU, (COMPUTING, COMPUTING))
        run(version)
        os._exit(0)
    while running:
        wait_for_one(running)


def wait_for_one(running: dict[int, dict]) -> None:
    """Wait until one of the forks has ended, and write down if its time was up."""
    process, ending = os.wait()
    version = running.pop(process)
    if os.WIFSIGNALED(ending) and os.WTERMSIG(ending) == signal.SIGPROF:
        write(version, next(test for test in version["jobs"] if not shown(version, test).exists()), TOO_SLOW)


def run(version: dict) -> None:
    """Write, for each test, what it showed, or how it ended."""
    project, tests, out = (Path(version[name]).resolve() for name in ("project", "tests", "out"))
    forget(tests)
    sys.path[:0] = [str(project), str(tests.parent)]
    worker = Worker(project, tests, out)
    loaded = worker.outcome(worker.load)
    for test, seed in version["jobs"].items():
        seconds, megabytes = version["limits"].get(test, UNLIMITED)
        if megabytes is not None:
            return_free_memory()
        call = partial(worker.call, test, seed, shown(version, test).name)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # ends this process
        with memory_limit(os.getpid(), megabytes):
            ended = worker.outcome(call) if loaded["status"] == "ran" else loaded
        signal.setitimer(signal.ITIMER_PROF, 0)
        if ended["status"] != "ran":
            write(version, test, ended)


def return_free_memory() -> None:
    """Let glibc do what a worker's environment asks of it, see `minivlm.course.process.MALLOC`."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for parameter, value in ((-3, 2**20), (-1, 2**20), (-8, 1)):  # thresholds of mmap and trim, number of arenas
            mallopt(parameter, value)


def shown(version: dict, test: str) -> Path:
    """The file of what a test shows."""
    return Path(version["out"], f"{test}.safetensors")


def write(version: dict, test: str, ended: dict) -> None:
    """Write how a test ended that showed nothing."""
    Path(version["out"], f"{test}.json").write_text(json.dumps(ended))


if __name__ == "__main__":
    main()
