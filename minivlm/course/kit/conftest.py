"""Lets plain `pytest` run the tests of an assignment: what they show is compared with `expected/`.

`minivlm course check` does the same, with points, limits of time and memory, and the next thing to do.
"""

import json
from pathlib import Path

import pytest

from minivlm.course.kit.compare import first_difference
from minivlm.course.kit.draw import Draw
from minivlm.course.kit.show import Show, Shown

HERE = Path(__file__).parent


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> Draw:
    """The inputs that the expected values were made with."""
    seeds = json.loads((HERE / "expected" / "seeds.json").read_text(encoding="utf-8"))
    return Draw(seeds.get(request.node.name, 0))


@pytest.fixture
def show(request: pytest.FixtureRequest):
    """Collects what a test shows, and compares it when the test has ended."""
    show = Show()
    yield show
    file = HERE / "expected" / f"{request.node.name}.safetensors"
    if file.is_file() and (sentence := first_difference(show.shown, Shown.load(file))):
        pytest.fail(sentence, pytrace=False)
