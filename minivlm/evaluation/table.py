"""The figures of a run as a table: for the terminal, for a model's card, and for the page.

A cell is a value in per cent, behind it the 95 % interval, or for a method beside plain, how far it lies from plain:

    11.5 [10.1, 12.9]        8.9 (-2.6 [-3.4, -1.9])*       the star, or bold type: clear of zero

Behind yes-no answers stands the p of McNemar's test: whether a method is right as often as plain on the same questions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
COUNTED = ("words",)  # figures that are no shares
TEST = "McNemar p"
SMALLEST = 0.001  # p that is told exactly


@dataclass(frozen=True)
class Cell:
    """One figure of one method, as text; what has no interval is a value alone."""

    value: str
    low: str = ""
    high: str = ""
    difference: str = ""  # from plain, with its sign; empty for plain itself
    clear: bool = False  # whether the interval of the difference leaves out 0
    same: bool = False  # whether no image made any difference
    spread: tuple[float, float, float] = ()  # low, value and high of the difference; empty for plain itself

    def __str__(self) -> str:
        if self.same or not self.low:
            return f"{self.value} (the same)" if self.same else self.value
        if not self.difference:
            return f"{self.value} [{self.low}, {self.high}]"
        return f"{self.value} ({self.difference} [{self.low}, {self.high}])"


@dataclass(frozen=True)
class Table:
    """Columns by title, a row for each method."""

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Cell, ...]]

    @property
    def parts(self) -> dict[str, dict[str, tuple[Cell, ...]]]:
        """The rows of the methods, and below them those of the controls."""
        parts = {"methods": {}, "controls": {}}
        for name, cells in self.rows.items():
            parts["controls" if name in CONTROLS else "methods"][name] = cells
        return {name: rows for name, rows in parts.items() if rows}


def tables(summary: Mapping, parser: str = "original") -> Iterator[Table]:
    """One table for CHAIR, one for each split of POPE, where `parser` says how yes and no are read."""
    methods = {name: method for name, method in ordered(summary["methods"]).items() if "figures" in method}
    figures = {name: method.get("parsers", {}).get(parser, method["figures"]) for name, method in methods.items()}
    if not figures:
        return
    if summary["task"] == "chair":
        yield table("captions (%)", CAPTIONS, figures)
        return
    first = next(iter(figures.values()))
    found = dict.fromkeys(key.rpartition(" ")[0] for key in first)
    for split in sorted(found, key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS)):
        columns = {f"{split} {key}".strip(): title for key, title in ANSWERS.items()}
        tests = {name: method.get("mcnemar", {}).get(parser, {}) for name, method in methods.items()}
        answers = table(f"is there …? {split} (%)".replace("  ", " "), columns, figures)
        yield with_test(answers, {name: test.get(split or "all") for name, test in tests.items()})


def table(title: str, columns: Mapping[str, str], figures: Mapping[str, Mapping]) -> Table:
    rows = {name: tuple(cell(own[key], key in COUNTED) for key in columns) for name, own in figures.items()}
    return Table(title, tuple(columns.values()), rows)


def with_test(table: Table, tests: Mapping[str, Mapping | None]) -> Table:
    """The table with McNemar's p behind each row; without that column if there is nothing to compare."""
    if not any(tests.values()):
        return table
    rows = {name: (*cells, Cell(probability(tests[name]))) for name, cells in table.rows.items()}
    return Table(table.title, (*table.columns, TEST), rows)


def probability(test: Mapping | None) -> str:
    """ "0.031", nothing without a test."""
    if not test:
        return ""
    return f"< {SMALLEST}" if test["p"] < SMALLEST else f"{test['p']:.3f}"


def ordered(methods: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """Plain first, then the methods, then the controls."""
    ranks = {name: rank for rank, name in enumerate(GROUPS["all"])}
    return dict(sorted(methods.items(), key=lambda item: ranks.get(item[0], len(ranks))))


def cell(figure: Mapping, counted: bool = False) -> Cell:
    """A figure as it stands in a summary."""
    scale = 1 if counted else 100
    value = f"{scale * figure['value']:.1f}"
    if "difference" not in figure:
        return Cell(value, *(f"{scale * figure[end]:.1f}" for end in ("low", "high")))
    spread = tuple(scale * figure["difference"][part] for part in ("low", "value", "high"))
    low, difference, high = map(signed, spread)
    clear, same = spread[0] > 0 or spread[2] < 0, spread[0] == spread[2] == 0
    return Cell(value, low, high, difference, clear, same, spread)


def signed(number: float) -> str:
    """ "-2.6", "+0.4"; what is rounded to zero has no sign."""
    text = f"{number:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


# --- as text --------------------------------------------------------------------------------------------------------


def as_text(summary: Mapping) -> str:
    """For the terminal: tables in columns of equal width, and what to know about them."""
    head = f"{summary['data']['name']}, {summary['images']:,} images, {summary['items']:,} questions"
    return "\n\n".join([head, *map(columns, tables(summary)), *notes(summary)])


def notes(summary: Mapping) -> list[str]:
    """What a reader of the tables must know: methods that did nothing, answers that nobody understood."""
    told = []
    for name, method in ordered(summary["methods"]).items():
        if count := method.get("untouched"):
            told.append(f"{name} changed nothing in {count:,} of {summary['items']:,} answers.")
        if count := method.get("unreadable"):
            told.append(f"{name}: {count:,} answers have neither a yes nor a no, and count as yes.")
    return told


def columns(table: Table) -> str:
    """One table, its columns of equal width."""
    lines: list[Sequence[str]] = [[table.title, *table.columns]]
    for part, rows in table.parts.items():
        lines += [["controls"]] if part == "controls" else []
        lines += [[name, *(f"{cell}{'*' if cell.clear else ''}" for cell in cells)] for name, cells in rows.items()]
    widths = [max(len(line[place]) for line in lines if place < len(line)) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=False)).rstrip() for line in lines
    )


def as_markdown(summary: Mapping) -> str:
    """For a card: the same as Markdown tables; what is clear of zero is bold."""
    return "\n".join(_markdown(one) for one in tables(summary))


def _markdown(table: Table) -> str:
    lines = [[table.title, *table.columns], ["---", *["---:"] * len(table.columns)]]
    for part, rows in table.parts.items():
        lines += [["*controls*", *[""] * len(table.columns)]] if part == "controls" else []
        lines += [[name, *map(_bold, cells)] for name, cells in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _bold(cell: Cell) -> str:
    return str(cell).replace(f"({cell.difference} ", f"(**{cell.difference}** ") if cell.clear else str(cell)
