"""A class in numbers: how the points are distributed, which test was hardest, how long grading took."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

from minivlm.course.assignments import Assignment
from minivlm.files import write_text

STATISTICS = "statistics.txt"
BINS = 10
BAR = 40  # characters of the longest bar


def statistics(row: Assignment, students: Sequence[dict[str, str]]) -> str:
    """A text about the lines of the table; "" for none. Students without any points count, too."""
    if not students:
        return ""
    points = [number(student["points"]) for student in students]
    late = sum(number(student["late"]) > 0 for student in students)
    lines = [
        f"{row.name} · {row.title}: {len(students)} {'student' if len(students) == 1 else 'students'}",
        f"points of {row.points}: mean {mean(points):.1f}, median {median(points):g}, "
        f"from {min(points):g} to {max(points):g}; {points.count(0)} without any, {late} with points off for lateness",
        "",
        *histogram(points, row.points),
        "",
        "tests, the hardest first: mean share of their points, and who has all of them",
        *tests(row, students),
        "",
        times(students),
    ]
    return "\n".join(lines)


def histogram(points: Sequence[float], most: int) -> list[str]:
    """A line for each tenth of the points, with as many students as have so many; all of the points are in the last."""
    counts = [0] * BINS
    for value in points:
        counts[min(BINS - 1, max(0, int(value / most * BINS)))] += 1
    unit = max(1.0, max(counts) / BAR)
    bounds = [(most * place / BINS, most * (place + 1) / BINS) for place in range(BINS)]
    return [
        f"  {low:5g} to {high:5g} {count:4} {'#' * round(count / unit)}".rstrip()
        for (low, high), count in zip(bounds, counts, strict=True)
    ]


def tests(row: Assignment, students: Sequence[dict[str, str]]) -> list[str]:
    """A line for each test, the one with the smallest share of its points first."""
    shares = []
    for task in row.tasks:
        found = [number(student[task.test]) for student in students]
        whole = sum(value >= task.points for value in found)
        shares.append((mean(found) / task.points if task.points else 1.0, task.test, whole))
    return [f"  {share:5.0%}  {whole:4} of {len(students)}  {test}" for share, test, whole in sorted(shares)]


def times(students: Sequence[dict[str, str]]) -> str:
    """A line about the seconds that students' tests took."""
    seconds = {student["student"]: number(student["seconds"]) for student in students}
    slowest = max(seconds, key=lambda student: seconds[student])
    return f"seconds in tests: median {median(seconds.values()):.1f}, most {seconds[slowest]:.1f} ({slowest})"


def number(cell: str) -> float:
    """The number in a cell; 0 for what is none, such as a cell that somebody emptied by hand."""
    try:
        return float(cell)
    except ValueError:
        return 0.0


def write_statistics(row: Assignment, students: Sequence[dict[str, str]], out: Path) -> Path:
    """Write the text into the folder of results; returns its path."""
    write_text(out / STATISTICS, statistics(row, students) + "\n")
    return out / STATISTICS
