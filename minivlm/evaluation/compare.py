"""Several runs side by side: only of the same task on the same data; every other difference between them is listed.

Figures of two runs can differ only because of what is in their cards, so the differences between the cards are shown
with the figures. Each method of each run is compared, image by image, with the first method of the first run (plain if
that run has it): by the paired bootstrap, and for yes-no answers, read as the original program reads them, by McNemar's
test too. Images that any of the runs could not read are left out of all. The wording of the questions may differ, since
its effect is worth comparing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from minivlm.errors import EvaluationError
from minivlm.evaluation.card import fingerprint, flat, read_card, shown
from minivlm.evaluation.counts import Part, entry, from_json, require_alike
from minivlm.evaluation.lines import OF_A_RUN, read_json
from minivlm.evaluation.summary import by_split, tidy
from minivlm.evaluation.table import columns, ordered, tables
from minivlm.files import harmless, one_line, printable

SAME = ("task", "data, name", "data, fingerprint", "words, name", "words, fingerprint")  # entries that must agree
LINE = 2000  # characters that are shown of a line with names from files
METHODS = "methods, "  # how the names of methods' settings begin in a flat card


@dataclass(frozen=True)
class Run:
    """A complete run: its card, as `flat` gives it, and what was counted in it (counts.py)."""

    name: str
    card: Mapping[str, Any]
    asked: str  # the fingerprint of its items, whatever their wording
    parts: Mapping[str, Part[str]]

    @classmethod
    def of(cls, folder: Path) -> "Run":
        """Read the run in `folder`. Raises `EvaluationError` if there is none or it is not complete."""
        for name in ("card.json", "counts.json"):
            if not (folder / name).is_file():
                raise EvaluationError(
                    f"'{folder}' has no {name}: a complete run of `minivlm evaluate chair` or `pope` was expected. "
                    "One that was stopped is completed by the same command with --resume."
                )
        card, counts = read_card(folder / "card.json", complete=True), read_json(folder / "counts.json", OF_A_RUN)
        try:
            asked, of_card = entry(counts, "asked", str), entry(counts, "card", str)
            if counts.get("task") != card["task"]:
                raise ValueError("'task' is another one than the card's")
            parts = from_json(counts, card["task"])
        except ValueError as cause:
            raise EvaluationError(
                f"'{folder / 'counts.json'}' holds no counts of a run: {one_line(cause)}. Run it anew."
            ) from cause
        if of_card != fingerprint(card):
            raise EvaluationError(f"'{folder}' holds the card of one run and the counts of another. Run it anew.")
        return cls(str(folder), dict(flat(card)), asked, parts)


def compare(folders: Sequence[Path]) -> dict[str, Any]:
    """Figures, tests, and differences between the cards of the complete runs in `folders`, in JSON types; see
    `as_text`.

    Raises `EvaluationError` if their data differ, and for a folder without a complete run.
    """
    runs = [Run.of(folder) for folder in folders]
    if not runs or len({folder.resolve() for folder in folders}) < len(runs):
        named = ", ".join(f"'{folder}'" for folder in folders) or "none"
        raise EvaluationError(f"A comparison needs different runs, each named once, found {named}.")
    require_same_data(runs)
    first = runs[0]
    parts = {split: joint(runs, split) for split in first.parts}
    images = {image for part in parts.values() for image in part.images}
    if not all(part.images for part in parts.values()) or not images:
        raise EvaluationError(
            "There is no image that all of these runs could read, so nothing can be compared. Each run's summary.json "
            "lists under `missing` what it could not read, and why."
        )
    scored = by_split(parts)
    methods: dict[str, dict] = {run.name: {} for run in runs}
    for (run, method), (figures, tests) in scored.items():
        methods[run][method] = {"figures": figures} | (
            {"mcnemar": {"original": tests}} if first.card["task"] == "pope" else {}
        )
    return tidy(
        {
            "task": first.card["task"],
            "data": first.card["data, name"],
            "images": len(images),
            "left_out": first.card["data, images"] - len(images),
            "against": next(iter(scored)),
            "order": [run.name for run in runs],
            "runs": methods,
            "differences": differences(runs),
        }
    )


def joint(runs: Sequence[Run], split: str) -> Part[tuple[str, str]]:
    """The counts of all runs by (run, method), on the images that all of them could read."""
    parts = [run.parts.get(split, Part((), {})) for run in runs]
    readable = reduce(set.intersection, (set(part.images) for part in parts))
    images = [image for image in parts[0].images if image in readable]
    try:
        require_alike((count for part in parts for count in part.of(images).methods.values()), "these runs")
    except ValueError as cause:
        raise EvaluationError(f"{', '.join(run.name for run in runs)}: {cause}. Run them anew.") from cause
    return Part(
        tuple(images),
        {
            (run.name, method): count
            for run, part in zip(runs, parts, strict=True)
            for method, count in ordered(part.of(images).methods).items()
        },
    )


def require_same_data(runs: Sequence[Run]) -> None:
    """Raise `EvaluationError` unless all runs are of one task, on the same images, with the same truth and words."""
    first, *others = runs
    for run in others:
        pairs = {name: (first.card.get(name), run.card.get(name)) for name in SAME}
        for name, (expected, found) in {**pairs, "the questions": (first.asked, run.asked)}.items():
            if found != expected:
                raise EvaluationError(
                    f"'{first.name}' and '{run.name}' cannot be compared: they differ in {name}, "
                    f"{shown(expected)} and {shown(found)}. Run both on the same data."
                )


def differences(runs: Sequence[Run]) -> dict[str, list]:
    """Entry of the cards -> its value in each run, None where a run has none; only entries that are not all equal.

    A method that some run does not have is no difference; its settings are compared between the runs that have it.
    """
    names = dict.fromkeys(name for run in runs for name in run.card if not name.startswith("data, "))
    different = {}
    for name in names:
        values = [run.card[name] for run in runs if name in run.card]
        missing = len(values) < len(runs) and not name.startswith(METHODS)
        if missing or any(value != values[0] for value in values):
            different[name] = [run.card.get(name) for run in runs]
    return different


def as_text(comparison: Mapping[str, Any]) -> str:
    """What `compare` returned, for the terminal: a table for each split, and what else differs."""
    rows = {
        f"{run} {method}": figures
        for run in comparison["order"]
        for method, figures in ordered(comparison["runs"][run]).items()
    }
    head = f"{comparison['data']}, {comparison['images']:,} images; differences to {' '.join(comparison['against'])}"
    if comparison["left_out"]:
        head += f"; {comparison['left_out']:,} images that some run could not read are left out"
    differ = [f"{name}: {' | '.join(map(shown, values))}" for name, values in comparison["differences"].items()]
    what = ["What else differs:", *differ] if differ else ["Nothing else differs."]
    body = map(columns, tables({"task": comparison["task"], "methods": rows}))
    return harmless("\n\n".join([printable(head, LINE), *body, "\n".join(printable(line, LINE) for line in what)]))
