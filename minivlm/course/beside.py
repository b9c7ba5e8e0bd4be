"""What a student's code took in a test, beside what the package took when the folder was made."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from minivlm.course.outcome import Outcome
from minivlm.course.verdict import RIGHT, Verdict
from minivlm.errors import CourseError
from minivlm.files import read_json_file, write_json

FILE = "took.json"
LARGEST = 100_000  # bytes of it


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and megabytes at the most; None where the system does not tell."""

    seconds: float
    megabytes: float | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> "Took":
        return cls(outcome.seconds, outcome.megabytes)

    def __str__(self) -> str:
        """ "0.41 s, 12 MB" """
        return f"{self.seconds:.2f} s" + ("" if self.megabytes is None else f", {self.megabytes:.0f} MB")


def save_took(took: Mapping[str, Took], folder: Path) -> None:
    """Write what the package took in each test beside its expected values."""
    rounded = {test: [round(one.seconds, 3), one.megabytes and round(one.megabytes, 1)] for test, one in took.items()}
    write_json(folder / FILE, rounded, indent=1)


def read_took(folder: Path) -> dict[str, Took]:
    """What `save_took` wrote; nothing for a folder without it, or if it is damaged: no points depend on it."""
    try:
        return {test: Took(float(took[0]), took[1] and float(took[1])) for test, took in entries(folder).items()}
    except (CourseError, ValueError, TypeError, IndexError, KeyError):
        return {}


def entries(folder: Path) -> dict:
    """The file's entries, empty without a file. Raises `CourseError` for a file that cannot be read."""
    file = folder / FILE
    found = read_json_file(file, CourseError, LARGEST) if file.is_file() else {}
    return found if isinstance(found, dict) else {}


def beside(verdict: Verdict, outcome: Outcome, package: Took | None) -> Verdict:
    """The verdict on a test that is right, with what it took and what the package took; any other as it is."""
    if verdict.state != RIGHT or package is None:
        return verdict
    return replace(verdict, took=f"{Took.of(outcome)}; the package took {package}")
