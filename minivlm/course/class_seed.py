"""The seed of a class: a secret word, where it comes from, and what is computed from it.

Student code sees the numbers from which its inputs are drawn, and a teacher's table shows a fingerprint. From neither
can the word be guessed by trying a dictionary at speed: everything is computed from the word by way of a slow hash.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minivlm.errors import CourseError
from minivlm.files import one_line

VARIABLE = "MINIVLM_SEED"
ROUNDS = 300_000  # of the slow hash: a fraction of a second a word
SALT = b"minivlm course"
DIGITS = 8  # of a fingerprint
LONGEST = 10_000  # bytes of a file with the word


@dataclass(frozen=True)
class ClassSeed:
    """What the word became: 64 hex digits, as secret as the word."""

    secret: str

    @classmethod
    def of(cls, word: str) -> "ClassSeed":
        """The seed of a word."""
        return cls(hashlib.pbkdf2_hmac("sha256", word.encode("utf-8", "surrogatepass"), SALT, ROUNDS).hex())

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that tell two seeds apart and do not reveal them."""
        return self.derived("fingerprint").secret[:DIGITS]

    def of_student(self, student: str) -> "ClassSeed":
        """The seed of one student's inputs: the same for the same word and name, on every machine."""
        return self.derived(f"student/{student}")

    def derived(self, purpose: str) -> "ClassSeed":
        """A seed for one purpose, from which this one cannot be computed."""
        text = f"{self.secret}/{purpose}".encode("utf-8", "surrogatepass")
        return ClassSeed(hashlib.sha256(text).hexdigest())


def secret_word(typed: str | None, file: Path | None, environment: Mapping[str, str] = os.environ) -> str:
    """The word as it was typed, or from a file (white space around it does not count), or from the environment.

    Raises `CourseError` if there is none or two were given: which one counts must not be guessed.
    """
    if typed is not None and file is not None:
        raise CourseError("--seed and --seed-file were both given: leave one of them out.")
    if typed is not None:
        return typed
    word = word_of_file(file) if file is not None else environment.get(VARIABLE, "").strip()
    if not word and file is not None:
        raise CourseError(f"{file} is empty; expected the secret word in it.")
    if not word:
        raise CourseError(f"No seed. Give --seed-file FILE, or {VARIABLE} in the environment, or --seed SECRET.")
    return word


def word_of_file(file: Path) -> str:
    """The text of the file. Raises `CourseError` if it cannot be read, or is far too long for a word."""
    try:
        with file.open("rb") as stream:
            text = stream.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise CourseError(f"{file} has more than {LONGEST:,} bytes; expected one secret word in it.")
        return text.decode("utf-8-sig").strip()
    except (OSError, ValueError) as cause:
        raise CourseError(f"The seed in {file} cannot be read: {one_line(cause)}.") from cause
