"""A student's folder: where it is, which assignment it is for, and whether anything was written in it yet."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from minivlm.course.assignments import Assignment, assignment
from minivlm.errors import CourseError
from minivlm.files import read_json_file

NOTE = "assignment.json"
LARGEST_NOTE = 10_000  # bytes of it; it has about 400


@dataclass(frozen=True)
class Folder:
    """A student's folder, as it was started or as it was handed in."""

    path: Path
    assignment: Assignment
    begun_with: Mapping[str, str] = field(default_factory=dict)  # digests of the files to write, as handed out

    @classmethod
    def read(cls, path: Path) -> "Folder":
        """Read which assignment a folder was started for. Raises `CourseError` if it does not say so."""
        note = path / NOTE
        if not os.path.isfile(note):  # False, too, where the folder may not be read
            raise CourseError(
                f"{path} has no {NOTE}: it is no folder of an assignment. Begin one with `minivlm course start a1 DIR` "
                "and check inside it."
            )
        try:
            content = read_json_file(note, CourseError, LARGEST_NOTE)
            name, digests = content["assignment"], content.get("begun_with", {})
        except (CourseError, KeyError) as cause:
            raise CourseError(f'{note} is damaged: expected {{"assignment": "a1"}} or another name in it.') from cause
        return cls(path, assignment(str(name)), digests if isinstance(digests, dict) else {})

    @property
    def is_untouched(self) -> bool:
        """Whether all files to write are as they were handed out: then nothing needs to be run."""
        files = self.assignment.handed_in
        return all(self.begun_with.get(name) == digest(self.path / name) for name in files)


def digest(file: Path) -> str:
    """The SHA-256 of a file; "" if there is none."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
