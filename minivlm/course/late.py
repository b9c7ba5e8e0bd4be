"""What is handed in late: when a student handed in, how late that is, and what it costs.

Times of files are what their author's computer or an unpacking program wrote there. They can be forged, and are lost
when files are copied. A file of times from the platform is better evidence.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from minivlm.course.archive import newest, only_zip
from minivlm.errors import CourseError, brief
from minivlm.files import one_line

POLICY = re.compile(r"(\d+(?:\.\d+)?)%/(hour|day|week)")
UNITS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
LARGEST = 10_000_000  # bytes of a file of times


@dataclass(frozen=True)
class Lateness:
    """When one student handed in, and what that costs."""

    at: datetime | None = None  # None: not known
    by: timedelta = timedelta(0)
    share: float = 0.0  # of the points that is taken off, from 0 to 1
    note: str = ""


@dataclass(frozen=True)
class Policy:
    """When it is due, and what share of the points each begun unit of time costs. Without `due` nothing is late."""

    due: datetime | None = None
    share: float = 0.0
    unit: str = "day"
    times: Mapping[str, datetime] | None = field(default=None, compare=False)  # by student; None: times of files

    def __str__(self) -> str:
        """ "10%/day after 2026-12-01T23:59:00+01:00", "" without a due date."""
        return f"{self.share:g}%/{self.unit} after {self.due.isoformat()}" if self.due else ""

    def of(self, student: str, folder: Path, names: Sequence[str]) -> Lateness:
        """How late a student is who handed in the files `names` in `folder`, a folder or a zip file."""
        if self.due is None:
            return Lateness()
        at = handed_in(folder, names) if self.times is None else self.times.get(student)
        if at is None:
            why = "no file has a time" if self.times is None else "the file of times does not name this student"
            return Lateness(note=f"Not known when it was handed in: {why}. Counted as in time.")
        by = at - self.due
        if by <= timedelta(0):
            return Lateness(at)
        share = min(1.0, self.share / 100 * math.ceil(by / UNITS[self.unit]))
        took = f": {100 * share:g}% of the points are taken off" if share else ""
        return Lateness(at, by, share, f"Late by {words(by)}{took}.")


def policy_of(due: str | None, late: str | None, times: Path | None) -> Policy:
    """The policy of --due, --late and --times. Raises `CourseError` for what cannot be read, or --late alone."""
    if due is None:
        if late is not None or times is not None:
            raise CourseError("--late and --times say what is late and what that costs: give --due TIME, too.")
        return Policy()
    when = moment(due)
    if when is None:
        raise CourseError(
            f"--due {brief(due)} is no time; expected one such as 2026-12-01T23:59 or with +01:00 behind."
        )
    found = POLICY.fullmatch("0%/day" if late is None else late)
    if found is None or float(found[1]) > 100:
        raise CourseError(f"--late {brief(late)} cannot be read; expected a share a time, such as 10%/day or 2%/hour.")
    return Policy(when, float(found[1]), found[2], None if times is None else times_of(times))


def moment(text: str) -> datetime | None:
    """A time in ISO 8601, in this machine's time zone unless it names another; None if it is no time."""
    try:
        return datetime.fromisoformat(text.strip().replace("Z", "+00:00")).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def times_of(file: Path) -> dict[str, datetime]:
    """Times by student, from a table with the columns student and time. Raises `CourseError` if it cannot be read."""
    try:
        if file.stat().st_size > LARGEST:
            raise CourseError(f"{file} has more than {LARGEST:,} bytes; expected a table of students and times.")
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = [*csv.DictReader(stream)]
    except (OSError, ValueError, csv.Error) as cause:
        raise CourseError(f"{file} cannot be read as a table: {one_line(cause)}.") from cause
    found: dict[str, datetime] = {}
    for number, line in enumerate(lines, 2):
        name, when = line.get("student"), moment(line.get("time") or "")
        if not name or when is None or name in found:
            raise CourseError(
                f"{file}, entry {number}: expected a student, once, and a time such as 2026-12-01T23:59 in the columns "
                f"student and time, found {brief(line)}."
            )
        found[name] = when
    return found


def handed_in(folder: Path, names: Sequence[str]) -> datetime | None:
    """The newest time of the files that count: those in the folder, or in the only zip file there. None if none is."""
    places = [folder.joinpath(*Path(name).parts[first:]) for name in names for first in range(len(Path(name).parts))]
    times = [path.stat().st_mtime for path in places if not path.is_symlink() and path.is_file()]
    if times:
        return datetime.fromtimestamp(max(times), timezone.utc).astimezone()
    archive = only_zip(folder)
    packed = newest(archive, names) if archive else None
    try:
        return datetime(*packed).astimezone() if packed else None  # type: ignore[arg-type]
    except (ValueError, OverflowError):  # the archive states an impossible day
        return None


def words(span: timedelta) -> str:
    """ "2 days 3 h", "3 h 20 min" or "5 min"."""
    minutes = math.ceil(span / timedelta(minutes=1))
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} {'day' if days == 1 else 'days'} {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
