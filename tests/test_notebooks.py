"""What all notebooks have in common. That they run is held by nbmake, which executes them."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LECTURES = sorted((ROOT / "notebooks").glob("0*.ipynb"))
HANDOUTS = sorted((ROOT / "notebooks" / "assignments").glob("a*.ipynb"))
LINK = re.compile(r"\]\((?!https?:|#|attachment:)([^)#\s]+)")
PRIVATE = re.compile(r"/(home|root|work|tmp|Users|content)/")
LARGEST = 1_500_000
LONGEST_CELL = 15


def cells(file: Path, kind: str = "") -> list[dict]:
    found = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind or not kind]


def text(cell: dict) -> str:
    return "".join(cell["source"])


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
