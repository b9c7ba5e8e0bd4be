"""Runs the tests of an assignment on many versions of the package, each in a fork of this process (a script).

Workers, as the course kit starts them, import torch each time; here that is done once. Without limits and fence: those
are the concern of test_course_supervise.py.

    echo '[{"project": …, "tests": …, "out": …, "jobs": {"test_rotate": 17}}]' | python course_forks.py
"""

import importlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

import einops  # noqa: F401 (imported here once, for all forks)
import torch

from minivlm.course.kit.draw import Draw
from minivlm.course.kit.show import Show

PATIENCE, COMPUTING = 600, 60  # seconds for a version: by the clock, which a busy machine stretches, and of work
CORES = os.cpu_count() or 1
torch.set_num_threads(1)


def main() -> None:
    versions, running = json.load(sys.stdin), 0
    for version in versions:
        if running == CORES:
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
