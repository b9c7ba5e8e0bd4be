"""A hint: three rungs, from a question to a solution in plain words."""

from dataclasses import dataclass
from inspect import cleandoc

LEVELS = ("question", "pointer", "near-solution")  # rungs 1, 2 and 3


@dataclass(frozen=True)
class Hint:
    """The rungs for one test."""

    question: str  # to be answered without looking anything up
    pointer: str  # where the answer can be read: a place in the handout, a lecture, a paper or a docstring
    near_solution: str  # the steps in plain words, in order; never a line of the solution

    def rungs(self, level: int) -> list[str]:
        """The lines of the rungs 1 to `level`, each with its name."""
        texts = (self.question, self.pointer, self.near_solution)[:level]
        lines = []
        for number, (name, text) in enumerate(zip(LEVELS[:level], map(cleandoc, texts), strict=True), 1):
            first, *rest = text.splitlines()
            alone = f"Hint {number}, a {name}:"
            lines += [f"{alone} {first}"] if not rest else [alone, *(f"  {line}" for line in (first, *rest))]
        return lines
