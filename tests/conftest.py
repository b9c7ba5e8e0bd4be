"""What holds for all tests: one thread for each process that runs them, and no hurry.

`pytest` runs everything, side by side. `pytest -m "not slow and not course"` is what one runs while one works, and
`pytest -n 0` runs in this process alone, for a debugger and for what is printed (`-s`).
"""

import os
import socket
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, here and in processes that tests start
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what the names of files tell: notebooks are slow, and the course has files of its own. What is long is
    skipped unless it was asked for by its marker (`-m long`).

    The files that take longest come first, so that at the end no process works on while the others wait.
    """
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.slow)
        if item.path.name.startswith("test_course_"):
            item.add_marker(pytest.mark.course)
        if item.get_closest_marker("long") and "long" not in config.option.markexpr:
            item.add_marker(pytest.mark.skip(reason="takes more than ten minutes: pytest -m long"))
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in long, item.get_closest_marker("course") is None))


LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "", None)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches beyond this machine: looking up a name, or a connection, is an error that says so."""
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def refused(host: Any) -> NoReturn:
        raise OSError(f"a test asks the network for {host!r}: fake it, as tests of downloads do")

    def look_up_here(host: Any, *more: Any, **how: Any) -> Any:
        return look_up(host, *more, **how) if host in LOCAL else refused(host)

    def connect_here(self: socket.socket, address: Any) -> None:
        here = self.family == getattr(socket, "AF_UNIX", None) or address[0] in LOCAL
        return connect(self, address) if here else refused(address[0])

    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)
    monkeypatch.setattr(socket.socket, "connect", connect_here)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `pytest -m real`, see test_real.py."""
    parser.addoption("--checkpoint", help="a folder or a name: compare this checkpoint with transformers")
    parser.addoption("--certificate", help="a file to write what was compared to")
    parser.addoption("--tokens", type=int, default=64, help="of each greedy answer (default: 64)")
