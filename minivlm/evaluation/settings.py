"""Methods on the command line: their names, and their settings as text.

`layer=2,head=random` becomes an `EAH`, or a `UsageError` if that is impossible. torch is not imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_type_hints

from minivlm.errors import ConfigError

PLAIN = "plain"  # the model without mitigation, which the methods are compared with
METHODS = (PLAIN, "eah", "clva", "both")
CONTROLS = ("eah-random-head", "clva-random-anchor", "clva-shuffled-anchor", "clva-swapped")  # see methods.py
BENCHED = (*METHODS, "trace")  # what the bench compares: a trace is not a method, but it has a cost too
GROUPS = {"methods": METHODS, "controls": CONTROLS, "all": METHODS + CONTROLS}

MOST_LAYERS = 10_000  # more than any decoder has

Method = TypeVar("Method")


class UsageError(Exception):
    """Arguments that have no meaning; the command minivlm then exits with 2."""


def method(kind: type[Method], text: str) -> Method:
    """The settings of EAH or CLVA in `text`, such as "layer=2,head=random"; each is converted to its field's type.

    Raises `UsageError` for an unknown setting, one that is given twice, or an impossible value.
    """
    known = get_type_hints(kind)
    given = {}
    for setting in re.split(r",(?=\s*[\w-]+=)", text) if text else ():  # "deep_layers=6,7,omega=0.5" is two settings
        name, _, value = setting.partition("=")
        name = name.strip().replace("-", "_")
        if name in given:
            raise UsageError(f"{kind.__name__}.{name} is given twice, in {text!r}: which one is meant?")
        if name not in known:
            raise UsageError(f"{kind.__name__} has no setting {name!r}; it has {', '.join(known)}.")
        given[name] = value_of(known[name], value.strip(), f"{kind.__name__}.{name}")
    try:
        return kind(**given)
    except ConfigError as error:
        raise UsageError(str(error)) from error


def value_of(hint: Any, text: str, name: str) -> Any:
    """`text` as a value of a field with the type `hint` (for `int | None`, an int). `name` is for the `UsageError`."""
    expected, read = next(reader for plain, reader in READERS.items() if plain in (hint, *get_args(hint)))
    try:
        return read(text)
    except (ValueError, KeyError):
        raise UsageError(f"{name} takes {expected}, found {text!r}.") from None


def layers(text: str) -> tuple[int, ...]:
    """The layers in `6-7` or `3,5-6`, as (6, 7) or (3, 5, 6). Raises ValueError for anything else, such as `7-6`."""
    parts = [span.partition("-") for span in text.split(",")]
    spans = [(int(first), int(last or first)) for first, _, last in parts]
    if any(not first <= last < MOST_LAYERS for first, last in spans):
        raise ValueError(text)
    return tuple(layer for first, last in spans for layer in range(first, last + 1))


SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}

READERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    tuple[int, ...]: ("layers, such as 6 or 6-7 or 3,5-6", layers),
    bool: ("on or off", lambda text: SWITCH[text.lower()]),
    int: ("a whole number", int),
    float: ("a number", float),
    str: ("a word", str),
}
