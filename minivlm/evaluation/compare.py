"""Several runs side by side: only of the same task on the same data, and with what else differs between them told.

Figures of two runs differ by what is in their cards, so those differences stand beside the figures. Each method of each
run is held against the first method of the first run, which is plain if it has that, image by image: the paired
bootstrap, and for yes-no answers (as the original program reads them) McNemar's test as well. Images that any of the
runs could not read are left out of all. The words of the questions may differ, for their effect is a thing to compare.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from minivlm.errors import EvaluationError
from minivlm.evaluation.card import fingerprint, flat, shown
from minivlm.evaluation.counts import Part, from_json
from minivlm.evaluation.lines import read_json
from minivlm.evaluation.summary import by_split, tidy
from minivlm.evaluation.table import columns, ordered, tables

SAME = ("task", "data, name", "data, fingerprint", "words, name", "words, fingerprint")  # or figures mean other things
COMPARED = "methods, "  # a part of the card of which runs need not have the same


@dataclass(frozen=True)
class Run:
    """A complete run: its card, flat, and what was counted in it."""

    name: str
    card: Mapping[str, Any]
    asked: str  # a fingerprint of the items
    parts: Mapping[str, Part]

    @classmethod
    def of(cls, folder: Path) -> "Run":
        """Raises `EvaluationError` if it is not there or not complete."""
        for name in ("card.json", "counts.json"):
            if not (folder / name).is_file():
                raise EvaluationError(
                    f"'{folder}' has no {name}: a complete run of `minivlm evaluate chair` or `pope` was expected. "
                    "One that was stopped is completed by the same command with --resume."
                )
        card, counts = (read_json(folder / name) for name in ("card.json", "counts.json"))
        if counts.get("card") != fingerprint(card):
            raise EvaluationError(f"'{folder}' holds the card of one run and the counts of another. Run it anew.")
        return cls(str(folder), dict(flat(card)), counts["asked"], from_json(counts))


def compare(folders: Sequence[Path]) -> dict[str, Any]:
    """Figures, tests, and differences between the cards of complete runs, in JSON types; see `as_text`.

    Raises `EvaluationError` if their data differ.
    """
    runs = [Run.of(folder) for folder in folders]
    if not runs or len({folder.resolve() for folder in folders}) < len(runs):
        raise EvaluationError("A comparison needs different runs, each named once.")
    require_same_data(runs)
    first = runs[0]
    parts = {split: joint(runs, split) for split in first.parts}
    images = {image for part in parts.values() for image in part.images}
    if not all(part.images for part in parts.values()) or not images:
        raise EvaluationError("There is no image that all of these runs could read, so nothing can be compared.")
    found = by_split(parts)
    told: dict[str, dict] = {run.name: {} for run in runs}
    for (run, method), (figures, tests) in found.items():
        told[run][method] = {"figures": figures} | (
            {"mcnemar": {"original": tests}} if first.card["task"] == "pope" else {}
        )
    return tidy(
        {
            "task": first.card["task"],
            "data": first.card["data, name"],
            "images": len(images),
            "left_out": first.card["data, images"] - len(images),
            "against": next(iter(found)),
            "order": [run.name for run in runs],
            "runs": told,
            "differences": differences(runs),
        }
    )


def joint(runs: Sequence[Run], split: str) -> Part:
    """The methods of all runs, by (run, method), on the images that all of them could read."""
    own = [run.parts.get(split, Part((), {})) for run in runs]
    known = reduce(set.intersection, (set(part.images) for part in own))
    images = [image for image in own[0].images if image in known]
    return Part(
        tuple(images),
        {
            (run.name, method): count
            for run, part in zip(runs, own, strict=True)
            for method, count in ordered(part.of(images).methods).items()
        },
    )


def require_same_data(runs: Sequence[Run]) -> None:
    """Raise `EvaluationError` unless all runs are of one task, on the same images, with the same truth and words."""
    first, *others = runs
    for run in others:
        sides = [[*((name, one.card.get(name)) for name in SAME), ("the questions", one.asked)] for one in (first, run)]
        for (name, expected), (_, found) in zip(*sides, strict=True):
            if found != expected:
                raise EvaluationError(
                    f"'{first.name}' and '{run.name}' cannot be compared: they differ in {name}, "
                    f"{shown(expected)} and {shown(found)}. Run both on the same data."
                )


def differences(runs: Sequence[Run]) -> dict[str, list]:
    """What is not the same in all cards, with the value of each run, None where it has none.

    Of a method its settings, between the runs that have it.
    """
    names = dict.fromkeys(name for run in runs for name in run.card if not name.startswith("data, "))
    found = {}
    for name in names:
        values = [run.card[name] for run in runs if name in run.card]
        missing = len(values) < len(runs) and not name.startswith(COMPARED)
        if missing or any(value != values[0] for value in values):
            found[name] = [run.card.get(name) for run in runs]
    return found


def as_text(found: Mapping[str, Any]) -> str:
    """For the terminal: a table for each split, and what else differs."""
    rows = {f"{run} {method}": told for run in found["order"] for method, told in ordered(found["runs"][run]).items()}
    head = f"{found['data']}, {found['images']:,} images; differences to {' '.join(found['against'])}"
    head += f"; {found['left_out']:,} images that some run could not read are left out" if found["left_out"] else ""
    differ = [f"{name}: {' | '.join(map(shown, values))}" for name, values in found["differences"].items()]
    what = ["What else differs:", *differ] if differ else ["Nothing else differs."]
    body = map(columns, tables({"task": found["task"], "methods": rows}))
    return "\n\n".join([head, *body, "\n".join(what)])
