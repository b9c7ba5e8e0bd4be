"""Fixtures with which plain `pytest` runs the tests of an assignment: what they show is compared with `expected/`.

`minivlm course check` does the same, with points, limits of time and memory, and the next thing to do.
"""

import json
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from minivlm.course.kit.compare import first_difference
from minivlm.course.kit.draw import Draw
from minivlm.course.kit.show import Show, Shown

HERE = Path(__file__).parent


def pytest_configure() -> None:
    """Compute with one thread, as `check` does: on many small tensors, threads that wait for each other take most of
    the time.
    """
    torch.set_num_threads(1)


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> Draw:
    """Draws the inputs that the expected values were made with."""
    seeds = json.loads((HERE / "expected" / "seeds.json").read_text(encoding="utf-8"))
    return Draw(seeds.get(request.node.name, 0))


@pytest.fixture
def show() -> Show:
    """Collects what a test shows."""
    return Show()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """After a test that raised nothing, compare what it showed with the expected values."""
    result = yield
    file, show = HERE / "expected" / f"{pyfuncitem.name}.safetensors", pyfuncitem.funcargs.get("show")
    if isinstance(show, Show) and file.is_file() and (sentence := first_difference(show.shown, Shown.load(file))):
        pytest.fail(sentence, pytrace=False)
    return result
