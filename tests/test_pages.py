"""The pages around the code: what they name exists, and the repository's address is the same everywhere."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import minivlm

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / name
    for name in ("README.md", "CHANGELOG.md", "minivlm/README.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md")
]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
TEST_FILE = re.compile(r"\b(test_\w+\.py)")
ADDRESS = re.compile(r"github(?:\.com)?/([\w-]+/minivlm)\b")


def script(name: str) -> ModuleType:
    """A script of .github as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".github" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert not [target for target in targets if not (page.parent / target).exists()]


def test_every_promise_names_a_test_that_exists():
    promises = (ROOT / "minivlm" / "README.md").read_text(encoding="utf-8").partition("## What it promises")[2]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) >= 10
    for row in rows:
        assert (files := TEST_FILE.findall(row)), row
        assert not [name for name in files if not list((ROOT / "tests").rglob(name))], row


def test_the_page_of_the_architecture_names_files_that_exist():
    text = (ROOT / "minivlm" / "README.md").read_text(encoding="utf-8").partition("## What it promises")[0]
    named = re.findall(r"\b([a-z]+/[a-z_]+\.py)\b", text)
    assert len(named) > 20
    assert not [name for name in named if not (ROOT / "minivlm" / name).is_file()]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is new in Python 3.11")
def test_one_address_of_the_repository_stands_everywhere():
    address = script("set_repository")
    files = address.tracked_files()
    assert len(files) > 100
    found = {file.name: set(ADDRESS.findall(file.read_text(encoding="utf-8"))) for file in files}
    assert {name for names in found.values() for name in names} == {address.current()}
    assert all(found[name] for name in ("01_pixels_to_words.ipynb", "CITATION.cff", "pyproject.toml"))
    before = "https://github.com/a/vlm b, google.com/github/a/vlm/blob, https://github.com/a/vlm-zoo"
    after = "https://github.com/c/d b, google.com/github/c/d/blob, https://github.com/a/vlm-zoo"
    assert address.mentions("a/vlm").sub(r"\g<1>c/d", before) == after


def test_comments_of_fields_become_docstrings_in_the_api_pages():
    pytest.importorskip("pdoc", reason="pdoc is not installed: it is needed by the API pages alone")
    source = "class A:\n    x: int = 1  # (B, T), ids\n    y: int\n\n    def f(self):\n        z: int = 2  # no field\n"
    expected = source.replace("ids\n", "ids\n    '(B, T), ids'\n", 1)
    assert script("api_pages").with_field_docstrings(source) == expected


def test_a_type_checker_sees_the_names_that_are_imported_late():
    """`__init__.py` names its public things three times: for `import`, for type checkers and in `__all__`."""
    assert sorted(minivlm.__all__) == sorted(minivlm.HOME)
    source = (ROOT / "minivlm" / "__init__.py").read_text(encoding="utf-8")
    block = source.partition("if TYPE_CHECKING:")[2].partition("__version__")[0]
    for name, home in minivlm.HOME.items():
        module = re.search(rf"from minivlm\.{re.escape(home)} import (\([^)]*\)|.*)", block)
        assert module is not None, home
        assert re.search(rf"\b{name}\b", module[1]), name
