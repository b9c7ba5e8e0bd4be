"""What options mean that several commands share: a model, the settings of an answer, the settings of a mitigation.

What cannot be is a `UsageError`, before anything is loaded.
"""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from minivlm.errors import ConfigError, GenerationError
from minivlm.shell import quoted
from minivlm.terminal import remark

if TYPE_CHECKING:
    from minivlm.model import Mitigation
    from minivlm.vlm import VLM

DEMO = {"scenes": 3, "world": "held-out", "out": "demo"}  # what `minivlm demo` does unless it is told otherwise
LOADING = ("device", "dtype", "template", "image_mode", "vision_tower", "revision")  # options, beside the model's name
Method = TypeVar("Method")


class UsageError(Exception):
    """The arguments cannot mean anything; minivlm exits with 2."""


def load_vlm(args: Namespace, **more: Any) -> VLM:
    """The model that the options name, introduced on stderr; `more` goes to `load`, too."""
    from minivlm.loading import load

    vlm = load(args.model, **{name: getattr(args, name) for name in LOADING}, **more)
    dtype = str(vlm.dtype).removeprefix("torch.")
    remark(f"{vlm.name}: {dtype} on {vlm.device}; template {vlm.template}; picture {vlm.recipe.describe()}")
    for note in vlm.report.notes if vlm.report else ():
        remark(f"minivlm: {note}")
    return vlm


def own_device(device: str | None) -> str | None:
    """The GPU of this process where torchrun starts several on a machine; otherwise as given."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    shared = device in (None, "cuda") and local is not None and torch.cuda.is_available()
    return f"cuda:{local}" if shared else device


def generation(args: Namespace) -> dict[str, Any]:
    """The options of an answer that were given, held against the rules."""
    from minivlm.generate import Generation

    names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed", "stop")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    try:
        Generation(**given)
    except GenerationError as error:
        raise UsageError(str(error)) from error
    return given


def retyped(args: Namespace, *names: str) -> str:
    """These options as one would type them again, a space before each; nothing for what was left at its default."""
    given = {name: getattr(args, name) for name in names if getattr(args, name) not in (None, DEMO.get(name))}
    return "".join(f" --{name.replace('_', '-')} {quoted(str(value))}" for name, value in given.items())


# --- mitigations ---------------------------------------------------------------------------------------------------


def mitigation(args: Namespace) -> Mitigation:
    """What --eah and --clva ask for; without them, nothing."""
    from minivlm.model import CLVA, EAH, Mitigation

    given = [method(kind, text) for kind, text in ((EAH, args.eah), (CLVA, args.clva)) if text is not None]
    if args.compare and not given:
        raise UsageError("--compare measures how far a mitigation leads from the plain model; add --eah or --clva.")
    return Mitigation.of(given)


def method(kind: type[Method], text: str) -> Method:
    """The settings of EAH or CLVA in `text`, such as "layer=2,head=random"; each is read as its field's type."""
    known = get_type_hints(kind)
    given = {}
    for setting in re.split(r",(?=\s*[\w-]+=)", text) if text else ():  # "deep_layers=6,7,omega=0.5" is two settings
        name, _, value = setting.partition("=")
        name = name.strip().replace("-", "_")
        if name not in known:
            raise UsageError(f"{kind.__name__} has no setting {name!r}; it has {', '.join(known)}.")
        given[name] = value_of(known[name], value.strip(), f"{kind.__name__}.{name}")
    try:
        return kind(**given)
    except ConfigError as error:
        raise UsageError(str(error)) from error


def value_of(hint: Any, text: str, name: str) -> Any:
    """`text` as a value of a field with the type `hint`; one that may be None, too, is never meant as None here."""
    expected, read = next(reader for plain, reader in READERS.items() if plain in (hint, *get_args(hint)))
    try:
        return read(text)
    except (ValueError, KeyError):
        raise UsageError(f"{name} takes {expected}, found {text!r}.") from None


def layers(text: str) -> tuple[int, ...]:
    """`6-7` or `3,5-6` as the layers that are meant."""
    spans = [span.partition("-") for span in text.split(",")]
    return tuple(layer for first, _, last in spans for layer in range(int(first), int(last or first) + 1))


SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
READERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    tuple[int, ...]: ("layers, such as 6 or 6-7 or 3,5-6", layers),
    bool: ("on or off", lambda text: SWITCH[text.lower()]),
    int: ("a whole number", int),
    float: ("a number", float),
    str: ("a word", str),
}
