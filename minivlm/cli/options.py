"""Requests: what a command is asked, as a frozen dataclass whose fields are its options and their defaults.

Here is what several commands share: a model, the settings of an answer, the settings of a mitigation, and what these
options mean. What cannot be is a `UsageError`, before anything is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from minivlm.cli.terminal import remark
from minivlm.errors import GenerationError
from minivlm.evaluation.settings import UsageError, method
from minivlm.shell import quoted

if TYPE_CHECKING:
    from minivlm.inference.vlm import VLM
    from minivlm.model import CLVA, EAH, Mitigation


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a command is asked; this one, nothing."""


@dataclass(frozen=True, kw_only=True)
class ModelRequest(Request):
    """Which model, and how it reads; `arguments.model` says what the fields mean."""

    model: str | None = None
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    template: str | None = None
    image_mode: str | None = None
    vision_tower: str | None = None


@dataclass(frozen=True, kw_only=True)
class AnswerRequest(Request):
    """How an answer is written; None for the default of `Generation`."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class MethodRequest(Request):
    """Settings of the methods as they are typed: "" for a method with its defaults, None where it is not named."""

    eah: str | None = None
    clva: str | None = None


@dataclass(frozen=True, kw_only=True)
class MitigationRequest(MethodRequest):
    """What is done to the attention; `compare`: the plain model reads along."""

    compare: bool = False


def load_vlm(request: ModelRequest, **more: Any) -> VLM:
    """The model that is asked for, introduced on stderr; `more` goes to `load`, too."""
    from minivlm.inference.load import LOADING, load

    vlm = load(request.model, **{name: getattr(request, name) for name in LOADING}, **more)
    dtype = str(vlm.dtype).removeprefix("torch.")
    remark(f"{vlm.name}: {dtype} on {vlm.device}; template {vlm.template}; picture {vlm.preprocessing.describe()}")
    for note in vlm.report.notes if vlm.report else ():
        remark(f"minivlm: {note}")
    return vlm


def generation(request: AnswerRequest) -> dict[str, Any]:
    """The settings of an answer that were given, held against the rules."""
    from minivlm.inference.generate import Generation

    names = (field.name for field in fields(AnswerRequest))
    given = {name: value for name in names if (value := getattr(request, name)) is not None}
    try:
        Generation(**given)
    except GenerationError as error:
        raise UsageError(str(error)) from error
    return given


def retyped(request: Request, *names: str) -> str:
    """These options as one would type them again, a space before each; nothing for what is left at its default."""
    defaults = {field.name: field.default for field in fields(request)}
    given = {name: value for name in names if (value := getattr(request, name)) not in (None, defaults[name])}
    return "".join(f" --{name.replace('_', '-')} {quoted(str(value))}" for name, value in given.items())


# --- mitigations ---------------------------------------------------------------------------------------------------


def method_settings(request: MethodRequest) -> dict[str, EAH | CLVA]:
    """The methods that are named, as "eah" and "clva", with their settings."""
    from minivlm.model import CLVA, EAH

    typed = (("eah", EAH, request.eah), ("clva", CLVA, request.clva))
    return {name: method(kind, text) for name, kind, text in typed if text is not None}


def mitigation(request: MitigationRequest) -> Mitigation:
    """What --eah and --clva ask for; without them, nothing."""
    from minivlm.model import Mitigation

    given = method_settings(request)
    if request.compare and not given:
        raise UsageError("--compare measures how far a mitigation leads from the plain model; add --eah or --clva.")
    return Mitigation.of([*given.values()])
