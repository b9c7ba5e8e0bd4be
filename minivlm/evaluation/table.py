"""The figures of a run as a table: for the terminal, for a model's card, and for the HTML page.

A cell has a value in per cent and its 95 % interval; for methods other than plain, the difference from plain and its:

    11.5 [10.1, 12.9]        8.9 (-2.6 [-3.4, -1.9])*       the star, or bold type: the interval leaves out 0

The last column of POPE is the p of McNemar's test: whether a method is right as often as plain on the same questions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from minivlm.evaluation.pope import SPLITS
from minivlm.evaluation.settings import CONTROLS, GROUPS

CAPTIONS = {
    "chair_s": "CHAIR_s",
    "chair_i": "CHAIR_i",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "words": "words",
}
ANSWERS = {"accuracy": "accuracy", "f1": "F1", "precision": "precision", "recall": "recall", "yes_ratio": "yes"}
COUNTED = ("words",)  # figures that are not shares
TEST = "McNemar p"
SMALLEST = 0.001  # a smaller p is written as "< 0.001"
Method = TypeVar("Method")


@dataclass(frozen=True)
class Cell:
    """One figure of one method, as text."""

    value: str
    low: str = ""  # the interval: of the difference, or for plain itself of the value; empty if there is none
    high: str = ""
    difference: str = ""  # from plain, with its sign; empty for plain itself
    clear: bool = False  # whether the interval of the difference leaves out 0
    same: bool = False  # whether it is the same as plain's on every image
    spread: tuple[float, ...] = ()  # low, value and high of the difference; empty for plain itself

    def __str__(self) -> str:
        if self.same or not self.low:
            return f"{self.value} (the same)" if self.same else self.value
        if not self.difference:
            return f"{self.value} [{self.low}, {self.high}]"
        return f"{self.value} ({self.difference} [{self.low}, {self.high}])"


@dataclass(frozen=True)
class Table:
    """The titles of the columns, and a row of cells for each method."""

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Cell, ...]]

    @property
    def parts(self) -> dict[str, dict[str, tuple[Cell, ...]]]:
        """The rows of the methods, then those of the controls; a part without rows is left out."""
        parts: dict[str, dict[str, tuple[Cell, ...]]] = {"methods": {}, "controls": {}}
        for name, cells in self.rows.items():
            parts["controls" if name in CONTROLS else "methods"][name] = cells
        return {name: rows for name, rows in parts.items() if rows}


def tables(summary: Mapping[str, Any], parser: str = "original") -> Iterator[Table]:
    """One table for CHAIR, or one for each split of POPE; `parser`: that of POPE, see `pope.PARSERS`."""
    methods = {name: method for name, method in ordered(summary["methods"]).items() if "figures" in method}
    figures = {name: method.get("parsers", {}).get(parser, method["figures"]) for name, method in methods.items()}
    if not figures:
        return
    if summary["task"] == "chair":
        yield table("captions (%)", CAPTIONS, figures)
        return
    first = next(iter(figures.values()))
    splits = dict.fromkeys(key.rpartition(" ")[0] for key in first)
    for split in sorted(splits, key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS)):
        columns = {f"{split} {key}".strip(): title for key, title in ANSWERS.items()}
        tests = {name: method.get("mcnemar", {}).get(parser, {}) for name, method in methods.items()}
        answers = table(f"is there …? {split} (%)".replace("  ", " "), columns, figures)
        yield with_test(answers, {name: test.get(split or "all") for name, test in tests.items()})


def table(title: str, columns: Mapping[str, str], figures: Mapping[str, Mapping[str, Any]]) -> Table:
    """A table of `figures` (method -> figure -> as in a summary); `columns`: figure -> title of its column."""
    rows = {name: tuple(cell(values[key], key in COUNTED) for key in columns) for name, values in figures.items()}
    return Table(title, tuple(columns.values()), rows)


def with_test(table: Table, tests: Mapping[str, Mapping[str, float] | None]) -> Table:
    """The table with McNemar's p as last column; unchanged if no method has a test."""
    if not any(tests.values()):
        return table
    rows = {name: (*cells, Cell(probability(tests[name]))) for name, cells in table.rows.items()}
    return Table(table.title, (*table.columns, TEST), rows)


def probability(test: Mapping[str, float] | None) -> str:
    """The p of a test, as in "0.031"; empty without a test."""
    if not test:
        return ""
    return f"< {SMALLEST}" if test["p"] < SMALLEST else f"{test['p']:.3f}"


def ordered(methods: Mapping[str, Method]) -> dict[str, Method]:
    """The entries by method: plain first, then the methods, then the controls, then all others."""
    ranks = {name: rank for rank, name in enumerate(GROUPS["all"])}
    return dict(sorted(methods.items(), key=lambda item: ranks.get(item[0], len(ranks))))


def cell(figure: Mapping[str, Any], counted: bool = False) -> Cell:
    """The cell of a figure of a summary, in per cent unless it is `counted`."""
    scale = 1 if counted else 100
    value = f"{scale * figure['value']:.1f}"
    if "difference" not in figure:
        low, high = (f"{scale * figure[end]:.1f}" for end in ("low", "high"))
        return Cell(value, low, high)
    spread = tuple(scale * figure["difference"][part] for part in ("low", "value", "high"))
    low, difference, high = map(signed, spread)
    clear, same = spread[0] > 0 or spread[2] < 0, spread[0] == spread[2] == 0
    return Cell(value, low, high, difference, clear, same, spread)


def signed(number: float) -> str:
    """A number with its sign and one decimal, as in "-2.6" and "+0.4"; without a sign if it is rounded to zero."""
    text = f"{number:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


# --- as text --------------------------------------------------------------------------------------------------------


def as_text(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal: tables in aligned columns, and notes about them."""
    head = f"{summary['data']['name']}, {summary['images']:,} images, {summary['items']:,} questions"
    return "\n\n".join([head, *map(columns, tables(summary)), *notes(summary)])


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader of the tables must know: answers that a method did not change, answers without yes or no."""
    sentences = []
    for name, method in ordered(summary["methods"]).items():
        if count := method.get("untouched"):
            sentences.append(f"{name} changed nothing in {count:,} of {summary['items']:,} answers.")
        if count := method.get("unreadable"):
            sentences.append(f"{name}: {count:,} answers have neither a yes nor a no, and count as yes.")
    return sentences


def columns(table: Table) -> str:
    """One table as text with aligned columns."""
    lines: list[Sequence[str]] = [[table.title, *table.columns]]
    for part, rows in table.parts.items():
        lines += [["controls"]] if part == "controls" else []
        lines += [[name, *(f"{cell}{'*' if cell.clear else ''}" for cell in cells)] for name, cells in rows.items()]
    widths = [max(len(line[place]) for line in lines if place < len(line)) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=False)).rstrip() for line in lines
    )


def as_markdown(summary: Mapping[str, Any]) -> str:
    """The tables of a summary in Markdown, for a card; a difference whose interval leaves out 0 is bold."""
    return "\n".join(markdown(one) for one in tables(summary))


def markdown(table: Table) -> str:
    """One table in Markdown."""
    lines = [[table.title, *table.columns], ["---", *["---:"] * len(table.columns)]]
    for part, rows in table.parts.items():
        lines += [["*controls*", *[""] * len(table.columns)]] if part == "controls" else []
        lines += [[name, *map(emphasized, cells)] for name, cells in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def emphasized(cell: Cell) -> str:
    """A cell in Markdown, its difference bold if the interval leaves out 0."""
    return str(cell).replace(f"({cell.difference} ", f"(**{cell.difference}** ") if cell.clear else str(cell)
