"""The figures that `tests/on_gpu.sh` left in a folder, as one table: first token, tokens a second, of plain.

python tests/support/gpu_table.py FOLDER
"""

import json
import sys
from pathlib import Path

HEAD = f"{'':24}{'first token ms':>15}{'of plain':>10}{'tokens/s':>10}{'of plain':>10}"


def read(file: Path) -> dict:
    """The JSON of one part; empty if it was not written whole."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def rows(folder: Path) -> list[str]:
    """A line for each method and peer, by model."""
    lines = []
    for file in sorted(folder.glob("*.json")):
        for name, own in read(file).get("methods", {}).items():
            first, step = own["prefill"], own["decode"]
            numbers = 1e3 * first["seconds"]["median"], first["ratio"]["median"]
            more = 1 / step["seconds"]["median"], 1 / step["ratio"]["median"]
            label = f"{file.stem} {name}"
            lines.append(f"{label:24}{numbers[0]:15.2f}{numbers[1]:10.3f}{more[0]:10.1f}{more[1]:10.3f}")
        for name, own in read(file).get("kinds", {}).items():
            label = f"{file.stem.removesuffix('-peers')} HF {name}"
            known = "error" not in own
            figures = (
                f"{1e3 * own['first token s']:15.2f}{'':10}{own['tokens/s']:10.1f}" if known else f"  {own['error']}"
            )
            lines.append(f"{label:24}{figures}")
    return lines


if __name__ == "__main__":
    text = "\n".join([HEAD, *rows(Path(sys.argv[1]))])
    print(text)
    (Path(sys.argv[1]) / "table.txt").write_text(text + "\n", encoding="utf-8")
