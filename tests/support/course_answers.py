"""Known answers to an assignment: wrong ones turn some tests red and leave others green, right ones pass them all.

    WRONG = {"no sign": ("rotate", (IN_ROTATE, "torch.cat((-second, first), dim=-1)", "torch.cat((second, first), …"))}

A wrong answer tells which tests must go red (others may), and then which exchanges make it: where (file and function),
the old piece of code and the new one, see `support.mutants`. A right answer is its exchanges alone. A word for a test
is its name without `test_`, or a part that several names have: one of these at least must go red.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from minivlm.course.verdict import RIGHT, WRONG, Verdict
from support.course_tools import HOLLOW, SEED, WHOLE, Changes, states, verdicts
from support.mutants import Exchange, sources

Place = tuple[str, str]  # file and function
Found = Mapping[str, dict[str, Verdict]]  # by answer and test


def changed(*exchanges: tuple[Place, str, str]) -> Changes:
    """The files of the package with some exchanges made."""
    return sources(Exchange(file, function, old, new) for (file, function), old, new in exchanges)


@dataclass(frozen=True)
class Answers:
    """What is known of an assignment. `tables`: by what they are about, wrong answers and, for all of them, sentinels:
    the words for two tests that must stay green, so that no answer is red because nothing runs."""

    name: str
    tests: frozenset[str]  # those that no limits of time and memory are about
    tables: Mapping[str, tuple[Mapping[str, tuple], str]]
    right: Mapping[str, tuple]

    @cached_property
    def wrong(self) -> dict[str, tuple]:
        """The wrong answers of all tables, as "rotate: no sign"."""
        return {f"{about}: {name}": row for about, (table, _) in self.tables.items() for name, row in table.items()}

    def sentinels(self, name: str) -> str:
        """The words for what must stay green under a wrong answer."""
        return self.tables[name.split(": ")[0]][1]

    def judged(self, wrong: Iterable[str] | None = None, seed: str = SEED) -> Found:
        """Verdicts on all answers, or on some (the `wrong` and every fourth right one), and on WHOLE and HOLLOW.

        A wrong answer runs the tests that must go red and its sentinels, all others run every test.
        """
        chosen = {name: self.wrong[name] for name in (self.wrong if wrong is None else wrong)}
        versions = {name: changed(*row[1:]) for name, row in chosen.items()}
        right = [*self.right][:: 1 if wrong is None else 4]
        versions |= {name: changed(*self.right[name]) for name in right} | {WHOLE: WHOLE, HOLLOW: HOLLOW}
        tests = dict.fromkeys(versions, self.tests) | {name: self.needed(name) for name in chosen}
        return verdicts(self.name, versions, tests, seed)

    def needed(self, name: str) -> set[str]:
        """The tests that a wrong answer runs."""
        words = f"{self.wrong[name][0]} {self.sentinels(name)}".split()
        return {test for word in words for test in self.called(word)}

    def called(self, word: str) -> set[str]:
        """The test of that name, or those with that part in their names."""
        found = {f"test_{word}"} & self.tests or {test for test in self.tests if word in test}
        assert found, f"{self.name} has no test {word}"
        return found

    def check_wrong(self, found: Found, name: str) -> None:
        """What must go red is red, what must stay green is green."""
        state = states(found, name)
        for word in self.wrong[name][0].split():
            assert WRONG in {state[test] for test in self.called(word)}, f"{name}: {word} is not red"
        for word in self.sentinels(name).split():
            assert {state[test] for test in self.called(word)} == {RIGHT}, f"{name}: {word} is not green"
