"""What others take for the same, beside the figures of a bench: a script of the user's, run as a process of its own.

The script (`tests/peers.py` measures transformers) is called with a checkpoint's folder and the settings of the bench,
and prints JSON: under "kinds", for each kind of peer, "first token s" and "tokens/s", or an "error". So the package
itself never imports what it is compared with.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minivlm.errors import ConfigError
from minivlm.files import parse_json, path_of
from minivlm.inference.vlm import VLM

LONGEST = 300  # characters of what a failed script said


def measure_peers(script: str | Path, vlm: VLM, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of `script`, measured with the model and settings of the bench `facts`.

    If it fails, or prints something else, an "error" stands in place of its figures: those of the bench are not lost.
    """
    assert vlm.report is not None  # a model that was loaded from files
    settings = {"device": vlm.device.type, **{name: facts[name] for name in ("dtype", "prompt", "new", "repeats")}}
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(path_of(script, ConfigError)), str(vlm.report.path), *options]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        return failed(script, f"{script} ended with {ran.returncode}: {ran.stderr.strip()[-LONGEST:]}")
    try:
        return {"kinds": {name: dict(own) for name, own in parse_json(ran.stdout.encode())["kinds"].items()}}
    except (ValueError, KeyError, TypeError, AttributeError):
        return failed(script, f"{script} must print JSON with `kinds`, found {ran.stdout[:LONGEST]!r}.")


def failed(script: str | Path, sentence: str) -> dict[str, Any]:
    """What stands in place of the figures of a script that failed."""
    return {"kinds": {Path(script).stem: {"error": sentence}}}


def require_script(path: str | None) -> None:
    """Raise `ConfigError` if `path` is given and no file is there: before anything is measured."""
    if path is not None and not path_of(path, ConfigError).is_file():
        raise ConfigError(f"--peers must name a script such as tests/peers.py, found {path!r}: no such file.")


def peers_text(facts: Mapping[str, Any]) -> list[str]:
    """A line for each peer of a bench: its times, and plain's times as shares of them."""
    plain, lines = facts["methods"]["plain"], []
    if facts["weights"]:
        lines.append(f"the peers were not told of {facts['weights']}, which plain has: they read the files as they are")
    first, step = (plain[phase]["seconds"]["median"] for phase in ("prefill", "decode"))
    for name, own in facts["peers"]["kinds"].items():
        if "error" in own:
            lines.append(f"{name}: {own['error']}")
            continue
        lines.append(
            f"{name}: first token {1e3 * own['first token s']:.2f} ms, of which plain takes "
            f"{first / own['first token s']:.2f}; {1e3 / own['tokens/s']:.2f} ms a token, of which plain takes "
            f"{step * own['tokens/s']:.2f}"
        )
    return lines
