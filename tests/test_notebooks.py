"""What all notebooks have in common. That they run is held by notebooks/conftest.py, which runs them."""

import ast
import json
import re
from pathlib import Path

import pytest

from support.solution_lines import body_of, given_away, holes, solutions

ROOT = Path(__file__).resolve().parent.parent
LECTURES = sorted((ROOT / "notebooks").glob("0*.ipynb"))
HANDOUTS = sorted((ROOT / "notebooks" / "assignments").glob("a*.ipynb"))
PAGES = sorted((ROOT / "notebooks").rglob("*.md"))
LINK = re.compile(r"\]\((?!https?:|#|attachment:)([^)#\s]+)")
PRIVATE = re.compile(r"/(home|root|work|tmp|Users|content)/")
LARGEST = 1_500_000
LONGEST_CELL = 15


def cells(file: Path, kind: str = "") -> list[dict]:
    found = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind or not kind]


def text(cell: dict) -> str:
    return "".join(cell["source"])


def told(file: Path) -> str:
    """All that a page, or the cells of a notebook with their outputs, show as text."""
    if file.suffix == ".md":
        return file.read_text(encoding="utf-8")
    parts = [text(cell) for cell in cells(file)]
    for output in (output for cell in cells(file, "code") for output in cell["outputs"]):
        shown = {"text/": output.get("text", ""), **output.get("data", {})}
        parts += ["".join(part) for kind, part in shown.items() if kind.startswith("text/")]
    return "\n".join(parts)


def test_there_are_eight_lectures_and_seven_handouts():
    assert [file.name[:2] for file in LECTURES] == [f"{number:02}" for number in range(1, 9)]
    assert [file.stem for file in HANDOUTS] == [f"a{number}" for number in range(1, 8)]


@pytest.mark.parametrize("file", LECTURES, ids=lambda file: file.stem)
def test_a_lecture_has_a_claim_a_badge_and_its_three_last_sections(file):
    opening, install = cells(file)[:2]
    assert re.match(rf"# {file.name[:2]} · \w", text(opening))
    assert f"/blob/main/notebooks/{file.name})" in text(opening)
    assert "**Claim.**" in text(opening)
    assert 'find_spec("minivlm") is None' in text(install)
    headings = re.findall(r"^## .*", "\n".join(map(text, cells(file, "markdown"))), re.MULTILINE)
    assert headings[-3:] == ["## Try it yourself", "## Limits", "## Sources"]


@pytest.mark.parametrize("file", LECTURES, ids=lambda file: file.stem)
def test_a_lecture_is_committed_as_it_ran(file):
    """In order, without errors and remarks on stderr, with pictures, and without the machine that it ran on."""
    code = cells(file, "code")
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not PRIVATE.search(re.sub(r'"image/png": "[^"]*"', "", json.dumps(outputs)))
    assert file.stat().st_size < LARGEST


@pytest.mark.parametrize("file", HANDOUTS, ids=lambda file: file.stem)
def test_a_handout_is_committed_without_outputs(file):
    assert not [cell for cell in cells(file, "code") if cell["outputs"] or cell["execution_count"]]
    assert text(cells(file)[0]).startswith(f"# {file.stem} · ")


@pytest.mark.parametrize("file", LECTURES, ids=lambda file: file.stem)
def test_cells_are_short(file):
    assert max(len(text(cell).splitlines()) for cell in cells(file, "code")) <= LONGEST_CELL


@pytest.mark.parametrize("file", [*LECTURES, *HANDOUTS], ids=lambda file: file.stem)
def test_no_widgets_are_kept(file):
    assert "widgets" not in json.loads(file.read_text(encoding="utf-8"))["metadata"]


@pytest.mark.parametrize("file", [*LECTURES, ROOT / "notebooks/assignments/README.md"], ids=lambda file: file.stem)
def test_links_within_the_repository_lead_somewhere(file):
    pages = [file.read_text(encoding="utf-8")] if file.suffix == ".md" else map(text, cells(file, "markdown"))
    links = [link for page in pages for link in LINK.findall(page)]
    assert links
    assert [link for link in links if not (file.parent / link).exists()] == []


# --- nobody is given the solution of an assignment --------------------------------------------------------------------


@pytest.mark.parametrize("file", [*LECTURES, *HANDOUTS, *PAGES], ids=lambda file: file.stem)
def test_no_line_of_a_solution_is_shown(file):
    """Not even one: neither in sources nor in texts nor in outputs. `support/solution_lines.py` says what one is."""
    assert given_away(told(file)) == []


def test_every_hole_has_a_line_that_gives_it_away():
    """One line is enough, as in `quick_gelu`; without any, nothing could be found."""
    assert set(holes()) <= set(solutions())
    assert [name for name, lines in solutions().items() if not lines] == []


def notebook(folder: Path, *found: dict) -> Path:
    file = folder / "some.ipynb"
    file.write_text(json.dumps({"cells": list(found), "metadata": {}}), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", holes())
def test_a_solution_is_found_wherever_it_stands(name, tmp_path):
    """Printed by `getsource`, written into a text in another layout, and commented out."""
    source = holes()[name]
    printed = {"output_type": "stream", "name": "stdout", "text": source.splitlines(keepends=True)}
    code = {"cell_type": "code", "source": ["print(getsource(it))"], "outputs": [printed]}
    other_layout = ast.unparse(ast.parse(source)).replace("'", '"').replace(", ", ",\n        ")
    texts = other_layout, "".join(f"# {line}" for line in body_of(source))
    marked = [{"cell_type": "markdown", "source": [text]} for text in texts]
    for cell in (code, *marked):
        found = given_away(told(notebook(tmp_path, cell)))
        assert any(line.startswith(f"{name}: ") for line in found), cell


def test_mathematics_and_calls_give_nothing_away():
    """The bounds of the rule, by what it is to leave alone."""
    assert given_away("$$x \\cdot \\sigma(1.702\\,x)$$ and `vision_sink_scores(weights, mask)`, on x * 2") == []
    assert given_away("y = x*torch.sigmoid( 1.702 * x )  # by hand") == ["a1 quick_gelu: x*torch.sigmoid1.702*x"]
