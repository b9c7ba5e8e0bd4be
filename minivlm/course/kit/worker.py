"""The process in which a student's code runs: it calls the tests, and writes down what they show.

    python -I worker.py PROJECT TESTFILE FOLDER

Requests come in as lines of JSON, each is answered by one line; what student code prints goes elsewhere. The first
request names what is denied; then the fence is raised; the second loads the tests, and with them the student's
package; each further one calls a test with inputs from a seed. Nothing here knows what is right, and nothing that it
says is trusted.
"""

import _thread
import json
import os
import random
import signal
import site
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from inspect import signature
from pathlib import Path
from traceback import print_exc, walk_tb
from types import ModuleType

try:
    import resource
except ImportError:  # Windows
    resource = None

KIT = Path(__file__).resolve().parent
LIBRARIES = ("torch", "numpy", "einops", "safetensors.torch", "tokenizers", "PIL.Image", "pytest")  # what takes long
LARGEST_FILE = 64 * 2**20
LONGEST_LIFE = 3600  # seconds of computing: nobody may be left to end this process
FULL = ("can't allocate memory", "not enough memory", "cannot allocate memory")


class Channel:
    """Requests and answers. The files that prints go to are other ones from now on."""

    def __init__(self) -> None:
        self.requests = os.fdopen(os.dup(0), "rb")
        self.answers = os.dup(1)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        os.dup2(2, 1)
        self.streams = (sys.stdout, sys.stderr)
        for stream in self.streams:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def __iter__(self) -> Iterator[dict]:
        return (json.loads(line) for line in self.requests)

    def answer(self, request: dict, **answer: object) -> None:
        """One line, after the end of what was printed was marked."""
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
        given = {"draw": self.draw(seed), "show": show}
        function = getattr(self.module, test)
        wanted = signature(function).parameters
        function(**{name: value for name, value in given.items() if name in wanted})
        show.shown.save(self.folder / file)

    def tidy(self, seed: int) -> None:
        """Undo what the test before may have left behind."""
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
        """How it went, whatever is raised: SystemExit and KeyboardInterrupt are but errors of a test."""
        try:
            work()
        except BaseException as error:
            return self.described(error)
        return {"status": "ran"}

    def described(self, error: BaseException) -> dict:
        """An error's name and text, and the line to look at."""
        try:
            message = str(error)
        except Exception:
            message = "(its text cannot be made)"
        full = isinstance(error, MemoryError) or any(words in message.lower() for words in FULL)
        status = "too much memory" if full else "raised"
        name = type(error).__name__
        return {"status": status, "error": name[:100], "where": self.where(error)[:300], "message": message[:1000]}

    def where(self, error: BaseException) -> str:
        """The last line of the student's, or of the test, that an error came through."""
        places = [(f.f_code.co_filename, line, f", in {f.f_code.co_name}") for f, line in walk_tb(error.__traceback__)]
        if isinstance(error, SyntaxError) and error.filename:
            places.append((error.filename, error.lineno, ""))
        found = [(self.name_of(file), line, name) for file, line, name in places if self.name_of(file)]
        return "{}, line {}{}".format(*found[-1]) if found else ""

    def name_of(self, file: str) -> str:
        """The name of a file of the student's package or of the tests' file, "" for any other."""
        path = Path(file)
        if path.is_relative_to(self.project / "minivlm"):
            return path.relative_to(self.project).as_posix()
        return path.name if path == self.tests else ""


def own_module(name: str) -> ModuleType:
    """A module of the kit that this file belongs to: the one in the student's package may have been changed."""
    sys.path.insert(0, str(KIT.parent))
    module = import_module(f"{KIT.name}.{name}")
    sys.path.remove(str(KIT.parent))
    return module


def warm_up() -> None:
    """Import what takes long, and let torch set up what it sets up at first use: no test is to pay for it."""
    for name in LIBRARIES:
        with suppress(ImportError):
            import_module(name)
    torch = import_module("torch")
    x = torch.ones(4, 4, requires_grad=True)
    torch.nn.functional.scaled_dot_product_attention(x[None], x[None], (x @ x).softmax(-1)[None]).sum().backward()


def set_limits() -> None:
    """No file larger than what a test may show, no core of a process that crashed, no endless life."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_LIFE, LONGEST_LIFE))


def tidy_path(project: Path, libraries: list[str]) -> None:
    """The libraries, but not the package that was installed to be edited: its folder holds the solution."""
    for entry in libraries:
        if entry not in sys.path:
            sys.path.append(entry)
    for entry in list(sys.path):
        lone = Path(entry).name not in ("site-packages", "dist-packages")
        if lone and (Path(entry) / "minivlm").is_dir() and Path(entry).resolve() != project:
            sys.path.remove(entry)


def enclose(worker: Worker, settings: dict, notes: int) -> None:
    """Raise the wall and the fence, and behind them put the student's folder first."""
    audit_hook, paths, landlock = map(own_module, ("audit_hook", "paths", "landlock"))
    libraries = [sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages(), *sys.path]
    ground = audit_hook.Ground(
        project=paths.resolved(worker.project),
        tests=paths.resolved(worker.tests),
        own=paths.resolved(worker.folder),
        libraries=tuple({paths.resolved(path) for path in libraries}),
        denied=tuple({paths.resolved(path) for path in settings["denied"]}),
    )
    sys.path[:0] = [str(worker.tests.parent), str(worker.project)]
    landlock.restrict_to_files(ground.readable, ground.denied, ground.own)
    audit_hook.install_audit_hook(ground, notes)


def serve(project: Path, tests: Path, folder: Path) -> None:
    """Answer requests until there are no more."""
    channel = Channel()
    requests = iter(channel)
    first = next(requests)
    set_limits()
    tidy_path(project, first["libraries"])
    warm_up()
    worker = Worker(project, tests, folder)
    enclose(worker, first, channel.answers)
    channel.answer(first, status="ran")
    second = next(requests)
    channel.answer(second, **worker.outcome(worker.load))
    for request in requests:
        job = {name: request[name] for name in ("test", "seed", "file")}
        channel.answer(request, **worker.outcome(lambda job=job: worker.call(**job)))


if __name__ == "__main__":
    code = 1
    try:
        serve(*(Path(argument).resolve() for argument in sys.argv[1:]))
        code = 0
    except BaseException:
        print_exc()
    finally:
        os._exit(code)  # whatever threads are left
