"""Runs the tests of one student's package in a separate process, with limits, and reports what came of each.

What a test showed is read here. Whether that is right is decided by other modules, in this process and never in the
student's. A test that hangs, crashes, takes too much memory or violates the sandbox fails alone: a new process runs
the rest.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from minivlm.checkpoints.shards import require_single_keys
from minivlm.course.hangs import Hangs
from minivlm.course.kit.show import Shown
from minivlm.course.outcome import Job, Outcome
from minivlm.course.process import ANSWERED, ENDED, LATE, Process, Reply, settings
from minivlm.files import clean

STARTING = 120.0  # seconds for Python and torch
LOADING = 60.0  # seconds for importing the student's package
LOADING_MEGABYTES = 2000
LARGEST = 8 * 2**20  # bytes that a test may show; the kit's own show half of it
LONGEST_HEADER = 2**20  # bytes of them for names, plain values and tolerances
STATUSES = ("ran", "raised", "too much memory")  # those that a worker reports itself
OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def supervise(
    project: Path, tests: Path, jobs: Sequence[Job], *, denied: Sequence[Path] = (), hangs: Hangs | None = None
) -> list[Outcome]:
    """Run test functions of the file `tests` on the package `project/minivlm`: an outcome for each job, in their order.

    The functions get `draw` and `show`. The code may not read the folders `denied`, the home folder or temporary files,
    except for the project, its models, the tests and Python's own folders. `hangs`: what is known about functions that
    do not end; None if every test is to have all its seconds.
    """
    known, outcomes = hangs or Hangs(frozenset()), list[Outcome]()
    while rest := jobs[len(outcomes) :]:
        given = known.shortened(rest)
        with (
            TemporaryDirectory(prefix="minivlm-", ignore_cleanup_errors=True) as folder,
            Process(project, tests, Path(folder)) as process,
        ):
            pairs = zip(rest, given, run(process, Path(folder), given, denied), strict=False)
            outcomes += [done for job, asked, out in pairs if (done := known.settled(job, asked, out))]
    return outcomes


def run(process: Process, folder: Path, jobs: Sequence[Job], denied: Sequence[Path]) -> Iterator[Outcome]:
    """The outcomes of the first jobs, at least one: all that the process could do before it was spent."""
    start = started(process, denied)
    if start.status != "ran":
        yield from (replace(start, test=job.test) for job in jobs)
        return
    for number, job in enumerate(jobs):
        file = f"{number}.safetensors"
        reply = process.ask(job.seconds, job.megabytes, test=job.test, seed=job.seed, file=file)
        outcome = outcome_of(reply, job.test)
        yield with_shown(outcome, folder / file) if outcome.status == "ran" else outcome
        if reply.spent:
            return


def started(process: Process, denied: Sequence[Path]) -> Outcome:
    """What came of starting the process, and then of importing the tests and the package."""
    ready = process.ask(STARTING, **settings(denied))
    if ready.ending != ANSWERED:
        return Outcome("", "not started", ready.seconds, message=f"{ready.printed}\n{ready.exit_sentence}".strip())
    loaded = outcome_of(process.ask(LOADING, LOADING_MEGABYTES), "")
    loaded = replace(loaded, is_loading=loaded.status != "ran")
    if loaded.status == "too slow":
        return replace(loaded, status="not started", message=f"Importing it took more than {LOADING:.0f} s.")
    return loaded


def outcome_of(reply: Reply, test: str) -> Outcome:
    """A reply as an outcome. Of what the process says, only texts of limited length and known statuses are taken."""
    answer = reply.forbidden or reply.answer
    error, where = clean(answer.get("error"), 100), clean(answer.get("where"), 300)
    message = clean(answer.get("message"), 500)
    if reply.forbidden:
        status, error, message = "forbidden", "PermissionError", clean(reply.forbidden["forbidden"], 500)
    elif reply.ending == LATE:
        status, where = "too slow", "{}, line {}, in {}".format(*reply.stack[0]) if reply.stack else ""
    elif reply.ending == ENDED:
        killed = reply.exit_sentence.endswith("SIGKILL.")  # by the system, which does that when memory runs out
        status, message = "too much memory" if killed else "crashed", reply.exit_sentence
    else:
        status = answer["status"] if answer.get("status") in STATUSES else "crashed"
    stack = tuple(clean(f"{file}, {function}", 300) for file, _, function in reply.stack)
    found = Outcome(test, status, reply.seconds, error, clean(where, 300), message, reply.printed)
    return replace(found, stack=stack, megabytes=reply.megabytes)


def with_shown(outcome: Outcome, file: Path) -> Outcome:
    """The outcome with what its test showed."""
    try:
        with TemporaryDirectory(ignore_cleanup_errors=True) as private:  # where student code cannot change it meanwhile
            copy = Path(private) / "shown.safetensors"
            copy.write_bytes(content(file))
            require_single_keys(copy)
            return replace(outcome, shown=Shown.load(copy))
    except Exception as error:  # student code may have written anything there: a fault of the file is one of the test
        message = f"What the test showed cannot be read: {clean(str(error), 300)}"
        return replace(outcome, status="raised", error=type(error).__name__, message=message)


def content(file: Path) -> bytes:
    """The bytes of a file. Raises OSError for a link, ValueError for anything else than a regular file of at most
    `LARGEST` bytes with a header of at most `LONGEST_HEADER`.
    """
    number = os.open(file, OPEN_FLAGS)
    with os.fdopen(number, "rb") as stream:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise ValueError(f"expected a file of at most {LARGEST:,} bytes, found {status.st_size:,}.")
        data = stream.read(LARGEST)
    if int.from_bytes(data[:8], "little") > LONGEST_HEADER:  # parsed JSON takes a hundred times its length in memory
        raise ValueError(f"expected a header of at most {LONGEST_HEADER:,} bytes.")
    return data
