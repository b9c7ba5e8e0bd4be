"""Write another address of the repository into every file that names it.

    python .github/set_repository.py NAME/REPOSITORY

`Repository` in pyproject.toml holds the address; badges, install lines and the citation repeat it.
"""

import re
import subprocess
import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "https://github.com/"
NAME = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+")


def current() -> str:
    """The repository as pyproject.toml names it, such as "minivlm/minivlm"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].removeprefix(PREFIX)


def mentions(repository: str) -> re.Pattern:
    """Its address, or the path that Colab gives it; but no longer name that begins alike."""
    return re.compile(rf"(github(?:\.com)?/){re.escape(repository)}(?![A-Za-z0-9-])")


def tracked_files() -> list[Path]:
    """The text files that are under version control."""
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True, text=True
    ).stdout
    suffixes = {".md", ".ipynb", ".toml", ".cff", ".yml", ".py"}
    return [ROOT / name for name in names.split("\0") if Path(name).suffix in suffixes]


def set_repository(old: str, new: str) -> list[Path]:
    """Replace one address by another; returns the files that changed."""
    changed = []
    for file in tracked_files():
        text = file.read_text(encoding="utf-8")
        if (renamed := mentions(old).sub(rf"\g<1>{new}", text)) != text:
            file.write_text(renamed, encoding="utf-8")
            changed.append(file)
    return changed


if __name__ == "__main__":
    if len(sys.argv) != 2 or not NAME.fullmatch(sys.argv[1]):
        sys.exit(f"Usage: python .github/set_repository.py NAME/REPOSITORY (now {current()}).")
    for file in set_repository(current(), sys.argv[1]):
        print(file.relative_to(ROOT))
