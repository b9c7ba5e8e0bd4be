"""What pyproject.toml asks for: all that is imported, each with a floor. Whether floors hold, `.ci/floors` tries."""

import ast
import re
import sys
from pathlib import Path

import pytest

from minivlm.course.package import PACKAGE
from support.source_rules import imported

TESTS = Path(__file__).parent
NAMES = {"PIL": "pillow", "open_clip": "open_clip_torch", "ipywidgets": "jupyter", "lmms_eval": "lmms-eval"}


@pytest.fixture(scope="module")
def project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    file = TESTS.parent / "pyproject.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))["project"]


def modules_in(folder: Path) -> set[str]:
    """The names that code in a folder imports from other packages."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in folder.rglob("*.py")]
    names = {module.split(".")[0] for tree in trees for module, _ in imported(tree)}
    here = {file.stem for file in folder.glob("*.py")}  # tests may import from each other
    return names - sys.stdlib_module_names - here - {"minivlm", "support"}


def names_in(lines: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", line)[0] for line in lines}


def test_all_that_is_imported_is_asked_for(project):
    extras = project["optional-dependencies"]
    asked = names_in(project["dependencies"] + extras["harness"])
    assert {NAMES.get(name, name) for name in modules_in(PACKAGE)} <= asked
    assert {NAMES.get(name, name) for name in modules_in(TESTS)} <= asked | names_in(extras["test"])


def test_all_that_is_asked_for_has_one_floor(project):
    for line in sum(project["optional-dependencies"].values(), project["dependencies"]):
        assert re.fullmatch(r"[\w-]+>=\d+(\.\d+)*(,<[\d.]+)?", line)
