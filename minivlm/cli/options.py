"""Requests: the options of a command and their defaults, as the fields of a frozen dataclass.

This file has those that several commands share: for the model, for answers, for mitigations; and the functions that
read them. An option with an impossible value is a `UsageError`, raised before anything is loaded.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from minivlm.cli.terminal import remark
from minivlm.errors import GenerationError
from minivlm.evaluation.settings import UsageError, method
from minivlm.shell import quoted

if TYPE_CHECKING:
    import torch

    from minivlm.evaluation.lexicon import Words
    from minivlm.inference.vlm import VLM
    from minivlm.inputs.image import Box
    from minivlm.model import CLVA, EAH, Mitigation


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of a command; this one has none."""


@dataclass(frozen=True, kw_only=True)
class ModelRequest(Request):
    """Which model to load, and how; `arguments.add_model` says what the fields mean."""

    model: str | None = None
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    template: str | None = None
    image_mode: str | None = None
    vision_tower: str | None = None
    weights: str | None = None
    memory: str | None = None


@dataclass(frozen=True, kw_only=True)
class AnswerRequest(Request):
    """How answers are generated; None for the default of `Generation`."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class MethodRequest(Request):
    """Settings of EAH and CLVA as they are typed: "" for the defaults, None if the method was not named."""

    eah: str | None = None
    clva: str | None = None


@dataclass(frozen=True, kw_only=True)
class MitigationRequest(MethodRequest):
    """What to change in the attention; `compare`: whether to measure the KL divergence from the plain model."""

    compare: bool = False


class MethodSettings(TypedDict, total=False):
    """The settings of the methods that were named."""

    eah: EAH
    clva: CLVA


def load_vlm(request: ModelRequest, *, bound_for: torch.device | None = None) -> VLM:
    """Load the model, and print a line about it and a line for each note of its report to stderr.

    `bound_for`: the device that will compute, if another one loads, see `load`.
    """
    from minivlm.inference.load import load

    vlm = load(
        request.model,
        device=request.device,
        dtype=request.dtype,
        template=request.template,
        image_mode=request.image_mode,
        vision_tower=request.vision_tower,
        revision=request.revision,
        weights=request.weights,
        memory=request.memory,
        bound_for=bound_for,
    )
    dtype = str(vlm.dtype).removeprefix("torch.")
    dtype += f", decoder in {request.weights}" if request.weights else ""
    remark(f"{vlm.name}: {dtype} on {vlm.device}; template {vlm.template}; picture {vlm.preprocessing.describe()}")
    for note in vlm.report.notes if vlm.report else ():
        remark(f"minivlm: {note}")
    return vlm


def load_on_device(request: ModelRequest, parts: int) -> VLM:
    """The model on this process's device, or, split into `parts` by --tensor-parallel, this process's part of it."""
    from minivlm.inference.load import own_device
    from minivlm.inference.tensor_parallel import split, tensor_mesh

    if parts == 1:
        return load_vlm(replace(request, device=own_device(request.device)))
    group = tensor_mesh(parts, request.device)
    vlm = load_vlm(replace(request, device="cpu"), bound_for=group.device)  # there, weights stay in their files
    split(vlm.model, group.mesh)
    return vlm


def knows_scenes(vlm: VLM) -> bool:
    """Whether the model learned from drawn scenes, as the record of its training beside the weights tells."""
    from minivlm.checkpoints.checkpoint_report import PLANTING

    records = ("training.json", PLANTING)
    return vlm.report is not None and any((Path(vlm.report.path) / name).is_file() for name in records)


def generation(request: AnswerRequest) -> dict[str, Any]:
    """The settings of an answer that were typed, as arguments of `Generation`. Raises `UsageError` if one is wrong."""
    from minivlm.inference.generate import Generation

    names = (field.name for field in fields(AnswerRequest))
    given = {name: value for name in names if (value := getattr(request, name)) is not None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of is said where the answer is generated
            Generation(**given)
    except GenerationError as error:
        raise UsageError(str(error)) from error
    if request.seed is not None and not request.temperature:
        remark(
            "minivlm: --seed has no effect: at temperature 0 nothing is drawn. Give --temperature, or leave --seed out."
        )
    return given


def retyped(request: Request, *names: str) -> str:
    """The options `names` as one would type them again, a space before each; without those that have their default."""
    defaults = {field.name: field.default for field in fields(request)}
    words = ""
    for name in names:
        value = getattr(request, name)
        if value is not None and value != defaults[name]:
            values = value if isinstance(value, tuple) else (value,)
            words += "".join(f" --{name.replace('_', '-')} {quoted(str(one))}" for one in values)
    return words


# --- mitigations ---------------------------------------------------------------------------------------------------


def method_settings(request: MethodRequest) -> MethodSettings:
    """The settings of --eah and --clva, without those that were not typed. Raises `UsageError` if one is wrong."""
    from minivlm.model import CLVA, EAH

    settings = MethodSettings()
    if request.eah is not None:
        settings["eah"] = method(EAH, request.eah)
    if request.clva is not None:
        settings["clva"] = method(CLVA, request.clva)
    return settings


def mitigation(request: MitigationRequest) -> Mitigation:
    """The mitigation of --eah and --clva; without them, one that changes nothing.

    Raises `UsageError` for a wrong setting, and for --compare without a mitigation.
    """
    from minivlm.model import Mitigation

    settings = method_settings(request)
    if request.compare and not settings:
        raise UsageError("--compare measures how far a mitigation leads from the plain model; add --eah or --clva.")
    return Mitigation(settings.get("eah"), settings.get("clva"))


# --- what is in a picture -------------------------------------------------------------------------------------------


class PictureObjects(NamedTuple):
    """What --objects says about a picture: its objects, and where they are (left, top, right, bottom, in pixels)."""

    truth: list[str] | None = None
    boxes: dict[str, list[Box]] | None = None


def read_objects(text: str, lexicon: Words, size: tuple[float, float] = (inf, inf)) -> PictureObjects:
    """The value of --objects: `dog=8:9:30:40,cat` is a cat, and a dog in this box. Raises `UsageError` for a word
    that the lexicon does not know, or a box of another form, or not in the picture of this `size` (width, height).
    """
    boxes: dict[str, list[Box]] = {}
    for part in text.split(","):
        word, _, box = (piece.strip() for piece in part.partition("="))
        mentions = lexicon.mentions(word)
        if not mentions:
            raise UsageError(f"--objects names {word!r}, which is none of {lexicon.name}: no answer could name it.")
        if len(mentions) > 1:
            raise UsageError(f"--objects has {word!r}, which names several objects: put commas between them.")
        boxes.setdefault(mentions[0].object, [])
        if "=" in part:
            boxes[mentions[0].object].append(read_box(box, part, size))
    return PictureObjects(list(boxes), {name: places for name, places in boxes.items() if places})


def read_box(text: str, where: str, size: tuple[float, float]) -> Box:
    """A box such as 8:9:30:40, in a picture of this `size`. `where`: the text that the `UsageError` quotes."""
    try:
        left, top, right, bottom = map(float, text.split(":"))
    except ValueError:
        raise UsageError(f"A box is left:top:right:bottom in pixels, such as dog=8:9:30:40, found {where!r}.") from None
    if not (-inf < left < right < inf and -inf < top < bottom < inf):  # false for NaN, too
        raise UsageError(f"A box is left:top:right:bottom, with left < right and top < bottom, found {where!r}.")
    if not (left < size[0] and top < size[1] and right > 0 and bottom > 0):
        raise UsageError(f"{where!r} has a box outside of the picture, which is {size[0]} wide and {size[1]} high.")
    return left, top, right, bottom
