"""`tests/on_gpu.sh`: what it runs on a GPU must be runnable on a bare machine, and its other parts run here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LACKING = ("simplemma", "open_clip", "nbclient", "nbformat", "jupyter", "ipykernel", "xdist", "scipy", "pandas")
COLLECT = f"""
import sys
sys.modules |= dict.fromkeys({LACKING}, None)  # so that to import one of them fails
import pytest
sys.exit(pytest.main(["-q", "--collect-only", "-m", "cuda", "-o", "addopts=", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_files_with_tests_for_a_gpu_import_nothing_that_a_bare_machine_lacks():
    files = [file for file in sorted((ROOT / "tests").glob("test_*.py")) if "mark.cuda" in file.read_text("utf-8")]
    files.remove(Path(__file__))
    assert len(files) >= 3
    command = [sys.executable, "-c", COLLECT, *map(str, files)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=plugins_off())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert all(file.name in ran.stdout for file in files)


def plugins_off() -> dict[str, str]:
    """The environment without pytest's plugins from elsewhere: a bare machine has none."""
    return {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_all_parts_run_dry(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable}
    command = ["bash", "tests/on_gpu.sh", "--dry", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert ran.returncode == 0, ran.stdout
    assert set(json.loads((tmp_path / "tiny-peers.json").read_text())["kinds"]) == {"sdpa", "eager", "eah"}
    table = (tmp_path / "table.txt").read_text()
    assert all(
        f"tiny {name}" in table for name in ("plain", "eah", "clva", "both", "trace", "HF sdpa", "HF eager", "HF eah")
    )
