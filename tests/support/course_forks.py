"""Runs the tests of an assignment on many versions of the package, each in a fork of this process (a script).

Workers, as the course kit starts them, import torch each time; here that is done once, as is all else that versions
have in common. There are no limits and no sandbox: test_course_supervise.py is about those. There are as many forks at
a time as there are cores for each process that runs tests.

    echo '[{"project": …, "tests": …, "out": …, "jobs": {"test_rotate": 17}}]' | python course_forks.py
"""

import gc
import importlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

import simplemma
import torch

from minivlm.course.kit.draw import Draw
from minivlm.course.kit.show import Show
from minivlm.course.kit.worker import LIBRARIES

PATIENCE, COMPUTING = 600, 60  # seconds for a version: by the clock, which a busy machine stretches, and of work
TOGETHER = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def main() -> None:
    versions, running = json.load(sys.stdin), 0
    prepare()
    for version in versions:
        if running == TOGETHER:
            os.wait()
            running -= 1
        running += 1
        if os.fork() == 0:
            signal.alarm(PATIENCE)
            resource.setrlimit(resource.RLIMIT_CPU, (COMPUTING, COMPUTING))
            run(Path(version["project"]), Path(version["tests"]), Path(version["out"]), version["jobs"])
            os._exit(0)
    for _ in range(running):
        os.wait()


def prepare() -> None:
    """Do once what every fork would do: import libraries, load the lemmas of English; and let forks share memory."""
    for library in LIBRARIES:
        importlib.import_module(library)
    simplemma.lemmatize("cats", lang="en")
    torch.set_num_threads(1)
    gc.freeze()


def run(project: Path, tests: Path, out: Path, jobs: dict[str, int]) -> None:
    """Write, for each test, what it showed, or how it ended."""
    for name in [name for name in sys.modules if name.split(".")[0] == "minivlm"]:
        del sys.modules[name]
    sys.path[:0] = [str(project), str(tests.parent)]
    for test, seed in jobs.items():
        show = Show()
        try:
            getattr(importlib.import_module(tests.stem), test)(Draw(seed), show)
            show.shown.save(out / f"{test}.safetensors")
        except BaseException as error:
            (out / f"{test}.json").write_text(json.dumps({"error": type(error).__name__, "message": str(error)[:500]}))


if __name__ == "__main__":
    main()
