"""Several runs side by side: only of the same task on the same data, and with what else differs between them told.

Figures of two runs differ by what is in their cards, so those differences stand beside the figures. Each method of each
run is held against the first method of the first run, image by image: the paired bootstrap, and for yes-no answers
McNemar's test as well.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from minivlm.checkpoints import read_json_file
from minivlm.errors import EvaluationError
from minivlm.evaluation.card import flat
from minivlm.evaluation.table import cell, ordered

FIGURES = {"chair": ("chair_s", "chair_i", "recall", "words"), "pope": ("accuracy", "f1", "yes_ratio")}
SAME = ("task", "data, fingerprint", "data, items' fingerprint", "words, fingerprint")  # or figures mean other things
DATA = ("data, ", "methods, ")  # parts of a card that are told elsewhere


def compare(runs: Sequence[Path]) -> dict:
    """Cards' differences and figures of complete runs, in JSON types. Raises `EvaluationError` if their data differ."""
    cards = {str(run): dict(flat(_read(run, "card.json"))) for run in runs}
    if len(cards) < len(runs) or not runs:
        raise EvaluationError("A comparison needs different runs, each named once.")
    (first, base), *others = cards.items()
    for run, card in others:
        for name in SAME:
            if card.get(name) != base.get(name):
                raise EvaluationError(
                    f"'{run}' and '{first}' cannot be compared: they differ in {name} "
                    f"({str(base.get(name))[:40]!r} and {str(card.get(name))[:40]!r}). Run both on the same data."
                )
    names = dict.fromkeys(name for card in cards.values() for name in card if not name.startswith(DATA))
    differ = {name: [card.get(name) for card in cards.values()] for name in names}
    return {
        "task": base["task"],
        "data": base["data, name"],
        "runs": {run: _read(Path(run), "summary.json")["methods"] for run in cards},
        "differences": {name: values for name, values in differ.items() if any(value != values[0] for value in values)},
    }


def _read(run: Path, name: str) -> dict:
    if not (run / name).is_file():
        raise EvaluationError(
            f"'{run}' has no {name}: a complete run of `minivlm evaluate chair` or `pope` was expected."
        )
    return read_json_file(run / name, EvaluationError)


def as_text(found: Mapping) -> str:
    """For the terminal."""
    lines = [[found["data"]]]
    for run, methods in found["runs"].items():
        for name, method in ordered(methods).items():
            figures = {
                key: figure
                for key, figure in method.get("figures", {}).items()
                if key.split()[-1] in FIGURES[found["task"]]
            }
            if len(lines) == 1:
                lines[0] += list(figures)
            values = [
                cell({k: v for k, v in figure.items() if k != "difference"}, key == "words")
                for key, figure in figures.items()
            ]
            lines.append([f"{run} {name}", *map(str, values)])
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    table = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    differences = [f"{name}: {', '.join(map(str, values))}" for name, values in found["differences"].items()]
    return "\n".join([*table, "", "What else differs:", *(differences or ["nothing"])])
