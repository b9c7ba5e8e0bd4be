"""The process in which a student's code runs: it calls the tests, and writes what they show to files.

    python -I worker.py PROJECT TESTFILE FOLDER

Requests come on stdin, a line of JSON each, and each is answered by one line on stdout; what student code prints goes
to stderr. The first request names the denied folders, and the sandbox is set up. The second loads the tests, and with
them the student's package. Each further one calls a test, with inputs from a seed. This process knows no right
answers, and the supervisor trusts nothing that it says.
"""

import _thread
import faulthandler
import io
import json
import os
import random
import signal
import site
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from traceback import print_exc, walk_tb
from types import ModuleType

if sys.platform != "win32":
    import resource

KIT = Path(__file__).resolve().parent
LIBRARIES = ("torch", "numpy", "einops", "safetensors.torch", "tokenizers", "PIL.Image", "pytest")  # slow to import
STACK = "stack.txt"  # in the process's folder: where it was when its time was up; `stack.py` reads it
LARGEST_FILE = 64 * 2**20  # bytes
LONGEST_LIFE = 3600  # seconds of computing: the end of this process if its supervisor has died
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "cannot allocate memory")


class Channel:
    """Requests and answers, on what were stdin and stdout. From then on, stdin is empty and prints go to stderr."""

    def __init__(self) -> None:
        self.requests = os.fdopen(os.dup(0), "rb")
        self.answers = os.dup(1)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        os.dup2(2, 1)
        self.streams = (sys.stdout, sys.stderr)
        for stream in self.streams:
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def __iter__(self) -> Iterator[dict]:
        return (json.loads(line) for line in self.requests)

    def answer(self, request: dict, **answer: object) -> None:
        """Answer a request by one line. A zero byte on stderr marks the end of what was printed before."""
        for stream in self.streams:
            with suppress(OSError, ValueError):
                stream.flush()
        with suppress(OSError):
            os.write(2, b"\0")
        line = json.dumps({"id": request["id"], "threads": _thread._count(), **answer})
        os.write(self.answers, f"\n{line}\n".encode())


class Worker:
    """The tests of one project."""

    def __init__(self, project: Path, tests: Path, folder: Path) -> None:
        self.project, self.tests, self.folder = project, tests, folder
        self.module: ModuleType | None = None
        self.draw, self.show = own_module("draw").Draw, own_module("show").Show

    def load(self) -> None:
        """Import the tests, and with them the student's package."""
        self.module = import_module(self.tests.stem)

    def call(self, test: str, seed: int, file: str) -> None:
        """Call one test and save what it shows."""
        self.tidy(seed)
        show = self.show()
        fixtures = {"draw": self.draw(seed), "show": show}
        function = getattr(self.module, test)
        parameters = signature(function).parameters
        function(**{name: value for name, value in fixtures.items() if name in parameters})
        show.shown.save(self.folder / file)

    def tidy(self, seed: int) -> None:
        """Undo what the previous test may have changed: seeds, torch's defaults, the folder, traces, timers."""
        torch = import_module("torch")
        torch.manual_seed(seed)
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        random.seed(seed)
        os.chdir(self.folder)
        sys.settrace(None)
        if hasattr(signal, "alarm"):
            signal.alarm(0)

    def outcome(self, work: Callable[[], None]) -> dict:
        """What came of it, as part of an answer. Any exception counts as an error of the test, SystemExit, too."""
        try:
            work()
        except BaseException as error:
            return self.described(error)
        return {"status": "ran"}

    def described(self, error: BaseException) -> dict:
        """An exception as part of an answer: its name, its text, and the line where it arose."""
        try:
            message = str(error)
        except Exception:
            message = "(its text cannot be made)"
        out_of_memory = isinstance(error, MemoryError) or any(words in message.lower() for words in OUT_OF_MEMORY)
        status = "too much memory" if out_of_memory else "raised"
        name = type(error).__name__
        return {"status": status, "error": name[:100], "where": self.where(error)[:300], "message": message[:1000]}

    def where(self, error: BaseException) -> str:
        """The innermost line of the student's package, or of the tests, that an exception came through; "" if none."""
        lines: list[tuple[str, int | None, str]] = []
        for frame, line in walk_tb(error.__traceback__):
            lines.append((frame.f_code.co_filename, line, f", in {frame.f_code.co_name}"))
        if isinstance(error, SyntaxError) and error.filename:
            lines.append((error.filename, error.lineno, ""))
        known = [(self.name_of(file), line, function) for file, line, function in lines if self.name_of(file)]
        return "{}, line {}{}".format(*known[-1]) if known else ""

    def name_of(self, file: str) -> str:
        """The name of a file of the student's package or of the tests' file, "" for any other."""
        path = Path(file)
        if path.is_relative_to(self.project / "minivlm"):
            return path.relative_to(self.project).as_posix()
        return path.name if path == self.tests else ""


def own_module(name: str) -> ModuleType:
    """A module of the kit in this folder, not of the one in the student's package, which may have been changed."""
    sys.path.insert(0, str(KIT.parent))
    module = import_module(f"{KIT.name}.{name}")
    sys.path.remove(str(KIT.parent))
    return module


def warm_up() -> None:
    """Import what is slow to import, and use torch once: its setup must not count as time or memory of a test."""
    for name in LIBRARIES:
        with suppress(ImportError):
            import_module(name)
    torch = import_module("torch")
    x = torch.ones(4, 4, requires_grad=True)
    torch.nn.functional.scaled_dot_product_attention(x[None], x[None], (x @ x).softmax(-1)[None]).sum().backward()


def set_limits() -> None:
    """Limit the size of files and the time of computing, and write no core file after a crash. (Not on Windows.)"""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_LIFE, LONGEST_LIFE))


def tidy_path(project: Path, libraries: list[str]) -> None:
    """Make the installed libraries importable, but not a minivlm that was installed for editing (`pip install -e`):
    its folder holds the solution.
    """
    for entry in libraries:
        if entry not in sys.path:
            sys.path.append(entry)
    for entry in list(sys.path):
        is_checkout = Path(entry).name not in ("site-packages", "dist-packages")
        if is_checkout and (Path(entry) / "minivlm").is_dir() and Path(entry).resolve() != project:
            sys.path.remove(entry)


def enter_sandbox(worker: Worker, settings: dict, channel: int) -> None:
    """Import from the student's folder first, and from now on refuse violations. `channel`: where to report them."""
    audit_hook, paths, landlock = map(own_module, ("audit_hook", "paths", "landlock"))
    libraries = [sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages(), *sys.path]
    sandbox = audit_hook.SandboxPaths(
        project=paths.resolved(worker.project),
        tests=paths.resolved(worker.tests),
        own=paths.resolved(worker.folder),
        lent=tuple(paths.resolved(model) for model in (worker.project / "weights").glob("*")),
        libraries=tuple({paths.resolved(path) for path in libraries}),
        denied=tuple({paths.resolved(path) for path in settings["denied"]}),
    )
    sys.path[:0] = [str(worker.tests.parent), str(worker.project)]
    if not landlock.restrict_to_files(sandbox.readable, sandbox.denied, sandbox.own) and landlock.version():
        raise OSError("The kernel has Landlock, but refused to keep this process to its files. No test was run.")
    audit_hook.install_audit_hook(sandbox, channel)


def tell_stack(folder: Path) -> None:
    """From now on, write to the file `STACK` where this process is, whenever the supervisor asks for it by a signal,
    even within a loop. (Not on Windows.)
    """
    if hasattr(faulthandler, "register"):
        number = os.open(folder / STACK, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        faulthandler.register(signal.SIGUSR1, file=number)


def serve(project: Path, tests: Path, folder: Path) -> None:
    """Answer requests until there are no more."""
    channel = Channel()
    requests = iter(channel)
    first = next(requests)
    set_limits()
    tidy_path(project, first["libraries"])
    warm_up()
    worker = Worker(project, tests, folder)
    tell_stack(folder)
    enter_sandbox(worker, first, channel.answers)
    channel.answer(first, status="ran")
    second = next(requests)
    channel.answer(second, **worker.outcome(worker.load))
    for request in requests:
        call = partial(worker.call, request["test"], request["seed"], request["file"])
        channel.answer(request, **worker.outcome(call))


if __name__ == "__main__":
    code = 1
    try:
        serve(*(Path(argument).resolve() for argument in sys.argv[1:]))
        code = 0
    except BaseException:
        print_exc()
    finally:
        os._exit(code)  # at once, even if the student's code left threads running
