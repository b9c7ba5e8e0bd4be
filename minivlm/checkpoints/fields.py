"""A JSON object that checks the types of its values, and remembers the defaults that it filled in; and the check of a
file's fields by a table (`field_table.py`), so that none is passed over in silence.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from minivlm.errors import ConfigError
from minivlm.files import listed, printable, shown

ASK_THE_FAMILY = object()
LARGEST = 2**40  # of numbers: more than any model counts, and torch and floats can still hold it


@dataclass(frozen=True)
class Fields:
    """One section of a `config.json`.

    A getter returns the value in the file, else `default`, else the family's default, and remembers what it filled in.
    A null in the file is a value. A value of another type raises a ConfigError that names file, section, key and value.
    """

    data: Mapping[str, Any]
    file: str
    name: str = ""  # of the section; empty at the top
    defaults: Mapping[str, Any] = field(default_factory=dict)  # the family's
    filled: list[str] = field(default_factory=list)

    def whole(self, key: str, default: Any = ASK_THE_FAMILY) -> int:
        """A whole number from -2^40 to 2^40; 4096.0 and true are refused."""
        return self._typed(key, default, (int,), "a whole number")

    def number(self, key: str, default: Any = ASK_THE_FAMILY) -> float:
        """A number within the bounds of `whole`; a whole one is converted."""
        return float(self._typed(key, default, (int, float), "a number"))

    def small(self, key: str) -> float:
        """A number above 0 and at most 1, such as the epsilon of a norm."""
        value = self.number(key)
        return value if 0 < value <= 1 else self.refuse(key, "a number above 0 and at most 1")

    def text(self, key: str, default: Any = ASK_THE_FAMILY) -> str:
        """A string."""
        return self._typed(key, default, (str,), "a string")

    def flag(self, key: str, default: Any = ASK_THE_FAMILY) -> bool:
        """True or false; 0 and 1 are refused."""
        return self._typed(key, default, (bool,), "true or false")

    def whole_or(self, key: str, derived: int) -> int:
        """A whole number; `derived` if the file has null, or if neither the file nor the family has a value."""
        default = None if key in self.data else self.defaults.get(key)
        if self.data.get(key) is None and default is None:
            return self.fill(key, derived)
        return self.whole(key)

    def section(self, key: str, defaults: Mapping[str, Any]) -> "Fields":
        """A nested object (empty if absent or null); it shares the list of what was filled in."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, dict):
            self.refuse(key, "an object {...}")
        return Fields(value or {}, self.file, key, defaults, self.filled)

    def with_defaults(self, defaults: Mapping[str, Any]) -> "Fields":
        """The same section with its family's defaults."""
        return Fields(self.data, self.file, self.name, defaults, self.filled)

    def fill(self, key: str, value: Any) -> Any:
        """Remember that `value` was filled in, and return it."""
        self.filled.append(f"{self.path(key)} = {value}")
        return value

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raise the `ConfigError` for a value that cannot be used."""
        raise ConfigError(f"{self.file}: {self.path(key)} must be {expected}, found {shown(self.data.get(key))}.")

    def require(self, key: str, allowed: tuple[Any, ...], default: Any, because: str) -> None:
        """Raise `ConfigError` unless the value, or each of a list, is one of `allowed`; `because` says what minivlm has
        instead."""
        if not Verdict("refused", because, allowed).allows(self.data.get(key, default)):
            raise ConfigError(
                f"{self.file}: {self.path(key)} is {shown(self.data.get(key))}, which is not supported: {because}."
            )

    def path(self, key: str) -> str:
        """The field's name with its section's."""
        return f"{self.name}.{key}" if self.name else key

    def _typed(self, key: str, default: Any, types: tuple[type, ...], expected: str) -> Any:
        if key not in self.data:
            value = self.defaults.get(key) if default is ASK_THE_FAMILY else default
            return self.refuse(key, expected) if value is None else self.fill(key, value)
        value = self.data[key]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            self.refuse(key, expected)
        if isinstance(value, (int, float)) and abs(value) > LARGEST:
            self.refuse(key, f"{expected} between -{LARGEST:,} and {LARGEST:,}")
        return value


# --- the check by a table -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What is done with a field: used, refused, said or harmless, see `field_table.py`."""

    kind: str
    because: str
    allowed: tuple[Any, ...] = ()  # of what is refused or said: the values that ask for nothing

    def allows(self, value: Any) -> bool:
        """Whether a value, or each of a list of them, asks for nothing that is not done."""
        if self.kind in ("used", "harmless") or value in self.allowed:
            return True
        return isinstance(value, list) and bool(value) and all(one in self.allowed for one in value)


Table = Mapping[str, Verdict]


def used(names: str, by: str = "") -> dict[str, Verdict]:
    """Rows for fields that decide something; their reader refuses what cannot be done."""
    return dict.fromkeys(names.split(), Verdict("used", by))


def refused(names: str, because: str, *unless: Any) -> dict[str, Verdict]:
    """Rows for fields that are refused unless they have one of the values `unless`."""
    return dict.fromkeys(names.split(), Verdict("refused", because, unless))


def said(names: str, because: str, *unless: Any) -> dict[str, Verdict]:
    """Rows for fields that get a warning unless they have one of the values `unless`."""
    return dict.fromkeys(names.split(), Verdict("said", because, unless))


def harmless(names: str, because: str) -> dict[str, Verdict]:
    """Rows for fields that change no answer."""
    return dict.fromkeys(names.split(), Verdict("harmless", because))


def check_fields(data: Mapping[str, Any], table: Table, file: str, name: str = "") -> None:
    """Raise `ConfigError` for a field that `table` refuses; warn of those that it says, and of those that it lacks.

    `name`: the section of the file, empty at the top. A null in a field that the table lacks says nothing.
    """
    section = Fields(data, file, name)
    unknown = []
    for key, value in data.items():
        verdict = table.get(key)
        if verdict is None:
            if value is not None and not key.startswith("_"):
                unknown.append(f"{printable(section.path(key))} = {shown(value)}")
        elif verdict.kind == "refused" and not verdict.allows(value):
            section.require(key, verdict.allowed, None, verdict.because)
        elif not verdict.allows(value):
            message = f"{file}: {section.path(key)} is {shown(value)}, which is not done: {verdict.because}."
            warnings.warn(message, stacklevel=2)
    if unknown:
        message = f"{file} has fields that minivlm does not know and does not use: {listed(unknown)}."
        warnings.warn(f"{message} If the model needs them, its answers here are others.", stacklevel=2)
