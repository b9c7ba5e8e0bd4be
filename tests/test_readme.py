"""The README: its lines run, and its figures are those that the exam found."""

import json
import re
from pathlib import Path

import pytest

from minivlm.cli.main import main
from minivlm.experiments.demo_text import mark

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHIPPED = ROOT / "weights" / "tiny"
pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(not (SHIPPED / "model.safetensors").exists(), reason="weights/tiny is not there"),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_lines_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["demo", "--seed", "1", "--device", "cpu"])
    capsys.readouterr()
    five, further = blocks("python")
    exec(compile(five + further, "README.md", "exec"), {})
    plain, eah, clva, shapes = capsys.readouterr().out.strip().splitlines()
    assert plain.endswith(". | None")
    assert "EAH in layer 1: " in eah
    assert "CLVA in layers 6, 7: " in clva
    assert re.fullmatch(r"torch.Size\(\[\d+, 8, 64\]\) torch.Size\(\[1, 6, .*", shapes)


def test_the_captions_under_the_picture_are_those_of_the_demo(tmp_path, capsys):
    main(["demo", "--seed", "20", "--device", "cpu", "--out", str(tmp_path), "--json"])
    shown = json.loads(capsys.readouterr().out)["scenes"]
    said = [mark(scene["captions"]["plain"]["caption"], scene["objects"]) for scene in shown]
    assert said == re.findall(r"^\d\. caption +(.*)", README, re.MULTILINE)
    assert (tmp_path / "demo.png").stat().st_size > 10_000


def test_the_figures_are_those_of_the_exam():
    exam = json.loads((SHIPPED / "exam.json").read_text())
    shares = [
        exam["captions"]["recall"],
        exam["captions"]["chair_i"],
        exam["companions"]["0.25"]["chair_i"],
        exam["pictures exchanged"]["recall"],
        exam["pope"]["random"]["accuracy"],
        exam["pope"]["adversarial"]["accuracy"],
        exam["skills"]["position"]["exact"],
        exam["skills"]["color"]["exact"],
    ]
    table = README.partition("**The shipped model**")[2].partition("So it looks")[0]
    assert re.findall(r"(\d+\.\d) %", table) == [f"{100 * share:.1f}" for share in shares]


def test_the_figures_of_the_methods_are_those_of_the_table():
    rows = json.loads((SHIPPED / "methods.json").read_text())["methods"]["conditions"]
    heads = [f"EAH, random head ({seed})" for seed in (1, 2, 3)]
    told = [
        *(["plain"], ["EAH"], heads, ["CLVA"], ["CLVA, shuffled anchor"]),
        *(["last third flattened"], ["oracle, last quarter"]),
    ]
    expected = [
        "| " + ", ".join(f"{100 * rows[name]['figures'][figure]['value']:.1f}" for name in names)
        for names in told
        for figure in ("chair_i", "recall")
    ]
    table = README.partition("**EAH and CLVA on it**")[2].partition("So on this model")[0]
    lines = [line.split(" | ", 1)[1] for line in table.splitlines() if re.match(r"\|.*\d", line)]
    assert [f"| {cell.strip(' |')}" for line in lines for cell in line.split(" | ")] == expected


def test_the_tree_shows_every_folder_of_the_package():
    (tree,) = [
        block for block in re.findall(r"^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL) if "minivlm/" in block
    ]
    folders = {file.parent.name for file in (ROOT / "minivlm").rglob("*") if file.is_file()} - {"__pycache__"}
    assert {"model", "drawings", "zoo"} < folders
    assert not [name for name in folders if f"{name}/" not in tree]
    assert "…" not in tree
