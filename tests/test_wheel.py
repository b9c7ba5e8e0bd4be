"""The installed wheel, without the repository: it finds the shipped model, runs the demo, grades an assignment."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel is unpacked; beside it and before it nothing of the package can be found."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: install minivlm[test]")
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    done = subprocess.run(build, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = place.glob("*.whl")
    folder = place / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, folder: Path, *words: str) -> str:
    """What a command prints, with the wheel before all other packages."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(installed), "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package_is_the_wheels(installed, tmp_path):
    assert run(installed, tmp_path, "-c", "import minivlm; print(minivlm.__file__)").startswith(str(installed))


COMMANDS = """
from minivlm.__main__ import main

assert main(["demo", "--seed", "20", "--scenes", "1"]) == 0
print("=====")
assert main(["ask", "demo/scene-1.png", "Describe the image."]) == 0
print("=====")
assert main(["doctor"]) == 0
"""


def test_the_shipped_model_is_found_and_tells_what_it_sees(installed, tmp_path):
    """Three commands in one process; the test below starts each of its own."""
    _, said, found = run(installed, tmp_path, "-c", COMMANDS).split("=====\n")
    assert said.startswith("On a desk there is a laptop")
    assert str(installed) in found


def test_an_assignment_is_started_and_graded(installed, tmp_path):
    run(installed, tmp_path, "-m", "minivlm", "course", "start", "a6", "ada")
    assert (tmp_path / "ada" / "a6.ipynb").is_file()
    (tmp_path / "bob").mkdir()
    for file in ("stats.py", "evaluation/lexicon.py", "evaluation/chair.py", "evaluation/pope.py"):
        (tmp_path / "bob" / Path(file).name).write_bytes((installed / "minivlm" / file).read_bytes())
    grade = ["course", "grade", "ada", "bob", "--assignment", "a6", "--seed", "a word", "--out", "results"]
    run(installed, tmp_path, "-m", "minivlm", *grade)
    points = {name: json.loads((tmp_path / "results" / name / "results.json").read_text()) for name in ("ada", "bob")}
    assert {name: found["score"] for name, found in points.items()} == {"ada": 0, "bob": 100}
